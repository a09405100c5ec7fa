/** The stack's link: frames as byte arrays of their own, which wait until the stack is at rest. */
import type { Slab } from '../stack/buffer/slab.ts';
import type { Link, TxFrame } from '../stack/link/link.ts';

export class FrameLink implements Link {
  readonly medium: 'ethernet' | 'ip';
  readonly mtu: number;
  readonly checksumOffload = false;
  readonly tso = false;
  readonly uso = false;
  readonly full = false;
  readonly #slab: Slab;
  #waiting: Uint8Array[] = [];

  constructor(slab: Slab, medium: 'ethernet' | 'ip', mtu: number) {
    this.#slab = slab;
    this.medium = medium;
    this.mtu = mtu;
  }

  refreshMtu(): void {}

  transmit(frame: TxFrame): number {
    const { bytes } = this.#slab;
    const { headOffset, headLength, parts, payloadLength } = frame;
    const copy = new Uint8Array(headLength + payloadLength);
    copy.set(bytes.subarray(headOffset, headOffset + headLength));
    let at = headLength;
    for (let i = 0; i < parts.count; i++) {
      const offset = parts.offset[i] as number;
      const length = parts.length[i] as number;
      copy.set(bytes.subarray(offset, offset + length), at);
      at += length;
    }
    this.#waiting.push(copy);
    return 0;
  }

  /** What has been sent since. */
  take(): Uint8Array[] {
    const frames = this.#waiting;
    if (frames.length > 0) this.#waiting = [];
    return frames;
  }
}
