/**
 * Into ESTABLISHED (RFC 9293 §3.5): what the guest answers to our SYN, both sides opening at once, and the round trip
 * that the handshake shows.
 */
import { TCP_ACK, TCP_RST, TCP_SYN, type TcpHeader } from '../wire/tcp.ts';
import { close } from './closing.ts';
import { EV_BAD_ACK, EV_CLOSED, EV_ESTABLISHED, EV_RESET } from './owner.ts';
import { sampleRtt } from './recovery.ts';
import { RTO_AFTER_SYN_LOSS_MS } from './rtt.ts';
import { seqAdd } from './seq.ts';
import { MIN_MSS, type Tcb, TcpState, TIMESTAMP_OPTION_LENGTH, WINDOW_SHIFT } from './tcb.ts';
import { Timer } from './timers.ts';

const MAX_WINDOW_SHIFT = 14;
/** Between answers to copies of a SYN, of which no honest guest sends more than one a second; as Linux. */
const SYN_REPEAT_MS = 500;

/** What the guest's SYN (or SYN-ACK) and its options settle. */
export function takeSyn(c: Tcb, syn: TcpHeader, nowMs: number): void {
  const { snd, rcv } = c;
  rcv.irs = syn.seq;
  rcv.nxt = seqAdd(syn.seq, 1);
  rcv.adv = rcv.nxt;
  rcv.lastAckSent = rcv.nxt;
  const offered = syn.mss >= 0 ? syn.mss : c.defaultMss;
  snd.mss = Math.max(MIN_MSS, Math.min(offered, rcv.mss));
  c.timestampsOk = syn.hasTimestamps;
  if (syn.hasTimestamps) {
    c.tsRecent = syn.tsVal;
    c.tsRecentAt = nowMs;
    snd.mss -= TIMESTAMP_OPTION_LENGTH;
  }
  c.sackOk = syn.sackPermitted;
  const scales = syn.windowScale >= 0;
  // RFC 7323 §2.3: above 14 is used as 14.
  snd.windowShift = scales ? Math.min(syn.windowScale, MAX_WINDOW_SHIFT) : 0;
  rcv.windowShift = scales ? WINDOW_SHIFT : 0;
  // RFC 7323 §2.2: the window of a SYN is never scaled.
  snd.wnd = syn.window;
  snd.maxWnd = syn.window;
  snd.wl1 = syn.seq;
  c.loss.congestion = c.env.newCongestionControl(snd.mss);
}

/** Segment arrives in SYN-SENT (RFC 9293 §3.10.7.3). Returns events. */
export function onSynSent(c: Tcb, h: TcpHeader, nowMs: number): number {
  const flags = h.flags;
  const ackOk = (flags & TCP_ACK) !== 0 && h.ack === c.snd.nxt;
  if ((flags & TCP_ACK) !== 0 && !ackOk) return (flags & TCP_RST) !== 0 ? 0 : EV_BAD_ACK;
  if ((flags & TCP_RST) !== 0) {
    if (!ackOk) return 0;
    close(c);
    return EV_RESET | EV_CLOSED;
  }
  if ((flags & TCP_SYN) === 0) return 0;
  takeSyn(c, h, nowMs);
  if (!ackOk) {
    // Simultaneous open (§3.5): answer with SYN-ACK.
    c.state = TcpState.SynReceived;
    c.snd.synPending = true;
    return 0;
  }
  return establishBySyn(c, h, nowMs);
}

/** The guest's SYN once more, in SYN-RECEIVED: our SYN-ACK was lost. */
export function repeatSynAck(c: Tcb, nowMs: number): void {
  if (nowMs - c.synRepeatedAt < SYN_REPEAT_MS) return;
  c.synRepeatedAt = nowMs;
  c.snd.synPending = true;
}

/** RFC 9293 §3.5, figures 6 and 7: the segment that acknowledges our SYN is a SYN itself. */
export function establishBySyn(c: Tcb, h: TcpHeader, nowMs: number): number {
  establish(c, h, nowMs);
  // RFC 7323 §2.2: the window of a SYN is never scaled.
  c.snd.wnd = h.window;
  c.snd.maxWnd = h.window;
  c.snd.synPending = false;
  c.rcv.ackNow = true;
  return EV_ESTABLISHED;
}

/** The guest's acknowledgment of our SYN, in `h`, completes the handshake. */
export function establish(c: Tcb, h: TcpHeader, nowMs: number): void {
  c.state = TcpState.Established;
  c.timers[Timer.State] = Number.POSITIVE_INFINITY;
  c.timers[Timer.Retransmit] = Number.POSITIVE_INFINITY;
  c.snd.una = seqAdd(c.snd.iss, 1);
  c.snd.limitedUntil = c.snd.una;
  c.snd.wl1 = h.seq;
  c.snd.wl2 = h.ack;
  c.snd.wnd = h.window << c.snd.windowShift;
  if (c.snd.wnd > c.snd.maxWnd) c.snd.maxWnd = c.snd.wnd;
  sampleRtt(c, h, h.ack, nowMs);
  c.loss.rttTimedAt = -1;
  // RFC 6298 §5.7: nothing is known of the round trip but that the timer was too short for it.
  if (c.snd.synRetransmitted && c.loss.rtt.srttMs < 0) c.loss.rtt.rtoMs = RTO_AFTER_SYN_LOSS_MS;
  c.lastHeardAt = nowMs;
}
