/** NewReno: slow start and congestion avoidance (RFC 5681 §3.1, counted in bytes as RFC 3465), RFC 6928 initial window. */
import type { CongestionControl } from './congestion.ts';

export class NewReno implements CongestionControl {
  cwnd: number;
  ssthresh: number = Number.POSITIVE_INFINITY;
  readonly #mss: number;
  #ackedInAvoidance = 0;

  constructor(mss: number) {
    this.#mss = mss;
    // RFC 6928 §2.
    this.cwnd = Math.min(10 * mss, Math.max(2 * mss, 14600));
  }

  onAck(acked: number, flight: number): void {
    // A sender that does not fill its window learns nothing from an acknowledgment (RFC 7661's reason).
    if (flight < this.cwnd / 2) return;
    if (this.cwnd < this.ssthresh) {
      this.cwnd += Math.min(acked, 2 * this.#mss);
      return;
    }
    this.#ackedInAvoidance += acked;
    if (this.#ackedInAvoidance >= this.cwnd) {
      this.#ackedInAvoidance -= this.cwnd;
      this.cwnd += this.#mss;
    }
  }

  onLoss(flight: number): void {
    this.ssthresh = Math.max(flight / 2, 2 * this.#mss);
    this.cwnd = this.ssthresh;
    this.#ackedInAvoidance = 0;
  }

  onTimeout(flight: number): void {
    this.ssthresh = Math.max(flight / 2, 2 * this.#mss);
    this.cwnd = this.#mss;
    this.#ackedInAvoidance = 0;
  }

  onRecovered(): void {
    this.cwnd = Math.max(this.ssthresh, 2 * this.#mss);
  }
}
