/**
 * A connection into the guest for somebody in this process. It is a flow like that of a local forward's client; the client is
 * one end of a pair of sockets, which whoever asked gets when the guest has answered.
 */
import type { Endpoint } from '../../config.ts';
import { ECONNABORTED } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import { AF_UNIX, SOCK_STREAM, socketpair } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import type { LocalForward } from '../flow/record.ts';
import { Aim } from '../publish/aim.ts';
import type { TcpFlow } from './flow.ts';

/** For whom connections to the guest are opened. */
export interface GuestDialer extends LocalForward {
  readonly aimed: Aim;
  /** Connections that the guest has not answered. */
  pending: number;
  /** It has answered one, or nobody waits for it any more: then the flow is over. */
  dialEnded(flow: TcpFlow): void;
}

/** Gets the descriptor, which is its own from then on, or `-errno`. */
export type DialAnswer = (fd: number) => void;

export class GuestDial implements GuestDialer {
  readonly kind = 'local';
  readonly id: number;
  readonly aimed: Aim;
  pending = 0;
  /** The flow's end. */
  readonly flowFd: number;
  readonly #clientFd: number;
  readonly #answer: DialAnswer;

  /** Opens the pair. Throws `ForwardError` when `to` is no place in the guest; `flowFd` is `-errno` when there is no pair. */
  constructor(context: FlowContext, id: number, to: Endpoint, answer: DialAnswer) {
    const { memory, scratch } = context;
    this.aimed = new Aim(context, {
      ...{ protocol: 'tcp', target: to, source: 'gateway', isIdle: false },
      ...{ listen: { kind: 'unix', path: '' }, proxyHeader: false },
    });
    this.id = id;
    this.#answer = answer;
    const result = socketpair(memory, AF_UNIX, SOCK_STREAM, scratch.sockaddr);
    this.flowFd = result < 0 ? result : memory.view.getInt32(scratch.sockaddr, true);
    this.#clientFd = result < 0 ? -1 : memory.view.getInt32(scratch.sockaddr + 4, true);
  }

  dialEnded(flow: TcpFlow): void {
    this.pending--;
    if (flow.over) this.fail(-(flow.record.guestRead > 0 ? flow.record.guestRead : ECONNABORTED));
    else this.#answer(this.#clientFd);
  }

  /** It comes to nothing, with `-errno`. */
  fail(error: number): void {
    if (this.#clientFd >= 0) close(this.#clientFd);
    this.#answer(error);
  }
}
