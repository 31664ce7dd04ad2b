/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * The ABI between the kernel program and user space: every map's key and value, and the ring's record.
 *
 * Read by bcc, for the program and in the test that holds `kernel/layout.py` against it. Fixed widths, explicit padding,
 * sizes asserted. Ports and sequence numbers are in host order, addresses 16 bytes (IPv4 mapped into IPv6), times
 * CLOCK_MONOTONIC in ns. "Pod" is the end behind the veth, "peer" the other; index 0 is what leaves the pod, 1 what enters.
 *
 * Who writes what: the kernel alone writes `sessions`, `pod_state`, `stats`, `node_stats`, `wake` and the ring; user space alone
 * writes `settings`, `pods`, `controls`, `udp_ports`, `attached`. A value with two writers would lose increments.
 */
#ifndef CLOVISOR_H
#define CLOVISOR_H

#ifndef __BCC__
#include <linux/types.h>
#endif

#define CV_ABI 2

#define CV_FROM_POD 0
#define CV_TO_POD 1

#define CV_MAX_PODS 512         /* pods on one node: kubelet's default limit is 110, large nodes run 250 */
#define CV_MAX_SESSIONS 65536   /* connections on one node; each pod has a quota inside it */
#define CV_RING_BYTES (8 << 20) /* 100 ms of a pod's whole default budget */
#define CV_BUCKETS 40           /* log2 ns: the last one begins at 9 minutes */

#define CV_OVERTAKEN (32 << 20) /* no receive window is larger by default (tcp_rmem): so far ahead a segment may be of its late elders */
#define CV_OVERTAKEN_NS 1000000000 /* and so soon after the one before: its elders wait on another CPU, not for a lease */
#define CV_DETECT_BYTES 65536 /* per direction while the protocol is not known; then the heads of its turns */
#define CV_CHUNK 16384        /* longest payload of one record; a longer segment becomes several */
#define CV_CHUNKS 4           /* 64 KiB: the longest GSO segment there is without BIG TCP */
#define CV_TAIL 256           /* last bytes of a segment that go up where its flow's share is used up, and the sender pushed */
#define CV_RECORD_COST 256    /* bytes that a record is charged beyond its payload: reading it costs about that much */

/* What goes up of a flow's payload (cv_pod.mode, cv_control.mode). */
enum cv_mode {
    CV_MODE_DETECT = 0, /* everything, CV_DETECT_BYTES a direction, then heads: the protocol is not known yet */
    CV_MODE_HEAD = 1,   /* the first head_bytes of each turn, and the headers of all payload segments */
    CV_MODE_FULL = 2,   /* everything */
    CV_MODE_NONE = 3,   /* nothing: counted only */
};

/* cv_session.state and, in the low bits, cv_record.flags (model/segment.py has the same values). */
#define CV_POD_OPENED 0x01
#define CV_PEER_OPENED 0x02
/* cv_record.flags alone */
#define CV_TURN 0x04
#define CV_RETRANSMITTED 0x08
#define CV_CONTINUED 0x10
#define CV_CUT 0x20
/* cv_session.state alone; SEQ and FIN are shifted by the direction */
#define CV_SEQ_KNOWN 0x100
#define CV_FIN_SEEN 0x400
#define CV_RST_SEEN 0x1000
#define CV_SHEDDING 0x2000 /* the exchange is only counted: it began when the pod's budget was overdrawn */

/* cv_stats.count. Every payload segment ends in exactly one of CAPTURED … LOST_LOAD: SEGMENTS is their sum. */
enum cv_counter {
    CV_SEGMENTS = 0,  /* skbs with payload, TCP or watched UDP */
    CV_CAPTURED,      /* all of its payload went up */
    CV_CUT_BUDGET,    /* its header went up; beyond the head of its turn, or beyond what records hold of one segment */
    CV_CUT_SKIP,      /* its header went up; user space had said that it needs no more of this body */
    CV_CUT_FLOW,      /* its header went up; the flow's share was used up: bytes a second, or those for detection */
    CV_CUT_POD,       /* only the head of its turn went up; the pod's bytes a second were used up */
    CV_MUTED,         /* counted only, as user space asked */
    CV_SHED,          /* counted only: its exchange began when the pod's budget was used up, or it was far overdrawn */
    CV_LOST_RING,     /* the ring was full */
    CV_LOST_QUOTA,    /* its connection was one too many for the pod */
    CV_LOST_MAP,      /* its connection was one too many for the node */
    CV_LOST_LOAD,     /* the skb would not give its bytes */
    CV_RETRANSMITS,   /* of SEGMENTS: nothing in it was new */
    CV_PACKETS,       /* wire packets that SEGMENTS stand for (GSO) */
    CV_ACKS,          /* TCP or watched UDP without payload, SYN, FIN or RST */
    CV_CONTROLS,      /* SYN, FIN or RST without payload */
    CV_CONTROLS_LOST, /* SYN, FIN or RST, and no record, as the ring, the pod's budget or its sessions were full */
    CV_FRAGMENTS,     /* IP fragments: passed over */
    CV_OTHER,         /* not IP, or neither TCP nor watched UDP */
    CV_MALFORMED,     /* headers that contradict themselves or the packet's length */
    CV_RECORDS,       /* ring records written */
    CV_CAPTURED_BYTES,
    CV_BYTES, /* payload, by direction: BYTES + direction; each byte of a stream once, however often and in what order it passed */
    CV_BYTES_TO_POD,
    CV_TURNS, /* by direction */
    CV_TURNS_TO_POD,
    CV_COUNTERS
};

