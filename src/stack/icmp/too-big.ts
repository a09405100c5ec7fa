/**
 * "Too big" about a packet that only passes through: next-hop MTU (RFC 1191 §4, RFC 4443 §3.2). It is said in the name of the
 * packet's destination: whoever has no address of its own on the way has no other that the sender would believe.
 */
import type { Slab } from '../buffer/slab.ts';
import {
  carriesIcmpError,
  emitIcmp,
  ICMP_HEADER_LEN,
  ICMP4_FRAGMENTATION_NEEDED,
  ICMP4_UNREACHABLE,
  ICMP6_PACKET_TOO_BIG,
  IcmpHeader,
  icmp4Checksum,
  icmp6Checksum,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  setIcmpChecksum,
} from '../wire/icmp.ts';
import { emitIpv4, IPV4_HEADER_LEN, Ipv4Header } from '../wire/ipv4.ts';
import { emitIpv6, IPV6_HEADER_LEN, Ipv6Header } from '../wire/ipv6.ts';

/** Bytes of the largest error: RFC 1812 §4.3.2.3; RFC 4443 §2.4 (c). */
const LARGEST_V4 = 576;
const LARGEST_V6 = 1280;
const HOPS = 64;
/** Room that an error takes. */
export const TOO_BIG_BYTES: number = LARGEST_V6;

export class TooBig {
  readonly #slab: Slab;
  readonly #ip4 = new Ipv4Header();
  readonly #ip6 = new Ipv6Header();
  readonly #icmp = new IcmpHeader();

  constructor(slab: Slab) {
    this.#slab = slab;
  }

  /**
   * Write at `to` what is said of the IP packet of `length` bytes at `offset`, whose way takes `mtu`. Its bytes; 0: nothing is
   * said.
   */
  write(to: number, offset: number, length: number, mtu: number): number {
    const { view } = this.#slab;
    const isV4 = view.getUint8(offset) >>> 4 === 4;
    if (length < (isV4 ? IPV4_HEADER_LEN : IPV6_HEADER_LEN)) return 0;
    if (carriesIcmpError(view, offset, length)) return 0;
    return isV4 ? this.#write4(to, offset, length, mtu) : this.#write6(to, offset, length, mtu);
  }

  #write4(to: number, offset: number, length: number, mtu: number): number {
    const { view } = this.#slab;
    const h = this.#ip4;
    h.src.readV4(view, offset + 16);
    h.dst.readV4(view, offset + 12);
    if (h.src.isGroup || h.dst.isGroup || h.dst.isUnspecified) return 0;
    const quoted = Math.min(length, LARGEST_V4 - IPV4_HEADER_LEN - ICMP_HEADER_LEN);
    h.totalLen = IPV4_HEADER_LEN + ICMP_HEADER_LEN + quoted;
    h.dontFragment = true;
    h.ttl = HOPS;
    h.protocol = PROTOCOL_ICMP;
    const icmp = to + emitIpv4(view, to, h);
    this.#message(icmp, ICMP4_UNREACHABLE, ICMP4_FRAGMENTATION_NEEDED, mtu & 0xffff, offset, quoted);
    setIcmpChecksum(view, icmp, icmp4Checksum(view, icmp, ICMP_HEADER_LEN + quoted));
    return h.totalLen;
  }

  #write6(to: number, offset: number, length: number, mtu: number): number {
    const { view } = this.#slab;
    const h = this.#ip6;
    h.src.readV6(view, offset + 24);
    h.dst.readV6(view, offset + 8);
    if (h.src.isGroup || h.dst.isGroup || h.dst.isUnspecified) return 0;
    const quoted = Math.min(length, LARGEST_V6 - IPV6_HEADER_LEN - ICMP_HEADER_LEN);
    h.payloadLen = ICMP_HEADER_LEN + quoted;
    h.nextHeader = PROTOCOL_ICMPV6;
    h.hopLimit = HOPS;
    const icmp = to + emitIpv6(view, to, h);
    this.#message(icmp, ICMP6_PACKET_TOO_BIG, 0, mtu, offset, quoted);
    setIcmpChecksum(view, icmp, icmp6Checksum(view, icmp, h.payloadLen, h.src, h.dst));
    return IPV6_HEADER_LEN + h.payloadLen;
  }

  #message(at: number, type: number, code: number, rest: number, offset: number, quoted: number): void {
    const { view, bytes } = this.#slab;
    const message = this.#icmp;
    message.type = type;
    message.code = code;
    message.rest = rest;
    emitIcmp(view, at, message);
    bytes.copyWithin(at + ICMP_HEADER_LEN, offset, offset + quoted);
  }
}
