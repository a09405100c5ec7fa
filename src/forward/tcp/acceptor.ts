/**
 * Takes the clients of a listening socket, a turn's share of them, as long as there is room. Where a limit, or a want of
 * descriptors or memory, stops it, it is tried again when a wait is over and after `RETRY_MS`; there is no spinning (P-05),
 * because the socket is watched edge-triggered.
 */
import { type IoHandler, TimerNode } from '../../loop.ts';
import { Counter } from '../../stack/counters.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { EPOLLIN } from '../../sys/epoll.ts';
import { EAGAIN, EBADF, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK } from '../../sys/errno.ts';
import { accept } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { HostDescriptor } from '../host/descriptor.ts';
import { readSockaddr } from '../host/scratch.ts';

/** Clients accepted in one turn, so that a flood of them does not hold up the others. */
const ACCEPTS_PER_TURN = 32;
const RETRY_MS = 50;

export abstract class Acceptor extends TimerNode implements IoHandler {
  waiting = false;
  /** Clients who wait for the other side to answer. */
  pending = 0;
  protected readonly context: FlowContext;
  readonly #descriptor: HostDescriptor;
  readonly #client = new IpAddress();
  /** There may be clients in the kernel's queue: no EAGAIN since. */
  #more = false;

  constructor(context: FlowContext) {
    super();
    this.context = context;
    this.#descriptor = new HostDescriptor(context, DescriptorUse.Tcp);
  }

  /** Take over `fd`, which listens; 0, or `-errno` and it is closed. */
  protected watch(fd: number): number {
    return this.#descriptor.hold(fd, EPOLLIN, this);
  }

  /** Is there room for one more client? */
  protected abstract hasRoom(): boolean;

  /** The client `fd`, from (`address`, `port`), borrowed; null and -1 for unix sockets. The descriptor is given away. */
  protected abstract accepted(fd: number, address: IpAddress | null, port: number): void;

  onIo(events: number): void {
    if (!this.isOpen) return;
    if (events !== 0) this.#more = true;
    if (this.#more) this.#acceptSome();
  }

  onTimer(_nowMs: number): void {
    if (this.isOpen && this.#more) this.#acceptSome();
  }

  /** One client waits less for the other side. */
  dialEnded(): void {
    this.pending--;
    this.roomMade();
  }

  close(): void {
    this.context.timers.cancel(this);
    this.#descriptor.close();
  }

  protected get isOpen(): boolean {
    return this.#descriptor.fd >= 0;
  }

  /** Somebody has gone for whom there was no room for others. */
  protected roomMade(): void {
    if (this.#more && this.isOpen) this.context.poller.ready(this);
  }

  #acceptSome(): void {
    const { memory, scratch, counters, poller } = this.context;
    for (let i = 0; i < ACCEPTS_PER_TURN; i++) {
      if (!this.hasRoom()) {
        this.#retryLater();
        return;
      }
      const fd = accept(memory, this.#descriptor.fd, scratch.sockaddr);
      if (fd >= 0) {
        counters.add(Counter.TcpAccepted, 1);
        const port = readSockaddr(memory, scratch.sockaddr, this.#client);
        this.accepted(fd, port < 0 ? null : this.#client, port);
        continue;
      }
      switch (-fd) {
        case EAGAIN:
          this.#more = false;
          return;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
          this.#retryLater();
          return;
        case EBADF:
        case EINVAL:
        case ENOTSOCK:
          throw new Error(`accept: errno ${-fd}`);
        default:
        // accept(2): errors of a client that is gone already; the next one may be well.
      }
    }
    poller.ready(this);
  }

  #retryLater(): void {
    const { clock, timers } = this.context;
    this.deadline = clock.nowMs + RETRY_MS;
    timers.update(this);
  }
}
