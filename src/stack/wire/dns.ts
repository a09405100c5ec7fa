/**
 * DNS messages as far as a forwarder needs them (RFC 1035, RFC 6891 for EDNS, RFC 2181 §9 for truncation).
 *
 * The header, the single question, the UDP size a client announces, and the two answers we make ourselves. Records are
 * never interpreted; compression pointers are skipped and never followed, so no walk can loop. The parameters are the DNS
 * message itself (without the two length bytes of TCP).
 */
import { DropReason } from './drop-reason.ts';

/** Bytes. */
export const DNS_HEADER_LEN = 12;
export const DNS_PORT = 53;
/** Bytes that every client takes over UDP (RFC 1035 §4.2.1). */
export const DNS_MIN_UDP_SIZE = 512;

export const DNS_FLAG_QR = 0x8000;
export const DNS_FLAG_AA = 0x0400;
export const DNS_FLAG_TC = 0x0200;
export const DNS_FLAG_RD = 0x0100;
export const DNS_FLAG_RA = 0x0080;

export const DNS_RCODE_FORMERR = 1;
export const DNS_RCODE_SERVFAIL = 2;
export const DNS_RCODE_NOTIMP = 4;
export const DNS_RCODE_REFUSED = 5;

const OPCODE_MASK = 0x7800;
const RCODE_MASK = 0x000f;
const QDCOUNT = 4;
const ANCOUNT = 6;
const NSCOUNT = 8;
const ARCOUNT = 10;
const TYPE_OPT = 41;
const MAX_LABEL = 63;
/** Bytes of a name, length bytes and the root included (RFC 1035 §3.1). */
const MAX_NAME = 255;
/** Records passed over in search of OPT; a query has one or two. */
const MAX_RECORDS = 32;

/** Parsed header. */
export class DnsHeader {
  id = 0;
  flags = 0;
  qdCount = 0;
  anCount = 0;
  nsCount = 0;
  arCount = 0;

  get isResponse(): boolean {
    return (this.flags & DNS_FLAG_QR) !== 0;
  }

  get opcode(): number {
    return (this.flags & OPCODE_MASK) >>> 11;
  }

  get rcode(): number {
    return this.flags & RCODE_MASK;
  }

  /** Whoever was asked cannot, or will not, say: another may. */
  get saysNo(): boolean {
    const { rcode } = this;
    return rcode === DNS_RCODE_SERVFAIL || rcode === DNS_RCODE_NOTIMP || rcode === DNS_RCODE_REFUSED;
  }
}

/** Reads 12 bytes; 0 or `DnsMalformed`. */
export function parseDnsHeader(view: DataView, off: number, len: number, out: DnsHeader): number {
  if (len < DNS_HEADER_LEN) return DropReason.DnsMalformed;
  out.id = view.getUint16(off);
  out.flags = view.getUint16(off + 2);
  out.qdCount = view.getUint16(off + QDCOUNT);
  out.anCount = view.getUint16(off + ANCOUNT);
  out.nsCount = view.getUint16(off + NSCOUNT);
  out.arCount = view.getUint16(off + ARCOUNT);
  return 0;
}

/**
 * End of the single question, relative to `off`, or `DnsMalformed`: another number of questions, a label over 63 bytes, a
 * compression pointer, a name over 255 bytes, or an end past `len`.
 */
export function questionEnd(view: DataView, off: number, len: number): number {
  if (len < DNS_HEADER_LEN || view.getUint16(off + QDCOUNT) !== 1) return DropReason.DnsMalformed;
  let p = DNS_HEADER_LEN;
  for (;;) {
    if (p >= len) return DropReason.DnsMalformed;
    const label = view.getUint8(off + p);
    // A pointer has the two highest bits set, so it fails here as well.
    if (label > MAX_LABEL) return DropReason.DnsMalformed;
    p += 1 + label;
    if (p - DNS_HEADER_LEN > MAX_NAME) return DropReason.DnsMalformed;
    if (label === 0) break;
  }
  p += 4;
  return p <= len ? p : DropReason.DnsMalformed;
}

/**
 * Does the message of `len` bytes at `off` have the one question that ends, in the query at `queryOff`, at `end`? Names
 * compare without ASCII case (RFC 4343), type and class exactly. Bytes that are the same have the same labels, so the
 * message needs no parsing of its own.
 */
