/**
 * From payload to frame: headers are written backwards in front of a fixed spot, the payload is named where it lies.
 *
 *   head region:  … | vnet | ethernet | IP | transport header | short bodies …
 *                                          ^ transport
 *
 * What a caller has written at `transport` is the head of the datagram, and may be all of it; the rest of it, if any, is
 * apart from it in the arena. Fragments are cut from the two as one run of bytes, wherever the head ends.
 *
 * Checksums go to the device where it takes them (the field then holds the pseudo-header sum, virtio 1.2 §5.1.6.2),
 * and so does segmentation. Datagrams larger than the MTU are fragmented here.
 */

import type { Parts } from '../buffer/byte-queue.ts';
import type { StackScratch } from '../buffer/scratch.ts';
import type { Slab } from '../buffer/slab.ts';
import { Counter, type Counters } from '../counters.ts';
import type { OwnAddresses } from '../ip/own-addresses.ts';
import { Neighbor, type NeighborTable } from '../neighbor/cache.ts';
import type { Rng } from '../rng.ts';
import type { IpAddress } from '../wire/address.ts';
import { checksum, foldSum, pseudoHeaderSum, sumBytes } from '../wire/checksum.ts';
import { ETHERNET_HEADER_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, emitEthernet } from '../wire/ethernet.ts';
import { emitIpv4, IPV4_HEADER_LEN, Ipv4Header } from '../wire/ipv4.ts';
import {
  emitIpv6,
  IPV6_FRAGMENT_HEADER_LEN,
  IPV6_HEADER_LEN,
  IPV6_MIN_MTU,
  Ipv6Header,
  NEXT_HEADER_FRAGMENT,
} from '../wire/ipv6.ts';
import { emitTcp, PROTOCOL_TCP, TCP_CHECKSUM_OFF, type TcpHeader, tcpHeaderLength } from '../wire/tcp.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN } from '../wire/udp.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../wire/vnet-header.ts';
import { type Link, TxFrame } from './link.ts';

/** RFC 1122 §3.2.1.7 and what every current system uses. */
export const DEFAULT_TTL = 64;
const UDP_CHECKSUM_OFF = 6;
const IPV4_DF = true;
/** No MAC address: the neighbour table has it. */
const BY_ADDRESS = -1;

export class Egress {
  /** Where transport headers (and short bodies behind them) are written before a `send…` call. */
  readonly transport: number;
  readonly #slab: Slab;
  readonly #link: Link;
  readonly #own: OwnAddresses;
  readonly #neighbors: NeighborTable;
  readonly #counters: Counters;
  readonly #rng: Rng;
  readonly #frame = new TxFrame();
  readonly #ip4 = new Ipv4Header();
  readonly #ip6 = new Ipv6Header();
  readonly #neighbor = new Neighbor();
  /** Where the message at hand goes, unless `BY_ADDRESS`. */
  #macHi = BY_ADDRESS;
  #macLo = 0;
  #nextId: number;

  constructor(
    { slab, transport }: StackScratch,
    link: Link,
    own: OwnAddresses,
    neighbors: NeighborTable,
    counters: Counters,
    rng: Rng,
  ) {
    this.#slab = slab;
    this.#link = link;
    this.#own = own;
    this.#neighbors = neighbors;
    this.#counters = counters;
    this.#rng = rng;
    this.#nextId = rng.u32() & 0xffff;
    this.transport = transport;
  }

  /** Where a caller puts the payload pieces of the next frame. */
  get parts(): Parts {
    return this.#frame.parts;
  }

  /**
   * Send a TCP segment whose payload (`length` bytes) is named by `parts`. With `length` > `mss` the device cuts it
   * into segments of `mss` bytes.
   */
  sendTcp(src: IpAddress, dst: IpAddress, h: TcpHeader, length: number, mss: number): number {
    const view = this.#slab.view;
    const at = this.transport;
    const headerLength = tcpHeaderLength(h);
    const total = headerLength + length;
    const pseudo = pseudoHeaderSum(src, dst, PROTOCOL_TCP, total);
    const offload = this.#frame.offload;
    offload.flags = 0;
    offload.gsoType = VIRTIO_NET_HDR_GSO_NONE;
    h.checksum = this.#link.checksumOffload ? foldSum(pseudo) : 0;
    emitTcp(view, at, h);
    if (this.#link.checksumOffload) {
      offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
      offload.csumOffset = TCP_CHECKSUM_OFF;
      if (length > mss) {
        offload.gsoType = src.isV4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
        offload.gsoSize = mss;
      }
    } else {
      const sum = this.#sumParts(sumBytes(view, at, headerLength, pseudo));
      view.setUint16(at + TCP_CHECKSUM_OFF, checksum(sum));
    }
    return this.#sendWhole(src, dst, PROTOCOL_TCP, DEFAULT_TTL, 0, headerLength, length, IPV4_DF);
  }

