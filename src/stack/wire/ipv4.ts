/**
 * IPv4 header (RFC 791, RFC 1122 §3.2.1, RFC 6864 for the identification field).
 *
 * Parsing verifies version, lengths and header checksum and walks the options only to find bad lengths and source routes
 * (hazards I-01, I-02); options are otherwise ignored and never written. Fragment geometry is left to reassembly, address
 * and TTL policy to ingress.
 */
import { IpAddress } from './address.ts';
import { checksum, sumBytes } from './checksum.ts';
import { DropReason } from './drop-reason.ts';

/** Bytes of a header without options. */
export const IPV4_HEADER_LEN = 20;

const TOS = 1;
const TOTAL_LENGTH = 2;
const IDENTIFICATION = 4;
const FLAGS_AND_OFFSET = 6;
const TTL = 8;
const PROTOCOL = 9;
const CHECKSUM = 10;
const SOURCE = 12;
const DESTINATION = 16;

const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;
const OFFSET_MASK = 0x1fff;

const OPTION_EOL = 0;
const OPTION_NOP = 1;
const OPTION_LSRR = 131;
const OPTION_SSRR = 137;

/** Parsed header. Lengths and `fragmentOffset` are in bytes. */
export class Ipv4Header {
  headerLen: number = IPV4_HEADER_LEN;
  tos = 0;
  /** Header and payload. */
  totalLen = 0;
  id = 0;
  dontFragment = false;
  moreFragments = false;
  fragmentOffset = 0;
  ttl = 0;
  protocol = 0;
  readonly src: IpAddress = new IpAddress();
  readonly dst: IpAddress = new IpAddress();
}

/**
 * Reads a packet of `len` bytes; 0 or a drop reason. Bytes behind `out.totalLen` are link padding for the caller to cut.
 * The view is borrowed until return.
 */
export function parseIpv4(view: DataView, off: number, len: number, out: Ipv4Header): number {
  if (len < IPV4_HEADER_LEN) return DropReason.LinkShort;
  const versionIhl = view.getUint8(off);
  if (versionIhl >>> 4 !== 4) return DropReason.IpVersion;
  const headerLen = (versionIhl & 15) << 2;
  const totalLen = view.getUint16(off + TOTAL_LENGTH);
  if (headerLen < IPV4_HEADER_LEN || headerLen > totalLen || totalLen > len) return DropReason.Ip4Malformed;
  if (checksum(sumBytes(view, off, headerLen, 0)) !== 0) return DropReason.Ip4Csum;
  if (headerLen > IPV4_HEADER_LEN) {
    const reason = checkOptions(view, off + IPV4_HEADER_LEN, off + headerLen);
    if (reason !== 0) return reason;
  }
  const fragment = view.getUint16(off + FLAGS_AND_OFFSET);
  out.headerLen = headerLen;
  out.tos = view.getUint8(off + TOS);
  out.totalLen = totalLen;
  out.id = view.getUint16(off + IDENTIFICATION);
  out.dontFragment = (fragment & DONT_FRAGMENT) !== 0;
  out.moreFragments = (fragment & MORE_FRAGMENTS) !== 0;
  out.fragmentOffset = (fragment & OFFSET_MASK) << 3;
  out.ttl = view.getUint8(off + TTL);
  out.protocol = view.getUint8(off + PROTOCOL);
  out.src.readV4(view, off + SOURCE);
  out.dst.readV4(view, off + DESTINATION);
  return 0;
}

/** RFC 1122 §3.2.1.8: options are parsed for their lengths; source routes are refused. */
function checkOptions(view: DataView, start: number, end: number): number {
  let p = start;
  while (p < end) {
    const kind = view.getUint8(p);
    if (kind === OPTION_EOL) return 0;
    if (kind === OPTION_NOP) {
      p++;
      continue;
    }
    if (kind === OPTION_LSRR || kind === OPTION_SSRR) return DropReason.Ip4SrcRoute;
    if (p + 1 >= end) return DropReason.Ip4Option;
    const length = view.getUint8(p + 1);
    if (length < 2 || length > end - p) return DropReason.Ip4Option;
    p += length;
  }
  return 0;
}

/**
 * Where the message of `protocol` begins in the packet of `len` bytes at `off`, relative; -1 when it carries none, or not
 * its beginning.
 */
export function ipv4Payload(view: DataView, off: number, len: number, protocol: number): number {
  if (len < IPV4_HEADER_LEN || view.getUint8(off + PROTOCOL) !== protocol) return -1;
  if ((view.getUint16(off + FLAGS_AND_OFFSET) & OFFSET_MASK) !== 0) return -1;
  const at = (view.getUint8(off) & 15) << 2;
  return at < len ? at : -1;
}

/** Writes 20 bytes with the header checksum; `h.headerLen` is not read. Returns 20. */
export function emitIpv4(view: DataView, off: number, h: Ipv4Header): number {
  const flags = (h.dontFragment ? DONT_FRAGMENT : 0) | (h.moreFragments ? MORE_FRAGMENTS : 0);
  const fragment = flags | (h.fragmentOffset >>> 3);
  const src = h.src.w3;
  const dst = h.dst.w3;
  const first = 0x4500 | h.tos;
  const lifetime = (h.ttl << 8) | h.protocol;
  view.setUint16(off, first);
  view.setUint16(off + TOTAL_LENGTH, h.totalLen);
  view.setUint16(off + IDENTIFICATION, h.id);
  view.setUint16(off + FLAGS_AND_OFFSET, fragment);
  view.setUint16(off + TTL, lifetime);
  view.setUint32(off + SOURCE, src);
  view.setUint32(off + DESTINATION, dst);
  const addresses = (src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff);
  view.setUint16(off + CHECKSUM, checksum(first + h.totalLen + h.id + fragment + lifetime + addresses));
  return IPV4_HEADER_LEN;
}
