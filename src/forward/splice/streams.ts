/** All spliced TCP connections of a guest. Who accepts them is told when the other side has answered, as elsewhere. */
import { IpAddress } from '../../stack/wire/address.ts';
import { getsockname } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import type { ListedFlow } from '../flow/info.ts';
import { readSockaddr } from '../host/scratch.ts';
import { dialAddress, dialUnix, resetClient } from '../tcp/dial.ts';
import { SocketKind } from './inside-sockets.ts';
import { Pipes } from './pipes.ts';
import { type DialingForward, StreamFlow, type StreamFlowOwner } from './stream-flow.ts';

/** Where clients from inside are led to on the host. */
export type HostPlace =
  | { kind: 'ip'; address: IpAddress; port: number; scopeId: number }
  | { kind: 'unix'; path: string };

export class SplicedStreams implements StreamFlowOwner {
  readonly context: FlowContext;
  readonly pipes: Pipes;
  readonly #flows = new Set<StreamFlow>();
  readonly #contacted = new IpAddress();

  constructor(context: FlowContext) {
    this.context = context;
    this.pipes = new Pipes(context);
  }

  get size(): number {
    return this.#flows.size;
  }

  /**
   * The client `fd` of the host's loopback to (`target`, `port`) inside; null: to the address that it has contacted, which is one
   * of loopback. Takes over `fd`.
   */
  toGuest(listener: DialingForward, fd: number, target: IpAddress | null, port: number): void {
    const { memory, scratch, inside, slab } = this.context;
    const to = target ?? this.#contacted;
    if (target === null && getsockname(memory, fd, scratch.sockaddr) >= 0)
      readSockaddr(memory, scratch.sockaddr, to);
    // A unix socket has no port that could be the guest's.
    if (port === 0) {
      resetClient(this.context, fd);
      return;
    }
    scratch.putAddress(to, port, 0);
    const sockaddr = slab.bytes.slice(scratch.sockaddr, scratch.sockaddr + scratch.sockaddrLength);
    const flow = this.#open(listener, fd, sockaddr);
    if (flow !== null) inside.take(to.isV4 ? SocketKind.Tcp4 : SocketKind.Tcp6, flow);
  }

  /** The client `fd`, from inside, to a service of the host's; takes over `fd`. */
  toHost(listener: DialingForward, fd: number, place: HostPlace): void {
    const { context } = this;
    const flow = this.#open(listener, fd, null);
    if (flow === null) return;
    flow.onDialed(
      place.kind === 'unix'
        ? dialUnix(context, place.path)
        : dialAddress(context, place.address, place.port, place.scopeId),
    );
  }

  listFlows(out: ListedFlow[]): void {
    for (const flow of this.#flows) out.push(flow);
  }

  closeFlow(id: number): boolean {
    for (const flow of this.#flows) {
      if (flow.record.id !== id) continue;
      flow.cut();
      return true;
    }
    return false;
  }

  /** Reset them all to both sides. */
  close(): void {
    for (const flow of [...this.#flows]) flow.cut();
  }

  ended(flow: StreamFlow): void {
    this.#flows.delete(flow);
    if (this.#flows.size === 0) this.pipes.clear();
  }

  #open(listener: DialingForward, fd: number, sockaddr: Uint8Array | null): StreamFlow | null {
    const flow = new StreamFlow(this, listener, sockaddr);
    if (flow.accept(fd) < 0) return null;
    this.#flows.add(flow);
    listener.pending++;
    return flow;
  }
}
