/**
 * A byte stream as a `Link`: frames one behind the other, each behind its length (framing.ts). A connected socket, or two
 * descriptors, one for each way.
 *
 * In: one read of what a batch may take, and the frames are used where they lie. What is left of it, part of a frame for
 * the most part, is kept in pages until the rest comes: a link that is idle holds none.
 *
 * Out: frames of a turn are gathered and leave with one writev(2). What the stream does not take is a run of bytes, so that
 * a partial write goes on where it ended (L-4). 256 KiB may wait, and a frame that was begun; `full` keeps TCP from making
 * more, and what comes all the same is dropped whole.
 *
 * A length that no frame has ends the link: where the next one begins nobody knows any more (L-1).
 */
import type { Medium } from '../device-spec.ts';
import type { IoHandler } from '../loop.ts';
import { ByteQueue } from '../stack/buffer/byte-queue.ts';
import { PAGE_SIZE } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLIN, EPOLLOUT, EPOLLRDHUP } from '../sys/epoll.ts';
import { EAGAIN, EBADF, EINTR, ENOBUFS, errnoText } from '../sys/errno.ts';
import { read } from '../sys/io.ts';
import { Alarm } from './alarm.ts';
import {
  BATCH_FRAMES,
  type EndReason,
  type FrameOwner,
  type LinkServices,
  type RxFrame,
} from './device-link.ts';
import {
  announcedLength,
  BAD_LENGTH,
  cutFrame,
  LEAST_FRAME,
  LENGTH_BYTES,
  MOST_FRAME,
  putLength,
  type StreamFraming,
} from './framing.ts';
import { PlainLink } from './plain-link.ts';
import { RoomWriter } from './room-writer.ts';

/** Most bytes of a read. */
const READ_BYTES = 256 * 1024;
/** Batches of one read, while nobody else wants a turn: it may have many small frames. */
const BATCHES = 8;
/** Bytes that may wait, besides a frame that was begun. */
const QUEUE_BYTES = 256 * 1024;
/** `full` from here on. */
const FULL_BYTES = 192 * 1024;
/** Where there is no memory for what is sent. */
const RETRY_MS = 1;
/** A frame that is longer is written from where it lies: copying it costs more than the call. */
const LONGEST = 16 * 1024;
/** So much is not kept until the end of the turn. */
const WRITE_BYTES = 64 * 1024;
const ETHERNET_AND_TAG = 18;
/** Pages that the queue may have, and one that is begun at either end. */
const MAX_PIECES: number = Math.ceil((QUEUE_BYTES + MOST_FRAME) / PAGE_SIZE) + 2;

/** The two ways of a stream; the same twice for a socket. */
export interface StreamEnds {
  input: number;
  output: number;
}

export interface StreamShape {
  medium: Medium;
  mtu: number;
  framing: StreamFraming;
}

export class StreamLink extends PlainLink implements IoHandler {
  waiting = false;
  readonly #services: LinkServices;
  readonly #framing: StreamFraming;
  readonly #input: Descriptor;
  readonly #output: Descriptor;
  readonly #kept: ByteQueue;
  readonly #queue: ByteQueue;
  readonly #writer: RoomWriter;
  /** Where what was read and not taken yet lies, within the shared memory for frames; only while a batch is at hand. */
  #begin = 0;
  #end = 0;
  #isBad = false;
  #hasEnded = false;
  #owner: FrameOwner | null = null;
  #inputToken = -1;
  #outputToken = -1;
  /** Bytes wait, and the loop tells when there is room. */
  #awaitsRoom = false;
  readonly #retry: Alarm;
  readonly #onRoom: IoHandler = { waiting: false, onIo: () => this.#write() };

  /** Takes over both descriptors, which are non-blocking. */
  constructor({ input, output }: StreamEnds, shape: StreamShape, services: LinkServices) {
    super(shape);
    this.#framing = shape.framing;
    this.#services = services;
    this.#input = new Descriptor(input);
    this.#output = output === input ? this.#input : new Descriptor(output);
    this.#retry = new Alarm(services, () => this.#write());
    const { slab } = services.frames;
    this.#kept = new ByteQueue(slab);
    this.#queue = new ByteQueue(slab);
    this.#writer = new RoomWriter(slab, MAX_PIECES);
  }

