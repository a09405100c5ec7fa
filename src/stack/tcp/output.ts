/**
 * What to send next (RFC 9293 §3.8): `pollTransmit` fills one segment and says whether there was one.
 *
 * Order: reset; handshake; what is to be sent again; probes; new bytes; FIN; a bare acknowledgment. Every segment
 * carries the acknowledgment, so whatever goes out also settles a pending ACK; only an ACK that tells of a gap goes
 * ahead by itself, because segments with data carry no SACK blocks and never count as duplicate ACKs.
 *
 * When the device segments for us a "segment" may be up to 64 KiB long with `mss` telling where the kernel cuts it.
 * Nagle's algorithm is off: what the host sent as one piece is one piece for the guest (RQ-16).
 */
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, type TcpHeader } from '../wire/tcp.ts';
import { close } from './closing.ts';
import type { TcpSegmentOut } from './owner.ts';
import { mustWait, notePaced } from './pacing.ts';
import { armLossProbe, armRetransmit, congestionLimit, pipe } from './recovery.ts';
import { type Seq, seqAdd, seqDiff, seqLt, seqMax } from './seq.ts';
import { MIN_MSS, Recovery, type Tcb, TcpState, TIMESTAMP_OPTION_LENGTH, WINDOW_SHIFT } from './tcb.ts';
import { Timer } from './timers.ts';

/**
 * A sender that has only a window of one or two segments waits for an acknowledgment after each. Cutting segments at
 * this fraction of the guest's largest window keeps acknowledgments flowing when the MSS is as large as the window.
 */
const SEGMENTS_PER_WINDOW = 4;
/** …but never below this, where the cost per segment begins to count. */
const SMALLEST_CUT = 1024;

/** After so many acknowledgments that waited in vain, this connection's are not delayed any more. */
const MAX_DELAY_FAILURES = 2;

export function pollTransmit(c: Tcb, nowMs: number, out: TcpSegmentOut): boolean {
  if (c.snd.rstPending) {
    c.snd.rstPending = false;
    prepare(c, out, c.snd.nxt, nowMs);
    out.header.flags = c.state === TcpState.SynSent ? TCP_RST : TCP_RST | TCP_ACK;
    out.header.hasTimestamps = false;
    close(c);
    return true;
  }
  switch (c.state) {
    case TcpState.Closed:
    case TcpState.SynPending:
      return false;
    case TcpState.SynSent:
    case TcpState.SynReceived:
      if (c.snd.synPending) {
        sendSyn(c, nowMs, out);
        return true;
      }
      // What a segment outside the window gets, or a challenge (RFC 9293 §3.10.7.4).
      return c.rcv.ackNow && c.state === TcpState.SynReceived && sendAck(c, nowMs, out);
    default:
      return (
        (c.rcv.ackNow && tellsOfGap(c) && sendAck(c, nowMs, out)) ||
        (c.loss.scoreboard.lost > 0 && retransmit(c, nowMs, out)) ||
        (c.loss.probePending && sendLossProbe(c, nowMs, out)) ||
        sendNew(c, nowMs, out) ||
        (c.snd.persistPending && sendWindowProbe(c, nowMs, out)) ||
        (c.rcv.ackNow && sendAck(c, nowMs, out))
      );
  }
}

function sendSyn(c: Tcb, nowMs: number, out: TcpSegmentOut): void {
  c.snd.synPending = false;
  const edge = c.rcv.adv;
  prepare(c, out, c.snd.iss, nowMs);
  const h = out.header;
  const passive = c.state === TcpState.SynReceived;
  h.flags = passive ? TCP_SYN | TCP_ACK : TCP_SYN;
  if (!passive) h.ack = 0;
  h.mss = c.rcv.mss;
  h.sackPermitted = passive ? c.sackOk : true;
  h.windowScale = !passive || c.rcv.windowShift > 0 ? WINDOW_SHIFT : -1;
  // RFC 7323 §2.2: the window of a SYN is not scaled.
  const window = Math.min(65535, c.rcv.room);
  h.window = window;
  c.rcv.adv = passive ? seqMax(edge, seqAdd(c.rcv.nxt, window)) : edge;
  if (c.snd.nxt === c.snd.iss) {
    c.snd.nxt = seqAdd(c.snd.iss, 1);
    if (!c.timestampsOk) {
      c.loss.rttTimedAt = nowMs;
      c.loss.rttTimedSeq = c.snd.iss;
    }
  } else {
    c.snd.synRetransmitted = true;
    c.loss.rttTimedAt = -1;
  }
  c.timers[Timer.Retransmit] = nowMs + c.loss.rtt.rtoMs;
}

