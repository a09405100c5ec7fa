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
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TcpHeader } from '../wire/tcp.ts';
import { close } from './closing.ts';
import {
  MIN_MSS,
  Recovery,
  type TcpConnection,
  TcpState,
  TIMESTAMP_OPTION_LENGTH,
  WINDOW_SHIFT,
} from './connection.ts';
import { mustWait, notePaced } from './pacing.ts';
import { halfWindow, receiveRoom } from './receive.ts';
import { armLossProbe, armRetransmit, congestionLimit, pipe } from './recovery.ts';
import { type Seq, seqAdd, seqDiff, seqLt, seqMax } from './seq.ts';
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

/** A segment to send. Borrowed: one instance is filled again and again. */
export class TcpSegmentOut {
  readonly header: TcpHeader = new TcpHeader();
  /** Where the payload begins in the connection's `sndQueue`, and how much of it there is. */
  queueOffset = 0;
  length = 0;
  /** Payload bytes per wire segment; `length` > `mss` asks the device to segment. */
  mss = 0;
}

export function pollTransmit(c: TcpConnection, nowMs: number, out: TcpSegmentOut): boolean {
  if (c.rstPending) {
    c.rstPending = false;
    prepare(c, out, c.sndNxt, nowMs);
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
      if (c.synPending) {
        sendSyn(c, nowMs, out);
        return true;
      }
      // What a segment outside the window gets, or a challenge (RFC 9293 §3.10.7.4).
      return c.ackNow && c.state === TcpState.SynReceived && sendAck(c, nowMs, out);
    default:
      return (
        (c.ackNow && tellsOfGap(c) && sendAck(c, nowMs, out)) ||
        (c.scoreboard.lost > 0 && retransmit(c, nowMs, out)) ||
        (c.probePending && sendLossProbe(c, nowMs, out)) ||
        sendNew(c, nowMs, out) ||
        (c.persistPending && sendWindowProbe(c, nowMs, out)) ||
        (c.ackNow && sendAck(c, nowMs, out))
      );
  }
}

function sendSyn(c: TcpConnection, nowMs: number, out: TcpSegmentOut): void {
  c.synPending = false;
  const edge = c.rcvAdv;
  prepare(c, out, c.iss, nowMs);
  const h = out.header;
  const passive = c.state === TcpState.SynReceived;
  h.flags = passive ? TCP_SYN | TCP_ACK : TCP_SYN;
  if (!passive) h.ack = 0;
  h.mss = c.rcvMss;
  h.sackPermitted = passive ? c.sackOk : true;
  h.windowScale = !passive || c.rcvWindowShift > 0 ? WINDOW_SHIFT : -1;
  // RFC 7323 §2.2: the window of a SYN is not scaled.
  const window = Math.min(65535, receiveRoom(c));
  h.window = window;
  c.rcvAdv = passive ? seqMax(edge, seqAdd(c.rcvNxt, window)) : edge;
  if (c.sndNxt === c.iss) {
    c.sndNxt = seqAdd(c.iss, 1);
    if (!c.timestampsOk) {
      c.rttTimedAt = nowMs;
      c.rttTimedSeq = c.iss;
    }
  } else {
    c.synRetransmitted = true;
    c.rttTimedAt = -1;
  }
  c.timers[Timer.Retransmit] = nowMs + c.rtt.rtoMs;
}

/** Send the first lost piece again, as far as the congestion window allows. */
function retransmit(c: TcpConnection, nowMs: number, out: TcpSegmentOut): boolean {
  const board = c.scoreboard;
  const from = board.firstLost;
  const missing = board.firstLostLength;
  const inNetwork = pipe(c);
  if (inNetwork > 0 && inNetwork + Math.min(missing, segmentCut(c)) > congestionLimit(c)) return false;
  // Within the window the guest offers now, but always something (RFC 9293 §3.8.6: shrunk windows).
  const ahead = seqDiff(from, c.sndUna);
  const offered = c.sndWnd - ahead;
  if (ahead > 0 && offered <= 0) return false;
  const inQueue = seqDiff(from, c.sndQueueSeq);
  const data = Math.min(missing, c.sndQueue.length - inQueue, segmentCut(c), Math.max(offered, 1));
  repeat(c, from, data, nowMs, out);
  if (c.recovery === Recovery.Fast) c.prrOut += out.length;
  if (c.recovery !== Recovery.None && !c.resendTsValid && c.timestampsOk && from === c.sndUna) {
    c.resendTs = out.header.tsVal;
    c.resendTsValid = true;
  }
  if (ahead === 0 || c.timers[Timer.Retransmit] === Number.POSITIVE_INFINITY) armRetransmit(c, nowMs);
  return true;
}

