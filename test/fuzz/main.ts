/**
 * Fuzzing for as long as asked: FUZZ_SECONDS (60), FUZZ_SEED (random, printed), FUZZ_TARGET (all, in turns). Ends with 1 at
 * the first input that breaks an invariant; it is printed small, to be kept in corpus/TARGET.NAME.json with its fix.
 */
import { runRandom, targets } from './targets.ts';

const seconds = Number(process.env['FUZZ_SECONDS'] ?? 60);
const seed = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const only = process.env['FUZZ_TARGET'];
const chosen = targets.filter((t) => only === undefined || t.name === only);
/** A turn of one target. */
const TURN_MS = 5000;

if (!(seconds > 0) || chosen.length === 0) {
  process.stderr.write(
    `fuzz: FUZZ_SECONDS must be above 0, FUZZ_TARGET one of ${targets.map((t) => t.name).join(', ')}\n`,
  );
  process.exit(2);
}
process.stdout.write(`fuzz: seed ${seed}, ${seconds} s, ${chosen.map((t) => t.name).join(' ')}\n`);
const end = performance.now() + seconds * 1000;
const runs = new Map<string, number>();
for (let turn = 0; performance.now() < end; turn++) {
  const target = chosen[turn % chosen.length];
  if (target === undefined) break;
  const ms = Math.min(TURN_MS, seconds * 1000, Math.max(1, end - performance.now()));
  try {
    const n = await runRandom(target, seed + turn, { runs: 1_000_000, ms });
    runs.set(target.name, (runs.get(target.name) ?? 0) + n);
  } catch (error) {
    process.stderr.write(`fuzz: ${target.name}, seed ${seed + turn}\n${String((error as Error).message)}\n`);
    process.exit(1);
  }
}
let total = 0;
for (const [name, n] of runs) {
  total += n;
  process.stdout.write(`${name.padEnd(14)} ${n} runs\n`);
}
process.stdout.write(
  `fuzz: ${total} runs, ${Math.round(process.memoryUsage().rss / 1024 / 1024)} MiB, no failure\n`,
);
