import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LruList, type LruNode } from '../../../src/stack/buffer/lru.ts';
import { seededRng } from '../../support/seeded-rng.ts';

function drain(list: LruList): LruNode[] {
  const order: LruNode[] = [];
  for (let node = list.oldest; node !== null; node = list.oldest) {
    order.push(node);
    list.remove(node);
  }
  return order;
}

test('LruList against an array: order of last use, whatever is added, touched and removed', () => {
  for (let seed = 1; seed <= 30; seed++) {
    const rng = seededRng(seed);
    const nodes = Array.from({ length: 8 }, (): LruNode => ({ lruPrevious: null, lruNext: null }));
    const list = new LruList();
    let model: LruNode[] = [];
    for (let step = 0; step < 200; step++) {
      const node = nodes[rng.u32() % nodes.length] as LruNode;
      const isIn = model.includes(node);
      const leaves = isIn && rng.u32() % 3 === 0;
      if (leaves) list.remove(node);
      else if (isIn) list.touch(node);
      else list.add(node);
      model = model.filter((n) => n !== node);
      if (!leaves) model.push(node);
      assert.equal(list.oldest, model[0] ?? null, `seed ${seed} step ${step}`);
    }
    assert.deepEqual(drain(list), model, `seed ${seed}`);
    assert.equal(list.oldest, null);
  }
});