/**
 * Send `data` bytes from `from` once more, and FIN where it follows them. Should the guest have them already, it ignores
 * the segment's acknowledgment too (RFC 9293 §3.10.7.4), so one that is due goes out by itself as well.
 */
function repeat(c: TcpConnection, from: Seq, data: number, nowMs: number, out: TcpSegmentOut): void {
  const ackDue = c.ackNow || c.lastAckSent !== c.rcvNxt;
  let to = seqAdd(from, Math.max(data, 0));
  if (data > 0) {
    fillData(c, out, from, data, nowMs);
  } else {
    // Only our FIN is left.
    prepare(c, out, from, nowMs);
    out.header.flags = TCP_ACK;
  }
  if (c.finSent && seqAdd(to, 1) === c.sndNxt) {
    out.header.flags |= TCP_FIN;
    to = c.sndNxt;
  }
  c.scoreboard.sentAgain(from, to, nowMs);
  c.rttTimedAt = -1;
  c.ackNow = ackDue;
}

/**
 * RFC 8985 §7.3: something to acknowledge, which tells what is missing: new bytes if there are any, else the last
 * segment once more. It may exceed the congestion window.
 */
function sendLossProbe(c: TcpConnection, nowMs: number, out: TcpSegmentOut): boolean {
  c.probePending = false;
  // Not beyond a window that the guest took back (RFC 9293 §3.8.6).
  if (c.flight === 0 || c.probeSent || c.flight - c.sndWnd >= 1 << c.sndWindowShift) return false;
  c.probeSent = true;
  const queued = seqDiff(c.sndNxt, c.sndQueueSeq) - (c.finSent ? 1 : 0);
  const fresh = c.finSent ? 0 : Math.min(c.sndQueue.length - queued, segmentCut(c));
  if (fresh > 0 && c.flight + fresh <= c.sndWnd) {
    fillData(c, out, c.sndNxt, fresh, nowMs);
    afterNew(c, fresh, nowMs);
  } else {
    const data = Math.min(segmentCut(c), queued);
    c.probeResent = true;
    c.probeEnd = c.sndNxt;
    repeat(c, seqAdd(c.sndQueueSeq, queued - data), data, nowMs, out);
  }
  c.timers[Timer.Retransmit] = nowMs + c.rtt.rtoMs;
  return true;
}

/** New bytes, and FIN behind the last of them. */
function sendNew(c: TcpConnection, nowMs: number, out: TcpSegmentOut): boolean {
  if (c.finSent) return false;
  const sentOffset = seqDiff(c.sndNxt, c.sndQueueSeq);
  const unsent = c.sndQueue.length - sentOffset;
  const { flight } = c;
  if (flight === 0 && unsent > 0 && nowMs - c.lastDataSentAt > c.rtt.rtoMs) c.congestion.onIdle(nowMs);
  // Duplicate ACKs and SACK make the pipe smaller than the flight: that is limited transmit (RFC 3042).
  const congested = congestionLimit(c) - pipe(c);
  const offered = c.sndWnd - flight;
  const usable = Math.min(offered, congested);
  const waits = unsent > 0 && mustWait(c, nowMs);
  if (congested <= offered && (waits || unsent > congested)) c.limitedUntil = c.sndNxt;
  if (waits) return false;
  // FIN takes a place in the window; alone before a shut one it goes out all the same and is its own probe.
  if (unsent === 0) return c.finQueued && (usable > 0 || flight === 0) && sendFin(c, nowMs, out);
  if (usable <= 0) {
    if (flight === 0) armPersist(c, nowMs);
    return false;
  }
  const mss = segmentCut(c);
  let length = Math.min(unsent, usable);
  if (length > mss) {
    // Several segments' worth: whole segments only, unless all there is fits.
    const limit = transmitUnit(c);
    if (length > limit) length = limit;
    else if (length < unsent) length -= length % mss;
  } else if (length < unsent && length < mss && length < c.maxSndWnd / 2) {
    // Sender's silly window avoidance (RFC 9293 §3.8.6.2.1); the persist timer overrides it.
    if (flight === 0) armPersist(c, nowMs);
    return false;
  }
  fillData(c, out, c.sndNxt, length, nowMs);
  if (length === unsent) {
    out.header.flags |= TCP_PSH;
    if (c.finQueued && usable > length) markFin(c, out);
  }
  afterNew(c, length, nowMs);
  return true;
}

