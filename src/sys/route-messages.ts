/**
 * What the kernel says of routes, addresses and links (rtnetlink(7), RFC 3549; linux/rtnetlink.h, linux/if_addr.h), a
 * message at a time: bytes only, no socket.
 *
 * All fields are in host order, which is little-endian on every target; addresses are in network order. Messages of other
 * families, link attributes, addresses of nexthops, tables, metrics and source-specific selectors are left out on purpose.
 */
import {
  align,
  attributeLength,
  findAttribute,
  IFINFO_BYTES,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HEADER_BYTES,
  RTM_DELADDR,
  RTM_DELROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWROUTE,
} from './netlink-message.ts';
import { AF_INET, AF_INET6 } from './socket.ts';

const NLMSG_OVERRUN = 4;
const RTM_DELLINK = 17;
const RTM_DELNEXTHOP = 105;
const NLM_F_DUMP_INTR = 0x10;

/** Lengths of struct rtmsg, ifaddrmsg and rtnexthop. */
export const RTMSG_BYTES = 12;
export const IFADDRMSG_BYTES = 8;
const RTNEXTHOP_BYTES = 8;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_MULTIPATH = 9;
const RTA_VIA = 18;
const RTA_ENCAP = 22;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;

/** A cached clone of a route (PMTU, redirect), not a route of a table. */
const RTM_F_CLONED = 0x200;
const IFF_UP = 0x1;
const IFF_POINTOPOINT = 0x10;
/** Type of links without link-layer addresses: TUN, WireGuard, IPsec (linux/if_arp.h ARPHRD_NONE). */
const ARPHRD_NONE = 0xfffe;

/** What `RouteMessageReader.next` found. */
export const RouteMessage = {
  /** No more messages in this piece. */
  None: 0,
  /** A route, in `record`. */
  Route: 1,
  /** An address of an interface, in `record`. */
  Address: 2,
  /**
   * Something went away that may have taken routes with it: a link that is down or gone, a nexthop object. A link that is
   * there is in `record` as with `Link`, else `record.link` is 0.
   */
  Withdrawal: 3,
  /** The dump is complete. */
  Done: 4,
  /** NLMSG_ERROR, or a dump that ended with an error; `error` has the `-errno`. */
  Failed: 5,
  /** A length that cannot be; the rest of the piece is skipped. Or the kernel says that it lost something. */
  Lost: 6,
  /** A link that is up: `link` and `isTunnel` of `record`. */
  Link: 7,
} as const;
export type RouteMessage = (typeof RouteMessage)[keyof typeof RouteMessage];

/** A route or an address, reused from message to message. IPv4 addresses are ::ffff:a.b.c.d. */
export class RouteRecord {
  /** False for a deletion. */
  added = false;
  isV4 = false;
  /** Destination of the route, or address of the interface (not its peer's). */
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;
  /** Bits of its own family: 0 to 32 or 0 to 128. A route with 0 is a default route. */
  prefixLength = 0;
  /** Routes: RTN_UNICAST 1, LOCAL 2, BROADCAST 3, ANYCAST 4, … (rtnetlink(7)). Addresses: 0. */
  type = 0;
  /** Routes: who made it, RTPROT_KERNEL 2 for networks of the interfaces' addresses. Addresses: 0. */
  protocol = 0;
  /** Routes: all of it goes by way of a router, or of a tunnel that the route itself describes. */
  hasGateway = false;
  /** Index of the link; 0 where there is none, or several. */
  link = 0;
  /** Links: nobody is on it but the one at the other end. */
  isTunnel = false;
  /** Addresses: the IPv4 broadcast address as a word, 0 for none. */
  broadcast = 0;
}

/** Walks the messages of one received piece. Bytes only; every length is checked before what it covers is read. */
export class RouteMessageReader {
  readonly record: RouteRecord = new RouteRecord();
  /** `-errno` of the last `Failed`. */
  error = 0;
  /** The tables changed while the dump was made: it may lack routes that were there all the time. Cleared by the owner. */
  interrupted = false;
  readonly #view: DataView;
  #at = 0;
  #end = 0;
  #sequence = 0;

  constructor(view: DataView) {
    this.#view = view;
  }

  /** Start on `length` bytes at `offset`. Messages with another sequence number are skipped; 0 takes all. */
  begin(offset: number, length: number, sequence: number): void {
    this.#at = offset;
    this.#end = offset + length;
    this.#sequence = sequence;
  }

