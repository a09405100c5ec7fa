/**
 * A packet socket as a `Link`: one frame per packet, nothing in front of it. Datagram sockets (gVisor, slirpnetstack's -fd,
 * QEMU's dgram, vfkit) and SOCK_SEQPACKET (User Mode Linux "bess").
 *
 * Unlike a TAP such a socket can be full: its peer reads when it likes. Frames then wait in a bounded queue, and `full`
 * tells TCP to make no more of them; what comes all the same (datagrams, control messages) waits in the rest of the queue,
 * and beyond that is dropped like on any link.
 *
 * The peer of a datagram socket can vanish without a sign: only what is sent next is refused. With `probe`, when nothing
 * was heard of it for a while, it is sent a frame that every guest drops; without, frames are refused, one by one, until it
 * is back or we are ended.
 *
 * There are no offloads: every checksum is ours.
 */
import type { Medium } from '../config.ts';
import { type IoHandler, TimerNode } from '../loop.ts';
import { Parts } from '../stack/buffer/byte-queue.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../sys/epoll.ts';
import {
  EAGAIN,
  ECONNREFUSED,
  ECONNRESET,
  EINTR,
  ENOBUFS,
  ENOENT,
  ENOTCONN,
  errnoText,
} from '../sys/errno.ts';
import { send } from '../sys/socket.ts';
import type { DeviceLink, LinkOwner, LinkServices, RxFrame } from './device-link.ts';
import { FrameReader } from './frame-reader.ts';
import { SendQueue } from './send-queue.ts';

/** Bytes of frames that may wait. */
const QUEUE_BYTES = 1024 * 1024;
/** `full` from here on. */
const FULL_BYTES = 256 * 1024;
/** A frame of 64 KiB over pages of 16 KiB. */
const MAX_PIECES = 8;
/** Of silence. */
const PROBE_MS = 5000;
/** An Ethernet header with an EtherType for experiments (IEEE 802), from nobody to nobody. */
const PROBE_BYTES = 14;
const PROBE_ETHERTYPE = 0x88b5;

export interface SocketShape {
  medium: Medium;
  mtu: number;
  /** The socket is connection-oriented: its peer can close it, which reads as the end of file. */
  endsWithPeer: boolean;
  probe: boolean;
}

export class SocketLink extends TimerNode implements DeviceLink, IoHandler {
  readonly medium: Medium;
  readonly mtu: number;
  readonly checksumOffload = false;
  readonly tso = false;
  readonly uso = false;
  readonly isLocal = false;
  waiting = false;
  readonly #services: LinkServices;
  readonly #descriptor: Descriptor;
  readonly #reader: FrameReader;
  readonly #queue: SendQueue;
  readonly #parts = new Parts(MAX_PIECES);
  readonly #endsWithPeer: boolean;
  readonly #probe: boolean;
  #owner: LinkOwner | null = null;
  #token = -1;
  /** Frames wait, and the loop tells when there is room. */
  #awaitsRoom = false;

  /** Takes over `fd`, which is non-blocking. */
  constructor(fd: number, { medium, mtu, endsWithPeer, probe }: SocketShape, services: LinkServices) {
    super();
    this.medium = medium;
    this.mtu = mtu;
    this.#endsWithPeer = endsWithPeer;
    this.#probe = probe;
    this.#services = services;
    this.#descriptor = new Descriptor(fd);
    this.#reader = new FrameReader(services, this.#descriptor);
    this.#queue = new SendQueue(services.frames.slab, QUEUE_BYTES);
  }

  get full(): boolean {
    return this.#queue.used >= FULL_BYTES;
  }

