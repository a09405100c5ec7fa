/**
 * A spliced TCP connection: two sockets, one of the host's namespace and one of the guest's, of which one was accepted and the
 * other is connected for it. There is nothing of the stack in between, but what one of them does is done by the other: the end of
 * what it sends, back pressure, and a reset. A connect that fails resets the client, who was accepted before (pasta §8.4).
 *
 * There is no deadline: programs on one machine notice each other's end.
 */
import type { IoHandler } from '../../loop.ts';
import { EPOLLERR, EPOLLHUP } from '../../sys/epoll.ts';
import { ECONNRESET, EINPROGRESS } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import { connect, getsockoptInt, SO_ERROR, SOL_SOCKET } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import type { FlowEnds, FlowInfo, ListedFlow } from '../flow/info.ts';
import {
  END_OF_FILE,
  type EndsSource,
  FlowRecord,
  Half,
  type ListeningForward,
  localEnd,
  remoteEnd,
} from '../flow/record.ts';
import type { SocketTaker } from './inside-sockets.ts';
import type { Pipes } from './pipes.ts';
import { PUMP_MORE, Pump } from './pump.ts';
import { StreamEnd, type StreamEndOwner } from './stream-end.ts';

/** The forward that a connection came by, which counts those whose other side has not answered. */
export interface DialingForward extends ListeningForward {
  pending: number;
  /** One of them has, or never will. */
  dialEnded(): void;
}

export interface StreamFlowOwner {
  readonly context: FlowContext;
  readonly pipes: Pipes;
  ended(flow: StreamFlow): void;
}

export class StreamFlow implements IoHandler, StreamEndOwner, SocketTaker, ListedFlow, EndsSource {
  waiting = false;
  readonly record: FlowRecord;
  isOver = false;
  readonly #owner: StreamFlowOwner;
  readonly #forward: DialingForward;
  /** Where a socket that is made for it connects to, a struct sockaddr; null: another is connected already. */
  readonly #target: Uint8Array | null;
  readonly #host: StreamEnd;
  readonly #guest: StreamEnd;
  readonly #toHost: Pump;
  readonly #toGuest: Pump;
  #isDialing = true;

  constructor(owner: StreamFlowOwner, forward: DialingForward, target: Uint8Array | null) {
    const { context, pipes } = owner;
    this.#owner = owner;
    this.#forward = forward;
    this.#target = target;
    this.record = new FlowRecord(context, 'tcp', forward);
    this.#host = new StreamEnd(context, this);
    this.#guest = new StreamEnd(context, this);
    this.#toHost = new Pump(context, pipes, this.#guest, this.#host);
    this.#toGuest = new Pump(context, pipes, this.#host, this.#guest);
  }

  /** The socket of the client, and the one that is connected for it. */
  get #near(): StreamEnd {
    return this.record.isLocal ? this.#host : this.#guest;
  }

  get #far(): StreamEnd {
    return this.record.isLocal ? this.#guest : this.#host;
  }

  /** Take over the client's socket `fd`; 0, or `-errno` and it is closed. */
  accept(fd: number): number {
    return this.#near.attach(fd);
  }

  /** A socket inside is there, or never will be. */
  onSocket(fd: number): void {
    const { memory, slab, scratch } = this.#owner.context;
    const target = this.#target;
    if (fd < 0 || target === null) {
      this.onDialed(fd);
      return;
    }
    slab.bytes.set(target, scratch.sockaddr);
    const result = connect(memory, fd, scratch.sockaddr, target.length);
    if (result < 0 && result !== -EINPROGRESS) {
      close(fd);
      this.onDialed(result);
    } else this.onDialed(fd);
  }

  /** Take over `fd`, which connects to the other side; or it cannot, for `-errno`. */
  onDialed(fd: number): void {
    const result = fd < 0 ? fd : this.#far.attach(fd);
    if (result < 0) this.#dialFailed(-result);
  }

  onEnd(end: StreamEnd, events: number): void {
    if (this.isOver) return;
    if (this.#isDialing) {
      this.#onDial(end, events);
      if (this.#isDialing || this.isOver) return;
    }
    this.onIo();
    // What it sent before it was reset has been passed on, as far as the other side takes it now.
    if ((events & EPOLLERR) !== 0 && !this.isOver) this.#reset(end, this.#takeError(end) || ECONNRESET);
  }

  /** Both directions. */
  onIo(): void {
    if (this.isOver || this.#isDialing) return;
    const toGuest = this.#toGuest.move();
    const toHost = this.#toHost.move();
    this.#noteEnds();
    if (toGuest < 0) this.#reset(this.#toGuest.failed, -toGuest);
    else if (toHost < 0) this.#reset(this.#toHost.failed, -toHost);
    else if (this.#toGuest.isDone && this.#toHost.isDone) this.#end(false);
    else if (toGuest === PUMP_MORE || toHost === PUMP_MORE) this.#owner.context.poller.ready(this);
  }

  ends(): FlowEnds {
    const { context } = this.#owner;
    return {
      left: remoteEnd(context, this.#near.fd),
      leftLocal: localEnd(context, this.#near.fd),
      right: remoteEnd(context, this.#far.fd),
      rightLocal: localEnd(context, this.#far.fd),
    };
  }

  info(nowMs: number): FlowInfo {
    this.#count();
    return this.record.info(nowMs, this.#isDialing ? 'SYN-SENT' : 'ESTABLISHED', this);
  }

  /** Reset both sides. */
  cut(): void {
    if (!this.isOver) this.#end(true);
  }

  #onDial(end: StreamEnd, events: number): void {
    const isHungUp = (events & (EPOLLERR | EPOLLHUP)) !== 0;
    if (end === this.#near) {
      // He has left before anybody answered.
      if (isHungUp) this.#reset(end, this.#takeError(end) || ECONNRESET);
      return;
    }
    const error = isHungUp ? this.#takeError(end) : 0;
    if (error !== 0) {
      this.#dialFailed(error);
    } else if (end.writable) {
      this.#dialEnded();
      this.record.opened(this.#owner.context, this);
    }
  }

  #dialEnded(): void {
    if (!this.#isDialing) return;
    this.#isDialing = false;
    this.#forward.dialEnded();
  }

  /** Nobody answers there: `error` is an errno. */
  #dialFailed(error: number): void {
    this.record.endedWhole(this.record.isLocal ? Half.GuestRead : Half.HostRead, error);
    this.#end(true);
  }

  /** `end` was reset, or takes nothing any more, and so does the other. */
  #reset(end: StreamEnd, error: number): void {
    this.record.endedWhole(end === this.#guest ? Half.GuestRead : Half.HostRead, error);
    this.#end(true);
  }

  #noteEnds(): void {
    if (this.#host.eof) this.record.ended(Half.HostRead, END_OF_FILE);
    if (this.#guest.eof) this.record.ended(Half.GuestRead, END_OF_FILE);
  }

  #count(): void {
    this.record.bytesOut = this.#toHost.bytes;
    this.record.bytesIn = this.#toGuest.bytes;
  }

  #end(reset: boolean): void {
    this.isOver = true;
    this.#count();
    const { context } = this.#owner;
    context.inside.cancel(this);
    this.record.closed(context, this);
    this.#toHost.close();
    this.#toGuest.close();
    this.#host.close(reset);
    this.#guest.close(reset);
    this.#dialEnded();
    this.#owner.ended(this);
  }

  #takeError(end: StreamEnd): number {
    const { memory, scratch } = this.#owner.context;
    getsockoptInt(memory, end.fd, SOL_SOCKET, SO_ERROR, scratch.option);
    return memory.view.getInt32(scratch.option, true);
  }
}
