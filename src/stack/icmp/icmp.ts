/**
 * ICMP that the stack itself sends: echo replies for our own addresses, and errors to the guest (RFC 792, RFC 1122
 * §3.2.2, RFC 1812 §4.3.2, RFC 4443). Errors are rate-limited as a whole and never answer what must not be answered, other
 * errors above all.
 */

import type { Slab } from '../buffer/slab.ts';
import { Counter, type Counters } from '../counters.ts';
import type { OwnAddresses } from '../ip/own-addresses.ts';
import type { Egress } from '../link/egress.ts';
import { DEFAULT_TTL } from '../link/out-packet.ts';
import type { Packet } from '../link/packet.ts';
import { IpAddress } from '../wire/address.ts';
import { checksum, pseudoHeaderSum, sumBytes } from '../wire/checksum.ts';
import {
  carriesIcmpError,
  emitIcmp,
  ICMP_HEADER_LEN,
  ICMP4_ADMIN_PROHIBITED,
  ICMP4_ECHO_REPLY,
  ICMP4_FRAGMENTATION_NEEDED,
  ICMP4_HOST_UNREACHABLE,
  ICMP4_NET_UNREACHABLE,
  ICMP4_PORT_UNREACHABLE,
  ICMP4_TIME_EXCEEDED,
  ICMP4_UNREACHABLE,
  ICMP6_ADDRESS_UNREACHABLE,
  ICMP6_ADMIN_PROHIBITED,
  ICMP6_ECHO_REPLY,
  ICMP6_NO_ROUTE,
  ICMP6_PACKET_TOO_BIG,
  ICMP6_PARAMETER_PROBLEM,
  ICMP6_PORT_UNREACHABLE,
  ICMP6_TIME_EXCEEDED,
  ICMP6_UNKNOWN_OPTION,
  ICMP6_UNREACHABLE,
  IcmpHeader,
  icmp4Checksum,
  icmp6Checksum,
  isIcmpError,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  setIcmpChecksum,
} from '../wire/icmp.ts';
import { emitIpv4, IPV4_HEADER_LEN, Ipv4Header } from '../wire/ipv4.ts';
import { emitIpv6, IPV6_HEADER_LEN, Ipv6Header } from '../wire/ipv6.ts';
import type { ErrorLimiter } from './limit.ts';

/** RFC 1812 §4.3.2.3: an error as large as 576 bytes; RFC 4443 §2.4 (c): the minimum IPv6 MTU. */
const ERROR4_MAX = 576;
const ERROR6_MAX = 1280;

/** Bytes quoted of what came in fragments: `ipOffset` shows the last of them, and there is no error about that one. */
const REASSEMBLED_QUOTE = 64;

/** Why something is unreachable, in either family's words. */
export const Unreachable = { Net: 0, Host: 1, Port: 2, Prohibited: 3 } as const;
export type Unreachable = (typeof Unreachable)[keyof typeof Unreachable];

const codes4 = [
  ICMP4_NET_UNREACHABLE,
  ICMP4_HOST_UNREACHABLE,
  ICMP4_PORT_UNREACHABLE,
  ICMP4_ADMIN_PROHIBITED,
];
const codes6 = [ICMP6_NO_ROUTE, ICMP6_ADDRESS_UNREACHABLE, ICMP6_PORT_UNREACHABLE, ICMP6_ADMIN_PROHIBITED];

export class Icmp {
  readonly #slab: Slab;
  readonly #egress: Egress;
  readonly #own: OwnAddresses;
  readonly #limiter: ErrorLimiter;
  readonly #counters: Counters;
  readonly #header = new IcmpHeader();
  readonly #ip4 = new Ipv4Header();
  readonly #ip6 = new Ipv6Header();
  readonly #from = new IpAddress();
  readonly #to = new IpAddress();

  constructor(slab: Slab, egress: Egress, own: OwnAddresses, limiter: ErrorLimiter, counters: Counters) {
    this.#slab = slab;
    this.#egress = egress;
    this.#own = own;
    this.#limiter = limiter;
    this.#counters = counters;
  }

