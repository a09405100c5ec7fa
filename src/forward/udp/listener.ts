/**
 * One local UDP forward: a bound socket of the host, internet or unix, that all its clients share. ip(7), ipv6(7),
 * unix(7).
 *
 * A flow is a client's address and port together with the address of ours that it contacted: on a wildcard address the
 * kernel tells which that was, and the answers leave from it. The first datagram of a client opens its flow and is
 * delivered like the others; nothing is waited for, so nothing is lost or overtaken.
 *
 * With `proxyHeader`, the first datagram of a flow begins with a header that names the real client (spp.ts). The same
 * number of bytes is taken off every later one unread, datagrams shorter than that are swallowed, and every answer gets
 * the first one's header in front. A first datagram without a good header opens nothing.
 *
 * The socket goes with the listener, and the flows with it: the port is free at once.
 *
 * Left out on purpose: telling the client that the guest refused (an unconnected socket cannot), waiting for room in the
 * queue of a unix client that does not read (its answers are dropped, as UDP's would be).
 */
import type { LocalForwardSpec } from '../../config.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { SOCK_DGRAM } from '../../sys/socket.ts';
import { fileIdentity, removeSocketFile } from '../../sys/unix-path.ts';
import type { FlowContext } from '../flow/context.ts';
import type { Aim } from '../publish/aim.ts';
import { listenError } from '../publish/forward-error.ts';
import type { Listener } from '../publish/forwards.ts';
import { listenFamily, listenPlace, openListenSocket } from '../publish/listen-socket.ts';
import { type ClientFlow, DatagramListener } from './datagram-listener.ts';
import type { AnswerPath } from './local-flow.ts';

/** Who makes flows of what arrives. */
export interface UdpClientTaker {
  readonly context: FlowContext;
  /** As for the listener. */
  openFlow(
    listener: UdpListener,
    i: number,
    client: IpAddress | null,
    clientPort: number,
    contacted: IpAddress,
  ): ClientFlow | null;
}

export class UdpListener extends DatagramListener implements Listener, AnswerPath {
  readonly kind = 'local';
  readonly missing = 0;
  readonly id: number;
  readonly proxyHeader: boolean;
  readonly rpc: boolean;
  readonly #taker: UdpClientTaker;
  /** Of a unix socket's file; empty = there is none. */
  readonly #file: string;
  #aim: Aim;

  /** Opens it. Throws `ForwardError`. */
  constructor(taker: UdpClientTaker, id: number, spec: LocalForwardSpec, aim: Aim) {
    const { context } = taker;
    super(context, listenFamily(spec));
    this.#taker = taker;
    this.id = id;
    this.#aim = aim;
    this.proxyHeader = spec.proxyHeader;
    this.rpc = spec.rpc;
    const fd = openListenSocket(context, spec, SOCK_DGRAM);
    const path = spec.listen.kind === 'unix' ? spec.listen.path : '';
    this.#file = path === '' ? '' : fileIdentity(path);
    const result = this.watch(fd, path);
    if (result < 0) throw listenError(listenPlace(spec), result);
  }

  /** The flows so far end: they lead to another place. */
  aim(aim: Aim): void {
    this.#aim = aim;
    this.endFlows();
  }

  /** Where clients are led now. */
  get aimed(): Aim {
    return this.#aim;
  }

  override close(): void {
    if (this.isOpen && this.bound.kind === 'unix') removeSocketFile(this.bound.path, this.#file);
    super.close();
  }

  protected get isIdle(): boolean {
    return this.#aim.isIdle;
  }

  protected openFlow(
    i: number,
    client: IpAddress | null,
    clientPort: number,
    contacted: IpAddress,
  ): ClientFlow | null {
    return this.#taker.openFlow(this, i, client, clientPort, contacted);
  }
}
