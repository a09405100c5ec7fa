/** The figures as a table. */
import { cpus, release } from 'node:os';
import type { Measurement } from './measure.ts';

export function machine(): string {
  const processors = cpus();
  return (
    `Linux ${release()}, ${processors.length} × ${processors[0]?.model.trim() ?? 'unknown CPU'}, ` +
    `Node ${process.versions.node}, V8 ${process.versions.v8}`
  );
}

const COLUMNS = ['', 'ns (median)', 'ns (p99)', 'bytes allocated'];

/** A Markdown table per group. */
export function table(results: readonly Measurement[]): string {
  const width = Math.max(...results.map((result) => result.name.length));
  const parts: string[] = [];
  for (const group of new Set(results.map((result) => result.group))) {
    const rows = results.filter((result) => result.group === group);
    const lines = [
      line([group, ...COLUMNS.slice(1)], width),
      `|${'-'.repeat(width + 2)}|${`${'-'.repeat(16)}:|`.repeat(COLUMNS.length - 1)}`,
      ...rows.map((row) => line([row.name, time(row.ns.p50), time(row.ns.p99), bytes(row.bytes)], width)),
    ];
    parts.push(lines.join('\n'));
  }
  return parts.join('\n\n');
}

function line(cells: readonly string[], width: number): string {
  return `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(width) : cell.padStart(15))).join(' | ')} |`;
}

function time(ns: number): string {
  return ns < 100 ? ns.toFixed(1) : Math.round(ns).toString();
}

function bytes(value: number): string {
  if (value === 0) return '0';
  return value < 10 ? value.toFixed(1) : Math.round(value).toString();
}
