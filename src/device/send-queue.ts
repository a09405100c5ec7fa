/**
 * Frames that a link could not take yet, in order and each behind its length (32 bits, big-endian), in pages that are
 * taken when there is something to keep and given back with it. Bounded in bytes.
 */
import { ByteQueue, type Parts } from '../stack/buffer/byte-queue.ts';
import { PAGE_SIZE, type Slab } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { MOST_FRAME } from './framing.ts';
import { RoomWriter } from './room-writer.ts';

const LENGTH_BYTES = 4;
/** The largest frame with its length, and the rest of a page in front of it. */
const MAX_PIECES: number = Math.ceil((MOST_FRAME + LENGTH_BYTES) / PAGE_SIZE) + 1;

export class SendQueue {
  readonly #slab: Slab;
  readonly #limit: number;
  readonly #bytes: ByteQueue;
  readonly #writer: RoomWriter;

  /** `limit` in bytes. */
  constructor(slab: Slab, limit: number) {
    this.#slab = slab;
    this.#limit = limit;
    this.#bytes = new ByteQueue(slab);
    this.#writer = new RoomWriter(slab, MAX_PIECES);
  }

  /** Bytes kept, lengths included. */
  get used(): number {
    return this.#bytes.length;
  }

  /** Copy a frame in; false when there is no room for it. */
  push(frame: TxFrame): boolean {
    const length = frame.headLength + frame.payloadLength;
    const need = LENGTH_BYTES + length;
    if (this.#bytes.length + need > this.#limit) return false;
    const writer = this.#writer;
    if (this.#bytes.reserve(need, writer.room) < need) {
      this.#bytes.commit(0);
      return false;
    }
    writer.begin();
    for (let shift = 24; shift >= 0; shift -= 8) writer.putByte(length >>> shift);
    writer.copy(frame.headOffset, frame.headLength);
    const { parts } = frame;
    for (let i = 0; i < parts.count; i++) writer.copy(parts.offset[i] as number, parts.length[i] as number);
    this.#bytes.commit(need);
    return true;
  }

  /** Report in `out` where the first frame is; there must be one. Its length. */
  first(out: Parts): number {
    this.#bytes.slice(0, LENGTH_BYTES, out);
    let length = 0;
    for (let i = 0; i < out.count; i++) {
      const end = (out.offset[i] as number) + (out.length[i] as number);
      for (let at = out.offset[i] as number; at < end; at++) {
        length = length * 256 + (this.#slab.bytes[at] as number);
      }
    }
    this.#bytes.slice(LENGTH_BYTES, length, out);
    return length;
  }

  /** Drop the first frame, which has this length. */
  drop(length: number): void {
    this.#bytes.drop(LENGTH_BYTES + length);
  }

  clear(): void {
    this.#bytes.clear();
  }
}
