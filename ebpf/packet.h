/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
 *
 * From an Ethernet frame to the tuple, the sequence numbers and the payload's place: VLAN tags (in the frame or in the skb's
 * metadata), IPv4 with options, IPv6 with extension headers, TCP with options, UDP. Every length comes from the wire and is
 * held against the skb's before it is used. No maps: what to do with a packet is session_tracker.c's business.
 */
#ifndef CLOVISOR_PACKET_H
#define CLOVISOR_PACKET_H

#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/in6.h>

#include "clovisor.h"

#define INLINE static __attribute__((always_inline)) inline

#define FIN 0x01
#define PSH 0x08
#define SYN 0x02
#define RST 0x04
#define ACK 0x10

#define MAX_VLANS 2     /* QinQ */
#define MAX_HEADERS 512 /* bytes that are looked for in the linear part */
#define MAX_EXTENSIONS 6 /* RFC 8200 names six kinds, each at most once but one */

enum verdict { TCP_OR_UDP, FRAGMENT, OTHER, MALFORMED };

struct packet {
    struct cv_key key;
    u32 seq;
    u32 ack;
    u32 offset; /* of the payload in the skb */
    u32 length; /* of the payload */
    u16 window;
    u16 vlan;
    u8 tcp_flags;
};

/* Headers as they are on the wire, without what is not read. */
struct ipv4_header {
    u8 version_ihl, tos;
    u16 total, id, fragment;
    u8 ttl, protocol;
    u16 checksum;
    u32 source, destination;
};
struct ipv6_header {
    u8 version_class[4];
    u16 length;
    u8 next, hops;
    u8 source[16], destination[16];
};
struct tcp_header {
    u16 source, destination;
    u32 seq, ack;
    u8 words, flags;
    u16 window, checksum, urgent;
};
struct udp_header {
    u16 source, destination, length, checksum;
};

/* Header bytes: straight from the linear part, where they nearly always are; else by the helper, which costs a call (three of them
 * were a third of a bare ACK's price). Answers whether there are so many. */
INLINE bool load(struct __sk_buff *skb, u32 offset, void *into, const u32 size)
{
    u8 *at = (u8 *)(long)skb->data;
    u8 *end = (u8 *)(long)skb->data_end;

    if (offset < MAX_HEADERS) {
        at += offset;
        if (at + size <= end) {
            __builtin_memcpy(into, at, size);
            return true;
        }
    }
    return !bpf_skb_load_bytes(skb, offset, into, size);
}

INLINE void address4(u8 *into, u32 address)
{
    u32 *words = (u32 *)into;

    words[2] = htonl(0xffff); /* ::ffff:a.b.c.d; the key was zeroed */
    words[3] = address;
}

INLINE enum verdict parse_tcp(struct __sk_buff *skb, struct packet *p, u32 direction, u32 offset, u32 end)
{
    struct tcp_header tcp;

    if (offset + sizeof(tcp) > end || !load(skb, offset, &tcp, sizeof(tcp)))
        return MALFORMED;
    u32 size = (tcp.words >> 4) * 4;

    if (size < sizeof(tcp) || offset + size > end)
        return MALFORMED;
    p->key.pod_port = ntohs(direction == CV_FROM_POD ? tcp.source : tcp.destination);
    p->key.peer_port = ntohs(direction == CV_FROM_POD ? tcp.destination : tcp.source);
    p->seq = ntohl(tcp.seq);
    p->ack = ntohl(tcp.ack);
    p->tcp_flags = tcp.flags;
    p->window = ntohs(tcp.window);
    p->offset = offset + size;
    p->length = end - p->offset;
    return TCP_OR_UDP;
}

INLINE enum verdict parse_udp(struct __sk_buff *skb, struct packet *p, u32 direction, u32 offset, u32 end)
{
    struct udp_header udp;

    if (offset + sizeof(udp) > end || !load(skb, offset, &udp, sizeof(udp)))
        return MALFORMED;
    p->key.pod_port = ntohs(direction == CV_FROM_POD ? udp.source : udp.destination);
    p->key.peer_port = ntohs(direction == CV_FROM_POD ? udp.destination : udp.source);
    u32 size = ntohs(udp.length);

    if (size < sizeof(udp) || offset + size > end)
        return MALFORMED;
    p->offset = offset + sizeof(udp);
    p->length = size - sizeof(udp);
    return TCP_OR_UDP;
}

