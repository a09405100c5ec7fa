/**
 * One local TCP forward: a listening socket of the host, internet or unix. Each client becomes a flow, in which we open
 * the connection to the guest.
 *
 * Clients are accepted only as fast as the guest answers: at most `tcpMaxPendingDialsPerDestination` wait for it at a
 * time, the rest in the kernel's queue. Where a limit, or a want of descriptors or memory, stops accepting, it is tried
 * again when a wait is over and after `RETRY_MS`; there is no spinning (P-05), because the socket is watched
 * edge-triggered.
 *
 * Left out on purpose: telling a client of the queue that the guest is gone before it is its turn.
 */
import type { HostEnd, LocalForwardSpec } from '../../config.ts';
import { type IoHandler, TimerNode } from '../../loop.ts';
import { Counter } from '../../stack/counters.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { EPOLLIN } from '../../sys/epoll.ts';
import { EAGAIN, EBADF, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOTSOCK } from '../../sys/errno.ts';
import { accept, SOCK_STREAM } from '../../sys/socket.ts';
import { fileIdentity, removeSocketFile } from '../../sys/unix-path.ts';
import type { FlowContext } from '../flow/context.ts';
import { DescriptorUse } from '../flow/descriptor-budget.ts';
import { localEnd } from '../flow/record.ts';
import { HostDescriptor } from '../host/descriptor.ts';
import { readSockaddr } from '../host/scratch.ts';
import type { Aim } from '../publish/aim.ts';
import { listenError } from '../publish/forward-error.ts';
import type { Listener } from '../publish/forwards.ts';
import { listenPlace, openListenSocket } from '../publish/listen-socket.ts';

/** Clients accepted in one turn, so that a flood of them does not hold up the others. */
const ACCEPTS_PER_TURN = 32;
const RETRY_MS = 50;

/** Takes the clients. */
export interface ClientTaker {
  readonly context: FlowContext;
  /** Is there room for one more client of this listener? */
  hasRoom(listener: TcpListener): boolean;
  /** The client `fd`, from (`address`, `port`); null and -1 for unix sockets. The taker owns the descriptor. */
  accepted(listener: TcpListener, fd: number, address: IpAddress | null, port: number): void;
  closed(listener: TcpListener): void;
}

export class TcpListener extends TimerNode implements IoHandler, Listener {
  readonly kind = 'local';
  readonly missing = 0;
  readonly id: number;
  readonly bound: HostEnd;
  readonly proxyHeader: boolean;
  /** Clients for whom the guest has not answered yet. */
  pending = 0;
  /** Clients whose header is not complete. */
  unproxied = 0;
  waiting = false;
  readonly #taker: ClientTaker;
  readonly #descriptor: HostDescriptor;
  readonly #client = new IpAddress();
  /** Of a unix socket's file; empty = there is none. */
  readonly #file: string;
  /** There may be clients in the kernel's queue: no EAGAIN since. */
  #more = false;
  #closed = false;
  #aim: Aim;

  /** Opens it. Throws `ForwardError`. */
  constructor(taker: ClientTaker, id: number, spec: LocalForwardSpec, aim: Aim) {
    super();
    const { context } = taker;
    this.#taker = taker;
    this.id = id;
    this.#aim = aim;
    this.proxyHeader = spec.proxyHeader;
    const fd = openListenSocket(context, spec, SOCK_STREAM);
    this.#file = spec.listen.kind === 'unix' ? fileIdentity(spec.listen.path) : '';
    this.bound = spec.listen.kind === 'unix' ? spec.listen : { kind: 'ip', ...localEnd(context, fd) };
    this.#descriptor = new HostDescriptor(context, DescriptorUse.Tcp);
    const result = this.#descriptor.hold(fd, EPOLLIN, this);
    if (result < 0) throw listenError(listenPlace(spec), result);
  }

  aim(aim: Aim): void {
    this.#aim = aim;
  }

  /** Where clients are led now. */
  get aimed(): Aim {
    return this.#aim;
  }

  /** The port that clients name; 0 for a unix socket. */
  get port(): number {
    return this.bound.kind === 'ip' ? this.bound.port : 0;
  }

  onIo(events: number): void {
    if (this.#closed) return;
    if (events !== 0) this.#more = true;
    if (this.#more) this.#acceptSome();
  }

  onTimer(_nowMs: number): void {
    if (!this.#closed && this.#more) this.#acceptSome();
  }

  /** One client waits less for the guest. */
  dialEnded(): void {
    this.pending--;
    if (this.#more && !this.#closed) this.#taker.context.poller.ready(this);
  }

  /** One client's header is complete, or its client gone. */
  headerEnded(): void {
    this.unproxied--;
    if (this.#more && !this.#closed) this.#taker.context.poller.ready(this);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#taker.context.timers.cancel(this);
    if (this.bound.kind === 'unix') removeSocketFile(this.bound.path, this.#file);
    this.#descriptor.close();
    this.#taker.closed(this);
  }

  #acceptSome(): void {
    const { context } = this.#taker;
    const { memory, scratch, counters } = context;
    for (let i = 0; i < ACCEPTS_PER_TURN; i++) {
      if (!this.#taker.hasRoom(this)) {
        this.#retryLater();
        return;
      }
      const fd = accept(memory, this.#descriptor.fd, scratch.sockaddr);
      if (fd >= 0) {
        counters.add(Counter.TcpAccepted, 1);
        const port = readSockaddr(memory, scratch.sockaddr, this.#client);
        this.#taker.accepted(this, fd, port < 0 ? null : this.#client, port);
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
    context.poller.ready(this);
  }

  #retryLater(): void {
    const { clock, timers } = this.#taker.context;
    this.deadline = clock.nowMs + RETRY_MS;
    timers.update(this);
  }
}
