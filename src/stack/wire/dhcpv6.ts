/**
 * DHCPv6 (RFC 8415) as a server of one address reads and writes it: clients' messages, with the options that an answer
 * depends on, and answers. Relays' messages are another format, and left out: a guest's link has none.
 */
import { IpAddress } from './address.ts';
import { DropReason } from './drop-reason.ts';
import type { SearchDomains } from './search-domains.ts';

export const DHCPV6_CLIENT_PORT = 546;
export const DHCPV6_SERVER_PORT = 547;

export const DHCPV6_SOLICIT = 1;
export const DHCPV6_ADVERTISE = 2;
export const DHCPV6_REQUEST = 3;
export const DHCPV6_CONFIRM = 4;
export const DHCPV6_RENEW = 5;
export const DHCPV6_REBIND = 6;
export const DHCPV6_REPLY = 7;
export const DHCPV6_INFORMATION_REQUEST = 11;

/** Bytes of type and transaction id, of an option's code and length, and of what stands in front of an option's options. */
const HEADER = 4;
const OPTION_HEADER = 4;
const IA_NA_BYTES = 12;
const IA_TA_BYTES = 4;
const IA_ADDRESS_BYTES = 24;
/** RFC 8415 §11.1: with its type of 2. */
const DUID_MAX = 130;
const DUID_LL_BYTES = 10;

const OPTION_CLIENT_ID = 1;
const OPTION_SERVER_ID = 2;
const OPTION_IA_NA = 3;
const OPTION_IA_TA = 4;
const OPTION_IA_ADDRESS = 5;
const OPTION_STATUS_CODE = 13;
const OPTION_DNS_SERVERS = 23;
const OPTION_DOMAIN_LIST = 24;
const OPTION_CLIENT_FQDN = 39;

/** RFC 8415 §7.7. */
const FOR_EVER = 0xffffffff;
const NOT_ON_LINK = 4;
/** RFC 4704 §4.1: names are not updated. */
const FQDN_NO_UPDATE = 4;
const NOT_ON_LINK_TEXT = new TextEncoder().encode('Prefix not appropriate for link.');

/** Parsed message of a client. */
export class Dhcpv6Message {
  type = 0;
  transactionId = 0;
  /** Where the content of the client's and the server's id begins, and its bytes; 0 bytes: it is not there. */
  clientIdAt = 0;
  clientIdLength = 0;
  serverIdAt = 0;
  serverIdLength = 0;
  /** There is an IA_NA, or one for temporary addresses; the number of the first IA_NA. */
  hasAddresses = false;
  hasNonTemporary = false;
  iaid = 0;
  /** Some address in them is not the one given to the parser. */
  isForeign = false;
}

const found = new IpAddress();

/** Reads a UDP payload of `len` bytes; 0 or `DhcpMalformed`. `address` is the one that the client may have. */
export function parseDhcpv6(
  view: DataView,
  off: number,
  len: number,
  address: IpAddress,
  out: Dhcpv6Message,
): number {
  if (len < HEADER) return DropReason.DhcpMalformed;
  out.type = view.getUint8(off);
  out.transactionId = view.getUint32(off) & 0xffffff;
  out.clientIdLength = 0;
  out.serverIdLength = 0;
  out.hasAddresses = false;
  out.hasNonTemporary = false;
  out.iaid = 0;
  out.isForeign = false;
  const end = off + len;
  let at = off + HEADER;
  while (at < end) {
    if (end - at < OPTION_HEADER) return DropReason.DhcpMalformed;
    const code = view.getUint16(at);
    const length = view.getUint16(at + 2);
    at += OPTION_HEADER;
    if (length > end - at || !readOption(view, at, code, length, address, out))
      return DropReason.DhcpMalformed;
    at += length;
  }
  return 0;
}

/** False when an option that we read has a length that it cannot have. */
function readOption(
  view: DataView,
  at: number,
  code: number,
  length: number,
  address: IpAddress,
  out: Dhcpv6Message,
): boolean {
  switch (code) {
    case OPTION_CLIENT_ID:
      out.clientIdAt = at;
      out.clientIdLength = length;
      return length > 2 && length <= DUID_MAX;
    case OPTION_SERVER_ID:
      out.serverIdAt = at;
      out.serverIdLength = length;
      return length > 2 && length <= DUID_MAX;
    case OPTION_IA_NA:
      if (length < IA_NA_BYTES) return false;
      if (!out.hasNonTemporary) out.iaid = view.getUint32(at);
      out.hasNonTemporary = true;
      return readAddresses(view, at + IA_NA_BYTES, at + length, address, out);
    case OPTION_IA_TA:
      if (length < IA_TA_BYTES) return false;
      return readAddresses(view, at + IA_TA_BYTES, at + length, address, out);
    default:
      return true;
  }
}

