/**
 * The few things asked of the kernel about links, addresses and routes in the guest's network namespace, each as one
 * acknowledged rtnetlink request over a socket that was opened there. What is done comes to 0 or −errno.
 *
 * Read: rtnetlink(7), netlink(7). Left out on purpose: dumps, multicast groups.
 */
import { EBUSY, EEXIST, ENODEV } from '../errno.ts';
import {
  align,
  attributeLength,
  attributeText,
  findAttribute,
  IFINFO_BYTES,
  IFLA_MTU,
  NetlinkMessage,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  NLMSG_HEADER_BYTES,
  RTM_DELADDR,
  RTM_DELROUTE,
  RTM_GETLINK,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWROUTE,
} from '../netlink-message.ts';
import { AF_INET, AF_INET6 } from '../socket.ts';
import type { Exchange } from './exchange.ts';

export const IFF_UP = 1;
const IFF_MULTICAST = 0x1000;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_TXQLEN = 13;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_TUN_TYPE = 3;
const IFLA_TUN_MULTI_QUEUE = 7;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;
const IFA_FLAGS = 8;
/** No duplicate address detection (RFC 4862 §5.4): nobody else is on this link, and waiting for it costs a second. */
const IFA_F_NODAD = 0x02;

/** The network of the address is not made reachable by it. */
const IFA_F_NOPREFIXROUTE = 0x200;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_MULTIPATH = 9;
const RTA_VIA = 18;
const RTNH_F_ONLINK = 4;
const RT_TABLE_MAIN = 254;
export const RTPROT_BOOT = 3;
export const RT_SCOPE_UNIVERSE = 0;
export const RT_SCOPE_LINK = 253;
const RT_SCOPE_NOWHERE = 255;
const RTN_UNICAST = 1;

const REQUEST_BYTES = 4096;
/** IP6_RT_PRIO_USER: what a route has that is given none. */
const IP6_METRIC = 1024;
const EBADMSG = 74;

/** Loopback has this index in every network namespace. */
export const LOOPBACK_INDEX = 1;

export interface InterfaceInfo {
  index: number;
  /** ARPHRD_* of the device. */
  hardwareType: number;
  /** Bytes of IP packet. */
  mtu: number;
  /** IFF_* flags. */
  flags: number;
  /** Packets. */
  txQueueLen: number;
  /** Driver name as `ip -d link` prints it, or empty. */
  kind: string;
  /** For kind `tun`: IFF_TUN or IFF_TAP; 0 = not told. */
  tunType: number;
  tunMultiQueue: boolean;
}

export interface InterfaceChange {
  up?: boolean;
  multicast?: boolean;
  mtu?: number;
  txQueueLen?: number;
  mac?: ArrayLike<number>;
}

export interface NewAddress {
  /** In network order, as all addresses here: 4 or 16 bytes. */
  address: ArrayLike<number>;
  prefixLength: number;
  /** The other end of a link with two; null: the link has none. */
  peer: ArrayLike<number> | null;
  noPrefixRoute: boolean;
}

export interface NewNextHop {
  /** Of either family; null: everybody is on the link. */
  gateway: ArrayLike<number> | null;
  weight: number;
  onLink: boolean;
}

/** A unicast route of the main table. */
export interface NewRoute {
  destination: ArrayLike<number>;
  prefixLength: number;
  nextHops: readonly NewNextHop[];
  /** 0: the family's own. */
  metric: number;
  /** RTPROT_* and RT_SCOPE_*. */
  protocol: number;
  scope: number;
  source: ArrayLike<number> | null;
}

/** The last address of the network, in network order. */
function broadcastOf(address: ArrayLike<number>, prefix: number): number[] {
  return Array.from(address, (byte, i) => byte | (0xff >> Math.min(8, Math.max(0, prefix - 8 * i))));
}

