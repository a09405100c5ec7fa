/**
 * How a connection ends (RFC 9293 §3.6): the guest's FIN and ours, and what is forgotten when it is over.
 */
import { EV_CLOSED, EV_FIN } from './owner.ts';
import { seqAdd } from './seq.ts';
import { type Tcb, TcpState } from './tcb.ts';
import { TimeWait } from './time-wait.ts';

/** Take the guest's FIN if all that came before it is there. Returns events. */
export function checkFin(c: Tcb): number {
  if (!c.rcv.finKnown || c.rcv.finReceived || c.rcv.nxt !== c.rcv.finSeq) return 0;
  c.rcv.finReceived = true;
  c.rcv.nxt = seqAdd(c.rcv.nxt, 1);
  c.rcv.ackNow = true;
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
export function onFinAcked(c: Tcb): number {
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

/** Reset the connection: the next `pollTransmit` gives the RST. */
export function abort(c: Tcb): void {
  if (c.state === TcpState.Closed || c.state === TcpState.TimeWait) return;
  c.snd.rstPending = true;
  c.snd.queue.clear();
  c.rcv.queue.clear();
}

/** The connection is over: forget everything but what came before the guest's FIN, which is still the owner's (P-03). */
export function close(c: Tcb): void {
  finish(c, TcpState.Closed);
  if (!c.rcv.finReceived) c.rcv.queue.clear();
  c.rcv.ackNow = false;
}

/** Both sides are done. What the owner has not read yet stays in the queue. */
function finish(c: Tcb, state: TcpState): void {
  c.state = state;
  c.timeWait = state === TcpState.TimeWait ? new TimeWait(c) : null;
  c.snd.queue.clear();
  c.loss.scoreboard.clear();
  c.timers.fill(Number.POSITIVE_INFINITY);
  c.snd.synPending = false;
  c.loss.probePending = false;
  c.snd.persistPending = false;
}
