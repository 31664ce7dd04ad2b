/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * Session tracking at a pod's host veth: two SCHED_CLS entry points, one program text for every pod of the node.
 *
 * The promises, in the order in which they matter:
 *   1. Every path ends in TC_ACT_UNSPEC: whatever comes after us in the chain still decides. No packet is changed or delayed.
 *   2. Nothing is lost without being counted where it is lost, under the pod that lost it.
 *   3. What nobody asked for costs two look-ups: the lease, then the pod.
 *
 * The path of one packet: handle_* -> track -> parse (packet.h) -> follow (session, turn) -> decide (how much goes up) -> emit.
 * UAPI only, no BPF-to-BPF calls (bcc inlines everything), no kernel headers.
 */
#include <uapi/linux/bpf.h>

#include "clovisor.h"
#include "packet.h"

#define PASS (-1) /* TC_ACT_UNSPEC; TCX_NEXT on a TCX link */

/* What has been found out about one packet, in memory whose content the verifier does not follow: behind it, all ways through a
 * packet's headers and all reasons to cut it are one, and are verified once. On the stack it took ten times the instructions,
 * near the million at which kernels refuse. */
struct scratch {
    struct packet packet;
    u32 want; /* payload bytes that go up from its front */
    u32 tail; /* and from its end */
};
#define FORGET() asm volatile("" ::: "memory") /* or the compiler goes on with what it just wrote */

