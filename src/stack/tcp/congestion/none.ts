/**
 * No congestion control: for a TAP on the same machine, where the guest's receive window is the only limit there is and
 * the "network" is a function call. Shared by all connections: it has no state.
 */
import type { CongestionControl } from './congestion.ts';

export const noCongestionControl: CongestionControl = {
  cwnd: Number.POSITIVE_INFINITY,
  ssthresh: Number.POSITIVE_INFINITY,
  onAck(): void {},
  onLoss(): void {},
  onTimeout(): void {},
  onRecovered(): void {},
  undo(): void {},
  onIdle(): void {},
};
