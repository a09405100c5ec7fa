/**
 * One client of a spliced UDP forward: what it sends leaves by a socket of the other namespace that is its alone, connected to the
 * service there, and what comes back is the answer, so that nobody else can speak to it. Datagrams stay what they are.
 *
 * It ends `IDLE_MS` after the last word in either direction, when the service is not there, and with its listener. While its socket
 * is being made, datagrams wait in a bounded queue.
 *
 * Left out on purpose: telling the client that nobody listens, which the unconnected socket that it speaks to cannot.
 */
import type { IoHandler } from '../../loop.ts';
import type { LruNode } from '../../stack/buffer/lru.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { EPOLLIN } from '../../sys/epoll.ts';
import { EAGAIN } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import { AF_INET, AF_INET6 } from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { IdleTimer } from '../flow/idle-timer.ts';
import type { FlowEnds, FlowInfo, ListedFlow } from '../flow/info.ts';
import { END_OF_FILE, type EndsSource, FlowRecord, Half, localEnd, remoteEnd } from '../flow/record.ts';
import { HostDatagramSocket } from '../host/datagram-socket.ts';
import { DatagramBatch, type ReceiveSlots } from '../udp/batch.ts';
import type { Client } from '../udp/client-table.ts';
import type { ClientFlow } from '../udp/datagram-listener.ts';
import { DatagramQueue, type QueuedTotal } from '../udp/datagram-queue.ts';
import type { SplicedDatagramListener } from './datagrams.ts';
import type { SocketTaker } from './inside-sockets.ts';

const IDLE_MS = 125_000;
/** recvmmsg calls in one turn. */
const RECEIVES_PER_TURN = 8;
const NO_HEADER = new Uint8Array(0);

/** Filled and sent within one call; shared by all flows. */
const batch = new DatagramBatch();

export interface DatagramFlowKeeper {
  readonly context: FlowContext;
  readonly queued: QueuedTotal;
  touch(flow: SplicedDatagramFlow): void;
  ended(flow: SplicedDatagramFlow): void;
}

export class SplicedDatagramFlow
  extends IdleTimer
  implements ClientFlow, IoHandler, LruNode, SocketTaker, EndsSource, ListedFlow
{
  readonly name: Uint8Array;
  readonly contacted: IpAddress;
  readonly header: Uint8Array = NO_HEADER;
  readonly record: FlowRecord;
  waiting = false;
  isOver = false;
  nextClient: Client | null = null;
  clientHash = 0;
  lruPrevious: LruNode | null = null;
  lruNext: LruNode | null = null;
  readonly #keeper: DatagramFlowKeeper;
  readonly #listener: SplicedDatagramListener;
  readonly #target: IpAddress;
  readonly #targetPort: number;
  readonly #socket: HostDatagramSocket;
  /** What waits for the socket; null: it is there. */
  #queue: DatagramQueue | null;

  constructor(
    keeper: DatagramFlowKeeper,
    listener: SplicedDatagramListener,
    name: Uint8Array,
    contacted: IpAddress,
    target: IpAddress,
    targetPort: number,
  ) {
    const { context } = keeper;
    super(context, IDLE_MS);
    this.#keeper = keeper;
    this.#listener = listener;
    this.name = name;
    this.contacted = contacted.clone();
    this.#target = target.clone();
    this.#targetPort = targetPort;
    this.record = new FlowRecord(context, 'udp', listener);
    this.#socket = new HostDatagramSocket(context);
    this.#queue = new DatagramQueue(context.slab, keeper.queued);
    this.used();
  }

  /** The socket of the other side is there, not connected, or never will be. */
  onSocket(fd: number): void {
    if (this.isOver) {
      if (fd >= 0) close(fd);
      return;
    }
    const { scratch } = this.context;
    let result = fd;
    if (fd >= 0) result = this.#socket.adopt(fd, this.#target.isV4 ? AF_INET : AF_INET6, EPOLLIN, this);
    if (result >= 0) {
      scratch.putAddress(this.#target, this.#targetPort, 0);
      result = this.#socket.connect();
    }
    if (result < 0) {
      this.#fail(-result);
      return;
    }
    this.record.opened(this.context, this);
    this.#flush();
  }

  receive(slots: ReceiveSlots, first: number, end: number): void {
    if (this.isOver) return;
    this.used();
    this.#keeper.touch(this);
    let bytes = 0;
    for (let i = first; i < end; i++) bytes += slots.lengthAt(i);
    this.#count(bytes, !this.record.isLocal);
    const queue = this.#queue;
    if (queue !== null) {
      // What finds no room is lost, as in a full socket.
      for (let i = first; i < end; i++) queue.add(slots.payloadAt(i), slots.lengthAt(i));
      return;
    }
    this.context.scratch.sockaddrLength = 0;
    for (let i = first; i < end; ) {
      i = gather(slots, i, end);
      this.#socket.send(batch);
    }
  }

  onIo(_events: number): void {
    const slots = this.context.scratch.plainSlots;
    let count = 0;
    for (let turn = 0; turn < RECEIVES_PER_TURN; turn++) {
      if (this.isOver) return;
      count = this.#socket.receive(slots);
      if (count === -EAGAIN) return;
      if (count < 0) {
        this.#fail(-count);
        return;
      }
      this.#answer(slots, count);
      if (count < slots.count) return;
    }
    this.context.poller.ready(this);
  }

  ends(): FlowEnds {
    return {
      left: this.#listener.clientEnd(this),
      leftLocal: this.#listener.contactedEnd(this),
      right: remoteEnd(this.context, this.#socket.fd),
      rightLocal: localEnd(this.context, this.#socket.fd),
    };
  }

  info(nowMs: number): FlowInfo {
    return this.record.info(nowMs, 'OPEN', this);
  }

  close(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.context.inside.cancel(this);
    this.record.closed(this.context, this);
    this.#queue?.clear();
    this.#socket.close();
    this.context.timers.cancel(this);
    this.#listener.ended(this);
    this.#keeper.ended(this);
  }

  protected onIdle(): void {
    this.record.ended(this.record.isLocal ? Half.HostRead : Half.GuestRead, END_OF_FILE);
    this.close();
  }

  #answer(slots: ReceiveSlots, count: number): void {
    this.used();
    this.#keeper.touch(this);
    for (let i = 0; i < count; ) {
      i = gather(slots, i, count);
      this.#count(batch.length, this.record.isLocal);
      this.#listener.answer(this, batch);
    }
  }

  #count(bytes: number, isOut: boolean): void {
    if (isOut) this.record.bytesOut += bytes;
    else this.record.bytesIn += bytes;
  }

  #flush(): void {
    const { scratch } = this.context;
    const queue = this.#queue;
    this.#queue = null;
    if (queue === null) return;
    scratch.sockaddrLength = 0;
    for (let length = queue.peek(scratch.payloads); length >= 0; length = queue.peek(scratch.payloads)) {
      this.#socket.sendOne(scratch.payloads, length);
      queue.shift();
    }
  }

  /** Nobody listens there, or there is no way: `error` is an errno. */
  #fail(error: number): void {
    this.record.endedWhole(this.record.isLocal ? Half.GuestRead : Half.HostRead, error);
    this.close();
  }
}

/** Puts datagrams from `first` on into `batch`, as many as go in one; the one that follows them. */
function gather(slots: ReceiveSlots, first: number, end: number): number {
  batch.clear();
  let i = first;
  while (i < end && batch.fits(slots.lengthAt(i))) {
    batch.add(slots.payloadAt(i), slots.lengthAt(i));
    i++;
  }
  return i;
}
