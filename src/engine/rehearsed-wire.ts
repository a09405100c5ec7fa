/**
 * The guest's end of the device of a rehearsal (rehearsed-guest.ts): a station with one address that resolves the gateway,
 * and sends and understands as much of IPv4 as its conversations need. One connection, datagram or echo at a time.
 */
import { defaultAddresses } from '../config.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { OwnAddresses } from '../stack/ip/own-addresses.ts';
import { seqAdd } from '../stack/tcp/seq.ts';
import type { IpAddress } from '../stack/wire/address.ts';
import { ARP_REQUEST, ArpPacket, emitArp } from '../stack/wire/arp.ts';
import { ETHERNET_HEADER_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, emitEthernet } from '../stack/wire/ethernet.ts';
import { emitIpv4, IPV4_HEADER_LEN, Ipv4Header, parseIpv4 } from '../stack/wire/ipv4.ts';
import {
  emitTcp,
  PROTOCOL_TCP,
  parseTcp,
  TCP_CHECKSUM_OFF,
  TCP_FIN,
  TCP_RST,
  TCP_SYN,
  TcpHeader,
} from '../stack/wire/tcp.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN } from '../stack/wire/udp.ts';
import {
  emitVnet,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VNET_HEADER_LEN,
  VnetHeader,
} from '../stack/wire/vnet-header.ts';
import { read, write } from '../sys/io.ts';
import type { Memory } from '../sys/memory.ts';

export const MTU = 1500;
const MSS = 1460;
const WINDOW = 65535;
const FRAME_MAX = 69632;
const GUEST_MAC_HI = 0x0200;
const GUEST_MAC_LO = 0x5e000001;
const IP_AT = VNET_HEADER_LEN + ETHERNET_HEADER_LEN;
const TRANSPORT_AT = IP_AT + IPV4_HEADER_LEN;
/** Bytes of options that our segments have: the timestamps. */
const TIMESTAMPS = 12;
const UDP_CHECKSUM_OFF = 6;

/** It went otherwise; nothing is lost. */
export class Unexpected extends Error {}

/** `result`, unless it is `-errno`. */
export function must(result: number): number {
  if (result < 0) throw new Unexpected(`errno ${-result}`);
  return result;
}

export class RehearsedWire {
  /** Of the other end. */
  readonly addresses: OwnAddresses = new OwnAddresses(defaultAddresses);
  /** Bytes of payload in the last segment received. */
  answered = 0;
  /** Where a frame's transport header is to be put before it is sent. */
  readonly transport: number;
  readonly #fd: number;
  readonly #slab: Slab;
  readonly #memory: Memory;
  readonly #out: number;
  readonly #in: number;
  readonly #ip = new Ipv4Header();
  readonly #tcp = new TcpHeader();
  readonly #answer = new TcpHeader();
  readonly #offload = new VnetHeader();

  /** `fd` stays the caller's. */
  constructor(fd: number, slab: Slab, memory: Memory) {
    this.#fd = fd;
    this.#slab = slab;
    this.#memory = memory;
    this.#out = slab.region(FRAME_MAX);
    this.#in = slab.region(FRAME_MAX);
    this.transport = this.#out + TRANSPORT_AT;
  }

