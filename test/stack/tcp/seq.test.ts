import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { seqAdd, seqDiff, seqInWindow, seqLeq, seqLt, seqMax } from '../../../src/stack/tcp/seq.ts';

const MOD = 2n ** 32n;
const HALF = 2n ** 31n;

/** Distance of a ahead of b on the circle, -2^31 … 2^31-1, the slow and certain way. */
function distance(a: number, b: number): bigint {
  const d = (((BigInt(a) - BigInt(b)) % MOD) + MOD) % MOD;
  return d >= HALF ? d - MOD : d;
}

/** Anywhere, and often at the places where signs and carries go wrong. */
const seq = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0xffffff00, max: 0xffffffff }),
  fc.integer({ min: 0x7fffff00, max: 0x80000100 }),
  fc.integer({ min: 0, max: 256 }),
);

describe('sequence numbers against BigInt (T-16)', () => {
  test('seqAdd', () => {
    const n = fc.integer({ min: -0x80000000, max: 0xffffffff });
    fc.assert(
      fc.property(seq, n, (a, b) => {
        assert.equal(BigInt(seqAdd(a, b)), (((BigInt(a) + BigInt(b)) % MOD) + MOD) % MOD);
      }),
      { numRuns: 2000 },
    );
  });

  test('seqDiff, seqLt, seqLeq, seqMax', () => {
    fc.assert(
      fc.property(seq, seq, (a, b) => {
        const d = distance(a, b);
        assert.equal(BigInt(seqDiff(a, b)), d);
        assert.equal(seqLt(a, b), d < 0n);
        assert.equal(seqLeq(a, b), d <= 0n);
        assert.equal(seqMax(a, b), d < 0n ? b : a);
      }),
      { numRuns: 4000 },
    );
  });

  test('seqInWindow', () => {
    fc.assert(
      fc.property(seq, seq, fc.integer({ min: 0, max: 2 ** 30 }), (x, low, size) => {
        const ahead = (((BigInt(x) - BigInt(low)) % MOD) + MOD) % MOD;
        assert.equal(seqInWindow(x, low, size), ahead < BigInt(size));
      }),
      { numRuns: 2000 },
    );
    assert.equal(seqInWindow(3, 0xfffffffe, 10), true);
    assert.equal(seqInWindow(8, 0xfffffffe, 10), false);
  });
});
