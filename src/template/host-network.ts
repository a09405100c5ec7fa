/**
 * The links, addresses and routes of the host, as the kernel tells them (rtnetlink(7), RFC 3549; linux/rtnetlink.h,
 * linux/if_addr.h): bytes only, no socket. What a guest is given a copy of, and so with everything that matters to it,
 * unlike what the policy has to know (sys/route-messages).
 */
import type { InterfaceAddress, InterfaceRoute, NextHop } from '../device-spec.ts';
import { IpAddress } from '../stack/wire/address.ts';
import {
  align,
  attributeLength,
  attributeText,
  findAttribute,
  IFINFO_BYTES,
  NLMSG_HEADER_BYTES,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWROUTE,
} from '../sys/netlink-message.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const IFLA_IFNAME = 3;
const IFF_LOOPBACK = 8;
/** Length of struct ifaddrmsg, rtmsg and rtnexthop. */
const IFADDR_BYTES = 8;
const RTMSG_BYTES = 12;
const RTNEXTHOP_BYTES = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_NOPREFIXROUTE = 0x200;
const RT_SCOPE_LINK = 253;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const RTNH_F_ONLINK = 4;
const RTM_F_CLONED = 0x200;
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;

export type Family = 4 | 6;

export interface HostLink {
  index: number;
  name: string;
  isLoopback: boolean;
}

export interface HostAddress extends InterfaceAddress {
  link: number;
  family: Family;
  /** Counts on its link alone. */
  isLinkLocal: boolean;
  /** Not to be begun with any more (RFC 4862 §5.5.4). */
  isDeprecated: boolean;
}

export interface HostNextHop extends NextHop {
  link: number;
}

/** Of the main table. */
export interface HostRoute extends InterfaceRoute {
  family: Family;
  nextHops: HostNextHop[];
}

/** In the kernel's order. */
export interface HostNetwork {
  links: HostLink[];
  addresses: HostAddress[];
  routes: HostRoute[];
}

const reading = new IpAddress();

/** The address whose bytes are at `at`; empty: of no family that counts, or not whole. */
function addressText(view: DataView, at: number, length: number, family: Family): string {
  if (at < 0 || length < (family === 4 ? 4 : 16)) return '';
  return (family === 4 ? reading.readV4(view, at) : reading.readV6(view, at)).toString();
}

function attributeAddress(view: DataView, at: number, family: Family): string {
  return at < 0 ? '' : addressText(view, at, attributeLength(view, at), family);
}

function word(view: DataView, at: number, otherwise: number): number {
  return at < 0 || attributeLength(view, at) < 4 ? otherwise : view.getUint32(at, true);
}

function familyOf(code: number): Family | null {
  return code === AF_INET ? 4 : code === AF_INET6 ? 6 : null;
}

/** What the messages of whole dumps say, in `length` bytes of `view`. Messages that are none of these are passed over. */
export function readHostNetwork(view: DataView, length: number): HostNetwork {
  const network: HostNetwork = { links: [], addresses: [], routes: [] };
  let at = 0;
  while (length - at >= NLMSG_HEADER_BYTES) {
    const size = view.getUint32(at, true);
    if (size < NLMSG_HEADER_BYTES || size > length - at) break;
    const type = view.getUint16(at + 4, true);
    const body = at + NLMSG_HEADER_BYTES;
    const end = at + size;
    if (type === RTM_NEWLINK && end - body >= IFINFO_BYTES) network.links.push(readLink(view, body, end));
    if (type === RTM_NEWADDR && end - body >= IFADDR_BYTES) {
      const address = readAddress(view, body, end);
      if (address !== null) network.addresses.push(address);
    }
    if (type === RTM_NEWROUTE && end - body >= RTMSG_BYTES) {
      const route = readRoute(view, body, end);
      if (route !== null) network.routes.push(route);
    }
    at += align(size);
  }
  return network;
}

function readLink(view: DataView, body: number, end: number): HostLink {
  const name = findAttribute(view, body + IFINFO_BYTES, end, IFLA_IFNAME);
  return {
    index: view.getInt32(body + 4, true),
    name: name < 0 ? '' : attributeText(view, name),
    isLoopback: (view.getUint32(body + 8, true) & IFF_LOOPBACK) !== 0,
  };
}

