/**
 * One TCP connection as the guest sees it (RFC 9293), without any I/O.
 *
 * Theory of operation. The connection is plain state; three rooms act on it, each with the time passed in:
 *
 *   input.ts   `onSegment`     a segment from the guest → new state, a bit mask of events for the owner
 *   output.ts  `pollTransmit`  the next segment to send, or none; called until there is none
 *   timeout.ts `onTimeout`     a deadline passed; `nextTimeout` tells the next one
 *
 * Bytes to the guest wait in `sndQueue` until they are acknowledged: the owner reads its host socket straight into the
 * queue, retransmission reads from it. Bytes from the guest that are in order are shown to the owner where they lie, in
 * the received frame (`deliverOffset`, `deliverLength`); only what the host socket does not take is copied into
 * `rcvQueue`, as is what comes ahead of a gap. The receive window is what `rcvQueue` has left, so a host socket that
 * does not drain closes the window by itself.
 *
 * The owner (a flow) maps host events to the verbs at the end of this file: accept, abort, closeSend.
 */
import { ByteQueue } from '../buffer/byte-queue.ts';
import { ReassemblyQueue } from '../buffer/reassembly-queue.ts';
import type { Pages } from '../buffer/slab.ts';
import type { Counters } from '../counters.ts';
import type { ErrorLimiter } from '../icmp/limit.ts';
import type { TcpHeader } from '../wire/tcp.ts';
import type { CongestionControl } from './congestion/congestion.ts';
import { RttEstimator } from './rtt.ts';
import { Scoreboard } from './scoreboard.ts';
import { type Seq, seqAdd, seqDiff } from './seq.ts';
import type { TimeWait } from './time-wait.ts';
import { TIMER_COUNT, Timer } from './timers.ts';

/** RFC 9293 §3.3.2, without LISTEN (the stack answers any address), and with the wait for the host's connect. */
export const TcpState = {
  Closed: 0,
  /** A SYN was received; the owner is still finding out whether its destination answers. */
  SynPending: 1,
  SynSent: 2,
  SynReceived: 3,
  Established: 4,
  FinWait1: 5,
  FinWait2: 6,
  CloseWait: 7,
  Closing: 8,
  LastAck: 9,
  TimeWait: 10,
} as const;
export type TcpState = (typeof TcpState)[keyof typeof TcpState];

export const tcpStateNames: readonly string[] = [
  'CLOSED',
  'SYN-PENDING',
  'SYN-SENT',
  'SYN-RECEIVED',
  'ESTABLISHED',
  'FIN-WAIT-1',
  'FIN-WAIT-2',
  'CLOSE-WAIT',
  'CLOSING',
  'LAST-ACK',
  'TIME-WAIT',
];

/** What a loss has set off: repair by acknowledgments (RFC 6675, RFC 6582), or from the start after the timer. */
export const Recovery = { None: 0, Fast: 1, Timeout: 2 } as const;
export type Recovery = (typeof Recovery)[keyof typeof Recovery];

/** Events for the owner, as a bit mask. */
export const EV_ESTABLISHED = 1;
/** In-order bytes lie at `deliverOffset`; call `takeDelivered` before anything else. */
export const EV_DELIVER = 2;
/** The guest has sent its last byte and all of them have been received. */
export const EV_FIN = 4;
/** The guest reset the connection. */
export const EV_RESET = 8;
/** The connection is over; nothing will be sent or received any more. */
export const EV_CLOSED = 16;
/** `rcvQueue` has bytes to read. */
export const EV_READABLE = 32;
/** The segment acknowledges a SYN-ACK that was never sent: answer it with the RST of a closed port (§3.10.7.4). */
export const EV_BAD_ACK = 64;

/** RFC 9293 §3.7.1: what a peer that sends no MSS option takes. */
const DEFAULT_MSS_4 = 536;
const DEFAULT_MSS_6 = 1220;
/** Least segment we cut however small an MSS the guest claims (T-03): bounds packets per byte. */
export const MIN_MSS = 216;
/** Shift of the windows we advertise: 16 bits of them reach 8 MiB, above any buffer limit. */
export const WINDOW_SHIFT = 7;
const MAX_WINDOW_SHIFT = 14;
/** An option list with timestamps takes this much of every segment. */
export const TIMESTAMP_OPTION_LENGTH = 12;

/** What all connections of a guest have in common. */
export interface TcpEnvironment {
  readonly slab: Pages;
  /** Its MTU may change. */
  readonly link: { readonly mtu: number };
  /** Most bytes a connection buffers from the guest: the largest receive window. */
  readonly receiveLimit: number;
  /** Most bytes a connection queues towards the guest. */
  readonly sendLimit: number;
  readonly outOfOrderRanges: number;
  /** Largest payload of one transmitted segment when the device segments for us; 0 = it does not. */
  readonly superSegment4: number;
  readonly superSegment6: number;
  readonly delayedAckMs: number;
  readonly counters: Counters;
  /** Of all connections together: how many challenge ACKs may be sent. */
  readonly challenges: ErrorLimiter;
  newCongestionControl(mss: number): CongestionControl;
}

