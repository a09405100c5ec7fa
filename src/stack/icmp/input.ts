/**
 * ICMP of what comes in (RFC 792, RFC 4443, RFC 4861): checksums, echo requests, neighbour and router solicitations, and
 * what the guest says about packets of ours. Which of them ICMP itself answers is in icmp.ts.
 */
import type { Slab } from '../buffer/slab.ts';
import { Counter, type Counters } from '../counters.ts';
import type { OwnAddresses } from '../ip/own-addresses.ts';
import type { Egress } from '../link/egress.ts';
import type { IngressHandler, IngressParts } from '../link/ingress-parts.ts';
import { hasGoodSum, type Packet } from '../link/packet.ts';
import {
  answerNeighborSolicitation,
  Neighbor,
  NeighborReply,
  type NeighborTable,
} from '../neighbor/cache.ts';
import type { RateLimit } from '../rate-limit.ts';
import type { RouterAdvertiser } from '../services/router-advertiser.ts';
import { foldSum, sumBytes } from '../wire/checksum.ts';
import { DropReason } from '../wire/drop-reason.ts';
import {
  ICMP_HEADER_LEN,
  ICMP4_ECHO,
  ICMP4_PARAMETER_PROBLEM,
  ICMP4_REDIRECT,
  ICMP4_SOURCE_QUENCH,
  ICMP4_TIME_EXCEEDED,
  ICMP4_UNREACHABLE,
  ICMP6_ECHO,
  ICMP6_MLD_REPORT,
  ICMP6_MLD2_REPORT,
  ICMP6_PACKET_TOO_BIG,
  ICMP6_PARAMETER_PROBLEM,
  ICMP6_TIME_EXCEEDED,
  ICMP6_UNREACHABLE,
  IcmpHeader,
  PROTOCOL_ICMPV6,
  parseIcmp,
} from '../wire/icmp.ts';
import type { Ipv6Header } from '../wire/ipv6.ts';
import {
  ND_NA_OVERRIDE,
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_REDIRECT,
  ND_ROUTER_ADVERTISEMENT,
  ND_ROUTER_SOLICITATION,
  NdpMessage,
  parseNdp,
} from '../wire/ndp.ts';
import type { Icmp } from './icmp.ts';

export class IcmpInput {
  readonly #slab: Slab;
  readonly #own: OwnAddresses;
  readonly #neighbors: NeighborTable;
  readonly #icmp: Icmp;
  readonly #egress: Egress;
  readonly #ra: RouterAdvertiser | null;
  readonly #echoLimit: RateLimit | null;
  readonly #handler: IngressHandler;
  readonly #counters: Counters;
  readonly #silentNdp: boolean;
  readonly #icmpHeader = new IcmpHeader();
  readonly #neighborReply = new NeighborReply();
  readonly #advertisement = new NdpMessage();
  readonly #neighbor = new Neighbor();

  constructor(parts: IngressParts) {
    this.#slab = parts.slab;
    this.#own = parts.own;
    this.#neighbors = parts.neighbors;
    this.#icmp = parts.icmp;
    this.#egress = parts.egress;
    this.#ra = parts.ra;
    this.#echoLimit = parts.echoLimit ?? null;
    this.#handler = parts.handler;
    this.#counters = parts.counters;
    this.#silentNdp = parts.silentNdp ?? false;
  }