BPF_ARRAY(settings, struct cv_settings, 1);
BPF_HASH(pods, u32, struct cv_pod, CV_MAX_PODS);
BPF_ARRAY(pod_state, struct cv_pod_state, CV_MAX_PODS);
BPF_PERCPU_ARRAY(stats, struct cv_stats, CV_MAX_PODS);
BPF_PERCPU_ARRAY(node_stats, u64, CV_NODE_COUNTERS);
BPF_PERCPU_ARRAY(wake, u64, 1);
BPF_PERCPU_ARRAY(blank, struct cv_session, 1); /* a session is too long for the stack to be zeroed there */
BPF_PERCPU_ARRAY(scratch, struct scratch, 1);
BPF_HASH(udp_ports, u16, u8, 64);
BPF_HASH(attached, u32, u32, CV_MAX_PODS); /* user space's own memory of what it put on which veth */
BPF_F_TABLE("hash", struct cv_key, struct cv_session, sessions, CV_MAX_SESSIONS, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", u64, struct cv_control, controls, CV_MAX_SESSIONS, BPF_F_NO_PREALLOC);
BPF_RINGBUF_OUTPUT(ring, CV_RING_BYTES / 4096);

INLINE void count(u64 *counter, u64 by)
{
    *counter += by; /* per CPU, and a tc program is not interrupted by another on the same CPU */
}

/* The lease needs no precise time, and every packet pays for it: the coarse clock costs half (tools/bench kernel prints both). */
INLINE u64 rough_now(void)
{
    return bpf_ktime_get_coarse_ns();
}

/* A new session, or NULL with the reason counted. */
INLINE struct cv_session *open_session(struct packet *p, struct cv_pod *pod, struct cv_pod_state *state, u64 now,
                                       u64 *beyond_quota, u64 *full)
{
    u32 zero = 0;
    struct cv_session *new = blank.lookup(&zero);

    if (!new)
        return 0;
    if ((s64)(state->opened - pod->released) >= pod->quota) {
        count(beyond_quota, 1);
        return 0;
    }
    /* Unique for 200 days: two flows cannot begin on one CPU in one nanosecond. */
    new->cookie = now << 10 | (bpf_get_smp_processor_id() & 1023);
    new->created_ns = now;
    if (!sessions.insert(&p->key, new)) /* not update: another CPU may have been first, and its session stays */
        __sync_fetch_and_add(&state->opened, 1);
    struct cv_session *opened = sessions.lookup(&p->key);

    if (!opened)
        count(full, 1);
    return opened;
}

/* Whether this SYN is not the one that its direction began with: on a 4-tuple that we know it is a retransmission, or another
 * connection in the old one's place. */
INLINE bool another_start(struct cv_session *s, struct packet *p, u32 direction)
{
    struct cv_side *side = &s->side[direction];

    return !(s->state & (CV_SEQ_KNOWN << direction)) || (u32)(side->high_seq - side->bytes) != p->seq + 1;
}

INLINE void note_flags(struct cv_session *s, struct packet *p, u32 direction)
{
    u64 state = 0;

    if (p->tcp_flags & SYN) {
        bool by_pod = (direction == CV_FROM_POD) == !(p->tcp_flags & ACK);

        state |= (by_pod ? CV_POD_OPENED : CV_PEER_OPENED) | CV_SEQ_KNOWN << direction;
        if (another_start(s, p, direction))
            s->side[direction].high_seq = p->seq + 1;
    }
    if (p->tcp_flags & FIN)
        state |= CV_FIN_SEEN << direction;
    if (p->tcp_flags & RST)
        state |= CV_RST_SEEN;
    if ((s->state & state) != state)
        __sync_fetch_and_or(&s->state, state);
}

/* By how many bytes the payload moves the high-water mark. Two CPUs may carry one direction: a segment that another one overtook
 * was counted with that one, and so the sum is what the stream has, whatever their order. Further ahead than any window, or after
 * a silence, is no overtaking, but what passed while nobody looked: there, its own bytes count. */
INLINE u32 fresh_bytes(struct cv_session *s, struct packet *p, u32 direction, u64 now)
{
    struct cv_side *side = &s->side[direction];
    u32 end = p->seq + p->length;
    bool flowing = (s64)(now - side->last_ns) < CV_OVERTAKEN_NS; /* another CPU's `now` may be later than ours */

    if (p->key.transport == IPPROTO_UDP)
        return p->length;
    if (!(s->state & (CV_SEQ_KNOWN << direction))) {
        side->high_seq = p->seq; /* a connection older than we are */
        __sync_fetch_and_or(&s->state, CV_SEQ_KNOWN << direction);
    }
#pragma unroll
    for (int i = 0; i < 3; i++) {
        u64 high = side->high_seq;
        u32 fresh = end - (u32)high;

        if ((s32)fresh <= 0)
            return 0;
        if (__sync_val_compare_and_swap(&side->high_seq, high, end) == high)
            return fresh > p->length && !(flowing && fresh < CV_OVERTAKEN) ? p->length : fresh;
    }
    return 0; /* lost three races: those who won, or the next segment, count these bytes */
}

INLINE u32 log2_bucket(u64 value)
{
    u32 bucket = 0;

#define HALVE(bits) \
    if (value >> bits) { \
        value >>= bits; \
        bucket += bits; \
    }
    HALVE(32) HALVE(16) HALVE(8) HALVE(4) HALVE(2) HALVE(1)
#undef HALVE
    return bucket < CV_BUCKETS ? bucket : CV_BUCKETS - 1;
}

/* Whether this payload begins a turn; keeps times, sizes and both histograms. */
INLINE bool follow(struct cv_session *s, struct packet *p, struct cv_stats *st, u32 direction, u32 segs, u64 now)
{
    struct cv_side *side = &s->side[direction], *other = &s->side[!direction];
    u32 fresh = fresh_bytes(s, p, direction, now);
    u64 speaker = s->speaker;
    bool turn = false;

    __sync_fetch_and_add(&side->segments, 1);
    __sync_fetch_and_add(&side->packets, segs);
    count(&st->count[CV_PACKETS], segs);
    if (!fresh) {
        __sync_fetch_and_add(&side->retransmits, 1);
        count(&st->count[CV_RETRANSMITS], 1);
        return false;
    }
    __sync_fetch_and_add(&side->bytes, fresh);
    count(&st->count[CV_BYTES + direction], fresh);
    if (speaker != direction + 1 && __sync_val_compare_and_swap(&s->speaker, speaker, direction + 1) == speaker) {
        turn = true;
        side->turn_ns = now;
        side->turn_captured = 0;
        __sync_fetch_and_add(&side->turns, 1);
        count(&st->count[CV_TURNS + direction], 1);
        if (other->last_ns && now >= other->last_ns) {
            count(&st->turn_ns[direction][log2_bucket(now - other->last_ns)], 1);
            __sync_fetch_and_add(&side->waited_ns, now - other->last_ns);
            __sync_fetch_and_add(&side->waits, 1);
        }
    }
    if (!side->first_ns)
        side->first_ns = now;
    side->last_ns = now;
    return turn;
}

/* A token bucket as one number: the time at which all that was taken will have been paid for. Two CPUs may overdraw it by a
 * record; it bounds cost, it does not account for it. */
INLINE bool affordable(u64 due, u64 now, u64 burst)
{
    return due < now + burst;
}

INLINE void charge(u64 *due, u64 now, u64 cost)
{
    u64 from = *due > now ? *due : now;

    *due = from + cost;
}

INLINE bool overdrawn(struct cv_pod_state *state, struct cv_pod *pod, u64 now, u32 bursts)
{
    return pod->pod_ns_per_kib && !affordable(state->due_ns, now, bursts * pod->burst_ns);
}

/* Half an exchange is of no use to anybody: whether one is read or only counted is decided when the client's turn begins (any
 * turn, where nobody knows who the client is), and holds until its next. */
INLINE void admit(struct cv_session *s, struct cv_pod *pod, struct cv_pod_state *state, u32 direction, u64 now)
{
    u64 others = direction == CV_FROM_POD ? CV_PEER_OPENED : CV_POD_OPENED;

    if (s->state & others)
        return;
    if (overdrawn(state, pod, now, 1))
        __sync_fetch_and_or(&s->state, CV_SHEDDING);
    else if (s->state & CV_SHEDDING)
        __sync_fetch_and_and(&s->state, ~(u64)CV_SHEDDING);
}

/* Whether this payload ends before what user space wants of its direction. Sequence numbers come round: a skip is over for good with
 * the first payload beyond it, or 2 GiB later it would lie ahead again. Only here is every segment seen, at whatever speed. */
INLINE bool skips(struct cv_side *side, struct packet *p, u32 until)
{
    if (side->skipped == until)
        return false;
    if ((s32)(p->seq + p->length - until) <= 0)
        return true;
    side->skipped = until;
    return false;
}

/* How many payload bytes go up. `why` is the counter that the segment ends in: CAPTURED, or what kept it back. */
INLINE u32 decide(struct cv_session *s, struct packet *p, struct cv_pod *pod, struct cv_pod_state *state, u32 direction, u64 now,
                  u32 *why)
{
    struct cv_side *side = &s->side[direction];
    struct cv_control *control = controls.lookup(&s->cookie);
    u32 mode = control ? control->mode : pod->mode;
    u32 want = p->length, left = want;
    u32 head = side->turn_captured < pod->head_bytes ? pod->head_bytes - side->turn_captured : 0;
    bool skip = control && control->skipping & 1 << direction && skips(side, p, control->skip_until[direction & 1]);

    *why = CV_CAPTURED;
    if (mode == CV_MODE_NONE) {
        *why = CV_MUTED;
        return 0;
    }
    if (s->state & CV_SHEDDING || overdrawn(state, pod, now, 2)) {
        *why = CV_SHED;
        return 0;
    }
    if (mode == CV_MODE_DETECT) {
        left = side->captured < CV_DETECT_BYTES ? CV_DETECT_BYTES - side->captured : 0;
        if (left < head) /* user space takes some ms to decide; many turns may begin meanwhile */
            left = head;
    } else if (mode == CV_MODE_HEAD) {
        left = head;
    }
    if (left < want) {
        want = left;
        *why = mode == CV_MODE_DETECT ? CV_CUT_FLOW : CV_CUT_BUDGET;
    }
    if (overdrawn(state, pod, now, 1)) { /* whatever is being read ends with heads */
        left = head;
        if (left < want) {
            want = left;
            *why = CV_CUT_POD;
        }
    }
    if (skip) {
        want = 0;
        *why = CV_CUT_SKIP;
    }
    if (want && pod->flow_ns_per_kib && !affordable(s->due_ns, now, pod->burst_ns)) { /* heads: what follows a long body is short */
        left = affordable(s->due_ns, now, 2 * pod->burst_ns) ? head : 0;
        if (left < want) {
            want = left;
            *why = CV_CUT_FLOW;
        }
    }
    if (want > CV_CHUNK * CV_CHUNKS) {
        want = CV_CHUNK * CV_CHUNKS;
        *why = CV_CUT_BUDGET;
    }
    charge(&s->due_ns, now, (u64)want * pod->flow_ns_per_kib >> 10);
    charge(&state->due_ns, now, (u64)(want + CV_RECORD_COST) * pod->pod_ns_per_kib >> 10);
    side->captured += want;
    side->turn_captured += want;
    return want;
}

/* A sender pushes where it is done for now: there the answer ends, if anywhere. So the last bytes go up, too; answers what the
 * segment ends in then. */
INLINE u32 keep_end(struct scratch *room, struct cv_session *s, struct cv_pod *pod, struct cv_pod_state *state, u64 now)
{
    u32 length = room->packet.length, rest = length - room->want, why = CV_CUT_FLOW, record = CV_RECORD_COST;

    if (rest <= CV_TAIL && length <= CV_CHUNK * CV_CHUNKS) {
        room->want = length;
        why = CV_CAPTURED;
        record = 0; /* it is the same one */
    } else {
        room->tail = rest = rest < CV_TAIL ? rest : CV_TAIL;
    }
    charge(&s->due_ns, now, (u64)rest * pod->flow_ns_per_kib >> 10);
    charge(&state->due_ns, now, (u64)(rest + record) * pod->pod_ns_per_kib >> 10);
    return why;
}

INLINE u64 wake_flags(u32 size)
{
    u32 zero = 0;
    u64 *written = wake.lookup(&zero);
    struct cv_settings *set = settings.lookup(&zero);

    if (!written || !set)
        return BPF_RB_NO_WAKEUP;
    *written += size;
    if (*written < set->wake_bytes)
        return BPF_RB_NO_WAKEUP;
    *written = 0;
    return BPF_RB_FORCE_WAKEUP;
}

/* A record is reserved in the smallest size class that holds it: reserve wants a constant size, and this way the payload is copied
 * once. The class bounds the copy; that bound is pinned in a register, or the compiler proves it away before the verifier
 * sees it. */
#define RECORD_CLASS(room) \
    struct record_##room { \
        struct cv_record head; \
        u8 data[room]; \
    }; \
    INLINE bool write_##room(struct __sk_buff *skb, struct record_##room *record, struct cv_record *head, u32 offset) \
    { \
        u32 last = head->captured - 1; \
\
        record->head = *head; \
        asm volatile("%0 &= %1" : "+r"(last) : "i"(room - 1)); \
        return !bpf_skb_load_bytes(skb, offset, record->data, last + 1); \
    }
