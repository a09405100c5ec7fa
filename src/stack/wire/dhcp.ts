/**
 * DHCPv4 messages: BOOTP frame and options (RFC 2131, RFC 2132; RFC 951 for the 300-byte minimum).
 *
 * Reading is strict (hazard D-06): Ethernet clients only, magic cookie, every option within the message, END present, a
 * message type present; so plain BOOTP is `DhcpMalformed`. Option overload, option concatenation (RFC 3396), relay options
 * and authentication are left out on purpose. IPv4 addresses are unsigned 32-bit values.
 */
import { DropReason } from './drop-reason.ts';
import type { SearchDomains } from './search-domains.ts';

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;

export const BOOTREQUEST = 1;
export const BOOTREPLY = 2;

export const DHCP_DISCOVER = 1;
export const DHCP_OFFER = 2;
export const DHCP_REQUEST = 3;
export const DHCP_DECLINE = 4;
export const DHCP_ACK = 5;
export const DHCP_NAK = 6;
export const DHCP_RELEASE = 7;
export const DHCP_INFORM = 8;

/** `flags`: the client cannot receive unicast yet (RFC 2131 §4.1). */
export const DHCP_FLAG_BROADCAST = 0x8000;
/** Bytes of the shortest message that old clients accept (RFC 1542 §2.1). */
export const DHCP_MIN_LEN = 300;

const XID = 4;
const SECS = 8;
const FLAGS = 10;
const CIADDR = 12;
const YIADDR = 16;
const SIADDR = 20;
const GIADDR = 24;
const CHADDR = 28;
const SNAME = 44;
const COOKIE = 236;
const OPTIONS = 240;
const MAGIC = 0x63825363;

const OPTION_PAD = 0;
const OPTION_SUBNET_MASK = 1;
const OPTION_ROUTER = 3;
const OPTION_DNS = 6;
const OPTION_HOSTNAME = 12;
const OPTION_DOMAIN = 15;
const OPTION_MTU = 26;
const OPTION_BROADCAST = 28;
const OPTION_REQUESTED_IP = 50;
const OPTION_LEASE_TIME = 51;
const OPTION_MESSAGE_TYPE = 53;
const OPTION_SERVER_ID = 54;
const OPTION_MAX_SIZE = 57;
const OPTION_FQDN = 81;
const OPTION_SEARCH = 119;
const OPTION_CLASSLESS_ROUTES = 121;
const OPTION_END = 255;

/** Parsed message. Absent address options are 0. */
export class DhcpMessage {
  op = 0;
  htype = 0;
  hlen = 0;
  xid = 0;
  flags = 0;
  ciaddr = 0;
  yiaddr = 0;
  giaddr = 0;
  chaddrHi = 0;
  chaddrLo = 0;
  messageType = 0;
  requestedIp = 0;
  serverId = 0;
}

/** Reads a UDP payload of `len` bytes; 0 or `DhcpMalformed`. The caller checks `op` for the direction it expects. */
export function parseDhcp(view: DataView, off: number, len: number, out: DhcpMessage): number {
  if (len <= OPTIONS || view.getUint32(off + COOKIE) !== MAGIC) return DropReason.DhcpMalformed;
  out.op = view.getUint8(off);
  out.htype = view.getUint8(off + 1);
  out.hlen = view.getUint8(off + 2);
  if (out.op !== BOOTREQUEST && out.op !== BOOTREPLY) return DropReason.DhcpMalformed;
  if (out.htype !== 1 || out.hlen !== 6) return DropReason.DhcpMalformed;
  out.xid = view.getUint32(off + XID);
  out.flags = view.getUint16(off + FLAGS);
  out.ciaddr = view.getUint32(off + CIADDR);
  out.yiaddr = view.getUint32(off + YIADDR);
  out.giaddr = view.getUint32(off + GIADDR);
  out.chaddrHi = view.getUint16(off + CHADDR);
  out.chaddrLo = view.getUint32(off + CHADDR + 2);
  out.messageType = 0;
  out.requestedIp = 0;
  out.serverId = 0;
  return parseOptions(view, off + OPTIONS, off + len, out);
}

function parseOptions(view: DataView, start: number, end: number, out: DhcpMessage): number {
  let p = start;
  while (p < end) {
    const code = view.getUint8(p);
    if (code === OPTION_END) return out.messageType === 0 ? DropReason.DhcpMalformed : 0;
    if (code === OPTION_PAD) {
      p++;
      continue;
    }
    if (end - p < 2) return DropReason.DhcpMalformed;
    const length = view.getUint8(p + 1);
    if (length > end - p - 2 || !readOption(view, p + 2, code, length, out)) return DropReason.DhcpMalformed;
    p += 2 + length;
  }
  return DropReason.DhcpMalformed;
}

/** False when an option that we read has a length that it cannot have. */
function readOption(view: DataView, p: number, code: number, length: number, out: DhcpMessage): boolean {
  switch (code) {
    case OPTION_MESSAGE_TYPE:
      if (length !== 1) return false;
      out.messageType = view.getUint8(p);
      return true;
    case OPTION_REQUESTED_IP:
      if (length !== 4) return false;
      out.requestedIp = view.getUint32(p);
      return true;
    case OPTION_SERVER_ID:
      if (length !== 4) return false;
      out.serverId = view.getUint32(p);
      return true;
    // Not used; wrong all the same.
    case OPTION_MAX_SIZE:
      return length === 2;
    default:
      return true;
  }
}

