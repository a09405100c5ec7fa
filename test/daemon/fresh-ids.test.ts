import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FreshIds } from '../../src/daemon/fresh-ids.ts';

describe('FreshIds', () => {
  it('takes a number once, in any order', () => {
    const ids = new FreshIds();
    assert.deepEqual(
      [3, 1, 2, 3, 1, 9, 4].map((id) => ids.use(id)),
      [true, true, true, false, false, true, true],
    );
  });

  it('remembers a bounded number, and takes what is older for used', () => {
    const ids = new FreshIds();
    for (let id = 2; id <= 20_000; id += 2) assert.equal(ids.use(id), true);
    assert.equal(ids.use(19_999), true);
    assert.equal(ids.use(19_998), false);
    assert.equal(ids.use(3), false);
  });
});