/** Send the first lost piece again, as far as the congestion window allows. */
function retransmit(c: Tcb, nowMs: number, out: TcpSegmentOut): boolean {
  const board = c.loss.scoreboard;
  const from = board.firstLost;
  const missing = board.firstLostLength;
  const inNetwork = pipe(c);
  const most = Math.min(missing, segmentCut(c));
  if (inNetwork > 0 && inNetwork + most > congestionLimit(c)) return false;
  // Within the window the guest offers now, but always something (RFC 9293 §3.8.6: shrunk windows).
  const ahead = seqDiff(from, c.snd.una);
  const offered = c.snd.wnd - ahead;
  if (ahead > 0 && offered <= 0) return false;
  const inQueue = seqDiff(from, c.snd.queueSeq);
  const data = Math.min(most, c.snd.queue.length - inQueue, Math.max(offered, 1));
  repeat(c, from, data, nowMs, out);
  if (c.loss.recovery === Recovery.Fast) c.loss.prrOut += out.length;
  if (c.loss.recovery !== Recovery.None && !c.loss.resendTsValid && c.timestampsOk && from === c.snd.una) {
    c.loss.resendTs = out.header.tsVal;
    c.loss.resendTsValid = true;
  }
  if (ahead === 0 || c.timers[Timer.Retransmit] === Number.POSITIVE_INFINITY) armRetransmit(c, nowMs);
  return true;
}

/**
 * Send `data` bytes from `from` once more, and FIN where it follows them. Should the guest have them already, it ignores
 * the segment's acknowledgment too (RFC 9293 §3.10.7.4), so one that is due goes out by itself as well.
 */
function repeat(c: Tcb, from: Seq, data: number, nowMs: number, out: TcpSegmentOut): void {
  const ackDue = c.rcv.ackNow || c.rcv.lastAckSent !== c.rcv.nxt;
  let to = seqAdd(from, Math.max(data, 0));
  if (data > 0) {
    fillData(c, out, from, data, nowMs);
  } else {
    // Only our FIN is left.
    prepare(c, out, from, nowMs);
    out.header.flags = TCP_ACK;
  }
  if (c.snd.finSent && seqAdd(to, 1) === c.snd.nxt) {
    out.header.flags |= TCP_FIN;
    to = c.snd.nxt;
  }
  c.loss.scoreboard.sentAgain(from, to, nowMs);
  c.loss.rttTimedAt = -1;
  c.rcv.ackNow = ackDue;
}

/**
 * RFC 8985 §7.3: something to acknowledge, which tells what is missing: new bytes if there are any, else the last
 * segment once more. It may exceed the congestion window.
 */
function sendLossProbe(c: Tcb, nowMs: number, out: TcpSegmentOut): boolean {
  c.loss.probePending = false;
  // Not beyond a window that the guest took back (RFC 9293 §3.8.6).
  if (c.snd.flight === 0 || c.loss.probeSent || c.snd.flight - c.snd.wnd >= 1 << c.snd.windowShift)
    return false;
  c.loss.probeSent = true;
  const queued = seqDiff(c.snd.nxt, c.snd.queueSeq) - (c.snd.finSent ? 1 : 0);
  const fresh = c.snd.finSent ? 0 : Math.min(c.snd.queue.length - queued, segmentCut(c));
  if (fresh > 0 && c.snd.flight + fresh <= c.snd.wnd) {
    fillData(c, out, c.snd.nxt, fresh, nowMs);
    afterNew(c, fresh, nowMs);
  } else {
    const data = Math.min(segmentCut(c), queued);
    c.loss.probeResent = true;
    c.loss.probeEnd = c.snd.nxt;
    repeat(c, seqAdd(c.snd.queueSeq, queued - data), data, nowMs, out);
  }
  c.timers[Timer.Retransmit] = nowMs + c.loss.rtt.rtoMs;
  return true;
}

