import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DropReason, dropReasonNames } from '../../../src/stack/wire/drop-reason.ts';

describe('DropReason', () => {
  test('values run from -1 without gaps, and every one has a name of its own', () => {
    const values = Object.values(DropReason);
    assert.deepEqual(
      values,
      values.map((_, i) => -1 - i),
    );
    assert.equal(dropReasonNames.length, values.length + 1);
    assert.equal(new Set(dropReasonNames).size, dropReasonNames.length);
  });

  test('names belong to their keys', () => {
    assert.equal(dropReasonNames[0], 'ok');
    for (const [key, value] of Object.entries(DropReason)) {
      assert.equal(dropReasonNames[-value]?.replace('.', ''), key.toLowerCase());
    }
    assert.equal(dropReasonNames[1], 'link.short');
  });
});
