/**
 * Into ESTABLISHED (RFC 9293 §3.5): what the guest answers to our SYN, both sides opening at once, and the round trip
 * that the handshake shows.
 */
import { TCP_ACK, TCP_RST, TCP_SYN, type TcpHeader } from '../wire/tcp.ts';
import { close } from './closing.ts';
import {
  EV_BAD_ACK,
  EV_CLOSED,
  EV_ESTABLISHED,
  EV_RESET,
  type TcpConnection,
  TcpState,
} from './connection.ts';
import { sampleRtt } from './recovery.ts';
import { RTO_AFTER_SYN_LOSS_MS } from './rtt.ts';
import { seqAdd } from './seq.ts';
import { Timer } from './timers.ts';

/** Between answers to copies of a SYN, of which no honest guest sends more than one a second; as Linux. */
const SYN_REPEAT_MS = 500;

/** Segment arrives in SYN-SENT (RFC 9293 §3.10.7.3). Returns events. */
export function onSynSent(c: TcpConnection, h: TcpHeader, nowMs: number): number {
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

/** The guest's SYN once more, in SYN-RECEIVED: our SYN-ACK was lost. */
export function repeatSynAck(c: TcpConnection, nowMs: number): void {
  if (nowMs - c.synRepeatedAt < SYN_REPEAT_MS) return;
  c.synRepeatedAt = nowMs;
  c.synPending = true;
}

/** RFC 9293 §3.5, figures 6 and 7: the segment that acknowledges our SYN is a SYN itself. */
export function establishBySyn(c: TcpConnection, h: TcpHeader, nowMs: number): number {
  establish(c, h, nowMs);
  // RFC 7323 §2.2: the window of a SYN is never scaled.
  c.sndWnd = h.window;
  c.maxSndWnd = h.window;
  c.synPending = false;
  c.ackNow = true;
  return EV_ESTABLISHED;
}

/** The guest's acknowledgment of our SYN, in `h`, completes the handshake. */
export function establish(c: TcpConnection, h: TcpHeader, nowMs: number): void {
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