RECORD_CLASS(256)
RECORD_CLASS(2048)
RECORD_CLASS(4096)
RECORD_CLASS(16384)

/* Answers CAPTURED, LOST_RING or LOST_LOAD. (bcc takes no map function inside a macro, hence the repetition.) */
INLINE u32 emit(struct __sk_buff *skb, struct cv_record *head, u32 offset)
{
    u32 captured = head->captured, size;
    bool written = true;
    void *reserved;

    if (!captured) {
        struct cv_record *record = ring.ringbuf_reserve(sizeof(struct cv_record));

        if (!record)
            return CV_LOST_RING;
        *record = *head;
        size = sizeof(*record);
        reserved = record;
    } else if (captured <= 256) {
        struct record_256 *record = ring.ringbuf_reserve(sizeof(struct record_256));

        if (!record)
            return CV_LOST_RING;
        written = write_256(skb, record, head, offset);
        size = sizeof(*record);
        reserved = record;
    } else if (captured <= 2048) {
        struct record_2048 *record = ring.ringbuf_reserve(sizeof(struct record_2048));

        if (!record)
            return CV_LOST_RING;
        written = write_2048(skb, record, head, offset);
        size = sizeof(*record);
        reserved = record;
    } else if (captured <= 4096) {
        struct record_4096 *record = ring.ringbuf_reserve(sizeof(struct record_4096));

        if (!record)
            return CV_LOST_RING;
        written = write_4096(skb, record, head, offset);
        size = sizeof(*record);
        reserved = record;
    } else {
        struct record_16384 *record = ring.ringbuf_reserve(sizeof(struct record_16384));

        if (!record)
            return CV_LOST_RING;
        written = write_16384(skb, record, head, offset);
        size = sizeof(*record);
        reserved = record;
    }
    if (!written) {
        ring.ringbuf_discard(reserved, BPF_RB_NO_WAKEUP);
        return CV_LOST_LOAD;
    }
    ring.ringbuf_submit(reserved, wake_flags(size));
    return CV_CAPTURED;
}