/** Null: of another family, or one that another host has as well. */
function readAddress(view: DataView, body: number, end: number): HostAddress | null {
  const family = familyOf(view.getUint8(body));
  if (family === null) return null;
  const attributes = body + IFADDR_BYTES;
  const flags = word(view, findAttribute(view, attributes, end, IFA_FLAGS), view.getUint8(body + 2));
  const other = attributeAddress(view, findAttribute(view, attributes, end, IFA_ADDRESS), family);
  const local = attributeAddress(view, findAttribute(view, attributes, end, IFA_LOCAL), family);
  const address = local === '' ? other : local;
  if (address === '' || (flags & IFA_F_DADFAILED) !== 0) return null;
  return {
    link: view.getUint32(body + 4, true),
    family,
    address,
    prefixLength: view.getUint8(body + 1),
    peer: other === address ? '' : other,
    isLinkLocal: view.getUint8(body + 3) >= RT_SCOPE_LINK,
    isDeprecated: (flags & IFA_F_DEPRECATED) !== 0,
    noPrefixRoute: (flags & IFA_F_NOPREFIXROUTE) !== 0,
  };
}

/** Null: no unicast route of the main table. */
function readRoute(view: DataView, body: number, end: number): HostRoute | null {
  const family = familyOf(view.getUint8(body));
  const attributes = body + RTMSG_BYTES;
  const table = word(view, findAttribute(view, attributes, end, RTA_TABLE), view.getUint8(body + 4));
  const isCloned = (view.getUint32(body + 8, true) & RTM_F_CLONED) !== 0;
  if (family === null || table !== RT_TABLE_MAIN || view.getUint8(body + 7) !== RTN_UNICAST || isCloned)
    return null;
  const destination = attributeAddress(view, findAttribute(view, attributes, end, RTA_DST), family);
  const several = findAttribute(view, attributes, end, RTA_MULTIPATH);
  const flags = view.getUint32(body + 8, true);
  const link = word(view, findAttribute(view, attributes, end, RTA_OIF), 0);
  return {
    family,
    destination: destination || (family === 4 ? '0.0.0.0' : '::'),
    prefixLength: view.getUint8(body + 1),
    nextHops:
      several < 0
        ? [nextHop(view, attributes, end, family, link, flags, 1)]
        : readNextHops(view, several, several + attributeLength(view, several), family),
    metric: word(view, findAttribute(view, attributes, end, RTA_PRIORITY), 0),
    protocol: view.getUint8(body + 5),
    scope: view.getUint8(body + 6),
    source: attributeAddress(view, findAttribute(view, attributes, end, RTA_PREFSRC), family),
  };
}

function readNextHops(view: DataView, start: number, end: number, family: Family): HostNextHop[] {
  const hops: HostNextHop[] = [];
  let at = start;
  while (end - at >= RTNEXTHOP_BYTES) {
    const size = view.getUint16(at, true);
    if (size < RTNEXTHOP_BYTES || size > end - at) break;
    const weight = view.getUint8(at + 3) + 1;
    const link = view.getUint32(at + 4, true);
    hops.push(nextHop(view, at + RTNEXTHOP_BYTES, at + size, family, link, view.getUint8(at + 2), weight));
    at += align(size);
  }
  return hops;
}

function nextHop(
  view: DataView,
  attributes: number,
  end: number,
  family: Family,
  link: number,
  flags: number,
  weight: number,
): HostNextHop {
  let gateway = attributeAddress(view, findAttribute(view, attributes, end, RTA_GATEWAY), family);
  const via = findAttribute(view, attributes, end, RTA_VIA);
  if (gateway === '' && via >= 0 && attributeLength(view, via) > 2) {
    const other = familyOf(view.getUint16(via, true));
    if (other !== null) gateway = addressText(view, via + 2, attributeLength(view, via) - 2, other);
  }
  return { link, gateway, weight, onLink: (flags & RTNH_F_ONLINK) !== 0 };
}
