/** Deadlines of a connection: what happens when one passes (RFC 9293 §3.8, RFC 6298, RFC 8985 §7). */

import { abort } from './closing.ts';
import { EV_CLOSED, EV_RESET } from './owner.ts';
import { detectLosses, onRetransmitTimeout } from './recovery.ts';
import { RTO_MAX_MS } from './rtt.ts';
import { type Tcb, TcpState } from './tcb.ts';
import { Timer } from './timers.ts';

/** RFC 9293 §3.8.3 R2: at least 100 s without an acknowledgment ends the connection. */
const R2_MS = 100_000;
/** RFC 9293 §3.8.4: no keep-alive before two hours of silence, and one lost answer ends nothing. */
const KEEPALIVE_IDLE_MS = 7_200_000;
const KEEPALIVE_INTERVAL_MS = 75_000;
const KEEPALIVE_PROBES = 9;

/** Start watching an established connection for a peer that is gone. */
export function armKeepalive(c: Tcb, nowMs: number): void {
  c.timers[Timer.Keepalive] = nowMs + KEEPALIVE_IDLE_MS;
}

/** Deal with every deadline up to `nowMs`; returns events (EV_RESET | EV_CLOSED when the connection is given up). */
export function onTimeout(c: Tcb, nowMs: number): number {
  const timers = c.timers;
  if ((timers[Timer.State] as number) <= nowMs) {
    timers[Timer.State] = Number.POSITIVE_INFINITY;
    return giveUp(c);
  }
  if ((timers[Timer.DelayedAck] as number) <= nowMs) {
    timers[Timer.DelayedAck] = Number.POSITIVE_INFINITY;
    c.rcv.ackNow = true;
    c.rcv.interactive = false;
    c.rcv.delayFailures++;
  }
  if ((timers[Timer.Persist] as number) <= nowMs) {
    // The peer must answer probes; silence is death (RFC 9293 §3.8.6.1 and R2).
    if (nowMs - c.lastHeardAt >= R2_MS && c.snd.persistMs > 0) return giveUp(c);
    if (c.snd.queue.length === 0) {
      timers[Timer.Persist] = Number.POSITIVE_INFINITY;
      c.snd.persistMs = 0;
    } else {
      c.snd.persistMs = Math.min(RTO_MAX_MS, c.snd.persistMs === 0 ? c.loss.rtt.rtoMs : c.snd.persistMs * 2);
      timers[Timer.Persist] = nowMs + c.snd.persistMs;
      c.snd.persistPending = true;
    }
  }
  if ((timers[Timer.Pace] as number) <= nowMs) timers[Timer.Pace] = Number.POSITIVE_INFINITY;
  if ((timers[Timer.Reorder] as number) <= nowMs) detectLosses(c, nowMs);
  if ((timers[Timer.LossProbe] as number) <= nowMs) {
    timers[Timer.LossProbe] = Number.POSITIVE_INFINITY;
    if (c.snd.flight > 0) c.loss.probePending = true;
  }
  if ((timers[Timer.Retransmit] as number) <= nowMs) {
    timers[Timer.Retransmit] = Number.POSITIVE_INFINITY;
    if (c.state === TcpState.SynReceived || c.state === TcpState.SynSent) {
      c.snd.synPending = true;
      c.snd.synRetransmitted = true;
      c.loss.rtt.backOff();
    } else if (c.snd.flight > 0) {
      // A guest that closed its window and still answers is slow, not gone (RQ-14).
      const stuck = c.loss.stuckSince >= 0 && nowMs - c.loss.stuckSince >= R2_MS;
      if (stuck && (c.snd.wnd > 0 || nowMs - c.lastHeardAt >= R2_MS)) return giveUp(c);
      onRetransmitTimeout(c, nowMs);
    }
  }
  if ((timers[Timer.Keepalive] as number) <= nowMs) {
    const silence = nowMs - c.lastHeardAt;
    if (silence < KEEPALIVE_IDLE_MS) {
      timers[Timer.Keepalive] = c.lastHeardAt + KEEPALIVE_IDLE_MS;
    } else if (c.keepaliveProbes >= KEEPALIVE_PROBES) {
      return giveUp(c);
    } else {
      c.keepaliveProbes++;
      c.snd.persistPending = true;
      timers[Timer.Keepalive] = nowMs + KEEPALIVE_INTERVAL_MS;
    }
  }
  return 0;
}

function giveUp(c: Tcb): number {
  abort(c);
  return EV_RESET | EV_CLOSED;
}
