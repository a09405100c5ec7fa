/**
 * All packet memory of the data plane: one ArrayBuffer with one cached DataView and Uint8Array over it.
 *
 *   | up to the first page of the system | fixed regions (scratch, receive frames, …) | page | page | page | …
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
/** What may be left out at the beginning: a page of the system, 64 KiB at most. */
const LEAD = 65536;
/** Free pages in a row that are worth a system call. */
const LEAST_RUN = 16;

/** Pages for one of those who share them: how many it holds, and how many there are for it at the moment. */
export interface Pages {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  readonly pagesUsed: number;
  readonly pageCount: number;
  /** A page, or -1: there is none for it now. */
  allocPage(): number;
  freePage(offset: number): void;
}

export class Slab implements Pages {
  readonly buffer: ArrayBuffer;
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** First byte past the fixed regions. */
  readonly pagesStart: number;
  readonly pageCount: number;
  /** Pages handed out at the moment. */
  pagesUsed = 0;
  /** One past the highest page number handed out since the last `reclaim`. */
  pagesTouched = 0;
  /** Pages that have memory of the system behind them: those in use, and free ones that were and not given back. */
  pagesResident = 0;
  readonly #isResident: Uint8Array;
  readonly #start: number;
  #regionNext = 0;
  #freeHead = NO_PAGE;
  readonly #freeNext: Int32Array;

  /**
   * @param fixedBytes room for all fixed regions
   * @param pageCount how many pages there may be; memory is only committed when a page is first used
   * @param firstPage where in the buffer a page of the system begins, less than 64 KiB from its start: only then can
   * pages be given back
   */
  constructor(fixedBytes: number, pageCount: number, firstPage: (buffer: ArrayBuffer) => number = () => 0) {
    const fixed = Math.ceil(fixedBytes / LEAD) * LEAD;
    this.pageCount = pageCount;
    this.buffer = new ArrayBuffer(LEAD + fixed + pageCount * PAGE_SIZE);
    this.#start = firstPage(this.buffer);
    this.pagesStart = this.#start + fixed;
    this.#isResident = new Uint8Array(pageCount);
    this.view = new DataView(this.buffer);
    this.bytes = new Uint8Array(this.buffer);
    this.#freeNext = new Int32Array(pageCount);
  }

  /** Carve `length` bytes for the life of the process. Throws when `fixedBytes` was chosen too small. */
  region(length: number, align = 64): number {
    const at = Math.ceil(this.#regionNext / align) * align;
    if (this.#start + at + length > this.pagesStart) throw new RangeError('slab: fixed regions exhausted');
    this.#regionNext = at + length;
    return this.#start + at;
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
    if (this.#isResident[page] === 0) {
      this.#isResident[page] = 1;
      this.pagesResident++;
    }
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
   * Let go of the memory behind free pages: `discard` is called for each run of them that is long enough, and free pages
   * at the end are forgotten (they count as never touched). 0, or what `discard` failed with last: `-errno`.
   */
  reclaim(discard: (offset: number, length: number) => number): number {
    const { pagesTouched } = this;
    const isFree = new Uint8Array(pagesTouched);
    for (let page = this.#freeHead; page !== NO_PAGE; page = this.#freeNext[page] as number) isFree[page] = 1;
    let failed = 0;
    for (let first = 0, next = 0; first < pagesTouched; first = next + 1) {
      next = first;
      while (next < pagesTouched && isFree[next] === 1 && this.#isResident[next] === 1) next++;
      if (next - first < LEAST_RUN) continue;
      const result = discard(this.pagesStart + first * PAGE_SIZE, (next - first) * PAGE_SIZE);
      if (result < 0) {
        failed = result;
        continue;
      }
      this.#isResident.fill(0, first, next);
      this.pagesResident -= next - first;
    }
    let end = pagesTouched;
    while (end > 0 && isFree[end - 1] === 1) end--;
    // Rebuild the list with the lowest pages first: what is used next stays at the beginning.
    this.#freeHead = NO_PAGE;
    for (let page = end - 1; page >= 0; page--) {
      if (isFree[page] === 0) continue;
      this.#freeNext[page] = this.#freeHead;
      this.#freeHead = page;
    }
    this.pagesTouched = end;
    return failed;
  }
}
