/**
 * From frame to meaning: every field of every frame is checked here, once, and what is left goes to the stack's own
 * services or to the handler (the flows). A bad packet is a counted drop or the reply its RFC asks for, never an
 * exception.
 *
 * IPv4 and IPv6 meet in `Packet`; from there on the code does not ask which it was.
 */

import type { Slab } from './buffer/slab.ts';
import { Counter, type Counters } from './counters.ts';
import type { Egress } from './egress.ts';
import type { Icmp } from './icmp.ts';
import type { Link } from './link.ts';
import { answerArp, answerNeighborSolicitation, NeighborReply, type NeighborTable } from './neighbor.ts';
import type { OwnAddresses } from './own-addresses.ts';
import { Packet } from './packet.ts';
import type { RateLimit } from './rate-limit.ts';
import { ExpiredFragment, type Reassembler } from './reassembly.ts';
import type { DhcpServer } from './services/dhcp-server.ts';
import type { RouterAdvertiser } from './services/router-advertiser.ts';
import { IpAddress } from './wire/address.ts';
import { ArpPacket, parseArp } from './wire/arp.ts';
import { foldSum, pseudoHeaderSum, sumBytes } from './wire/checksum.ts';
import { DropReason } from './wire/drop-reason.ts';
import {
  ETHERNET_HEADER_LEN,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  EthernetHeader,
  isGroupMac,
  parseEthernet,
} from './wire/ethernet.ts';
import {
  ICMP_HEADER_LEN,
  ICMP_REASSEMBLY_TIMEOUT,
  ICMP4_ECHO,
  ICMP4_PARAMETER_PROBLEM,
  ICMP4_PROTOCOL_UNREACHABLE,
  ICMP4_REDIRECT,
  ICMP4_SOURCE_QUENCH,
  ICMP4_TIME_EXCEEDED,
  ICMP4_UNREACHABLE,
  ICMP6_ECHO,
  ICMP6_INCOMPLETE_CHAIN,
  ICMP6_PACKET_TOO_BIG,
  ICMP6_PARAMETER_PROBLEM,
  ICMP6_TIME_EXCEEDED,
  ICMP6_UNKNOWN_NEXT_HEADER,
  ICMP6_UNREACHABLE,
  IcmpHeader,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  parseIcmp,
} from './wire/icmp.ts';
import { Ipv4Header, parseIpv4 } from './wire/ipv4.ts';
import { IPV6_HEADER_LEN, Ipv6Header, parseIpv6, walkExtensionHeaders } from './wire/ipv6.ts';
import {
  ND_NEIGHBOR_ADVERTISEMENT,
  ND_NEIGHBOR_SOLICITATION,
  ND_REDIRECT,
  ND_ROUTER_ADVERTISEMENT,
  ND_ROUTER_SOLICITATION,
  NdpMessage,
  parseNdp,
} from './wire/ndp.ts';
import { PROTOCOL_TCP, parseTcp, TcpHeader } from './wire/tcp.ts';
import { emitUdp, PROTOCOL_UDP, parseUdp, UDP_HEADER_LEN, UdpHeader } from './wire/udp.ts';
import {
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  type VnetHeader,
} from './wire/vnet-header.ts';

const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;
const ND_HOP_LIMIT = 255;
const VLAN_TAG = 4;
/** Multicast listener discovery, RFC 2710 and RFC 3810. */
const MLD_QUERY = 130;
const MLD_DONE = 132;
const MLD2_REPORT = 143;

/** Where the flows take over. Everything passed is borrowed until return. */
export interface IngressHandler {
  /** A TCP segment with good ports and checksum; `p.offset` is its header, the payload follows it. */
  onTcp(p: Packet, h: TcpHeader): void;
  /** A datagram, also to port 0; the payload is `h.length` - 8 bytes behind the header at `p.offset`. */
  onUdp(p: Packet, h: UdpHeader): void;
  /** An echo request to an address that is not ours. */
  onEcho(p: Packet): void;
  /**
   * An ICMP error "unreachable" about a packet of ours; its quote begins behind the ICMP header at `p.offset`. Whether it
   * meant anything.
   */
  onUnreachable(p: Packet, code: number): boolean;
  /** A frame is longer than the MTU: if it was raised and that is not known yet, now is the time. */
  onLong(): void;
}

