/**
 * From frame to meaning: every field of every frame is checked, once, and what is left goes to the stack's own services
 * or to the handler (the flows). A bad packet is a counted drop or the reply its RFC asks for, never an exception.
 *
 * This file has the link: frames, lengths and ARP (RFC 826). Then ip/input.ts, and transport/input.ts or icmp/input.ts.
 */
import type { Slab } from '../buffer/slab.ts';
import { Counter, type Counters } from '../counters.ts';
import { IpInput } from '../ip/input.ts';
import type { OwnAddresses } from '../ip/own-addresses.ts';
import { answerArp, type NeighborTable } from '../neighbor/cache.ts';
import { IpAddress } from '../wire/address.ts';
import { ArpPacket, parseArp } from '../wire/arp.ts';
import { DropReason } from '../wire/drop-reason.ts';
import {
  ETHERNET_HEADER_LEN,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  EthernetHeader,
  isGroupMac,
  parseEthernet,
} from '../wire/ethernet.ts';
import {
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_UDP,
  type VnetHeader,
} from '../wire/vnet-header.ts';
import type { Egress } from './egress.ts';
import type { IngressParts } from './ingress-parts.ts';
import type { Link } from './link.ts';
import { Packet } from './packet.ts';

const VLAN_TAG = 4;

export class Ingress {
  readonly #slab: Slab;
  readonly #link: Link;
  readonly #own: OwnAddresses;
  readonly #neighbors: NeighborTable;
  readonly #egress: Egress;
  readonly #sharedMac: boolean;
  readonly #counters: Counters;
  readonly #ip: IpInput;

  readonly #packet = new Packet();
  readonly #ethernet = new EthernetHeader();
  readonly #arp = new ArpPacket();
  readonly #address = new IpAddress();

  constructor(parts: IngressParts) {
    this.#slab = parts.slab;
    this.#link = parts.link;
    this.#own = parts.own;
    this.#neighbors = parts.neighbors;
    this.#egress = parts.egress;
    this.#sharedMac = parts.sharedMac;
    this.#counters = parts.counters;
    this.#ip = new IpInput(parts, this.#packet);
  }

  /** Take the frame of `length` bytes at `offset`. `offload` is what the device said about it. */
  receive(offset: number, length: number, offload: VnetHeader, nowMs: number): void {
    this.#counters.add(Counter.RxPackets, 1);
    this.#counters.add(Counter.RxBytes, length);
    const reason = this.#receiveFrame(offset, length, offload, nowMs);
    if (reason < 0) this.#counters.drop(reason);
  }

  /** The reassembler's or the router advertiser's time has come. */
  onTimeout(nowMs: number): void {
    this.#ip.onTimeout(nowMs);
  }

  #isLong(length: number, offload: VnetHeader): boolean {
    if (offload.gsoType !== VIRTIO_NET_HDR_GSO_NONE || length <= this.#link.mtu) return false;
    const { mru } = this.#link;
    if (mru !== undefined) return length > mru;
    this.#link.refreshMtu();
    return length > this.#link.mtu;
  }

  #receiveFrame(offset: number, length: number, offload: VnetHeader, nowMs: number): number {
    const p = this.#packet;
    p.checksumGood = (offload.flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID)) !== 0;
    // UFO is for IP to cut: one datagram.
    const isOne = offload.gsoType === VIRTIO_NET_HDR_GSO_NONE || offload.gsoType === VIRTIO_NET_HDR_GSO_UDP;
    p.gsoSize = isOne ? 0 : offload.gsoSize;
    p.reassembled = false;
    p.linkGroup = false;
    if (this.#link.medium === 'ip') {
      if (length < 1) return DropReason.LinkShort;
      if (this.#isLong(length, offload)) return DropReason.LinkLong;
      const version = this.#slab.view.getUint8(offset) >>> 4;
      if (version === 4) return this.#ip.receiveIpv4(offset, length, nowMs);
      if (version === 6) return this.#ip.receiveIpv6(offset, length, nowMs);
      return DropReason.IpVersion;
    }
    const e = this.#ethernet;
    const reason = parseEthernet(this.#slab.view, offset, length, e);
    if (reason < 0) return reason;
    const own = this.#own;
    if (isGroupMac(e.srcHi)) return DropReason.LinkMac;
    if (e.srcHi === own.macHi && e.srcLo === own.macLo && !this.#sharedMac) return DropReason.LinkMac;
    p.linkGroup = isGroupMac(e.dstHi);
    const isOurs = p.linkGroup || (e.dstHi === own.macHi && e.dstLo === own.macLo);
    if (!isOurs && !this.#sharedMac) return DropReason.LinkMac;
    p.macHi = e.srcHi;
    p.macLo = e.srcLo;
    const body = length - ETHERNET_HEADER_LEN;
    if (this.#isLong(body - VLAN_TAG, offload)) return DropReason.LinkLong;
    switch (e.etherType) {
      case ETHERTYPE_IPV4:
        return this.#ip.receiveIpv4(offset + ETHERNET_HEADER_LEN, body, nowMs);
      case ETHERTYPE_IPV6:
        return this.#ip.receiveIpv6(offset + ETHERNET_HEADER_LEN, body, nowMs);
      case ETHERTYPE_ARP:
        return this.#receiveArp(offset + ETHERNET_HEADER_LEN, body);
      default:
        return DropReason.LinkType;
    }
  }

  #receiveArp(offset: number, length: number): number {
    this.#counters.add(Counter.RxArp, 1);
    const view = this.#slab.view;
    const arp = this.#arp;
    const reason = parseArp(view, offset, length, arp);
    if (reason < 0) return reason;
    this.#neighbors.learn(this.#address.setV4(arp.senderIp), arp.senderHi, arp.senderLo);
    const size = answerArp(arp, view, this.#egress.transport, this.#own, this.#neighbors);
    if (size <= 0) return size;
    this.#egress.sendLinkLayer(arp.senderHi, arp.senderLo, ETHERTYPE_ARP, size);
    return 0;
  }
}
