/**
 * One UDP mapping: a guest address and port, and the host socket that speaks for it to every destination (RFC 4787
 * REQ-1, endpoint-independent mapping). The socket is not connected; answers are let in only from where the policy
 * would let the guest go.
 *
 * Sending. The manager gathers consecutive datagrams of a batch that share flow, destination and size; they leave in
 * one sendmsg(2) with UDP_SEGMENT. Where the path does not take that (a route with a smaller MTU), they leave singly.
 *
 * Receiving. recvmmsg(2) of up to 32 datagrams; those that follow each other with the same sender and size go to the
 * guest as one batch where the device takes it.
 */
import type { IpAddress } from '../stack/wire/address.ts';
import { EPOLLERR, EPOLLET, EPOLLIN } from '../sys/epoll.ts';
import { EAGAIN, ECONNREFUSED, EHOSTUNREACH, EINTR, ENETUNREACH } from '../sys/errno.ts';
import { close } from '../sys/io.ts';
import {
  AF_INET,
  AF_INET6,
  CMSGHDR_SIZE,
  getsockoptInt,
  IP_RECVERR,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_RECVERR,
  IPV6_UNICAST_HOPS,
  IPV6_V6ONLY,
  putMsghdr,
  recvmmsg,
  SO_ERROR,
  SOCK_DGRAM,
  SOL_SOCKET,
  sendmsg,
  setsockoptInt,
  socket,
  UDP_SEGMENT,
} from '../sys/socket.ts';
import { type IoHandler, TimerNode } from './context.ts';
import { QueuedError, readError } from './error-queue.ts';
import { ANY_ADDRESS, type Keyed } from './flow-table.ts';
import type { LruNode } from './lru.ts';
import type { Target } from './target.ts';
import type { DatagramBatch, ReceiveSlots, SenderJudge } from './udp-batch.ts';

/** Datagrams of other ports: RFC 4787 REQ-5 asks for at least two minutes. */
const IDLE_MS = 180_000;
/** One question, one answer (REQ-5 (b) allows less for well-known ports). */
const DNS_IDLE_MS = 10_000;
const DNS_PORT = 53;
/** Below this the guest counts hops (traceroute); from it on the system's own value serves. */
const TTL_OF_INTEREST = 32;
/** recvmmsg calls in one turn. */
const RECEIVES_PER_TURN = 8;
const ERRORS_PER_TURN = 16;

const queuedError = new QueuedError();

export interface UdpFlowOwner extends SenderJudge {
  readonly slots: ReceiveSlots;
  touch(flow: UdpFlow): void;
  ended(flow: UdpFlow): void;
  /** Pass on what the network said about one of the flow's datagrams. */
  reportError(flow: UdpFlow, error: QueuedError): void;
}

export class UdpFlow extends TimerNode implements IoHandler, Keyed, LruNode {
  readonly guest: IpAddress;
  readonly remote: IpAddress = ANY_ADDRESS;
  readonly ports: number;
  keyHash = 0;
  lruPrevious: LruNode | null = null;
  lruNext: LruNode | null = null;
  readonly #owner: UdpFlowOwner;
  waiting = false;
  #fd = -1;
  #token = -1;
  #idleMs: number = IDLE_MS;
  #lastUse = 0;
  /** Hop limit set on the socket; 0 = the system's own. */
  #ttl = 0;
  #segmentation = true;

  constructor(owner: UdpFlowOwner, guest: IpAddress, port: number) {
    super();
    this.#owner = owner;
    this.guest = guest.clone();
    this.ports = (port << 16) >>> 0;
  }

  get guestPort(): number {
    return this.ports >>> 16;
  }

