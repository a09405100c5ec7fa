/** Lists of pieces for gathering, lent to the flows that have something gathered: there are few at a time. */
import { Parts } from '../../stack/buffer/byte-queue.ts';

export class SpareParts {
  readonly #capacity: number;
  readonly #spare: Parts[] = [];
  /** Instead of the length: an array that is emptied would lose its storage. */
  #count = 0;

  /** `capacity`: pieces that one list takes. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** An empty list, on loan until given back. */
  borrow(): Parts {
    if (this.#count === 0) return new Parts(this.#capacity);
    return this.#spare[--this.#count] as Parts;
  }

  giveBack(parts: Parts): void {
    parts.count = 0;
    this.#spare[this.#count++] = parts;
  }
}
