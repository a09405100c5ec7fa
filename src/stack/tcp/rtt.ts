/**
 * Round-trip time and retransmission timeout (RFC 6298). All times in milliseconds.
 *
 * Deviation: the minimum is 200 ms instead of one second (§2.4), because the guest is on the same machine. As in Linux
 * it is a minimum of the variance term: on a path of a steady 400 ms the variance decays to nothing, and the timeout
 * would leave no room for a delayed acknowledgment.
 */
export const RTO_INITIAL_MS = 1000;
export const RTO_MIN_MS = 200;
export const RTO_MAX_MS = 60_000;
/** §5.7: data after a SYN that was retransmitted starts with this timeout. */
export const RTO_AFTER_SYN_LOSS_MS = 3000;

export class RttEstimator {
  /** Smoothed round-trip time; -1 before the first sample. */
  srttMs = -1;
  rttvarMs = 0;
  rtoMs: number = RTO_INITIAL_MS;
  /** The last sample; -1 before the first. */
  latestMs = -1;

  /** A round trip measured on a segment that was sent once, or by timestamp (§3, §4). */
  sample(rttMs: number): void {
    this.latestMs = rttMs;
    if (this.srttMs < 0) {
      this.srttMs = rttMs;
      this.rttvarMs = rttMs / 2;
    } else {
      this.rttvarMs = 0.75 * this.rttvarMs + 0.25 * Math.abs(this.srttMs - rttMs);
      this.srttMs = 0.875 * this.srttMs + 0.125 * rttMs;
    }
    this.#compute();
  }

  /** §5.5: the timer fired. */
  backOff(): void {
    this.rtoMs = Math.min(RTO_MAX_MS, this.rtoMs * 2);
  }

  /** New data was acknowledged without a sample: undo the back-off by what the estimate says. */
  resetBackOff(): void {
    if (this.srttMs < 0) return;
    this.#compute();
  }

  #compute(): void {
    this.rtoMs = Math.min(RTO_MAX_MS, this.srttMs + Math.max(RTO_MIN_MS, 4 * this.rttvarMs));
  }
}
