/**
 * Structures by which the kernel learns where to read and write (iovec, msghdr), or tells us whom an event is for
 * (epoll_event). They lie in a small buffer of their own, apart from all packets: whatever a wrong offset does to packet
 * memory, it changes no address that the kernel is given.
 */
import { addressOf } from './libc.ts';

const ALIGN = 16;
const TWO_32 = 4294967296;

export class Structures {
  readonly view: DataView;
  readonly #base: number;
  #next = 0;

  constructor(bytes: number) {
    const buffer = new ArrayBuffer(bytes);
    this.view = new DataView(buffer);
    this.#base = addressOf(buffer);
  }

  /** Carve `length` bytes, for good. Throws when there is no room left. */
  region(length: number): number {
    const offset = Math.ceil(this.#next / ALIGN) * ALIGN;
    if (offset + length > this.view.byteLength) throw new RangeError('structures: no room left');
    this.#next = offset + length;
    return offset;
  }

  /** The address of `offset`, after checking that `length` bytes from there are in the buffer. */
  address(offset: number, length: number): number {
    // Written so that NaN fails as well.
    if (!(offset >= 0 && length >= 0 && offset + length <= this.view.byteLength)) {
      throw new RangeError(`structures: ${length} bytes at ${offset} are outside`);
    }
    return this.#base + offset;
  }

  /** Store a 64-bit pointer at `at`. */
  putPointer(at: number, address: number): void {
    this.view.setUint32(at, address >>> 0, true);
    this.view.setUint32(at + 4, (address / TWO_32) >>> 0, true);
  }

  /** Store a non-negative length or count (a size_t) at `at`. */
  putSize(at: number, value: number): void {
    this.view.setUint32(at, value, true);
    this.view.setUint32(at + 4, 0, true);
  }
}
