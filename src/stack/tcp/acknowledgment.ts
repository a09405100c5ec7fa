/**
 * What the guest says about our bytes: the ACK field, the send window and SACK blocks of a segment (RFC 9293 §3.10.7.4,
 * RFC 2018, RFC 2883). What follows from it for loss and congestion is decided in recovery.ts.
 */
import { DropReason } from '../wire/drop-reason.ts';
import { TCP_FIN, type TcpHeader } from '../wire/tcp.ts';
import { challenge } from './challenge.ts';
import { onFinAcked } from './closing.ts';
import { Recovery, type TcpConnection } from './connection.ts';
import { afterAck, echoed, onDsack, onDuplicateAck, onNewAck } from './recovery.ts';
import { type Seq, seqAdd, seqDiff, seqLeq, seqLt } from './seq.ts';
import { Timer } from './timers.ts';

/** The ACK field makes no sense: the segment is dropped, text and all. */
export const BAD_ACK_FIELD = -1;

/**
 * Returns events, or BAD_ACK_FIELD for an acknowledgment of what was never sent or of long ago (§3.10.7.4, RFC 5961
 * §5.2). `length` is the segment's payload (a segment with data is no duplicate ACK).
 */
export function processAck(c: TcpConnection, h: TcpHeader, length: number, nowMs: number): number {
  const ack = h.ack;
  if (seqLt(c.sndNxt, ack) || seqLt(ack, seqAdd(c.sndUna, -Math.max(c.maxSndWnd, 65535)))) {
    challenge(c, nowMs);
    c.env.counters.drop(DropReason.TcpAck);
    return BAD_ACK_FIELD;
  }
  let events = 0;
  const wasShut = c.sndWnd === 0;
  const window = h.window << c.sndWindowShift;
  const windowChanged = window !== c.sndWnd;
  // §3.10.7.4: only a segment newer than the last may update the window. A window counts from its acknowledgment, so an
  // old one never does, and a new one always does, whatever order the segments came in.
  if (
    seqLt(c.sndUna, ack) ||
    (ack === c.sndUna && (seqLt(c.sndWl1, h.seq) || (c.sndWl1 === h.seq && seqLeq(c.sndWl2, ack))))
  ) {
    c.sndWnd = window;
    if (window > c.maxSndWnd) c.maxSndWnd = window;
    c.sndWl1 = h.seq;
    c.sndWl2 = ack;
  }
  const board = c.scoreboard;
  const una = c.sndUna;
  const sackedBefore = board.sacked;
  const dupAcksBefore = c.dupAcks;
  const sackNews = h.sackCount > 0 && c.sackOk ? takeSack(c, h, nowMs) : 0;
  const dsack = h.sackCount > 0 && c.sackOk && isDsack(h, seqLt(una, ack) ? ack : una);
  if (dsack) onDsack(c);
  const advanced = seqLt(una, ack);
  let duplicate = false;
  if (advanced) {
    onNewAck(c, h, dsack, nowMs);
    if (c.finSent && ack === c.sndNxt) events = onFinAcked(c);
  } else if (
    ack === una &&
    c.flight > 0 &&
    // The answers to window probes are no sign of loss.
    c.sndWnd > 0 &&
    (sackNews > 0 || (length === 0 && !windowChanged && (h.flags & TCP_FIN) === 0 && h.sackCount === 0))
  ) {
    duplicate = true;
    onDuplicateAck(c, nowMs);
  }
  if (wasShut && c.sndWnd > 0) onWindowOpened(c, nowMs);
  if (board.sacked > 0 || board.resent > 0 || c.recovery !== Recovery.None) {
    let delivered = seqDiff(ack, una) + board.sacked - sackedBefore;
    // Without SACK a duplicate ACK stands for a segment, which is not counted again when it is acknowledged.
    if (!c.sackOk) delivered = duplicate ? c.sndMss : Math.max(0, delivered - dupAcksBefore * c.sndMss);
    afterAck(c, Math.max(0, delivered), advanced, nowMs);
  }
  return events;
}

/** Enter the SACK blocks; how many bytes are news. What lies below the acknowledgment tells of a duplicate. */
function takeSack(c: TcpConnection, h: TcpHeader, nowMs: number): number {
  const base = seqLt(c.sndUna, h.ack) ? h.ack : c.sndUna;
  const sentAt = echoed(c, h, nowMs);
  let news = 0;
  for (let i = 0; i < h.sackCount; i++) {
    const left = h.sackLeft[i] as number;
    if (!seqLt(left, base)) {
      news += c.scoreboard.add(left, h.sackRight[i] as number, nowMs, sentAt);
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
function onWindowOpened(c: TcpConnection, nowMs: number): void {
  const timers = c.timers;
  const probing = timers[Timer.Persist] !== Number.POSITIVE_INFINITY;
  if (c.flight > 0) {
    // What was sent into the shut window (a probe, FIN, a retransmission) was not kept.
    const finAlone = c.finSent && c.flight === 1;
    if (!probing && !finAlone && c.stuckSince < 0) return;
    c.scoreboard.loseAll();
    // Unless it was: then it had overtaken our bare acknowledgments, each of which is answered (RFC 6582 §3.2 step 2).
    if (c.recovery === Recovery.None) c.recover = c.sndNxt;
    timers[Timer.Persist] = Number.POSITIVE_INFINITY;
    c.persistMs = 0;
  } else if (probing) {
    // It may still be too small to be used: then the timer overrides after one RTO, not after the probes' long gaps.
    c.persistMs = c.rtt.rtoMs;
    timers[Timer.Persist] = Math.min(timers[Timer.Persist] as number, nowMs + c.persistMs);
  }
}