/** What a reply says. Options whose value is 0 (or an empty list) are left out, as a NAK needs. */
export class DhcpReply {
  messageType: number = DHCP_OFFER;
  xid = 0;
  flags = 0;
  ciaddr = 0;
  yiaddr = 0;
  giaddr = 0;
  chaddrHi = 0;
  chaddrLo = 0;
  serverId = 0;
  leaseSeconds = 0;
  subnetMask = 0;
  broadcast = 0;
  router = 0;
  /** At most 63 servers. */
  dns: readonly number[] = [];
  /** Domains for short names; null or empty leaves them out. */
  search: SearchDomains | null = null;
  /** Bytes including the IP header. */
  mtu = 0;
  /** The router is outside the client's network: a route to it is told, and one by it (RFC 3442). */
  routerIsBeyond = false;
  /** The client's; empty leaves it out. */
  hostname: Uint8Array = new Uint8Array(0);
  /** The same in full, as RFC 1035 §3.1 has it (RFC 4702 §2). */
  fqdn: Uint8Array = new Uint8Array(0);
}

/** Writes a BOOTREPLY for Ethernet, zero-padded to 300 bytes; returns its length. */
export function emitDhcpReply(view: DataView, off: number, r: DhcpReply): number {
  view.setUint32(off, (BOOTREPLY << 24) | (1 << 16) | (6 << 8));
  view.setUint32(off + XID, r.xid);
  view.setUint16(off + SECS, 0);
  view.setUint16(off + FLAGS, r.flags);
  view.setUint32(off + CIADDR, r.ciaddr);
  view.setUint32(off + YIADDR, r.yiaddr);
  view.setUint32(off + SIADDR, 0);
  view.setUint32(off + GIADDR, r.giaddr);
  view.setUint16(off + CHADDR, r.chaddrHi);
  view.setUint32(off + CHADDR + 2, r.chaddrLo);
  view.setUint16(off + CHADDR + 6, 0);
  view.setUint32(off + CHADDR + 8, 0);
  view.setUint32(off + CHADDR + 12, 0);
  for (let i = SNAME; i < COOKIE; i += 4) view.setUint32(off + i, 0);
  view.setUint32(off + COOKIE, MAGIC);
  let p = off + OPTIONS;
  view.setUint8(p, OPTION_MESSAGE_TYPE);
  view.setUint8(p + 1, 1);
  view.setUint8(p + 2, r.messageType);
  p += 3;
  p += emitWord(view, p, OPTION_SERVER_ID, r.serverId);
  p += emitWord(view, p, OPTION_LEASE_TIME, r.leaseSeconds);
  p += emitWord(view, p, OPTION_SUBNET_MASK, r.subnetMask);
  p += emitWord(view, p, OPTION_BROADCAST, r.broadcast);
  p += emitWord(view, p, OPTION_ROUTER, r.router);
  const servers = r.dns.length;
  if (servers > 0) {
    view.setUint8(p, OPTION_DNS);
    view.setUint8(p + 1, 4 * servers);
    p += 2;
    for (let i = 0; i < servers; i++) {
      view.setUint32(p, r.dns[i] ?? 0);
      p += 4;
    }
  }
  if (r.search !== null && r.search.names.length > 0) {
    p += emitBytes(view, p, OPTION_DOMAIN, r.search.first);
    p += emitBytes(view, p, OPTION_SEARCH, r.search.names);
  }
  if (r.mtu > 0) {
    view.setUint8(p, OPTION_MTU);
    view.setUint8(p + 1, 2);
    view.setUint16(p + 2, r.mtu);
    p += 4;
  }
  if (r.hostname.length > 0) p += emitBytes(view, p, OPTION_HOSTNAME, r.hostname);
  if (r.fqdn.length > 0) p += emitFqdn(view, p, r.fqdn);
  if (r.routerIsBeyond) {
    // To the router, 32 bits, by no router; to all, 0 bits, by it.
    view.setUint8(p, OPTION_CLASSLESS_ROUTES);
    view.setUint8(p + 1, 14);
    view.setUint8(p + 2, 32);
    view.setUint32(p + 3, r.router);
    view.setUint32(p + 7, 0);
    view.setUint8(p + 11, 0);
    view.setUint32(p + 12, r.router);
    p += 16;
  }
  view.setUint8(p, OPTION_END);
  p++;
  while (p < off + DHCP_MIN_LEN) {
    view.setUint8(p, 0);
    p++;
  }
  return p - off;
}

/** Names are not updated by us (N), and this one is in wire format (E); both codes are 255 (RFC 4702 §2.2). */
function emitFqdn(view: DataView, at: number, name: Uint8Array): number {
  view.setUint8(at, OPTION_FQDN);
  view.setUint8(at + 1, 3 + name.length);
  view.setUint8(at + 2, 0x0c);
  view.setUint16(at + 3, 0xffff);
  for (let i = 0; i < name.length; i++) view.setUint8(at + 5 + i, name[i] as number);
  return 5 + name.length;
}

/** Write an option of bytes; how many it has. */
function emitBytes(view: DataView, at: number, option: number, bytes: Uint8Array): number {
  view.setUint8(at, option);
  view.setUint8(at + 1, bytes.length);
  for (let i = 0; i < bytes.length; i++) view.setUint8(at + 2 + i, bytes[i] as number);
  return 2 + bytes.length;
}

function emitWord(view: DataView, p: number, code: number, value: number): number {
  if (value === 0) return 0;
  view.setUint8(p, code);
  view.setUint8(p + 1, 4);
  view.setUint32(p + 2, value);
  return 6;
}
