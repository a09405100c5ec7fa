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
import type { Medium } from '../device-spec.ts';
import type { IoHandler } from '../loop.ts';
import { Parts } from '../stack/buffer/byte-queue.ts';
import { TxFrame } from '../stack/link/link.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../sys/epoll.ts';
import {
  EAGAIN,
  EBADF,
  ECONNREFUSED,
  ECONNRESET,
  EINTR,
  ENOBUFS,
  ENOENT,
  ENOTCONN,
  errnoText,
} from '../sys/errno.ts';
import { send } from '../sys/socket.ts';
import { Alarm } from './alarm.ts';
import { BATCH_FRAME_BYTES, type FrameOwner, type LinkServices, type RxFrame } from './device-link.ts';
import type { PacketBatch, PacketSender } from './packet-batch.ts';
import { PlainLink } from './plain-link.ts';
import { SendQueue } from './send-queue.ts';

/** Bytes of frames that may wait. */
const QUEUE_BYTES = 1024 * 1024;
/** `full` from here on. */
const FULL_BYTES = 256 * 1024;
/** A frame of 64 KiB over pages of 16 KiB. */
const MAX_PIECES = 8;
/** Where there is no room, and nobody tells when there is. */
const RETRY_MS = 1;
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

export class SocketLink extends PlainLink implements IoHandler, PacketSender {
  waiting = false;
  readonly #services: LinkServices;
  readonly #descriptor: Descriptor;
  readonly #packets: PacketBatch;
  readonly #queue: SendQueue;
  readonly #parts = new Parts(MAX_PIECES);
  /** A frame that was gathered. */
  readonly #kept = new TxFrame();
  readonly #endsWithPeer: boolean;
  readonly #probe: boolean;
  readonly #silence: Alarm;
  readonly #retry: Alarm;
  #owner: FrameOwner | null = null;
  #token = -1;
  /** Packets of the batch at hand, and how many of them were looked at. */
  #count = 0;
  #taken = 0;
  /** Frames wait, and the loop tells when there is room. */
  #awaitsRoom = false;

  /** Takes over `fd`, which is non-blocking. */
  constructor(fd: number, shape: SocketShape, services: LinkServices) {
    super(shape);
    this.#endsWithPeer = shape.endsWithPeer;
    this.#probe = shape.probe;
    this.#services = services;
    this.#descriptor = new Descriptor(fd);
    this.#packets = services.frames.packets;
    this.#queue = new SendQueue(services.frames.slab, QUEUE_BYTES);
    this.#silence = new Alarm(services, () => this.#askPeer());
    this.#retry = new Alarm(services, () => this.#sendQueued());
  }

  get full(): boolean {
    return this.#queue.used >= FULL_BYTES;
  }