/** What is asked of one NETLINK_ROUTE socket, one thing after the other. */
export class Rtnetlink {
  private readonly message = new NetlinkMessage(REQUEST_BYTES);
  private reply: DataView = new DataView(new ArrayBuffer(0));
  private sequence = 0;

  /** The link called `name`, or null when there is none; −errno for any other failure. */
  *linkByName(name: string): Exchange<InterfaceInfo | null | number> {
    const message = this.begin(RTM_GETLINK, NLM_F_REQUEST);
    this.linkHeader(message, 0, 0, 0);
    message.attributeText(IFLA_IFNAME, name);
    const result = yield* this.transact();
    if (result === -ENODEV) return null;
    if (result < 0) return result;
    return parseLink(this.reply, this.reply.byteLength);
  }

  /** Change a link; attributes not named stay as they are. */
  setLink(index: number, change: InterfaceChange): Exchange<number> {
    const message = this.begin(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK);
    const up = change.up === undefined ? 0 : IFF_UP;
    const multicast = change.multicast === undefined ? 0 : IFF_MULTICAST;
    const flags = (change.up === true ? IFF_UP : 0) | (change.multicast === true ? IFF_MULTICAST : 0);
    this.linkHeader(message, index, flags, up | multicast);
    if (change.mtu !== undefined) message.attributeU32(IFLA_MTU, change.mtu);
    if (change.txQueueLen !== undefined) message.attributeU32(IFLA_TXQLEN, change.txQueueLen);
    if (change.mac !== undefined) message.attributeBytes(IFLA_ADDRESS, change.mac);
    return this.transact();
  }

