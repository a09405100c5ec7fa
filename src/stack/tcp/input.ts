/**
 * Segment arrives (RFC 9293 §3.10.7), in that section's order, with RFC 5961's protections and RFC 7323's timestamps.
 *
 * `onSegment` changes the connection and returns events; it sends nothing itself. What is to be sent it marks
 * (`ackNow`, retransmission cursor, …) for output.ts.
 */
import { Counter } from '../counters.ts';
import { DropReason } from '../wire/drop-reason.ts';
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
  Recovery,
  type TcpConnection,
  TcpState,
} from './connection.ts';
import { afterAck, echoed, onDsack, onDuplicateAck, onNewAck, sampleRtt } from './recovery.ts';
import { RTO_AFTER_SYN_LOSS_MS } from './rtt.ts';
import { type Seq, seqAdd, seqDiff, seqInWindow, seqLeq, seqLt } from './seq.ts';
import { Timer } from './timers.ts';

/** RFC 7323 §5.5: a timestamp older than this is no evidence. */
const PAWS_IDLE_MS = 24 * 24 * 3600 * 1000;
/** Share of packet memory that bytes from guests may fill. */
const GUEST_MEMORY = 7 / 8;
/** Challenge ACKs per connection and second (RFC 5961 §7). */
const CHALLENGES_PER_SECOND = 10;
export const TIME_WAIT_MS = 60_000;
/** The ACK field makes no sense: the segment is dropped, text and all. */
const BAD_ACK_FIELD = -1;

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
      if ((flags & TCP_SYN) === 0) return drop(c, DropReason.TcpTs);
    } else if (((h.tsVal - c.tsRecent) | 0) < 0 && nowMs - c.tsRecentAt < PAWS_IDLE_MS) {
      c.ackNow = true;
      return drop(c, DropReason.TcpTs);
    }
  }

  const windowSize = seqDiff(c.rcvAdv, c.rcvNxt);
  // Second, but valid whatever the window is (§3.10.7.4): RST (RFC 5961 §3.2).
  if ((flags & TCP_RST) !== 0) {
    if (h.seq === c.rcvNxt) {
      // RFC 1337: a guest that has forgotten the connection answers our last acknowledgment so. It is no reset.
      if (c.state === TcpState.TimeWait) return 0;
      close(c);
      return EV_RESET | EV_CLOSED;
    }
    if (seqInWindow(h.seq, c.rcvNxt, windowSize)) challenge(c, nowMs);
    return drop(c, DropReason.TcpWindow);
  }

  // First: is it in the window?
  const segmentLength = length + ((flags & TCP_FIN) !== 0 ? 1 : 0) + ((flags & TCP_SYN) !== 0 ? 1 : 0);
  if (!isAcceptable(c, h.seq, segmentLength, windowSize)) {
    if ((flags & TCP_SYN) !== 0) {
      // A repeated SYN in SYN-RECEIVED: our SYN-ACK was lost. One that acknowledges ours: both sides opened at once.
      if (c.state !== TcpState.SynReceived || h.seq !== c.irs) challenge(c, nowMs);
      else if ((flags & TCP_ACK) !== 0 && h.ack === c.sndNxt) return establishBySyn(c, h, nowMs);
      else c.synPending = true;
      return 0;
    }
    drop(c, DropReason.TcpWindow);
    noteDuplicate(c, h.seq, length);
    noteTimestampOfDuplicate(c, h, segmentLength, nowMs);
    // An answer to each empty segment could be answered in turn, for ever (T-12).
    if (segmentLength > 0) c.ackNow = true;
    else challenge(c, nowMs);
    // §3.10.7.4: a zero window must not cut acknowledgments off; nor must a guest's FIN or window probe that crossed
    // our window update, which leaves its empty segments one off.
    const ackCounts =
      segmentLength === 0
        ? seqInWindow(h.seq, seqAdd(c.rcvNxt, -1), windowSize + 3)
        : windowSize === 0 && h.seq === c.rcvNxt;
    if (ackCounts && (flags & TCP_ACK) !== 0 && c.isSynchronized) {
      return Math.max(0, processAck(c, h, length, nowMs));
    }
    return 0;
  }

  // Fourth: SYN in the window (RFC 5961 §4.2).
  if ((flags & TCP_SYN) !== 0) {
    if (c.state === TcpState.SynReceived && h.seq === c.irs) c.synPending = true;
    else challenge(c, nowMs);
    return 0;
  }

  // Fifth: ACK.
  if ((flags & TCP_ACK) === 0) return drop(c, DropReason.TcpFlags);
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
  const acked = processAck(c, h, length, nowMs);
  if (acked === BAD_ACK_FIELD) return events;
  events |= acked;
  if ((events & EV_CLOSED) !== 0) return events;

  // Seventh: text. URG is ignored: the bytes stay in line (T-18).
  if (length > 0) events |= processText(c, h.seq, offset, length, nowMs);

  // Eighth: FIN.
  if ((flags & TCP_FIN) !== 0 && !c.finKnown) {
    const finSeq = seqAdd(h.seq, length);
    // Only a FIN inside what we can take now counts; a later copy brings it again.
    if (seqLeq(c.rcvNxt, finSeq) && seqLeq(finSeq, c.rcvAdv)) {
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
    const stored = mayKeep(c) && c.rcvQueue.insert(0, c.deliverOffset + taken, rest, 0);
    if (!stored) {
      c.rcvNxt = seqAdd(c.rcvNxt, -rest);
      c.ackNow = true;
      return 0;
    }
  }
  return checkFin(c, nowMs);
}

