/** The results as Markdown tables: one table per heading, one row per figure, then the targets. */
import { cpus, release } from 'node:os';
import type { ContenderName } from './contenders.ts';
import type { Opponent, Results } from './results.ts';
import { judge } from './targets.ts';
import type { Cell, Metric } from './workload.ts';

const NONE = '–';

/** Everything that is printed at the end. */
export function report(
  results: Results,
  cells: readonly Cell[],
  contenders: readonly ContenderName[],
): string {
  const parts = [machine()];
  for (const heading of new Set(cells.map((cell) => cell.table))) {
    const rows = cells
      .filter((cell) => cell.table === heading)
      .flatMap((cell) => cell.metrics.map((metric) => row(results, cell, metric, contenders)));
    parts.push(`### ${heading}\n\n${table(header(contenders), rows)}`);
  }
  const failed = failures(results, cells, contenders);
  if (failed.length > 0) {
    parts.push(`### Samples without a figure\n\n${failed.map((line) => `- ${line}`).join('\n')}`);
  }
  if (contenders.includes('tslirp')) parts.push(targetTable(results, cells));
  return `${parts.join('\n\n')}\n`;
}

function machine(): string {
  const processors = cpus();
  return (
    `Linux ${release()}, ${processors.length} × ${processors[0]?.model.trim() ?? 'unknown CPU'}, ` +
    `Node ${process.versions.node}. Median (min–max) over the rounds; ratios are tslirp ÷ the other, of medians.`
  );
}

function opponents(contenders: readonly ContenderName[]): Opponent[] {
  if (!contenders.includes('tslirp')) return [];
  const others = contenders.filter((name) => name !== 'tslirp');
  const both = others.includes('slirp4netns') && others.includes('pasta');
  return both ? [...others, 'better peer'] : others;
}

function header(contenders: readonly ContenderName[]): string[] {
  return ['', 'unit', ...contenders, ...opponents(contenders).map((name) => `÷ ${name}`), 'rounds'];
}

function row(results: Results, cell: Cell, metric: Metric, contenders: readonly ContenderName[]): string[] {
  const summaries = contenders.map((name) => results.summary(cell.id, metric.id, name));
  const values = summaries.map((summary) => {
    if (summary === undefined) return NONE;
    const [middle, low, high] = [summary.median, summary.min, summary.max].map((n) =>
      number(n, metric.digits),
    );
    return summary.rounds === 1 ? String(middle) : `${middle} (${low}–${high})`;
  });
  const ratios = opponents(contenders).map((name) => {
    const ratio = results.ratio(cell, metric, name);
    return ratio === undefined ? NONE : number(ratio, 2);
  });
  const arrow = metric.better === 'higher' ? '↑' : '↓';
  const counts = summaries.flatMap((summary) => (summary === undefined ? [] : [summary.rounds]));
  const least = counts.length === 0 ? 0 : Math.min(...counts);
  const most = counts.length === 0 ? 0 : Math.max(...counts);
  return [
    `${cell.title}: ${metric.title} ${arrow}`,
    metric.unit,
    ...values,
    ...ratios,
    least === most ? String(least) : `${least}–${most}`,
  ];
}

function targetTable(results: Results, cells: readonly Cell[]): string {
  const verdicts = judge(results, cells);
  const rows = verdicts.map(({ title, value, met }) => [
    title,
    value === undefined ? NONE : number(value, 2),
    met === undefined ? 'not measured' : met ? 'PASS' : 'FAIL',
  ]);
  const met = verdicts.filter((verdict) => verdict.met === true).length;
  return `### Targets: ${met} of ${verdicts.length} met\n\n${table(['target', 'result', ''], rows)}`;
}

function failures(results: Results, cells: readonly Cell[], contenders: readonly ContenderName[]): string[] {
  return cells.flatMap((cell) =>
    contenders.flatMap((contender) => {
      const count = results.failures(cell.id, contender);
      if (count === 0) return [];
      const last = results.samples.findLast(
        (sample) => sample.cell === cell.id && sample.contender === contender && sample.error !== undefined,
      );
      return [`${cell.id}, ${contender}: ${count} failed (${last?.error?.split('\n')[0] ?? ''})`];
    }),
  );
}

function number(value: number, digits: number): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(3, title.length, ...rows.map((cells) => cells[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => pad(cell, widths[column] ?? 0, column)).join(' | ')} |`;
  const rule = widths.map((width, column) =>
    column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`,
  );
  return [line(head), `| ${rule.join(' | ')} |`, ...rows.map(line)].join('\n');
}

function pad(text: string, width: number, column: number): string {
  return column === 0 ? text.padEnd(width) : text.padStart(width);
}
