/**
 * How many pages of packet memory a guest holds, and may.
 *
 * Guests of one data plane take theirs from one pool. The only one may have all; one of several as many as its limit says,
 * and `GUARANTEED` are there for each that holds any, however many the others want (S-9). What others hold beyond that, it may
 * find gone when it begins: then the guest that holds most gives way, at the end of the turn.
 */
import { PAGE_SIZE, type Pages, type Slab } from '../../stack/buffer/slab.ts';

/** Pages that a guest has for certain: 1 MiB. */
const GUARANTEED = (1024 * 1024) / PAGE_SIZE;

export class PagePool {
  readonly slab: Slab;
  /** Of what is certain for guests that hold pages, what they do not hold, in all. */
  #promised = 0;
  readonly #members = new Set<GuestPages>();
  /** Who is to give way, until it has. */
  #giving: GuestPages | null = null;
  /** For what is certain for another: whatever it takes. */
  #mustGive = false;
  /** The last one that could not begin: what is certain for it is kept until it does. */
  #waiting: GuestPages | null = null;

  constructor(slab: Slab) {
    this.slab = slab;
  }

  /**
   * For one more guest, until it leaves. `limit`: most bytes it may have, as things are. `asked`: it is to call `TcpFlows.giveWay` at the end
   * of the turn.
   */
  join(limit: () => number, asked: () => void): GuestPages {
    const pages = new GuestPages(this, limit, asked);
    this.#members.add(pages);
    return pages;
  }

  leave(pages: GuestPages): void {
    this.#members.delete(pages);
    if (this.#giving === pages) this.given();
    if (this.#waiting === pages) this.#waiting = null;
  }

  /** How many `pages` may have as things are. */
  mostOf(pages: GuestPages): number {
    const { slab } = this;
    if (this.#members.size <= 1) return slab.pageCount;
    const used = pages.pagesUsed;
    const others = slab.pagesUsed - used + this.#promised - promiseTo(used) + this.#keptFrom(pages);
    return Math.max(GUARANTEED, Math.min(pages.limit, slab.pageCount - others));
  }

  alloc(pages: GuestPages): number {
    const used = pages.pagesUsed;
    if (this.#members.size > 1 && !this.#mayTake(pages)) return -1;
    const page = this.slab.allocPage();
    if (page < 0) return page;
    this.#promised += promiseTo(used + 1) - promiseTo(used);
    if (this.#waiting === pages) this.#waiting = null;
    return page;
  }

  free(offset: number, left: number): void {
    this.slab.freePage(offset);
    this.#promised += promiseTo(left) - promiseTo(left + 1);
  }

  /** Have whoever holds most give way to `pages`; false: nobody else can. */
  ask(pages: GuestPages): boolean {
    if (this.#members.size <= 1 || pages.pagesUsed >= pages.limit) return false;
    this.#mustGive ||= pages.pagesUsed < GUARANTEED;
    if (this.#giving !== null) return this.#giving !== pages;
    let most = pages;
    for (const member of this.#members) if (member.pagesUsed > most.pagesUsed) most = member;
    if (most === pages || most.pagesUsed <= GUARANTEED) return false;
    this.#giving = most;
    most.asked();
    return true;
  }

  /** Whether `pages` is to give way to somebody. */
  isAsked(pages: GuestPages): boolean {
    return this.#giving === pages;
  }

  /** Whoever was asked gives way now. True: whatever it takes; otherwise only what it has no use for. */
  given(): boolean {
    const must = this.#mustGive;
    this.#giving = null;
    this.#mustGive = false;
    return must;
  }

  /** Whether there is what is certain for one more guest. */
  get hasRoom(): boolean {
    return this.slab.pagesUsed + this.#promised + GUARANTEED <= this.slab.pageCount;
  }

  #keptFrom(pages: GuestPages): number {
    return this.#waiting === null || this.#waiting === pages ? 0 : GUARANTEED;
  }

  #mayTake(pages: GuestPages): boolean {
    const used = pages.pagesUsed;
    if (used > 0 && used < this.mostOf(pages)) return true;
    // Whoever begins gets all that it has for certain from then on, or nothing.
    if (used === 0 && this.hasRoom) return true;
    if (used === 0) this.#waiting = pages;
    this.ask(pages);
    return false;
  }
}

/** The part of one guest. */
export class GuestPages implements Pages {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  pagesUsed = 0;
  readonly #pool: PagePool;
  readonly #limit: () => number;
  readonly asked: () => void;

  constructor(pool: PagePool, limit: () => number, asked: () => void) {
    this.#pool = pool;
    this.view = pool.slab.view;
    this.bytes = pool.slab.bytes;
    this.#limit = limit;
    this.asked = asked;
  }

  /** Pages that it may have. */
  get limit(): number {
    return Math.max(GUARANTEED, Math.floor(this.#limit() / PAGE_SIZE));
  }

  get pageCount(): number {
    return this.#pool.mostOf(this);
  }

  allocPage(): number {
    const page = this.#pool.alloc(this);
    if (page >= 0) this.pagesUsed++;
    return page;
  }

  freePage(offset: number): void {
    this.#pool.free(offset, --this.pagesUsed);
  }

  /** Have another guest make room; false: it is for this one to do. */
  ask(): boolean {
    return this.#pool.ask(this);
  }

  get isAsked(): boolean {
    return this.#pool.isAsked(this);
  }

  /** Whether it has given enough for whoever asked, or has only what is certain left. */
  get hasGiven(): boolean {
    return this.#pool.hasRoom || this.pagesUsed <= GUARANTEED;
  }

  /** As in `PagePool`. */
  given(): boolean {
    return this.#pool.given();
  }

  /** The guest is gone. */
  leave(): void {
    this.#pool.leave(this);
  }
}

/** What a guest that holds `used` pages has for certain beyond them. */
function promiseTo(used: number): number {
  return used > 0 && used < GUARANTEED ? GUARANTEED - used : 0;
}
