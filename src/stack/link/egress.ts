/**
 * From payload to frame: headers are written backwards in front of a fixed spot, the payload is named where it lies.
 *
 *   head region:  … | vnet | ethernet | IP | transport header | short bodies …
 *                                          ^ transport
 *
 * What a caller has written at `transport` is the head of the message, and may be all of it; the rest of it, if any, is
 * named in pieces (`OutPacket`). Fragments are cut from all of that as one run of bytes, wherever the head ends.
 *
 * Checksums go to the device where it takes them (the field then holds the pseudo-header sum, virtio 1.2 §5.1.6.2),
 * and so does segmentation. Datagrams larger than the MTU are fragmented here.
 */

import { Parts } from '../buffer/byte-queue.ts';
import type { StackScratch } from '../buffer/scratch.ts';
import type { Slab } from '../buffer/slab.ts';
import { Counter, type Counters } from '../counters.ts';
import type { OwnAddresses } from '../ip/own-addresses.ts';
import { Neighbor, type NeighborTable } from '../neighbor/cache.ts';
import type { Rng } from '../rng.ts';
import type { IpAddress } from '../wire/address.ts';
import { checksum, foldSum, pseudoHeaderSum, sumBytes } from '../wire/checksum.ts';
import { ETHERNET_HEADER_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, emitEthernet } from '../wire/ethernet.ts';
import { PROTOCOL_ICMPV6 } from '../wire/icmp.ts';
import { emitIpv4, IPV4_HEADER_LEN, Ipv4Header } from '../wire/ipv4.ts';
import {
  emitIpv6,
  IPV6_FRAGMENT_HEADER_LEN,
  IPV6_HEADER_LEN,
  IPV6_MIN_MTU,
  Ipv6Header,
  NEXT_HEADER_FRAGMENT,
} from '../wire/ipv6.ts';
import { ND_HOP_LIMIT } from '../wire/ndp.ts';
import { emitTcp, PROTOCOL_TCP, TCP_CHECKSUM_OFF, type TcpHeader } from '../wire/tcp.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN } from '../wire/udp.ts';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '../wire/vnet-header.ts';
import { type Link, MAX_PARTS, TxFrame } from './link.ts';
import { BY_ADDRESS, DEFAULT_TTL, NO_CHECKSUM, OutPacket } from './out-packet.ts';

const UDP_LENGTH_OFF = 4;
const UDP_CHECKSUM_OFF = 6;

export class Egress {
  /** Where the head of a message is written before `send`: the transport header, and short bodies behind it. */
  readonly transport: number;
  /** What is sent next. */
  readonly out: OutPacket = new OutPacket();
  readonly #slab: Slab;
  readonly #link: Link;
  readonly #own: OwnAddresses;
  readonly #neighbors: NeighborTable;
  readonly #counters: Counters;
  readonly #rng: Rng;
  readonly #frame = new TxFrame();
  /** Of a fragment. */
  readonly #pieces = new Parts(MAX_PARTS + 1);
  readonly #ip4 = new Ipv4Header();
  readonly #ip6 = new Ipv6Header();
  readonly #neighbor = new Neighbor();
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

  /** Begin a packet: nothing of it is there yet. */
  begin(src: IpAddress, dst: IpAddress, protocol: number): OutPacket {
    const { out } = this;
    out.src = src;
    out.dst = dst;
    out.protocol = protocol;
    out.ttl = DEFAULT_TTL;
    out.dontFragment = false;
    out.headLength = 0;
    out.parts.count = 0;
    out.payloadLength = 0;
    out.checksumAt = NO_CHECKSUM;
    out.segmentSize = 0;
    out.macHi = BY_ADDRESS;
    return out;
  }