/**
 * The owner took delivered bytes but could not pass them on after all: keep those at `offset` behind what is kept
 * already. False: no memory; call `giveBackDelivered` for these and all after them.
 */
export function keepDelivered(c: TcpConnection, offset: number, length: number): boolean {
  return mayKeep(c) && c.rcvQueue.insert(c.rcvQueue.readable, offset, length, 0);
}

/** The last `bytes` received are lost for lack of memory: not being acknowledged yet, they will come again. */
export function giveBackDelivered(c: TcpConnection, bytes: number): void {
  c.rcvNxt = seqAdd(c.rcvNxt, -bytes);
  c.ackNow = true;
}

/** The owner took `bytes` out of `rcvQueue`. */
export function consumeReceived(c: TcpConnection, bytes: number): void {
  c.rcvQueue.consume(bytes);
  // After the guest's FIN nothing more can come.
  if (c.finReceived) return;
  // RFC 9293 §3.8.6.2.2: tell the guest only when the window grew by something worth telling.
  const room = receiveRoom(c);
  const gain = room - seqDiff(c.rcvAdv, c.rcvNxt);
  const limit = windowLimit(c);
  if (gain >= Math.min(limit / 2, Math.max(c.rcvMss, limit / 8))) c.ackNow = true;
}

/** Bytes beyond RCV.NXT that may be received: what there is room for, as far as the window field can say it. */
export function receiveRoom(c: TcpConnection): number {
  return Math.max(0, Math.min(c.rcvLimit - c.rcvQueue.readable, windowLimit(c)));
}

/** The largest window that we can offer. */
export function windowLimit(c: TcpConnection): number {
  return Math.min(c.rcvLimit, 65535 * 2 ** c.rcvWindowShift);
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
  c.sndQueue.clear();
  c.scoreboard.clear();
  c.timers.fill(Number.POSITIVE_INFINITY);
  c.synPending = false;
  c.probePending = false;
  c.persistPending = false;
}

function onSynSent(c: TcpConnection, h: TcpHeader, nowMs: number): number {
  const flags = h.flags;
  const ackOk = (flags & TCP_ACK) !== 0 && h.ack === c.sndNxt;
  if ((flags & TCP_ACK) !== 0 && !ackOk) return (flags & TCP_RST) !== 0 ? 0 : EV_BAD_ACK;
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
  return establishBySyn(c, h, nowMs);
}