  /** Send one datagram of `length` payload bytes at `offset`, in fragments where it must be. */
  sendUdp(
    src: IpAddress,
    srcPort: number,
    dst: IpAddress,
    dstPort: number,
    offset: number,
    length: number,
  ): number {
    const view = this.#slab.view;
    const at = this.transport;
    const total = UDP_HEADER_LEN + length;
    const pseudo = pseudoHeaderSum(src, dst, PROTOCOL_UDP, total);
    const offload = this.#frame.offload;
    offload.flags = 0;
    offload.gsoType = VIRTIO_NET_HDR_GSO_NONE;
    const whole = total + ipHeaderLength(src) <= this.#link.mtu;
    if (whole && this.#link.checksumOffload) {
      emitUdp(view, at, srcPort, dstPort, total, foldSum(pseudo));
      offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
      offload.csumOffset = UDP_CHECKSUM_OFF;
    } else {
      emitUdp(view, at, srcPort, dstPort, total, 0);
      const sum = checksum(sumBytes(view, offset, length, sumBytes(view, at, UDP_HEADER_LEN, pseudo)));
      // RFC 768: a sum of zero is sent as all ones; zero means "none".
      view.setUint16(at + UDP_CHECKSUM_OFF, sum === 0 ? 0xffff : sum);
    }
    return this.#sendCut(src, dst, PROTOCOL_UDP, DEFAULT_TTL, UDP_HEADER_LEN, offset, length);
  }

