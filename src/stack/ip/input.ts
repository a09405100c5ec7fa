/**
 * The IP layer of what comes in: headers, source addresses, fragments, hop limits (RFC 791, RFC 1122 §3.2, RFC 8200). A
 * whole packet with good addresses goes on to its protocol; from there IPv4 and IPv6 are the same `Packet`, and the code
 * does not ask which it was. A packet for one host in a frame for many is nobody's (RFC 1122 §3.3.6): every station has it.
 */
import type { Slab } from '../buffer/slab.ts';
import { Counter, type Counters } from '../counters.ts';
import type { Icmp } from '../icmp/icmp.ts';
import { IcmpInput } from '../icmp/input.ts';
import type { IngressParts } from '../link/ingress-parts.ts';
import type { Packet } from '../link/packet.ts';
import type { NeighborTable } from '../neighbor/cache.ts';
import { DHCP_SERVER_PORT, TransportInput } from '../transport/input.ts';
import type { IpAddress } from '../wire/address.ts';
import { DropReason } from '../wire/drop-reason.ts';
import {
  ICMP_REASSEMBLY_TIMEOUT,
  ICMP4_PROTOCOL_UNREACHABLE,
  ICMP4_TIME_EXCEEDED,
  ICMP4_UNREACHABLE,
  ICMP6_BEYOND_SCOPE,
  ICMP6_INCOMPLETE_CHAIN,
  ICMP6_PARAMETER_PROBLEM,
  ICMP6_TIME_EXCEEDED,
  ICMP6_UNKNOWN_NEXT_HEADER,
  ICMP6_UNREACHABLE,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
} from '../wire/icmp.ts';
import { Ipv4Header, parseIpv4 } from '../wire/ipv4.ts';
import {
  IPV6_HEADER_LEN,
  IPV6_NEXT_HEADER_OFF,
  Ipv6Header,
  parseIpv6,
  walkExtensionHeaders,
} from '../wire/ipv6.ts';
import { ND_NEIGHBOR_SOLICITATION, ND_ROUTER_SOLICITATION } from '../wire/ndp.ts';
import { PROTOCOL_TCP } from '../wire/tcp.ts';
import { PROTOCOL_UDP, UDP_HEADER_LEN } from '../wire/udp.ts';
import type { OwnAddresses } from './own-addresses.ts';
import { ExpiredFragment, type Reassembler } from './reassembly.ts';

/** Multicast listener discovery, RFC 2710 and RFC 3810. */
const MLD_QUERY = 130;
const MLD_DONE = 132;
const MLD2_REPORT = 143;

export class IpInput {
  readonly #slab: Slab;
  readonly #own: OwnAddresses;
  readonly #reassembler: Reassembler;
  readonly #icmp: Icmp;
  readonly #counters: Counters;
  readonly #offersDhcp: boolean;
  readonly #neighbors: NeighborTable;
  readonly #transport: TransportInput;
  readonly #icmpInput: IcmpInput;
  readonly #packet: Packet;
  readonly #ip4 = new Ipv4Header();
  readonly #ip6 = new Ipv6Header();
  readonly #expired = new ExpiredFragment();

  /** `packet` is filled for each packet; what the link knows of it is in there already. */
  constructor(parts: IngressParts, packet: Packet) {
    this.#slab = parts.slab;
    this.#own = parts.own;
    this.#reassembler = parts.reassembler;
    this.#icmp = parts.icmp;
    this.#counters = parts.counters;
    this.#offersDhcp = parts.dhcp !== null;
    this.#neighbors = parts.neighbors;
    this.#transport = new TransportInput(parts);
    this.#icmpInput = new IcmpInput(parts);
    this.#packet = packet;
  }

  onTimeout(nowMs: number): void {
    this.#reassembler.onTimeout(nowMs);
    while (this.#reassembler.takeExpired(this.#expired)) {
      const e = this.#expired;
      this.#counters.drop(DropReason.FragTimeout);
      const p = this.#packet;
      p.isV4 = e.isV4;
      p.src.copyFrom(e.src);
      p.dst.copyFrom(e.dst);
      p.ipOffset = e.off;
      p.ipLength = e.len;
      p.reassembled = false;
      const type = e.isV4 ? ICMP4_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED;
      this.#icmp.error(p, type, ICMP_REASSEMBLY_TIMEOUT, 0, nowMs);
    }
    this.#icmpInput.onTimeout(nowMs);
  }

