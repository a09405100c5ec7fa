/**
 * A stack with nothing behind it: a link that takes every frame, addresses as a real guest has them, frames ready made.
 *
 * Values are chosen as they occur: addresses, link addresses and sequence numbers above 2³¹ and a clock with fractions,
 * because V8 keeps those as doubles, which is where hidden allocations come from.
 */
import { defaultAddresses, defaultLimits } from '../../src/config.ts';
import type { Clock } from '../../src/loop.ts';
import { StackScratch } from '../../src/stack/buffer/scratch.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { Counters } from '../../src/stack/counters.ts';
import { HalfSipHash } from '../../src/stack/half-sip-hash.ts';
import { Icmp } from '../../src/stack/icmp/icmp.ts';
import { ErrorLimiter } from '../../src/stack/icmp/limit.ts';
import { OwnAddresses } from '../../src/stack/ip/own-addresses.ts';
import { Reassembler } from '../../src/stack/ip/reassembly.ts';
import { Egress } from '../../src/stack/link/egress.ts';
import { Ingress } from '../../src/stack/link/ingress.ts';
import type { IngressHandler } from '../../src/stack/link/ingress-parts.ts';
import type { Link, TxFrame } from '../../src/stack/link/link.ts';
import { NeighborTable } from '../../src/stack/neighbor/cache.ts';
import type { Rng } from '../../src/stack/rng.ts';
import { type IpAddress, parseIpAddress } from '../../src/stack/wire/address.ts';
import { checksum, pseudoHeaderSum, sumBytes } from '../../src/stack/wire/checksum.ts';
import {
  ETHERNET_HEADER_LEN,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  emitEthernet,
} from '../../src/stack/wire/ethernet.ts';
import { emitIpv4, IPV4_HEADER_LEN, Ipv4Header } from '../../src/stack/wire/ipv4.ts';
import { emitIpv6, IPV6_HEADER_LEN, Ipv6Header } from '../../src/stack/wire/ipv6.ts';
import { emitTcp, PROTOCOL_TCP, TCP_ACK, TCP_CHECKSUM_OFF, TcpHeader } from '../../src/stack/wire/tcp.ts';

export const MTU = 1500;
export const GUEST_PORT = 51234;
export const REMOTE_PORT = 443;
export const ports: number = ((GUEST_PORT << 16) | REMOTE_PORT) >>> 0;
export const GUEST_MAC_HI = 0x5a94;
export const GUEST_MAC_LO = 0xef3c0264;
export const guest4: IpAddress = parseIpAddress('10.0.2.100');
export const remote4: IpAddress = parseIpAddress('203.0.113.9');
export const guest6: IpAddress = parseIpAddress('fd00::100');
export const remote6: IpAddress = parseIpAddress('2a00:1450:4001:81b::200e');
/** Payload of a full segment with timestamps. */
export const MSS = 1448;

const FIXED_BYTES = 12 * 1024 * 1024;
const PAGES = 2048;

/** Not random at all, but its values are as large as random ones. */
const rng: Rng = {
  u32(): number {
    return 0xdeadbeef;
  },
};

/** Takes every frame and forgets it. */
export class NullLink implements Link {
  readonly medium = 'ethernet';
  readonly mtu: number = MTU;
  readonly checksumOffload: boolean;
  readonly tso: boolean;
  readonly uso: boolean;
  readonly full = false;
  frames = 0;
  /** Headers of the last frame: valid until the next one is made. */
  headOffset = 0;
  /** Payload of the last frame, in bytes. */
  payloadLength = 0;

  constructor(offload: boolean) {
    this.checksumOffload = offload;
    this.tso = offload;
    this.uso = offload;
  }

  refreshMtu(): void {
    return;
  }

  transmit(frame: TxFrame): number {
    this.frames++;
    this.headOffset = frame.headOffset;
    this.payloadLength = frame.payloadLength;
    return 0;
  }
}

