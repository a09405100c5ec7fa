/**
 * Segment arrives (RFC 9293 §3.10.7), in that section's order, with RFC 5961's protections and RFC 7323's timestamps.
 *
 * `onSegment` changes the connection and returns events; it sends nothing itself. What is to be sent it marks
 * (`ackNow`, retransmission cursor, …) for output.ts.
 */
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, type TcpHeader } from '../wire/tcp.ts';
import {
  EV_ACKED,
  EV_BAD_ACK,
  EV_CLOSED,
  EV_DELIVER,
  EV_ESTABLISHED,
  EV_FIN,
  EV_READABLE,
  EV_RESET,
  type TcpConnection,
  TcpState,
} from './connection.ts';
import { enterRecovery, onDuplicateAck, onNewAck } from './recovery.ts';
import { type Seq, seqAdd, seqDiff, seqInWindow, seqLeq, seqLt } from './seq.ts';
import { Timer } from './timers.ts';

/** RFC 7323 §5.5: a timestamp older than this is no evidence. */
const PAWS_IDLE_MS = 24 * 24 * 3600 * 1000;
/** Challenge ACKs per connection and second (RFC 5961 §7). */
const CHALLENGES_PER_SECOND = 10;
export const TIME_WAIT_MS = 60_000;

/**
 * Process a segment whose checksum is good. The payload lies at `offset` in the arena and is borrowed until return,
 * except for what `EV_DELIVER` announces, which is borrowed until `takeDelivered`.
 */
export function onSegment(
  c: TcpConnection,
  h: TcpHeader,
  offset: number,
  length: number,
  nowMs: number,
): number {
  if (c.state === TcpState.SynSent) return onSynSent(c, h, nowMs);
  if (c.state === TcpState.SynPending || c.state === TcpState.Closed) return 0;
  const flags = h.flags;
  c.lastHeardAt = nowMs;
  c.keepaliveProbes = 0;

  // RFC 7323 §5.3 R1: PAWS before anything else, but never for RST.
  if (c.timestampsOk && (flags & TCP_RST) === 0) {
    if (!h.hasTimestamps) {
      // RFC 7323 §3.2: drop, except a SYN, which gets its challenge below.
      if ((flags & TCP_SYN) === 0) return 0;
    } else if (((h.tsVal - c.tsRecent) | 0) < 0 && nowMs - c.tsRecentAt < PAWS_IDLE_MS) {
      c.ackNow = true;
      return 0;
    }
  }

  // First: is it in the window (§3.10.7.4)?
  const windowSize = seqDiff(c.rcvAdv, c.rcvNxt);
  const segmentLength = length + ((flags & TCP_FIN) !== 0 ? 1 : 0) + ((flags & TCP_SYN) !== 0 ? 1 : 0);
  if (!isAcceptable(c, h.seq, segmentLength, windowSize)) {
    if ((flags & TCP_RST) !== 0) return 0;
    if ((flags & TCP_SYN) !== 0) {
      // A repeated SYN in SYN-RECEIVED: our SYN-ACK was lost.
      if (c.state === TcpState.SynReceived && h.seq === c.irs) c.synPending = true;
      else challenge(c, nowMs);
      return 0;
    }
    noteDuplicate(c, h.seq, length);
    c.ackNow = true;
    // The ACK field of a duplicate is still good news: a zero window must not cut acknowledgments off.
    if ((flags & TCP_ACK) !== 0 && windowSize === 0 && h.seq === c.rcvNxt) return processAck(c, h, 0, nowMs);
    return 0;
  }

  // Second: RST (RFC 5961 §3.2).
  if ((flags & TCP_RST) !== 0) {
    if (h.seq !== c.rcvNxt) {
      challenge(c, nowMs);
      return 0;
    }
    close(c);
    return EV_RESET | EV_CLOSED;
  }

  // Fourth: SYN in the window (RFC 5961 §4.2).
  if ((flags & TCP_SYN) !== 0) {
    if (c.state === TcpState.SynReceived && h.seq === c.irs) c.synPending = true;
    else challenge(c, nowMs);
    return 0;
  }

  // Fifth: ACK.
  if ((flags & TCP_ACK) === 0) return 0;
  let events = 0;
  if (c.state === TcpState.SynReceived) {
    if (!(seqLt(c.sndUna, h.ack) && seqLeq(h.ack, c.sndNxt))) {
      return EV_BAD_ACK;
    }
    establish(c, h, nowMs);
    events |= EV_ESTABLISHED;
  }
  if (h.hasTimestamps && c.timestampsOk && seqLeq(h.seq, c.lastAckSent)) {
    c.tsRecent = h.tsVal;
    c.tsRecentAt = nowMs;
  }
  events |= processAck(c, h, length, nowMs);
  if ((events & EV_CLOSED) !== 0) return events;

  // Seventh: text. URG is ignored: the bytes stay in line (T-18).
  if (length > 0) events |= processText(c, h.seq, offset, length, nowMs);

  // Eighth: FIN.
  if ((flags & TCP_FIN) !== 0 && !c.finReceived) {
    const finSeq = seqAdd(h.seq, length);
    // Only a FIN inside what we can take now counts; a later copy brings it again.
    if (seqInWindow(finSeq, c.rcvNxt, Math.max(windowSize, 1) + length + 1)) {
      c.finKnown = true;
      c.finSeq = finSeq;
    }
  }
  if ((events & EV_DELIVER) === 0) events |= checkFin(c, nowMs);
  return events;
}

