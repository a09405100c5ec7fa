/** Bare IP packets that a link finds in the datagrams of a batch, until its guest has taken them; and frames as such packets. */
import type { Slab } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { BATCH_FRAMES, type FrameOwner, type RxFrame } from './device-link.ts';

export class InnerPackets {
  readonly #offsets = new Int32Array(BATCH_FRAMES);
  readonly #lengths = new Int32Array(BATCH_FRAMES);
  #count = 0;
  #taken = 0;

  /** One has come; whether it is the first of the batch. */
  push(at: number, length: number): boolean {
    this.#offsets[this.#count] = at;
    this.#lengths[this.#count] = length;
    return this.#count++ === 0;
  }

  /** The batch is whole: `owner` takes it. */
  deliver(owner: FrameOwner | null): void {
    // It may take fewer at a time; what is left is overwritten by the next batch.
    while (owner !== null && this.#taken < this.#count) {
      const before = this.#taken;
      owner.onFrames();
      if (this.#taken === before) break;
    }
    this.clear();
  }

  /** As `DeviceLink.receive`. */
  take(frame: RxFrame): number {
    if (this.#taken === this.#count) return 0;
    frame.offset = this.#offsets[this.#taken]!;
    frame.length = this.#lengths[this.#taken]!;
    frame.offload.flags = 0;
    frame.offload.gsoType = 0;
    this.#taken++;
    return 1;
  }

  clear(): void {
    this.#count = 0;
    this.#taken = 0;
  }
}

/** Put a frame together at `at`, which has room for it. */
export function gather({ bytes }: Slab, { headOffset, headLength, parts }: TxFrame, at: number): void {
  bytes.copyWithin(at, headOffset, headOffset + headLength);
  let end = at + headLength;
  for (let i = 0; i < parts.count; i++) {
    const from = parts.offset[i] as number;
    const length = parts.length[i] as number;
    bytes.copyWithin(end, from, from + length);
    end += length;
  }
}
