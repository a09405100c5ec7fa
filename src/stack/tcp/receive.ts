/**
 * The receiving half: the text of segments on its way to the owner, what waits meanwhile in `rcvQueue`, the window that
 * we offer and when we acknowledge (RFC 9293 §3.8.6, RFC 5681 §4.2).
 *
 * Bytes in line go to the owner where they lie in the frame (`EV_DELIVER`); those that it does not take, and those ahead
 * of a gap, are copied into `rcvQueue`, which closes the window by itself.
 */
import { Counter } from '../counters.ts';
import { TCP_ACK, type TcpHeader } from '../wire/tcp.ts';
import { checkFin } from './closing.ts';
import { EV_DELIVER, EV_READABLE, type TcpConnection } from './connection.ts';
import { type Seq, seqAdd, seqDiff, seqInWindow, seqLt } from './seq.ts';
import { Timer } from './timers.ts';

/** Share of packet memory that bytes from guests may fill. */
const GUEST_MEMORY = 7 / 8;

/**
 * The text of an acceptable segment. Returns events: `EV_DELIVER` for bytes in line, `EV_READABLE` when `rcvQueue` has
 * something for the owner.
 */
export function processText(
  c: TcpConnection,
  seq: Seq,
  offset: number,
  length: number,
  nowMs: number,
): number {
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
  noteKept(c, at, size);
  const kept = hasRoom(c) && c.rcvQueue.insert(c.rcvQueue.readable + at, from, size, c.env.outOfOrderRanges);
  if (!kept) c.env.counters.add(Counter.TcpNotKept, 1);
  c.sackRecent = seqAdd(c.rcvNxt, at);
  c.ackNow = true;
  return 0;
}

/**
 * The owner passed `taken` of the delivered bytes on; the rest is kept for later. Returns further events (EV_FIN).
 * Bytes that do not fit in memory are given back: they are not acknowledged and will come again.
 */
export function takeDelivered(c: TcpConnection, taken: number): number {
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
  return checkFin(c);
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
  if (gain >= Math.min(halfWindow(c), Math.max(c.rcvMss, limit / 8))) c.ackNow = true;
}

/**
 * Half of the window, the gain that is always told. Windows are rounded up to their unit, in the guest's eyes too, which
 * does not use less than half of the largest: without that unit both sides could wait for each other.
 */
export function halfWindow(c: TcpConnection): number {
  return (windowLimit(c) - (1 << c.rcvWindowShift)) / 2;
}

/** Bytes beyond RCV.NXT that may be received: what there is room for, as far as the window field can say it. */
export function receiveRoom(c: TcpConnection): number {
  return Math.max(0, Math.min(c.rcvLimit - c.rcvQueue.readable, windowLimit(c)));
}

/** The largest window that we can offer. */
export function windowLimit(c: TcpConnection): number {
  return Math.min(c.rcvLimit, 65535 * 2 ** c.rcvWindowShift);
}

/** At the end of a batch: is an acknowledgment due before the delay is over? A window of few segments must not wait. */
export function settleAck(c: TcpConnection): void {
  const unacknowledged = seqDiff(c.rcvNxt, c.lastAckSent);
  // What was announced, or what the guest can send by now: its MTU may have become smaller.
  const mss = Math.min(c.rcvMss, c.env.link.mtu - (c.isV4 ? 40 : 60));
  const enough = Math.min(2 * mss, windowLimit(c) / 4);
  if (unacknowledged >= enough || (unacknowledged > 0 && !c.interactive)) c.ackNow = true;
}

/** Report what of the segment we have already: only that, or the guest would take the rest for received. */
export function noteDuplicate(c: TcpConnection, seq: Seq, length: number): void {
  const known = Math.min(length, seqDiff(c.rcvNxt, seq));
  // Before the handshake is over there is nothing that could have come before.
  if (!c.sackOk || known <= 0 || !c.isSynchronized) return;
  c.dsackLeft = seq;
  c.dsackRight = seqAdd(seq, known);
  c.ackNow = true;
}

/** As above, for what is beyond a gap (RFC 2883 §4.2): all of it, or it is no duplicate. */
function noteKept(c: TcpConnection, at: number, size: number): void {
  if (!c.sackOk) return;
  const queue = c.rcvQueue;
  const start = queue.readable + at;
  for (let i = 0; i < queue.rangeCount; i++) {
    if (queue.rangeStartAt(i) > start || queue.rangeEndAt(i) < start + size) continue;
    c.dsackLeft = seqAdd(c.rcvNxt, at);
    c.dsackRight = seqAdd(c.dsackLeft, size);
    return;
  }
}

/**
 * Echo the timestamp of data that came again: our acknowledgment was lost, and an echo from before would make the guest
 * measure a round trip as long as its timeout, then double that. (RFC 7323 §4.3 takes no timestamp from outside the
 * window; hence the check that the ACK field is one that only the guest can know.)
 */
export function noteTimestampOfDuplicate(
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
