import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { getHeapSpaceStatistics } from 'node:v8';
import { Housekeeping } from '../../src/engine/housekeeping.ts';
import { PAGE_SIZE, Slab } from '../../src/stack/buffer/slab.ts';
import { discard } from '../../src/sys/io.ts';
import { firstPage, Memory } from '../../src/sys/memory.ts';
import { TimerHeap } from '../../src/timer-heap.ts';
import { ownMemory } from '../support/stack-size.ts';

const PAGES = 8192;
const MIB = 1024 * 1024;

/** All pages taken and written to, then given back but every `keep`th. */
function burst(slab: Slab, keep: number): void {
  const pages = Array.from({ length: PAGES }, () => slab.allocPage());
  for (const page of pages) slab.bytes.fill(1, page, page + PAGE_SIZE);
  pages.forEach((page, i) => {
    if (i % keep !== keep - 1) slab.freePage(page);
  });
}

function oldHeap(): number {
  return getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space')?.space_used_size ?? 0;
}

/** `bytes` or more in the old heap, garbage as soon as nobody has them. */
function litter(bytes: number): object[] {
  const before = oldHeap();
  const litter: object[] = [];
  while (oldHeap() < before + bytes) for (let i = 0; i < 10_000; i++) litter.push({ at: i });
  return litter;
}

describe('housekeeping', () => {
  for (const [what, keep] of [
    ['all are free', PAGES + 1],
    ['one in a thousand is in use, the last among them', 1024],
  ] as const) {
    test(`review O-8: resident memory falls when pages are free: ${what}`, () => {
      const slab = new Slab(MIB, PAGES, firstPage);
      const memory = new Memory(slab.buffer as ArrayBuffer);
      assert.equal(memory.address(slab.pagesStart, 0) % 65536, 0, 'pages of ours are pages of the system');
      const failures: number[] = [];
      const housekeeping = new Housekeeping(
        new TimerHeap(),
        slab,
        () => 0,
        (offset, length) => discard(memory, offset, length),
        (result) => failures.push(result),
      );
      const before = ownMemory();
      burst(slab, keep);
      const full = ownMemory();
      assert.ok(full - before > 100 * MIB, 'it was there');
      housekeeping.onTimer(0);
      const after = ownMemory();
      assert.deepEqual(failures, []);
      assert.ok(after < before + 16 * MIB, `${before / MIB} MiB, ${full / MIB}, ${after / MIB} at the end`);
      assert.equal(slab.pagesResident, slab.pagesUsed);
      // What is in use was left as it is, and what was given back is there to be used.
      for (let page = keep - 1; page < PAGES; page += keep)
        assert.equal(slab.bytes[slab.pagesStart + page * PAGE_SIZE], 1);
      for (let i = slab.pagesUsed; i < PAGES; i++) assert.notEqual(slab.allocPage(), -1);
      assert.equal(slab.allocPage(), -1);
    });
  }

  test('review O-8: many flows that end by themselves, with no traffic, are noticed', () => {
    let flows = 10_000;
    let kept = litter(4 * MIB);
    const housekeeping = new Housekeeping(
      new TimerHeap(),
      new Slab(MIB, 1),
      () => flows,
      () => 0,
      () => undefined,
    );
    const looks = (seconds: number): number => {
      let count = 0;
      for (let s = 0; s < seconds && housekeeping.deadline !== Number.POSITIVE_INFINITY; s++, count++) {
        housekeeping.deadline = Number.POSITIVE_INFINITY;
        housekeeping.onTimer(s * 1000);
      }
      return count;
    };
    housekeeping.arm(0, 1000);
    assert.equal(looks(60), 60);
    flows = 0;
    const { heapUsed } = process.memoryUsage();
    assert.ok(kept.length > 0);
    kept = [];
    assert.ok(looks(60) < 5, 'and then there is rest');
    assert.ok(process.memoryUsage().heapUsed < heapUsed - 2 * MIB, 'after a collection');
  });

  test('review O-8: what flows leave on the heap is collected, however few there are at a time', () => {
    const housekeeping = new Housekeeping(
      new TimerHeap(),
      new Slab(MIB, 1),
      () => 20,
      () => 0,
      () => undefined,
    );
    const look = (): void => {
      assert.notEqual(housekeeping.deadline, Number.POSITIVE_INFINITY, 'there is something left to do');
      housekeeping.deadline = Number.POSITIVE_INFINITY;
      housekeeping.onTimer(1000);
    };
    litter(16 * MIB);
    const full = oldHeap();
    housekeeping.arm(0, 5000);
    look();
    assert.ok(oldHeap() > full - 4 * MIB, 'no packet waits for it while there are packets');
    housekeeping.arm(0, 5);
    look();
    assert.ok(oldHeap() < full - 12 * MIB, `${oldHeap() / MIB} MiB of ${full / MIB}`);
    look();
    assert.equal(housekeeping.deadline, Number.POSITIVE_INFINITY, 'and then there is rest');
  });

  test('review O-8: memory that cannot be given back is told once', () => {
    const slab = new Slab(MIB, PAGES, firstPage);
    const failures: number[] = [];
    let tries = 0;
    const failing = (): number => {
      tries++;
      return -22;
    };
    const housekeeping = new Housekeeping(
      new TimerHeap(),
      slab,
      () => 0,
      failing,
      (n) => failures.push(n),
    );
    for (let round = 1; round <= 2; round++) {
      burst(slab, PAGES + 1);
      housekeeping.onTimer(round * 1000);
      assert.equal(tries, round);
    }
    assert.deepEqual(failures, [-22]);
  });
});
