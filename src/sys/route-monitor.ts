/**
 * Reading the routes and addresses of the network namespace this process is in: dumps, and news of changes.
 *
 * Read: rtnetlink(7), netlink(7), RFC 3549; linux/rtnetlink.h, linux/if_addr.h. Reading needs no privilege.
 *
 * Two sockets. The first is joined to the multicast groups and only ever receives news, so that a receive that says
 * EAGAIN proves that nothing changed. The second carries dumps: the kernel makes a dump's next piece when the last one is
 * read, so it cannot overrun, and both are opened at the start, so that running out of descriptors later does no harm.
 *
 * What news do not tell, and the caller must know:
 *  - IPv4 routes vanish without a message when a link goes down, or when an address that they name as their source or a
 *    nexthop object that they use goes. Such causes are reported: as `Withdrawal`, or as the address deleted.
 *  - A deletion names one route out of several for the same destination (metrics, nexthops of one IPv6 multipath route),
 *    and a replacement names only the new one. Only a dump tells what is left.
 *  - A full receive buffer loses news (ENOBUFS). Only a dump tells what was missed.
 *
 * All fields are in host order, which is little-endian on every target; addresses are in network order. Messages of other
 * families, link attributes, addresses of nexthops, metrics and source-specific selectors are left out on purpose.
 */
import { EAGAIN, EBADF, EINTR, EIO, ENOBUFS, ETIMEDOUT } from './errno.ts';
import { close } from './io.ts';
import { errno, libcFunction } from './libc.ts';
import type { Memory } from './memory.ts';
import { AF_INET, AF_INET6, bind, MSG_DONTWAIT, MSG_TRUNC, send, socket } from './socket.ts';

const AF_UNSPEC = 0;
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NETLINK_ROUTE = 0;

const RTMGRP_LINK = 0x1;
const RTMGRP_IPV4_IFADDR = 0x10;
const RTMGRP_IPV4_ROUTE = 0x40;
const RTMGRP_IPV6_IFADDR = 0x100;
const RTMGRP_IPV6_ROUTE = 0x400;
/** Bit of RTNLGRP_NEXTHOP (32), which has no RTMGRP name; kernels before 5.3 ignore it. */
const RTMGRP_NEXTHOP = 0x80000000;
const GROUPS =
  (RTMGRP_LINK |
    RTMGRP_IPV4_IFADDR |
    RTMGRP_IPV4_ROUTE |
    RTMGRP_IPV6_IFADDR |
    RTMGRP_IPV6_ROUTE |
    RTMGRP_NEXTHOP) >>>
  0;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_DELNEXTHOP = 105;

const NLM_F_REQUEST = 0x1;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;

/** Lengths of struct nlmsghdr, rtmsg, ifaddrmsg, ifinfomsg, rtattr, sockaddr_nl and pollfd. */
const NLMSGHDR_SIZE = 16;
const RTMSG_SIZE = 12;
const IFADDRMSG_SIZE = 8;
const IFINFOMSG_SIZE = 16;
const RTATTR_SIZE = 4;
const RTNEXTHOP_SIZE = 8;
const SOCKADDR_NL_SIZE = 12;
const POLLFD_SIZE = 8;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const RTA_ENCAP = 22;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;
/** The two top bits of an attribute's type are NLA_F_NESTED and NLA_F_NET_BYTEORDER. */
const NLA_TYPE_MASK = 0x3fff;

/** A cached clone of a route (PMTU, redirect), not a route of a table. */
const RTM_F_CLONED = 0x200;
const IFF_UP = 0x1;
const IFF_POINTOPOINT = 0x10;
/** Type of links without link-layer addresses: TUN, WireGuard, IPsec (linux/if_arp.h ARPHRD_NONE). */
const ARPHRD_NONE = 0xfffe;

/** The kernel's largest piece of a dump; news are far smaller, and one that is not counts as lost. */
const RECEIVE_SIZE = 32768;
const DUMP_SILENCE_MS = 1000;
const POLLIN = 1;

/** Arena bytes a `RouteMonitor` needs. */
export const ROUTE_MONITOR_BYTES: number = RECEIVE_SIZE + 64;

