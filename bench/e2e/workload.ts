/** What a workload is: cells (one situation each) that yield named figures for one contender. */
import type { ContenderName } from './contenders.ts';

/** One figure of a cell. */
export interface Metric {
  readonly id: string;
  readonly title: string;
  readonly unit: string;
  readonly better: 'higher' | 'lower';
  /** Decimals in the table. */
  readonly digits: number;
}

/** How long to measure. */
export interface Timing {
  /** Unmeasured time of the same workload before, in ms. */
  readonly warmUpMs: number;
  /** Measured time of one sample, in ms. */
  readonly durationMs: number;
  /** A smoke test: fewer steps and repetitions everywhere. */
  readonly quick: boolean;
}

/** The figures of one sample, by metric id; what a contender cannot have is left out. */
export type Figures = Record<string, number>;

/** One situation that is measured. */
export interface Cell {
  /** Stable name, `workload/…`. */
  readonly id: string;
  /** Heading of the table it belongs to. */
  readonly table: string;
  /** Its name in the table. */
  readonly title: string;
  readonly metrics: readonly Metric[];
  /** Contenders that it makes no sense for. */
  readonly without?: readonly ContenderName[];
  measure(contender: ContenderName, timing: Timing): Promise<Figures>;
}
