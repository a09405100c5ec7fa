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

function lines(kind: Kind, t: Totals, seconds: number): string {
  return (
    `${kind}: ${t.seeds} seeds in ${seconds.toFixed(1)} s, ${t.packets} packets, ${t.hours.toFixed(1)} h of their time\n` +
    `  links: ${t.dropped} packets lost, of these ${t.queueDrops} by full queues and ${t.dipDrops} as too large; ` +
    `${t.damaged} damaged, ${t.copied} copied, ${t.late} late; MTU changed ${t.mtuChanges} times\n` +
    `  ends: ${t.timeouts} timeouts, sent again ${percent(t.resentBytes, t.sentBytes)}, ` +
    `needlessly ${percent(t.needlessBytes, t.sentBytes)}; ${t.resets} reset on purpose, ${t.gaveUp} given up\n`
  );
}

let ran = 0;
let stalls = 0;
let needlessBytes = 0;
let faultless = 0;
let failed = 0;
for (const kind of ['clean', 'network', 'lossy'] as const) {
  const start = performance.now();
  const totals = simulate(kind, first, Math.ceil(seeds / 3));
  ran += totals.seeds;
  stalls += totals.stalls;
  needlessBytes += totals.faultlessResentBytes;
  faultless += totals.faultless;
  failed += totals.failed;
  process.stdout.write(lines(kind, totals, (performance.now() - start) / 1000));
  for (const failure of totals.failures) process.stderr.write(`${failure}\n`);
}
process.stdout.write(
  `all: ${ran} seeds, ${stalls} stalls without a loss, ${needlessBytes} bytes sent again without need ` +
    `on ${faultless} links without a fault, ${failed} failed\n`,
);
if (failed > 0) process.exitCode = 1;
