/**
 * Neighbour discovery messages (RFC 4861, RFC 4862, RFC 8106 for RDNSS).
 *
 * Read: neighbour solicitation and advertisement, router solicitation (hazard S-06). Router advertisements and redirects
 * come from routers, and the only router here is us: they are `NdIgnored`. Written: NS, NA and RA, with a zero checksum for
 * the caller. Rules that need the IP addresses (NS from :: with a link-layer option, RFC 4861 §7.1.1) belong to the caller.
 * Secure ND, nonces and route information options are left out on purpose.
 */
import { IpAddress } from './address.ts';
import { DropReason } from './drop-reason.ts';
import { isGroupMac } from './ethernet.ts';
import type { SearchDomains } from './search-domains.ts';

export const ND_ROUTER_SOLICITATION = 133;
export const ND_ROUTER_ADVERTISEMENT = 134;
export const ND_NEIGHBOR_SOLICITATION = 135;
export const ND_NEIGHBOR_ADVERTISEMENT = 136;
export const ND_REDIRECT = 137;

/** Flag bits of a neighbour advertisement, as the first byte of the flags word (RFC 4861 §4.4). */
export const ND_NA_ROUTER = 0x80;
export const ND_NA_SOLICITED = 0x40;
export const ND_NA_OVERRIDE = 0x20;

const OPTION_SOURCE_LINK = 1;
const OPTION_TARGET_LINK = 2;
const OPTION_PREFIX = 3;
const OPTION_MTU = 5;
const OPTION_RDNSS = 25;
const OPTION_DNSSL = 31;

const PREFIX_ON_LINK = 0x80;
const PREFIX_AUTONOMOUS = 0x40;

const FLAGS = 4;
const TARGET = 8;
/** Bytes before the options. */
const RS_LEN = 8;
const RA_LEN = 16;
const NEIGHBOR_LEN = 24;
export const ND_HOP_LIMIT = 255;

/** Parsed message. A link-layer address that was not sent has `…Hi` -1. */
export class NdpMessage {
  type = 0;
  /** Of NS and NA; :: for RS. */
  readonly target: IpAddress = new IpAddress();
  /** `ND_NA_…` bits; 0 for other types. */
  flags = 0;
  sourceLinkHi = -1;
  sourceLinkLo = 0;
  targetLinkHi = -1;
  targetLinkLo = 0;
}

/**
 * Reads the ICMPv6 message of `len` bytes at `off`; `hopLimit` is that of its packet and `code` that of its header. Returns
 * 0, `NdMalformed` or `NdIgnored`. The checksum must have been verified.
 */
export function parseNdp(
  view: DataView,
  off: number,
  len: number,
  hopLimit: number,
  code: number,
  out: NdpMessage,
): number {
  // RFC 4861 §6.1, §7.1: hop limit 255 proves that the packet was not forwarded.
  if (len < RS_LEN || hopLimit !== ND_HOP_LIMIT || code !== 0) return DropReason.NdMalformed;
  const type = view.getUint8(off);
  out.type = type;
  out.flags = 0;
  out.sourceLinkHi = -1;
  out.sourceLinkLo = 0;
  out.targetLinkHi = -1;
  out.targetLinkLo = 0;
  out.target.set(0, 0, 0, 0);
  if (type === ND_ROUTER_SOLICITATION) return parseOptions(view, off + RS_LEN, off + len, out);
  if (type !== ND_NEIGHBOR_SOLICITATION && type !== ND_NEIGHBOR_ADVERTISEMENT) return DropReason.NdIgnored;
  if (len < NEIGHBOR_LEN) return DropReason.NdMalformed;
  out.target.readV6(view, off + TARGET);
  if (out.target.isMulticast || out.target.isV4) return DropReason.NdMalformed;
  if (type === ND_NEIGHBOR_ADVERTISEMENT) out.flags = view.getUint8(off + FLAGS) & 0xe0;
  return parseOptions(view, off + NEIGHBOR_LEN, off + len, out);
}

function parseOptions(view: DataView, start: number, end: number, out: NdpMessage): number {
  let p = start;
  while (p < end) {
    if (end - p < 8) return DropReason.NdMalformed;
    const type = view.getUint8(p);
    const units = view.getUint8(p + 1);
    // RFC 4861 §4.6: length 0 discards the packet; it would also never end this loop.
    if (units === 0 || units << 3 > end - p) return DropReason.NdMalformed;
    if (type === OPTION_SOURCE_LINK || type === OPTION_TARGET_LINK) {
      const hi = view.getUint16(p + 2);
      // RFC 2464 §6: one unit for Ethernet. A neighbour at a group address would turn unicast into multicast.
      if (units !== 1 || isGroupMac(hi)) return DropReason.NdMalformed;
      if (type === OPTION_SOURCE_LINK) {
        out.sourceLinkHi = hi;
        out.sourceLinkLo = view.getUint32(p + 4);
      } else {
        out.targetLinkHi = hi;
        out.targetLinkLo = view.getUint32(p + 4);
      }
    } else if (type === OPTION_RDNSS && (units < 3 || (units & 1) === 0)) {
      // RFC 8106 §5.1: 8 bytes and whole addresses of 16.
      return DropReason.NdMalformed;
    }
    p += units << 3;
  }
  return 0;
}

function emitLinkOption(view: DataView, off: number, type: number, macHi: number, macLo: number): number {
  if (macHi < 0) return 0;
  view.setUint8(off, type);
  view.setUint8(off + 1, 1);
  view.setUint16(off + 2, macHi);
  view.setUint32(off + 4, macLo);
  return 8;
}