  open(owner: LinkOwner): number {
    this.#owner = owner;
    this.#token = this.#services.poller.add(this.#descriptor.fd, this.#events, this, true);
    if (this.#probe && this.#token >= 0) this.#lookIn(PROBE_MS);
    return Math.min(this.#token, 0);
  }

  onIo(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#sendQueued();
    if (this.#owner === null || (events & ~EPOLLOUT) === 0) return;
    const result = this.#reader.run(this.#owner);
    if (this.#reader.count > 0) this.deadline = this.#services.clock.nowMs + PROBE_MS;
    if (result > 0 || result === -EAGAIN || result === -EINTR) return;
    if (this.#probe && this.#isRefusal(result)) {
      this.#gone();
      return;
    }
    if (result !== 0 && result !== -ECONNRESET) {
      this.#services.log('debug', `reading the device failed: ${errnoText(result)}`);
      return;
    }
    // A packet socket reads an empty packet like the end of file (L-10).
    if (this.#endsWithPeer && (events & (EPOLLRDHUP | EPOLLHUP)) !== 0) this.#gone();
  }

  /** Ask a peer that was not heard of whether it is there: nobody else tells of its end (L-9). */
  onTimer(): void {
    if (this.#owner === null) return;
    if (this.#queue.used === 0 && this.#isRefusal(this.#sendProbe())) this.#gone();
    else this.#lookIn(PROBE_MS);
  }

  receive(index: number, frame: RxFrame): number {
    const n = this.#reader.read(index);
    if (n === 0) return 0;
    frame.offset = this.#services.frames.slot(index);
    frame.length = n;
    frame.offload.flags = 0;
    frame.offload.gsoType = 0;
    return 1;
  }

  transmit(frame: TxFrame): number {
    if (this.#queue.used === 0) {
      const { headOffset, headLength } = frame;
      const result = this.#services.frames.write(this.#descriptor.fd, frame, headOffset, headLength);
      if (this.#probe && this.#isRefusal(result)) this.#lookIn(0);
      if (result !== -EAGAIN && result !== -ENOBUFS) return result;
    }
    if (!this.#queue.push(frame)) return -ENOBUFS;
    this.#awaitRoom(true);
    return 0;
  }

  refreshMtu(): void {
    return;
  }

  flush(): void {
    return;
  }

  close(): void {
    this.#owner = null;
    this.#services.timers.cancel(this);
    if (this.#token >= 0) this.#services.poller.remove(this.#token);
    this.#token = -1;
    this.#descriptor.close();
    this.#queue.clear();
  }

  get #events(): number {
    return EPOLLIN | (this.#endsWithPeer ? EPOLLRDHUP : 0) | (this.#awaitsRoom ? EPOLLOUT : 0);
  }

  #awaitRoom(awaits: boolean): void {
    if (this.#awaitsRoom === awaits || this.#token < 0) return;
    this.#awaitsRoom = awaits;
    this.#services.poller.modify(this.#token, this.#events);
  }

  #sendQueued(): void {
    const queue = this.#queue;
    while (queue.used > 0) {
      const length = queue.first(this.#parts);
      const result = this.#services.frames.writeParts(this.#descriptor.fd, this.#parts);
      if (result === -EAGAIN || result === -ENOBUFS) return;
      // Sent, or refused for good.
      queue.drop(length);
    }
    this.#awaitRoom(false);
  }

  #lookIn(ms: number): void {
    this.deadline = this.#services.clock.nowMs + ms;
    this.#services.timers.update(this);
  }

  #sendProbe(): number {
    const { memory, frames } = this.#services;
    frames.slab.bytes.fill(0, frames.scratch, frames.scratch + PROBE_BYTES);
    frames.slab.view.setUint16(frames.scratch + PROBE_BYTES - 2, PROBE_ETHERTYPE);
    return send(memory, this.#descriptor.fd, frames.scratch, PROBE_BYTES);
  }

  /** Nobody is at the other end. */
  #isRefusal(result: number): boolean {
    return result === -ECONNREFUSED || result === -ENOENT || result === -ENOTCONN || result === -ECONNRESET;
  }

  #gone(): void {
    this.#owner?.onGone('closed', 'its other end has closed');
  }
}