  /** An IPv4 packet in `length` bytes at `offset`; 0 or a drop reason. */
  receiveIpv4(offset: number, length: number, nowMs: number): number {
    if (!this.#own.ipv4) return DropReason.Ip4Src;
    const view = this.#slab.view;
    const h = this.#ip4;
    const reason = parseIpv4(view, offset, length, h);
    if (reason < 0) return reason;
    const dhcp = h.src.isUnspecified && this.#isDhcp(offset, h);
    if (!dhcp) {
      const bad = this.#checkSource(h.src, h.dst);
      if (bad < 0) return bad;
      this.#learn(h.src);
    }
    const p = this.#packet;
    if (p.linkGroup && !h.dst.isGroup && !this.#own.isLinkBroadcast(h.dst)) return DropReason.LinkMac;
    if (h.ttl === 0) return DropReason.Ip4Ttl;
    p.isV4 = true;
    p.src.copyFrom(h.src);
    p.dst.copyFrom(h.dst);
    p.ttl = h.ttl;
    p.tos = h.tos;
    p.dontFragment = h.dontFragment;
    p.protocol = h.protocol;
    p.ipOffset = offset;
    p.ipLength = h.totalLen;
    p.offset = offset + h.headerLen;
    p.length = h.totalLen - h.headerLen;
    if (h.moreFragments || h.fragmentOffset > 0) {
      this.#counters.add(Counter.RxFragments, 1);
      const whole = this.#reassembler.addIpv4(view, offset, h, nowMs);
      if (whole <= 0) return whole;
      this.#counters.add(Counter.RxReassembled, 1);
      p.offset = this.#reassembler.outOff;
      p.length = this.#reassembler.outLen;
      p.reassembled = true;
      p.checksumGood = false;
    }
    if (h.ttl === 1 && this.#isOver(h.dst)) {
      this.#icmp.timeExceeded(p, nowMs);
      return DropReason.Ip4Ttl;
    }
    switch (p.protocol) {
      case PROTOCOL_TCP:
        return this.#transport.receiveTcp(p);
      case PROTOCOL_UDP:
        return this.#transport.receiveUdp(p);
      case PROTOCOL_ICMP:
        return this.#icmpInput.receiveIcmp4(p, nowMs);
      default:
        this.#icmp.error(p, ICMP4_UNREACHABLE, ICMP4_PROTOCOL_UNREACHABLE, 0, nowMs);
        return DropReason.Ip4Proto;
    }
  }

  /** An IPv6 packet in `length` bytes at `offset`; 0 or a drop reason. */
  receiveIpv6(offset: number, length: number, nowMs: number): number {
    if (!this.#own.ipv6) return DropReason.Ip6Addr;
    const view = this.#slab.view;
    const h = this.#ip6;
    const reason = parseIpv6(view, offset, length, h);
    const p = this.#packet;
    const isStray = p.linkGroup && !h.dst.isMulticast;
    p.isV4 = false;
    p.src.copyFrom(h.src);
    p.dst.copyFrom(h.dst);
    p.ttl = h.hopLimit;
    p.tos = h.trafficClass;
    p.dontFragment = true;
    p.ipOffset = offset;
    p.ipLength = Math.min(length, IPV6_HEADER_LEN + h.payloadLen);
    if (reason < 0) {
      if (isFragmentReason(reason)) this.#counters.add(Counter.RxFragments, 1);
      if (h.icmpCode >= 0 && !isStray && this.#checkSource(h.src, h.dst) === 0) {
        this.#icmp.error(p, ICMP6_PARAMETER_PROBLEM, h.icmpCode, h.problemPointer, nowMs);
      }
      return reason;
    }
    if (isStray) return DropReason.LinkMac;
    if (!h.src.isUnspecified) {
      const bad = this.#checkSource(h.src, h.dst);
      if (bad < 0) return bad;
      this.#learn(h.src);
    }
    if (h.dst.isUnspecified) return DropReason.Ip6Addr;
    // RFC 4291 §2.5.6: it would be looked for on the host's links, not the guest's.
    if (h.dst.isLinkLocal && !this.#own.answersFor(h.dst)) return DropReason.Ip6Scope;
    // A router does not pass link-local sources on, and says so (RFC 4007 §9): a program that connects while its host has our
    // route and no other address yet would wait for its timeout.
    if (h.src.isLinkLocal && !h.dst.isLinkLocal && !h.dst.isMulticast && !this.#own.answersEcho(h.dst)) {
      this.#icmp.error(p, ICMP6_UNREACHABLE, ICMP6_BEYOND_SCOPE, 0, nowMs);
      return DropReason.Ip6Scope;
    }
    if (h.hopLimit === 0) return DropReason.Ip6HopLimit;
    p.protocol = h.protocol;
    p.offset = offset + h.transportOff;
    p.length = h.transportLen;
    if (h.isFragment) {
      this.#counters.add(Counter.RxFragments, 1);
      const whole = this.#reassemble6(offset, h, nowMs);
      if (whole <= 0) return whole;
    }
    if (h.src.isUnspecified && !this.#mayBeUnspecified()) return DropReason.Ip6Addr;
    if (h.hopLimit === 1 && this.#isOver(h.dst)) {
      this.#icmp.timeExceeded(p, nowMs);
      return DropReason.Ip6HopLimit;
    }
    switch (p.protocol) {
      case PROTOCOL_TCP:
        return this.#transport.receiveTcp(p);
      case PROTOCOL_UDP:
        return this.#transport.receiveUdp(p);
      case PROTOCOL_ICMPV6:
        return this.#icmpInput.receiveIcmp6(p, h, nowMs);
      default:
        this.#icmp.error(
          p,
          ICMP6_PARAMETER_PROBLEM,
          ICMP6_UNKNOWN_NEXT_HEADER,
          // The header that is made anew for the quote names the protocol itself.
          p.reassembled ? IPV6_NEXT_HEADER_OFF : h.unknownNextHeaderOff,
          nowMs,
        );
        return DropReason.Ip6Proto;
    }
  }

  /** A hop limit of 1 does not reach this destination. */
  #isOver(dst: IpAddress): boolean {
    return this.#own.isHop && !dst.isGroup && !this.#own.answersEcho(dst);
  }

  /** The sender, whose address proved good, is a neighbour: before anything is answered. */
  #learn(src: IpAddress): void {
    const { macHi, macLo } = this.#packet;
    if (macHi >= 0) this.#neighbors.learn(src, macHi, macLo);
  }

  #reassemble6(offset: number, h: Ipv6Header, nowMs: number): number {
    const view = this.#slab.view;
    const r = this.#reassembler;
    const p = this.#packet;
    const whole = r.addIpv6(view, offset, h, nowMs);
    if (whole < 0) {
      if (whole === DropReason.FragLength) {
        this.#icmp.error(p, ICMP6_PARAMETER_PROBLEM, 0, 4, nowMs);
      } else if (whole === DropReason.FragTooLong) {
        this.#icmp.error(p, ICMP6_PARAMETER_PROBLEM, 0, h.fragmentHeaderOff + 2, nowMs);
      } else if (whole === DropReason.Frag6Chain && r.chainIncomplete) {
        this.#icmp.error(p, ICMP6_PARAMETER_PROBLEM, ICMP6_INCOMPLETE_CHAIN, 0, nowMs);
      }
    }
    if (whole <= 0) return whole;
    p.offset = r.outOff;
    p.length = r.outLen;
    p.protocol = r.outProtocol;
    p.reassembled = true;
    p.checksumGood = false;
    // Headers that follow the fragment header were not walked yet; -40 because offsets count from the packet's start.
    const reason = walkExtensionHeaders(
      view,
      r.outOff - IPV6_HEADER_LEN,
      IPV6_HEADER_LEN + r.outLen,
      r.outProtocol,
      h.fragmentHeaderOff,
      IPV6_HEADER_LEN,
      true,
      h,
    );
    if (!isFragmentReason(reason)) this.#counters.add(Counter.RxReassembled, 1);
    if (reason < 0) return reason;
    p.protocol = h.protocol;
    p.offset = r.outOff - IPV6_HEADER_LEN + h.transportOff;
    p.length = h.transportLen;
    return 1;
  }

  /** I-03, I-04, S-05: only the guest's own network speaks, or whoever may, and no group, and not we ourselves. */
  #checkSource(src: IpAddress, dst: IpAddress): number {
    const own = this.#own;
    if (src.isV4) {
      if (
        src.isUnspecified ||
        src.isMulticast ||
        src.isLoopback ||
        src.w3 === 0xffffffff ||
        src.equals(dst)
      ) {
        return DropReason.Ip4Src;
      }
      if (!own.mayBeGuest(src)) return DropReason.Ip4Spoof;
      if (own.owns(src)) return DropReason.Ip4Src;
      return own.isLinkBroadcast(src) ? DropReason.Ip4Src : 0;
    }
    if (src.isMulticast || src.isUnspecified || src.isLoopback || src.equals(dst)) return DropReason.Ip6Addr;
    if (own.owns(src)) return DropReason.Ip6Addr;
    return own.mayBeGuest(src) ? 0 : DropReason.Ip6Spoof;
  }