  /** Open the host socket; 0 or `-errno`. */
  open(dstPort: number): number {
    const { memory, scratch, poller, descriptors } = this.#owner.context;
    const isV4 = this.guest.isV4;
    const fd = socket(isV4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
    if (fd < 0) return fd;
    setsockoptInt(
      memory,
      fd,
      isV4 ? IPPROTO_IP : IPPROTO_IPV6,
      isV4 ? IP_RECVERR : IPV6_RECVERR,
      1,
      scratch.option,
    );
    // Or an IPv6 mapping would let IPv4 datagrams in as mapped addresses.
    if (!isV4) setsockoptInt(memory, fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, scratch.option);
    const token = poller.add(fd, EPOLLIN | EPOLLET, this);
    if (token < 0) {
      close(fd);
      return token;
    }
    descriptors.used++;
    this.#fd = fd;
    this.#token = token;
    if (dstPort === DNS_PORT) this.#idleMs = DNS_IDLE_MS;
    return 0;
  }

  /** Note that the guest sent something to `dstPort`; keeps the mapping alive. */
  used(dstPort: number): void {
    const { clock, timers } = this.#owner.context;
    this.#lastUse = clock.nowMs;
    if (dstPort !== DNS_PORT && this.#idleMs === DNS_IDLE_MS) this.#idleMs = IDLE_MS;
    if (this.deadline === Number.POSITIVE_INFINITY) {
      this.deadline = clock.nowMs + this.#idleMs;
      timers.update(this);
    }
  }

  /**
   * Send the datagrams of `batch` to `target`. Errors come back through the error queue, to the guest; a full host
   * queue drops, as any router does.
   */
  send(batch: DatagramBatch, target: Target, ttl: number): void {
    const { scratch } = this.#owner.context;
    this.#setTtl(ttl < TTL_OF_INTEREST ? ttl - 1 : 0);
    scratch.putAddress(target.address, target.port, target.scopeId);
    if (batch.length > batch.size && this.#segmentation) {
      const result = this.#sendSegmented(batch);
      if (result >= 0 || result === -EAGAIN) return;
      if (result === -ECONNREFUSED || result === -EHOSTUNREACH || result === -ENETUNREACH) {
        // An error about an earlier datagram: this one was not sent yet.
        if (this.#sendSegmented(batch) >= 0) return;
      } else {
        // The route does not take segments of that size, or the kernel knows no UDP_SEGMENT.
        this.#segmentation = false;
      }
    }
    for (let i = 0, at = 0; at < batch.length || i === 0; i++) {
      at += this.#sendOne(batch, i, at);
    }
  }

  onIo(events: number): void {
    if (this.#fd < 0) return;
    if ((events & EPOLLERR) !== 0) this.#readErrors();
    this.#receive();
  }

  onTimer(nowMs: number): void {
    const end = this.#lastUse + this.#idleMs;
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

  #sendSegmented(batch: DatagramBatch): number {
    const { memory, scratch } = this.#owner.context;
    const view = memory.view;
    view.setUint32(scratch.control, CMSGHDR_SIZE + 2, true);
    view.setUint32(scratch.control + 4, 0, true);
    view.setUint32(scratch.control + 8, IPPROTO_UDP, true);
    view.setUint32(scratch.control + 12, UDP_SEGMENT, true);
    view.setUint32(scratch.control + CMSGHDR_SIZE, batch.size, true);
    view.setUint32(scratch.control + CMSGHDR_SIZE + 4, 0, true);
    scratch.putParts(batch.parts);
    putMsghdr(
      memory,
      scratch.msghdr,
      scratch.sockaddr,
      scratch.sockaddrLength,
      scratch.iovec,
      batch.parts.count,
      scratch.control,
      CMSGHDR_SIZE + 8,
    );
    return sendmsg(memory, this.#fd, scratch.msghdr);
  }

  /** Send datagram `index`, whose payload begins `at` bytes into the batch; how many bytes it had. */
  #sendOne(batch: DatagramBatch, index: number, at: number): number {
    const { memory, scratch } = this.#owner.context;
    // A super-frame of the device is one piece with several datagrams in it; otherwise a piece is a datagram.
    const single = batch.parts.count === 1;
    const offset = single ? (batch.parts.offset[0] as number) + at : (batch.parts.offset[index] as number);
    const length = single ? Math.min(batch.size, batch.length - at) : (batch.parts.length[index] as number);
    memory.putIovec(scratch.iovec, 0, offset, length);
    putMsghdr(memory, scratch.msghdr, scratch.sockaddr, scratch.sockaddrLength, scratch.iovec, 1, 0, 0);
    const result = sendmsg(memory, this.#fd, scratch.msghdr);
    // Pending errors of earlier datagrams are reported once each; then the datagram goes out.
    if (result === -ECONNREFUSED || result === -EHOSTUNREACH || result === -ENETUNREACH) {
      sendmsg(memory, this.#fd, scratch.msghdr);
    }
    return Math.max(length, 1);
  }

  #setTtl(ttl: number): void {
    if (ttl === this.#ttl) return;
    this.#ttl = ttl;
    const { memory, scratch } = this.#owner.context;
    const isV4 = this.guest.isV4;
    setsockoptInt(
      memory,
      this.#fd,
      isV4 ? IPPROTO_IP : IPPROTO_IPV6,
      isV4 ? IP_TTL : IPV6_UNICAST_HOPS,
      ttl === 0 ? -1 : ttl,
      scratch.option,
    );
  }

  #readErrors(): void {
    const { scratch } = this.#owner.context;
    for (let i = 0; i < ERRORS_PER_TURN; i++) {
      const result = readError(this.#fd, scratch, queuedError);
      if (result < 0) break;
      if (result > 0) this.#owner.reportError(this, queuedError);
    }
    // Take the pending error off the socket too, or the next call would fail with it.
    getsockoptInt(this.#owner.context.memory, this.#fd, SOL_SOCKET, SO_ERROR, scratch.option);
  }

  #receive(): void {
    const { context, slots } = this.#owner;
    const { memory, clock, poller } = context;
    for (let turn = 0; turn < RECEIVES_PER_TURN; turn++) {
      slots.prepare();
      const count = recvmmsg(memory, this.#fd, slots.headers, slots.count);
      if (count < 0) {
        if (count === -EINTR || count === -ECONNREFUSED || count === -EHOSTUNREACH) continue;
        return;
      }
      this.#lastUse = clock.nowMs;
      this.#owner.touch(this);
      slots.deliver(count, this.guest, this.guestPort, this.#owner);
      if (count < slots.count) return;
    }
    poller.ready(this);
  }
}
