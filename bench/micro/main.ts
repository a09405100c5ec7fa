/**
 * Micro benchmarks of the packet path: nanoseconds and bytes allocated per call. Needs `node --expose-gc`.
 *
 * Allocation is the figure to watch: what is done for every packet allocates nothing. Times depend on the machine and on
 * what else it does; compare them only within one run. See docs/benchmarks.md.
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { CaseGroup } from './case.ts';
import { kept } from './case.ts';
import { checksumCases } from './checksum.ts';
import { forwardCases } from './forward.ts';
import { linkCases } from './link.ts';
import { lookupCases } from './lookup.ts';
import { allocationSites, hasGc, type Measurement, measureCase } from './measure.ts';
import { pathCases } from './path.ts';
import { policyCases } from './policy.ts';
import { queueCases } from './queue.ts';
import { machine, table } from './report.ts';
import { tcpCases } from './tcp.ts';
import { wireCases } from './wire.ts';
import { wireguardCases } from './wireguard.ts';

const USAGE = `usage: node --expose-gc dist/bench/micro/main.js [options]
  --only TEXT,…  cases whose group/name contains one of the texts
  --ms N         time spent on timing each case (default 80)
  --json FILE    also write the figures to FILE (- for standard output, instead of the table)
  --sites        for cases that allocate: which functions do
`;
const SITE_CALLS = 2000;

const builders: readonly (() => CaseGroup | Promise<CaseGroup>)[] = [
  wireCases,
  checksumCases,
  lookupCases,
  policyCases,
  queueCases,
  tcpCases,
  pathCases,
  linkCases,
  forwardCases,
  wireguardCases,
];

class UsageError extends Error {}

interface Options {
  readonly only: readonly string[];
  readonly budgetMs: number;
  readonly json: string;
  readonly sites: boolean;
}

function parse(): Options {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      ms: { type: 'string', default: '80' },
      json: { type: 'string', default: '' },
      sites: { type: 'boolean', default: false },
    },
  });
  const budgetMs = Number(values.ms);
  if (!(budgetMs > 0)) throw new UsageError(`--ms: a number above 0, not "${values.ms}"`);
  if (!hasGc()) throw new UsageError('allocations can only be counted with: node --expose-gc');
  return { only: values.only.split(','), budgetMs, json: values.json, sites: values.sites };
}

async function main(): Promise<void> {
  const options = parse();
  const quiet = options.json === '-';
  const results: Measurement[] = [];
  const sites: string[] = [];
  if (!quiet) console.log(`${machine()}\n`);
  for (const build of builders) {
    const group = await build();
    const measured: Measurement[] = [];
    for (const item of group.cases) {
      if (!options.only.some((text) => `${item.group}/${item.name}`.includes(text))) continue;
      const result = await measureCase(item, options.budgetMs);
      measured.push(result);
      if (!options.sites || result.bytes === 0) continue;
      sites.push(`${item.group}/${item.name}`);
      for (const site of allocationSites(item, SITE_CALLS)) {
        sites.push(`  ${site.bytes.toFixed(1).padStart(8)} B  ${site.where}`);
      }
    }
    group.close?.();
    if (!quiet && measured.length > 0) console.log(`${table(measured)}\n`);
    results.push(...measured);
  }
  if (sites.length > 0) console.log(`${sites.join('\n')}\n`);
  const document = `${JSON.stringify({ machine: machine(), cases: results, kept: kept() }, null, 2)}\n`;
  if (quiet) process.stdout.write(document);
  else if (options.json !== '') writeFileSync(options.json, document);
}

try {
  await main();
} catch (error) {
  const usage =
    error instanceof UsageError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
  if (!usage) throw error;
  console.error(`${(error as Error).message}\n${USAGE}`);
  process.exitCode = 2;
}