export class TcpConnection {
  state: TcpState = TcpState.Closed;
  readonly env: TcpEnvironment;
  readonly isV4: boolean;

  // Send sequence space (RFC 9293 §3.3.1).
  iss: Seq = 0;
  sndUna: Seq = 0;
  /** One past the highest sequence number sent. */
  sndNxt: Seq = 0;
  sndWnd = 0;
  sndWl1: Seq = 0;
  sndWl2: Seq = 0;
  /** Largest window the guest ever advertised. */
  maxSndWnd = 0;
  /** Largest payload per segment towards the guest, options taken off. */
  sndMss: number = DEFAULT_MSS_4;
  sndWindowShift = 0;
  readonly sndQueue: ByteQueue;
  /** Sequence number of the first byte in `sndQueue`. */
  sndQueueSeq: Seq = 0;
  /** The owner will write no more: FIN follows the queue. */
  finQueued = false;
  finSent = false;

  // Receive sequence space.
  irs: Seq = 0;
  rcvNxt: Seq = 0;
  /** Right edge of the window as advertised; never moves left. */
  rcvAdv: Seq = 0;
  rcvMss: number = DEFAULT_MSS_4;
  rcvWindowShift = 0;
  readonly rcvQueue: ReassemblyQueue;
  /** Right edge of what may be received is `rcvNxt` + what is left of this. Grows with use. */
  rcvLimit = 0;
  finKnown = false;
  finSeq: Seq = 0;
  finReceived = false;

  // In-order bytes of the segment just processed, borrowed until `takeDelivered`.
  deliverOffset = 0;
  deliverLength = 0;

  // Options agreed on.
  sackOk = false;
  timestampsOk = false;
  tsRecent = 0;
  tsRecentAt = 0;
  /** Added to the clock to make our TSval, so that it tells nothing about the host. */
  tsOffset = 0;

  // Acknowledging.
  ackNow = false;
  /** Our own data follows the guest's so soon that it carries the acknowledgment: wait for it. Hoped for at first. */
  interactive = true;
  /** How often waiting was in vain. */
  delayFailures = 0;
  lastDataAt: number = Number.NEGATIVE_INFINITY;
  /** Acknowledgment number of the last segment sent. */
  lastAckSent: Seq = 0;
  /** Latest out-of-order block, first in the next SACK option (RFC 2018 §4). */
  sackRecent: Seq = 0;
  challengeCount = 0;
  challengeWindowStart = 0;
  /** A duplicate range to report as D-SACK (RFC 2883); length 0 = none. */
  dsackLeft: Seq = 0;
  dsackRight: Seq = 0;

  // Loss recovery.
  readonly rtt: RttEstimator = new RttEstimator();
  congestion: CongestionControl;
  readonly scoreboard: Scoreboard = new Scoreboard();
  dupAcks = 0;
  recovery: Recovery = Recovery.None;
  /** SND.NXT when loss was noticed (RFC 6675 RecoveryPoint). */
  recover: Seq = 0;
  /** What may be in flight during a fast recovery, and how it is found (RFC 9937, PRR). */
  recoveryCwnd = 0;
  recoverFlight = 0;
  prrDelivered = 0;
  prrOut = 0;
  /** TSval of this recovery's first retransmission while its acknowledgment may tell that there was no need (RFC 3522). */
  resendTs = 0;
  resendTsValid = false;
  /** Until this is acknowledged, the congestion window was what kept us from sending more. */
  limitedUntil: Seq = 0;
  lastDataSentAt: number = Number.NEGATIVE_INFINITY;
  /** Bytes that left ahead of the pace, as of a time (pacing.ts). */
  paceDebt = 0;
  paceAt = 0;
  /** RACK.reo_wnd_mult, RACK.reo_wnd_persist and RACK.dsack_round (RFC 8985 §6.2 step 4). */
  reorderMultiple = 1;
  reorderPersist = 0;
  dsackRound: Seq = 0;
  /** Timed segment for peers without timestamps (Karn): -1 = none. */
  rttTimedAt = -1;
  rttTimedSeq: Seq = 0;
  /** When the data now outstanding first timed out; -1 = it has not. */
  stuckSince = -1;
  probePending = false;
  probeSent = false;
  /** The probe repeated data up to `probeEnd`, and it is not known yet whether that repaired a loss. */
  probeResent = false;
  probeEnd: Seq = 0;
  /** Send one byte into a closed window (RFC 9293 §3.8.6.1). */
  persistPending = false;
  persistMs = 0;
  synPending = false;
  /** When a copy of the guest's SYN was last answered. */
  synRepeatedAt: number = Number.NEGATIVE_INFINITY;
  synRetransmitted = false;
  rstPending = false;
  keepaliveProbes = 0;
  /** In TIME-WAIT, and only there. */
  timeWait: TimeWait | null = null;
  lastHeardAt = 0;