  /** Ask for the gateway's link address, and tell ours. */
  solicit(): void {
    const { view } = this.#slab;
    const at = this.#out + VNET_HEADER_LEN;
    const arp = new ArpPacket();
    arp.operation = ARP_REQUEST;
    arp.senderHi = GUEST_MAC_HI;
    arp.senderLo = GUEST_MAC_LO;
    arp.senderIp = this.addresses.guest4.w3;
    arp.targetIp = this.addresses.gateway4.w3;
    emitEthernet(view, at, 0xffff, 0xffffffff, GUEST_MAC_HI, GUEST_MAC_LO, ETHERTYPE_ARP);
    const length = emitArp(view, at + ETHERNET_HEADER_LEN, arp);
    this.#offload.flags = 0;
    emitVnet(view, this.#out, this.#offload);
    this.#write(VNET_HEADER_LEN + ETHERNET_HEADER_LEN + length);
  }

  /** Send `length` bytes that lie behind the place of a UDP header. */
  datagram(sourcePort: number, to: IpAddress, port: number, length: number): void {
    emitUdp(this.#slab.view, this.transport, sourcePort, port, UDP_HEADER_LEN + length, 0);
    this.send(PROTOCOL_UDP, to, UDP_HEADER_LEN + length, UDP_CHECKSUM_OFF);
  }

  /** Begin a new connection with the next segment. */
  connection(sourcePort: number, port: number, sequence: number): void {
    const h = this.#tcp;
    h.srcPort = sourcePort;
    h.dstPort = port;
    h.seq = sequence;
    h.ack = 0;
    h.window = WINDOW;
    h.hasTimestamps = true;
  }

  /** Send a segment of the connection, acknowledging all that has come. */
  segment(to: IpAddress, flags: number, payload: number): void {
    const h = this.#tcp;
    const isFirst = (flags & TCP_SYN) !== 0;
    h.mss = isFirst ? MSS : -1;
    h.sackPermitted = isFirst;
    h.windowScale = isFirst ? 7 : -1;
    h.flags = flags;
    h.tsVal++;
    h.tsEcr = this.#answer.tsVal;
    const header = emitTcp(this.#slab.view, this.transport, h);
    this.send(PROTOCOL_TCP, to, header + payload, TCP_CHECKSUM_OFF);
    h.seq = seqAdd(h.seq, payload + ((flags & (TCP_SYN | TCP_FIN)) === 0 ? 0 : 1));
  }

  /** Send the `length` bytes at `transport`, whose checksum is `checksumAt` bytes behind their begin; -1: it is there. */
  send(protocol: number, to: IpAddress, length: number, checksumAt: number): void {
    const { view } = this.#slab;
    const ip = this.#ip;
    ip.protocol = protocol;
    ip.ttl = 64;
    ip.totalLen = IPV4_HEADER_LEN + length;
    ip.src.copyFrom(this.addresses.guest4);
    ip.dst.copyFrom(to);
    emitIpv4(view, this.#out + IP_AT, ip);
    const { macHi, macLo } = this.addresses;
    emitEthernet(view, this.#out + VNET_HEADER_LEN, macHi, macLo, GUEST_MAC_HI, GUEST_MAC_LO, ETHERTYPE_IPV4);
    const offload = this.#offload;
    const headers = TRANSPORT_AT - VNET_HEADER_LEN;
    offload.flags = checksumAt < 0 ? 0 : VIRTIO_NET_HDR_F_NEEDS_CSUM;
    offload.csumStart = checksumAt < 0 ? 0 : headers;
    offload.csumOffset = Math.max(0, checksumAt);
    const isLarge = length > MTU - IPV4_HEADER_LEN;
    offload.gsoType = isLarge ? VIRTIO_NET_HDR_GSO_TCPV4 : 0;
    offload.gsoSize = isLarge ? MSS - TIMESTAMPS : 0;
    offload.hdrLen = isLarge ? headers + 20 + TIMESTAMPS : 0;
    emitVnet(view, this.#out, offload);
    this.#write(TRANSPORT_AT + length);
  }

  /** A frame with a packet of `protocol` has come; others go by. */
  hears(protocol: number): boolean {
    for (;;) {
      const length = read(this.#memory, this.#fd, this.#in, FRAME_MAX);
      if (length <= TRANSPORT_AT) return false;
      const isIp = parseIpv4(this.#slab.view, this.#in + IP_AT, length - IP_AT, this.#ip) >= 0;
      if (isIp && this.#ip.protocol === protocol) return true;
    }
  }

  /** A segment with one of `flags` has come that is more than an acknowledgment, or one that ends the connection. */
  hearsSegment(flags: number): boolean {
    const answer = this.#answer;
    while (this.hears(PROTOCOL_TCP)) {
      const length = this.#ip.totalLen - IPV4_HEADER_LEN;
      if (parseTcp(this.#slab.view, this.#in + TRANSPORT_AT, length, answer) < 0) continue;
      this.answered = length - answer.headerLen;
      const taken = this.answered + ((answer.flags & (TCP_SYN | TCP_FIN)) === 0 ? 0 : 1);
      if ((answer.flags & flags) === 0 || (taken === 0 && (answer.flags & TCP_RST) === 0)) continue;
      this.#tcp.ack = seqAdd(answer.seq, taken);
      return true;
    }
    return false;
  }

  /** Whatever has come is of no interest. */
  drain(): void {
    while (read(this.#memory, this.#fd, this.#in, FRAME_MAX) > 0);
  }

  #write(length: number): void {
    must(write(this.#memory, this.#fd, this.#out, length));
  }
}
