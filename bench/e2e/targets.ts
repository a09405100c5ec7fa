/** What tslirp is to reach beside its peers, and whether it did. The figures are the project's own goals. */
import type { Opponent, Results } from './results.ts';
import type { Cell, Metric } from './workload.ts';

/** One goal: a ratio to an opponent, or a limit for the figure itself. */
export interface Target {
  readonly cell: string;
  readonly metric: string;
  readonly opponent?: Opponent;
  /** Ratio or absolute figure; at least this for "higher is better" figures, else at most. */
  readonly bound: number;
}

/** How a target went. */
export interface Verdict {
  readonly target: Target;
  readonly title: string;
  readonly value: number | undefined;
  readonly met: boolean | undefined;
}

const BULK_STREAMS = [1, 8] as const;
const DIRECTIONS = ['up', 'down'] as const;

/** All goals. */
export const targets: readonly Target[] = [
  ...BULK_STREAMS.flatMap((streams): Target[] => [
    { cell: `bulk/up/1500/${streams}`, metric: 'throughput', opponent: 'slirp4netns', bound: 4 },
    { cell: `bulk/up/1500/${streams}`, metric: 'throughput', opponent: 'pasta', bound: 2 },
    { cell: `bulk/down/1500/${streams}`, metric: 'throughput', opponent: 'better peer', bound: 3 },
    { cell: `bulk/up/65520/${streams}`, metric: 'throughput', opponent: 'better peer', bound: 1.2 },
    { cell: `bulk/down/65520/${streams}`, metric: 'throughput', opponent: 'better peer', bound: 1.2 },
    { cell: `bulk/up/1500/${streams}`, metric: 'throughput', opponent: 'veth', bound: 0.6 },
    { cell: `bulk/down/1500/${streams}`, metric: 'throughput', opponent: 'veth', bound: 0.6 },
    { cell: `bulk/up/1500/${streams}`, metric: 'cpu', opponent: 'better peer', bound: 0.5 },
    { cell: `bulk/down/1500/${streams}`, metric: 'cpu', opponent: 'better peer', bound: 0.5 },
  ]),
  { cell: 'latency/tcp/pinned', metric: 'p50', opponent: 'better peer', bound: 1.15 },
  { cell: 'latency/udp/pinned', metric: 'p50', opponent: 'better peer', bound: 1.15 },
  { cell: 'connects/1/pinned', metric: 'rate', opponent: 'better peer', bound: 1 },
  { cell: 'connects/64/pinned', metric: 'rate', opponent: 'better peer', bound: 1 },
  { cell: 'cold/connects/1', metric: 'rate', opponent: 'better peer', bound: 0.8 },
  { cell: 'cold/connects/1/later', metric: 'rate', opponent: 'better peer', bound: 0.8 },
  { cell: 'cold/connects/64', metric: 'rate', opponent: 'better peer', bound: 1 },
  { cell: 'cold/connects/64/later', metric: 'rate', opponent: 'better peer', bound: 1 },
  ...(['tcp', 'connect', 'udp', 'ping', 'dns'] as const).flatMap((kind): Target[] => [
    { cell: `sparse/${kind}`, metric: 'first', bound: 1000 },
    { cell: `sparse/${kind}`, metric: 'p50at100', opponent: 'better peer', bound: 1.2 },
    { cell: `sparse/${kind}`, metric: 'p50at10', opponent: 'better peer', bound: 1.2 },
  ]),
  ...DIRECTIONS.flatMap((direction) =>
    [64, 1400].map(
      (size): Target => ({
        cell: `datagrams/${direction}/${size}`,
        metric: 'rate',
        opponent: 'better peer',
        bound: 1.1,
      }),
    ),
  ),
  ...['1/pinned', '16', '256', 'fresh/pinned'].flatMap((name): Target[] => [
    { cell: `dns/${name}`, metric: 'rate', opponent: 'better peer', bound: 1 },
    { cell: `dns/${name}`, metric: 'unanswered', bound: 0 },
  ]),
  ...(['in', 'out'] as const).flatMap((way): Target[] => [
    { cell: `forward/${way}/1500`, metric: 'throughput', opponent: 'slirp4netns', bound: 3 },
    { cell: `forward/${way}/65520`, metric: 'throughput', opponent: 'slirp4netns', bound: 1 },
  ]),
  { cell: 'api/1000', metric: 'loss', bound: 5 },
  { cell: 'footprint/start/slirp4netns', metric: 'ready', bound: 150 },
  { cell: 'footprint/connections', metric: 'opened2000', bound: 2000 },
  { cell: 'footprint/connections', metric: 'descriptors', bound: 0 },
  { cell: 'footprint/connections', metric: 'opened10000', bound: 10_000 },
  { cell: 'footprint/connections', metric: 'each10000', bound: 4 },
  { cell: 'footprint/idle', metric: 'cpu', bound: 1 },
];

/** Judge the targets that belong to `cells`; `met` is undefined where a figure is missing. */
export function judge(results: Results, cells: readonly Cell[]): Verdict[] {
  return targets.flatMap((target) => {
    const cell = cells.find((candidate) => candidate.id === target.cell);
    const metric = cell?.metrics.find((candidate) => candidate.id === target.metric);
    if (cell === undefined || metric === undefined) return [];
    const value =
      target.opponent === undefined
        ? results.summary(cell.id, metric.id, 'tslirp')?.median
        : facedAll(results, cell, target.opponent)
          ? results.ratio(cell, metric, target.opponent)
          : undefined;
    const met =
      value === undefined
        ? undefined
        : metric.better === 'higher'
          ? value >= target.bound
          : value <= target.bound;
    return [{ target, title: describe(cell, metric, target), value, met }];
  });
}

/** The better peer is only known when both had their turn (one may have failed: a stall is its result). */
function facedAll(results: Results, cell: Cell, opponent: Opponent): boolean {
  const needed = opponent === 'better peer' ? ['slirp4netns', 'pasta'] : [opponent];
  return needed.every((name) =>
    results.samples.some((sample) => sample.cell === cell.id && sample.contender === name),
  );
}

function describe(cell: Cell, metric: Metric, target: Target): string {
  const figure = `${cell.title}: ${metric.title}`;
  const comparison = metric.better === 'higher' ? 'at least' : 'at most';
  if (target.opponent !== undefined) return `${figure} ${comparison} ${target.bound}× ${target.opponent}`;
  return `${figure} ${comparison} ${target.bound}${metric.unit === '' ? '' : ` ${metric.unit}`}`;
}
