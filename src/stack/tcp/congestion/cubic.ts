/**
 * CUBIC (RFC 9438), with HyStart++ (RFC 9406) in the first slow start. Windows are in bytes here and in segments in the
 * RFC; times are in milliseconds here and in seconds there.
 *
 * Differences: the multiplicative decrease starts from cwnd (§4.6 allows it where the window does not grow while it is
 * not filled, which is so here), and time in which the window was not filled does not count (§5.8). A slow start that
 * ends without a loss may have ended too early: until the first loss the window grows by a twentieth per round trip, where
 * §4.8 has the convex half of the cubic function, which hardly grows for seconds. Both as in Linux.
 */
import { type CongestionControl, initialWindow } from './congestion.ts';
import { HyStart } from './hystart.ts';

/** §4.6 and §5. */
const BETA = 0.7;
/** Segments per second cubed. */
const C = 0.4;
/** Growth per round trip, at least, while no loss has told where the plateau is. */
const SEARCH_GROWTH = 1.05;
/** §4.3: what makes the Reno-friendly window grow as fast as Reno's with this BETA; 1 once it has caught up. */
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);

export class Cubic implements CongestionControl {
  cwnd: number;
  ssthresh: number = Number.POSITIVE_INFINITY;
  readonly #mss: number;
  readonly #hystart: HyStart = new HyStart();
  /** Window before the last decrease, where the plateau is. */
  #wMax = 0;
  /** Window at the last decrease: until it is reached again, the Reno-friendly window grows by ALPHA. */
  #cwndPrior = 0;
  /** What Reno would have by now. */
  #wEstimate = 0;
  /** Beginning of this congestion avoidance; -1 = not yet. */
  #epochStart = -1;
  /** When the window was last not filled; time since then does not count. -1 = it is filled. */
  #pausedAt = -1;
  #k = 0;
  #origin = 0;
  #undoCwnd = 0;
  #undoSsthresh = 0;
  #undoWMax = 0;
  #undoCwndPrior = 0;

  constructor(mss: number) {
    this.#mss = mss;
    this.cwnd = initialWindow(mss);
  }

  onAck(acked: number, limited: boolean, nowMs: number, rttMs: number): void {
    if (!limited) {
      if (this.#pausedAt < 0) this.#pausedAt = nowMs;
      return;
    }
    if (this.#pausedAt >= 0) {
      if (this.#epochStart >= 0) this.#epochStart += nowMs - this.#pausedAt;
      this.#pausedAt = -1;
    }
    if (this.cwnd < this.ssthresh) {
      this.#slowStart(acked, nowMs, rttMs);
      return;
    }
    if (this.#epochStart < 0) this.#startEpoch(nowMs);
    let target = this.#target(nowMs + Math.max(0, rttMs));
    if (this.#wMax === 0) target = Math.max(target, SEARCH_GROWTH * this.cwnd);
    const alpha = this.#wEstimate < this.#cwndPrior ? ALPHA : 1;
    this.#wEstimate += (alpha * this.#mss * acked) / this.cwnd;
    if (target > this.cwnd) this.cwnd += ((target - this.cwnd) * acked) / this.cwnd;
    if (this.cwnd < this.#wEstimate) this.cwnd = this.#wEstimate;
  }

  onLoss(): void {
    this.#remember();
    this.#decrease();
    this.cwnd = this.ssthresh;
  }

  onTimeout(_flight: number, _nowMs: number, again: boolean): void {
    if (!again) {
      this.#remember();
      this.#decrease();
    }
    this.cwnd = this.#mss;
    this.#epochStart = -1;
  }

  onRecovered(): void {
    this.#epochStart = -1;
  }

  undo(): void {
    this.cwnd = Math.max(this.cwnd, this.#undoCwnd);
    this.ssthresh = Math.max(this.ssthresh, this.#undoSsthresh);
    this.#wMax = this.#undoWMax;
    this.#cwndPrior = this.#undoCwndPrior;
    this.#epochStart = -1;
  }

  onIdle(): void {
    this.cwnd = Math.min(this.cwnd, initialWindow(this.#mss));
    this.#epochStart = -1;
  }

  #slowStart(acked: number, nowMs: number, rttMs: number): void {
    // RFC 9406 §4.2: L is infinite for a sender that paces. RFC 3465's two segments would make us pay for every
    // acknowledgment that a guest saves or the network loses.
    if (this.ssthresh !== Number.POSITIVE_INFINITY) {
      this.cwnd = Math.min(this.cwnd + acked, this.ssthresh);
      return;
    }
    const divisor = this.#hystart.onAck(acked, this.cwnd, nowMs, rttMs);
    if (divisor > 0) this.cwnd += acked / divisor;
    else this.ssthresh = this.cwnd;
  }

  /** §4.2. */
  #startEpoch(nowMs: number): void {
    this.#epochStart = nowMs;
    this.#wEstimate = this.cwnd;
    if (this.cwnd < this.#wMax) {
      this.#k = Math.cbrt((this.#wMax - this.cwnd) / this.#mss / C);
      this.#origin = this.#wMax;
    } else {
      this.#k = 0;
      this.#origin = this.cwnd;
    }
  }

  /** The cubic function at a time, between cwnd and one and a half of it. */
  #target(atMs: number): number {
    const t = (atMs - this.#epochStart) / 1000 - this.#k;
    const w = this.#origin + C * t * t * t * this.#mss;
    return Math.min(1.5 * this.cwnd, Math.max(this.cwnd, w));
  }

  /** §4.6 and §4.7: back to BETA; a flow that did not reach its last plateau makes room for others. */
  #decrease(): void {
    this.#cwndPrior = this.cwnd;
    this.#wMax = this.cwnd < this.#wMax ? (this.cwnd * (1 + BETA)) / 2 : this.cwnd;
    this.ssthresh = Math.max(this.cwnd * BETA, 2 * this.#mss);
    this.#epochStart = -1;
    this.#pausedAt = -1;
  }

  #remember(): void {
    this.#undoCwnd = this.cwnd;
    this.#undoSsthresh = this.ssthresh;
    this.#undoWMax = this.#wMax;
    this.#undoCwndPrior = this.#cwndPrior;
  }
}