/**
 * The owner passed `taken` of the delivered bytes on; the rest is kept for later. Returns further events (EV_FIN).
 * Bytes that do not fit in memory are given back: they are not acknowledged and will come again.
 */
export function takeDelivered(c: TcpConnection, taken: number, nowMs: number): number {
  const rest = c.deliverLength - taken;
  c.deliverLength = 0;
  if (rest > 0) {
    const stored = c.rcvQueue.insert(0, c.deliverOffset + taken, rest, 0);
    if (!stored) {
      c.rcvNxt = seqAdd(c.rcvNxt, -rest);
      c.ackNow = true;
      return 0;
    }
  }
  return checkFin(c, nowMs);
}

/** The owner took `bytes` out of `rcvQueue`. */
export function consumeReceived(c: TcpConnection, bytes: number): void {
  c.rcvQueue.consume(bytes);
  // RFC 9293 §3.8.6.2.2: tell the guest only when the window grew by something worth telling.
  const room = receiveRoom(c);
  const gain = room - seqDiff(c.rcvAdv, c.rcvNxt);
  if (gain >= Math.min(c.rcvLimit / 2, Math.max(c.rcvMss, c.rcvLimit / 8))) c.ackNow = true;
}

/** Bytes beyond RCV.NXT that may be received. */
export function receiveRoom(c: TcpConnection): number {
  return Math.max(0, c.rcvLimit - c.rcvQueue.readable);
}

/** The connection was cut: forget everything. */
export function close(c: TcpConnection): void {
  finish(c, TcpState.Closed);
  c.rcvQueue.clear();
  c.ackNow = false;
}

/** Both sides are done. What the owner has not read yet stays in `rcvQueue`. */
function finish(c: TcpConnection, state: TcpState): void {
  c.state = state;
  c.sndQueue.clear();
  c.scoreboard.clear();
  c.timers.fill(Number.POSITIVE_INFINITY);
  c.synPending = false;
  c.probePending = false;
  c.persistPending = false;
  c.rtxEnd = c.rtxNext;
}

function onSynSent(c: TcpConnection, h: TcpHeader, nowMs: number): number {
  const flags = h.flags;
  const ackOk = (flags & TCP_ACK) !== 0 && h.ack === c.sndNxt;
  if ((flags & TCP_ACK) !== 0 && !ackOk) return 0;
  if ((flags & TCP_RST) !== 0) {
    if (!ackOk) return 0;
    close(c);
    return EV_RESET | EV_CLOSED;
  }
  if ((flags & TCP_SYN) === 0) return 0;
  c.irs = h.seq;
  c.rcvNxt = seqAdd(h.seq, 1);
  c.rcvAdv = c.rcvNxt;
  c.lastAckSent = c.rcvNxt;
  c.takeSynOptions(h, c.rcvMss + (c.isV4 ? 40 : 60), nowMs);
  c.sndWl1 = h.seq;
  if (!ackOk) {
    // Simultaneous open (§3.5): answer with SYN-ACK.
    c.state = TcpState.SynReceived;
    c.synPending = true;
    return 0;
  }
  establish(c, h, nowMs);
  c.sndWnd = h.window;
  c.maxSndWnd = h.window;
  c.ackNow = true;
  return EV_ESTABLISHED;
}