/* Who sent it, without kprobes: on the way out of the pod the skb still belongs to the sender's socket, mostly. */
INLINE void note_sender(struct __sk_buff *skb, struct cv_record *head, struct cv_session *s)
{
    struct bpf_sock *sk = skb->sk;

    if (!sk)
        return;
    head->cgroup_id = bpf_skb_cgroup_id(skb);
    sk = bpf_sk_fullsock(sk);
    if (!sk)
        return;
    struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);

    if (tcp)
        s->rtt_us = tcp->srtt_us >> 3; /* the kernel keeps eight times the value */
}

/* The segment as records of at most CV_CHUNK bytes. Answers what became of it. */
INLINE u32 send_up(struct __sk_buff *skb, struct packet *p, struct cv_session *s, struct cv_stats *st, struct cv_record *head,
                   u32 want, u32 tail)
{
    u32 sent = 0;

#pragma unroll
    for (int i = 0; i < CV_CHUNKS; i++) {
        u32 rest = want - sent;
        bool last = rest <= CV_CHUNK;

        head->seq = p->seq + sent;
        head->captured = last ? rest : CV_CHUNK;
        head->length = last ? p->length - tail - sent : CV_CHUNK;
        head->tcp_flags = last && !tail ? p->tcp_flags : p->tcp_flags & ~FIN;
        u32 result = emit(skb, head, p->offset + sent);

        if (result != CV_CAPTURED) {
            __sync_fetch_and_add(&s->lost, 1);
            return result;
        }
        count(&st->count[CV_RECORDS], 1);
        count(&st->count[CV_CAPTURED_BYTES], head->captured);
        sent += head->captured;
        if (last)
            break;
        head->flags = (head->flags & ~CV_TURN) | CV_CONTINUED;
        head->packets = 0;
    }
    if (tail) {
        head->flags = (head->flags & ~(CV_TURN | CV_CUT)) | CV_CONTINUED;
        head->packets = 0;
        head->seq = p->seq + p->length - tail;
        head->captured = head->length = tail;
        head->tcp_flags = p->tcp_flags;
        u32 result = emit(skb, head, p->offset + p->length - tail);

        if (result != CV_CAPTURED) {
            __sync_fetch_and_add(&s->lost, 1);
            return result;
        }
        count(&st->count[CV_RECORDS], 1);
        count(&st->count[CV_CAPTURED_BYTES], tail);
    }
    return CV_CAPTURED;
}