export function hasQuestion(
  query: DataView,
  queryOff: number,
  end: number,
  view: DataView,
  off: number,
  len: number,
): boolean {
  if (len < end || view.getUint16(off + QDCOUNT) !== 1) return false;
  // Length bytes are at most 63 and so below 'A': they can be folded along.
  for (let i = DNS_HEADER_LEN; i < end - 4; i++) {
    const a = query.getUint8(queryOff + i);
    const b = view.getUint8(off + i);
    if (a !== b && lowerCase(a) !== lowerCase(b)) return false;
  }
  return query.getUint32(queryOff + end - 4) === view.getUint32(off + end - 4);
}

function lowerCase(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte;
}

/**
 * The UDP payload size (bytes) that the query announces by EDNS (RFC 6891 §6.2.3), at least 512; 512 without OPT or when the
 * records cannot be passed over.
 */
export function ednsUdpSize(view: DataView, off: number, len: number): number {
  let p = questionEnd(view, off, len);
  if (p < 0) return DNS_MIN_UDP_SIZE;
  const records =
    view.getUint16(off + ANCOUNT) + view.getUint16(off + NSCOUNT) + view.getUint16(off + ARCOUNT);
  for (let i = 0; i < records && i < MAX_RECORDS; i++) {
    const name = p;
    p = skipName(view, off, len, p);
    if (p < 0 || len - p < 10) return DNS_MIN_UDP_SIZE;
    if (view.getUint16(off + p) === TYPE_OPT && p === name + 1) {
      const size = view.getUint16(off + p + 2);
      return Math.max(size, DNS_MIN_UDP_SIZE);
    }
    p += 10 + view.getUint16(off + p + 8);
  }
  return DNS_MIN_UDP_SIZE;
}

/** Offset behind the name at `p`, or -1; a compression pointer ends a name. */
function skipName(view: DataView, off: number, len: number, p: number): number {
  let q = p;
  while (q < len) {
    const label = view.getUint8(off + q);
    if (label === 0) return q + 1;
    if (label >= 0xc0) return q + 2;
    if (label > MAX_LABEL) return -1;
    q += 1 + label;
  }
  return -1;
}

/** Copies header and question (if it can be read) to `dstOff` with new flags and no records; returns the length. */
function emitHeaderAndQuestion(
  view: DataView,
  srcOff: number,
  srcLen: number,
  dstOff: number,
  flags: number,
): number {
  const id = view.getUint16(srcOff);
  const end = questionEnd(view, srcOff, srcLen);
  for (let i = DNS_HEADER_LEN; i < end; i++) view.setUint8(dstOff + i, view.getUint8(srcOff + i));
  view.setUint16(dstOff, id);
  view.setUint16(dstOff + 2, flags);
  view.setUint16(dstOff + QDCOUNT, end < 0 ? 0 : 1);
  view.setUint16(dstOff + ANCOUNT, 0);
  view.setUint16(dstOff + NSCOUNT, 0);
  view.setUint16(dstOff + ARCOUNT, 0);
  return end < 0 ? DNS_HEADER_LEN : end;
}

/**
 * Answers the query at `srcOff` with an error: header and question, QR and RA set, opcode and RD kept. `dstOff` is in the same
 * view, either `srcOff` itself or clear of the source. Returns the length, or `DnsMalformed` below 12 bytes.
 */
export function emitDnsServfail(
  view: DataView,
  srcOff: number,
  srcLen: number,
  dstOff: number,
  rcode: number = DNS_RCODE_SERVFAIL,
): number {
  if (srcLen < DNS_HEADER_LEN) return DropReason.DnsMalformed;
  const kept = view.getUint16(srcOff + 2) & (OPCODE_MASK | DNS_FLAG_RD);
  return emitHeaderAndQuestion(view, srcOff, srcLen, dstOff, kept | DNS_FLAG_QR | DNS_FLAG_RA | rcode);
}

/**
 * Makes the truncated answer that sends the client to TCP: header and question with QR, RA and TC, no records. The source is
 * the query or the answer that is too long (whose AA and rcode are kept). Placement and result as {@link emitDnsServfail}.
 */
export function emitDnsTruncated(view: DataView, srcOff: number, srcLen: number, dstOff: number): number {
  if (srcLen < DNS_HEADER_LEN) return DropReason.DnsMalformed;
  const source = view.getUint16(srcOff + 2);
  let kept = source & (OPCODE_MASK | DNS_FLAG_RD);
  if ((source & DNS_FLAG_QR) !== 0) kept |= source & (DNS_FLAG_AA | RCODE_MASK);
  return emitHeaderAndQuestion(view, srcOff, srcLen, dstOff, kept | DNS_FLAG_QR | DNS_FLAG_RA | DNS_FLAG_TC);
}