function emitNeighbor(view: DataView, off: number, type: number, flags: number, target: IpAddress): void {
  view.setUint8(off, type);
  view.setUint8(off + 1, 0);
  view.setUint16(off + 2, 0);
  view.setUint8(off + FLAGS, flags);
  view.setUint8(off + FLAGS + 1, 0);
  view.setUint16(off + FLAGS + 2, 0);
  target.writeV6(view, off + TARGET);
}

/** Writes an NA with `ND_NA_…` flags and the target link-layer option (left out for `macHi` -1); returns its bytes. */
export function emitNeighborAdvertisement(
  view: DataView,
  off: number,
  target: IpAddress,
  flags: number,
  macHi: number,
  macLo: number,
): number {
  emitNeighbor(view, off, ND_NEIGHBOR_ADVERTISEMENT, flags, target);
  return NEIGHBOR_LEN + emitLinkOption(view, off + NEIGHBOR_LEN, OPTION_TARGET_LINK, macHi, macLo);
}

/** Writes an NS with the source link-layer option (left out for `macHi` -1, as in a DAD probe); returns its bytes. */
export function emitNeighborSolicitation(
  view: DataView,
  off: number,
  target: IpAddress,
  macHi: number,
  macLo: number,
): number {
  emitNeighbor(view, off, ND_NEIGHBOR_SOLICITATION, 0, target);
  return NEIGHBOR_LEN + emitLinkOption(view, off + NEIGHBOR_LEN, OPTION_SOURCE_LINK, macHi, macLo);
}

/** RFC 4861 §4.2: M. */
const RA_MANAGED = 0x80;

/** What a router advertisement says, besides that its prefix is on the link. Lifetimes are in seconds; timers are not specified. */
export class RouterAdvertisement {
  /** Addresses are to be had by DHCPv6. */
  managed = false;
  /** Hop limit for the guest; 0 = unspecified. */
  hopLimit = 64;
  /** Seconds; 0 = not a default router. */
  routerLifetime = 0;
  /** Source link-layer option; `macHi` -1 leaves it out. */
  macHi = -1;
  macLo = 0;
  /** Bytes including the IP header; 0 leaves the option out. */
  mtu = 0;
  readonly prefix: IpAddress = new IpAddress();
  /** Bits, 0 to 128; -1 leaves the prefix option out. */
  prefixLength = -1;
  autonomous = true;
  validLifetime = 0;
  preferredLifetime = 0;
  /** Recursive DNS servers, all IPv6, at most 127; none leaves the option out. */
  rdnss: readonly IpAddress[] = [];
  rdnssLifetime = 0;
  /** Domains for short names, for as long; null or empty leaves the option out. */
  search: SearchDomains | null = null;
}

/** Writes an RA with its options, checksum zero; returns its bytes. */
export function emitRouterAdvertisement(view: DataView, off: number, opts: RouterAdvertisement): number {
  view.setUint8(off, ND_ROUTER_ADVERTISEMENT);
  view.setUint8(off + 1, 0);
  view.setUint16(off + 2, 0);
  view.setUint8(off + 4, opts.hopLimit);
  view.setUint8(off + 5, opts.managed ? RA_MANAGED : 0);
  view.setUint16(off + 6, opts.routerLifetime);
  view.setUint32(off + 8, 0);
  view.setUint32(off + 12, 0);
  let p = off + RA_LEN;
  p += emitLinkOption(view, p, OPTION_SOURCE_LINK, opts.macHi, opts.macLo);
  if (opts.mtu > 0) {
    view.setUint32(p, (OPTION_MTU << 24) | (1 << 16));
    view.setUint32(p + 4, opts.mtu);
    p += 8;
  }
  if (opts.prefixLength >= 0) {
    view.setUint8(p, OPTION_PREFIX);
    view.setUint8(p + 1, 4);
    view.setUint8(p + 2, opts.prefixLength);
    view.setUint8(p + 3, PREFIX_ON_LINK | (opts.autonomous ? PREFIX_AUTONOMOUS : 0));
    view.setUint32(p + 4, opts.validLifetime);
    view.setUint32(p + 8, opts.preferredLifetime);
    view.setUint32(p + 12, 0);
    opts.prefix.writeV6(view, p + 16);
    p += 32;
  }
  const servers = opts.rdnss.length;
  if (servers > 0) {
    view.setUint8(p, OPTION_RDNSS);
    view.setUint8(p + 1, 1 + 2 * servers);
    view.setUint16(p + 2, 0);
    view.setUint32(p + 4, opts.rdnssLifetime);
    p += 8;
    for (let i = 0; i < servers; i++) {
      opts.rdnss[i]?.writeV6(view, p);
      p += 16;
    }
  }
  const names = opts.search?.names;
  if (names !== undefined && names.length > 0) {
    const units = 1 + Math.ceil(names.length / 8);
    view.setUint8(p, OPTION_DNSSL);
    view.setUint8(p + 1, units);
    view.setUint16(p + 2, 0);
    view.setUint32(p + 4, opts.rdnssLifetime);
    // Padded with zeros, each of which reads as no name (RFC 8106 §5.2).
    for (let i = 0; i < (units - 1) * 8; i++) view.setUint8(p + 8 + i, names[i] ?? 0);
    p += units * 8;
  }
  return p - off;
}