/** The parts of a guest's stack. */
export class Stack {
  readonly slab: Slab = new Slab(FIXED_BYTES, PAGES);
  readonly clock: Clock = {
    nowMs: 1234.567,
    turn: 0,
    bytesLeft: 1 << 20,
    sendLeft: 1 << 20,
    batchFrames: 64,
  };
  readonly own: OwnAddresses = new OwnAddresses(defaultAddresses);
  readonly counters: Counters = new Counters();
  readonly rng: Rng = rng;
  readonly hash: HalfSipHash = new HalfSipHash(0xcafebabe, 0x8badf00d);
  readonly link: NullLink;
  readonly neighbors: NeighborTable;
  readonly egress: Egress;
  readonly #scratch: StackScratch = new StackScratch(this.slab);
  readonly icmp: Icmp;

  constructor(offload: boolean) {
    this.link = new NullLink(offload);
    this.neighbors = new NeighborTable(defaultLimits.neighborMax, this.own);
    for (const address of [guest4, guest6]) this.neighbors.learn(address, GUEST_MAC_HI, GUEST_MAC_LO);
    this.egress = new Egress(this.#scratch, this.link, this.own, this.neighbors, this.counters, this.rng);
    const limiter = new ErrorLimiter(defaultLimits.icmpErrorRate, defaultLimits.icmpErrorBurst, this.rng);
    this.icmp = new Icmp(this.slab, this.egress, this.own, limiter, this.counters);
  }

  ingress(handler: IngressHandler): Ingress {
    return new Ingress({
      slab: this.slab,
      link: this.link,
      own: this.own,
      neighbors: this.neighbors,
      reassembler: new Reassembler(this.#scratch, defaultLimits),
      icmp: this.icmp,
      egress: this.egress,
      dhcp: null,
      ra: null,
      handler,
      counters: this.counters,
      sharedMac: false,
    });
  }
}

const ip4 = new Ipv4Header();
const ip6 = new Ipv6Header();

/** Write Ethernet and IP headers from the guest at `at`; where the transport header goes. */
export function putIp(
  stack: Stack,
  at: number,
  src: IpAddress,
  dst: IpAddress,
  protocol: number,
  length: number,
): number {
  const { view } = stack.slab;
  const type = src.isV4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6;
  emitEthernet(view, at, stack.own.macHi, stack.own.macLo, GUEST_MAC_HI, GUEST_MAC_LO, type);
  const ip = at + ETHERNET_HEADER_LEN;
  if (src.isV4) {
    ip4.totalLen = IPV4_HEADER_LEN + length;
    ip4.dontFragment = true;
    ip4.ttl = 64;
    ip4.protocol = protocol;
    ip4.src.copyFrom(src);
    ip4.dst.copyFrom(dst);
    return ip + emitIpv4(view, ip, ip4);
  }
  ip6.payloadLen = length;
  ip6.nextHeader = protocol;
  ip6.hopLimit = 64;
  ip6.src.copyFrom(src);
  ip6.dst.copyFrom(dst);
  return ip + emitIpv6(view, ip, ip6);
}

/** A header as a guest sends it with data. */
export function dataHeader(): TcpHeader {
  const h = new TcpHeader();
  h.srcPort = GUEST_PORT;
  h.dstPort = REMOTE_PORT;
  h.seq = 0xc0000000;
  h.ack = 0xe0000000;
  h.flags = TCP_ACK;
  h.window = 0xfff0;
  h.hasTimestamps = true;
  h.tsVal = 0xa0000001;
  h.tsEcr = 0xb0000001;
  return h;
}

/** Write a whole TCP frame from the guest, payload left as it is; its length. The checksum is right. */
export function putTcpFrame(
  stack: Stack,
  at: number,
  src: IpAddress,
  dst: IpAddress,
  h: TcpHeader,
  payload: number,
): number {
  const { view } = stack.slab;
  // Twice: the length of the header is known when it is written.
  const headerLength = emitTcp(view, at + ETHERNET_HEADER_LEN + IPV6_HEADER_LEN, h);
  const total = headerLength + payload;
  const transport = putIp(stack, at, src, dst, PROTOCOL_TCP, total);
  h.checksum = 0;
  emitTcp(view, transport, h);
  const sum = sumBytes(view, transport, total, pseudoHeaderSum(src, dst, PROTOCOL_TCP, total));
  view.setUint16(transport + TCP_CHECKSUM_OFF, checksum(sum));
  return transport + total - at;
}