  /**
   * Send several datagrams of `size` bytes (the last may be shorter) with the same addresses as one batch that the
   * kernel takes apart. `parts` names their payloads one after the other, `length` bytes in all. Needs `link.uso`.
   */
  sendUdpBatch(
    src: IpAddress,
    srcPort: number,
    dst: IpAddress,
    dstPort: number,
    length: number,
    size: number,
  ): number {
    const total = UDP_HEADER_LEN + length;
    const pseudo = pseudoHeaderSum(src, dst, PROTOCOL_UDP, total);
    emitUdp(this.#slab.view, this.transport, srcPort, dstPort, total, foldSum(pseudo));
    const offload = this.#frame.offload;
    offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    offload.csumOffset = UDP_CHECKSUM_OFF;
    offload.gsoType = VIRTIO_NET_HDR_GSO_UDP_L4;
    offload.gsoSize = size;
    return this.#sendWhole(src, dst, PROTOCOL_UDP, DEFAULT_TTL, 0, UDP_HEADER_LEN, length, false);
  }

  /**
   * Send what stands at `transport` (`headLength` bytes, checksum included) followed by `length` bytes at `offset`;
   * fragmented where it must be. For ICMP and anything else whose checksum the caller made.
   */
  send(
    src: IpAddress,
    dst: IpAddress,
    protocol: number,
    ttl: number,
    headLength: number,
    offset = 0,
    length = 0,
  ): number {
    this.#frame.offload.flags = 0;
    this.#frame.offload.gsoType = VIRTIO_NET_HDR_GSO_NONE;
    return this.#sendCut(src, dst, protocol, ttl, headLength, offset, length);
  }

  /** The same with a whole message at `transport`, to this MAC address whatever is known of `dst`. */
  sendToMac(
    macHi: number,
    macLo: number,
    src: IpAddress,
    dst: IpAddress,
    protocol: number,
    ttl: number,
    length: number,
  ): number {
    this.#macHi = macHi;
    this.#macLo = macLo;
    const result = this.send(src, dst, protocol, ttl, length);
    this.#macHi = BY_ADDRESS;
    return result;
  }

  /** Put a whole Ethernet frame body (ARP) on the link: `length` bytes at `transport`. */
  sendLinkLayer(dstHi: number, dstLo: number, etherType: number, length: number): number {
    const frame = this.#frame;
    frame.offload.flags = 0;
    frame.offload.gsoType = VIRTIO_NET_HDR_GSO_NONE;
    frame.parts.count = 0;
    frame.payloadLength = 0;
    frame.headOffset = this.transport - ETHERNET_HEADER_LEN;
    frame.headLength = ETHERNET_HEADER_LEN + length;
    emitEthernet(
      this.#slab.view,
      frame.headOffset,
      dstHi,
      dstLo,
      this.#own.macHi,
      this.#own.macLo,
      etherType,
    );
    return this.#transmit();
  }

  #sendCut(
    src: IpAddress,
    dst: IpAddress,
    protocol: number,
    ttl: number,
    headLength: number,
    offset: number,
    length: number,
  ): number {
    const parts = this.#frame.parts;
    const total = headLength + length;
    if (ipHeaderLength(src) + total <= this.#link.mtu) {
      parts.count = 0;
      if (length > 0) parts.add(offset, length);
      return this.#sendWhole(src, dst, protocol, ttl, 0, headLength, length, false);
    }
    const { isV4 } = src;
    const id = isV4 ? this.#takeId() : this.#rng.u32();
    // A link with less is none for IPv6; crumbs would only cost work.
    const most = isV4
      ? (this.#link.mtu - IPV4_HEADER_LEN) & ~7
      : (Math.max(this.#link.mtu, IPV6_MIN_MTU) - IPV6_HEADER_LEN - IPV6_FRAGMENT_HEADER_LEN) & ~7;
    let result = 0;
    for (let at = 0; at < total && result >= 0; at += most) {
      const size = Math.min(most, total - at);
      const more = at + size < total;
      // Of the first fragment, the head stands where it is sent from; all else is named where it lies.
      const inPlace = at === 0 ? Math.min(headLength, size) : 0;
      const inHead = Math.min(Math.max(headLength - at, 0), size);
      parts.count = 0;
      if (inHead > inPlace) parts.add(this.transport + at, inHead);
      if (size > inHead) parts.add(offset + at + inHead - headLength, size - inHead);
      if (isV4) {
        this.#putIpv4(src, dst, protocol, ttl, 0, size, id, false, more, at);
        result = this.#finish(src, dst, IPV4_HEADER_LEN, inPlace, size - inPlace);
      } else {
        this.#putFragmentHeader(protocol, at, more, id);
        this.#putIpv6(src, dst, NEXT_HEADER_FRAGMENT, ttl, 0, IPV6_FRAGMENT_HEADER_LEN, size);
        const headers = IPV6_HEADER_LEN + IPV6_FRAGMENT_HEADER_LEN;
        result = this.#finish(src, dst, headers, inPlace, size - inPlace);
      }
    }
    return result;
  }

  #putFragmentHeader(protocol: number, fragmentOffset: number, moreFragments: boolean, id: number): void {
    const { view } = this.#slab;
    const at = this.transport - IPV6_FRAGMENT_HEADER_LEN;
    view.setUint8(at, protocol);
    view.setUint8(at + 1, 0);
    view.setUint16(at + 2, fragmentOffset | (moreFragments ? 1 : 0));
    view.setUint32(at + 4, id);
  }

  #sendWhole(
    src: IpAddress,
    dst: IpAddress,
    protocol: number,
    ttl: number,
    tos: number,
    headerLength: number,
    length: number,
    dontFragment: boolean,
  ): number {
    if (src.isV4) {
      this.#putIpv4(
        src,
        dst,
        protocol,
        ttl,
        tos,
        headerLength + length,
        this.#takeId(),
        dontFragment,
        false,
        0,
      );
      return this.#finish(src, dst, IPV4_HEADER_LEN, headerLength, length);
    }
    this.#putIpv6(src, dst, protocol, ttl, tos, 0, headerLength + length);
    return this.#finish(src, dst, IPV6_HEADER_LEN, headerLength, length);
  }