/** New bytes, and FIN behind the last of them. */
function sendNew(c: Tcb, nowMs: number, out: TcpSegmentOut): boolean {
  if (c.snd.finSent) return false;
  const sentOffset = seqDiff(c.snd.nxt, c.snd.queueSeq);
  const unsent = c.snd.queue.length - sentOffset;
  const { flight } = c.snd;
  if (flight === 0 && unsent > 0 && nowMs - c.snd.lastDataAt > c.loss.rtt.rtoMs)
    c.loss.congestion.onIdle(nowMs);
  // Duplicate ACKs and SACK make the pipe smaller than the flight: that is limited transmit (RFC 3042).
  const congested = congestionLimit(c) - pipe(c);
  const offered = c.snd.wnd - flight;
  const usable = Math.min(offered, congested);
  const waits = unsent > 0 && mustWait(c, nowMs);
  if (congested <= offered && (waits || unsent > congested)) c.snd.limitedUntil = c.snd.nxt;
  if (waits) return false;
  // FIN takes a place in the window; alone before a shut one it goes out all the same and is its own probe.
  if (unsent === 0) return c.snd.finQueued && (usable > 0 || flight === 0) && sendFin(c, nowMs, out);
  if (usable <= 0) {
    if (flight === 0) armPersist(c, nowMs);
    return false;
  }
  const mss = segmentCut(c);
  let length = Math.min(unsent, usable);
  if (length > mss) {
    // Several segments' worth: whole segments only, unless all there is fits.
    const limit = unitOf(c, mss);
    if (length > limit) length = limit;
    else if (length < unsent) length -= length % mss;
  } else if (length < unsent && length < mss && length < c.snd.maxWnd / 2) {
    // Sender's silly window avoidance (RFC 9293 §3.8.6.2.1); the persist timer overrides it.
    if (flight === 0) armPersist(c, nowMs);
    return false;
  }
  fillData(c, out, c.snd.nxt, length, nowMs);
  if (length > mss) out.mss = mss;
  if (length === unsent) {
    out.header.flags |= TCP_PSH;
    if (c.snd.finQueued && usable > length) markFin(c, out);
  }
  afterNew(c, length, nowMs);
  return true;
}

function sendFin(c: Tcb, nowMs: number, out: TcpSegmentOut): boolean {
  prepare(c, out, c.snd.nxt, nowMs);
  out.header.flags = TCP_ACK;
  markFin(c, out);
  afterNew(c, 0, nowMs);
  return true;
}

function markFin(c: Tcb, out: TcpSegmentOut): void {
  out.header.flags |= TCP_FIN;
  c.snd.finSent = true;
  c.state = c.state === TcpState.CloseWait ? TcpState.LastAck : TcpState.FinWait1;
}

function afterNew(c: Tcb, length: number, nowMs: number): void {
  const wasIdle = c.snd.flight === 0;
  if (!c.rcv.interactive && nowMs - c.rcv.lastDataAt < c.env.delayedAckMs) {
    c.rcv.interactive = c.rcv.delayFailures < MAX_DELAY_FAILURES;
  }
  if (c.loss.rttTimedAt < 0 && !c.timestampsOk) {
    c.loss.rttTimedAt = nowMs;
    c.loss.rttTimedSeq = c.snd.nxt;
  }
  const to = seqAdd(c.snd.nxt, length + (c.snd.finSent ? 1 : 0));
  c.loss.scoreboard.sent(c.snd.nxt, to, nowMs);
  if (c.loss.recovery === Recovery.Fast) c.loss.prrOut += length;
  c.snd.nxt = to;
  c.snd.lastDataAt = nowMs;
  notePaced(c, length, nowMs);
  c.timers[Timer.Persist] = Number.POSITIVE_INFINITY;
  c.snd.persistMs = 0;
  if (wasIdle || c.timers[Timer.Retransmit] === Number.POSITIVE_INFINITY) armRetransmit(c, nowMs);
  else armLossProbe(c, nowMs);
}

