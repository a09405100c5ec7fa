import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ByteQueue, Parts } from '../../../src/stack/buffer/byte-queue.ts';
import { PAGE_SIZE, Slab } from '../../../src/stack/buffer/slab.ts';
import { seededRng } from '../../support/seeded-rng.ts';

const POISON = 0xa5;

function read(slab: Slab, parts: Parts): Buffer {
  const out: Uint8Array[] = [];
  for (let i = 0; i < parts.count; i++) {
    const from = parts.offset[i] as number;
    out.push(slab.bytes.subarray(from, from + (parts.length[i] as number)));
  }
  return Buffer.concat(out);
}

describe('ByteQueue against an array', () => {
  test('random operations; poisoned memory never shows; no page is leaked (G-6)', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const rng = seededRng(seed);
      const below = (n: number): number => rng.u32() % n;
      const slab = new Slab(0, 40);
      slab.bytes.fill(POISON);
      const queue = new ByteQueue(slab);
      const parts = new Parts(1 + below(6));
      let model = Buffer.alloc(0);
      for (let step = 0; step < 80; step++) {
        const action = below(10);
        if (action < 5) {
          const want = 1 + below(3 * PAGE_SIZE);
          const room = queue.reserve(want, parts);
          assert.ok(room <= want);
          let filled = below(4) === 0 ? below(room + 1) : room;
          const bytes = Buffer.from({ length: filled }).map(() => below(POISON));
          let at = 0;
          for (let i = 0; i < parts.count; i++) {
            const size = Math.min(parts.length[i] as number, filled);
            slab.bytes.set(bytes.subarray(at, at + size), parts.offset[i] as number);
            at += size;
            filled -= size;
          }
          queue.commit(bytes.length);
          model = Buffer.concat([model, bytes]);
        } else if (action < 9) {
          const size = below(3) === 0 ? model.length : below(model.length + 1);
          // What leaves is poisoned by its next owner, not by us: the pages must really be gone.
          queue.drop(size);
          model = model.subarray(size);
        } else {
          queue.clear();
          model = Buffer.alloc(0);
        }
        assert.equal(queue.length, model.length, `seed ${seed} step ${step}`);
        const from = below(model.length + 1);
        const size = Math.min(below(60_000), model.length - from);
        const wide = new Parts(16);
        queue.slice(from, size, wide);
        const expected = model.subarray(from, from + size);
        assert.ok(read(slab, wide).equals(expected), `seed ${seed} step ${step}`);
        assert.ok(slab.pagesUsed * PAGE_SIZE < model.length + 2 * PAGE_SIZE, 'no page without bytes');
        if (model.length === 0) assert.equal(slab.pagesUsed, 0, 'an empty queue holds no page');
      }
      queue.clear();
      assert.equal(slab.pagesUsed, 0);
    }
  });

  test('memory that runs out gives less room, and nothing is lost by it', () => {
    const slab = new Slab(0, 2);
    const queue = new ByteQueue(slab);
    const parts = new Parts(8);
    assert.equal(queue.reserve(5 * PAGE_SIZE, parts), 2 * PAGE_SIZE);
    queue.commit(PAGE_SIZE + 1);
    assert.equal(queue.reserve(5 * PAGE_SIZE, parts), PAGE_SIZE - 1);
    queue.commit(0);
    assert.equal(queue.length, PAGE_SIZE + 1);
    queue.drop(PAGE_SIZE);
    assert.equal(slab.pagesUsed, 1);
    queue.drop(1);
    assert.equal(slab.pagesUsed, 0);
    assert.equal(queue.reserve(1, parts), 1);
    queue.commit(0);
    assert.equal(slab.pagesUsed, 0, 'a reservation without bytes gives its page back');
  });
});
