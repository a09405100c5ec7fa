/**
 * One local TCP forward: a listening socket of the host, internet or unix. Each client becomes a flow, in which we open
 * the connection to the guest.
 *
 * Clients are accepted only as fast as the guest answers: at most `tcpMaxPendingDialsPerDestination` wait for it at a
 * time, the rest in the kernel's queue.
 *
 * Left out on purpose: telling a client of the queue that the guest is gone before it is its turn.
 */
import type { HostEnd, LocalForwardSpec } from '../../config.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { SOCK_STREAM } from '../../sys/socket.ts';
import { fileIdentity, removeSocketFile } from '../../sys/unix-path.ts';
import type { FlowContext } from '../flow/context.ts';
import { localEnd } from '../flow/record.ts';
import type { Aim } from '../publish/aim.ts';
import { listenError } from '../publish/forward-error.ts';
import type { Listener } from '../publish/forwards.ts';
import { listenPlace, openListenSocket } from '../publish/listen-socket.ts';
import { Acceptor } from './acceptor.ts';

/** Takes the clients. */
export interface ClientTaker {
  readonly context: FlowContext;
  /** Is there room for one more client of this listener? */
  hasRoom(listener: TcpListener): boolean;
  /** The client `fd`, from (`address`, `port`); null and -1 for unix sockets. The taker owns the descriptor. */
  accepted(listener: TcpListener, fd: number, address: IpAddress | null, port: number): void;
  closed(listener: TcpListener): void;
}

export class TcpListener extends Acceptor implements Listener {
  readonly kind = 'local';
  readonly missing = 0;
  readonly id: number;
  readonly bound: HostEnd;
  readonly proxyHeader: boolean;
  /** Clients whose header is not complete. */
  unproxied = 0;
  readonly #taker: ClientTaker;
  /** Of a unix socket's file; empty = there is none. */
  readonly #file: string;
  #aim: Aim;

  /** Opens it. Throws `ForwardError`. */
  constructor(taker: ClientTaker, id: number, spec: LocalForwardSpec, aim: Aim) {
    const { context } = taker;
    super(context);
    this.#taker = taker;
    this.id = id;
    this.#aim = aim;
    this.proxyHeader = spec.proxyHeader;
    const fd = openListenSocket(context, spec, SOCK_STREAM);
    this.#file = spec.listen.kind === 'unix' ? fileIdentity(spec.listen.path) : '';
    this.bound = spec.listen.kind === 'unix' ? spec.listen : { kind: 'ip', ...localEnd(context, fd) };
    const result = this.watch(fd);
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

  /** One client's header is complete, or its client gone. */
  headerEnded(): void {
    this.unproxied--;
    this.roomMade();
  }

  override close(): void {
    if (!this.isOpen) return;
    if (this.bound.kind === 'unix') removeSocketFile(this.bound.path, this.#file);
    super.close();
    this.#taker.closed(this);
  }

  protected hasRoom(): boolean {
    return this.#taker.hasRoom(this);
  }

  protected accepted(fd: number, address: IpAddress | null, port: number): void {
    this.#taker.accepted(this, fd, address, port);
  }
}
