/**
 * A bound socket for datagrams that all its clients share, and what becomes of them: flows that are found by the client's address
 * and the address of ours that it contacted, from which the answers leave. ip(7), ipv6(7), unix(7).
 */
import type { Endpoint, HostEnd } from '../../config.ts';
import type { IoHandler } from '../../loop.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { EPOLLIN } from '../../sys/epoll.ts';
import { EAGAIN } from '../../sys/errno.ts';
import { packetInfoAddress, packetInfoSpace, putPacketInfo, wantPacketInfo } from '../../sys/packet-info.ts';
import { AF_INET, AF_UNIX } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { endpoint, localEnd } from '../flow/record.ts';
import { HostDatagramSocket } from '../host/datagram-socket.ts';
import { readEndpoint, readSockaddr } from '../host/scratch.ts';
import type { DatagramBatch, ReceiveSlots } from './batch.ts';
import { type Client, ClientTable } from './client-table.ts';

/** recvmmsg calls in one turn. */
const RECEIVES_PER_TURN = 8;

/** What becomes of a client. */
export interface ClientFlow extends Client {
  /** What every answer is given in front; or empty. */
  readonly header: Uint8Array;
  /** Pass datagrams `first` … `end` - 1 of the client on. */
  receive(slots: ReceiveSlots, first: number, end: number): void;
  close(): void;
}

export abstract class DatagramListener implements IoHandler {
  /** The port clients contact; 0 for unix sockets. */
  port = 0;
  /** As long as it listens. */
  bound: HostEnd = { kind: 'ip', address: '', port: 0 };
  readonly clients: ClientTable<ClientFlow>;
  waiting = false;
  protected readonly context: FlowContext;
  readonly #slots: ReceiveSlots;
  readonly #socket: HostDatagramSocket;
  readonly #family: number;
  /** Bound to a wildcard: the kernel tells with each datagram which address was contacted. */
  #isWildcard = false;
  /** The address bound to, where it is one. */
  readonly #own = new IpAddress();
  readonly #client = new IpAddress();
  readonly #contacted = new IpAddress();
  readonly #next = new IpAddress();

  constructor(context: FlowContext, family: number) {
    this.context = context;
    this.#slots = context.scratch.localSlots;
    this.#family = family;
    this.clients = new ClientTable(context.hash);
    this.#socket = new HostDatagramSocket(context);
  }

