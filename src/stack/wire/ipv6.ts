/**
 * IPv6 header and extension headers (RFC 8200, RFC 5095, RFC 6946, RFC 7112).
 *
 * `parseIpv6` reads the fixed header and walks the chain up to the transport header or up to the header of a true fragment.
 * At most 8 extension headers and 512 bytes of them are walked (hazard S-02): real hosts send one or two. When the RFC asks
 * for an ICMPv6 Parameter Problem, the drop reason comes with `icmpCode` and `problemPointer` (relative to the packet).
 * Each turn of the walk advances by at least 8 bytes.
 *
 * Left out on purpose: jumbograms (RFC 2675) are dropped; routing headers are passed only when nothing is left to route;
 * ESP, AH, Mobility and everything unknown stay in `protocol` for the caller to refuse with 4/1 at `unknownNextHeaderOff`.
 * Source and scope rules belong to ingress, except for mapped addresses, which this representation cannot hold.
 */
import { IpAddress } from './address.ts';
import { DropReason } from './drop-reason.ts';

/** Bytes of the fixed header. */
export const IPV6_HEADER_LEN = 40;
/** Where the fixed header names what follows. */
export const IPV6_NEXT_HEADER_OFF = 6;
/** RFC 8200 §5: what every link with IPv6 carries. */
export const IPV6_MIN_MTU = 1280;
/** Bytes of a fragment header (RFC 8200 §4.5). */
export const IPV6_FRAGMENT_HEADER_LEN = 8;
export const IPV6_MAX_EXTENSION_HEADERS = 8;
/** Bytes. */
export const IPV6_MAX_EXTENSION_BYTES = 512;

/** Next-header values (RFC 8200 §4). */
export const NEXT_HEADER_HOP_BY_HOP = 0;
export const NEXT_HEADER_ROUTING = 43;
export const NEXT_HEADER_FRAGMENT = 44;
export const NEXT_HEADER_NONE = 59;
export const NEXT_HEADER_DESTINATION = 60;

const PAYLOAD_LENGTH = 4;
const HOP_LIMIT = 7;
const SOURCE = 8;
const DESTINATION = 24;

const OPTION_PAD1 = 0;
const OPTION_PADN = 1;
const OPTION_JUMBO = 0xc2;

/** Parsed header and the result of the walk. Offsets are in bytes relative to the start of the packet. */
export class Ipv6Header {
  trafficClass = 0;
  flowLabel = 0;
  /** Bytes behind the fixed header. */
  payloadLen = 0;
  /** Of the fixed header; what is written by {@link emitIpv6}. */
  nextHeader = 0;
  hopLimit = 0;
  readonly src: IpAddress = new IpAddress();
  readonly dst: IpAddress = new IpAddress();
  /** The first next-header value that is not an extension header we walk; for a fragment, its next header. */
  protocol = 0;
  transportOff: number = IPV6_HEADER_LEN;
  transportLen = 0;
  /** False for an atomic fragment (RFC 6946), which is a whole packet. */
  isFragment = false;
  /** Of the (last seen) fragment header, also of an atomic one; -1 without. */
  fragmentHeaderOff = -1;
  /** Bytes. */
  fragmentOffset = 0;
  moreFragments = false;
  fragmentId = 0;
  /** Where the octet stands that named `protocol`: the pointer of an ICMPv6 4/1; -1 before the walk ended well. */
  unknownNextHeaderOff = -1;
  /** ICMPv6 Parameter Problem code due for the drop: 0, 1, 2, or -1 for none. Multicast is already considered. */
  icmpCode = -1;
  problemPointer = -1;
}

/**
 * Reads a packet of `len` bytes; 0 or a drop reason. Bytes behind 40 + `payloadLen` are link padding and not walked.
 * Next header 59 is dropped as `Ip6NoNext`. The view is borrowed until return.
 */
export function parseIpv6(view: DataView, off: number, len: number, out: Ipv6Header): number {
  out.icmpCode = -1;
  if (len < 1) return DropReason.LinkShort;
  if (view.getUint8(off) >>> 4 !== 6) return DropReason.IpVersion;
  if (len < IPV6_HEADER_LEN) return DropReason.LinkShort;
  const first = view.getUint32(off);
  const payloadLen = view.getUint16(off + PAYLOAD_LENGTH);
  const nextHeader = view.getUint8(off + IPV6_NEXT_HEADER_OFF);
  out.trafficClass = (first >>> 20) & 0xff;
  out.flowLabel = first & 0xfffff;
  out.payloadLen = payloadLen;
  out.nextHeader = nextHeader;
  out.hopLimit = view.getUint8(off + HOP_LIMIT);
  out.src.readV6(view, off + SOURCE);
  out.dst.readV6(view, off + DESTINATION);
  if (payloadLen === 0) return zeroPayloadReason(view, off, len, nextHeader, out);
  if (IPV6_HEADER_LEN + payloadLen > len) return DropReason.Ip6Length;
  if (out.src.isV4 || out.dst.isV4) return DropReason.Ip6Addr;
  return walkExtensionHeaders(
    view,
    off,
    IPV6_HEADER_LEN + payloadLen,
    nextHeader,
    IPV6_NEXT_HEADER_OFF,
    IPV6_HEADER_LEN,
    false,
    out,
  );
}