/** One byte beyond a closed window, or nothing but an old number (keep-alive) when there is no byte to send. */
function sendWindowProbe(c: Tcb, nowMs: number, out: TcpSegmentOut): boolean {
  c.snd.persistPending = false;
  const sentOffset = seqDiff(c.snd.nxt, c.snd.queueSeq);
  if (!c.snd.finSent && c.snd.queue.length > sentOffset && c.snd.flight === 0) {
    const size = Math.max(1, Math.min(c.snd.queue.length, c.snd.wnd, segmentCut(c)));
    fillData(c, out, c.snd.nxt, size, nowMs);
    // A byte beyond the window is the persist timer's; what fits in it is sent like anything else.
    if (c.snd.wnd > 0) afterNew(c, size, nowMs);
    else {
      c.loss.scoreboard.sent(c.snd.nxt, seqAdd(c.snd.nxt, size), nowMs);
      c.snd.nxt = seqAdd(c.snd.nxt, size);
    }
    return true;
  }
  if (c.snd.flight > 0 && c.snd.queue.length > 0) {
    fillData(c, out, c.snd.queueSeq, 1, nowMs);
    return true;
  }
  prepare(c, out, seqAdd(c.snd.nxt, -1), nowMs);
  out.header.flags = TCP_ACK;
  return true;
}

/** There is something to say that only a bare ACK can: a gap, or a duplicate. */
function tellsOfGap(c: Tcb): boolean {
  return (
    c.rcv.queue.outOfOrder > 0 ||
    (c.rcv.finKnown && !c.rcv.finReceived) ||
    c.rcv.dsackLeft !== c.rcv.dsackRight
  );
}

function sendAck(c: Tcb, nowMs: number, out: TcpSegmentOut): boolean {
  prepare(c, out, ackSeq(c), nowMs);
  out.header.flags = TCP_ACK;
  addSackBlocks(c, out);
  return true;
}

/**
 * The sequence number of a bare ACK: SND.NXT, but beyond the window (a probe, FIN, a window that shrank) the guest would
 * not accept it. A window that seems to shrink by less than its unit was only rounded.
 */
function ackSeq(c: Tcb): Seq {
  const beyond = c.snd.flight - c.snd.wnd;
  if (beyond <= 0 || (c.snd.wnd > 0 && beyond < 1 << c.snd.windowShift)) return c.snd.nxt;
  return seqAdd(c.snd.una, c.snd.wnd);
}

function armPersist(c: Tcb, nowMs: number): void {
  if (c.timers[Timer.Persist] !== Number.POSITIVE_INFINITY) return;
  c.snd.persistMs = c.loss.rtt.rtoMs;
  c.timers[Timer.Persist] = nowMs + c.snd.persistMs;
}

/** The MTU may have become smaller since the connection was opened. */
function segmentCut(c: Tcb): number {
  const options = c.timestampsOk ? TIMESTAMP_OPTION_LENGTH : 0;
  const fitting = Math.max(MIN_MSS, c.fitting(c.env.link.mtu)) - options;
  return Math.min(c.snd.mss, fitting, Math.max(SMALLEST_CUT, Math.floor(c.snd.maxWnd / SEGMENTS_PER_WINDOW)));
}

/** Largest payload that one `pollTransmit` gives: a whole number of segments, as many as the device takes at once. */
export function transmitUnit(c: Tcb): number {
  return unitOf(c, segmentCut(c));
}

function unitOf(c: Tcb, mss: number): number {
  const limit = c.isV4 ? c.env.superSegment4 : c.env.superSegment6;
  return limit < mss ? mss : limit - (limit % mss);
}

function fillData(c: Tcb, out: TcpSegmentOut, seq: Seq, length: number, nowMs: number): void {
  prepare(c, out, seq, nowMs);
  out.header.flags = TCP_ACK;
  out.queueOffset = seqDiff(seq, c.snd.queueSeq);
  out.length = length;
  out.mss = length;
}