  readonly timers: Float64Array = new Float64Array(TIMER_COUNT).fill(Number.POSITIVE_INFINITY);

  constructor(env: TcpEnvironment, isV4: boolean) {
    this.env = env;
    this.isV4 = isV4;
    this.sndQueue = new ByteQueue(env.slab);
    this.rcvQueue = new ReassemblyQueue(env.slab);
    this.congestion = env.newCongestionControl(DEFAULT_MSS_4);
    this.rcvLimit = env.receiveLimit;
  }

  /**
   * Take a SYN from the guest (passive open). Nothing is answered until `accept`.
   * @param mtu of the link, in bytes of IP packet
   * @param iss by RFC 6528
   */
  openPassive(syn: TcpHeader, mtu: number, iss: Seq, tsOffset: number, nowMs: number): void {
    this.state = TcpState.SynPending;
    this.#start(iss, mtu, tsOffset, nowMs);
    this.irs = syn.seq;
    this.rcvNxt = seqAdd(syn.seq, 1);
    this.rcvAdv = this.rcvNxt;
    this.lastAckSent = this.rcvNxt;
    this.takeSynOptions(syn, mtu, nowMs);
    this.sndWl1 = syn.seq;
    this.sndWl2 = this.iss;
  }

  /** Send a SYN to the guest (active open). */
  openActive(mtu: number, iss: Seq, tsOffset: number, nowMs: number): void {
    this.state = TcpState.SynSent;
    this.#start(iss, mtu, tsOffset, nowMs);
    this.timestampsOk = true;
    this.synPending = true;
    this.timers[Timer.State] = nowMs + HANDSHAKE_LIMIT_MS;
  }

  /** The destination answered: complete the handshake. */
  accept(nowMs: number): void {
    this.state = TcpState.SynReceived;
    this.synPending = true;
    this.timers[Timer.State] = nowMs + HANDSHAKE_LIMIT_MS;
  }

  /** Reset the connection: the next `pollTransmit` gives the RST. */
  abort(): void {
    if (this.state === TcpState.Closed || this.state === TcpState.TimeWait) return;
    this.rstPending = true;
    this.sndQueue.clear();
    this.rcvQueue.clear();
  }

  /** No more bytes will be queued: send FIN behind them. */
  closeSend(): void {
    this.finQueued = true;
  }

  /** Bytes the owner may queue at the moment. */
  get sendRoom(): number {
    return this.env.sendLimit - this.sndQueue.length;
  }

  get isSynchronized(): boolean {
    return this.state >= TcpState.Established;
  }

  /** Bytes in flight, including SYN and FIN. */
  get flight(): number {
    return seqDiff(this.sndNxt, this.sndUna);
  }

  /** What the options of the guest's SYN (or SYN-ACK) settle. */
  takeSynOptions(syn: TcpHeader, mtu: number, nowMs: number): void {
    const headers = this.isV4 ? 40 : 60;
    const offered = syn.mss >= 0 ? syn.mss : this.isV4 ? DEFAULT_MSS_4 : DEFAULT_MSS_6;
    let mss = Math.max(MIN_MSS, Math.min(offered, mtu - headers));
    this.timestampsOk = syn.hasTimestamps;
    if (syn.hasTimestamps) {
      this.tsRecent = syn.tsVal;
      this.tsRecentAt = nowMs;
      mss -= TIMESTAMP_OPTION_LENGTH;
    }
    this.sndMss = mss;
    this.sackOk = syn.sackPermitted;
    if (syn.windowScale >= 0) {
      // RFC 7323 §2.3: above 14 is used as 14.
      this.sndWindowShift = Math.min(syn.windowScale, MAX_WINDOW_SHIFT);
      this.rcvWindowShift = WINDOW_SHIFT;
    } else {
      this.sndWindowShift = 0;
      this.rcvWindowShift = 0;
    }
    // RFC 7323 §2.2: the window of a SYN is never scaled.
    this.sndWnd = syn.window;
    this.maxSndWnd = syn.window;
    this.congestion = this.env.newCongestionControl(mss);
  }

  #start(iss: Seq, mtu: number, tsOffset: number, nowMs: number): void {
    this.iss = iss;
    this.sndUna = iss;
    this.sndNxt = iss;
    this.limitedUntil = iss;
    this.recover = iss;
    this.sndQueueSeq = seqAdd(iss, 1);
    this.rcvMss = mtu - (this.isV4 ? 40 : 60);
    this.tsOffset = tsOffset;
    this.lastHeardAt = nowMs;
  }
}

/** A handshake that is not complete by then is given up (T-20; deviation RQ-11: not three minutes). */
export const HANDSHAKE_LIMIT_MS = 60_000;