const cRecvfrom = libcFunction('recvfrom', 'intptr_t', [
  'int',
  'uintptr_t',
  'size_t',
  'int',
  'uintptr_t',
  'uintptr_t',
]);
const cPoll = libcFunction('poll', 'int', ['uintptr_t', 'ulong', 'int']);

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
  /** Routes: kernel table number (RTA_TABLE): 254 main, 255 local. Addresses: 0. */
  table = 0;
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
  /** Payload of the attribute that `#find` found. */
  #payload = 0;
  #payloadLength = 0;

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
      if (this.#end - at < NLMSGHDR_SIZE) return this.#lost();
      const length = view.getUint32(at, true);
      if (length < NLMSGHDR_SIZE || length > this.#end - at) return this.#lost();
      // The padding of the last message may be missing.
      this.#at = at + Math.ceil(length / 4) * 4;
      if (this.#sequence !== 0 && view.getUint32(at + 8, true) !== this.#sequence) continue;
      if ((view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0) this.interrupted = true;
      const found = this.#read(view.getUint16(at + 4, true), at + NLMSGHDR_SIZE, at + length);
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
    if (end - body < IFINFOMSG_SIZE) return this.#lost();
    const view = this.#view;
    const flags = view.getUint32(body + 8, true);
    this.record.link = view.getUint32(body + 4, true);
    this.record.isTunnel = (flags & IFF_POINTOPOINT) !== 0 || view.getUint16(body + 2, true) === ARPHRD_NONE;
    return (flags & IFF_UP) !== 0 ? RouteMessage.Link : RouteMessage.Withdrawal;
  }

  #readRoute(added: boolean, body: number, end: number): RouteMessage {
    if (end - body < RTMSG_SIZE) return this.#lost();
    const view = this.#view;
    const record = this.record;
    const family = view.getUint8(body);
    if (family !== AF_INET && family !== AF_INET6) return RouteMessage.None;
    if ((view.getUint32(body + 8, true) & RTM_F_CLONED) !== 0) return RouteMessage.None;
    record.added = added;
    record.prefixLength = view.getUint8(body + 1);
    record.table = view.getUint8(body + 4);
    record.type = view.getUint8(body + 7);
    record.protocol = view.getUint8(body + 5);
    record.broadcast = 0;
    if (record.prefixLength > (family === AF_INET ? 32 : 128)) return this.#lost();
    const attributes = body + RTMSG_SIZE;
    // Absent for a default route; for any other it means all zeros.
    if (!this.#find(attributes, end, RTA_DST)) this.#setZero(family);
    else if (!this.#setAddress(family)) return this.#lost();
    // The field of struct rtmsg has 8 bits only.
    if (this.#find(attributes, end, RTA_TABLE)) {
      if (this.#payloadLength < 4) return this.#lost();
      record.table = view.getUint32(this.#payload, true);
    }
    record.link = 0;
    if (this.#find(attributes, end, RTA_MULTIPATH)) {
      record.hasGateway = this.#allHaveGateways(this.#payload, this.#payload + this.#payloadLength);
      return RouteMessage.Route;
    }
    record.hasGateway = this.#namesGateway(attributes, end);
    if (this.#find(attributes, end, RTA_OIF) && this.#payloadLength >= 4)
      record.link = view.getUint32(this.#payload, true);
    return RouteMessage.Route;
  }

  #namesGateway(attributes: number, end: number): boolean {
    return (
      this.#find(attributes, end, RTA_GATEWAY) ||
      this.#find(attributes, end, RTA_VIA) ||
      this.#find(attributes, end, RTA_ENCAP)
    );
  }

  /** Of several nexthops, each of which has attributes of its own. */
  #allHaveGateways(begin: number, end: number): boolean {
    const view = this.#view;
    for (let at = begin; end - at >= RTNEXTHOP_SIZE; ) {
      const length = view.getUint16(at, true);
      if (length < RTNEXTHOP_SIZE || length > end - at) return false;
      if (!this.#namesGateway(at + RTNEXTHOP_SIZE, at + length)) return false;
      at += (length + 3) & ~3;
    }
    return true;
  }

  #readAddress(added: boolean, body: number, end: number): RouteMessage {
    if (end - body < IFADDRMSG_SIZE) return this.#lost();
    const view = this.#view;
    const record = this.record;
    const family = view.getUint8(body);
    if (family !== AF_INET && family !== AF_INET6) return RouteMessage.None;
    record.added = added;
    record.prefixLength = view.getUint8(body + 1);
    record.table = 0;
    record.type = 0;
    record.protocol = 0;
    record.hasGateway = false;
    record.link = view.getUint32(body + 4, true);
    record.broadcast = 0;
    if (record.prefixLength > (family === AF_INET ? 32 : 128)) return this.#lost();
    const attributes = body + IFADDRMSG_SIZE;
    // On a point-to-point link IFA_ADDRESS is the peer's; IFA_LOCAL is ours wherever it is given.
    if (!this.#find(attributes, end, IFA_LOCAL) && !this.#find(attributes, end, IFA_ADDRESS))
      return this.#lost();
    if (!this.#setAddress(family)) return this.#lost();
    if (family === AF_INET && this.#find(attributes, end, IFA_BROADCAST)) {
      if (this.#payloadLength < 4) return this.#lost();
      record.broadcast = view.getUint32(this.#payload);
    }
    return RouteMessage.Address;
  }

  #find(attributes: number, end: number, type: number): boolean {
    const view = this.#view;
    let at = attributes;
    while (end - at >= RTATTR_SIZE) {
      const length = view.getUint16(at, true);
      if (length < RTATTR_SIZE || length > end - at) return false;
      if ((view.getUint16(at + 2, true) & NLA_TYPE_MASK) === type) {
        this.#payload = at + RTATTR_SIZE;
        this.#payloadLength = length - RTATTR_SIZE;
        return true;
      }
      at += (length + 3) & ~3;
    }
    return false;
  }

  /** Take the address from the attribute found; false when it is too short. */
  #setAddress(family: number): boolean {
    const view = this.#view;
    const record = this.record;
    const at = this.#payload;
    this.#setZero(family);
    if (family === AF_INET) {
      if (this.#payloadLength < 4) return false;
      record.w3 = view.getUint32(at);
      return true;
    }
    if (this.#payloadLength < 16) return false;
    record.w0 = view.getUint32(at);
    record.w1 = view.getUint32(at + 4);
    record.w2 = view.getUint32(at + 8);
    record.w3 = view.getUint32(at + 12);
    return true;
  }

  #setZero(family: number): void {
    const record = this.record;
    record.isV4 = family === AF_INET;
    record.w0 = 0;
    record.w1 = 0;
    record.w2 = family === AF_INET ? 0xffff : 0;
    record.w3 = 0;
  }

  #lost(): RouteMessage {
    this.#at = this.#end;
    return RouteMessage.Lost;
  }
}

/** What to dump. */
export const RouteDump = { Routes4: 0, Routes6: 1, Addresses: 2, Links: 3 } as const;
export type RouteDump = (typeof RouteDump)[keyof typeof RouteDump];

/** Message type, length of its structure, and family. */
const dumpRequests = [
  { type: RTM_GETROUTE, body: RTMSG_SIZE, family: AF_INET },
  { type: RTM_GETROUTE, body: RTMSG_SIZE, family: AF_INET6 },
  { type: RTM_GETADDR, body: IFADDRMSG_SIZE, family: AF_UNSPEC },
  { type: RTM_GETLINK, body: IFINFOMSG_SIZE, family: AF_UNSPEC },
] as const;

export class RouteMonitor {
  /** Readable when there is news. */
  readonly fd: number;
  /** Holds the messages after `receive` or `receiveDump` returned more than 0, until the next call of either. */
  readonly messages: RouteMessageReader;
  readonly #memory: Memory;
  readonly #region: number;
  /** struct sockaddr_nl, its length, struct pollfd. */
  readonly #scratch: number;
  #dumpFd: number;
  #sequence = 0;
  #closed = false;

  /**
   * `region` is the offset of `ROUTE_MONITOR_BYTES` arena bytes, aligned to 8. When `fd` is negative after this it is the
   * `-errno` why the sockets could not be made, and nothing is left open.
   */
  constructor(memory: Memory, region: number) {
    this.#memory = memory;
    this.#region = region;
    this.#scratch = region + RECEIVE_SIZE;
    this.messages = new RouteMessageReader(memory.view);
    this.#dumpFd = this.#open(0);
    let fd = this.#dumpFd;
    if (fd >= 0) {
      fd = this.#open(GROUPS);
      if (fd < 0) close(this.#dumpFd);
    }
    this.fd = fd;
    if (fd < 0) this.#closed = true;
  }

  /**
   * Take one piece of news without waiting. Bytes to read with `messages`, 0 when there is none, or `-errno`; `-ENOBUFS`
   * says that news were lost, and later ones may follow.
   */
  receive(): number {
    // The number may be another socket's by now.
    if (this.#closed) return -EBADF;
    const n = this.#receive(this.fd);
    if (n > 0) this.messages.begin(this.#region, n, 0);
    return n === -EAGAIN ? 0 : n;
  }

  /** Ask for a dump; 0 or `-errno`. News that were not yet received stay queued; the piece being read is overwritten. */
  startDump(what: RouteDump): number {
    const view = this.#memory.view;
    const at = this.#region;
    if (this.#closed) return -EBADF;
    if (this.#dumpFd < 0) this.#dumpFd = this.#open(0);
    if (this.#dumpFd < 0) return this.#dumpFd;
    const { type, body, family } = dumpRequests[what];
    this.#sequence = (this.#sequence % 0x7fffffff) + 1;
    view.setUint32(at, NLMSGHDR_SIZE + body, true);
    view.setUint16(at + 4, type, true);
    view.setUint16(at + 6, NLM_F_REQUEST | NLM_F_DUMP, true);
    view.setUint32(at + 8, this.#sequence, true);
    view.setUint32(at + 12, 0, true);
    // Everything else zero: no filter, so routes of every table.
    for (let i = 0; i < body; i += 4) view.setUint32(at + NLMSGHDR_SIZE + i, 0, true);
    view.setUint8(at + NLMSGHDR_SIZE, family);
    this.messages.interrupted = false;
    return Math.min(send(this.#memory, this.#dumpFd, at, NLMSGHDR_SIZE + body), 0);
  }

  /**
   * Take the next piece of the dump, waiting for it. Bytes to read with `messages`, or `-errno`: `-ETIMEDOUT` when the
   * kernel said nothing for a second.
   */
  receiveDump(): number {
    const deadline = performance.now() + DUMP_SILENCE_MS;
    for (;;) {
      const n = this.#receive(this.#dumpFd);
      if (n > 0) {
        this.messages.begin(this.#region, n, this.#sequence);
        return n;
      }
      if (n !== -EAGAIN) return n === 0 ? -EIO : n;
      const left = Math.ceil(deadline - performance.now());
      if (left <= 0) return -ETIMEDOUT;
      const ready = this.#poll(left);
      if (ready < 0 && ready !== -EINTR) return ready;
    }
  }

  /** Give up a dump that was not read to its end: its rest must not be mistaken for the next one's. */
  abandonDump(): void {
    if (this.#dumpFd >= 0) close(this.#dumpFd);
    this.#dumpFd = -1;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    close(this.fd);
    this.abandonDump();
  }

  #open(groups: number): number {
    const fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (fd < 0) return fd;
    const view = this.#memory.view;
    view.setUint16(this.#scratch, AF_NETLINK, true);
    view.setUint16(this.#scratch + 2, 0, true);
    view.setUint32(this.#scratch + 4, 0, true);
    view.setUint32(this.#scratch + 8, groups, true);
    const bound = bind(this.#memory, fd, this.#scratch, SOCKADDR_NL_SIZE);
    if (bound < 0) {
      close(fd);
      return bound;
    }
    return fd;
  }

  #receive(fd: number): number {
    const memory = this.#memory;
    const view = memory.view;
    const scratch = this.#scratch;
    for (;;) {
      view.setUint32(scratch + SOCKADDR_NL_SIZE, SOCKADDR_NL_SIZE, true);
      const n = cRecvfrom(
        fd,
        memory.address(this.#region, RECEIVE_SIZE),
        RECEIVE_SIZE,
        // MSG_TRUNC makes the kernel return the real length of a message that did not fit.
        MSG_DONTWAIT | MSG_TRUNC,
        memory.address(scratch, SOCKADDR_NL_SIZE),
        memory.address(scratch + SOCKADDR_NL_SIZE, 4),
      );
      if (n < 0) {
        const error = errno();
        if (error === EINTR) continue;
        return -error;
      }
      if (n > RECEIVE_SIZE) return -ENOBUFS;
      // Port 0 is the kernel; a privileged process may send to us as well, and is not believed.
      if (view.getUint32(scratch + 4, true) === 0) return n;
    }
  }

  #poll(timeoutMs: number): number {
    const at = this.#scratch + 16;
    const view = this.#memory.view;
    view.setInt32(at, this.#dumpFd, true);
    view.setUint16(at + 4, POLLIN, true);
    view.setUint16(at + 6, 0, true);
    const n = cPoll(this.#memory.address(at, POLLFD_SIZE), 1, timeoutMs);
    return n < 0 ? -errno() : n;
  }
}
