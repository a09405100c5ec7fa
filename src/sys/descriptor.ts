/** A descriptor with an owner: closed in one place, and no number any more after that, which somebody else may have by then. */
import { close } from './io.ts';

export class Descriptor {
  #fd: number;

  /** Takes over `fd`; -1 = none. */
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** -1 once it is closed: every call says EBADF then. */
  get fd(): number {
    return this.#fd;
  }

  /** May be called at any time. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    close(fd);
  }
}
