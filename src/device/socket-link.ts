/**
 * A packet socket as a `Link`: one Ethernet frame per packet, nothing in front of it. Unix datagram sockets (gVisor,
 * slirpnetstack's -fd, QEMU's dgram) and SOCK_SEQPACKET (User Mode Linux "bess").
 *
 * Unlike a TAP such a socket can be full: its peer reads when it likes. Frames then wait in a bounded queue, and `full`
 * tells TCP to make no more of them; what comes all the same (datagrams, control messages) waits in the rest of the queue,
 * and beyond that is dropped like on any link.
 *
 * Limits: the peer of a datagram socket can vanish without a sign: frames are then refused, one by one, until it is back
 * or we are ended. There are no offloads: every checksum is ours.
 */
import type { IoHandler } from '../loop.ts';
import { Parts } from '../stack/buffer/byte-queue.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../sys/epoll.ts';
import { EAGAIN, ECONNRESET, EINTR, ENOBUFS, errnoText } from '../sys/errno.ts';
import type { DeviceLink, LinkOwner, LinkServices, RxFrame } from './device-link.ts';
import { FrameReader } from './frame-reader.ts';
import { SendQueue } from './send-queue.ts';

/** Bytes of frames that may wait. */
const QUEUE_BYTES = 1024 * 1024;
/** `full` from here on. */
const FULL_BYTES = 256 * 1024;
/** A frame of 64 KiB over pages of 16 KiB. */
const MAX_PIECES = 8;

export class SocketLink implements DeviceLink, IoHandler {
  readonly medium = 'ethernet';
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
  /** The socket is connection-oriented: its peer can close it, which reads as the end of file. */
  readonly #endsWithPeer: boolean;
  #owner: LinkOwner | null = null;
  #token = -1;
  /** Frames wait, and the loop tells when there is room. */
  #awaitsRoom = false;

  /** Takes over `fd`, which is non-blocking. */
  constructor(fd: number, mtu: number, endsWithPeer: boolean, services: LinkServices) {
    this.mtu = mtu;
    this.#endsWithPeer = endsWithPeer;
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
    return Math.min(this.#token, 0);
  }

  onIo(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#sendQueued();
    if (this.#owner === null || (events & ~EPOLLOUT) === 0) return;
    const result = this.#reader.run(this.#owner);
    if (result > 0 || result === -EAGAIN || result === -EINTR) return;
    if (result !== 0 && result !== -ECONNRESET) {
      this.#services.log('debug', `reading the device failed: ${errnoText(result)}`);
      return;
    }
    // A packet socket reads an empty packet like the end of file (L-10).
    if (this.#endsWithPeer && (events & (EPOLLRDHUP | EPOLLHUP)) !== 0)
      this.#owner?.onGone('its other end has closed');
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
}