INLINE void fill(struct cv_record *head, struct __sk_buff *skb, struct packet *p, struct cv_session *s, u32 direction, u64 now)
{
    u64 asked = s->side[!direction].turn_ns;

    head->time_ns = now;
    head->cookie = s->cookie;
    head->turn_age_ns = asked && now > asked ? now - asked : 0;
    head->ifindex = p->key.ifindex;
    head->ack = p->ack;
    head->lost = s->lost;
    __builtin_memcpy(head->pod_ip, p->key.pod_ip, 16);
    __builtin_memcpy(head->peer_ip, p->key.peer_ip, 16);
    head->pod_port = p->key.pod_port;
    head->peer_port = p->key.peer_port;
    head->window = p->window;
    head->vlan = p->vlan;
    head->transport = p->key.transport;
    head->direction = direction;
    head->flags = s->state & (CV_POD_OPENED | CV_PEER_OPENED);
    if (direction == CV_FROM_POD)
        note_sender(skb, head, s);
    head->rtt_us = s->rtt_us;
}

/* Payload: account for it, and send up what was asked for. False: nothing was, not even its flags. */
INLINE bool carry(struct __sk_buff *skb, struct scratch *room, struct cv_session *s, struct cv_pod *pod, struct cv_pod_state *state,
                  struct cv_stats *st, u32 direction, u64 now)
{
    struct packet *p = &room->packet;
    u32 segs = skb->gso_segs ? skb->gso_segs : 1, why;
    u32 retransmits = s->side[direction].retransmits;
    bool turn = follow(s, p, st, direction, segs, now);