  /** RFC 4861 §4.1, §4.3, RFC 3590: who has no address yet may ask for one, and join its groups. */
  #mayBeUnspecified(): boolean {
    const p = this.#packet;
    if (p.protocol !== PROTOCOL_ICMPV6 || p.length < 1) return false;
    const type = this.#slab.view.getUint8(p.offset);
    return (
      type === ND_NEIGHBOR_SOLICITATION ||
      type === ND_ROUTER_SOLICITATION ||
      (type >= MLD_QUERY && type <= MLD_DONE) ||
      type === MLD2_REPORT
    );
  }

  /** A guest that has no address yet asks for one (RFC 2131 §4.1). */
  #isDhcp(offset: number, h: Ipv4Header): boolean {
    if (!this.#offersDhcp || h.protocol !== PROTOCOL_UDP || h.dst.w3 !== 0xffffffff) return false;
    if (h.moreFragments || h.fragmentOffset > 0 || h.totalLen - h.headerLen < UDP_HEADER_LEN) return false;
    return this.#slab.view.getUint16(offset + h.headerLen + 2) === DHCP_SERVER_PORT;
  }
}

/** Whether a packet was dropped as a fragment: `rx.fragments` counts those. */
function isFragmentReason(reason: number): boolean {
  return reason <= DropReason.FragTiny && reason >= DropReason.Frag6Chain;
}
