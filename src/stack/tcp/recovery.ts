/**
 * Loss: noticing it and deciding what to send again (RFC 5681 §3.2, RFC 6582, RFC 6675 in spirit, RFC 8985 §7's tail
 * probe). A retransmission is a cursor: `rtxNext` … `rtxEnd` is sent again by output.ts, skipping what the scoreboard
 * says the peer holds.
 */
import type { TcpHeader } from '../wire/tcp.ts';
import type { TcpConnection } from './connection.ts';
import { type Seq, seqAdd, seqDiff, seqLeq, seqLt } from './seq.ts';
import { Timer } from './timers.ts';

/** RFC 5681 §3.2. */
const DUP_ACK_THRESHOLD = 3;
/** RFC 8985 §7.2: least probe timeout, here for links without a delay of their own. */
const PROBE_MIN_MS = 10;
/** RFC 8985 §7.2 WCDelAckT: how long a guest may sit on the acknowledgment of a single segment. */
const WORST_DELAYED_ACK_MS = 200;

/** The guest acknowledged new bytes: `h.ack` is above SND.UNA. */
export function onNewAck(c: TcpConnection, h: TcpHeader, nowMs: number): void {
  const ack = h.ack;
  const flightBefore = c.flight;
  const acked = seqDiff(ack, c.sndUna);
  sampleRtt(c, h, ack, nowMs);
  c.sndUna = ack;
  c.stuckSince = -1;
  c.probeSent = false;
  const dataAcked = Math.min(seqDiff(ack, c.sndQueueSeq), c.sndQueue.length);
  if (dataAcked > 0) {
    c.sndQueue.drop(dataAcked);
    c.sndQueueSeq = seqAdd(c.sndQueueSeq, dataAcked);
  }
  c.scoreboard.advance(ack);
  if (seqLt(c.rtxNext, ack)) c.rtxNext = ack;
  if (seqLt(c.rtxEnd, ack)) c.rtxEnd = ack;
  c.dupAcks = 0;
  c.congestion.onAck(acked, flightBefore, nowMs);
  if (c.inRecovery) {
    if (seqLeq(c.recover, ack)) {
      c.inRecovery = false;
      c.congestion.onRecovered(nowMs);
    } else {
      markLost(c);
    }
  }
  if (c.flight === 0) {
    c.timers[Timer.Retransmit] = Number.POSITIVE_INFINITY;
    c.timers[Timer.LossProbe] = Number.POSITIVE_INFINITY;
  } else {
    armRetransmit(c, nowMs);
  }
}

/** Measure the round trip by the segment's timestamp, or by the one segment that is timed (RFC 6298 §3, RFC 7323 §4). */
export function sampleRtt(c: TcpConnection, h: TcpHeader, ack: Seq, nowMs: number): void {
  if (c.timestampsOk && h.hasTimestamps && h.tsEcr !== 0) {
    const rtt = (Math.floor(nowMs) + c.tsOffset - h.tsEcr) | 0;
    // An echo that we never sent is no measurement (T-17).
    if (rtt >= 0 && rtt < 600_000) c.rtt.sample(rtt);
  } else if (c.rttTimedAt >= 0 && seqLt(c.rttTimedSeq, ack)) {
    c.rtt.sample(nowMs - c.rttTimedAt);
    c.rttTimedAt = -1;
  } else {
    c.rtt.resetBackOff();
  }
}

export function onDuplicateAck(c: TcpConnection, nowMs: number): void {
  c.dupAcks++;
  if (c.inRecovery) {
    markLost(c);
    return;
  }
  if (c.dupAcks >= DUP_ACK_THRESHOLD) enterRecovery(c, nowMs);
}

export function enterRecovery(c: TcpConnection, nowMs: number): void {
  // RFC 6582 §3.2 step 2: without SACK these may be answers to what was needlessly sent again before `recover`.
  // (Outside recovery SND.UNA is never below it; an old value may lie any distance behind, so it must not be ordered.)
  if (!c.sackOk && c.sndUna === c.recover) return;
  c.inRecovery = true;
  c.recover = c.sndNxt;
  c.rtxNext = c.sndUna;
  c.congestion.onLoss(c.flight, nowMs);
  markLost(c);
}

/** What is to be sent again: with SACK everything missing below the highest reported byte, else the first segment. */
function markLost(c: TcpConnection): void {
  if (c.scoreboard.isEmpty) {
    // NewReno: one segment per partial acknowledgment (RFC 6582 §3.2 step 3).
    if (!seqLt(c.rtxNext, seqAdd(c.sndUna, 1))) return;
    const first = seqAdd(c.sndUna, Math.min(c.sndMss, c.flight));
    if (seqLt(c.rtxEnd, first)) c.rtxEnd = first;
    return;
  }
  const end = c.scoreboard.highest;
  if (seqLt(c.rtxEnd, end)) c.rtxEnd = end;
}

/** The retransmission timer fired (RFC 6298 §5.4–5.7): send everything outstanding again, slowly. */
export function onRetransmitTimeout(c: TcpConnection, nowMs: number): void {
  if (c.stuckSince < 0) c.stuckSince = nowMs;
  c.rtt.backOff();
  c.congestion.onTimeout(c.flight, nowMs);
  // RFC 2018 §8: the receiver may have dropped what it reported.
  c.scoreboard.clear();
  c.inRecovery = true;
  c.recover = c.sndNxt;
  c.rtxNext = c.sndUna;
  c.rtxEnd = c.sndNxt;
  c.dupAcks = 0;
  c.rttTimedAt = -1;
  c.timers[Timer.Retransmit] = nowMs + c.rtt.rtoMs;
  c.timers[Timer.LossProbe] = Number.POSITIVE_INFINITY;
}

/** (Re)start the retransmission timer, and the tail probe before it where one is allowed. */
export function armRetransmit(c: TcpConnection, nowMs: number): void {
  c.timers[Timer.Retransmit] = nowMs + c.rtt.rtoMs;
  armLossProbe(c, nowMs);
}

/** RFC 8985 §7.2: each transmission of new data puts the probe off. */
export function armLossProbe(c: TcpConnection, nowMs: number): void {
  if (c.probeSent || c.inRecovery || !c.sackOk || !c.isSynchronized || c.rtt.srttMs < 0) return;
  let pto = Math.max(PROBE_MIN_MS, 2 * c.rtt.srttMs);
  if (c.flight <= c.sndMss) pto += WORST_DELAYED_ACK_MS;
  c.timers[Timer.LossProbe] = pto < c.rtt.rtoMs ? nowMs + pto : Number.POSITIVE_INFINITY;
}