  /** Answer the echo request `p` ourselves, with all its data. */
  answerEcho(p: Packet): void {
    this.sendEchoReply(
      p.dst,
      p.src,
      this.#slab.view.getUint32(p.offset + 4),
      p.offset + ICMP_HEADER_LEN,
      p.length - ICMP_HEADER_LEN,
      DEFAULT_TTL,
    );
  }

  /** Send an echo reply; `rest` is identifier and sequence number, the data lies at `offset` in the arena. */
  sendEchoReply(
    src: IpAddress,
    dst: IpAddress,
    rest: number,
    offset: number,
    length: number,
    ttl: number,
  ): void {
    const view = this.#slab.view;
    const at = this.#egress.transport;
    const h = this.#header;
    h.type = src.isV4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY;
    h.code = 0;
    h.rest = rest;
    emitIcmp(view, at, h);
    // Both lie in the arena, but not next to each other: two sums.
    const head = src.isV4
      ? sumBytes(view, at, ICMP_HEADER_LEN, 0)
      : sumBytes(
          view,
          at,
          ICMP_HEADER_LEN,
          pseudoHeaderSum(src, dst, PROTOCOL_ICMPV6, ICMP_HEADER_LEN + length),
        );
    setIcmpChecksum(view, at, checksum(sumBytes(view, offset, length, head)));
    const out = this.#egress.begin(src, dst, src.isV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6);
    out.ttl = ttl;
    out.headLength = ICMP_HEADER_LEN;
    out.add(offset, length);
    this.#egress.send();
  }

  /** Tell the guest that the packet `p` can not be delivered; from the gateway, quoting the packet. */
  unreachable(p: Packet, why: Unreachable, nowMs: number): void {
    this.error(
      p,
      p.isV4 ? ICMP4_UNREACHABLE : ICMP6_UNREACHABLE,
      (p.isV4 ? codes4[why] : codes6[why]) as number,
      0,
      nowMs,
    );
  }

  timeExceeded(p: Packet, nowMs: number): void {
    this.error(p, p.isV4 ? ICMP4_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED, 0, 0, nowMs);
  }

  /** `p` may not be fragmented, and the way takes packets of `mtu` bytes only (RFC 1191, RFC 4443 §3.2). */
  tooBig(p: Packet, mtu: number, nowMs: number): void {
    if (p.isV4) this.error(p, ICMP4_UNREACHABLE, ICMP4_FRAGMENTATION_NEEDED, mtu & 0xffff, nowMs);
    else this.error(p, ICMP6_PACKET_TOO_BIG, 0, mtu, nowMs);
  }