  get full(): boolean {
    return this.#queue.length >= FULL_BYTES;
  }

  open(owner: FrameOwner): number {
    this.#owner = owner;
    const { poller } = this.#services;
    this.#inputToken = poller.add(this.#input.fd, this.#events, this, true);
    if (this.#inputToken < 0 || this.#output === this.#input) return Math.min(this.#inputToken, 0);
    this.#outputToken = poller.add(this.#output.fd, 0, this.#onRoom);
    return Math.min(this.#outputToken, 0);
  }

  onIo(events: number): void {
    if ((events & EPOLLOUT) !== 0) this.#write();
    if (this.#owner === null || events === EPOLLOUT) return;
    this.#restore();
    const wasFull = this.#fill();
    const { clock } = this.#services;
    let taken = true;
    for (let i = 0; i < BATCHES && taken && this.#owner !== null; i++) {
      const from = this.#begin;
      this.#owner.onFrames();
      // Between the turns of others there is one.
      taken = this.#begin > from && clock.batchFrames === BATCH_FRAMES;
    }
    if (this.#owner === null) return;
    const isWhole = this.#isBad ? BAD_LENGTH : this.#cut();
    if (isWhole === BAD_LENGTH) {
      const length = announcedLength(this.#services.frames.slab.bytes, this.#begin, this.#framing);
      this.#gone('oversized', `a frame cannot have ${length} bytes`);
      return;
    }
    if (this.#hasEnded && isWhole === 0) {
      if (this.#end > this.#begin) this.#gone('truncated', 'its other end has closed within a frame');
      else this.#gone('closed', 'its other end has closed');
      return;
    }
    this.#keep();
    if (isWhole > 0 || wasFull) this.#services.poller.ready(this);
  }

  receive(_index: number, frame: RxFrame): number {
    const length = this.#cut();
    if (length <= 0) {
      this.#isBad = length === BAD_LENGTH;
      return 0;
    }
    frame.offset = this.#begin + LENGTH_BYTES[this.#framing];
    frame.length = length;
    frame.offload.flags = 0;
    frame.offload.gsoType = 0;
    this.#begin = frame.offset + length;
    return 1;
  }

  transmit(frame: TxFrame): number {
    if (this.#output.fd < 0) return -EBADF;
    const { slab } = this.#services.frames;
    const prefix = LENGTH_BYTES[this.#framing];
    const { headLength, payloadLength, parts } = frame;
    const length = headLength + payloadLength;
    // The headroom in front of a frame is the device's.
    const head = frame.headOffset - prefix;
    putLength(slab.bytes, head, length, this.#framing);
    const need = prefix + length;
    const queue = this.#queue;
    // Those in front of a long one are not in its way.
    const isLong = length > LONGEST;
    if (isLong && !this.#awaitsRoom) this.#write();
    if (queue.length + need > QUEUE_BYTES) return -ENOBUFS;
    const writer = this.#writer;
    if (queue.reserve(need, writer.room) < need) {
      queue.commit(0);
      return -ENOBUFS;
    }
    const sent = isLong && queue.length === 0 ? this.#writeLong(frame, head, prefix + headLength) : 0;
    writer.begin();
    let skipped = this.#copyAfter(sent, head, prefix + headLength);
    for (let i = 0; i < parts.count; i++)
      skipped = this.#copyAfter(skipped, parts.offset[i] as number, parts.length[i] as number);
    queue.commit(need - sent);
    if (this.#awaitsRoom || sent === need) return need;
    if (queue.length >= WRITE_BYTES) this.#write();
    else this.#services.touched();
    return need;
  }

  flush(): void {
    if (!this.#awaitsRoom && this.#queue.length > 0) this.#write();
  }

  close(): void {
    this.#owner = null;
    this.#retry.cancel();
    const { poller } = this.#services;
    if (this.#inputToken >= 0) poller.remove(this.#inputToken);
    if (this.#outputToken >= 0) poller.remove(this.#outputToken);
    this.#inputToken = -1;
    this.#outputToken = -1;
    this.#input.close();
    this.#output.close();
    this.#kept.clear();
    this.#queue.clear();
  }

  get #events(): number {
    const isBoth = this.#output === this.#input;
    return EPOLLIN | EPOLLRDHUP | (isBoth && this.#awaitsRoom ? EPOLLOUT : 0);
  }

  #cut(): number {
    const { bytes } = this.#services.frames.slab;
    return cutFrame(bytes, this.#begin, this.#end, this.#framing, LEAST_FRAME[this.medium]);
  }

  /** What was left of the last read goes in front of the next one. */
  #restore(): void {
    const { frames } = this.#services;
    const { bytes } = frames.slab;
    this.#begin = frames.slot(0);
    this.#end = this.#begin;
    const kept = this.#kept;
    if (kept.length === 0) return;
    const parts = this.#writer.room;
    kept.slice(0, kept.length, parts);
    for (let i = 0; i < parts.count; i++) {
      const from = parts.offset[i] as number;
      const length = parts.length[i] as number;
      bytes.copyWithin(this.#end, from, from + length);
      this.#end += length;
    }
    kept.clear();
  }

  /** Read, unless there is a whole frame; true: there may be more. */
  #fill(): boolean {
    if (this.#hasEnded || this.#cut() !== 0) return false;
    const { memory, clock } = this.#services;
    const most = clock.batchFrames * (this.mtu + ETHERNET_AND_TAG + LENGTH_BYTES[this.#framing]);
    const wanted = Math.min(READ_BYTES, most);
    const n = read(memory, this.#input.fd, this.#end, wanted);
    if (n > 0) this.#end += n;
    else if (n === -EINTR) return true;
    else if (n !== -EAGAIN) {
      this.#hasEnded = true;
      if (n < 0) this.#services.log('debug', `reading the link failed: ${errnoText(n)}`);
    }
    return n === wanted;
  }

  /** Keep what no batch has taken. */
  #keep(): void {
    const left = this.#end - this.#begin;
    if (left === 0) return;
    const writer = this.#writer;
    if (this.#kept.reserve(left, writer.room) < left) {
      this.#kept.commit(0);
      this.#gone('error', 'there is no memory for what comes by it');
      return;
    }
    writer.begin();
    writer.copy(this.#begin, left);
    this.#kept.commit(left);
  }

  /** Write a frame from where it lies; how many bytes of it were taken. */
  #writeLong(frame: TxFrame, head: number, headLength: number): number {
    // What is wrong with the stream is told by what is read.
    return Math.max(0, this.#services.frames.write(this.#output.fd, frame, head, headLength));
  }

  /** Keep `length` bytes at `from`, less the first `skipped`. How many of those that follow are to be skipped. */
  #copyAfter(skipped: number, from: number, length: number): number {
    if (skipped >= length) return skipped - length;
    this.#writer.copy(from + skipped, length - skipped);
    return 0;
  }

  #write(): void {
    const { frames } = this.#services;
    const queue = this.#queue;
    const parts = this.#writer.room;
    while (queue.length > 0) {
      const wanted = queue.length;
      queue.slice(0, wanted, parts);
      const n = frames.writeParts(this.#output.fd, parts);
      if (n === -EINTR) continue;
      if (n === -EAGAIN) break;
      if (n === -ENOBUFS) {
        // Nobody tells when there is memory: waiting for EPOLLOUT would be spinning (L-5).
        this.#retry.set(RETRY_MS);
        this.#awaitRoom(false);
        return;
      }
      if (n < 0) {
        // Its end is told by what is read.
        queue.clear();
        break;
      }
      queue.drop(n);
      if (n < wanted) break;
    }
    this.#awaitRoom(queue.length > 0);
  }

  #awaitRoom(awaits: boolean): void {
    if (this.#awaitsRoom === awaits || this.#inputToken < 0) return;
    this.#awaitsRoom = awaits;
    const { poller } = this.#services;
    if (this.#outputToken < 0) poller.modify(this.#inputToken, this.#events);
    else poller.modify(this.#outputToken, awaits ? EPOLLOUT : 0);
  }

  #gone(reason: EndReason, text: string): void {
    this.#owner?.onGone(reason, text);
  }
}
