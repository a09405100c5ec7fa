/** What the guest's datagrams of one batch go into. */
import type { Target } from '../target/target.ts';
import type { DatagramBatch } from './batch.ts';

export interface DatagramSink {
  /** Send the datagrams of `batch` to `target`. */
  send(batch: DatagramBatch, target: Target, ttl: number): void;
}