/** RFC 9293 §3.5, figures 6 and 7: the segment that acknowledges our SYN is a SYN itself. */
function establishBySyn(c: TcpConnection, h: TcpHeader, nowMs: number): number {
  establish(c, h, nowMs);
  // RFC 7323 §2.2: the window of a SYN is never scaled.
  c.sndWnd = h.window;
  c.maxSndWnd = h.window;
  c.synPending = false;
  c.ackNow = true;
  return EV_ESTABLISHED;
}

function establish(c: TcpConnection, h: TcpHeader, nowMs: number): void {
  c.state = TcpState.Established;
  c.timers[Timer.State] = Number.POSITIVE_INFINITY;
  c.timers[Timer.Retransmit] = Number.POSITIVE_INFINITY;
  c.sndUna = seqAdd(c.iss, 1);
  c.limitedUntil = c.sndUna;
  c.sndWl1 = h.seq;
  c.sndWl2 = h.ack;
  c.sndWnd = h.window << c.sndWindowShift;
  if (c.sndWnd > c.maxSndWnd) c.maxSndWnd = c.sndWnd;
  sampleRtt(c, h, h.ack, nowMs);
  c.rttTimedAt = -1;
  // RFC 6298 §5.7: nothing is known of the round trip but that the timer was too short for it.
  if (c.synRetransmitted && c.rtt.srttMs < 0) c.rtt.rtoMs = RTO_AFTER_SYN_LOSS_MS;
  c.lastHeardAt = nowMs;
}

/**
 * §3.4, with two additions. An empty segment may lie at the right edge: a guest that has filled our window while its
 * first segment was lost acknowledges from there, and dropping that would make both sides answer each other for ever.
 * A segment may begin before the window and end behind it (§3.4 forgets that case): it is trimmed.
 */
function isAcceptable(c: TcpConnection, seq: Seq, segmentLength: number, windowSize: number): boolean {
  if (segmentLength === 0) return seqInWindow(seq, c.rcvNxt, windowSize + 1);
  return seqLt(seq, seqAdd(c.rcvNxt, windowSize)) && seqLt(c.rcvNxt, seqAdd(seq, segmentLength));
}

/**
 * Bytes from guests leave a part of packet memory to bytes from hosts, or hosts that do not read would stop every flow
 * . What fills a gap is always welcome: it lets go what waits behind it.
 */
function mayKeep(c: TcpConnection): boolean {
  return hasRoom(c) || c.rcvQueue.outOfOrder > 0;
}

function hasRoom(c: TcpConnection): boolean {
  const { slab } = c.env;
  return slab.pagesUsed < slab.pageCount * GUEST_MEMORY;
}

function drop(c: TcpConnection, reason: number): number {
  c.env.counters.drop(reason);
  return 0;
}

function challenge(c: TcpConnection, nowMs: number): void {
  if (nowMs - c.challengeWindowStart >= 1000) {
    c.challengeWindowStart = nowMs;
    c.challengeCount = 0;
  }
  // The limit of all connections is random, or one guest program could count another's challenges (CVE-2016-5696).
  if (c.challengeCount >= CHALLENGES_PER_SECOND || !c.env.challenges.allow(nowMs)) {
    c.env.counters.add(Counter.TcpChallengesSuppressed, 1);
    return;
  }
  c.env.counters.add(Counter.TcpChallenges, 1);
  c.challengeCount++;
  c.ackNow = true;
}

/**
 * Returns events, or BAD_ACK_FIELD for an acknowledgment of what was never sent or of long ago (§3.10.7.4, RFC 5961
 * §5.2). `length` is the segment's payload (a segment with data is no duplicate ACK).
 */