/** Payload length 0 is a jumbogram when the hop-by-hop header says so (RFC 2675 §3), else an empty packet. */
function zeroPayloadReason(
  view: DataView,
  off: number,
  len: number,
  nextHeader: number,
  out: Ipv6Header,
): number {
  if (nextHeader !== NEXT_HEADER_HOP_BY_HOP || len < IPV6_HEADER_LEN + 8) return DropReason.Ip6Length;
  const size = (view.getUint8(off + IPV6_HEADER_LEN + 1) + 1) << 3;
  if (IPV6_HEADER_LEN + size > len) return DropReason.Ip6Length;
  const reason = checkOptions(view, off, IPV6_HEADER_LEN + 2, IPV6_HEADER_LEN + size, true, out);
  if (reason === DropReason.Ip6Jumbo) return reason;
  out.icmpCode = -1;
  return DropReason.Ip6Length;
}

/**
 * Walks the chain in the packet of `len` bytes at `off` (fixed header included) from `start`, where a header of type
 * `nextHeader` begins, named by the octet at `nextHeaderOff`. Fills the walk fields of `out`; reads `out.dst` to know whether
 * an ICMP error is allowed. Returns 0 or a drop reason.
 *
 * Reassembly walks the whole datagram again with `inFragment` true: a further fragment header or an incomplete chain is then
 * `Frag6Chain`. The same call on a first fragment alone tells whether its chain is complete (RFC 7112 §5).
 */
export function walkExtensionHeaders(
  view: DataView,
  off: number,
  len: number,
  nextHeader: number,
  nextHeaderOff: number,
  start: number,
  inFragment: boolean,
  out: Ipv6Header,
): number {
  let next = nextHeader;
  let nextOff = nextHeaderOff;
  let p = start;
  let fragmented = inFragment;
  out.isFragment = false;
  out.fragmentHeaderOff = -1;
  out.fragmentOffset = 0;
  out.moreFragments = false;
  out.fragmentId = 0;
  out.unknownNextHeaderOff = -1;
  out.icmpCode = -1;
  out.problemPointer = -1;
  for (let count = 0; ; count++) {
    if (
      next !== NEXT_HEADER_HOP_BY_HOP &&
      next !== NEXT_HEADER_DESTINATION &&
      next !== NEXT_HEADER_ROUTING &&
      next !== NEXT_HEADER_FRAGMENT
    ) {
      break;
    }
    if (count === IPV6_MAX_EXTENSION_HEADERS) return DropReason.Ip6Chain;
    // RFC 8200 §4.1: hop-by-hop options only directly behind the fixed header, else as an unknown next header.
    if (next === NEXT_HEADER_HOP_BY_HOP && nextOff !== IPV6_NEXT_HEADER_OFF) {
      return problem(out, DropReason.Ip6Chain, 1, nextOff);
    }
    if (len - p < 8) return fragmented ? DropReason.Frag6Chain : DropReason.Ip6Chain;
    if (next === NEXT_HEADER_FRAGMENT) {
      if (fragmented) return DropReason.Frag6Chain;
      fragmented = true;
      if (p + 8 - start > IPV6_MAX_EXTENSION_BYTES) return DropReason.Ip6Chain;
      const reason = readFragmentHeader(view, off, len, p, out);
      if (reason !== 0) return reason;
      next = view.getUint8(off + p);
      nextOff = p;
      p += IPV6_FRAGMENT_HEADER_LEN;
      if (out.isFragment) return finish(out, next, nextOff, p, len);
      continue;
    }
    const size = (view.getUint8(off + p + 1) + 1) << 3;
    if (size > len - p) return fragmented ? DropReason.Frag6Chain : DropReason.Ip6Chain;
    if (p + size - start > IPV6_MAX_EXTENSION_BYTES) return DropReason.Ip6Chain;
    if (next === NEXT_HEADER_ROUTING) {
      // RFC 8200 §4.4: an unknown routing type with segments left is a problem at the type field; RFC 5095 for type 0.
      if (view.getUint8(off + p + 3) !== 0) return problem(out, DropReason.Ip6Rh, 0, p + 2);
    } else {
      const reason = checkOptions(view, off, p + 2, p + size, next === NEXT_HEADER_HOP_BY_HOP, out);
      if (reason !== 0) return reason;
    }
    next = view.getUint8(off + p);
    nextOff = p;
    p += size;
  }
  if (next === NEXT_HEADER_NONE) return DropReason.Ip6NoNext;
  return finish(out, next, nextOff, p, len);
}