  /** Take over `fd`, which is bound; 0, or `-errno` and it is closed. */
  protected watch(fd: number, unixPath = ''): number {
    const { memory, scratch } = this.context;
    if (this.#family === AF_UNIX) this.bound = { kind: 'unix', path: unixPath };
    else {
      this.bound = { kind: 'ip', ...localEnd(this.context, fd) };
      this.port = this.bound.port;
      // `localEnd` has left it there.
      readSockaddr(memory, scratch.sockaddr, this.#own);
      this.#isWildcard = this.#own.isUnspecified;
    }
    if (this.#isWildcard) wantPacketInfo(memory, fd, this.#family, scratch.option);
    return this.#socket.adopt(fd, this.#family, EPOLLIN, this);
  }

  /** Datagrams are dropped. */
  protected abstract get isIdle(): boolean;

  /**
   * A flow for the client of datagram `i`, at (`client`, `clientPort`); null and -1 for unix sockets. `contacted` is the
   * address of ours that it chose. Null: the datagram was dealt with.
   */
  protected abstract openFlow(
    i: number,
    client: IpAddress | null,
    clientPort: number,
    contacted: IpAddress,
  ): ClientFlow | null;

  onIo(_events: number): void {
    const slots = this.#slots;
    let count = 0;
    for (let turn = 0; turn < RECEIVES_PER_TURN; turn++) {
      if (this.#socket.fd < 0) return;
      count = this.#socket.receive(slots);
      if (count === -EAGAIN) return;
      // Anything else is over when it was told.
      if (count < 0) continue;
      this.#take(count);
      if (count < slots.count) return;
    }
    if (count > 0) this.context.poller.ready(this);
  }

  /** Send the answers of the other side to `flow.name`, from `flow.contacted`, each behind `flow.header`. */
  answer(flow: ClientFlow, batch: DatagramBatch): void {
    const { scratch, slab, memory, counters } = this.context;
    if (flow.name.length === 0) {
      // A unix socket without a name cannot be answered.
      counters.drop(DropReason.UdpPeer);
      return;
    }
    slab.bytes.set(flow.name, scratch.sockaddr);
    scratch.sockaddrLength = flow.name.length;
    slab.bytes.set(flow.header, scratch.message);
    let control = 0;
    if (this.#isWildcard) {
      const at = putPacketInfo(memory, scratch.control, this.#family);
      if (this.#family === AF_INET) flow.contacted.writeV4(memory.view, at);
      else flow.contacted.writeV6(memory.view, at);
      control = packetInfoSpace(this.#family);
    }
    this.#socket.send(batch, control, flow.header.length);
  }

  /** The client, and where it contacted us, as plain data. */
  clientEnd(flow: ClientFlow): Endpoint {
    const { slab, scratch, memory } = this.context;
    if (flow.name.length === 0) return { address: '', port: 0 };
    slab.bytes.set(flow.name, scratch.sockaddr);
    return readEndpoint(memory, scratch.sockaddr, flow.name.length);
  }

  contactedEnd(flow: ClientFlow): Endpoint {
    return this.bound.kind === 'unix'
      ? { address: this.bound.path, port: 0 }
      : endpoint(flow.contacted, this.port);
  }

  ended(flow: ClientFlow): void {
    this.clients.remove(flow);
  }

  close(): void {
    if (this.#socket.fd < 0) return;
    this.#socket.close();
    this.endFlows();
  }

  protected endFlows(): void {
    for (const flow of this.clients.list()) flow.close();
  }

  protected get isOpen(): boolean {
    return this.#socket.fd >= 0;
  }

  /** Give the first `count` datagrams to their flows, those that follow one another from one client together. */
  #take(count: number): void {
    const { context } = this;
    const slots = this.#slots;
    const { view } = context.memory;
    if (this.isIdle) {
      context.counters.drop(DropReason.UdpPeer);
      return;
    }
    for (let i = 0, next = 0; i < count; i = next) {
      const name = slots.nameAt(i);
      const length = this.#nameLengthAt(i);
      this.#readContacted(i, this.#contacted);
      for (next = i + 1; next < count && this.#isFrom(next, name, length); next++);
      let flow = this.clients.find(view, name, length, this.#contacted);
      for (let first = i; first < next; ) {
        if (flow === null) {
          const port = this.#family === AF_UNIX ? -1 : readSockaddr(context.memory, name, this.#client);
          flow = this.openFlow(first, port < 0 ? null : this.#client, port, this.#contacted);
          if (flow === null) {
            first++;
            continue;
          }
        }
        flow.receive(slots, first, next);
        break;
      }
    }
  }

  /** An unnamed unix socket has an address of two bytes, or none. */
  #nameLengthAt(i: number): number {
    const length = this.#slots.nameLengthAt(i);
    return length <= 2 ? 0 : length;
  }

  #readContacted(i: number, out: IpAddress): void {
    out.copyFrom(this.#own);
    if (!this.#isWildcard) return;
    const { context } = this;
    const slots = this.#slots;
    const at = packetInfoAddress(context.memory, slots.controlAt(i), slots.controlLengthAt(i), this.#family);
    if (at < 0) return;
    if (this.#family === AF_INET) out.readV4(context.memory.view, at);
    else out.readV6(context.memory.view, at);
  }

  /** Whether datagram `i` came from the client named by `length` bytes at `name`, to the same address. */
  #isFrom(i: number, name: number, length: number): boolean {
    const { view } = this.context.memory;
    if (this.#nameLengthAt(i) !== length) return false;
    const other = this.#slots.nameAt(i);
    for (let k = 0; k < length; k++) if (view.getUint8(name + k) !== view.getUint8(other + k)) return false;
    this.#readContacted(i, this.#next);
    return this.#next.equals(this.#contacted);
  }
}
