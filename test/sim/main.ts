/**
 * `make sim SEEDS=n`: as many random connections over random links as one likes. The seeds begin at the number given as
 * second argument. A seed that fails is printed; `SIM_SEED=n` in the environment runs it alone.
 */
import { type Kind, simulate, type Totals } from './simulate.ts';

const seeds = Number(process.argv[2] ?? 3000);
const first = Number(process.argv[3] ?? 1);
if (!(Number.isInteger(seeds) && seeds > 0 && Number.isInteger(first))) {
  process.stderr.write('usage: main.js [SEEDS [FIRST]]\n');
  process.exit(2);
}

function percent(part: number, whole: number): string {
  return `${((100 * part) / Math.max(1, whole)).toFixed(3)} %`;
}

function line(kind: Kind, t: Totals, seconds: number): string {
  return (
    `${kind}: ${t.seeds} seeds in ${seconds.toFixed(1)} s, ${t.packets} packets, ${t.hours.toFixed(1)} h of their time; ` +
    `${t.stalls} stalls, ${t.timeouts} timeouts, sent again ${percent(t.resentBytes, t.sentBytes)}, ` +
    `needlessly ${percent(t.needlessBytes, t.sentBytes)}; ${t.resets} reset on purpose, ${t.gaveUp} given up\n`
  );
}

for (const kind of ['clean', 'network', 'lossy'] as const) {
  const start = performance.now();
  try {
    const totals = simulate(kind, first, Math.ceil(seeds / 3));
    process.stdout.write(line(kind, totals, (performance.now() - start) / 1000));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exitCode = 1;
  }
}