  /** Add an address, usable at once. */
  addAddress(
    index: number,
    { address, prefixLength: prefix, peer, noPrefixRoute }: NewAddress,
  ): Exchange<number> {
    const v6 = address.length === 16;
    const flags = (v6 ? IFA_F_NODAD : 0) | (noPrefixRoute ? IFA_F_NOPREFIXROUTE : 0);
    const message = this.begin(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
    message.u8(v6 ? AF_INET6 : AF_INET);
    message.u8(prefix);
    message.u8(flags & 0xff);
    message.u8(RT_SCOPE_UNIVERSE);
    message.u32(index);
    message.attributeBytes(IFA_LOCAL, address);
    message.attributeBytes(IFA_ADDRESS, peer ?? address);
    message.attributeU32(IFA_FLAGS, flags);
    // ifconfig(8) and the ioctl interface have it made; RFC 3021 links have none.
    if (!v6 && prefix < 31 && peer === null)
      message.attributeBytes(IFA_BROADCAST, broadcastOf(address, prefix));
    return this.transact();
  }

  /**
   * Default route of the gateway's family, in place of one that the link had before; the link must be up. Those of other
   * links stay: ours goes first, and counts as long as the link is there. -EEXIST when it was not alone, and is there too.
   */
  *setDefaultRoute(index: number, gateway: ArrayLike<number>): Exchange<number> {
    const v6 = gateway.length === 16;
    while ((yield* this.removeDefaultRoute(index, v6)) === 0);
    const result = yield* this.addDefaultRoute(index, gateway, NLM_F_EXCL, 0);
    if (result !== -EEXIST) return result;
    // IPv4 puts a new one in front of others of the same metric. IPv6 would share the traffic out among them.
    if (!v6) return (yield* this.addDefaultRoute(index, gateway, 0, 0)) || -EEXIST;
    for (let metric = IP6_METRIC / 2; metric >= 1; metric /= 2) {
      const added = yield* this.addDefaultRoute(index, gateway, NLM_F_EXCL, metric);
      if (added !== -EEXIST) return added || -EEXIST;
    }
    return -EBUSY;
  }

  /** Add a route by this link, which must be up; -EEXIST when there is one to the same place with the same metric. */
  addRoute(index: number, route: NewRoute): Exchange<number> {
    const { destination, prefixLength, nextHops, metric, source } = route;
    const message = this.begin(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    const v6 = destination.length === 16;
    const [first] = nextHops;
    const only = nextHops.length === 1 ? first : undefined;
    const flags = only?.onLink === true ? RTNH_F_ONLINK : 0;
    this.routeHeader(message, v6, route.protocol, route.scope, prefixLength, flags);
    if (prefixLength > 0) message.attributeBytes(RTA_DST, destination);
    if (source !== null) message.attributeBytes(RTA_PREFSRC, source);
    if (metric > 0) message.attributeU32(RTA_PRIORITY, metric);
    if (only === undefined) {
      const at = message.beginAttribute(RTA_MULTIPATH);
      for (const hop of nextHops) this.putNextHop(message, index, v6, hop);
      message.endAttribute(at);
    } else {
      this.putGateway(message, v6, only.gateway);
      message.attributeU32(RTA_OIF, index);
    }
    return this.transact();
  }

  /** -EADDRNOTAVAIL: the link does not have it. */
  removeAddress(index: number, address: ArrayLike<number>, prefixLength: number): Exchange<number> {
    const message = this.begin(RTM_DELADDR, NLM_F_REQUEST | NLM_F_ACK);
    message.u8(address.length === 16 ? AF_INET6 : AF_INET);
    message.u8(prefixLength);
    message.u8(0);
    message.u8(0);
    message.u32(index);
    message.attributeBytes(IFA_LOCAL, address);
    return this.transact();
  }

  /** -ESRCH: there is no such route. Of several next hops none is looked at. */
  removeRoute(index: number, { destination, prefixLength, nextHops, metric }: NewRoute): Exchange<number> {
    const message = this.begin(RTM_DELROUTE, NLM_F_REQUEST | NLM_F_ACK);
    const v6 = destination.length === 16;
    const [first, second] = nextHops;
    this.routeHeader(message, v6, 0, RT_SCOPE_NOWHERE, prefixLength);
    if (prefixLength > 0) message.attributeBytes(RTA_DST, destination);
    if (metric > 0) message.attributeU32(RTA_PRIORITY, metric);
    if (first !== undefined && second === undefined) {
      this.putGateway(message, v6, first.gateway);
      message.attributeU32(RTA_OIF, index);
    }
    return this.transact();
  }

  /** struct rtnexthop. */
  private putNextHop(message: NetlinkMessage, index: number, v6: boolean, hop: NewNextHop): void {
    const at = message.length;
    message.u16(0);
    message.u8(hop.onLink ? RTNH_F_ONLINK : 0);
    message.u8(hop.weight - 1);
    message.u32(index);
    this.putGateway(message, v6, hop.gateway);
    message.view.setUint16(at, message.length - at, true);
  }

  private putGateway(message: NetlinkMessage, v6: boolean, gateway: ArrayLike<number> | null): void {
    if (gateway === null) return;
    const isV6 = gateway.length === 16;
    if (isV6 === v6) message.attributeBytes(RTA_GATEWAY, gateway);
    // struct rtvia.
    else message.attributeBytes(RTA_VIA, [isV6 ? AF_INET6 : AF_INET, 0, ...Array.from(gateway)]);
  }

  private removeDefaultRoute(index: number, v6: boolean): Exchange<number> {
    const message = this.begin(RTM_DELROUTE, NLM_F_REQUEST | NLM_F_ACK);
    this.routeHeader(message, v6, 0, RT_SCOPE_NOWHERE).attributeU32(RTA_OIF, index);
    return this.transact();
  }

  /** `metric` 0 = the family's own. */
  private addDefaultRoute(
    index: number,
    gateway: ArrayLike<number>,
    exclusive: number,
    metric: number,
  ): Exchange<number> {
    const begun = this.begin(RTM_NEWROUTE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | exclusive);
    const message = this.routeHeader(begun, gateway.length === 16, RTPROT_BOOT, RT_SCOPE_UNIVERSE);
    message.attributeBytes(RTA_GATEWAY, gateway);
    message.attributeU32(RTA_OIF, index);
    if (metric > 0) message.attributeU32(RTA_PRIORITY, metric);
    return this.transact();
  }

  /** struct rtmsg of a route in the main table. To be removed: protocol 0 and scope NOWHERE are any. */
  private routeHeader(
    message: NetlinkMessage,
    v6: boolean,
    protocol: number,
    scope: number,
    prefixLength = 0,
    flags = 0,
  ): NetlinkMessage {
    message.u8(v6 ? AF_INET6 : AF_INET);
    message.u8(prefixLength);
    message.u8(0);
    message.u8(0);
    message.u8(RT_TABLE_MAIN);
    message.u8(protocol);
    message.u8(scope);
    message.u8(RTN_UNICAST);
    message.u32(flags);
    return message;
  }

  private begin(type: number, flags: number): NetlinkMessage {
    this.sequence += 1;
    this.message.begin(type, flags, this.sequence);
    return this.message;
  }

  private linkHeader(message: NetlinkMessage, index: number, flags: number, change: number): void {
    message.u8(0);
    message.u8(0);
    message.u16(0);
    message.u32(index);
    message.u32(flags);
    message.u32(change);
  }

  private *transact(): Exchange<number> {
    let reply = yield this.message.bytes.subarray(0, this.message.finish());
    for (;;) {
      if (reply.byteLength < NLMSG_HEADER_BYTES) return -EBADMSG;
      // An answer to an earlier request carries an earlier number.
      if (reply.getUint32(8, true) === this.sequence) break;
      reply = yield null;
    }
    this.reply = reply;
    if (reply.getUint16(4, true) !== NLMSG_ERROR) return 0;
    return reply.byteLength < NLMSG_HEADER_BYTES + 4 ? -EBADMSG : reply.getInt32(NLMSG_HEADER_BYTES, true);
  }
}

/** Read an RTM_NEWLINK message of `length` bytes; −EBADMSG when it is none. */
export function parseLink(view: DataView, length: number): InterfaceInfo | number {
  const total = Math.min(length, view.byteLength);
  if (total < NLMSG_HEADER_BYTES + IFINFO_BYTES || view.getUint16(4, true) !== RTM_NEWLINK) return -EBADMSG;
  const end = Math.min(total, align(view.getUint32(0, true)));
  const attributes = NLMSG_HEADER_BYTES + IFINFO_BYTES;
  const link: InterfaceInfo = {
    index: view.getInt32(NLMSG_HEADER_BYTES + 4, true),
    hardwareType: view.getUint16(NLMSG_HEADER_BYTES + 2, true),
    mtu: u32(view, findAttribute(view, attributes, end, IFLA_MTU)),
    flags: view.getUint32(NLMSG_HEADER_BYTES + 8, true),
    txQueueLen: u32(view, findAttribute(view, attributes, end, IFLA_TXQLEN)),
    kind: '',
    tunType: 0,
    tunMultiQueue: false,
  };
  const info = findAttribute(view, attributes, end, IFLA_LINKINFO);
  if (info < 0) return link;
  const infoEnd = info + attributeLength(view, info);
  const kind = findAttribute(view, info, infoEnd, IFLA_INFO_KIND);
  if (kind >= 0) link.kind = attributeText(view, kind);
  const data = findAttribute(view, info, infoEnd, IFLA_INFO_DATA);
  if (data < 0 || link.kind !== 'tun') return link;
  const dataEnd = data + attributeLength(view, data);
  const type = findAttribute(view, data, dataEnd, IFLA_TUN_TYPE);
  if (type >= 0) link.tunType = view.getUint8(type);
  const queues = findAttribute(view, data, dataEnd, IFLA_TUN_MULTI_QUEUE);
  if (queues >= 0) link.tunMultiQueue = view.getUint8(queues) !== 0;
  return link;
}

function u32(view: DataView, payload: number): number {
  return payload < 0 ? 0 : view.getUint32(payload, true);
}
