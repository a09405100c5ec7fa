/**
 * Echo requests to the outside, through an unprivileged ping socket (icmp(7), `net.ipv4.ping_group_range`): one per
 * guest address and identifier. The kernel puts its own identifier on the wire; sequence numbers, data and hop limits
 * are kept, and errors from routers on the way are passed on, so that traceroute works.
 */
import type { IpAddress } from '../stack/wire/address.ts';
import { ICMP_HEADER_LEN, ICMP4_ECHO_REPLY, ICMP6_ECHO_REPLY } from '../stack/wire/icmp.ts';
import { EPOLLERR, EPOLLET, EPOLLIN } from '../sys/epoll.ts';
import { close } from '../sys/io.ts';
import {
  AF_INET,
  AF_INET6,
  CMSGHDR_SIZE,
  getsockoptInt,
  IP_RECVERR,
  IP_RECVTTL,
  IP_TTL,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HOPLIMIT,
  IPV6_RECVERR,
  IPV6_RECVHOPLIMIT,
  IPV6_UNICAST_HOPS,
  putMsghdr,
  recvmsg,
  SO_ERROR,
  SOCK_DGRAM,
  SOCKADDR_SIZE,
  SOL_SOCKET,
  sendto,
  setsockoptInt,
  socket,
} from '../sys/socket.ts';
import { type FlowContext, type IoHandler, TimerNode } from './context.ts';
import { QueuedError, readError } from './error-queue.ts';
import { ANY_ADDRESS, type Keyed } from './flow-table.ts';
import { readSockaddr } from './host-scratch.ts';
import type { LruNode } from './lru.ts';

/** RFC 5508 REQ-2. */
const IDLE_MS = 60_000;
const MESSAGES_PER_TURN = 32;

const queuedError = new QueuedError();

export interface PingFlowOwner {
  readonly context: FlowContext;
  /** 64 KiB to receive a reply in. */
  readonly buffer: number;
  readonly bufferSize: number;
  readonly peer: IpAddress;
  touch(flow: PingFlow): void;
  mayReceive(src: IpAddress): boolean;
  ended(flow: PingFlow): void;
  reportError(flow: PingFlow, error: QueuedError): void;
}

export class PingFlow extends TimerNode implements IoHandler, Keyed, LruNode {
  readonly guest: IpAddress;
  readonly remote: IpAddress = ANY_ADDRESS;
  readonly ports: number;
  keyHash = 0;
  lruPrevious: LruNode | null = null;
  lruNext: LruNode | null = null;
  readonly #owner: PingFlowOwner;
  waiting = false;
  #fd = -1;
  #token = -1;
  #ttl = -1;
  #lastUse = 0;

  constructor(owner: PingFlowOwner, guest: IpAddress, identifier: number) {
    super();
    this.#owner = owner;
    this.guest = guest.clone();
    this.ports = (identifier << 16) >>> 0;
  }

  get identifier(): number {
    return this.ports >>> 16;
  }