/* IPv4 at `offset`: answers the transport protocol, and where it begins and ends. */
INLINE enum verdict parse_ipv4(struct __sk_buff *skb, struct packet *p, u32 direction, u32 *offset, u32 *end)
{
    struct ipv4_header ip;

    if (!load(skb, *offset, &ip, sizeof(ip)))
        return MALFORMED;
    u32 size = (ip.version_ihl & 15) * 4;
    u32 total = ntohs(ip.total);

    if (ip.version_ihl >> 4 != 4 || size < sizeof(ip))
        return MALFORMED;
    if (ntohs(ip.fragment) & 0x3fff)
        return FRAGMENT;
    if (!total)
        total = skb->len - *offset; /* BIG TCP */
    *end = *offset + total;
    if (total < size || *end > skb->len)
        return MALFORMED;
    *offset += size;
    p->key.transport = ip.protocol;
    address4(p->key.pod_ip, direction == CV_FROM_POD ? ip.source : ip.destination);
    address4(p->key.peer_ip, direction == CV_FROM_POD ? ip.destination : ip.source);
    return TCP_OR_UDP;
}

INLINE enum verdict parse_ipv6(struct __sk_buff *skb, struct packet *p, u32 direction, u32 *offset, u32 *end)
{
    struct ipv6_header ip;

    if (!load(skb, *offset, &ip, sizeof(ip)) || ip.version_class[0] >> 4 != 6)
        return MALFORMED;
    u32 at = *offset + sizeof(ip);

    *end = at + ntohs(ip.length);
    if (!ip.length)
        *end = skb->len; /* BIG TCP */
    if (*end > skb->len)
        return MALFORMED;
    __builtin_memcpy(p->key.pod_ip, direction == CV_FROM_POD ? ip.source : ip.destination, 16);
    __builtin_memcpy(p->key.peer_ip, direction == CV_FROM_POD ? ip.destination : ip.source, 16);
    u32 next = ip.next;

#pragma unroll
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        u8 extension[2];

        if (next == IPPROTO_TCP || next == IPPROTO_UDP)
            break;
        if (next == IPPROTO_FRAGMENT)
            return FRAGMENT;
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS && next != IPPROTO_AH && next != IPPROTO_MH)
            return OTHER;
        if (!load(skb, at, extension, sizeof(extension)))
            return MALFORMED;
        /* all count in 8 bytes less the first, but AH (RFC 4302): in 4 bytes less two */
        at += next == IPPROTO_AH ? (extension[1] + 2) * 4 : (extension[1] + 1) * 8;
        next = extension[0];
    }
    *offset = at;
    p->key.transport = next;
    return TCP_OR_UDP;
}

INLINE enum verdict parse(struct __sk_buff *skb, struct packet *p, u32 direction)
{
    u32 offset = 12, end = 0;
    u16 type;
    enum verdict verdict;

    if (skb->vlan_present)
        p->vlan = skb->vlan_tci & 0xfff;
    if (!load(skb, offset, &type, sizeof(type)))
        return MALFORMED;
    offset += 2;
#pragma unroll
    for (int i = 0; i < MAX_VLANS; i++) {
        u16 tag[2];

        if (type != htons(ETH_P_8021Q) && type != htons(ETH_P_8021AD))
            break;
        if (!load(skb, offset, tag, sizeof(tag)))
            return MALFORMED;
        p->vlan = ntohs(tag[0]) & 0xfff;
        type = tag[1];
        offset += sizeof(tag);
    }
    if (type == htons(ETH_P_IP))
        verdict = parse_ipv4(skb, p, direction, &offset, &end);
    else if (type == htons(ETH_P_IPV6))
        verdict = parse_ipv6(skb, p, direction, &offset, &end);
    else
        return OTHER;
    if (verdict != TCP_OR_UDP)
        return verdict;
    if (p->key.transport == IPPROTO_TCP)
        return parse_tcp(skb, p, direction, offset, end);
    if (p->key.transport == IPPROTO_UDP)
        return parse_udp(skb, p, direction, offset, end);
    return OTHER;
}

#endif