export class Ingress {
  readonly #slab: Slab;
  readonly #link: Link;
  readonly #own: OwnAddresses;
  readonly #neighbors: NeighborTable;
  readonly #reassembler: Reassembler;
  readonly #icmp: Icmp;
  readonly #egress: Egress;
  readonly #dhcp: DhcpServer | null;
  readonly #ra: RouterAdvertiser | null;
  readonly #echoLimit: RateLimit | null;
  readonly #handler: IngressHandler;
  readonly #sharedMac: boolean;
  readonly #counters: Counters;

  readonly #packet = new Packet();
  readonly #ethernet = new EthernetHeader();
  readonly #arp = new ArpPacket();
  readonly #ip4 = new Ipv4Header();
  readonly #ip6 = new Ipv6Header();
  readonly #tcp = new TcpHeader();
  readonly #udp = new UdpHeader();
  readonly #icmpHeader = new IcmpHeader();
  readonly #neighborReply = new NeighborReply();
  readonly #advertisement = new NdpMessage();
  readonly #expired = new ExpiredFragment();
  readonly #address = new IpAddress();
  // The sender of the last frame: most frames come from the same one, which then is not learned again.
  readonly #lastSource = new IpAddress();
  #lastMacHi = -1;
  #lastMacLo = -1;

  constructor(parts: {
    slab: Slab;
    link: Link;
    own: OwnAddresses;
    neighbors: NeighborTable;
    reassembler: Reassembler;
    icmp: Icmp;
    egress: Egress;
    /** Null: not offered. */
    dhcp: DhcpServer | null;
    ra: RouterAdvertiser | null;
    /** Echo requests to all addresses are answered here, this many; null: those to our own, without a limit. */
    echoLimit?: RateLimit | null;
    handler: IngressHandler;
    counters: Counters;
    /** Frames that come from our own MAC address are taken as well. */
    sharedMac: boolean;
  }) {
    this.#slab = parts.slab;
    this.#link = parts.link;
    this.#own = parts.own;
    this.#neighbors = parts.neighbors;
    this.#reassembler = parts.reassembler;
    this.#icmp = parts.icmp;
    this.#egress = parts.egress;
    this.#dhcp = parts.dhcp;
    this.#ra = parts.ra;
    this.#echoLimit = parts.echoLimit ?? null;
    this.#handler = parts.handler;
    this.#sharedMac = parts.sharedMac;
    this.#counters = parts.counters;
  }

  /** Take the frame of `length` bytes at `offset`. `offload` is what the device said about it. */
  receive(offset: number, length: number, offload: VnetHeader, nowMs: number): void {
    this.#counters.add(Counter.RxPackets, 1);
    this.#counters.add(Counter.RxBytes, length);
    const reason = this.#receiveFrame(offset, length, offload, nowMs);
    if (reason < 0) this.#counters.drop(reason);
  }