  onTimeout(nowMs: number): void {
    if (this.#ra === null) return;
    this.#sendAdvertisement(this.#ra.onTimeout(nowMs, this.#slab.view, this.#egress.transport));
  }

  /** An ICMP message; 0 or a drop reason. */
  receiveIcmp4(p: Packet, nowMs: number): number {
    this.#counters.add(Counter.RxIcmp, 1);
    const reason = parseIcmp(this.#slab.view, p.offset, p.length, this.#icmpHeader);
    if (reason < 0) return reason;
    if (!p.checksumGood && foldSum(sumBytes(this.#slab.view, p.offset, p.length, 0)) !== 0xffff) {
      return DropReason.IcmpCsum;
    }
    switch (this.#icmpHeader.type) {
      case ICMP4_ECHO:
        if (this.#icmpHeader.code !== 0) return DropReason.IcmpMalformed;
        return this.#receiveEcho(p, nowMs);
      case ICMP4_UNREACHABLE:
        return this.#handler.onUnreachable(p, this.#icmpHeader.code) ? 0 : DropReason.IcmpIgnored;
      case ICMP4_TIME_EXCEEDED:
      case ICMP4_PARAMETER_PROBLEM:
      case ICMP4_SOURCE_QUENCH:
      case ICMP4_REDIRECT:
        return DropReason.IcmpIgnored;
      default:
        return DropReason.IcmpType;
    }
  }

  /** An ICMPv6 message in the packet whose header is `ip6`; 0 or a drop reason. */
  receiveIcmp6(p: Packet, ip6: Ipv6Header, nowMs: number): number {
    this.#counters.add(Counter.RxIcmp, 1);
    const view = this.#slab.view;
    const h = this.#icmpHeader;
    const reason = parseIcmp(view, p.offset, p.length, h);
    if (reason < 0) return reason;
    if (!p.checksumGood && !hasGoodSum(view, p, PROTOCOL_ICMPV6)) return DropReason.IcmpCsum;
    switch (h.type) {
      case ND_NEIGHBOR_SOLICITATION: {
        // RFC 6980: not in fragments.
        if (p.reassembled) return DropReason.NdMalformed;
        if (this.#silentNdp) return DropReason.NdIgnored;
        if (p.src.isUnspecified) this.#ra?.onProbe(nowMs);
        this.#noteAddress(p, nowMs);
        const at = this.#egress.transport;
        const reply = this.#neighborReply;
        const size = answerNeighborSolicitation(
          view,
          p.offset,
          p.length,
          ip6,
          view,
          at,
          this.#own,
          reply,
          this.#neighbors,
        );
        if (size <= 0) return size;
        this.#egress.sendNdp(reply.src, reply.dst, size);
        return 0;
      }
      case ND_ROUTER_SOLICITATION: {
        if (p.reassembled) return DropReason.NdMalformed;
        if (this.#ra === null) return DropReason.NdIgnored;
        const at = this.#egress.transport;
        const size = this.#ra.onSolicitation(view, p.offset, p.length, ip6, nowMs, view, at);
        this.#sendAdvertisement(size);
        return Math.min(size, 0);
      }
      case ND_NEIGHBOR_ADVERTISEMENT:
        if (p.reassembled) return DropReason.NdMalformed;
        this.#noteAddress(p, nowMs);
        return this.#receiveAdvertisement(p, h.code);
      case ND_ROUTER_ADVERTISEMENT:
      case ND_REDIRECT:
        return DropReason.NdIgnored;
      case ICMP6_ECHO:
        if (h.code !== 0) return DropReason.IcmpMalformed;
        return this.#receiveEcho(p, nowMs);
      case ICMP6_UNREACHABLE:
        return this.#handler.onUnreachable(p, h.code) ? 0 : DropReason.IcmpIgnored;
      case ICMP6_PACKET_TOO_BIG:
      case ICMP6_TIME_EXCEEDED:
      case ICMP6_PARAMETER_PROBLEM:
        return DropReason.IcmpIgnored;
      case ICMP6_MLD_REPORT:
      case ICMP6_MLD2_REPORT:
        this.#noteAddress(p, nowMs);
        return DropReason.IcmpType;
      default:
        return DropReason.IcmpType;
    }
  }

  /** What comes from a link-local address tells that the guest has one. */
  #noteAddress(p: Packet, nowMs: number): void {
    if (p.src.isLinkLocal) this.#ra?.start(nowMs);
  }

  /**
   * RFC 4861 §7.2.5: `target` is where the message says, not where the frame came from. Without override it takes the place
   * of no other. The sender was learned from the frame.
   */
  #receiveAdvertisement(p: Packet, code: number): number {
    const m = this.#advertisement;
    const reason = parseNdp(this.#slab.view, p.offset, p.length, p.ttl, code, m);
    if (reason < 0 || m.targetLinkHi < 0) return reason;
    if ((m.flags & ND_NA_OVERRIDE) !== 0 || !this.#neighbors.lookup(m.target, this.#neighbor))
      this.#neighbors.learn(m.target, m.targetLinkHi, m.targetLinkLo);
    return 0;
  }

  #receiveEcho(p: Packet, nowMs: number): number {
    if (p.dst.isGroup || this.#own.isLinkBroadcast(p.dst)) return DropReason.PolicyGroup;
    const limit = this.#echoLimit;
    if (limit !== null || this.#own.answersEcho(p.dst)) {
      if (limit !== null && !limit.allow(nowMs)) return DropReason.IcmpLimit;
      this.#icmp.answerEcho(p);
      return 0;
    }
    if (p.length < ICMP_HEADER_LEN) return DropReason.IcmpMalformed;
    this.#handler.onEcho(p);
    return 0;
  }

  #sendAdvertisement(size: number): void {
    const ra = this.#ra;
    if (size <= 0 || ra === null) return;
    this.#egress.sendNdp(ra.src, ra.dst, size);
  }
}
