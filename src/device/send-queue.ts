/**
 * Frames that a link could not take yet, in order, in a fixed ring of bytes. Each is stored in one piece behind its
 * length; a length of 0 says that the rest of the ring is left empty because the next frame did not fit there.
 */
import type { Slab } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';

const LENGTH_BYTES = 4;

export class SendQueue {
  readonly #slab: Slab;
  readonly #start: number;
  readonly #size: number;
  #head = 0;
  #tail = 0;
  /** Bytes in use, lengths and gaps included. */
  #used = 0;

  /** `size` in bytes, a multiple of 4. */
  constructor(slab: Slab, size: number) {
    this.#slab = slab;
    this.#size = size;
    this.#start = slab.region(size);
  }

  get used(): number {
    return this.#used;
  }

  /** Copy a frame in; false when there is no room for it. */
  push(frame: TxFrame): boolean {
    const length = frame.headLength + frame.payloadLength;
    const need = LENGTH_BYTES + Math.ceil(length / 4) * 4;
    const atEnd = this.#size - this.#tail;
    const gap = need > atEnd ? atEnd : 0;
    if (this.#used + gap + need > this.#size) return false;
    const { bytes, view } = this.#slab;
    if (gap > 0) {
      view.setUint32(this.#start + this.#tail, 0);
      this.#tail = 0;
    }
    let to = this.#start + this.#tail;
    view.setUint32(to, length);
    to += LENGTH_BYTES;
    bytes.copyWithin(to, frame.headOffset, frame.headOffset + frame.headLength);
    to += frame.headLength;
    const { parts } = frame;
    for (let i = 0; i < parts.count; i++) {
      const from = parts.offset[i] as number;
      const partLength = parts.length[i] as number;
      bytes.copyWithin(to, from, from + partLength);
      to += partLength;
    }
    this.#tail = (this.#tail + need) % this.#size;
    this.#used += gap + need;
    return true;
  }

  /** Where the first frame begins; there must be one. */
  get offset(): number {
    this.#skipGap();
    return this.#start + this.#head + LENGTH_BYTES;
  }

  /** Bytes of the first frame. */
  get length(): number {
    this.#skipGap();
    return this.#slab.view.getUint32(this.#start + this.#head);
  }

  /** Drop the first frame. */
  shift(): void {
    const taken = LENGTH_BYTES + Math.ceil(this.length / 4) * 4;
    this.#used -= taken;
    this.#head = (this.#head + taken) % this.#size;
    if (this.#used === 0) {
      this.#head = 0;
      this.#tail = 0;
    }
  }

  #skipGap(): void {
    if (this.#slab.view.getUint32(this.#start + this.#head) !== 0) return;
    this.#used -= this.#size - this.#head;
    this.#head = 0;
  }
}
