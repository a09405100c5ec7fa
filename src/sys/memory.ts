/**
 * The arena seen as machine memory: the only place where an offset becomes an address.
 *
 * Every foreign call that takes a pointer gets it from `address`, which checks offset and length against the arena
 * first. A wrong length is therefore a RangeError in our own code and never a write into somebody else's heap.
 * Little-endian 64-bit layout (x86-64 and arm64); scratch structures live in the arena too, because small typed arrays
 * can be moved by V8's garbage collector.
 */
import { addressOf } from './libc.ts';

/** Bytes of a struct iovec. */
export const IOVEC_SIZE = 16;

const TWO_32 = 4294967296;

export class Memory {
  readonly view: DataView;
  readonly size: number;
  readonly #base: number;

  /** `buffer` must live as long as this object does (it keeps a reference) and must never be detached. */
  constructor(buffer: ArrayBuffer) {
    this.view = new DataView(buffer);
    this.size = buffer.byteLength;
    this.#base = addressOf(buffer);
  }

  /** The address of `offset`, after checking that `length` bytes from there lie inside the arena. */
  address(offset: number, length: number): number {
    // Written so that NaN fails as well.
    if (!(offset >= 0 && length >= 0 && offset + length <= this.size)) {
      throw new RangeError(`memory: ${length} bytes at ${offset} are outside the arena`);
    }
    return this.#base + offset;
  }

  /** Store the address of (`offset`, `length`) as a 64-bit pointer at `at`. */
  putPointer(at: number, offset: number, length: number): void {
    const address = this.address(offset, length);
    this.view.setUint32(at, address >>> 0, true);
    this.view.setUint32(at + 4, (address / TWO_32) >>> 0, true);
  }

  /** Store a non-negative length or count (a size_t) at `at`. */
  putSize(at: number, value: number): void {
    this.view.setUint32(at, value, true);
    this.view.setUint32(at + 4, 0, true);
  }

  /** Fill element `index` of the iovec array at `iov` with (`offset`, `length`). */
  putIovec(iov: number, index: number, offset: number, length: number): void {
    const at = iov + index * IOVEC_SIZE;
    this.putPointer(at, offset, length);
    this.putSize(at + 8, length);
  }
}
