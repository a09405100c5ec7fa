/**
 * Loss: noticing it, and deciding how much may be sent while it is repaired.
 *
 * With SACK, losses are found by time (RACK, RFC 8985 §6): what was sent a reordering window before something that has
 * arrived is lost, a lost retransmission like any other. The window is nothing once three segments' worth is reported,
 * as long as no reordering was ever seen, which makes it RFC 6675 then. Without SACK it is three duplicate ACKs and one
 * segment for each partial acknowledgment (RFC 6582). The tail of a flight is asked for by a probe (RFC 8985 §7). What is
 * lost is marked in the scoreboard; output.ts sends it again, before anything new, as far as the pipe (RFC 6675) allows.
 *
 * During a fast recovery that limit goes down from the flight to ssthresh in step with what is delivered (RFC 9937, PRR).
 * When a timestamp tells that the acknowledged data is the original, all is undone (Eifel, RFC 3522 and RFC 4015).
 *
 * Left out: F-RTO (RFC 5682), because timestamps do better and nobody is without; undoing by D-SACK alone.
 */
import type { TcpHeader } from '../wire/tcp.ts';
import { type Seq, seqAdd, seqDiff, seqLeq, seqLt } from './seq.ts';
import { Recovery, type Tcb } from './tcb.ts';
import { Timer } from './timers.ts';

/** RFC 5681 §3.2. */
const DUP_ACK_THRESHOLD = 3;
/** RFC 8985 §7.2: least probe timeout, here for links without a delay of their own. */
const PROBE_MIN_MS = 10;
/** RFC 8985 §7.2 WCDelAckT: how long a guest may sit on the acknowledgment of a single segment. */
const WORST_DELAYED_ACK_MS = 200;
/** Least reordering window: on a link without delay a quarter of the round trip is less than a turn takes. */
const REORDER_MIN_MS = 1;
/** RFC 8985 §6.2 step 4: recoveries for which a window that D-SACK made wider stays. */
const REORDER_PERSIST = 16;

/** Bytes in the network, as far as is known (RFC 6675 "pipe"; without SACK a duplicate ACK stands for a segment). */
export function pipe(c: Tcb): number {
  const board = c.loss.scoreboard;
  const flight = c.snd.flight - board.lost;
  return c.sackOk ? flight - board.sacked : Math.max(0, flight - c.loss.dupAcks * c.snd.mss);
}

/** How many bytes may be in the network. A whole number: windows grow by fractions. */
export function congestionLimit(c: Tcb): number {
  return Math.floor(c.loss.recovery === Recovery.Fast ? c.loss.recoveryCwnd : c.loss.congestion.cwnd);
}

/** The guest acknowledged new bytes: `h.ack` is above SND.UNA. `dsack`: it also reports a duplicate. */
export function onNewAck(c: Tcb, h: TcpHeader, dsack: boolean, nowMs: number): void {
  const ack = h.ack;
  const acked = seqDiff(ack, c.snd.una);
  const limited = seqLt(c.snd.una, c.snd.limitedUntil);
  sampleRtt(c, h, ack, nowMs);
  c.snd.una = ack;
  c.loss.stuckSince = -1;
  c.loss.probeSent = false;
  const dataAcked = Math.min(seqDiff(ack, c.snd.queueSeq), c.snd.queue.length);
  if (dataAcked > 0) {
    c.snd.queue.drop(dataAcked);
    c.snd.queueSeq = seqAdd(c.snd.queueSeq, dataAcked);
  }
  // Only what was sent again could be mistaken.
  c.loss.scoreboard.advance(ack, nowMs, c.loss.scoreboard.resent > 0 ? echoed(c, h, nowMs) : -1);
  if (!limited) c.snd.limitedUntil = ack;
  if (c.loss.probeResent) judgeProbe(c, ack, dsack, nowMs);
  if (c.loss.resendTsValid && wasNeedless(c, h)) undo(c, nowMs);
  if (c.loss.recovery !== Recovery.Fast) {
    c.loss.dupAcks = 0;
    c.loss.congestion.onAck(acked, limited, nowMs, c.loss.rtt.latestMs);
  } else {
    // RFC 6582 §3.2: all but one of the acknowledged segments were counted by their duplicate ACKs.
    const counted = Math.max(0, Math.ceil(acked / c.snd.mss) - 1);
    c.loss.dupAcks = c.sackOk ? 0 : Math.max(0, c.loss.dupAcks - counted);
  }
  if (c.loss.recovery !== Recovery.None) {
    if (seqLeq(c.loss.recover, ack)) endRecovery(c, nowMs);
    else if (!c.sackOk && c.loss.recovery === Recovery.Fast) c.loss.scoreboard.loseFirst(c.snd.mss);
  }
  if (c.snd.flight === 0) {
    c.timers[Timer.Retransmit] = Number.POSITIVE_INFINITY;
    c.timers[Timer.LossProbe] = Number.POSITIVE_INFINITY;
    c.timers[Timer.Reorder] = Number.POSITIVE_INFINITY;
  } else {
    armRetransmit(c, nowMs);
  }
}