function readAddresses(
  view: DataView,
  start: number,
  end: number,
  address: IpAddress,
  out: Dhcpv6Message,
): boolean {
  out.hasAddresses = true;
  let at = start;
  while (at < end) {
    if (end - at < OPTION_HEADER) return false;
    const length = view.getUint16(at + 2);
    if (length > end - at - OPTION_HEADER) return false;
    if (view.getUint16(at) === OPTION_IA_ADDRESS) {
      if (length < IA_ADDRESS_BYTES) return false;
      if (!found.readV6(view, at + OPTION_HEADER).equals(address)) out.isForeign = true;
    }
    at += OPTION_HEADER + length;
  }
  return true;
}

/** What an answer says, besides whom it answers. Empty lists are left out. */
export class Dhcpv6Reply {
  type: number = DHCPV6_REPLY;
  /** Our MAC address, of which our id is made (RFC 8415 §11.4). */
  macHi = 0;
  macLo = 0;
  /** The client's; null: it gets none. */
  address: IpAddress | null = null;
  /** The addresses that the client has named are not for this link: nothing else is said. */
  isForeign = false;
  dns: readonly IpAddress[] = [];
  search: SearchDomains | null = null;
  /** The client's own name, as RFC 1035 §3.1 has it; empty leaves it out. */
  fqdn: Uint8Array = new Uint8Array(0);
}

/** Writes the answer to the message `to`, which lies in `view`; returns its length, 800 bytes at most. */
export function emitDhcpv6Reply(
  view: DataView,
  to: Dhcpv6Message,
  out: DataView,
  off: number,
  r: Dhcpv6Reply,
): number {
  out.setUint32(off, (r.type << 24) | to.transactionId);
  let p = off + HEADER;
  if (to.clientIdLength > 0) {
    p = emitHeader(out, p, OPTION_CLIENT_ID, to.clientIdLength);
    for (let i = 0; i < to.clientIdLength; i++) out.setUint8(p + i, view.getUint8(to.clientIdAt + i));
    p += to.clientIdLength;
  }
  p = emitHeader(out, p, OPTION_SERVER_ID, DUID_LL_BYTES);
  out.setUint32(p, (3 << 16) | 1);
  out.setUint16(p + 4, r.macHi);
  out.setUint32(p + 6, r.macLo);
  p += DUID_LL_BYTES;
  if (r.isForeign) return emitNotOnLink(out, p) - off;
  if (r.address !== null && to.hasNonTemporary) p = emitAddress(out, p, to.iaid, r.address);
  if (r.dns.length > 0) {
    p = emitHeader(out, p, OPTION_DNS_SERVERS, 16 * r.dns.length);
    for (let i = 0; i < r.dns.length; i++, p += 16) r.dns[i]?.writeV6(out, p);
  }
  if (r.search !== null && r.search.names.length > 0) {
    p = emitHeader(out, p, OPTION_DOMAIN_LIST, r.search.names.length);
    p = emitBytes(out, p, r.search.names);
  }
  if (r.fqdn.length > 0) {
    p = emitHeader(out, p, OPTION_CLIENT_FQDN, 1 + r.fqdn.length);
    out.setUint8(p, FQDN_NO_UPDATE);
    p = emitBytes(out, p + 1, r.fqdn);
  }
  return p - off;
}

/** RFC 8415 §17.1: whether our id is what the message names. */
export function isOurServerId(view: DataView, m: Dhcpv6Message, macHi: number, macLo: number): boolean {
  const at = m.serverIdAt;
  return (
    m.serverIdLength === DUID_LL_BYTES &&
    view.getUint32(at) === ((3 << 16) | 1) &&
    view.getUint16(at + 4) === macHi &&
    view.getUint32(at + 6) === macLo
  );
}

function emitAddress(out: DataView, at: number, iaid: number, address: IpAddress): number {
  const p = emitHeader(out, at, OPTION_IA_NA, IA_NA_BYTES + OPTION_HEADER + IA_ADDRESS_BYTES);
  out.setUint32(p, iaid);
  out.setUint32(p + 4, FOR_EVER);
  out.setUint32(p + 8, FOR_EVER);
  const inner = emitHeader(out, p + IA_NA_BYTES, OPTION_IA_ADDRESS, IA_ADDRESS_BYTES);
  address.writeV6(out, inner);
  out.setUint32(inner + 16, FOR_EVER);
  out.setUint32(inner + 20, FOR_EVER);
  return inner + IA_ADDRESS_BYTES;
}

function emitNotOnLink(out: DataView, at: number): number {
  const p = emitHeader(out, at, OPTION_STATUS_CODE, 2 + NOT_ON_LINK_TEXT.length);
  out.setUint16(p, NOT_ON_LINK);
  return emitBytes(out, p + 2, NOT_ON_LINK_TEXT);
}

/** Where the option's content begins. */
function emitHeader(out: DataView, at: number, code: number, length: number): number {
  out.setUint16(at, code);
  out.setUint16(at + 2, length);
  return at + OPTION_HEADER;
}

/** Where it ends. */
function emitBytes(out: DataView, at: number, bytes: Uint8Array): number {
  for (let i = 0; i < bytes.length; i++) out.setUint8(at + i, bytes[i] as number);
  return at + bytes.length;
}
