import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SystemRandom } from '../../src/sys/random.ts';

test('words are 32 bits, differ, and each bit of them is set half of the time', () => {
  const random = new SystemRandom();
  const count = 4096;
  const words = Array.from({ length: count }, () => random.u32());
  // Two of 4096 are the same once in 500 runs; three pairs never.
  assert.ok(new Set(words).size > count - 3);
  const other = new SystemRandom();
  assert.notDeepEqual(
    Array.from({ length: 4 }, () => other.u32()),
    words.slice(0, 4),
  );
  for (let bit = 0; bit < 32; bit++) {
    const ones = words.filter((word) => (word >>> bit) & 1).length;
    // Eight standard deviations of 32 words each way.
    assert.ok(Math.abs(ones - count / 2) < 256, `bit ${bit}: ${ones} of ${count}`);
  }
});