  next(): RouteMessage {
    const view = this.#view;
    while (this.#at < this.#end) {
      const at = this.#at;
      if (this.#end - at < NLMSG_HEADER_BYTES) return this.#lost();
      const length = view.getUint32(at, true);
      if (length < NLMSG_HEADER_BYTES || length > this.#end - at) return this.#lost();
      // The padding of the last message may be missing.
      this.#at = at + align(length);
      if (this.#sequence !== 0 && view.getUint32(at + 8, true) !== this.#sequence) continue;
      if ((view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0) this.interrupted = true;
      const found = this.#read(view.getUint16(at + 4, true), at + NLMSG_HEADER_BYTES, at + length);
      if (found !== RouteMessage.None) return found;
    }
    return RouteMessage.None;
  }

  #read(type: number, body: number, end: number): RouteMessage {
    switch (type) {
      case RTM_NEWROUTE:
      case RTM_DELROUTE:
        return this.#readRoute(type === RTM_NEWROUTE, body, end);
      case RTM_NEWADDR:
      case RTM_DELADDR:
        return this.#readAddress(type === RTM_NEWADDR, body, end);
      case RTM_NEWLINK:
        return this.#readLink(body, end);
      case RTM_DELLINK:
      case RTM_DELNEXTHOP:
        this.record.link = 0;
        return RouteMessage.Withdrawal;
      case NLMSG_DONE:
        this.error = end - body < 4 ? 0 : this.#view.getInt32(body, true);
        return this.error < 0 ? RouteMessage.Failed : RouteMessage.Done;
      case NLMSG_ERROR:
        if (end - body < 4) return this.#lost();
        this.error = this.#view.getInt32(body, true);
        // 0 is an acknowledgement, which nobody asked for.
        return this.error === 0 ? RouteMessage.None : RouteMessage.Failed;
      case NLMSG_OVERRUN:
        return this.#lost();
      default:
        return RouteMessage.None;
    }
  }

  #readLink(body: number, end: number): RouteMessage {
    if (end - body < IFINFO_BYTES) return this.#lost();
    const view = this.#view;
    const flags = view.getUint32(body + 8, true);
    this.record.link = view.getUint32(body + 4, true);
    this.record.isTunnel = (flags & IFF_POINTOPOINT) !== 0 || view.getUint16(body + 2, true) === ARPHRD_NONE;
    return (flags & IFF_UP) !== 0 ? RouteMessage.Link : RouteMessage.Withdrawal;
  }

  #readRoute(added: boolean, body: number, end: number): RouteMessage {
    if (end - body < RTMSG_BYTES) return this.#lost();
    const view = this.#view;
    const record = this.record;
    if ((view.getUint32(body + 8, true) & RTM_F_CLONED) !== 0 || !this.#begin(added, body))
      return RouteMessage.None;
    record.type = view.getUint8(body + 7);
    record.protocol = view.getUint8(body + 5);
    const attributes = body + RTMSG_BYTES;
    // Absent for a default route; for any other it means all zeros.
    if (!this.#setAddress(findAttribute(view, attributes, end, RTA_DST), true)) return this.#lost();
    const hops = findAttribute(view, attributes, end, RTA_MULTIPATH);
    if (hops >= 0) {
      record.hasGateway = this.#allHaveGateways(hops, hops + attributeLength(view, hops));
      return RouteMessage.Route;
    }
    record.hasGateway = this.#namesGateway(attributes, end);
    const link = findAttribute(view, attributes, end, RTA_OIF);
    if (link >= 0 && attributeLength(view, link) >= 4) record.link = view.getUint32(link, true);
    return RouteMessage.Route;
  }

  #namesGateway(attributes: number, end: number): boolean {
    return (
      findAttribute(this.#view, attributes, end, RTA_GATEWAY) >= 0 ||
      findAttribute(this.#view, attributes, end, RTA_VIA) >= 0 ||
      findAttribute(this.#view, attributes, end, RTA_ENCAP) >= 0
    );
  }

  /** Of several nexthops, each of which has attributes of its own. */
  #allHaveGateways(begin: number, end: number): boolean {
    for (let at = begin; end - at >= RTNEXTHOP_BYTES; ) {
      const length = this.#view.getUint16(at, true);
      if (length < RTNEXTHOP_BYTES || length > end - at) return false;
      if (!this.#namesGateway(at + RTNEXTHOP_BYTES, at + length)) return false;
      at += align(length);
    }
    return true;
  }

  #readAddress(added: boolean, body: number, end: number): RouteMessage {
    if (end - body < IFADDRMSG_BYTES) return this.#lost();
    const view = this.#view;
    const record = this.record;
    if (!this.#begin(added, body)) return RouteMessage.None;
    record.link = view.getUint32(body + 4, true);
    const attributes = body + IFADDRMSG_BYTES;
    // On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is ours wherever it is given.
    const local = findAttribute(view, attributes, end, IFA_LOCAL);
    const address = local >= 0 ? local : findAttribute(view, attributes, end, IFA_ADDRESS);
    if (!this.#setAddress(address, false)) return this.#lost();
    const broadcast = record.isV4 ? findAttribute(view, attributes, end, IFA_BROADCAST) : -1;
    if (broadcast < 0) return RouteMessage.Address;
    if (attributeLength(view, broadcast) < 4) return this.#lost();
    record.broadcast = view.getUint32(broadcast);
    return RouteMessage.Address;
  }

  /** What struct rtmsg and ifaddrmsg have in common, and nothing of the message before; false: of another family. */
  #begin(added: boolean, body: number): boolean {
    const record = this.record;
    const family = this.#view.getUint8(body);
    record.added = added;
    record.isV4 = family === AF_INET;
    record.prefixLength = this.#view.getUint8(body + 1);
    record.type = 0;
    record.protocol = 0;
    record.hasGateway = false;
    record.link = 0;
    record.broadcast = 0;
    return family === AF_INET || family === AF_INET6;
  }

  /** Take the address of the attribute whose payload is at `at`, zeros if it is missing; false when that cannot be. */
  #setAddress(at: number, mayBeMissing: boolean): boolean {
    const view = this.#view;
    const record = this.record;
    const { isV4 } = record;
    record.w0 = 0;
    record.w1 = 0;
    record.w2 = isV4 ? 0xffff : 0;
    record.w3 = 0;
    if (record.prefixLength > (isV4 ? 32 : 128)) return false;
    if (at < 0) return mayBeMissing;
    if (attributeLength(view, at) < (isV4 ? 4 : 16)) return false;
    record.w3 = view.getUint32(isV4 ? at : at + 12);
    if (isV4) return true;
    record.w0 = view.getUint32(at);
    record.w1 = view.getUint32(at + 4);
    record.w2 = view.getUint32(at + 8);
    return true;
  }

  #lost(): RouteMessage {
    this.#at = this.#end;
    return RouteMessage.Lost;
  }
}