    if (turn)
        admit(s, pod, state, direction, now);
    room->want = decide(s, p, pod, state, direction, now, &why);
    room->tail = 0;
    if (why == CV_CUT_FLOW && p->tcp_flags & PSH && affordable(s->due_ns, now, 2 * pod->burst_ns))
        why = keep_end(room, s, pod, state, now);

    bool told = why != CV_MUTED && why != CV_SHED; /* what becomes of it in the ring changes `why` */

    if (told) {
        struct cv_record head = {};

        fill(&head, skb, p, s, direction, now);
        head.packets = segs;
        if (turn)
            head.flags |= CV_TURN;
        if (s->side[direction].retransmits != retransmits)
            head.flags |= CV_RETRANSMITTED;
        if (room->want < p->length)
            head.flags |= CV_CUT;
        FORGET();
        u32 result = send_up(skb, p, s, st, &head, room->want, room->tail);

        if (result != CV_CAPTURED)
            why = result;
    } else if (why == CV_SHED)
        __sync_fetch_and_add(&s->lost, 1);
    if (why < CV_COUNTERS)
        count(&st->count[why], 1);
    return told;
}

/* SYN, FIN, RST without payload, or with one that stays here: user space follows the life of a connection by them. */
INLINE void mark(struct __sk_buff *skb, struct packet *p, struct cv_session *s, struct cv_pod *pod, struct cv_pod_state *state,
                 struct cv_stats *st, u32 direction, u64 now)
{
    struct cv_record head = {};

    if (overdrawn(state, pod, now, 2)) {
        count(&st->count[CV_CONTROLS_LOST], 1);
        return;
    }
    charge(&state->due_ns, now, (u64)CV_RECORD_COST * pod->pod_ns_per_kib >> 10);
    fill(&head, skb, p, s, direction, now);
    head.seq = p->seq + p->length;
    head.tcp_flags = p->length ? p->tcp_flags & ~SYN : p->tcp_flags;
    if (emit(skb, &head, 0) == CV_CAPTURED)
        count(&st->count[CV_RECORDS], 1);
    else
        count(&st->count[CV_CONTROLS_LOST], 1);
}