  open(owner: FrameOwner): number {
    this.#owner = owner;
    this.#token = this.#services.poller.add(this.#descriptor.fd, this.#events, this, true);
    if (this.#probe && this.#token >= 0) this.#silence.set(PROBE_MS);
    return Math.min(this.#token, 0);
  }

  onIo(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#sendQueued();
    if (this.#owner === null || (events & ~EPOLLOUT) === 0) return;
    const count = this.#packets.receive(this.#descriptor.fd, this.#most);
    if (count < 0) {
      this.#onReadError(count);
      return;
    }
    if (this.#probe) this.#silence.deadline = this.#services.clock.nowMs + PROBE_MS;
    this.#count = count;
    this.#taken = 0;
    // A packet socket reads an empty packet like the end of file (L-10), which then is all that it reads.
    if (this.#endsWithPeer && (events & (EPOLLRDHUP | EPOLLHUP)) !== 0 && this.#isEmpty) {
      this.#gone();
      return;
    }
    // Where they lie is other links' in the next turn, so that all of them are taken now.
    while (this.#owner !== null && this.#taken < this.#count) {
      const before = this.#taken;
      this.#owner.onFrames();
      if (this.#taken === before) break;
    }
    this.#count = 0;
  }

  receive(_index: number, frame: RxFrame): number {
    while (this.#taken < this.#count) {
      const index = this.#taken++;
      const length = this.#packets.lengthOf(index);
      if (length === 0) continue;
      frame.offset = this.#services.frames.slot(index);
      frame.length = length;
      frame.offload.flags = 0;
      frame.offload.gsoType = 0;
      return 1;
    }
    return 0;
  }

  transmit(frame: TxFrame): number {
    const { fd } = this.#descriptor;
    if (fd < 0) return -EBADF;
    const { headOffset, headLength } = frame;
    const packets = this.#packets;
    const length = headLength + frame.payloadLength;
    const isGathered = packets.makeRoom(this, length);
    if (this.#queue.used === 0) {
      if (isGathered) {
        if (packets.gathered(this) === 0) this.#services.touched();
        packets.push(this, frame, length);
        return length;
      }
      const result = this.#services.frames.write(fd, frame, headOffset, headLength);
      if (!this.#waitsFor(result)) return result;
    }
    return this.#queue.push(frame) ? length : -ENOBUFS;
  }

  flush(): void {
    if (this.#packets.gathered(this) > 0) this.sendGathered();
  }

  sendGathered(): void {
    const packets = this.#packets;
    const count = packets.gathered(this);
    let done = 0;
    let unsent = 0;
    while (done < count && this.#queue.used === 0) {
      const result = packets.send(this.#descriptor.fd, done);
      if (result > 0) {
        done += result;
        continue;
      }
      if (result === -EINTR) continue;
      if (this.#waitsFor(result)) break;
      // That one is refused for good.
      done++;
      unsent++;
    }
    for (; done < count; done++) {
      packets.frameAt(done, this.#kept);
      if (!this.#queue.push(this.#kept)) unsent++;
    }
    packets.clear();
    if (unsent > 0) this.#owner?.onUnsent(unsent);
  }

  close(): void {
    this.#owner = null;
    this.#silence.cancel();
    this.#retry.cancel();
    if (this.#token >= 0) this.#services.poller.remove(this.#token);
    this.#token = -1;
    this.#descriptor.close();
    this.#queue.clear();
    if (this.#packets.gathered(this) > 0) this.#packets.clear();
    this.#count = 0;
  }

  get #events(): number {
    return EPOLLIN | (this.#endsWithPeer ? EPOLLRDHUP : 0) | (this.#awaitsRoom ? EPOLLOUT : 0);
  }

  /** Packets of a batch: no more bytes than the guest takes of one. */
  get #most(): number {
    const { batchFrames } = this.#services.clock;
    return Math.max(1, Math.min(batchFrames, Math.floor((batchFrames * BATCH_FRAME_BYTES) / this.mtu)));
  }

  /** Nothing was in the packets of the batch. */
  get #isEmpty(): boolean {
    for (let i = 0; i < this.#count; i++) if (this.#packets.lengthOf(i) > 0) return false;
    return true;
  }

  #onReadError(error: number): void {
    if (error === -EAGAIN || error === -EINTR) return;
    if (this.#probe && this.#isRefusal(error)) this.#gone();
    // What has come before that is read in the next turn, and then the end.
    else if (error !== -ECONNRESET)
      this.#services.log('debug', `reading the device failed: ${errnoText(error)}`);
  }

  /** Whether sending has said that there is no room: then frames wait until there is. */
  #waitsFor(result: number): boolean {
    if (this.#probe && this.#isRefusal(result)) this.#silence.set(0);
    if (result === -EAGAIN) this.#awaitRoom(true);
    // The socket has room, what is behind it has not, and nobody tells when it has: waiting for EPOLLOUT would be
    // spinning (L-5).
    else if (result === -ENOBUFS) this.#retry.set(RETRY_MS);
    else return false;
    return true;
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
      if (result === -EINTR) continue;
      if (this.#waitsFor(result)) return;
      // Sent, or refused for good.
      queue.drop(length);
    }
    this.#awaitRoom(false);
  }

  /** Ask a peer that was not heard of whether it is there: nobody else tells of its end (L-9). */
  #askPeer(): void {
    if (this.#queue.used === 0 && this.#isRefusal(this.#sendProbe())) this.#gone();
    else this.#silence.set(PROBE_MS);
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
