/**
 * The arena seen as machine memory: the only place where an offset into it becomes an address.
 *
 * Every foreign call that takes a pointer gets it from `address`, which checks offset and length against the arena
 * first. A wrong length is therefore a RangeError in our own code and never a write into somebody else's heap.
 * Little-endian 64-bit layout (x86-64 and arm64). Scratch for small arguments lies in the arena too, because small typed
 * arrays can be moved by V8's garbage collector; what holds addresses itself is in `structures`.
 */
import { addressOf } from './libc.ts';
import { Structures } from './structures.ts';

/** Bytes of a struct iovec. */
export const IOVEC_SIZE = 16;

/** Room for the structures of one set of flows with its loop. */
const STRUCTURE_BYTES = 32768;

/** A multiple of the size of pages on every system there is: 4 KiB on x86-64, up to 64 KiB on arm64. */
const ANY_PAGE = 65536;

/** The first offset in `buffer` at which a page of the system begins. */
export function firstPage(buffer: ArrayBuffer): number {
  return (ANY_PAGE - (addressOf(buffer) % ANY_PAGE)) % ANY_PAGE;
}

export class Memory {
  readonly view: DataView;
  readonly size: number;
  readonly structures: Structures;
  readonly #base: number;

  /** `buffer` must live as long as this object does (it keeps a reference) and must never be detached. */
  constructor(buffer: ArrayBuffer, structureBytes: number = STRUCTURE_BYTES) {
    this.view = new DataView(buffer);
    this.size = buffer.byteLength;
    this.structures = new Structures(structureBytes);
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

  /** Store a non-negative length or count (a size_t) at `at`. */
  putSize(at: number, value: number): void {
    this.view.setUint32(at, value, true);
    this.view.setUint32(at + 4, 0, true);
  }

  /** Fill element `index` of the iovec array at `iov` of the structures with (`offset`, `length`) of the arena. */
  putIovec(iov: number, index: number, offset: number, length: number): void {
    const at = iov + index * IOVEC_SIZE;
    this.structures.putPointer(at, this.address(offset, length));
    this.structures.putSize(at + 8, length);
  }
}