/** Fill everything but flags and payload, and take the acknowledgment as sent. */
function prepare(c: Tcb, out: TcpSegmentOut, seq: Seq, nowMs: number): void {
  const h = out.header;
  h.seq = seq;
  h.ack = c.rcv.nxt;
  h.urgent = 0;
  h.mss = -1;
  h.windowScale = -1;
  h.sackPermitted = false;
  h.sackCount = 0;
  h.hasTimestamps = c.timestampsOk;
  if (c.timestampsOk) {
    h.tsVal = (Math.floor(nowMs) + c.tsOffset) >>> 0;
    h.tsEcr = c.tsRecent;
  }
  out.queueOffset = 0;
  out.length = 0;
  out.mss = 0;
  // The right edge never moves left (RFC 9293 §3.8.6), however little may be received by now, but for the scale: it is
  // rounded up, by less than a unit, and the rounding must not add up, or a guest that sends byte by byte would move it for
  // ever.
  const scale = 1 << c.rcv.windowShift;
  const { room } = c.rcv;
  const told = seqDiff(c.rcv.adv, c.rcv.nxt);
  // Silly window avoidance (RFC 9293 §3.8.6.2.2): a gain too small to be useful is not offered.
  const open = room - told >= Math.min(c.rcv.halfWindow, c.rcv.mss) ? room : Math.min(told, room);
  h.window = Math.min(65535, Math.max(Math.ceil(open / scale), Math.floor(told / scale)));
  c.rcv.adv = seqAdd(c.rcv.nxt, Math.max(h.window * scale, told));
  c.rcv.lastAckSent = c.rcv.nxt;
  c.rcv.ackNow = false;
  c.timers[Timer.DelayedAck] = Number.POSITIVE_INFINITY;
}

/** RFC 2018 §4: the newest block first, then the others; RFC 2883: a duplicate before them all. */
function addSackBlocks(c: Tcb, out: TcpSegmentOut): void {
  if (!c.sackOk) return;
  const h = out.header;
  const most = h.hasTimestamps ? 3 : 4;
  let count = 0;
  if (c.rcv.dsackLeft !== c.rcv.dsackRight) {
    h.sackLeft[count] = c.rcv.dsackLeft;
    h.sackRight[count] = c.rcv.dsackRight;
    count++;
    c.rcv.dsackLeft = c.rcv.dsackRight;
  }
  const queue = c.rcv.queue;
  const base = seqAdd(c.rcv.nxt, -queue.readable);
  const first = count;
  let newest = -1;
  for (let i = 0; i < queue.rangeCount; i++) {
    const left = seqAdd(base, queue.rangeStartAt(i));
    if (!seqLt(c.rcv.sackRecent, left) && seqLt(c.rcv.sackRecent, seqAdd(base, queue.rangeEndAt(i))))
      newest = i;
  }
  if (newest >= 0 && count < most) {
    h.sackLeft[count] = seqAdd(base, queue.rangeStartAt(newest));
    h.sackRight[count] = seqAdd(base, queue.rangeEndAt(newest));
    count++;
  }
  for (let i = 0; i < queue.rangeCount && count < most; i++) {
    if (i === newest) continue;
    h.sackLeft[count] = seqAdd(base, queue.rangeStartAt(i));
    h.sackRight[count] = seqAdd(base, queue.rangeEndAt(i));
    count++;
  }
  if (c.rcv.finKnown && !c.rcv.finReceived) count = addFinBlock(c, h, first, count, most);
  h.sackCount = count;
}

/** FIN beyond a gap is a number like any other: what ends with it holds it, and otherwise it is a block by itself. */
function addFinBlock(c: Tcb, h: TcpHeader, first: number, count: number, most: number): number {
  const right = seqAdd(c.rcv.finSeq, 1);
  for (let i = first; i < count; i++) {
    if (h.sackRight[i] === c.rcv.finSeq) {
      h.sackRight[i] = right;
      return count;
    }
  }
  if (count === most) return count;
  h.sackLeft[count] = c.rcv.finSeq;
  h.sackRight[count] = right;
  return count + 1;
}
