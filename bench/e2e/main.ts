/**
 * tslirp side by side with slirp4netns, pasta and a veth pair. Run as root; see docs/benchmarks.md.
 *
 * Every sample has its own namespaces and its own stack; within a round the contenders take turns, and each round begins
 * with another one, so that a slow minute of the machine hits all alike.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { CONTENDER_NAMES, type ContenderName } from './contenders.ts';
import { killAll } from './processes.ts';
import { report } from './report.ts';
import { Results, type Sample } from './results.ts';
import { rotate } from './statistics.ts';
import { judge } from './targets.ts';
import type { Cell, Figures, Timing } from './workload.ts';
import { apiCells } from './workloads/api.ts';
import { bulkCells } from './workloads/bulk.ts';
import { coldCells } from './workloads/cold.ts';
import { connectCells } from './workloads/connects.ts';
import { datagramCells } from './workloads/datagrams.ts';
import { dnsCells } from './workloads/dns.ts';
import { footprintCells } from './workloads/footprint.ts';
import { forwardCells } from './workloads/forward.ts';
import { latencyCells } from './workloads/latency.ts';
import { loadCells } from './workloads/load.ts';
import { sparseCells } from './workloads/sparse.ts';

const USAGE = `usage: node dist/bench/e2e/main.js [options]        (as root)
  --rounds N          rounds of every sample (default 3)
  --only NAME,…       these cells or groups of cells, e.g. bulk,latency/tcp
  --contenders NAME,… some of ${CONTENDER_NAMES.join(', ')} (default all)
  --seconds N         measured time of a sample (default 3)
  --json FILE         also write every sample to FILE
  --quick             one round of one-second samples: a smoke test
  --list              print the names of the cells
`;

interface Options {
  readonly rounds: number;
  readonly cells: readonly Cell[];
  readonly contenders: readonly ContenderName[];
  readonly timing: Timing;
  readonly json: string | undefined;
  readonly list: boolean;
}

class UsageError extends Error {}

const ALL_CELLS: readonly Cell[] = [
  ...bulkCells,
  ...latencyCells,
  ...connectCells,
  ...datagramCells,
  ...dnsCells,
  ...forwardCells,
  ...loadCells,
  ...coldCells,
  ...sparseCells,
  ...apiCells,
  ...footprintCells,
];

function count(text: string | undefined, name: string, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`--${name}: a whole number from 1, not "${text}"`);
  return value;
}

/** True when `name` is the cell's name or a leading part of it, in whole steps. */
function belongs(cell: Cell, name: string): boolean {
  return cell.id === name || cell.id.startsWith(`${name}/`);
}

function parse(): Options {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string' },
      only: { type: 'string' },
      contenders: { type: 'string' },
      seconds: { type: 'string' },
      json: { type: 'string' },
      quick: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) throw new UsageError('');
  const quick = values.quick;
  const wanted = values.only?.split(',');
  for (const name of wanted ?? []) {
    if (!ALL_CELLS.some((cell) => belongs(cell, name))) throw new UsageError(`--only: no cell "${name}"`);
  }
  for (const name of values.contenders?.split(',') ?? []) {
    if (!CONTENDER_NAMES.some((known) => known === name)) {
      throw new UsageError(`--contenders: "${name}" is none of ${CONTENDER_NAMES.join(', ')}`);
    }
  }
  const named = values.contenders?.split(',');
  return {
    rounds: count(values.rounds, 'rounds', quick ? 1 : 3),
    cells: ALL_CELLS.filter((cell) => wanted === undefined || wanted.some((name) => belongs(cell, name))),
    contenders: CONTENDER_NAMES.filter((name) => named === undefined || named.includes(name)),
    timing: { warmUpMs: 1000, durationMs: count(values.seconds, 'seconds', quick ? 1 : 3) * 1000, quick },
    json: values.json,
    list: values.list,
  };
}

async function measure(cell: Cell, contender: ContenderName, round: number, timing: Timing): Promise<Sample> {
  const from = performance.now();
  const base = { cell: cell.id, contender, round };
  try {
    const figures = await cell.measure(contender, timing);
    return { ...base, tookMs: performance.now() - from, figures };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { ...base, tookMs: performance.now() - from, figures: {}, error: message };
  }
}

function progress(sample: Sample, done: number, total: number): void {
  const text = sample.error === undefined ? brief(sample.figures) : `FAILED: ${sample.error.split('\n')[0]}`;
  const seconds = (sample.tookMs / 1000).toFixed(1);
  process.stderr.write(`[${done}/${total}] ${sample.cell} ${sample.contender} (${seconds} s): ${text}\n`);
}

function brief(figures: Figures): string {
  return Object.entries(figures)
    .map(([name, value]) => `${name}=${Number(value.toPrecision(4))}`)
    .join(' ');
}

async function main(): Promise<number> {
  const options = parse();
  if (options.list) {
    process.stdout.write(`${options.cells.map((cell) => cell.id).join('\n')}\n`);
    return 0;
  }
  if (process.getuid?.() !== 0) throw new UsageError('must be run as root: it makes network namespaces');
  const { cells, contenders, rounds, timing } = options;
  const results = new Results();
  const finish = (): void => {
    if (options.json !== undefined) {
      const content = { rounds, timing, samples: results.samples, verdicts: judge(results, cells) };
      writeFileSync(options.json, `${JSON.stringify(content, undefined, 1)}\n`);
    }
    process.stdout.write(report(results, cells, contenders));
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      // What was measured so far is still worth printing.
      killAll();
      finish();
      process.exit(130);
    });
  }
  const turns = Array.from({ length: rounds }).flatMap((_, round) =>
    cells.flatMap((cell, index) =>
      rotate(
        contenders.filter((name) => cell.without?.includes(name) !== true),
        round + index,
      ).map((contender) => ({ cell, contender, round })),
    ),
  );
  for (const [index, { cell, contender, round }] of turns.entries()) {
    const sample = await measure(cell, contender, round, timing);
    results.samples.push(sample);
    progress(sample, index + 1, turns.length);
  }
  finish();
  const broken = results.samples.some(
    (sample) => sample.contender === 'tslirp' && sample.error !== undefined,
  );
  return broken ? 1 : 0;
}

process.on('exit', killAll);
try {
  process.exitCode = await main();
} catch (error) {
  const usage =
    error instanceof UsageError || (error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS');
  process.stderr.write(usage ? `${(error as Error).message}\n${USAGE}` : `${(error as Error).stack}\n`);
  process.exitCode = usage ? 2 : 1;
}
