/** NewReno: slow start and congestion avoidance (RFC 5681 §3.1, counted in bytes as RFC 3465), RFC 6928 initial window. */
import { type CongestionControl, initialWindow } from './congestion.ts';

export class NewReno implements CongestionControl {
  cwnd: number;
  ssthresh: number = Number.POSITIVE_INFINITY;
  readonly #mss: number;
  #ackedInAvoidance = 0;
  #priorCwnd = 0;
  #priorSsthresh = 0;

  constructor(mss: number) {
    this.#mss = mss;
    this.cwnd = initialWindow(mss);
  }

  onAck(acked: number, limited: boolean): void {
    if (!limited) return;
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
    this.#remember();
    this.ssthresh = Math.max(flight / 2, 2 * this.#mss);
    this.cwnd = this.ssthresh;
    this.#ackedInAvoidance = 0;
  }

  onTimeout(flight: number, _nowMs: number, again: boolean): void {
    // RFC 5681 §3.1: a repeated timeout leaves ssthresh alone.
    if (!again) {
      this.#remember();
      this.ssthresh = Math.max(flight / 2, 2 * this.#mss);
    }
    this.cwnd = this.#mss;
    this.#ackedInAvoidance = 0;
  }

  onRecovered(): void {
    this.#ackedInAvoidance = 0;
  }

  undo(): void {
    this.cwnd = Math.max(this.cwnd, this.#priorCwnd);
    this.ssthresh = Math.max(this.ssthresh, this.#priorSsthresh);
  }

  onIdle(): void {
    this.cwnd = Math.min(this.cwnd, initialWindow(this.#mss));
  }

  #remember(): void {
    this.#priorCwnd = this.cwnd;
    this.#priorSsthresh = this.ssthresh;
  }
}
