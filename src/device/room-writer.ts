/** Filling room that a `ByteQueue` has reserved, piece by piece. */
import { Parts } from '../stack/buffer/byte-queue.ts';
import type { Slab } from '../stack/buffer/slab.ts';

export class RoomWriter {
  /** For `ByteQueue.reserve`; `begin` after that. */
  readonly room: Parts;
  readonly #bytes: Uint8Array;
  /** Whole pieces that are filled, and bytes of the next one. */
  #piece = 0;
  #within = 0;

  /** `pieces`: the most that are reserved at a time. */
  constructor(slab: Slab, pieces: number) {
    this.#bytes = slab.bytes;
    this.room = new Parts(pieces);
  }

  begin(): void {
    this.#piece = 0;
    this.#within = 0;
  }

  putByte(value: number): void {
    this.#bytes[this.#take(1)] = value;
  }

  copy(from: number, length: number): void {
    let done = 0;
    while (done < length) {
      const left = (this.room.length[this.#piece] as number) - this.#within;
      const size = Math.min(left, length - done);
      this.#bytes.copyWithin(this.#take(size), from + done, from + done + size);
      done += size;
    }
  }

  /** Where the next `size` bytes go, which are within one piece. */
  #take(size: number): number {
    const at = (this.room.offset[this.#piece] as number) + this.#within;
    this.#within += size;
    if (this.#within === this.room.length[this.#piece]) {
      this.#piece++;
      this.#within = 0;
    }
    return at;
  }
}
