import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ErrorLimiter } from '../../../src/stack/icmp/limit.ts';
import { seededRng } from '../../support/seeded-rng.ts';

function spend(limiter: ErrorLimiter, nowMs: number, tries: number): number {
  let allowed = 0;
  for (let i = 0; i < tries; i++) if (limiter.allow(nowMs)) allowed++;
  return allowed;
}

describe('C-04 limit of ICMP errors', () => {
  test('at one instant between three quarters of the burst and the burst, never more', () => {
    for (let seed = 0; seed < 200; seed++) {
      const allowed = spend(new ErrorLimiter(100, 50, seededRng(seed)), 0, 1000);
      assert.ok(allowed >= 37 && allowed <= 50, `seed ${seed}: ${allowed}`);
    }
  });

  test('10^5 attempts in 1 s get about rate + burst', () => {
    const limiter = new ErrorLimiter(100, 50, seededRng(1));
    let allowed = 0;
    for (let i = 0; i < 100_000; i++) if (limiter.allow(i / 100)) allowed++;
    assert.ok(allowed >= 100 && allowed <= 190, String(allowed));
  });

  test('the rate in the long run is the configured one', () => {
    const limiter = new ErrorLimiter(100, 50, seededRng(2));
    let allowed = 0;
    for (let ms = 0; ms < 600_000; ms++) if (limiter.allow(ms)) allowed++;
    const rate = allowed / 600;
    assert.ok(rate > 95 && rate < 105, String(rate));
  });

  test('what a quiet second gives back cannot be predicted', () => {
    const limiter = new ErrorLimiter(100, 50, seededRng(3));
    const seen = new Set<number>();
    for (let second = 0; second < 100; second++) seen.add(spend(limiter, second * 1000, 1000));
    assert.ok(seen.size >= 8, String([...seen]));
    assert.ok(Math.max(...seen) <= 50, String(Math.max(...seen)));
  });

  test('a rate of 0 ends after the burst, a burst below 1 still allows one at a time', () => {
    const none = new ErrorLimiter(0, 1, seededRng(4));
    assert.equal(spend(none, 0, 10), 1);
    assert.equal(spend(none, 1e9, 10), 0);
    assert.equal(spend(new ErrorLimiter(1, 0.1, seededRng(4)), 0, 10), 1);
  });
});