  #putIpv4(
    src: IpAddress,
    dst: IpAddress,
    protocol: number,
    ttl: number,
    tos: number,
    payload: number,
    id: number,
    dontFragment: boolean,
    moreFragments: boolean,
    fragmentOffset: number,
  ): void {
    const h = this.#ip4;
    h.tos = tos;
    h.totalLen = IPV4_HEADER_LEN + payload;
    h.id = id;
    h.dontFragment = dontFragment;
    h.moreFragments = moreFragments;
    h.fragmentOffset = fragmentOffset;
    h.ttl = ttl;
    h.protocol = protocol;
    h.src.copyFrom(src);
    h.dst.copyFrom(dst);
    emitIpv4(this.#slab.view, this.transport - IPV4_HEADER_LEN, h);
  }

  #putIpv6(
    src: IpAddress,
    dst: IpAddress,
    nextHeader: number,
    hopLimit: number,
    trafficClass: number,
    extensionLength: number,
    payload: number,
  ): void {
    const h = this.#ip6;
    h.trafficClass = trafficClass;
    h.flowLabel = 0;
    h.payloadLen = extensionLength + payload;
    h.nextHeader = nextHeader;
    h.hopLimit = hopLimit;
    h.src.copyFrom(src);
    h.dst.copyFrom(dst);
    emitIpv6(this.#slab.view, this.transport - extensionLength - IPV6_HEADER_LEN, h);
  }

  /** Link header, offload offsets, and off it goes. */
  #finish(src: IpAddress, dst: IpAddress, ipLength: number, headerLength: number, length: number): number {
    const frame = this.#frame;
    let head = this.transport - ipLength;
    if (this.#link.medium === 'ethernet') {
      head -= ETHERNET_HEADER_LEN;
      this.#resolve(dst);
      emitEthernet(
        this.#slab.view,
        head,
        this.#neighbor.macHi,
        this.#neighbor.macLo,
        this.#own.macHi,
        this.#own.macLo,
        src.isV4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6,
      );
    }
    frame.headOffset = head;
    frame.headLength = this.transport - head + headerLength;
    frame.payloadLength = length;
    frame.offload.csumStart = this.transport - head;
    frame.offload.hdrLen = frame.headLength;
    return this.#transmit();
  }

  #transmit(): number {
    const frame = this.#frame;
    const result = this.#link.transmit(frame);
    if (result < 0) {
      this.#counters.add(Counter.TxErrors, 1);
      return result;
    }
    this.#counters.add(Counter.TxPackets, 1);
    this.#counters.add(Counter.TxBytes, frame.headLength + frame.payloadLength);
    return 0;
  }

  /** Sum over the pieces in `parts`; a piece that begins at an odd place counts with its bytes swapped. */
  #sumParts(initial: number): number {
    const parts = this.#frame.parts;
    let sum = initial;
    let odd = false;
    for (let i = 0; i < parts.count; i++) {
      const length = parts.length[i] as number;
      if (odd) {
        const piece = foldSum(sumBytes(this.#slab.view, parts.offset[i] as number, length, 0));
        sum += ((piece & 0xff) << 8) | (piece >>> 8);
      } else {
        sum = sumBytes(this.#slab.view, parts.offset[i] as number, length, sum);
      }
      if ((length & 1) !== 0) odd = !odd;
    }
    return sum;
  }

  /** The link address of `dst`, in `#neighbor`. */
  #resolve(dst: IpAddress): void {
    const neighbor = this.#neighbor;
    if (this.#macHi !== BY_ADDRESS) {
      neighbor.macHi = this.#macHi;
      neighbor.macLo = this.#macLo;
      return;
    }
    if (this.#neighbors.route(dst, neighbor)) return;
    if (!dst.isV4 && dst.isMulticast) {
      // RFC 2464 §7.
      neighbor.macHi = 0x3333;
      neighbor.macLo = dst.w3;
      return;
    }
    // A client that is only just being configured (DHCP), or one that never spoke.
    neighbor.macHi = 0xffff;
    neighbor.macLo = 0xffffffff;
  }

  #takeId(): number {
    this.#nextId = (this.#nextId + 1) & 0xffff;
    return this.#nextId;
  }
}

function ipHeaderLength(address: IpAddress): number {
  return address.isV4 ? IPV4_HEADER_LEN : IPV6_HEADER_LEN;
}
