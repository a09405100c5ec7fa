/**
 * Segment arrives (RFC 9293 §3.10.7), in that section's order, with RFC 5961's protections and RFC 7323's timestamps.
 *
 * `onSegment` changes the connection and returns events; it sends nothing itself. What is to be sent it marks
 * (`ackNow`, retransmission cursor, …) for output.ts. Each step has a file: handshake.ts, acknowledgment.ts, receive.ts
 * (text), closing.ts (FIN).
 */
import { DropReason } from '../wire/drop-reason.ts';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, type TcpHeader } from '../wire/tcp.ts';
import { BAD_ACK_FIELD, processAck } from './acknowledgment.ts';
import { challenge } from './challenge.ts';
import { checkFin, close } from './closing.ts';
import { establish, establishBySyn, onSynSent, repeatSynAck } from './handshake.ts';
import { EV_BAD_ACK, EV_CLOSED, EV_DELIVER, EV_ESTABLISHED, EV_RESET } from './owner.ts';
import { noteDuplicate, noteTimestampOfDuplicate, processText } from './receive.ts';
import { type Seq, seqAdd, seqDiff, seqInWindow, seqLeq, seqLt } from './seq.ts';
import { type Tcb, TcpState } from './tcb.ts';
import { TimeWaitAnswer } from './time-wait.ts';

/** RFC 7323 §5.5: a timestamp older than this is no evidence. */
const PAWS_IDLE_MS = 24 * 24 * 3600 * 1000;

/**
 * Process a segment whose checksum is good. The payload lies at `offset` in the arena and is borrowed until return,
 * except for what `EV_DELIVER` announces, which is borrowed until `takeDelivered`.
 */
