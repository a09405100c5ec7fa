/**
 * The receiving half: the text of segments on its way to the owner, what waits meanwhile in its queue, the window that
 * we offer and when we acknowledge (RFC 9293 §3.8.6, RFC 5681 §4.2).
 *
 * Bytes in line go to the owner where they lie in the frame (`EV_DELIVER`); those that it does not take, and those ahead
 * of a gap, are copied and kept, which closes the window by itself.
 */
import { Counter } from '../counters.ts';
import { TCP_ACK, type TcpHeader } from '../wire/tcp.ts';
import { EV_DELIVER, EV_READABLE } from './owner.ts';
import { type Seq, seqAdd, seqDiff, seqInWindow, seqLt } from './seq.ts';
import type { Tcb } from './tcb.ts';
import { Timer } from './timers.ts';

/** Share of packet memory that bytes from guests may fill. */
const GUEST_MEMORY = 7 / 8;

/**
 * The text of an acceptable segment. Returns events: `EV_DELIVER` for bytes in line, `EV_READABLE` when the queue has
 * something for the owner.
 */
export function processText(c: Tcb, seq: Seq, offset: number, length: number, nowMs: number): number {
  // After the guest's FIN there is no text; after ours the owner may still read.
  if (c.rcv.finReceived || c.rcv.deliverLength > 0) return 0;
  let from = offset;
  let size = length;
  let at = seqDiff(seq, c.rcv.nxt);
  // There is no text behind FIN.
  if (c.rcv.finKnown) size = Math.min(size, seqDiff(c.rcv.finSeq, seq));
  if (at < 0) {
    noteDuplicate(c, seq, size);
    from -= at;
    size += at;
    at = 0;
  }
  const excess = at + size - seqDiff(c.rcv.adv, c.rcv.nxt);
  if (excess > 0) {
    size -= excess;
    c.rcv.ackNow = true;
  }
  if (size <= 0) {
    c.rcv.ackNow = true;
    return 0;
  }
  if (at === 0) {
    const hadGap = c.rcv.queue.outOfOrder > 0;
    const before = c.rcv.queue.readable;
    let stored =
      !c.rcv.queue.isEmpty && mayKeep(c) && c.rcv.queue.insert(before, from, size, c.env.outOfOrderRanges);
    if (!stored && hadGap) {
      // Out of memory, and what waits for this segment may be what has it all.
      c.rcv.queue.discardOutOfOrder();
      stored = before > 0 && c.rcv.queue.insert(before, from, size, c.env.outOfOrderRanges);
    }
    if (c.rcv.queue.isEmpty) {
      c.rcv.deliverOffset = from;
      c.rcv.deliverLength = size;
      c.rcv.nxt = seqAdd(c.rcv.nxt, size);
      scheduleAck(c, nowMs);
      return EV_DELIVER;
    }
    if (!stored) {
      c.rcv.ackNow = true;
      return 0;
    }
    c.rcv.nxt = seqAdd(c.rcv.nxt, c.rcv.queue.readable - before);
    // RFC 5681 §4.2: a segment that fills a gap is acknowledged at once.
    if (hadGap) c.rcv.ackNow = true;
    else scheduleAck(c, nowMs);
    return EV_READABLE;
  }
  // Ahead of a gap: keep it, and say so at once (RFC 5681 §4.2).
  noteKept(c, at, size);
  const kept =
    hasRoom(c) && c.rcv.queue.insert(c.rcv.queue.readable + at, from, size, c.env.outOfOrderRanges);
  if (!kept) c.env.counters.add(Counter.TcpNotKept, 1);
  c.rcv.sackRecent = seqAdd(c.rcv.nxt, at);
  c.rcv.ackNow = true;
  return 0;
}

/** Report what of the segment we have already: only that, or the guest would take the rest for received. */
export function noteDuplicate(c: Tcb, seq: Seq, length: number): void {
  const known = Math.min(length, seqDiff(c.rcv.nxt, seq));
  // Before the handshake is over there is nothing that could have come before.
  if (!c.sackOk || known <= 0 || !c.isSynchronized) return;
  c.rcv.dsackLeft = seq;
  c.rcv.dsackRight = seqAdd(seq, known);
  c.rcv.ackNow = true;
}

/** As above, for what is beyond a gap (RFC 2883 §4.2): all of it, or it is no duplicate. */
function noteKept(c: Tcb, at: number, size: number): void {
  if (!c.sackOk) return;
  const queue = c.rcv.queue;
  const start = queue.readable + at;
  for (let i = 0; i < queue.rangeCount; i++) {
    if (queue.rangeStartAt(i) > start || queue.rangeEndAt(i) < start + size) continue;
    c.rcv.dsackLeft = seqAdd(c.rcv.nxt, at);
    c.rcv.dsackRight = seqAdd(c.rcv.dsackLeft, size);
    return;
  }
}

/**
 * Echo the timestamp of data that came again: our acknowledgment was lost, and an echo from before would make the guest
 * measure a round trip as long as its timeout, then double that. (RFC 7323 §4.3 takes no timestamp from outside the
 * window; hence the check that the ACK field is one that only the guest can know.)
 */
export function noteTimestampOfDuplicate(c: Tcb, h: TcpHeader, segmentLength: number, nowMs: number): void {
  if (!c.timestampsOk || !h.hasTimestamps || segmentLength === 0 || (h.flags & TCP_ACK) === 0) return;
  if (!seqLt(h.seq, c.rcv.nxt) || !seqInWindow(h.ack, c.snd.una, c.snd.flight + 1)) return;
  c.tsRecent = h.tsVal;
  c.tsRecentAt = nowMs;
}

/**
 * RFC 9293 §3.8.6.3: delay only where an answer is likely to carry the acknowledgment; a guest whose Nagle algorithm
 * waits for it must not be kept waiting. Otherwise it goes out at the end of the batch.
 */
function scheduleAck(c: Tcb, nowMs: number): void {
  c.rcv.lastDataAt = nowMs;
  if (c.rcv.interactive && c.timers[Timer.DelayedAck] === Number.POSITIVE_INFINITY) {
    c.timers[Timer.DelayedAck] = nowMs + c.env.delayedAckMs;
  }
}

/**
 * Bytes from guests leave a part of packet memory to bytes from hosts, or hosts that do not read would stop every flow
 * . What fills a gap is always welcome: it lets go what waits behind it.
 */
export function mayKeep(c: Tcb): boolean {
  return hasRoom(c) || c.rcv.queue.outOfOrder > 0;
}

function hasRoom(c: Tcb): boolean {
  const { slab } = c.env;
  return slab.pagesUsed < slab.pageCount * GUEST_MEMORY;
}
