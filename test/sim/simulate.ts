/** Runs seeds, adds up what came of them, and says which one failed. */
import { type PairOptions, type PairResult, runPair } from '../support/pair.ts';
import { choices, drawClean, drawLossy, drawNetwork, isFaultless, onlySeed } from './scenario.ts';

/** What is added up over all seeds. */
type Count = Exclude<keyof PairResult, 'elapsedMs' | 'longestIdleMs' | 'gaveUp' | 'reset'>;

const counts: readonly Count[] = [
  'packets',
  'dropped',
  'queueDrops',
  'dipDrops',
  'damaged',
  'copied',
  'late',
  'mtuChanges',
  'sentBytes',
  'resentBytes',
  'needlessBytes',
  'timeouts',
  'stalls',
];

export interface Totals extends Record<Count, number> {
  seeds: number;
  /** Simulated time. */
  hours: number;
  gaveUp: number;
  resets: number;
  /** Seeds whose link has no fault, and bytes that were sent again there (but for window probes). */
  faultless: number;
  faultlessResentBytes: number;
  /** What went wrong, the first few of them, each with the seed to replay. */
  failed: number;
  failures: string[];
}

const FAILURES_KEPT = 10;

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

/**
 * Run `count` seeds from `first` on, or only the one asked for, whatever it is. A seed fails when a byte is wrong or
 * missing, when somebody waits for a timer although nothing was lost, or when something is sent again on a link that did
 * not give the least reason.
 */
export function simulate(kind: Kind, first: number, count: number): Totals {
  const totals: Totals = {
    ...(Object.fromEntries(counts.map((name) => [name, 0])) as Record<Count, number>),
    seeds: 0,
    hours: 0,
    gaveUp: 0,
    resets: 0,
    faultless: 0,
    faultlessResentBytes: 0,
    failed: 0,
    failures: [],
  };
  const [from, to] = onlySeed >= 0 ? [onlySeed, onlySeed + 1] : [first, first + count];
  for (let seed = from; seed < to; seed++) {
    const options = kind === 'clean' ? withPauses(drawClean(seed)) : draws[kind](seed);
    let failure = '';
    try {
      const result = runPair(options);
      for (const name of counts) totals[name] += result[name];
      totals.hours += result.elapsedMs / 3_600_000;
      if (result.gaveUp) totals.gaveUp++;
      if (result.reset) totals.resets++;
      if (result.stalls > 0) {
        failure = `idle for ${result.longestIdleMs} ms with work to do: ${JSON.stringify(options)}`;
      }
      if (isFaultless(options)) {
        totals.faultless++;
        totals.faultlessResentBytes += result.resentBytes;
        if (result.resentBytes > 0) {
          failure ||= `${result.resentBytes} bytes sent twice without need: ${JSON.stringify(options)}`;
        }
      }
    } catch (error) {
      failure = (error as Error).message;
    }
    totals.seeds++;
    if (failure === '') continue;
    totals.failed++;
    if (totals.failures.length < FAILURES_KEPT) {
      totals.failures.push(`SIM_SEED=${seed} (${kind}): ${failure}`);
    }
  }
  return totals;
}
