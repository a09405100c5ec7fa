/**
 * Pacing: new data is spread over the round trip, so that what acknowledgments have gathered in our batches does not
 * leave as one burst into a queue that is smaller than that. Only where there is congestion control.
 *
 * The pace is that of Linux: twice the window per round trip in slow start, a fifth more than it otherwise. Up to an
 * initial window, or what takes the pace `BURST_MS`, may leave at once, because timers have a millisecond. A round trip
 * not much longer than that is not paced at all.
 */
import { initialWindow } from './congestion/congestion.ts';
import type { Tcb } from './tcb.ts';
import { Timer } from './timers.ts';

const MIN_RTT_MS = 4;
const BURST_MS = 2;
const LEAST_WAIT_MS = 0.05;
const SLOW_START_GAIN = 2;
const AVOIDANCE_GAIN = 1.2;

/** Bytes per ms; Infinity = not paced. */
function pace(c: Tcb): number {
  const { cwnd, ssthresh } = c.loss.congestion;
  if (cwnd === Number.POSITIVE_INFINITY || c.loss.rtt.srttMs < MIN_RTT_MS) return Number.POSITIVE_INFINITY;
  return ((cwnd < ssthresh ? SLOW_START_GAIN : AVOIDANCE_GAIN) * cwnd) / c.loss.rtt.srttMs;
}

/** Must new data wait? Sets the timer for its time. */
export function mustWait(c: Tcb, nowMs: number): boolean {
  if (c.snd.paceDebt === 0) return false;
  const rate = pace(c);
  if (rate === Number.POSITIVE_INFINITY || c.snd.flight === 0) {
    c.snd.paceDebt = 0;
    return false;
  }
  // The debt is kept in bytes: when the pace changes it is paid at the new one.
  c.snd.paceDebt = Math.max(0, c.snd.paceDebt - (nowMs - c.snd.paceAt) * rate);
  c.snd.paceAt = nowMs;
  const burst = Math.max(initialWindow(c.snd.mss), BURST_MS * rate);
  const waitMs = (c.snd.paceDebt - burst) / rate;
  // Less than that is lost in rounding.
  if (!(waitMs > LEAST_WAIT_MS)) return false;
  c.timers[Timer.Pace] = nowMs + waitMs;
  return true;
}

/** `bytes` of new data are sent. */
export function notePaced(c: Tcb, bytes: number, nowMs: number): void {
  if (c.loss.congestion.cwnd === Number.POSITIVE_INFINITY) return;
  if (c.snd.paceDebt === 0) c.snd.paceAt = nowMs;
  c.snd.paceDebt += bytes;
}
