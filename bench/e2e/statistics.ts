/** The few statistics that the tables need. */

/** What several rounds of one figure come to. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly rounds: number;
}

/** Median of `values` (the mean of the two middle ones of an even number); NaN when empty. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

/** Median, extremes and number of `values`, or undefined when there are none. */
export function summarise(values: readonly number[]): Summary | undefined {
  const usable = values.filter((value) => Number.isFinite(value));
  if (usable.length === 0) return undefined;
  return {
    median: median(usable),
    min: Math.min(...usable),
    max: Math.max(...usable),
    rounds: usable.length,
  };
}

/** `items` beginning with the one at `by` (cyclic): the order of contenders in round `by`. */
export function rotate<T>(items: readonly T[], by: number): T[] {
  const from = by % Math.max(1, items.length);
  return [...items.slice(from), ...items.slice(0, from)];
}
