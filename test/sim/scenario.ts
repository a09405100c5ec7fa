/** What a seed means: a link, two ends and what they have to say to each other, all drawn at random. */
import type { PairOptions } from '../support/pair.ts';
import { seededRng } from '../support/seeded-rng.ts';

export type Choose = <T>(...values: T[]) => T;

export function choices(seed: number): Choose {
  const rng = seededRng(seed ^ 0x5bd1e995);
  return (...values) => values[rng.u32() % values.length] as (typeof values)[number];
}

/** `SIM_SEED` of the environment: the only seed to run, or -1. */
export const onlySeed: number = Number(process.env['SIM_SEED'] ?? -1);

const limits = [1500, 2048, 4096, 5000, 16384, 65536, 262_144, 1 << 20];

/** A link that does nothing wrong, with ends of every kind. */
export function drawClean(seed: number): PairOptions {
  const choose = choices(seed);
  const nearWrap = choose(0, 0xffffff00, 0xfffffffe, 0x7fffff00, 12345);
  const options: PairOptions = {
    seed,
    isV4: choose(true, false),
    mtu: choose(576, 1280, 1500, 9000, 65520),
    loss: 0,
    duplication: 0,
    reorder: 0,
    corruption: 0,
    delayMs: choose(0, 0, 0.1, 1, 20, 200),
    jitterMs: 0,
    rate: 0,
    queueBytes: 0,
    dipEveryMs: 0,
    dipForMs: 0,
    dipMtu: 0,
    mtuEveryMs: 0,
    mtus: [],
    receiveLimit: [choose(...limits), choose(...limits)],
    sendLimit: choose(2000, 4096, 16384, 262144, 1 << 20),
    outOfOrderRanges: 128,
    superSegments: choose(true, false),
    linkCuts: choose(true, false),
    congestion: choose('none', 'newReno', 'cubic'),
    sack: choose(true, true, false),
    timestamps: choose(true, true, false),
    windowScale: choose(true, true, false),
    bytes: [choose(0, 1, 5000, 100_000, 300_000), choose(0, 1, 5000, 100_000, 300_000)],
    readerPauseMs: [0, 0],
    readerChunk: 1,
    resetAfter: [-1, -1],
    pages: 1024,
    initialSeq: [nearWrap, choose(nearWrap, 0xffff0000, 1)],
  };
  // Changed by whoever administers the link, under the eyes of both ends: no reason to lose anything.
  options.mtuEveryMs = choose(0, 0, 0, 5, 30, 700);
  if (options.mtuEveryMs > 0) options.mtus = [choose(300, 576, 1280), choose(options.mtu, 1500, 65520)];
  return options;
}

/** Nothing about this link excuses a byte that is sent twice. */
export function isFaultless(options: PairOptions): boolean {
  const { loss, duplication, reorder, corruption, rate, dipEveryMs } = options;
  return loss + duplication + reorder + corruption + rate + dipEveryMs === 0;
}

/** A network: delay, a rate with a queue, losses, another order, copies, damage, times with a smaller MTU. */
export function drawNetwork(seed: number): PairOptions {
  const options = drawClean(seed);
  const choose = choices(seed ^ 0x2545f491);
  const bad = choose(true, true, true, false);
  options.delayMs = choose(0, 0.1, 1, 5, 20, 100, 250, 500);
  options.jitterMs = choose(1, 10, 50);
  if (bad) {
    options.loss = choose(0, 0.001, 0.01, 0.05, 0.15, 0.3);
    options.reorder = choose(0, 0, 0.01, 0.1, 0.5);
    options.duplication = choose(0, 0, 0.01, 0.2);
    options.corruption = choose(0, 0, 0.01, 0.05);
  }
  options.bytes = [choose(0, 1, 3000, 20_000, 60_000), choose(0, 1, 3000, 20_000)];
  options.readerPauseMs = [choose(0, 0, 0, 20, 300), choose(0, 0, 0, 20, 300)];
  options.readerChunk = choose(500, 5000, 50_000);
  // Congestion control is for links with a rate, and the other way round.
  if (options.congestion !== 'none') {
    options.rate = choose(0, 12, 125, 1250);
    options.queueBytes = choose(1.5, 3, 10) * options.mtu;
    options.superSegments = false;
  }
  if (choose(true, false, false, false)) {
    options.dipEveryMs = choose(977, 3100);
    options.dipForMs = choose(50, 200);
    options.dipMtu = choose(300, 1000);
  }
  if (choose(true, false, false, false, false, false))
    options.resetAfter[choose(0, 1)] = choose(0, 1, 10_000);
  options.pages = choose(64, 1024);
  return options;
}

/** Losses between 0 and 30 % on a link that is long enough for bytes to be in flight, and nothing else. */
export function drawLossy(seed: number): PairOptions {
  const options = drawClean(seed);
  const choose = choices(seed ^ 0x71374491);
  options.mtu = choose(576, 1500);
  options.loss = choose(0.001, 0.01, 0.03, 0.1, 0.2, 0.3);
  options.delayMs = choose(1, 10, 50);
  options.rate = choose(125, 1250);
  options.queueBytes = choose(12, 200) * options.mtu;
  options.superSegments = false;
  options.congestion = choose('newReno', 'cubic');
  options.sack = true;
  options.timestamps = true;
  options.windowScale = true;
  options.receiveLimit = [1 << 20, 1 << 20];
  options.sendLimit = 1 << 20;
  options.bytes = [choose(20_000, 60_000, 150_000), choose(0, 1000)];
  return options;
}
