/**
 * What the guest says about our bytes: the ACK field, the send window and SACK blocks of a segment (RFC 9293 §3.10.7.4,
 * RFC 2018, RFC 2883). What follows from it for loss and congestion is decided in recovery.ts.
 */
import { DropReason } from '../wire/drop-reason.ts';
import { TCP_FIN, type TcpHeader } from '../wire/tcp.ts';
import { challenge } from './challenge.ts';
import { onFinAcked } from './closing.ts';
import { afterAck, echoed, onDsack, onDuplicateAck, onNewAck } from './recovery.ts';
import { type Seq, seqAdd, seqDiff, seqLeq, seqLt } from './seq.ts';
import { Recovery, type Tcb } from './tcb.ts';
import { Timer } from './timers.ts';

/** The ACK field makes no sense: the segment is dropped, text and all. */
export const BAD_ACK_FIELD = -1;

/**
 * Returns events, or BAD_ACK_FIELD for an acknowledgment of what was never sent or of long ago (§3.10.7.4, RFC 5961
 * §5.2). `length` is the segment's payload (a segment with data is no duplicate ACK).
 */
export function processAck(c: Tcb, h: TcpHeader, length: number, nowMs: number): number {
  const ack = h.ack;
  if (seqLt(c.snd.nxt, ack) || seqLt(ack, seqAdd(c.snd.una, -Math.max(c.snd.maxWnd, 65535)))) {
    challenge(c, nowMs);
    c.env.counters.drop(DropReason.TcpAck);
    return BAD_ACK_FIELD;
  }
  let events = 0;
  const wasShut = c.snd.wnd === 0;
  const window = h.window << c.snd.windowShift;
  const windowChanged = window !== c.snd.wnd;
  // §3.10.7.4: only a segment newer than the last may update the window. A window counts from its acknowledgment, so an
  // old one never does, and a new one always does, whatever order the segments came in.
  if (
    seqLt(c.snd.una, ack) ||
    (ack === c.snd.una && (seqLt(c.snd.wl1, h.seq) || (c.snd.wl1 === h.seq && seqLeq(c.snd.wl2, ack))))
  ) {
    c.snd.wnd = window;
    if (window > c.snd.maxWnd) c.snd.maxWnd = window;
    c.snd.wl1 = h.seq;
    c.snd.wl2 = ack;
  }
  const board = c.loss.scoreboard;
  const una = c.snd.una;
  const sackedBefore = board.sacked;
  const dupAcksBefore = c.loss.dupAcks;
  const sackNews = h.sackCount > 0 && c.sackOk ? takeSack(c, h, nowMs) : 0;
  const dsack = h.sackCount > 0 && c.sackOk && isDsack(h, seqLt(una, ack) ? ack : una);
  if (dsack) onDsack(c);
  const advanced = seqLt(una, ack);
  let duplicate = false;
  if (advanced) {
    onNewAck(c, h, dsack, nowMs);
    if (c.snd.finSent && ack === c.snd.nxt) events = onFinAcked(c);
  } else if (
    ack === una &&
    c.snd.flight > 0 &&
    // The answers to window probes are no sign of loss.
    c.snd.wnd > 0 &&
    (sackNews > 0 || (length === 0 && !windowChanged && (h.flags & TCP_FIN) === 0 && h.sackCount === 0))
  ) {
    duplicate = true;
    onDuplicateAck(c, nowMs);
  }
  if (wasShut && c.snd.wnd > 0) onWindowOpened(c, nowMs);
  if (board.sacked > 0 || board.resent > 0 || c.loss.recovery !== Recovery.None) {
    let delivered = seqDiff(ack, una) + board.sacked - sackedBefore;
    // Without SACK a duplicate ACK stands for a segment, which is not counted again when it is acknowledged.
    if (!c.sackOk) delivered = duplicate ? c.snd.mss : Math.max(0, delivered - dupAcksBefore * c.snd.mss);
    afterAck(c, Math.max(0, delivered), advanced, nowMs);
  }
  return events;
}

/** Enter the SACK blocks; how many bytes are news. What lies below the acknowledgment tells of a duplicate. */
function takeSack(c: Tcb, h: TcpHeader, nowMs: number): number {
  const base = seqLt(c.snd.una, h.ack) ? h.ack : c.snd.una;
  const sentAt = echoed(c, h, nowMs);
  let news = 0;
  for (let i = 0; i < h.sackCount; i++) {
    const left = h.sackLeft[i] as number;
    if (!seqLt(left, base)) {
      news += c.loss.scoreboard.add(left, h.sackRight[i] as number, nowMs, sentAt);
    }
  }
  return news;
}

/** The first block reports a duplicate when it is below the acknowledgment or inside the second (RFC 2883 §4). */
function isDsack(h: TcpHeader, base: Seq): boolean {
  const left = h.sackLeft[0] as number;
  const right = h.sackRight[0] as number;
  if (!seqLt(left, right)) return false;
  if (seqLeq(right, base)) return true;
  return h.sackCount > 1 && seqLeq(h.sackLeft[1] as number, left) && seqLeq(right, h.sackRight[1] as number);
}

/** The window was shut and is not any more. */
function onWindowOpened(c: Tcb, nowMs: number): void {
  const timers = c.timers;
  const probing = timers[Timer.Persist] !== Number.POSITIVE_INFINITY;
  if (c.snd.flight > 0) {
    // What was sent into the shut window (a probe, FIN, a retransmission) was not kept.
    const finAlone = c.snd.finSent && c.snd.flight === 1;
    if (!probing && !finAlone && c.loss.stuckSince < 0) return;
    c.loss.scoreboard.loseAll();
    // Unless it was: then it had overtaken our bare acknowledgments, each of which is answered (RFC 6582 §3.2 step 2).
    if (c.loss.recovery === Recovery.None) c.loss.recover = c.snd.nxt;
    timers[Timer.Persist] = Number.POSITIVE_INFINITY;
    c.snd.persistMs = 0;
  } else if (probing) {
    // It may still be too small to be used: then the timer overrides after one RTO, not after the probes' long gaps.
    c.snd.persistMs = c.loss.rtt.rtoMs;
    timers[Timer.Persist] = Math.min(timers[Timer.Persist] as number, nowMs + c.snd.persistMs);
  }
}
