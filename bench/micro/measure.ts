/**
 * Time by mitata; bytes by the heap's own account.
 *
 * Bytes are counted over rounds short enough that the young generation is not collected within one (a round with a
 * collection shows as a loss and is left out), and the median of the rounds counts: a round in which the compiler
 * finished a function in the background is an outlier. An allocation once in a hundred calls still shows.
 */
import { Session } from 'node:inspector';
import { getHeapStatistics } from 'node:v8';
import { measure } from 'mitata';
import type { Case } from './case.ts';

export interface Measurement {
  readonly group: string;
  readonly name: string;
  /** Nanoseconds per call. */
  readonly ns: { readonly p50: number; readonly p99: number; readonly min: number };
  /** Bytes allocated on the JavaScript heap per call. */
  readonly bytes: number;
}

/** A place that allocates. */
export interface Site {
  readonly bytes: number;
  readonly where: string;
}

const ROUNDS = 7;
/** Bytes a round may allocate: well below the smallest young generation (1 MiB). */
const ROUND_BYTES = 256 * 1024;
const ROUND_CALLS_MAX = 20_000;
const ROUND_CALLS_MIN = 64;
/** Enough for the optimising compiler to have seen everything; it works in the background, so in several goes. */
const WARM_UP_CALLS = 20_000;
const WARM_UP_MS = 40;
/** Below this a figure is the noise of the account itself. */
const RESOLUTION_BYTES = 0.05;

export function hasGc(): boolean {
  return typeof globalThis.gc === 'function';
}

/** @param budgetMs time to spend on the time of one case */
export async function measureCase(item: Case, budgetMs: number): Promise<Measurement> {
  const calls = item.calls ?? 1;
  warmUp(item);
  const stats = await measure(() => item.run(), { min_cpu_time: budgetMs * 1e6 });
  return {
    group: item.group,
    name: item.name,
    ns: { p50: stats.p50 / calls, p99: stats.p99 / calls, min: stats.min / calls },
    bytes: bytesPerRun(item) / calls,
  };
}

function warmUp(item: Case): void {
  const end = performance.now() + WARM_UP_MS;
  for (let i = 0; i < WARM_UP_CALLS && performance.now() < end; i++) item.run();
}

function bytesPerRun(item: Case): number {
  let runs = ROUND_CALLS_MIN;
  const estimate = Math.max(0, round(item, runs));
  runs = Math.max(ROUND_CALLS_MIN, Math.min(ROUND_CALLS_MAX, Math.floor(ROUND_BYTES / (estimate + 1))));
  const results: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    const bytes = round(item, runs);
    if (bytes >= 0) results.push(bytes);
  }
  if (results.length === 0) throw new Error(`${item.group}/${item.name}: the heap shrank in every round`);
  results.sort((a, b) => a - b);
  const median = results[results.length >> 1] as number;
  return median < RESOLUTION_BYTES ? 0 : median;
}

function round(item: Case, runs: number): number {
  globalThis.gc?.();
  // What asking costs is taken off: asked twice before, once behind.
  const first = getHeapStatistics().used_heap_size;
  const before = getHeapStatistics().used_heap_size;
  for (let i = 0; i < runs; i++) item.run();
  const after = getHeapStatistics().used_heap_size;
  return (after - before - (before - first)) / runs;
}

interface ProfileNode {
  callFrame: { functionName: string; url: string; lineNumber: number };
  selfSize: number;
  children: ProfileNode[];
}

/** Who allocates in `item`, by V8's sampling heap profiler: bytes per call by function, largest first. */
export function allocationSites(item: Case, runs: number): Site[] {
  const session = new Session();
  session.connect();
  const byPlace = new Map<string, number>();
  session.post('HeapProfiler.startSampling', {
    samplingInterval: 64,
    includeObjectsCollectedByMajorGC: true,
    includeObjectsCollectedByMinorGC: true,
  } as object);
  for (let i = 0; i < runs; i++) item.run();
  session.post('HeapProfiler.stopSampling', (error, result) => {
    if (error !== null) throw error;
    addNode(byPlace, result.profile.head as ProfileNode);
  });
  session.disconnect();
  const calls = runs * (item.calls ?? 1);
  return [...byPlace]
    .map(([where, bytes]) => ({ where, bytes: bytes / calls }))
    .filter((site) => site.bytes >= 0.5)
    .sort((a, b) => b.bytes - a.bytes);
}

function addNode(byPlace: Map<string, number>, node: ProfileNode): void {
  const { functionName, url, lineNumber } = node.callFrame;
  const file = url.replace(/^.*\/(src|bench)\//, '$1/').replace(/^file:\/\//, '');
  const where = `${functionName === '' ? '(anonymous)' : functionName} ${file}:${lineNumber + 1}`;
  if (node.selfSize > 0) byPlace.set(where, (byPlace.get(where) ?? 0) + node.selfSize);
  for (const child of node.children) addNode(byPlace, child);
}