/**
 * Where the message of `protocol` begins in the packet of `len` bytes at `off`, relative; -1 when it carries none, or not
 * its beginning. For packets that are dropped: headers and options are passed over whatever they say.
 */
export function ipv6Payload(view: DataView, off: number, len: number, protocol: number): number {
  if (len <= IPV6_HEADER_LEN) return -1;
  let next = view.getUint8(off + IPV6_NEXT_HEADER_OFF);
  let p = IPV6_HEADER_LEN;
  while (next !== protocol) {
    const isOptions = next === NEXT_HEADER_HOP_BY_HOP || next === NEXT_HEADER_DESTINATION;
    if (!isOptions && next !== NEXT_HEADER_ROUTING && next !== NEXT_HEADER_FRAGMENT) return -1;
    if (len - p <= 8) return -1;
    const isFragment = next === NEXT_HEADER_FRAGMENT;
    if (isFragment && (view.getUint16(off + p + 2) & 0xfff8) !== 0) return -1;
    next = view.getUint8(off + p);
    p += isFragment ? IPV6_FRAGMENT_HEADER_LEN : (view.getUint8(off + p + 1) + 1) << 3;
  }
  return p < len ? p : -1;
}

function finish(out: Ipv6Header, protocol: number, nextOff: number, p: number, len: number): number {
  out.protocol = protocol;
  out.unknownNextHeaderOff = nextOff;
  out.transportOff = p;
  out.transportLen = len - p;
  return 0;
}

/** Notes the Parameter Problem that is due; RFC 4443 §2.4 (e.3) allows none of codes 0 and 1 for a multicast destination. */
function problem(out: Ipv6Header, reason: DropReason, code: number, pointer: number): number {
  if (!out.dst.isMulticast) {
    out.icmpCode = code;
    out.problemPointer = pointer;
  }
  return reason;
}

function readFragmentHeader(view: DataView, off: number, len: number, p: number, out: Ipv6Header): number {
  const word = view.getUint16(off + p + 2);
  out.fragmentHeaderOff = p;
  out.fragmentOffset = word & 0xfff8;
  out.moreFragments = (word & 1) !== 0;
  out.fragmentId = view.getUint32(off + p + 4);
  out.isFragment = out.moreFragments || out.fragmentOffset !== 0;
  if (!out.isFragment) return 0;
  const size = len - p - IPV6_FRAGMENT_HEADER_LEN;
  // RFC 8200 §4.5: the two errors that are answered, with the pointers it names.
  if (out.moreFragments && (size & 7) !== 0) return problem(out, DropReason.FragLength, 0, PAYLOAD_LENGTH);
  const unfragmentable = p - IPV6_HEADER_LEN;
  if (unfragmentable + out.fragmentOffset + size > 65535) {
    return problem(out, DropReason.FragTooLong, 0, p + 2);
  }
  return 0;
}

/**
 * Walks the options of a hop-by-hop or destination header from `start` to `end` (relative). RFC 8200 §4.2: the two highest
 * bits of an unknown type say what to do: 00 skip, 01 drop, 10 drop and report, 11 drop and report unless multicast.
 */
function checkOptions(
  view: DataView,
  off: number,
  start: number,
  end: number,
  hopByHop: boolean,
  out: Ipv6Header,
): number {
  let p = start;
  while (p < end) {
    const type = view.getUint8(off + p);
    if (type === OPTION_PAD1) {
      p++;
      continue;
    }
    if (end - p < 2) return DropReason.Ip6Option;
    const size = 2 + view.getUint8(off + p + 1);
    if (size > end - p) return DropReason.Ip6Option;
    if (type !== OPTION_PADN) {
      if (type === OPTION_JUMBO && hopByHop) return DropReason.Ip6Jumbo;
      const action = type >>> 6;
      if (action === 1) return DropReason.Ip6Option;
      if (action === 2 || (action === 3 && !out.dst.isMulticast)) {
        out.icmpCode = 2;
        out.problemPointer = p;
        return DropReason.Ip6Option;
      }
      if (action === 3) return DropReason.Ip6Option;
    }
    p += size;
  }
  return 0;
}

/** Writes the 40-byte fixed header; returns 40. */
export function emitIpv6(view: DataView, off: number, h: Ipv6Header): number {
  view.setUint32(off, (0x60000000 | (h.trafficClass << 20) | h.flowLabel) >>> 0);
  view.setUint16(off + PAYLOAD_LENGTH, h.payloadLen);
  view.setUint8(off + IPV6_NEXT_HEADER_OFF, h.nextHeader);
  view.setUint8(off + HOP_LIMIT, h.hopLimit);
  h.src.writeV6(view, off + SOURCE);
  h.dst.writeV6(view, off + DESTINATION);
  return IPV6_HEADER_LEN;
}
