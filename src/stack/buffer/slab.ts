/**
 * All packet memory of the data plane: one ArrayBuffer with one cached DataView and Uint8Array over it.
 *
 *   | fixed regions (scratch, receive frames, …) | page | page | page | …
 *
 * Fixed regions are carved once at start-up. Pages are the unit in which connections hold bytes: a send queue or a
 * receive queue is a list of pages, so an idle connection holds none, and one byte held by a stuck peer costs one
 * page. Freed pages are reused last-in first-out, which keeps the touched (resident) part of the buffer, and the part
 * that lives in the CPU's cache, as small as the traffic allows.
 *
 * Offsets into the buffer are the only pointers there are; who holds a page's offset owns the page.
 */

/** Bytes in a page. A 64 KiB super-segment spans at most five. */
export const PAGE_SIZE = 16384;

const NO_PAGE = -1;

export class Slab {
  readonly buffer: ArrayBuffer;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** First byte past the fixed regions. */
  readonly pagesStart: number;
  readonly pageCount: number;
  /** Pages handed out at the moment. */
  pagesUsed = 0;
  /** One past the highest page number ever handed out: memory beyond it was never touched. */
  pagesTouched = 0;
  #regionNext = 0;
  #freeHead = NO_PAGE;
  readonly #freeNext: Int32Array;

  /**
   * @param fixedBytes room for all fixed regions
   * @param pageCount how many pages there may be; memory is only committed when a page is first used
   */
  constructor(fixedBytes: number, pageCount: number) {
    this.pagesStart = Math.ceil(fixedBytes / PAGE_SIZE) * PAGE_SIZE;
    this.pageCount = pageCount;
    this.buffer = new ArrayBuffer(this.pagesStart + pageCount * PAGE_SIZE);
    this.view = new DataView(this.buffer);
    this.bytes = new Uint8Array(this.buffer);
    this.#freeNext = new Int32Array(pageCount);
  }

  /** Carve `length` bytes for the life of the process. Throws when `fixedBytes` was chosen too small. */
  region(length: number, align = 64): number {
    const offset = Math.ceil(this.#regionNext / align) * align;
    if (offset + length > this.pagesStart) throw new RangeError('slab: fixed regions exhausted');
    this.#regionNext = offset + length;
    return offset;
  }

  /** Take a page; its offset, or -1 when the memory limit is reached. Contents are undefined. */
  allocPage(): number {
    let page = this.#freeHead;
    if (page !== NO_PAGE) {
      this.#freeHead = this.#freeNext[page] as number;
    } else {
      if (this.pagesTouched === this.pageCount) return -1;
      page = this.pagesTouched++;
    }
    this.pagesUsed++;
    return this.pagesStart + page * PAGE_SIZE;
  }

  /** Give a page back. `offset` must be one that `allocPage` returned. */
  freePage(offset: number): void {
    const page = (offset - this.pagesStart) / PAGE_SIZE;
    this.#freeNext[page] = this.#freeHead;
    this.#freeHead = page;
    this.pagesUsed--;
  }

  /**
   * Let go of the memory behind free pages. Free pages at the end of the touched part are forgotten (they count as
   * never touched), after `discard` was called for them as one run.
   */
  reclaim(discard: (offset: number, length: number) => void): void {
    const isFree = new Uint8Array(this.pagesTouched);
    for (let page = this.#freeHead; page !== NO_PAGE; page = this.#freeNext[page] as number) isFree[page] = 1;
    let end = this.pagesTouched;
    while (end > 0 && isFree[end - 1] === 1) end--;
    if (end === this.pagesTouched) return;
    discard(this.pagesStart + end * PAGE_SIZE, (this.pagesTouched - end) * PAGE_SIZE);
    // Rebuild the list with the lowest pages first: what is used next stays at the beginning.
    this.#freeHead = NO_PAGE;
    for (let page = end - 1; page >= 0; page--) {
      if (isFree[page] === 0) continue;
      this.#freeNext[page] = this.#freeHead;
      this.#freeHead = page;
    }
    this.pagesTouched = end;
  }
}
