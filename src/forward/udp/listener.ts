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
import type { Endpoint, HostEnd, LocalForwardSpec } from '../../config.ts';
import type { IoHandler } from '../../loop.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { EPOLLIN } from '../../sys/epoll.ts';
import { EAGAIN } from '../../sys/errno.ts';
import { packetInfoAddress, packetInfoSpace, putPacketInfo, wantPacketInfo } from '../../sys/packet-info.ts';
import { AF_INET, AF_UNIX, SOCK_DGRAM } from '../../sys/socket.ts';
import { fileIdentity, removeSocketFile } from '../../sys/unix-path.ts';
import type { FlowContext } from '../flow/context.ts';
import { endpoint, localEnd } from '../flow/record.ts';
import { HostDatagramSocket } from '../host/datagram-socket.ts';
import { readEndpoint, readSockaddr } from '../host/scratch.ts';
import type { Aim } from '../publish/aim.ts';
import { listenError } from '../publish/forward-error.ts';
import type { Listener } from '../publish/forwards.ts';
import { listenFamily, listenPlace, openListenSocket } from '../publish/listen-socket.ts';
import type { DatagramBatch, ReceiveSlots } from './batch.ts';
import { ClientTable } from './client-table.ts';
import type { AnswerPath, UdpLocalFlow } from './local-flow.ts';

/** recvmmsg calls in one turn. */
const RECEIVES_PER_TURN = 8;

/** Who makes flows of what arrives. */
export interface UdpClientTaker {
  readonly context: FlowContext;
  /** Slots with room for ancillary data and the longest names. */
  readonly slots: ReceiveSlots;
  /**
   * A flow for the client of datagram `i`, at (`client`, `clientPort`); null and -1 for unix sockets. `contacted` is the
   * address of ours that it chose. Null: the datagram was dealt with.
   */
  openFlow(
    listener: UdpListener,
    i: number,
    client: IpAddress | null,
    clientPort: number,
    contacted: IpAddress,
  ): UdpLocalFlow | null;
}

export class UdpListener implements IoHandler, Listener, AnswerPath {
  readonly kind = 'local';
  readonly missing = 0;
  readonly id: number;
  readonly bound: HostEnd;
  readonly proxyHeader: boolean;
  readonly rpc: boolean;
  /** The port clients contact; 0 for unix sockets. */
  readonly port: number;
  readonly clients: ClientTable<UdpLocalFlow>;
  waiting = false;
  readonly #taker: UdpClientTaker;
  readonly #socket: HostDatagramSocket;
  readonly #family: number;
  /** Bound to a wildcard: the kernel tells with each datagram which address was contacted. */
  readonly #isWildcard: boolean;
  /** The address bound to, where it is one. */
  readonly #own = new IpAddress();
  /** Of a unix socket's file; empty = there is none. */
  readonly #file: string;
  readonly #client = new IpAddress();
  readonly #contacted = new IpAddress();
  readonly #next = new IpAddress();
  #aim: Aim;

  /** Opens it. Throws `ForwardError`. */
  constructor(taker: UdpClientTaker, id: number, spec: LocalForwardSpec, aim: Aim) {
    const { context } = taker;
    const { memory, scratch } = context;
    this.#taker = taker;
    this.id = id;
    this.#aim = aim;
    this.proxyHeader = spec.proxyHeader;
    this.rpc = spec.rpc;
    this.clients = new ClientTable(context.hash);
    this.#family = listenFamily(spec);
    const fd = openListenSocket(context, spec, SOCK_DGRAM);
    this.#file = spec.listen.kind === 'unix' ? fileIdentity(spec.listen.path) : '';
    this.bound = spec.listen.kind === 'unix' ? spec.listen : { kind: 'ip', ...localEnd(context, fd) };
    this.port = this.bound.kind === 'ip' ? this.bound.port : 0;
    // `localEnd` has left it there.
    if (this.bound.kind === 'ip') readSockaddr(memory, scratch.sockaddr, this.#own);
    this.#isWildcard = this.bound.kind === 'ip' && this.#own.isUnspecified;
    if (this.#isWildcard) wantPacketInfo(memory, fd, this.#family, scratch.option);
    this.#socket = new HostDatagramSocket(context);
    const result = this.#socket.adopt(fd, this.#family, EPOLLIN, this);
    if (result < 0) throw listenError(listenPlace(spec), result);
  }

  /** The flows so far end: they lead to another place. */
  aim(aim: Aim): void {
    this.#aim = aim;
    for (const flow of this.clients.list()) flow.close();
  }

  /** Where clients are led now. */
  get aimed(): Aim {
    return this.#aim;
  }

  onIo(_events: number): void {
    const { slots, context } = this.#taker;
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
    if (count > 0) context.poller.ready(this);
  }

  answer(flow: UdpLocalFlow, batch: DatagramBatch): void {
    const { context } = this.#taker;
    const { scratch, slab, memory, counters } = context;
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

  clientEnd(flow: UdpLocalFlow): Endpoint {
    const { slab, scratch, memory } = this.#taker.context;
    if (flow.name.length === 0) return { address: '', port: 0 };
    slab.bytes.set(flow.name, scratch.sockaddr);
    return readEndpoint(memory, scratch.sockaddr, flow.name.length);
  }

  contactedEnd(flow: UdpLocalFlow): Endpoint {
    return this.bound.kind === 'unix'
      ? { address: this.bound.path, port: 0 }
      : endpoint(flow.contacted, this.port);
  }

  ended(flow: UdpLocalFlow): void {
    this.clients.remove(flow);
  }

  close(): void {
    if (this.#socket.fd < 0) return;
    if (this.bound.kind === 'unix') removeSocketFile(this.bound.path, this.#file);
    this.#socket.close();
    for (const flow of this.clients.list()) flow.close();
  }

  /** Give the first `count` datagrams to their flows, those that follow one another from one client together. */
  #take(count: number): void {
    const { slots, context } = this.#taker;
    const { view } = context.memory;
    if (this.#aim.isIdle) {
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
          flow = this.#taker.openFlow(this, first, port < 0 ? null : this.#client, port, this.#contacted);
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
    const length = this.#taker.slots.nameLengthAt(i);
    return length <= 2 ? 0 : length;
  }

  #readContacted(i: number, out: IpAddress): void {
    out.copyFrom(this.#own);
    if (!this.#isWildcard) return;
    const { slots, context } = this.#taker;
    const at = packetInfoAddress(context.memory, slots.controlAt(i), slots.controlLengthAt(i), this.#family);
    if (at < 0) return;
    if (this.#family === AF_INET) out.readV4(context.memory.view, at);
    else out.readV6(context.memory.view, at);
  }

  /** Whether datagram `i` came from the client named by `length` bytes at `name`, to the same address. */
  #isFrom(i: number, name: number, length: number): boolean {
    const { view } = this.#taker.context.memory;
    if (this.#nameLengthAt(i) !== length) return false;
    const other = this.#taker.slots.nameAt(i);
    for (let k = 0; k < length; k++) if (view.getUint8(name + k) !== view.getUint8(other + k)) return false;
    this.#readContacted(i, this.#next);
    return this.#next.equals(this.#contacted);
  }
}