function sendFin(c: TcpConnection, nowMs: number, out: TcpSegmentOut): boolean {
  prepare(c, out, c.sndNxt, nowMs);
  out.header.flags = TCP_ACK;
  markFin(c, out);
  afterNew(c, 0, nowMs);
  return true;
}

function markFin(c: TcpConnection, out: TcpSegmentOut): void {
  out.header.flags |= TCP_FIN;
  c.finSent = true;
  c.state = c.state === TcpState.CloseWait ? TcpState.LastAck : TcpState.FinWait1;
}

function afterNew(c: TcpConnection, length: number, nowMs: number): void {
  const wasIdle = c.flight === 0;
  if (!c.interactive && nowMs - c.lastDataAt < c.env.delayedAckMs) {
    c.interactive = c.delayFailures < MAX_DELAY_FAILURES;
  }
  if (c.rttTimedAt < 0 && !c.timestampsOk) {
    c.rttTimedAt = nowMs;
    c.rttTimedSeq = c.sndNxt;
  }
  const to = seqAdd(c.sndNxt, length + (c.finSent ? 1 : 0));
  c.scoreboard.sent(c.sndNxt, to, nowMs);
  if (c.recovery === Recovery.Fast) c.prrOut += length;
  c.sndNxt = to;
  c.lastDataSentAt = nowMs;
  notePaced(c, length, nowMs);
  c.timers[Timer.Persist] = Number.POSITIVE_INFINITY;
  c.persistMs = 0;
  if (wasIdle || c.timers[Timer.Retransmit] === Number.POSITIVE_INFINITY) armRetransmit(c, nowMs);
  else armLossProbe(c, nowMs);
}

/** One byte beyond a closed window, or nothing but an old number (keep-alive) when there is no byte to send. */
function sendWindowProbe(c: TcpConnection, nowMs: number, out: TcpSegmentOut): boolean {
  c.persistPending = false;
  const sentOffset = seqDiff(c.sndNxt, c.sndQueueSeq);
  if (!c.finSent && c.sndQueue.length > sentOffset && c.flight === 0) {
    const size = Math.max(1, Math.min(c.sndQueue.length, c.sndWnd, segmentCut(c)));
    fillData(c, out, c.sndNxt, size, nowMs);
    // A byte beyond the window is the persist timer's; what fits in it is sent like anything else.
    if (c.sndWnd > 0) afterNew(c, size, nowMs);
    else {
      c.scoreboard.sent(c.sndNxt, seqAdd(c.sndNxt, size), nowMs);
      c.sndNxt = seqAdd(c.sndNxt, size);
    }
    return true;
  }
  if (c.flight > 0 && c.sndQueue.length > 0) {
    fillData(c, out, c.sndQueueSeq, 1, nowMs);
    return true;
  }
  prepare(c, out, seqAdd(c.sndNxt, -1), nowMs);
  out.header.flags = TCP_ACK;
  return true;
}

/** There is something to say that only a bare ACK can: a gap, or a duplicate. */
function tellsOfGap(c: TcpConnection): boolean {
  return c.rcvQueue.outOfOrder > 0 || (c.finKnown && !c.finReceived) || c.dsackLeft !== c.dsackRight;
}

function sendAck(c: TcpConnection, nowMs: number, out: TcpSegmentOut): boolean {
  prepare(c, out, ackSeq(c), nowMs);
  out.header.flags = TCP_ACK;
  addSackBlocks(c, out);
  return true;
}

/**
 * The sequence number of a bare ACK: SND.NXT, but beyond the window (a probe, FIN, a window that shrank) the guest would
 * not accept it. A window that seems to shrink by less than its unit was only rounded.
 */
function ackSeq(c: TcpConnection): Seq {
  const beyond = c.flight - c.sndWnd;
  if (beyond <= 0 || (c.sndWnd > 0 && beyond < 1 << c.sndWindowShift)) return c.sndNxt;
  return seqAdd(c.sndUna, c.sndWnd);
}