export function onSegment(c: Tcb, h: TcpHeader, offset: number, length: number, nowMs: number): number {
  if (c.state === TcpState.SynSent) return onSynSent(c, h, nowMs);
  if (c.state === TcpState.SynPending || c.state === TcpState.Closed) return 0;
  if (c.timeWait !== null) {
    if (c.timeWait.answerTo(h) !== TimeWaitAnswer.None) c.rcv.ackNow = true;
    return 0;
  }
  const flags = h.flags;
  c.lastHeardAt = nowMs;
  c.keepaliveProbes = 0;

  // RFC 7323 §5.3 R1: PAWS before anything else, but never for RST.
  if (c.timestampsOk && (flags & TCP_RST) === 0) {
    if (!h.hasTimestamps) {
      // RFC 7323 §3.2: drop, except a SYN, which gets its challenge below.
      if ((flags & TCP_SYN) === 0) return drop(c, DropReason.TcpTs);
    } else if (((h.tsVal - c.tsRecent) | 0) < 0 && nowMs - c.tsRecentAt < PAWS_IDLE_MS) {
      c.rcv.ackNow = true;
      return drop(c, DropReason.TcpTs);
    }
  }

  const windowSize = seqDiff(c.rcv.adv, c.rcv.nxt);
  // Second, but valid whatever the window is (§3.10.7.4): RST (RFC 5961 §3.2).
  if ((flags & TCP_RST) !== 0) {
    if (h.seq === c.rcv.nxt) {
      close(c);
      return EV_RESET | EV_CLOSED;
    }
    if (seqInWindow(h.seq, c.rcv.nxt, windowSize)) challenge(c, nowMs);
    return drop(c, DropReason.TcpWindow);
  }

  // First: is it in the window?
  const segmentLength = length + ((flags & TCP_FIN) !== 0 ? 1 : 0) + ((flags & TCP_SYN) !== 0 ? 1 : 0);
  if (!isAcceptable(c, h.seq, segmentLength, windowSize)) {
    if ((flags & TCP_SYN) !== 0) {
      // A repeated SYN in SYN-RECEIVED: our SYN-ACK was lost. One that acknowledges ours: both sides opened at once.
      if (c.state !== TcpState.SynReceived || h.seq !== c.rcv.irs) challenge(c, nowMs);
      else if ((flags & TCP_ACK) !== 0 && h.ack === c.snd.nxt) return establishBySyn(c, h, nowMs);
      else repeatSynAck(c, nowMs);
      return 0;
    }
    drop(c, DropReason.TcpWindow);
    noteDuplicate(c, h.seq, length);
    noteTimestampOfDuplicate(c, h, segmentLength, nowMs);
    // An answer to each empty segment could be answered in turn, for ever (T-12).
    if (segmentLength > 0) c.rcv.ackNow = true;
    else challenge(c, nowMs);
    // §3.10.7.4: a zero window must not cut acknowledgments off; nor must a guest's FIN or window probe that crossed
    // our window update, which leaves its empty segments one off.
    const ackCounts =
      segmentLength === 0
        ? seqInWindow(h.seq, seqAdd(c.rcv.nxt, -1), windowSize + 3)
        : windowSize === 0 && h.seq === c.rcv.nxt;
    if (ackCounts && (flags & TCP_ACK) !== 0 && c.isSynchronized) {
      return Math.max(0, processAck(c, h, length, nowMs));
    }
    return 0;
  }

  // Fourth: SYN in the window (RFC 5961 §4.2).
  if ((flags & TCP_SYN) !== 0) {
    if (c.state === TcpState.SynReceived && h.seq === c.rcv.irs) repeatSynAck(c, nowMs);
    else challenge(c, nowMs);
    return 0;
  }

  // Fifth: ACK.
  if ((flags & TCP_ACK) === 0) return drop(c, DropReason.TcpFlags);
  let events = 0;
  if (c.state === TcpState.SynReceived) {
    if (!(seqLt(c.snd.una, h.ack) && seqLeq(h.ack, c.snd.nxt))) {
      return EV_BAD_ACK;
    }
    establish(c, h, nowMs);
    events |= EV_ESTABLISHED;
  }
  if (h.hasTimestamps && c.timestampsOk && seqLeq(h.seq, c.rcv.lastAckSent)) {
    c.tsRecent = h.tsVal;
    c.tsRecentAt = nowMs;
  }
  const acked = processAck(c, h, length, nowMs);
  if (acked === BAD_ACK_FIELD) return events;
  events |= acked;
  if ((events & EV_CLOSED) !== 0) return events;

  // Seventh: text. URG is ignored: the bytes stay in line (T-18).
  if (length > 0) events |= processText(c, h.seq, offset, length, nowMs);

  // Eighth: FIN.
  if ((flags & TCP_FIN) !== 0 && !c.rcv.finKnown) {
    const finSeq = seqAdd(h.seq, length);
    // Only a FIN inside what we can take now counts; a later copy brings it again.
    if (seqLeq(c.rcv.nxt, finSeq) && seqLeq(finSeq, c.rcv.adv)) {
      c.rcv.finKnown = true;
      c.rcv.finSeq = finSeq;
      // Beyond a gap it is a segment out of order (RFC 5681 §4.2).
      if (finSeq !== c.rcv.nxt) c.rcv.ackNow = true;
    }
  }
  if ((events & EV_DELIVER) === 0) events |= checkFin(c);
  return events;
}

/**
 * §3.4, with two additions. An empty segment may lie at the right edge: a guest that has filled our window while its
 * first segment was lost acknowledges from there, and dropping that would make both sides answer each other for ever.
 * A segment may begin before the window and end behind it (§3.4 forgets that case): it is trimmed.
 */
function isAcceptable(c: Tcb, seq: Seq, segmentLength: number, windowSize: number): boolean {
  if (segmentLength === 0) return seqInWindow(seq, c.rcv.nxt, windowSize + 1);
  return seqLt(seq, seqAdd(c.rcv.nxt, windowSize)) && seqLt(c.rcv.nxt, seqAdd(seq, segmentLength));
}

function drop(c: Tcb, reason: number): number {
  c.env.counters.drop(reason);
  return 0;
}