INLINE void track_ip(struct __sk_buff *skb, struct scratch *room, struct cv_pod *pod, struct cv_pod_state *state,
                     struct cv_stats *st, u32 direction)
{
    struct packet *p = &room->packet;
    bool opens = (p->tcp_flags & (SYN | ACK)) == SYN;
    bool signals = p->tcp_flags & (SYN | FIN | RST);

    if (p->length)
        count(&st->count[CV_SEGMENTS], 1);
    else if (signals)
        count(&st->count[CV_CONTROLS], 1);
    else {
        count(&st->count[CV_ACKS], 1);
        return;
    }
    struct cv_session *s = sessions.lookup(&p->key);
    u64 now = bpf_ktime_get_ns();

    if (s && opens && another_start(s, p, direction)) {
        if (!sessions.delete(&p->key))
            __sync_fetch_and_sub(&state->opened, 1);
        s = 0;
    }
    if (!s && (opens || p->length)) {
        s = open_session(p, pod, state, now, &st->count[p->length ? CV_LOST_QUOTA : CV_CONTROLS_LOST],
                         &st->count[p->length ? CV_LOST_MAP : CV_CONTROLS_LOST]);
    }
    if (!s)
        return;
    note_flags(s, p, direction);
    if (!p->window && !(p->tcp_flags & RST) && p->key.transport == IPPROTO_TCP)
        __sync_fetch_and_add(&s->side[direction].zero_windows, 1);
    if (p->length) {
        if (p->tcp_flags & SYN)
            p->seq++; /* TCP Fast Open: the SYN takes a number of its own */
        signals = !carry(skb, room, s, pod, state, st, direction, now) && p->tcp_flags & (FIN | RST);
    }
    if (signals)
        mark(skb, p, s, pod, state, st, direction, now);
}

INLINE void count_node(u32 which)
{
    u64 *counter = node_stats.lookup(&which);

    if (counter)
        count(counter, 1);
}

/* UDP is watched on the ports that user space named: most of it is not request and response. */
INLINE bool watched(struct packet *p)
{
    return p->key.transport != IPPROTO_UDP || udp_ports.lookup(&p->key.pod_port) || udp_ports.lookup(&p->key.peer_port);
}

INLINE int track(struct __sk_buff *skb, u32 direction)
{
    u32 zero = 0, ifindex = skb->ifindex, slot;
    struct cv_settings *set = settings.lookup(&zero);

    if (!set || rough_now() >= set->lease_until_ns) {
        count_node(CV_NODE_LEASE_OFF);
        return PASS;
    }
    struct cv_pod *pod = pods.lookup(&ifindex);

    if (!pod) {
        count_node(CV_NODE_NOT_ASKED);
        return PASS;
    }
    slot = pod->slot;
    struct cv_pod_state *state = pod_state.lookup(&slot);
    struct cv_stats *st = stats.lookup(&slot);

    if (!state || !st)
        return PASS;
    struct scratch *room = scratch.lookup(&zero);

    if (!room)
        return PASS;
    struct packet p = {.key = {.ifindex = ifindex}};

    switch (parse(skb, &p, direction)) {
    case TCP_OR_UDP:
        room->packet = p;
        FORGET();
        if (watched(&room->packet))
            track_ip(skb, room, pod, state, st, direction);
        else
            count(&st->count[CV_OTHER], 1);
        break;
    case FRAGMENT:
        count(&st->count[CV_FRAGMENTS], 1);
        break;
    case OTHER:
        count(&st->count[CV_OTHER], 1);
        break;
    case MALFORMED:
        count(&st->count[CV_MALFORMED], 1);
        break;
    }
    return PASS;
}

/* Ingress of the host veth: what leaves the pod. */
int clovisor_ingress(struct __sk_buff *skb)
{
    return track(skb, CV_FROM_POD);
}

/* Egress of the host veth: what enters the pod. */
int clovisor_egress(struct __sk_buff *skb)
{
    return track(skb, CV_TO_POD);
}