function processAck(c: TcpConnection, h: TcpHeader, length: number, nowMs: number): number {
  const ack = h.ack;
  if (seqLt(c.sndNxt, ack) || seqLt(ack, seqAdd(c.sndUna, -Math.max(c.maxSndWnd, 65535)))) {
    challenge(c, nowMs);
    drop(c, DropReason.TcpAck);
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
    if (window > c.sndWnd && c.sndWnd < c.sndMss) events |= EV_ACKED;
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
    events |= EV_ACKED;
    if (c.finSent && ack === c.sndNxt) events |= onFinAcked(c, nowMs);
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
    timers[Timer.Persist] = Number.POSITIVE_INFINITY;
    c.persistMs = 0;
  } else if (probing) {
    // It may still be too small to be used: then the timer overrides after one RTO, not after the probes' long gaps.
    c.persistMs = c.rtt.rtoMs;
    timers[Timer.Persist] = Math.min(timers[Timer.Persist] as number, nowMs + c.persistMs);
  }
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
  // There is no text behind FIN.
  if (c.finKnown) size = Math.min(size, seqDiff(c.finSeq, seq));
  if (at < 0) {
    noteDuplicate(c, seq, size);
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
    const hadGap = c.rcvQueue.outOfOrder > 0;
    const before = c.rcvQueue.readable;
    let stored =
      !c.rcvQueue.isEmpty && mayKeep(c) && c.rcvQueue.insert(before, from, size, c.env.outOfOrderRanges);
    if (!stored && hadGap) {
      // Out of memory, and what waits for this segment may be what has it all.
      c.rcvQueue.discardOutOfOrder();
      stored = before > 0 && c.rcvQueue.insert(before, from, size, c.env.outOfOrderRanges);
    }
    if (c.rcvQueue.isEmpty) {
      c.deliverOffset = from;
      c.deliverLength = size;
      c.rcvNxt = seqAdd(c.rcvNxt, size);
      scheduleAck(c, nowMs);
      return EV_DELIVER;
    }
    if (!stored) {
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
  const kept = hasRoom(c) && c.rcvQueue.insert(c.rcvQueue.readable + at, from, size, c.env.outOfOrderRanges);
  if (!kept) c.env.counters.add(Counter.TcpNotKept, 1);
  c.sackRecent = seqAdd(c.rcvNxt, at);
  c.ackNow = true;
  return 0;
}

/** Report what of the segment we have already: only that, or the guest would take the rest for received. */
function noteDuplicate(c: TcpConnection, seq: Seq, length: number): void {
  const known = Math.min(length, seqDiff(c.rcvNxt, seq));
  if (!c.sackOk || known <= 0) return;
  c.dsackLeft = seq;
  c.dsackRight = seqAdd(seq, known);
  c.ackNow = true;
}

/**
 * Echo the timestamp of data that came again: our acknowledgment was lost, and an echo from before would make the guest
 * measure a round trip as long as its timeout, then double that. (RFC 7323 §4.3 takes no timestamp from outside the
 * window; hence the check that the ACK field is one that only the guest can know.)
 */
function noteTimestampOfDuplicate(
  c: TcpConnection,
  h: TcpHeader,
  segmentLength: number,
  nowMs: number,
): void {
  if (!c.timestampsOk || !h.hasTimestamps || segmentLength === 0 || (h.flags & TCP_ACK) === 0) return;
  if (!seqLt(h.seq, c.rcvNxt) || !seqInWindow(h.ack, c.sndUna, c.flight + 1)) return;
  c.tsRecent = h.tsVal;
  c.tsRecentAt = nowMs;
}

/**
 * RFC 9293 §3.8.6.3: delay only where an answer is likely to carry the acknowledgment; a guest whose Nagle algorithm
 * waits for it must not be kept waiting. Otherwise it goes out at the end of the batch.
 */
function scheduleAck(c: TcpConnection, nowMs: number): void {
  c.lastDataAt = nowMs;
  if (c.interactive && c.timers[Timer.DelayedAck] === Number.POSITIVE_INFINITY) {
    c.timers[Timer.DelayedAck] = nowMs + c.env.delayedAckMs;
  }
}

/** At the end of a batch: is an acknowledgment due before the delay is over? A window of few segments must not wait. */
export function settleAck(c: TcpConnection): void {
  const unacknowledged = seqDiff(c.rcvNxt, c.lastAckSent);
  // What was announced, or what the guest can send by now: its MTU may have become smaller.
  const mss = Math.min(c.rcvMss, c.env.link.mtu - (c.isV4 ? 40 : 60));
  const enough = Math.min(2 * mss, windowLimit(c) / 4);
  if (unacknowledged >= enough || (unacknowledged > 0 && !c.interactive)) c.ackNow = true;
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
