/**
 * How a connection ends (RFC 9293 §3.6): the guest's FIN and ours, and what is forgotten when it is over.
 */
import { EV_CLOSED, EV_FIN, type TcpConnection, TcpState } from './connection.ts';
import { seqAdd } from './seq.ts';
import { TimeWait } from './time-wait.ts';

/** Take the guest's FIN if all that came before it is there. Returns events. */
export function checkFin(c: TcpConnection): number {
  if (!c.finKnown || c.finReceived || c.rcvNxt !== c.finSeq) return 0;
  c.finReceived = true;
  c.rcvNxt = seqAdd(c.rcvNxt, 1);
  c.ackNow = true;
  if (c.state === TcpState.Established) {
    c.state = TcpState.CloseWait;
    return EV_FIN;
  }
  if (c.state === TcpState.FinWait1) {
    c.state = TcpState.Closing;
    return EV_FIN;
  }
  if (c.state === TcpState.FinWait2) {
    finish(c, TcpState.TimeWait);
    return EV_FIN | EV_CLOSED;
  }
  return 0;
}

/** The guest has acknowledged our FIN. Returns events. */
export function onFinAcked(c: TcpConnection): number {
  if (c.state === TcpState.FinWait1) {
    c.state = TcpState.FinWait2;
    return 0;
  }
  if (c.state === TcpState.Closing) {
    finish(c, TcpState.TimeWait);
    return EV_CLOSED;
  }
  if (c.state === TcpState.LastAck) {
    finish(c, TcpState.Closed);
    return EV_CLOSED;
  }
  return 0;
}

/** The connection is over: forget everything but what came before the guest's FIN, which is still the owner's (P-03). */
export function close(c: TcpConnection): void {
  finish(c, TcpState.Closed);
  if (!c.finReceived) c.rcvQueue.clear();
  c.ackNow = false;
}

/** Both sides are done. What the owner has not read yet stays in `rcvQueue`. */
function finish(c: TcpConnection, state: TcpState): void {
  c.state = state;
  c.timeWait = state === TcpState.TimeWait ? new TimeWait(c) : null;
  c.sndQueue.clear();
  c.scoreboard.clear();
  c.timers.fill(Number.POSITIVE_INFINITY);
  c.synPending = false;
  c.probePending = false;
  c.persistPending = false;
}