function armPersist(c: TcpConnection, nowMs: number): void {
  if (c.timers[Timer.Persist] !== Number.POSITIVE_INFINITY) return;
  c.persistMs = c.rtt.rtoMs;
  c.timers[Timer.Persist] = nowMs + c.persistMs;
}

/** The MTU may have become smaller since the connection was opened. */
function segmentCut(c: TcpConnection): number {
  const options = c.timestampsOk ? TIMESTAMP_OPTION_LENGTH : 0;
  const fitting = Math.max(MIN_MSS, c.env.link.mtu - (c.isV4 ? 40 : 60)) - options;
  return Math.min(c.sndMss, fitting, Math.max(SMALLEST_CUT, Math.floor(c.maxSndWnd / SEGMENTS_PER_WINDOW)));
}

/** Largest payload that one `pollTransmit` gives: a whole number of segments, as many as the device takes at once. */
export function transmitUnit(c: TcpConnection): number {
  const mss = segmentCut(c);
  const limit = c.isV4 ? c.env.superSegment4 : c.env.superSegment6;
  return limit < mss ? mss : limit - (limit % mss);
}

function fillData(c: TcpConnection, out: TcpSegmentOut, seq: Seq, length: number, nowMs: number): void {
  prepare(c, out, seq, nowMs);
  out.header.flags = TCP_ACK;
  out.queueOffset = seqDiff(seq, c.sndQueueSeq);
  out.length = length;
  out.mss = Math.min(segmentCut(c), length);
}

/** Fill everything but flags and payload, and take the acknowledgment as sent. */
function prepare(c: TcpConnection, out: TcpSegmentOut, seq: Seq, nowMs: number): void {
  const h = out.header;
  h.seq = seq;
  h.ack = c.rcvNxt;
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
  const scale = 1 << c.rcvWindowShift;
  const open = Math.min(windowToOffer(c), receiveRoom(c));
  const told = seqDiff(c.rcvAdv, c.rcvNxt);
  h.window = Math.min(65535, Math.max(Math.ceil(open / scale), Math.floor(told / scale)));
  c.rcvAdv = seqAdd(c.rcvNxt, Math.max(h.window * scale, told));
  c.lastAckSent = c.rcvNxt;
  c.ackNow = false;
  c.timers[Timer.DelayedAck] = Number.POSITIVE_INFINITY;
}

/** Receiver's silly window avoidance (RFC 9293 §3.8.6.2.2): a gain too small to be useful is not offered. */
function windowToOffer(c: TcpConnection): number {
  const room = receiveRoom(c);
  const open = seqDiff(c.rcvAdv, c.rcvNxt);
  const gain = room - open;
  return gain >= Math.min(halfWindow(c), c.rcvMss) ? room : open;
}

/** RFC 2018 §4: the newest block first, then the others; RFC 2883: a duplicate before them all. */
function addSackBlocks(c: TcpConnection, out: TcpSegmentOut): void {
  if (!c.sackOk) return;
  const h = out.header;
  const most = h.hasTimestamps ? 3 : 4;
  let count = 0;
  if (c.dsackLeft !== c.dsackRight) {
    h.sackLeft[count] = c.dsackLeft;
    h.sackRight[count] = c.dsackRight;
    count++;
    c.dsackLeft = c.dsackRight;
  }
  const queue = c.rcvQueue;
  const base = seqAdd(c.rcvNxt, -queue.readable);
  const first = count;
  let newest = -1;
  for (let i = 0; i < queue.rangeCount; i++) {
    const left = seqAdd(base, queue.rangeStartAt(i));
    if (!seqLt(c.sackRecent, left) && seqLt(c.sackRecent, seqAdd(base, queue.rangeEndAt(i)))) newest = i;
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
  if (c.finKnown && !c.finReceived) count = addFinBlock(c, h, first, count, most);
  h.sackCount = count;
}

/** FIN beyond a gap is a number like any other: what ends with it holds it, and otherwise it is a block by itself. */
function addFinBlock(c: TcpConnection, h: TcpHeader, first: number, count: number, most: number): number {
  const right = seqAdd(c.finSeq, 1);
  for (let i = first; i < count; i++) {
    if (h.sackRight[i] === c.finSeq) {
      h.sackRight[i] = right;
      return count;
    }
  }
  if (count === most) return count;
  h.sackLeft[count] = c.finSeq;
  h.sackRight[count] = right;
  return count + 1;
}
