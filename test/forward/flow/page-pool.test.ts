/** Packet memory of several guests. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type GuestPages, PagePool } from '../../../src/forward/flow/page-pool.ts';
import { PAGE_SIZE, Slab } from '../../../src/stack/buffer/slab.ts';

const MIB = 1024 * 1024;
/** Pages that are certain. */
const CERTAIN = MIB / PAGE_SIZE;

class Pool {
  readonly pool: PagePool;
  /** Who was asked to give way, in order. */
  readonly asked: string[] = [];
  readonly held = new Map<GuestPages, number[]>();

  constructor(mib: number) {
    this.pool = new PagePool(new Slab(0, (mib * MIB) / PAGE_SIZE));
  }

  join(name: string, limit: number | (() => number) = 64 * MIB): GuestPages {
    const most = typeof limit === 'number' ? () => limit : limit;
    const pages = this.pool.join(most, () => this.asked.push(name));
    this.held.set(pages, []);
    return pages;
  }

  /** Take `most` at most; how many it has then. */
  take(pages: GuestPages, most = Number.POSITIVE_INFINITY): number {
    const held = this.held.get(pages) as number[];
    for (let i = 0; i < most; i++) {
      const page = pages.allocPage();
      if (page < 0) break;
      held.push(page);
    }
    assert.equal(pages.pagesUsed, held.length);
    return held.length;
  }

  give(pages: GuestPages, count: number): void {
    for (const page of this.held.get(pages)?.splice(-count) ?? []) pages.freePage(page);
  }
}

describe('a pool of pages', () => {
  test('serve S-8: the only guest may have all, one of several what its limit says', () => {
    const p = new Pool(8);
    const only = p.join('only', 2 * MIB);
    assert.equal(only.pageCount, 8 * CERTAIN);
    assert.equal(p.take(only), 8 * CERTAIN);
    const second = p.join('second', 2 * MIB);
    assert.equal(only.allocPage(), -1, 'it keeps what it has too many, and gets no more');
    p.give(only, 7 * CERTAIN);
    assert.equal(p.take(only), 2 * CERTAIN);
    assert.equal(p.take(second), 2 * CERTAIN);
    assert.equal(only.ask(), false, 'its own limit is no matter of others');
    assert.deepEqual(p.asked, []);
    second.leave();
    assert.equal(only.pageCount, 8 * CERTAIN, 'alone again');
  });

  test('review H-1: a limit that changes counts for what is taken from then on', () => {
    const p = new Pool(8);
    let limit = 2 * MIB;
    const [one] = [p.join('one', () => limit), p.join('two')];
    assert.equal(p.take(one), 2 * CERTAIN);
    limit = 3 * MIB;
    assert.equal(p.take(one), 3 * CERTAIN);
    limit = 0;
    p.give(one, 2 * CERTAIN + 1);
    assert.equal(p.take(one), CERTAIN, 'what is certain is no matter of limits');
  });

  test('serve S-9: what is certain for one that has begun, no other gets', () => {
    const p = new Pool(4);
    const [quiet, greedy] = [p.join('quiet'), p.join('greedy')];
    assert.equal(p.take(quiet, 1), 1);
    assert.equal(greedy.pageCount, 3 * CERTAIN);
    assert.equal(p.take(greedy), 3 * CERTAIN);
    assert.equal(p.take(quiet), CERTAIN);
    p.give(quiet, CERTAIN);
    assert.equal(p.take(greedy), 4 * CERTAIN, 'one that holds none is promised none');
  });

  test('serve S-9: who begins while there is none has the one give way that holds most', () => {
    const p = new Pool(4);
    const [some, most, late] = [p.join('some'), p.join('most'), p.join('late')];
    p.take(some, CERTAIN + 8);
    p.take(most);
    assert.equal(late.pageCount, CERTAIN, 'it is told of what is certain');
    assert.equal(p.take(late), 0);
    assert.equal(p.take(late), 0);
    assert.deepEqual(p.asked, ['most'], 'once, until it has');
    assert.deepEqual([some.isAsked, most.isAsked, most.hasGiven], [false, true, false]);
    p.give(most, CERTAIN - 1);
    assert.equal(most.hasGiven, false);
    p.give(most, 1);
    assert.equal(most.hasGiven, true);
    assert.equal(most.given(), true, 'whatever it takes');
    assert.equal(most.isAsked, false);
    assert.equal(most.allocPage(), -1);
    assert.equal(p.take(late, 1), 1);
    assert.equal(p.take(late), CERTAIN);
  });

  test('serve S-9: for what is not certain nobody has to give what it uses, nor below what is certain', () => {
    const p = new Pool(4);
    const [some, most] = [p.join('some'), p.join('most')];
    p.take(some, CERTAIN + 8);
    p.take(most);
    assert.equal(some.ask(), true);
    assert.deepEqual(p.asked, ['most']);
    assert.equal(most.ask(), false, 'it is for itself to make room');
    assert.equal(most.given(), false);
    p.give(most, 2 * CERTAIN);
    assert.ok(most.pagesUsed <= CERTAIN && most.hasGiven);
    p.take(some);
    assert.equal(most.ask(), true);
    some.leave();
    assert.equal(some.isAsked, false, 'who is gone gives nothing');
    assert.equal(most.pageCount, 4 * CERTAIN);
  });
});