  /** Deadlines of reassembly and router advertisements. */
  nextTimeoutMs(): number {
    const fragments = this.#reassembler.nextTimeoutMs();
    const advertisement = this.#ra === null ? Number.POSITIVE_INFINITY : this.#ra.nextTimeoutMs();
    return Math.min(fragments, advertisement);
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
      const type = e.isV4 ? ICMP4_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED;
      this.#icmp.error(p, type, ICMP_REASSEMBLY_TIMEOUT, 0, nowMs);
    }
    if (this.#ra !== null) {
      this.#sendAdvertisement(this.#ra.onTimeout(nowMs, this.#slab.view, this.#egress.transport));
    }
  }

  #isLong(length: number): boolean {
    if (this.#packet.gsoSize !== 0 || length <= this.#link.mtu) return false;
    this.#handler.onLong();
    return length > this.#link.mtu;
  }

  #receiveFrame(offset: number, length: number, offload: VnetHeader, nowMs: number): number {
    const p = this.#packet;
    p.checksumGood = (offload.flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID)) !== 0;
    p.gsoSize = offload.gsoType === 0 ? 0 : offload.gsoSize;
    p.reassembled = false;
    if (this.#link.medium === 'ip') {
      if (length < 1) return DropReason.LinkShort;
      if (this.#isLong(length)) return DropReason.LinkLong;
      const version = this.#slab.view.getUint8(offset) >>> 4;
      if (version === 4) return this.#receiveIpv4(offset, length, nowMs);
      if (version === 6) return this.#receiveIpv6(offset, length, nowMs);
      return DropReason.IpVersion;
    }
    const e = this.#ethernet;
    const reason = parseEthernet(this.#slab.view, offset, length, e);
    if (reason < 0) return reason;
    const own = this.#own;
    if (isGroupMac(e.srcHi)) return DropReason.LinkMac;
    if (e.srcHi === own.macHi && e.srcLo === own.macLo && !this.#sharedMac) return DropReason.LinkMac;
    if (!isGroupMac(e.dstHi) && (e.dstHi !== own.macHi || e.dstLo !== own.macLo)) return DropReason.LinkMac;
    const body = length - ETHERNET_HEADER_LEN;
    if (this.#isLong(body - VLAN_TAG)) return DropReason.LinkLong;
    switch (e.etherType) {
      case ETHERTYPE_IPV4:
        return this.#receiveIpv4(offset + ETHERNET_HEADER_LEN, body, nowMs);
      case ETHERTYPE_IPV6:
        return this.#receiveIpv6(offset + ETHERNET_HEADER_LEN, body, nowMs);
      case ETHERTYPE_ARP:
        return this.#receiveArp(offset + ETHERNET_HEADER_LEN, body, nowMs);
      default:
        return DropReason.LinkType;
    }
  }

  #receiveArp(offset: number, length: number, nowMs: number): number {
    this.#counters.add(Counter.RxArp, 1);
    const view = this.#slab.view;
    const arp = this.#arp;
    const reason = parseArp(view, offset, length, arp);
    if (reason < 0) return reason;
    this.#neighbors.learn(this.#address.setV4(arp.senderIp), arp.senderHi, arp.senderLo, nowMs);
    const size = answerArp(view, offset, length, view, this.#egress.transport, this.#own, this.#neighbors);
    if (size <= 0) return size;
    this.#egress.sendLinkLayer(arp.senderHi, arp.senderLo, ETHERTYPE_ARP, size);
    return 0;
  }

  #receiveIpv4(offset: number, length: number, nowMs: number): number {
    const view = this.#slab.view;
    const h = this.#ip4;
    const reason = parseIpv4(view, offset, length, h);
    if (reason < 0) return reason;
    const dhcp = h.src.isUnspecified && this.#isDhcp(offset, h);
    if (!dhcp) {
      const bad = this.#checkSource(h.src, h.dst);
      if (bad < 0) return bad;
      this.#learnSource(h.src, nowMs);
    }
    if (h.ttl === 0) return DropReason.Ip4Ttl;
    const p = this.#packet;
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
    if (h.ttl === 1 && !this.#own.owns(h.dst) && !isGroup4(h.dst)) {
      this.#icmp.timeExceeded(p, nowMs);
      return DropReason.Ip4Ttl;
    }
    switch (p.protocol) {
      case PROTOCOL_TCP:
        return this.#receiveTcp();
      case PROTOCOL_UDP:
        return this.#receiveUdp();
      case PROTOCOL_ICMP:
        return this.#receiveIcmp4(nowMs);
      default:
        this.#icmp.error(p, ICMP4_UNREACHABLE, ICMP4_PROTOCOL_UNREACHABLE, 0, nowMs);
        return DropReason.Ip4Proto;
    }
  }

  #receiveIpv6(offset: number, length: number, nowMs: number): number {
    if (!this.#own.ipv6) return DropReason.Ip6Addr;
    const view = this.#slab.view;
    const h = this.#ip6;
    const reason = parseIpv6(view, offset, length, h);
    const p = this.#packet;
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
      if (h.icmpCode >= 0 && this.#checkSource(h.src, h.dst) === 0) {
        this.#icmp.error(p, ICMP6_PARAMETER_PROBLEM, h.icmpCode, h.problemPointer, nowMs);
      }
      return reason;
    }
    if (!h.src.isUnspecified) {
      const bad = this.#checkSource(h.src, h.dst);
      if (bad < 0) return bad;
      this.#learnSource(h.src, nowMs);
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
    if (h.hopLimit === 1 && !this.#own.owns(h.dst) && !h.dst.isMulticast) {
      this.#icmp.timeExceeded(p, nowMs);
      return DropReason.Ip6HopLimit;
    }
    switch (p.protocol) {
      case PROTOCOL_TCP:
        return this.#receiveTcp();
      case PROTOCOL_UDP:
        return this.#receiveUdp();
      case PROTOCOL_ICMPV6:
        return this.#receiveIcmp6(nowMs);
      default:
        this.#icmp.error(
          p,
          ICMP6_PARAMETER_PROBLEM,
          ICMP6_UNKNOWN_NEXT_HEADER,
          h.unknownNextHeaderOff,
          nowMs,
        );
        return DropReason.Ip6Proto;
    }
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

  /** I-03, I-04, S-05: only the guest's own network speaks, and no group, and not we ourselves. */
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
      if (!own.onLink(src)) return DropReason.Ip4Spoof;
      if (own.owns(src)) return DropReason.Ip4Src;
      const hostMask = own.prefix4 >= 31 ? 0 : 0xffffffff >>> own.prefix4;
      const host = src.w3 & hostMask;
      if (hostMask !== 0 && (host === 0 || host === (hostMask | 0))) return DropReason.Ip4Src;
      return 0;
    }
    if (src.isMulticast || src.isUnspecified || src.isLoopback || src.equals(dst)) return DropReason.Ip6Addr;
    if (own.owns(src)) return DropReason.Ip6Addr;
    if (!own.onLink(src)) return DropReason.Ip6Spoof;
    // RFC 4291 §2.5.6: a router does not pass link-local sources on.
    if (src.isLinkLocal && !dst.isLinkLocal && !dst.isMulticast && !own.owns(dst)) return DropReason.Ip6Scope;
    return 0;
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

  #learnSource(src: IpAddress, nowMs: number): void {
    if (this.#link.medium === 'ip') return;
    const e = this.#ethernet;
    if (e.srcLo === this.#lastMacLo && e.srcHi === this.#lastMacHi && src.equals(this.#lastSource)) return;
    this.#lastSource.copyFrom(src);
    this.#lastMacHi = e.srcHi;
    this.#lastMacLo = e.srcLo;
    this.#neighbors.learn(src, e.srcHi, e.srcLo, nowMs);
  }

  #receiveTcp(): number {
    const p = this.#packet;
    const h = this.#tcp;
    this.#counters.add(Counter.RxTcp, 1);
    const reason = parseTcp(this.#slab.view, p.offset, p.length, h);
    if (reason < 0) return reason;
    if (!p.checksumGood && !this.#transportSumGood(PROTOCOL_TCP)) return DropReason.TcpCsum;
    if (p.dst.isMulticast || isGroup4(p.dst)) return DropReason.PolicyGroup;
    this.#handler.onTcp(p, h);
    return 0;
  }

  #receiveUdp(): number {
    const p = this.#packet;
    const h = this.#udp;
    this.#counters.add(Counter.RxUdp, 1);
    const reason = parseUdp(this.#slab.view, p.offset, p.length, h);
    if (reason < 0) return reason;
    if (h.checksum === 0) {
      if (!p.isV4) return DropReason.UdpCsum0;
    } else if (!p.checksumGood) {
      // RFC 768: the sum covers the length the UDP header states.
      p.length = h.length;
      if (!this.#transportSumGood(PROTOCOL_UDP)) return DropReason.UdpCsum;
    }
    if (h.dstPort === DHCP_SERVER_PORT && p.isV4 && this.#dhcp !== null) {
      if (p.dst.w3 === 0xffffffff || p.dst.equals(this.#own.gateway4)) {
        return this.#receiveDhcp(this.#dhcp);
      }
    }
    if (p.dst.isMulticast || isGroup4(p.dst) || this.#isLinkBroadcast(p.dst)) return DropReason.UdpGroup;
    if (h.srcPort === 0) return DropReason.UdpPort0;
    this.#handler.onUdp(p, h);
    return 0;
  }

  #receiveIcmp4(nowMs: number): number {
    const p = this.#packet;
    this.#counters.add(Counter.RxIcmp, 1);
    const reason = parseIcmp(this.#slab.view, p.offset, p.length, this.#icmpHeader);
    if (reason < 0) return reason;
    if (!p.checksumGood && foldSum(sumBytes(this.#slab.view, p.offset, p.length, 0)) !== 0xffff) {
      return DropReason.IcmpCsum;
    }
    switch (this.#icmpHeader.type) {
      case ICMP4_ECHO:
        if (this.#icmpHeader.code !== 0) return DropReason.IcmpMalformed;
        return this.#receiveEcho(nowMs);
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

  #receiveIcmp6(nowMs: number): number {
    const p = this.#packet;
    this.#counters.add(Counter.RxIcmp, 1);
    const view = this.#slab.view;
    const h = this.#icmpHeader;
    const reason = parseIcmp(view, p.offset, p.length, h);
    if (reason < 0) return reason;
    if (!p.checksumGood && !this.#transportSumGood(PROTOCOL_ICMPV6)) return DropReason.IcmpCsum;
    switch (h.type) {
      case ND_NEIGHBOR_SOLICITATION: {
        // RFC 6980: not in fragments.
        if (p.reassembled) return DropReason.NdMalformed;
        const at = this.#egress.transport;
        const reply = this.#neighborReply;
        const size = answerNeighborSolicitation(
          view,
          p.offset,
          p.length,
          this.#ip6,
          view,
          at,
          this.#own,
          reply,
          this.#neighbors,
        );
        if (size <= 0) return size;
        this.#egress.sendContiguous(reply.src, reply.dst, PROTOCOL_ICMPV6, ND_HOP_LIMIT, size, 0, 0);
        return 0;
      }
      case ND_ROUTER_SOLICITATION: {
        if (p.reassembled) return DropReason.NdMalformed;
        if (this.#ra === null) return DropReason.NdIgnored;
        const at = this.#egress.transport;
        const size = this.#ra.onSolicitation(view, p.offset, p.length, this.#ip6, nowMs, view, at);
        this.#sendAdvertisement(size);
        return Math.min(size, 0);
      }
      case ND_NEIGHBOR_ADVERTISEMENT:
        if (p.reassembled) return DropReason.NdMalformed;
        // The sender's address and MAC were learned from the frame already.
        return parseNdp(view, p.offset, p.length, p.ttl, h.code, this.#advertisement);
      case ND_ROUTER_ADVERTISEMENT:
      case ND_REDIRECT:
        return DropReason.NdIgnored;
      case ICMP6_ECHO:
        if (h.code !== 0) return DropReason.IcmpMalformed;
        return this.#receiveEcho(nowMs);
      case ICMP6_UNREACHABLE:
        return this.#handler.onUnreachable(p, h.code) ? 0 : DropReason.IcmpIgnored;
      case ICMP6_PACKET_TOO_BIG:
      case ICMP6_TIME_EXCEEDED:
      case ICMP6_PARAMETER_PROBLEM:
        return DropReason.IcmpIgnored;
      default:
        return DropReason.IcmpType;
    }
  }

  #receiveEcho(nowMs: number): number {
    const p = this.#packet;
    if (p.dst.isMulticast || isGroup4(p.dst) || this.#isLinkBroadcast(p.dst)) return DropReason.PolicyGroup;
    const limit = this.#echoLimit;
    if (limit !== null || this.#own.owns(p.dst)) {
      if (limit !== null && !limit.allow(nowMs)) return DropReason.IcmpLimit;
      this.#icmp.answerEcho(p);
      return 0;
    }
    if (p.length < ICMP_HEADER_LEN) return DropReason.IcmpMalformed;
    this.#handler.onEcho(p);
    return 0;
  }

  #isDhcp(offset: number, h: Ipv4Header): boolean {
    if (this.#dhcp === null || h.protocol !== PROTOCOL_UDP || h.dst.w3 !== 0xffffffff) return false;
    if (h.moreFragments || h.fragmentOffset > 0 || h.totalLen - h.headerLen < UDP_HEADER_LEN) return false;
    return this.#slab.view.getUint16(offset + h.headerLen + 2) === DHCP_SERVER_PORT;
  }

  #receiveDhcp(dhcp: DhcpServer): number {
    const p = this.#packet;
    const h = this.#udp;
    const view = this.#slab.view;
    const at = this.#egress.transport + UDP_HEADER_LEN;
    const size = dhcp.handle(view, p.offset + UDP_HEADER_LEN, h.length - UDP_HEADER_LEN, view, at);
    if (size <= 0) return size;
    const to = this.#address.setV4(dhcp.replyIp);
    const total = UDP_HEADER_LEN + size;
    emitUdp(view, this.#egress.transport, DHCP_SERVER_PORT, DHCP_CLIENT_PORT, total, 0);
    const pseudo = pseudoHeaderSum(this.#own.gateway4, to, PROTOCOL_UDP, total);
    const sum = ~foldSum(sumBytes(view, this.#egress.transport, total, pseudo)) & 0xffff;
    view.setUint16(this.#egress.transport + 6, sum === 0 ? 0xffff : sum);
    this.#egress.sendContiguous(this.#own.gateway4, to, PROTOCOL_UDP, 64, total, 0, 0);
    return 0;
  }

  #sendAdvertisement(size: number): void {
    const ra = this.#ra;
    if (size <= 0 || ra === null) return;
    this.#egress.sendContiguous(ra.src, ra.dst, PROTOCOL_ICMPV6, ND_HOP_LIMIT, size, 0, 0);
  }

  #transportSumGood(protocol: number): boolean {
    const p = this.#packet;
    const pseudo = pseudoHeaderSum(p.src, p.dst, protocol, p.length);
    return foldSum(sumBytes(this.#slab.view, p.offset, p.length, pseudo)) === 0xffff;
  }

  /** The broadcast or network address of the guest's own IPv4 network. */
  #isLinkBroadcast(address: IpAddress): boolean {
    const own = this.#own;
    if (!address.isV4 || !own.onLink(address) || own.prefix4 >= 31) return false;
    const hostMask = 0xffffffff >>> own.prefix4;
    const host = address.w3 & hostMask;
    return host === 0 || host === (hostMask | 0);
  }
}

/** Whether a packet was dropped as a fragment: `rx.fragments` counts those. */
function isFragmentReason(reason: number): boolean {
  return reason <= DropReason.FragTiny && reason >= DropReason.Frag6Chain;
}

/** Limited broadcast and class E: nobody's unicast address. */
function isGroup4(address: IpAddress): boolean {
  return address.isV4 && (address.isMulticast || address.w3 >>> 28 === 15);
}