  /** Begin a TCP segment with this header; its checksum is not looked at. */
  beginTcp(src: IpAddress, dst: IpAddress, h: TcpHeader): OutPacket {
    const out = this.begin(src, dst, PROTOCOL_TCP);
    out.headLength = emitTcp(this.#slab.view, this.transport, h);
    out.checksumAt = TCP_CHECKSUM_OFF;
    out.dontFragment = true;
    return out;
  }

  /** Begin a datagram, or several with the same addresses: then `segmentSize` is that of one, which needs `link.uso`. */
  beginUdp(src: IpAddress, srcPort: number, dst: IpAddress, dstPort: number): OutPacket {
    const out = this.begin(src, dst, PROTOCOL_UDP);
    emitUdp(this.#slab.view, this.transport, srcPort, dstPort, 0, 0);
    out.headLength = UDP_HEADER_LEN;
    out.checksumAt = UDP_CHECKSUM_OFF;
    return out;
  }

  /** Send `out`. 0, or `-errno`. */
  send(): number {
    const { out } = this;
    const total = out.headLength + out.payloadLength;
    const headerLength = out.src.isV4 ? IPV4_HEADER_LEN : IPV6_HEADER_LEN;
    const isWhole = out.dontFragment || out.segmentSize > 0 || headerLength + total <= this.#link.mtu;
    const { offload } = this.#frame;
    offload.flags = 0;
    offload.gsoType = VIRTIO_NET_HDR_GSO_NONE;
    if (out.checksumAt !== NO_CHECKSUM) this.#putChecksum(total, isWhole && this.#link.checksumOffload);
    if (!isWhole) return this.#sendFragments(total);
    this.#frame.parts = out.parts;
    if (out.src.isV4) this.#putIpv4(total, this.#takeId(), false, 0);
    else this.#putIpv6(out.protocol, 0, total);
    return this.#finish(headerLength, out.headLength, out.payloadLength);
  }

  /** Send the neighbour discovery message of `length` bytes at `transport`, checksum included. */
  sendNdp(src: IpAddress, dst: IpAddress, length: number): number {
    const out = this.begin(src, dst, PROTOCOL_ICMPV6);
    out.ttl = ND_HOP_LIMIT;
    out.headLength = length;
    return this.send();
  }

  /** Put a whole Ethernet frame body (ARP) on the link: `length` bytes at `transport`. */
  sendLinkLayer(dstHi: number, dstLo: number, etherType: number, length: number): number {
    const frame = this.#frame;
    frame.offload.flags = 0;
    frame.offload.gsoType = VIRTIO_NET_HDR_GSO_NONE;
    this.#pieces.count = 0;
    frame.parts = this.#pieces;
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

  /** Finish the head: with `offload`, the device adds up what the pseudo-header has not, and cuts what is to be cut. */
  #putChecksum(total: number, offload: boolean): void {
    const { out } = this;
    const { view } = this.#slab;
    const isUdp = out.protocol === PROTOCOL_UDP;
    if (isUdp) view.setUint16(this.transport + UDP_LENGTH_OFF, total);
    const at = this.transport + out.checksumAt;
    const pseudo = pseudoHeaderSum(out.src, out.dst, out.protocol, total);
    if (!offload) {
      view.setUint16(at, 0);
      const sum = checksum(this.#sumParts(sumBytes(view, this.transport, out.headLength, pseudo)));
      // RFC 768: a sum of zero is sent as all ones; zero means "none".
      view.setUint16(at, sum === 0 && isUdp ? 0xffff : sum);
      return;
    }
    view.setUint16(at, foldSum(pseudo));
    const { offload: h } = this.#frame;
    h.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    h.csumOffset = out.checksumAt;
    if (out.segmentSize === 0) return;
    h.gsoSize = out.segmentSize;
    if (isUdp) h.gsoType = VIRTIO_NET_HDR_GSO_UDP_L4;
    else h.gsoType = out.src.isV4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
  }

  #sendFragments(total: number): number {
    const { out } = this;
    const { isV4 } = out.src;
    const id = isV4 ? this.#takeId() : this.#rng.u32();
    // A link with less is none for IPv6; crumbs would only cost work.
    const most = isV4
      ? (this.#link.mtu - IPV4_HEADER_LEN) & ~7
      : (Math.max(this.#link.mtu, IPV6_MIN_MTU) - IPV6_HEADER_LEN - IPV6_FRAGMENT_HEADER_LEN) & ~7;
    this.#frame.parts = this.#pieces;
    let result = 0;
    for (let at = 0; at < total && result >= 0; at += most) {
      const size = Math.min(most, total - at);
      const more = at + size < total;
      // Of the first fragment, the head stands where it is sent from; all else is named where it lies.
      const inPlace = at === 0 ? Math.min(out.headLength, size) : 0;
      this.#slice(at + inPlace, size - inPlace);
      if (isV4) {
        this.#putIpv4(size, id, more, at);
        result = this.#finish(IPV4_HEADER_LEN, inPlace, size - inPlace);
      } else {
        this.#putFragmentHeader(out.protocol, at, more, id);
        this.#putIpv6(NEXT_HEADER_FRAGMENT, IPV6_FRAGMENT_HEADER_LEN, size);
        result = this.#finish(IPV6_HEADER_LEN + IPV6_FRAGMENT_HEADER_LEN, inPlace, size - inPlace);
      }
    }
    return result;
  }

  /** Name in `#pieces` where the `length` bytes of the message from `start` on are. */
  #slice(start: number, length: number): void {
    const { parts, headLength } = this.out;
    const pieces = this.#pieces;
    pieces.count = 0;
    let skip = start;
    let left = length;
    for (let i = -1; i < parts.count && left > 0; i++) {
      const offset = i < 0 ? this.transport : (parts.offset[i] as number);
      const size = i < 0 ? headLength : (parts.length[i] as number);
      const taken = Math.min(size - skip, left);
      if (taken > 0) pieces.add(offset + skip, taken);
      left -= Math.max(taken, 0);
      skip = Math.max(skip - size, 0);
    }
  }

  #putFragmentHeader(protocol: number, fragmentOffset: number, moreFragments: boolean, id: number): void {
    const { view } = this.#slab;
    const at = this.transport - IPV6_FRAGMENT_HEADER_LEN;
    view.setUint8(at, protocol);
    view.setUint8(at + 1, 0);
    view.setUint16(at + 2, fragmentOffset | (moreFragments ? 1 : 0));
    view.setUint32(at + 4, id);
  }

  #putIpv4(payload: number, id: number, moreFragments: boolean, fragmentOffset: number): void {
    const { out } = this;
    const h = this.#ip4;
    h.totalLen = IPV4_HEADER_LEN + payload;
    h.id = id;
    h.dontFragment = out.dontFragment;
    h.moreFragments = moreFragments;
    h.fragmentOffset = fragmentOffset;
    h.ttl = out.ttl;
    h.protocol = out.protocol;
    h.src.copyFrom(out.src);
    h.dst.copyFrom(out.dst);
    emitIpv4(this.#slab.view, this.transport - IPV4_HEADER_LEN, h);
  }

  #putIpv6(nextHeader: number, extensionLength: number, payload: number): void {
    const { out } = this;
    const h = this.#ip6;
    h.payloadLen = extensionLength + payload;
    h.nextHeader = nextHeader;
    h.hopLimit = out.ttl;
    h.src.copyFrom(out.src);
    h.dst.copyFrom(out.dst);
    emitIpv6(this.#slab.view, this.transport - extensionLength - IPV6_HEADER_LEN, h);
  }

  /** Link header, offload offsets, and off it goes. */
  #finish(ipLength: number, headLength: number, length: number): number {
    const frame = this.#frame;
    let head = this.transport - ipLength;
    if (this.#link.medium === 'ethernet') {
      head -= ETHERNET_HEADER_LEN;
      this.#resolve();
      emitEthernet(
        this.#slab.view,
        head,
        this.#neighbor.macHi,
        this.#neighbor.macLo,
        this.#own.macHi,
        this.#own.macLo,
        this.out.src.isV4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6,
      );
    }
    frame.headOffset = head;
    frame.headLength = this.transport - head + headLength;
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

  /** Sum over the payload; a piece that begins at an odd place counts with its bytes swapped. */
  #sumParts(initial: number): number {
    const { parts } = this.out;
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

  /** The link address that the packet goes to, in `#neighbor`. */
  #resolve(): void {
    const { dst, macHi, macLo } = this.out;
    const neighbor = this.#neighbor;
    if (macHi !== BY_ADDRESS) {
      neighbor.macHi = macHi;
      neighbor.macLo = macLo;
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
