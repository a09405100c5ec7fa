/**
 * Random numbers of the kernel, getrandom(2). Not from node:crypto, because loading that is 2 ms of every start.
 */
import { errno, libcFunction } from './libc.ts';
import { Memory } from './memory.ts';

const cGetrandom = libcFunction('getrandom', 'intptr_t', ['uintptr_t', 'size_t', 'uint']);

/** Up to here a call is neither cut short nor interrupted (bytes). */
const POOL_BYTES = 256;

/** Random words, a pool of them at a time. */
export class SystemRandom {
  readonly #memory = new Memory(new ArrayBuffer(POOL_BYTES));
  #used = POOL_BYTES;

  u32(): number {
    if (this.#used === POOL_BYTES) {
      const got = cGetrandom(this.#memory.address(0, POOL_BYTES), POOL_BYTES, 0);
      // There is nothing to go on with instead: what it is for must not be guessed.
      if (got !== POOL_BYTES) throw new Error(`getrandom: errno ${got < 0 ? errno() : 0}`);
      this.#used = 0;
    }
    const value = this.#memory.view.getUint32(this.#used, true);
    this.#used += 4;
    return value;
  }
}
