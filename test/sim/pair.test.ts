/**
 * Two connections over a simulated bad link (test/support/pair.ts): whatever the link does, every byte arrives, both
 * ends close, nothing leaks, and nobody waits for a timer when nothing was lost. Set SIM_SEED to run one case again.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type PairOptions, type PairResult, runPair, STALL_MS } from '../support/pair.ts';
import { choices, drawClean, onlySeed } from './scenario.ts';

function runSeeds(first: number, count: number, check: (o: PairOptions) => void): void {
  for (let seed = first; seed < first + count; seed++) {
    if (onlySeed >= 0 && seed !== onlySeed) continue;
    const options = drawClean(seed);
    try {
      check(options);
    } catch (error) {
      throw new Error(`SIM_SEED=${seed}: ${(error as Error).message}`);
    }
  }
}

/** Nothing was lost: no retransmission timer (200 ms at least) may be what brings the transfer forward. */
function assertNoStall(result: PairResult, options: PairOptions): void {
  assert.ok(
    result.longestIdleMs < STALL_MS,
    `idle for ${result.longestIdleMs} ms with work to do: ${JSON.stringify(options)}`,
  );
}

describe('two connections over a link', () => {
  test('a clean link: no stall, nothing sent twice', () => {
    runSeeds(1000, 200, (options) => {
      const result = runPair(options);
      assertNoStall(result, options);
      assert.equal(result.resentBytes, 0, `bytes were sent twice: ${JSON.stringify(options)}`);
    });
  });

  test('slow readers: the window closes and opens, no stall', () => {
    runSeeds(2000, 200, (options) => {
      const choose = choices(options.seed + 1);
      options.readerPauseMs = [choose(0, 1, 10, 300, 1000), choose(1, 10, 300, 1000)];
      options.readerChunk = choose(1000, 5000, 100_000);
      options.bytes = [choose(0, 5000, 60_000), choose(0, 5000, 60_000)];
      const result = runPair(options);
      assertNoStall(result, options);
      assert.equal(result.resentBytes, 0, `bytes were sent twice: ${JSON.stringify(options)}`);
    });
  });

  test('reordering and duplication without loss', () => {
    runSeeds(3000, 150, (options) => {
      const choose = choices(options.seed + 1);
      options.reorder = choose(0.01, 0.1, 0.5);
      options.duplication = choose(0, 0.01, 0.2);
      options.jitterMs = choose(1, 10, 50);
      options.bytes = [choose(0, 5000, 100_000), choose(0, 5000, 100_000)];
      runPair(options);
    });
  });

  test('loss up to 20 %, with everything else', () => {
    let gaveUp = 0;
    runSeeds(4000, 400, (options) => {
      const choose = choices(options.seed + 1);
      options.loss = choose(0.005, 0.02, 0.1, 0.2);
      options.reorder = choose(0, 0.05, 0.3);
      options.duplication = choose(0, 0.05);
      options.jitterMs = choose(1, 10, 50);
      options.bytes = [choose(0, 5000, 60_000), choose(0, 5000, 60_000)];
      options.readerPauseMs = [choose(0, 0, 50), choose(0, 0, 50)];
      options.readerChunk = choose(1000, 10_000);
      if (runPair(options).gaveUp) gaveUp++;
    });
    // One packet in five lost, each way: for 100 s nothing may get through (RFC 9293 §3.8.3), but not often.
    assert.ok(gaveUp <= 4, `${gaveUp} gave up`);
  });

  test('little packet memory: slower, never stuck', () => {
    runSeeds(5000, 60, (options) => {
      const choose = choices(options.seed + 1);
      options.pages = choose(40, 64);
      options.loss = choose(0, 0.02);
      options.readerPauseMs = [choose(0, 10), choose(0, 10)];
      options.readerChunk = 10_000;
      options.bytes = [choose(5000, 200_000), choose(5000, 200_000)];
      runPair(options);
    });
  });
});