/** Measure the round trip by the segment's timestamp, or by the one segment that is timed (RFC 6298 §3, RFC 7323 §4). */
export function sampleRtt(c: Tcb, h: TcpHeader, ack: Seq, nowMs: number): void {
  if (c.timestampsOk && h.hasTimestamps && h.tsEcr !== 0) {
    const rtt = (Math.floor(nowMs) + c.tsOffset - h.tsEcr) | 0;
    // An echo that we never sent is no measurement (T-17).
    if (rtt >= 0 && rtt < 600_000) c.loss.rtt.sample(rtt);
  } else if (c.loss.rttTimedAt >= 0 && seqLt(c.loss.rttTimedSeq, ack)) {
    c.loss.rtt.sample(nowMs - c.loss.rttTimedAt);
    c.loss.rttTimedAt = -1;
  } else {
    c.loss.rtt.resetBackOff();
  }
}

/** When the segment that `h` echoes was sent, on our clock; -1 = unknown. */
export function echoed(c: Tcb, h: TcpHeader, nowMs: number): number {
  if (!c.timestampsOk || !h.hasTimestamps) return -1;
  const now = Math.floor(nowMs);
  return Math.max(-1, now - ((now + c.tsOffset - h.tsEcr) | 0));
}

export function onDuplicateAck(c: Tcb, nowMs: number): void {
  c.loss.dupAcks++;
  // With SACK a segment counts by what it reports (RFC 6675 §2), in the scoreboard. One that reports nothing tells of no
  // loss: a guest answers so to an empty segment that a window probe has overtaken.
  if (c.sackOk || c.loss.recovery !== Recovery.None || c.loss.dupAcks < DUP_ACK_THRESHOLD) return;
  // RFC 6582 §3.2 step 2: these may be answers to what was needlessly sent again before `recover`.
  // (Outside recovery SND.UNA is never below it; an old value may lie any distance behind, so it must not be ordered.)
  if (c.snd.una === c.loss.recover) return;
  c.loss.scoreboard.loseFirst(c.snd.mss);
  enterRecovery(c, nowMs);
}

/**
 * An acknowledgment was taken in that may tell of losses, or of the way out of them. `delivered`: bytes that it told
 * have arrived.
 */
export function afterAck(c: Tcb, delivered: number, advanced: boolean, nowMs: number): void {
  const before = c.loss.scoreboard.lost;
  detectLosses(c, nowMs);
  if (c.loss.recovery === Recovery.Fast) reduce(c, delivered, advanced && c.loss.scoreboard.lost <= before);
}

/** Mark what is lost by now, begin a recovery if that is news, and set the timer for what may be lost soon. */
export function detectLosses(c: Tcb, nowMs: number): void {
  const board = c.loss.scoreboard;
  const before = board.lost;
  const waitMs = board.detectLost(nowMs, reorderWindow(c));
  c.timers[Timer.Reorder] = waitMs > 0 ? nowMs + waitMs : Number.POSITIVE_INFINITY;
  if (board.lost > before && c.loss.recovery === Recovery.None) enterRecovery(c, nowMs);
}

/** A duplicate was reported (RFC 2883): at most once a round trip that widens the reordering window. */
export function onDsack(c: Tcb): void {
  if (c.loss.reorderPersist > 0 && seqLt(c.snd.una, c.loss.dsackRound)) return;
  c.loss.dsackRound = c.snd.nxt;
  c.loss.reorderMultiple++;
  c.loss.reorderPersist = REORDER_PERSIST;
}

/** RFC 8985 §6.2 step 4. */
function reorderWindow(c: Tcb): number {
  const board = c.loss.scoreboard;
  if (!board.reorderingSeen) {
    const enough = c.loss.dupAcks >= DUP_ACK_THRESHOLD || board.sacked >= DUP_ACK_THRESHOLD * c.snd.mss;
    if (enough || c.loss.recovery !== Recovery.None) return 0;
  }
  if (c.loss.rtt.srttMs < 0) return REORDER_MIN_MS;
  const wanted = Math.max(REORDER_MIN_MS, (c.loss.reorderMultiple * board.minRttMs) / 4);
  return Math.min(wanted, Math.max(REORDER_MIN_MS, c.loss.rtt.srttMs));
}

function enterRecovery(c: Tcb, nowMs: number): void {
  const { flight } = c.snd;
  c.loss.recovery = Recovery.Fast;
  c.loss.recover = c.snd.nxt;
  c.loss.congestion.onLoss(flight, nowMs);
  c.loss.recoverFlight = flight;
  c.loss.prrDelivered = 0;
  c.loss.prrOut = 0;
  // The first retransmission goes out at once.
  c.loss.recoveryCwnd =
    c.loss.congestion.cwnd === Number.POSITIVE_INFINITY ? c.loss.congestion.cwnd : pipe(c) + c.snd.mss;
  c.loss.resendTsValid = false;
}