  open(): number {
    const { memory, scratch, poller, descriptors } = this.#owner.context;
    const isV4 = this.guest.isV4;
    const fd = socket(isV4 ? AF_INET : AF_INET6, SOCK_DGRAM, isV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
    if (fd < 0) return fd;
    const level = isV4 ? IPPROTO_IP : IPPROTO_IPV6;
    setsockoptInt(memory, fd, level, isV4 ? IP_RECVERR : IPV6_RECVERR, 1, scratch.option);
    setsockoptInt(memory, fd, level, isV4 ? IP_RECVTTL : IPV6_RECVHOPLIMIT, 1, scratch.option);
    const token = poller.add(fd, EPOLLIN | EPOLLET, this);
    if (token < 0) {
      close(fd);
      return token;
    }
    descriptors.used++;
    this.#fd = fd;
    this.#token = token;
    return 0;
  }

  /**
   * Send the echo request of `length` bytes at `offset` (ICMP header included; its checksum and identifier are the
   * kernel's business) to the address in `scratch.sockaddr`, one hop on.
   */
  send(offset: number, length: number, ttl: number): number {
    const { memory, scratch, clock, timers } = this.#owner.context;
    this.#lastUse = clock.nowMs;
    if (this.deadline === Number.POSITIVE_INFINITY) {
      this.deadline = clock.nowMs + IDLE_MS;
      timers.update(this);
    }
    if (ttl - 1 !== this.#ttl) {
      this.#ttl = ttl - 1;
      const isV4 = this.guest.isV4;
      setsockoptInt(
        memory,
        this.#fd,
        isV4 ? IPPROTO_IP : IPPROTO_IPV6,
        isV4 ? IP_TTL : IPV6_UNICAST_HOPS,
        this.#ttl,
        scratch.option,
      );
    }
    return sendto(memory, this.#fd, offset, length, scratch.sockaddr, scratch.sockaddrLength);
  }

  onIo(events: number): void {
    if (this.#fd < 0) return;
    if ((events & EPOLLERR) !== 0) this.#readErrors();
    const { poller } = this.#owner.context;
    for (let i = 0; i < MESSAGES_PER_TURN; i++) if (!this.#receiveOne()) return;
    poller.ready(this);
  }

  onTimer(nowMs: number): void {
    const end = this.#lastUse + IDLE_MS;
    if (nowMs >= end) {
      this.close();
      return;
    }
    this.deadline = end;
    this.#owner.context.timers.update(this);
  }

  close(): void {
    if (this.#fd < 0) return;
    const { poller, timers, descriptors } = this.#owner.context;
    poller.forget(this.#token);
    timers.cancel(this);
    close(this.#fd);
    descriptors.used--;
    this.#fd = -1;
    this.#owner.ended(this);
  }

  #receiveOne(): boolean {
    const { context, buffer, bufferSize, peer } = this.#owner;
    const { memory, scratch, icmp, clock } = context;
    memory.putIovec(scratch.iovec, 0, buffer, bufferSize);
    putMsghdr(
      memory,
      scratch.msghdr,
      scratch.sockaddr,
      SOCKADDR_SIZE,
      scratch.iovec,
      1,
      scratch.control,
      scratch.controlSize,
    );
    const n = recvmsg(memory, this.#fd, scratch.msghdr, 0);
    if (n < 0) return false;
    const view = memory.view;
    const expected = this.guest.isV4 ? ICMP4_ECHO_REPLY : ICMP6_ECHO_REPLY;
    if (n < ICMP_HEADER_LEN || view.getUint8(buffer) !== expected) return true;
    if (readSockaddr(memory, scratch.sockaddr, peer) < 0 || !this.#owner.mayReceive(peer)) return true;
    this.#lastUse = clock.nowMs;
    this.#owner.touch(this);
    const rest = ((this.identifier << 16) | view.getUint16(buffer + 6)) >>> 0;
    const ttl = Math.max(1, this.#receivedTtl() - 1);
    icmp.sendEchoReply(peer, this.guest, rest, buffer + ICMP_HEADER_LEN, n - ICMP_HEADER_LEN, ttl);
    return true;
  }

  /** The hop limit the reply arrived with, from the control message; 64 when there is none. */
  #receivedTtl(): number {
    const { scratch, memory } = this.#owner.context;
    const view = memory.view;
    let at = scratch.control;
    const end = at + Math.min(view.getUint32(scratch.msghdr + 40, true), scratch.controlSize);
    while (at + CMSGHDR_SIZE + 4 <= end) {
      const length = view.getUint32(at, true);
      if (length < CMSGHDR_SIZE) break;
      const level = view.getUint32(at + 8, true);
      const type = view.getUint32(at + 12, true);
      if ((level === IPPROTO_IP && type === IP_TTL) || (level === IPPROTO_IPV6 && type === IPV6_HOPLIMIT)) {
        return view.getUint32(at + CMSGHDR_SIZE, true);
      }
      at += (length + 7) & ~7;
    }
    return 64;
  }

  #readErrors(): void {
    const { scratch, memory } = this.#owner.context;
    for (let i = 0; i < MESSAGES_PER_TURN; i++) {
      const result = readError(this.#fd, scratch, queuedError);
      if (result < 0) break;
      if (result > 0) this.#owner.reportError(this, queuedError);
    }
    getsockoptInt(memory, this.#fd, SOL_SOCKET, SO_ERROR, scratch.option);
  }
}
