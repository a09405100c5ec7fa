/**
 * ICMPv4 and ICMPv6 headers and checksums (RFC 792, RFC 1122 §3.2.2, RFC 1191, RFC 4443).
 *
 * Both share one layout: type, code, checksum and 32 bits whose meaning depends on the type (`rest`: identifier and sequence
 * number of an echo, next-hop MTU, pointer). What a message means is decided elsewhere.
 */
import type { IpAddress } from './address.ts';
import { checksum, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { DropReason } from './drop-reason.ts';
import { ipv4Payload } from './ipv4.ts';
import { ipv6Payload } from './ipv6.ts';

/** Bytes. */
export const ICMP_HEADER_LEN = 8;
/** IP protocol numbers. */
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_ICMPV6 = 58;

export const ICMP4_ECHO_REPLY = 0;
export const ICMP4_UNREACHABLE = 3;
export const ICMP4_SOURCE_QUENCH = 4;
export const ICMP4_REDIRECT = 5;
export const ICMP4_ECHO = 8;
export const ICMP4_TIME_EXCEEDED = 11;
export const ICMP4_PARAMETER_PROBLEM = 12;

/** Codes of ICMPv4 unreachable (RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1). */
export const ICMP4_NET_UNREACHABLE = 0;
export const ICMP4_HOST_UNREACHABLE = 1;
export const ICMP4_PROTOCOL_UNREACHABLE = 2;
export const ICMP4_PORT_UNREACHABLE = 3;
export const ICMP4_FRAGMENTATION_NEEDED = 4;
export const ICMP4_ADMIN_PROHIBITED = 13;

/** Codes of time exceeded, the same in both families. */
export const ICMP_TTL_EXCEEDED = 0;
export const ICMP_REASSEMBLY_TIMEOUT = 1;

export const ICMP6_UNREACHABLE = 1;
export const ICMP6_PACKET_TOO_BIG = 2;
export const ICMP6_TIME_EXCEEDED = 3;
export const ICMP6_PARAMETER_PROBLEM = 4;
export const ICMP6_ECHO = 128;
export const ICMP6_ECHO_REPLY = 129;
export const ICMP6_REDIRECT = 137;
export const ICMP6_MLD_REPORT = 131;
export const ICMP6_MLD2_REPORT = 143;

/** Codes of ICMPv6 unreachable (RFC 4443 §3.1). */
export const ICMP6_NO_ROUTE = 0;
export const ICMP6_ADMIN_PROHIBITED = 1;
export const ICMP6_BEYOND_SCOPE = 2;
export const ICMP6_ADDRESS_UNREACHABLE = 3;
export const ICMP6_PORT_UNREACHABLE = 4;

/** Codes of ICMPv6 parameter problem (RFC 4443 §3.4, RFC 7112 §5). */
export const ICMP6_UNKNOWN_NEXT_HEADER = 1;
export const ICMP6_UNKNOWN_OPTION = 2;
export const ICMP6_INCOMPLETE_CHAIN = 3;

const CHECKSUM = 2;
const REST = 4;

/** Parsed header; `rest` is the unsigned 32-bit word behind the checksum. */
export class IcmpHeader {
  type = 0;
  code = 0;
  rest = 0;
}

/** Reads 8 bytes; 0 or `IcmpMalformed`. The checksum is verified by the caller, who knows about offload. */
export function parseIcmp(view: DataView, off: number, len: number, out: IcmpHeader): number {
  if (len < ICMP_HEADER_LEN) return DropReason.IcmpMalformed;
  out.type = view.getUint8(off);
  out.code = view.getUint8(off + 1);
  out.rest = view.getUint32(off + REST);
  return 0;
}

/** Writes 8 bytes with a zero checksum, to be filled once the body stands; returns 8. */
export function emitIcmp(view: DataView, off: number, h: IcmpHeader): number {
  view.setUint8(off, h.type);
  view.setUint8(off + 1, h.code);
  view.setUint16(off + CHECKSUM, 0);
  view.setUint32(off + REST, h.rest);
  return ICMP_HEADER_LEN;
}

/** Writes the checksum field of a message whose field is zero. */
export function setIcmpChecksum(view: DataView, off: number, value: number): void {
  view.setUint16(off + CHECKSUM, value);
}

/** Checksum over the bytes as they stand: 0 when they hold a right one, else the value for a zeroed field. */
export function icmp4Checksum(view: DataView, off: number, len: number): number {
  return checksum(sumBytes(view, off, len, 0));
}

/** As {@link icmp4Checksum}, with the pseudo-header of RFC 8200 §8.1. */
export function icmp6Checksum(
  view: DataView,
  off: number,
  len: number,
  src: IpAddress,
  dst: IpAddress,
): number {
  return checksum(sumBytes(view, off, len, pseudoHeaderSum(src, dst, PROTOCOL_ICMPV6, len)));
}

/**
 * Whether the message reports an error, or is a redirect: no error is sent about it (RFC 1122 §3.2.2, RFC 4443 §2.4
 * (e.1, e.2)), or two hosts could answer each other for ever.
 */
export function isIcmpError(protocol: number, type: number): boolean {
  if (protocol === PROTOCOL_ICMPV6) return type < ICMP6_ECHO || type === ICMP6_REDIRECT;
  return (
    protocol === PROTOCOL_ICMP &&
    (type === ICMP4_UNREACHABLE ||
      type === ICMP4_SOURCE_QUENCH ||
      type === ICMP4_REDIRECT ||
      type === ICMP4_TIME_EXCEEDED ||
      type === ICMP4_PARAMETER_PROBLEM)
  );
}

/** The same of the IP packet in `length` bytes at `offset`, of which nothing was checked but its version. */
export function carriesIcmpError(view: DataView, offset: number, length: number): boolean {
  const isV4 = view.getUint8(offset) >>> 4 === 4;
  const at = isV4
    ? ipv4Payload(view, offset, length, PROTOCOL_ICMP)
    : ipv6Payload(view, offset, length, PROTOCOL_ICMPV6);
  return at >= 0 && isIcmpError(isV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, view.getUint8(offset + at));
}
