/**
 * Frames of packet sockets by the batch, since a call costs ten times what a frame costs in it: recvmmsg(2) to where frames
 * of a device would be read, and sendmmsg(2) of what a turn has made. The same memory for all links of a data plane: one
 * batch is at hand at a time each way. What a link has gathered is sent before that of the next one is.
 */
import type { Slab } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { IOVEC_SIZE, type Memory } from '../sys/memory.ts';
import { MMSGHDR_SIZE, MSGHDR_SIZE, putMsghdr, recvmmsg, sendmmsg } from '../sys/socket.ts';
import { BATCH_FRAMES } from './device-link.ts';
import { gather } from './inner-packets.ts';

/** Of frames that are gathered. */
const GATHERED_BYTES = 128 * 1024;
/** A frame that is longer is sent by itself, from where it lies: copying it costs more than the call. */
const LONGEST = 16 * 1024;
/** Each begins at the start of a cache line. */
const ALIGN = 64;

/** Who gathers frames. */
export interface PacketSender {
  /** Send them now: somebody else has some. */
  sendGathered(): void;
}

export class PacketBatch {
  readonly #slab: Slab;
  readonly #memory: Memory;
  /** Headers of what is received, which stay as they are. */
  readonly #received: number;
  /** Headers and I/O vectors of what is sent. */
  readonly #headers: number;
  readonly #iovecs: number;
  readonly #area: number;
  readonly #offsets = new Int32Array(BATCH_FRAMES);
  readonly #lengths = new Int32Array(BATCH_FRAMES);
  /** Where the next one goes. */
  #end = 0;
  #count = 0;
  #sender: PacketSender | null = null;

  /** `slots`: where received frames go, each of `slotBytes`. */
  constructor(slab: Slab, memory: Memory, slots: number, slotBytes: number) {
    this.#slab = slab;
    this.#memory = memory;
    this.#area = slab.region(GATHERED_BYTES, ALIGN);
    const { structures } = memory;
    this.#received = structures.region(BATCH_FRAMES * MMSGHDR_SIZE);
    this.#headers = structures.region(BATCH_FRAMES * MMSGHDR_SIZE);
    this.#iovecs = structures.region(BATCH_FRAMES * IOVEC_SIZE);
    const rooms = structures.region(BATCH_FRAMES * IOVEC_SIZE);
    for (let i = 0; i < BATCH_FRAMES; i++) {
      const header = i * MMSGHDR_SIZE;
      const iovec = i * IOVEC_SIZE;
      memory.putIovec(rooms, i, slots + i * slotBytes, slotBytes);
      putMsghdr(memory, this.#received + header, 0, 0, rooms + iovec, 1, 0, 0);
      putMsghdr(memory, this.#headers + header, 0, 0, this.#iovecs + iovec, 1, 0, 0);
    }
  }

  /** Read up to `most` packets, one to each slot; how many, or `-errno`. */
  receive(fd: number, most: number): number {
    return recvmmsg(this.#memory, fd, this.#received, most);
  }

  /** Bytes of packet `index` of those received. */
  lengthOf(index: number): number {
    const { view } = this.#memory.structures;
    return view.getUint32(this.#received + index * MMSGHDR_SIZE + MSGHDR_SIZE, true);
  }

  /** Make room for `length` bytes of `sender`'s. False: so long a frame is not gathered, and all others are on their way. */
  makeRoom(sender: PacketSender, length: number): boolean {
    const isLong = length > LONGEST;
    const isFull = this.#count === BATCH_FRAMES || this.#end + length > GATHERED_BYTES;
    if (isLong || isFull || this.#sender !== sender) this.#sender?.sendGathered();
    return !isLong;
  }

  /** Copy in `frame` of `length` bytes, for which `sender` has made room. */
  push(sender: PacketSender, frame: TxFrame, length: number): void {
    this.#sender = sender;
    const at = this.#area + this.#end;
    gather(this.#slab, frame, at);
    this.#offsets[this.#count] = at;
    this.#lengths[this.#count] = length;
    this.#memory.putIovec(this.#iovecs + this.#count * IOVEC_SIZE, 0, at, length);
    this.#end += Math.ceil(length / ALIGN) * ALIGN;
    this.#count++;
  }

  /** How many frames `sender` has gathered. */
  gathered(sender: PacketSender): number {
    return this.#sender === sender ? this.#count : 0;
  }

  /** Send those gathered from number `first` on: how many, or `-errno` of that one. */
  send(fd: number, first: number): number {
    return sendmmsg(this.#memory, fd, this.#headers + first * MMSGHDR_SIZE, this.#count - first);
  }

  /** Put gathered frame `index` into `out`. */
  frameAt(index: number, out: TxFrame): void {
    out.headOffset = this.#offsets[index]!;
    out.headLength = this.#lengths[index]!;
    out.parts.count = 0;
    out.payloadLength = 0;
  }

  /** Those gathered are sent, or kept elsewhere. */
  clear(): void {
    this.#sender = null;
    this.#count = 0;
    this.#end = 0;
  }
}
