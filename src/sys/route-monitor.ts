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
 */
import { EAGAIN, EBADF, EINTR, EIO, ENOBUFS, ETIMEDOUT } from './errno.ts';
import { close } from './io.ts';
import { errno, libcFunction } from './libc.ts';
import type { Memory } from './memory.ts';
import {
  IFINFO_BYTES,
  NLM_F_REQUEST,
  NLMSG_HEADER_BYTES,
  putRequest,
  RTM_GETLINK,
} from './netlink-message.ts';
import { IFADDRMSG_BYTES, RouteMessageReader, RTMSG_BYTES } from './route-messages.ts';
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  bind,
  MSG_DONTWAIT,
  MSG_TRUNC,
  SOCK_RAW,
  send,
  socket,
} from './socket.ts';

const AF_UNSPEC = 0;
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

const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const NLM_F_DUMP = 0x300;

/** Lengths of struct sockaddr_nl and pollfd. */
const SOCKADDR_NL_SIZE = 12;
const POLLFD_SIZE = 8;

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

/** What to dump. */
export const RouteDump = { Routes4: 0, Routes6: 1, Addresses: 2, Links: 3 } as const;
export type RouteDump = (typeof RouteDump)[keyof typeof RouteDump];

/** Message type, length of its structure, and family. */
const dumpRequests = [
  { type: RTM_GETROUTE, body: RTMSG_BYTES, family: AF_INET },
  { type: RTM_GETROUTE, body: RTMSG_BYTES, family: AF_INET6 },
  { type: RTM_GETADDR, body: IFADDRMSG_BYTES, family: AF_UNSPEC },
  { type: RTM_GETLINK, body: IFINFO_BYTES, family: AF_UNSPEC },
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
    // Nothing but the family: no filter, so routes of every table.
    const length = putRequest(view, at, type, NLM_F_REQUEST | NLM_F_DUMP, this.#sequence, body);
    view.setUint8(at + NLMSG_HEADER_BYTES, family);
    this.messages.interrupted = false;
    return Math.min(send(this.#memory, this.#dumpFd, at, length), 0);
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
