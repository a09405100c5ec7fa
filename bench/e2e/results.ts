/** The samples of a run and what they come to: medians per contender, ratios between contenders. */
import type { ContenderName } from './contenders.ts';
import { type Summary, summarise } from './statistics.ts';
import type { Cell, Figures, Metric } from './workload.ts';

/** One measurement of one cell with one contender. */
export interface Sample {
  readonly cell: string;
  readonly contender: ContenderName;
  /** Counted from 0. */
  readonly round: number;
  /** Whole duration with set-up, in ms. */
  readonly tookMs: number;
  readonly figures: Figures;
  /** Why there are no figures. */
  readonly error?: string;
}

/** Whom a ratio is to: one contender, or the better of the two user-space peers. */
export type Opponent = Exclude<ContenderName, 'tslirp'> | 'better peer';

/** All samples so far. */
export class Results {
  readonly samples: Sample[] = [];

  /** Median and extremes of a figure; undefined when nothing was measured. */
  summary(cell: string, metric: string, contender: ContenderName): Summary | undefined {
    const values = this.samples
      .filter((sample) => sample.cell === cell && sample.contender === contender)
      .map((sample) => sample.figures[metric] ?? Number.NaN);
    return summarise(values);
  }

  /** Median of tslirp divided by that of `opponent`; undefined when one is missing. */
  ratio(cell: Cell, metric: Metric, opponent: Opponent): number | undefined {
    const ours = this.summary(cell.id, metric.id, 'tslirp')?.median;
    const theirs =
      opponent === 'better peer'
        ? this.betterPeer(cell, metric)
        : this.summary(cell.id, metric.id, opponent)?.median;
    if (ours === undefined || theirs === undefined || theirs === 0) return undefined;
    return ours / theirs;
  }

  /** Median of the better of slirp4netns and pasta among those measured. */
  betterPeer(cell: Cell, metric: Metric): number | undefined {
    const peers = (['slirp4netns', 'pasta'] as const)
      .map((name) => this.summary(cell.id, metric.id, name)?.median)
      .filter((value) => value !== undefined);
    if (peers.length === 0) return undefined;
    return metric.better === 'higher' ? Math.max(...peers) : Math.min(...peers);
  }

  /** How many samples of `cell` with `contender` failed. */
  failures(cell: string, contender: ContenderName): number {
    return this.samples.filter(
      (sample) => sample.cell === cell && sample.contender === contender && sample.error !== undefined,
    ).length;
  }
}