function establish(c: TcpConnection, h: TcpHeader, nowMs: number): void {
  c.state = TcpState.Established;
  c.timers[Timer.State] = Number.POSITIVE_INFINITY;
  c.timers[Timer.Retransmit] = Number.POSITIVE_INFINITY;
  c.sndUna = seqAdd(c.iss, 1);
  c.rtxNext = c.sndUna;
  c.rtxEnd = c.sndUna;
  c.sndWl1 = h.seq;
  c.sndWl2 = h.ack;
  c.sndWnd = h.window << c.sndWindowShift;
  if (c.sndWnd > c.maxSndWnd) c.maxSndWnd = c.sndWnd;
  if (c.synRetransmitted && !c.timestampsOk) c.rtt.rtoMs = 3000;
  c.lastHeardAt = nowMs;
}

/** §3.4: the four cases of the acceptability test. */
function isAcceptable(c: TcpConnection, seq: Seq, segmentLength: number, windowSize: number): boolean {
  if (segmentLength === 0) {
    return windowSize === 0 ? seq === c.rcvNxt : seqInWindow(seq, c.rcvNxt, windowSize) || seq === c.rcvNxt;
  }
  if (windowSize === 0) return false;
  return (
    seqInWindow(seq, c.rcvNxt, windowSize) ||
    seqInWindow(seqAdd(seq, segmentLength - 1), c.rcvNxt, windowSize)
  );
}

function challenge(c: TcpConnection, nowMs: number): void {
  if (nowMs - c.challengeWindowStart >= 1000) {
    c.challengeWindowStart = nowMs;
    c.challengeCount = 0;
  }
  if (c.challengeCount >= CHALLENGES_PER_SECOND) return;
  c.challengeCount++;
  c.ackNow = true;
}

/** Returns events; `length` is the segment's payload (a segment with data is no duplicate ACK). */
function processAck(c: TcpConnection, h: TcpHeader, length: number, nowMs: number): number {
  const ack = h.ack;
  if (seqLt(c.sndNxt, ack)) {
    // Acknowledges what was never sent.
    challenge(c, nowMs);
    return 0;
  }
  if (seqLt(ack, seqAdd(c.sndUna, -Math.max(c.maxSndWnd, 65535)))) {
    challenge(c, nowMs);
    return 0;
  }
  let events = 0;
  const probing = c.timers[Timer.Persist] !== Number.POSITIVE_INFINITY;
  const window = h.window << c.sndWindowShift;
  const windowChanged = window !== c.sndWnd;
  // §3.10.7.4: only a segment newer than the last may update the window.
  if (seqLt(c.sndWl1, h.seq) || (c.sndWl1 === h.seq && seqLeq(c.sndWl2, ack))) {
    if (window > c.sndWnd && c.sndWnd < c.sndMss) events |= EV_ACKED;
    c.sndWnd = window;
    if (window > c.maxSndWnd) c.maxSndWnd = window;
    c.sndWl1 = h.seq;
    c.sndWl2 = ack;
    if (window > 0) {
      c.timers[Timer.Persist] = Number.POSITIVE_INFINITY;
      c.persistMs = 0;
    }
  }
  let sackNews = 0;
  if (c.sackOk) {
    for (let i = 0; i < h.sackCount; i++) {
      sackNews += c.scoreboard.add(
        h.sackLeft[i] as number,
        h.sackRight[i] as number,
        seqLt(c.sndUna, ack) ? ack : c.sndUna,
        c.sndNxt,
      );
    }
  }
  if (seqLt(c.sndUna, ack)) {
    onNewAck(c, h, nowMs);
    events |= EV_ACKED;
    if (c.finSent && ack === c.sndNxt) events |= onFinAcked(c, nowMs);
  } else if (
    ack === c.sndUna &&
    c.flight > 0 &&
    (sackNews > 0 || (length === 0 && !windowChanged && (h.flags & TCP_FIN) === 0 && h.sackCount === 0))
  ) {
    onDuplicateAck(c, nowMs);
  }
  if (probing && c.sndWnd > 0 && c.flight > 0) {
    // The window opened, but the guest did not keep the byte that probed it.
    c.rtxNext = c.sndUna;
    c.rtxEnd = c.sndNxt;
  }
  if (sackNews > 0 && !c.inRecovery && c.scoreboard.sacked >= 3 * c.sndMss) enterRecovery(c, nowMs);
  return events;
}