  /** An error about the packet `p`, which is quoted as it lies in the arena, or, if it came in fragments, made anew. */
  error(p: Packet, type: number, code: number, rest: number, nowMs: number): void {
    if (p.reassembled) {
      const { src, dst, protocol, offset, length } = p;
      const quoted = Math.min(length, REASSEMBLED_QUOTE);
      const from = this.#own.speaker(p.isV4);
      this.errorForFlow(from, src, dst, protocol, offset, quoted, length, type, code, rest, nowMs);
      return;
    }
    if (carriesIcmpError(this.#slab.view, p.ipOffset, p.ipLength)) return;
    // Unknown options are told whatever the destination (RFC 4443 §2.4 (e.3)).
    const anyDestination = !p.isV4 && type === ICMP6_PARAMETER_PROBLEM && code === ICMP6_UNKNOWN_OPTION;
    if (!this.#mayAnswer(p.src, p.dst, anyDestination, nowMs)) return;
    this.#send(this.#own.speaker(p.isV4), p.dst, p.src, type, code, rest, p.ipOffset, p.ipLength);
  }

  /**
   * An unreachable error about a packet that is gone: its IP header is made anew around `length` bytes of its
   * transport header at `transport`.
   */
  unreachableFlow(
    src: IpAddress,
    dst: IpAddress,
    protocol: number,
    transport: number,
    length: number,
    why: Unreachable,
    nowMs: number,
  ): void {
    const isV4 = src.isV4;
    this.errorForFlow(
      this.#own.speaker(isV4),
      src,
      dst,
      protocol,
      transport,
      length,
      length,
      isV4 ? ICMP4_UNREACHABLE : ICMP6_UNREACHABLE,
      (isV4 ? codes4[why] : codes6[why]) as number,
      0,
      nowMs,
    );
  }

  /**
   * Any error from `offender` about a packet `src` → `dst` that is gone. `length` transport bytes at `transport` are
   * quoted, of `fullLength` that the packet had.
   */
  errorForFlow(
    offender: IpAddress,
    src: IpAddress,
    dst: IpAddress,
    protocol: number,
    transport: number,
    length: number,
    fullLength: number,
    type: number,
    code: number,
    rest: number,
    nowMs: number,
  ): void {
    const view = this.#slab.view;
    if (isIcmpError(protocol, view.getUint8(transport)) || !this.#mayAnswer(src, dst, false, nowMs)) return;
    const quote = this.#egress.transport + ICMP_HEADER_LEN;
    let headerLength: number;
    if (src.isV4) {
      const h = this.#ip4;
      h.tos = 0;
      h.totalLen = IPV4_HEADER_LEN + fullLength;
      h.id = 0;
      h.dontFragment = true;
      h.moreFragments = false;
      h.fragmentOffset = 0;
      h.ttl = DEFAULT_TTL;
      h.protocol = protocol;
      h.src.copyFrom(src);
      h.dst.copyFrom(dst);
      headerLength = emitIpv4(view, quote, h);
    } else {
      const h = this.#ip6;
      h.trafficClass = 0;
      h.flowLabel = 0;
      h.payloadLen = fullLength;
      h.nextHeader = protocol;
      h.hopLimit = DEFAULT_TTL;
      h.src.copyFrom(src);
      h.dst.copyFrom(dst);
      headerLength = emitIpv6(view, quote, h);
    }
    this.#slab.bytes.copyWithin(quote + headerLength, transport, transport + length);
    this.#send(offender, dst, src, type, code, rest, quote, headerLength + length);
  }

  /** RFC 1122 §3.2.2, RFC 4443 §2.4 (e): no error to or about groups and unspecified sources; and a rate. */
  #mayAnswer(src: IpAddress, dst: IpAddress, anyDestination: boolean, nowMs: number): boolean {
    if (src.isUnspecified || src.isMulticast || (dst.isMulticast && !anyDestination)) return false;
    if (dst.isV4 && (dst.w3 === 0xffffffff || this.#own.isLinkBroadcast(dst))) return false;
    if (this.#limiter.allow(nowMs)) return true;
    this.#counters.add(Counter.IcmpErrorsSuppressed, 1);
    return false;
  }

  /** Where there is no `offender`, it is whom the packet was for. */
  #send(
    offender: IpAddress,
    destination: IpAddress,
    guest: IpAddress,
    type: number,
    code: number,
    rest: number,
    quote: number,
    quoteLength: number,
  ): void {
    const view = this.#slab.view;
    const at = this.#egress.transport;
    const body = at + ICMP_HEADER_LEN;
    // Copied: the caller may pass our own addresses by reference, and the quote may be in the head region already.
    const src = this.#from.copyFrom(offender.isUnspecified ? destination : offender);
    const dst = this.#to.copyFrom(guest);
    const most = (dst.isV4 ? ERROR4_MAX - IPV4_HEADER_LEN : ERROR6_MAX - IPV6_HEADER_LEN) - ICMP_HEADER_LEN;
    const length = Math.min(quoteLength, most);
    if (quote !== body) this.#slab.bytes.copyWithin(body, quote, quote + length);
    const h = this.#header;
    h.type = type;
    h.code = code;
    h.rest = rest;
    emitIcmp(view, at, h);
    const total = ICMP_HEADER_LEN + length;
    setIcmpChecksum(
      view,
      at,
      dst.isV4 ? icmp4Checksum(view, at, total) : icmp6Checksum(view, at, total, src, dst),
    );
    this.#counters.add(Counter.IcmpErrorsSent, 1);
    this.#egress.begin(src, dst, dst.isV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6).headLength = total;
    this.#egress.send();
  }
}
