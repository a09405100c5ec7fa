/**
 * The host's side of a TCP flow: a stream socket, what its edges said, and what it said last.
 *
 * Events are edge-triggered: `readable` and `writable` remember an edge until the socket says EAGAIN, or takes or gives
 * less than it could. A signal does not end a call here: it is made again.
 *
 * Urgent data ends a read early (tcp(7)), with more behind it: while there is some, only EAGAIN says that all was read. It
 * is the stream's like all other bytes (RFC 6093).
 *
 * Keep-alive is on, so that a peer that vanished is noticed: with the host's own times (2 h, then 9 probes 75 s apart, as
 * ours towards the guest), or with the guest's where it shows that it has some.
 */

import type { IoHandler } from '../../loop.ts';
import type { Parts } from '../../stack/buffer/byte-queue.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP } from '../../sys/epoll.ts';
import { ECONNRESET, EINTR } from '../../sys/errno.ts';
import { readv, writev } from '../../sys/io.ts';
import {
  getsockoptInt,
  IPPROTO_TCP,
  recv,
  SHUT_WR,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_OOBINLINE,
  SOL_SOCKET,
  send,
  setsockoptInt,
  shutdown,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
} from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { HostDescriptor } from '../host/descriptor.ts';
import { emitProxyHeader } from './proxy-protocol.ts';

/** Probes that go without an answer, and how far apart at most. Seconds; the longest times that tcp(7) takes. */
const KEEPALIVE_PROBES = 4;
const MAX_INTERVAL_S = 75;
const MAX_IDLE_S = 32_767;

export class TcpHostSocket extends HostDescriptor {
  readable = false;
  writable = true;
  /** The host said end of file. */
  eof = false;
  /** The host takes no more bytes, but what it sent before is still on its way to the guest. */
  broken = false;
  /** The host hung up in its sending direction at least: read to the end without waiting for another edge. */
  hungUp = false;
  /** TCP_NODELAY is set before the second write; the first is never held back (RFC 9293 §3.7.4). */
  #writes = 0;
  /** Urgent data were announced, and not everything has been read since. */
  #urgent = false;
  /** Seconds of silence after which the peer is probed; 0 = the host's own. */
  #keepIdle = 0;

  constructor(context: FlowContext) {
    super(context, DescriptorUse.Tcp);
  }

  /** Take over `fd`, which is connecting or connected; 0 or `-errno`, and then it is closed. */
  attach(fd: number, handler: IoHandler): number {
    const result = this.hold(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI, handler);
    if (result === 0) this.#set(SOL_SOCKET, SO_KEEPALIVE, 1);
    return result;
  }

  /**
   * The guest probes its peer, after `idleMs` of silence: ours is probed as early. The guest's further times do not show,
   * because we answer it; its peer is given up after as long again.
   */
  keepAlive(idleMs: number): void {
    const idle = Math.max(1, Math.round(idleMs / 1000));
    if (idle === this.#keepIdle) return;
    this.#keepIdle = idle;
    this.#set(IPPROTO_TCP, TCP_KEEPINTVL, Math.min(Math.ceil(idle / KEEPALIVE_PROBES), MAX_INTERVAL_S));
    this.#set(IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    this.#set(IPPROTO_TCP, TCP_KEEPIDLE, Math.min(idle, MAX_IDLE_S));
  }

  /** What epoll(7) said of reading. */
  noteReadable(events: number): void {
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.hungUp = true;
    if ((events & EPOLLPRI) !== 0 && !this.#urgent) {
      this.#urgent = true;
      this.#set(SOL_SOCKET, SO_OOBINLINE, 1);
    }
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.readable = true;
  }

  /** Take the pending error off the socket: a positive errno, or 0. What connect(2) ended with is one. */
  takeError(): number {
    const { memory, scratch } = this.context;
    getsockoptInt(memory, this.fd, SOL_SOCKET, SO_ERROR, scratch.option);
    return memory.view.getInt32(scratch.option, true);
  }

  /**
   * Read into `parts`, which have room for `room` bytes; how many came, 0 at the end of file, or `-errno` (EAGAIN: none
   * for the moment).
   */
  read(parts: Parts, room: number): number {
    let n: number;
    do n = this.#readOnce(parts);
    while (n === -EINTR);
    if (n === 0) this.eof = true;
    if (n <= 0) this.#urgent = false;
    if (n <= 0 || (n < room && !this.hungUp && !this.#urgent)) this.readable = false;
    return n;
  }

  /** Write the `total` bytes of `parts`; how many were taken, or `-errno` (EAGAIN: none for the moment). */
  write(parts: Parts, total: number): number {
    if (parts.count === 1) return this.writeBytes(parts.offset[0] as number, total);
    const { memory, scratch } = this.context;
    this.#beforeWrite();
    scratch.putParts(parts);
    let n: number;
    do n = writev(memory, this.fd, scratch.iovec, parts.count);
    while (n === -EINTR);
    if (n < total) this.writable = false;
    return n;
  }

  /** As `write`, for bytes in one place. */
  writeBytes(offset: number, length: number): number {
    const { memory } = this.context;
    this.#beforeWrite();
    let n: number;
    do n = send(memory, this.fd, offset, length);
    while (n === -EINTR);
    if (n < length) this.writable = false;
    return n;
  }

  /** Tell the host's service who its client is, before anything else; 0 or `-errno`. */
  writeProxyHeader(
    version: 1 | 2,
    client: IpAddress,
    clientPort: number,
    contacted: IpAddress,
    contactedPort: number,
  ): number {
    const { memory, scratch } = this.context;
    const at = scratch.message;
    const length = emitProxyHeader(memory.view, at, version, client, clientPort, contacted, contactedPort);
    const n = this.writeBytes(at, length);
    // A socket that is only just connected takes that much, or is closed again.
    if (n === length) return 0;
    return n < 0 ? n : -ECONNRESET;
  }

  /** FIN: no more bytes will be written. */
  endWriting(): void {
    shutdown(this.fd, SHUT_WR);
  }

  /** One piece is what most reads have, and what a plain call takes. */
  #readOnce(parts: Parts): number {
    const { memory, scratch } = this.context;
    if (parts.count === 1) return recv(memory, this.fd, parts.offset[0] as number, parts.length[0] as number);
    scratch.putParts(parts);
    return readv(memory, this.fd, scratch.iovec, parts.count);
  }

  /** Nagle's algorithm would hold back a small second write; the guest has its own. */
  #beforeWrite(): void {
    if (this.#writes === 2) return;
    if (this.#writes === 1) this.#set(IPPROTO_TCP, TCP_NODELAY, 1);
    this.#writes++;
  }

  #set(level: number, name: number, value: number): void {
    const { memory, scratch } = this.context;
    setsockoptInt(memory, this.fd, level, name, value, scratch.option);
  }
}
