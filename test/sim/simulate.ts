/** Runs seeds, adds up what came of them, and says which one failed. */
import { type PairOptions, runPair } from '../support/pair.ts';
import { choices, drawClean, drawLossy, drawNetwork, onlySeed } from './scenario.ts';

export interface Totals {
  seeds: number;
  packets: number;
  /** Simulated time. */
  hours: number;
  sentBytes: number;
  resentBytes: number;
  /** Sent again although an earlier copy was not lost. */
  needlessBytes: number;
  timeouts: number;
  stalls: number;
  gaveUp: number;
  resets: number;
}

export type Kind = 'clean' | 'network' | 'lossy';

const draws: Record<Kind, (seed: number) => PairOptions> = {
  clean: drawClean,
  network: drawNetwork,
  lossy: drawLossy,
};

/** As `drawClean` alone never pauses its readers. */
function withPauses(options: PairOptions): PairOptions {
  const choose = choices(options.seed + 1);
  if (choose(true, false)) {
    options.readerPauseMs = [choose(0, 1, 10, 300), choose(1, 10, 300)];
    options.readerChunk = choose(1000, 5000, 100_000);
    options.bytes = [choose(0, 5000, 60_000), choose(0, 5000, 60_000)];
  }
  return options;
}

/** @throws an Error that begins with the seed to replay */
export function simulate(kind: Kind, first: number, count: number): Totals {
  const totals: Totals = {
    seeds: 0,
    packets: 0,
    hours: 0,
    sentBytes: 0,
    resentBytes: 0,
    needlessBytes: 0,
    timeouts: 0,
    stalls: 0,
    gaveUp: 0,
    resets: 0,
  };
  for (let seed = first; seed < first + count; seed++) {
    if (onlySeed >= 0 && seed !== onlySeed) continue;
    const options = kind === 'clean' ? withPauses(drawClean(seed)) : draws[kind](seed);
    try {
      const result = runPair(options);
      if (result.stalls > 0) {
        throw new Error(`idle for ${result.longestIdleMs} ms with work to do: ${JSON.stringify(options)}`);
      }
      totals.seeds++;
      totals.packets += result.packets;
      totals.hours += result.elapsedMs / 3_600_000;
      totals.sentBytes += result.sentBytes;
      totals.resentBytes += result.resentBytes;
      totals.needlessBytes += result.needlessBytes;
      totals.timeouts += result.timeouts;
      totals.stalls += result.stalls;
      if (result.gaveUp) totals.gaveUp++;
      if (result.reset) totals.resets++;
    } catch (error) {
      throw new Error(`SIM_SEED=${seed} (${kind}): ${(error as Error).message}`, { cause: error });
    }
  }
  return totals;
}