function onFinAcked(c: TcpConnection, nowMs: number): number {
  if (c.state === TcpState.FinWait1) {
    c.state = TcpState.FinWait2;
    return 0;
  }
  if (c.state === TcpState.Closing) {
    enterTimeWait(c, nowMs);
    return EV_CLOSED;
  }
  if (c.state === TcpState.LastAck) {
    finish(c, TcpState.Closed);
    return EV_CLOSED;
  }
  return 0;
}

function enterTimeWait(c: TcpConnection, nowMs: number): void {
  finish(c, TcpState.TimeWait);
  c.timers[Timer.State] = nowMs + TIME_WAIT_MS;
}

function processText(c: TcpConnection, seq: Seq, offset: number, length: number, nowMs: number): number {
  // After the guest's FIN there is no text; after ours the owner may still read.
  if (c.finReceived || c.deliverLength > 0) return 0;
  let from = offset;
  let size = length;
  let at = seqDiff(seq, c.rcvNxt);
  if (at < 0) {
    noteDuplicate(c, seq, Math.min(size, -at));
    from -= at;
    size += at;
    at = 0;
  }
  const excess = at + size - seqDiff(c.rcvAdv, c.rcvNxt);
  if (excess > 0) {
    size -= excess;
    c.ackNow = true;
  }
  if (size <= 0) {
    c.ackNow = true;
    return 0;
  }
  if (at === 0) {
    if (c.rcvQueue.isEmpty) {
      c.deliverOffset = from;
      c.deliverLength = size;
      c.rcvNxt = seqAdd(c.rcvNxt, size);
      scheduleAck(c, nowMs);
      return EV_DELIVER;
    }
    const before = c.rcvQueue.readable;
    const hadGap = c.rcvQueue.outOfOrder > 0;
    if (!c.rcvQueue.insert(before, from, size, c.env.outOfOrderRanges)) {
      c.ackNow = true;
      return 0;
    }
    c.rcvNxt = seqAdd(c.rcvNxt, c.rcvQueue.readable - before);
    // RFC 5681 §4.2: a segment that fills a gap is acknowledged at once.
    if (hadGap) c.ackNow = true;
    else scheduleAck(c, nowMs);
    return EV_READABLE;
  }
  // Ahead of a gap: keep it, and say so at once (RFC 5681 §4.2).
  c.rcvQueue.insert(c.rcvQueue.readable + at, from, size, c.env.outOfOrderRanges);
  c.sackRecent = seqAdd(c.rcvNxt, at);
  c.ackNow = true;
  return 0;
}

function noteDuplicate(c: TcpConnection, seq: Seq, length: number): void {
  if (!c.sackOk || length === 0) return;
  c.dsackLeft = seq;
  c.dsackRight = seqAdd(seq, length);
  c.ackNow = true;
}

/** RFC 9293 §3.8.6.3: delay, but acknowledge every second full segment; decided at the end of the batch. */
function scheduleAck(c: TcpConnection, nowMs: number): void {
  if (c.timers[Timer.DelayedAck] === Number.POSITIVE_INFINITY) {
    c.timers[Timer.DelayedAck] = nowMs + c.env.delayedAckMs;
  }
}

/** At the end of a batch: is an acknowledgment due before the delay is over? */
export function settleAck(c: TcpConnection): void {
  if (seqDiff(c.rcvNxt, c.lastAckSent) >= 2 * c.rcvMss) c.ackNow = true;
}

function checkFin(c: TcpConnection, nowMs: number): number {
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
    enterTimeWait(c, nowMs);
    return EV_FIN | EV_CLOSED;
  }
  return 0;
}