/* node_stats: what passed untouched, before any pod is known. */
enum cv_node_counter { CV_NODE_LEASE_OFF = 0, CV_NODE_NOT_ASKED, CV_NODE_COUNTERS };

/* settings[0] */
struct cv_settings {
    __u32 abi;
    __u32 wake_bytes; /* a CPU that wrote so many since its last wake-up wakes the reader */
    __u64 build;      /* hash of the sources that the pinned programs were compiled from */
    __u64 lease_until_ns;
};
_Static_assert(sizeof(struct cv_settings) == 24, "cv_settings");

/* pods[ifindex] */
struct cv_pod {
    __u32 slot; /* index into pod_state and stats */
    __u32 mode; /* of flows without a cv_control */
    __u32 head_bytes;
    __u32 quota;           /* sessions */
    __u32 pod_ns_per_kib;  /* budget, as the time that 1 KiB takes; 0: no limit */
    __u32 flow_ns_per_kib; /* the same for each of its flows */
    __u64 burst_ns;        /* how far ahead of its budget either may run */
    __u64 released;        /* sessions that user space has deleted so far; live = opened - released */
};
_Static_assert(sizeof(struct cv_pod) == 40, "cv_pod");

/* pod_state[slot] */
struct cv_pod_state {
    __u64 due_ns; /* when the budget will have paid for all that was captured */
    __u64 opened; /* sessions created, less those that a reused 4-tuple replaced */
};
_Static_assert(sizeof(struct cv_pod_state) == 16, "cv_pod_state");

/* stats[slot], per CPU */
struct cv_stats {
    __u64 count[CV_COUNTERS];
    __u64 turn_ns[2][CV_BUCKETS]; /* [direction][log2 of the latency of its turns] */
};
_Static_assert(sizeof(struct cv_stats) == 8 * (CV_COUNTERS + 2 * CV_BUCKETS), "cv_stats");

/* sessions */
struct cv_key {
    __u32 ifindex;
    __u8 pod_ip[16];
    __u8 peer_ip[16];
    __u16 pod_port;
    __u16 peer_port;
    __u16 transport;
    __u16 pad;
};
_Static_assert(sizeof(struct cv_key) == 44, "cv_key");

struct cv_side {
    __u64 first_ns;
    __u64 last_ns; /* its latest payload that was new */
    __u64 turn_ns; /* the beginning of its latest turn */
    __u64 bytes;
    __u64 high_seq; /* one past the highest sequence number seen; 64 bit, as this LLVM compares and swaps nothing shorter */
    __u64 waited_ns; /* of all its turns: from the other direction's latest payload to the turn's first */
    __u32 segments;
    __u32 packets;
    __u32 turns;
    __u32 retransmits;
    __u32 zero_windows;
    __u32 captured;      /* bytes, while detecting */
    __u32 turn_captured; /* bytes of the current turn */
    __u32 skipped;       /* the skip_until that its payload has passed, which holds no more */
    __u32 waits;         /* turns that are in waited_ns */
};
_Static_assert(sizeof(struct cv_side) == 88, "cv_side");

struct cv_session {
    __u64 cookie; /* names this connection; a reused 4-tuple gets another */
    __u64 created_ns;
    __u64 due_ns; /* of its own budget */
    __u64 speaker; /* 1 + the direction of the latest turn; 0: nobody spoke yet */
    __u64 state;
    __u32 lost; /* segments of which no record went up */
    __u32 rtt_us;
    struct cv_side side[2];
};
_Static_assert(sizeof(struct cv_session) == 224, "cv_session");

/* controls[cookie] */
struct cv_control {
    __u32 mode;
    __u32 skipping;      /* bit per direction: skip_until is set */
    __u32 skip_until[2]; /* payload that ends here or earlier is not needed, until some ends later (cv_side.skipped) */
};
_Static_assert(sizeof(struct cv_control) == 16, "cv_control");

/* The ring: this, then `captured` bytes. The record may be longer; what follows is nothing. */
struct cv_record {
    __u64 time_ns;
    __u64 cookie;
    __u64 cgroup_id;
    __u64 turn_age_ns; /* since the other direction's latest turn began */
    __u32 ifindex;
    __u32 seq;
    __u32 ack;
    __u32 length; /* payload bytes that this record stands for */
    __u32 captured;
    __u32 lost; /* cv_session.lost */
    __u32 rtt_us;
    __u32 packets;
    __u8 pod_ip[16];
    __u8 peer_ip[16];
    __u16 pod_port;
    __u16 peer_port;
    __u16 window;
    __u16 vlan;
    __u8 transport;
    __u8 direction;
    __u8 tcp_flags;
    __u8 flags;
    __u8 pad[4];
};
_Static_assert(sizeof(struct cv_record) == 112, "cv_record");

#endif