function endRecovery(c: Tcb, nowMs: number): void {
  c.loss.recovery = Recovery.None;
  c.loss.resendTsValid = false;
  c.loss.dupAcks = 0;
  c.loss.congestion.onRecovered(nowMs);
  if (c.loss.reorderPersist > 0 && --c.loss.reorderPersist === 0) c.loss.reorderMultiple = 1;
  // What was sent since, and is lost as well, is another loss.
  if (c.loss.scoreboard.lost > 0) enterRecovery(c, nowMs);
}

/** RFC 9937: how much may be in the network after `delivered` more bytes have arrived. */
function reduce(c: Tcb, delivered: number, safe: boolean): void {
  const { ssthresh } = c.loss.congestion;
  if (ssthresh === Number.POSITIVE_INFINITY) return;
  c.loss.prrDelivered += delivered;
  const inNetwork = pipe(c);
  let more: number;
  if (inNetwork > ssthresh) {
    more = Math.ceil((c.loss.prrDelivered * ssthresh) / c.loss.recoverFlight) - c.loss.prrOut;
  } else {
    const limit = Math.max(c.loss.prrDelivered - c.loss.prrOut, delivered) + (safe ? c.snd.mss : 0);
    more = Math.min(ssthresh - inNetwork, limit);
  }
  if (c.loss.prrOut === 0) more = Math.max(more, c.snd.mss);
  c.loss.recoveryCwnd = inNetwork + Math.max(0, more);
}

/** RFC 3522 §3.2 step 5: the first acknowledgment after a retransmission echoes something older than it. */
function wasNeedless(c: Tcb, h: TcpHeader): boolean {
  c.loss.resendTsValid = false;
  return h.hasTimestamps && ((h.tsEcr - c.loss.resendTs) | 0) < 0;
}

/** Nothing was lost: the network is late or changes the order. */
function undo(c: Tcb, nowMs: number): void {
  c.loss.congestion.undo(nowMs);
  c.loss.scoreboard.forgiveLost(nowMs);
  if (c.sackOk) c.loss.scoreboard.reorderingSeen = true;
  c.loss.recovery = Recovery.None;
  c.loss.dupAcks = 0;
}

/** RFC 8985 §7.4: without a report of a duplicate, the probe has repaired a loss, which counts as any other. */
function judgeProbe(c: Tcb, ack: Seq, dsack: boolean, nowMs: number): void {
  if (!dsack && !seqLt(c.loss.probeEnd, ack)) return;
  c.loss.probeResent = false;
  if (dsack || c.loss.recovery !== Recovery.None) return;
  c.loss.congestion.onLoss(c.snd.flight, nowMs);
  c.loss.congestion.onRecovered(nowMs);
}

/** The retransmission timer fired (RFC 6298 §5.4–5.7): send everything outstanding again, slowly. */
export function onRetransmitTimeout(c: Tcb, nowMs: number): void {
  const again = c.loss.stuckSince >= 0 || c.loss.recovery !== Recovery.None;
  if (c.loss.stuckSince < 0) c.loss.stuckSince = nowMs;
  c.loss.rtt.backOff();
  c.loss.congestion.onTimeout(c.snd.flight, nowMs, again);
  c.loss.scoreboard.loseAll();
  c.loss.recovery = Recovery.Timeout;
  c.loss.recover = c.snd.nxt;
  c.loss.resendTsValid = false;
  c.loss.dupAcks = 0;
  c.loss.rttTimedAt = -1;
  c.loss.probeResent = false;
  c.timers[Timer.Retransmit] = nowMs + c.loss.rtt.rtoMs;
  c.timers[Timer.LossProbe] = Number.POSITIVE_INFINITY;
  c.timers[Timer.Reorder] = Number.POSITIVE_INFINITY;
}

/** (Re)start the retransmission timer, and the tail probe before it where one is allowed. */
export function armRetransmit(c: Tcb, nowMs: number): void {
  c.timers[Timer.Retransmit] = nowMs + c.loss.rtt.rtoMs;
  armLossProbe(c, nowMs);
}

/** RFC 8985 §7.2: each transmission of new data puts the probe off. */
export function armLossProbe(c: Tcb, nowMs: number): void {
  if (c.loss.probeSent || c.loss.recovery === Recovery.Timeout || !c.sackOk || !c.isSynchronized) return;
  if (c.loss.rtt.srttMs < 0) return;
  let pto = Math.max(PROBE_MIN_MS, 2 * c.loss.rtt.srttMs);
  if (c.snd.flight <= c.snd.mss) pto += WORST_DELAYED_ACK_MS;
  c.timers[Timer.LossProbe] = pto < c.loss.rtt.rtoMs ? nowMs + pto : Number.POSITIVE_INFINITY;
}
