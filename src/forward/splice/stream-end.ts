/**
 * One of the two sockets of a spliced connection, and what its edges said: `readable` and `writable` remember them until the
 * socket says EAGAIN.
 */
import type { IoHandler } from '../../loop.ts';
import { EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../../sys/epoll.ts';
import { IPPROTO_TCP, SHUT_WR, setsockoptInt, shutdown, TCP_NODELAY } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { HostDescriptor } from '../host/descriptor.ts';

/** Whose it is. */
export interface StreamEndOwner {
  /** `events` have come at `end`. */
  onEnd(end: StreamEnd, events: number): void;
}

export class StreamEnd extends HostDescriptor implements IoHandler {
  waiting = false;
  readable = false;
  /** Not before it is connected. */
  writable = false;
  /** It hung up in its sending direction at least: what can be read is all that there will be. */
  hungUp = false;
  /** It said end of file. */
  eof = false;
  readonly #owner: StreamEndOwner;
  #writes = 0;

  constructor(context: FlowContext, owner: StreamEndOwner) {
    super(context, DescriptorUse.Tcp);
    this.#owner = owner;
  }

  /** Take over `fd`; 0, or `-errno` and it is closed. */
  attach(fd: number): number {
    return this.hold(fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, this);
  }

  onIo(events: number): void {
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.hungUp = true;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.readable = true;
    if ((events & EPOLLOUT) !== 0) this.writable = true;
    this.#owner.onEnd(this, events);
  }

  /** Nagle's algorithm would hold back a small second write; whoever has written it has his own. */
  beforeWrite(): void {
    if (this.#writes === 2) return;
    const { memory, scratch } = this.context;
    if (this.#writes === 1) setsockoptInt(memory, this.fd, IPPROTO_TCP, TCP_NODELAY, 1, scratch.option);
    this.#writes++;
  }

  /** FIN: no more bytes will be written. */
  endWriting(): void {
    shutdown(this.fd, SHUT_WR);
  }
}
