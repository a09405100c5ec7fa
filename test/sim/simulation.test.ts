/**
 * A few thousand random connections over random links, every time; `make sim SEEDS=n` for more. A failure names its seed:
 * SIM_SEED=n runs it alone.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { onlySeed } from './scenario.ts';
import { ScriptedPeer } from './scripted-peer.ts';
import { simulate } from './simulate.ts';

describe('random connections', () => {
  test('a clean link: every byte, no stall, nothing sent twice', () => {
    const totals = simulate('clean', 1, 500);
    assert.deepEqual(totals.failures, []);
    assert.equal(totals.gaveUp, 0);
    assert.equal(totals.resentBytes, 0);
  });

  test('loss, reordering, duplication, damage, rate, queue, smaller MTU: every byte, no stall without a loss', () => {
    const totals = simulate('network', 1, 1200);
    assert.deepEqual(totals.failures, []);
    // What is lost three times out of ten, each way, may be lost for 100 s (RFC 9293 §3.8.3), but not often.
    assert.ok(totals.gaveUp <= totals.seeds / 50, `${totals.gaveUp} of ${totals.seeds} gave up`);
    if (onlySeed >= 0) return;
    // Each of the link's vices is really met with.
    for (const vice of [
      'dropped',
      'queueDrops',
      'dipDrops',
      'damaged',
      'copied',
      'late',
      'mtuChanges',
    ] as const) {
      assert.ok(totals[vice] > 100, `${vice}: ${totals[vice]}`);
    }
  });

  test('losses of 0.1 to 30 %: little is sent without need', () => {
    const totals = simulate('lossy', 1, 800);
    assert.deepEqual(totals.failures, []);
    if (onlySeed >= 0) return;
    const share = totals.needlessBytes / totals.sentBytes;
    assert.ok(share < 0.025, `${(100 * share).toFixed(2)} % sent again although it had arrived`);
  });

  test('against a peer that shares no code with us and has every bad habit: every byte, both ways', () => {
    for (let seed = 1; seed <= 150; seed++) {
      if (onlySeed >= 0 && seed !== onlySeed) continue;
      try {
        new ScriptedPeer(seed).run();
      } catch (error) {
        throw new Error(`SIM_SEED=${seed} (scripted): ${(error as Error).message}`, { cause: error });
      }
    }
  });
});
