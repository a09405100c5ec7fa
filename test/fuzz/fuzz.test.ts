/** Every kept input of every fuzz target, and a short random run with a fixed seed. `make fuzz` is the long one. */
import { describe, test } from 'node:test';
import { corpus, runRandom, targets } from './targets.ts';

const RUNS = 150;
const LIMIT_MS = 5000;

describe('fuzz targets', () => {
  for (const target of targets) {
    test(`${target.name}: the corpus`, async () => {
      for (const input of corpus(target)) await target.run(input);
    });
    test(`${target.name}: ${RUNS} random inputs`, async () => {
      await runRandom(target, 20_261_125, { runs: RUNS, ms: LIMIT_MS });
    });
  }
});
