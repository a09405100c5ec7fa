/**
 * The transmission control block of a connection (RFC 9293 §3.3.1): plain state, written by this room alone. What others
 * may do and ask is in `TcpConnection`.
 */
import { ByteQueue } from '../buffer/byte-queue.ts';
import { ReassemblyQueue } from '../buffer/reassembly-queue.ts';
import type { Pages } from '../buffer/slab.ts';
import type { CongestionControl } from './congestion/congestion.ts';
import { noCongestionControl } from './congestion/none.ts';
import type { TcpEnvironment } from './owner.ts';
import { RttEstimator } from './rtt.ts';
import { Scoreboard } from './scoreboard.ts';
import { type Seq, seqDiff } from './seq.ts';
import type { TimeWait } from './time-wait.ts';
import { TIMER_COUNT } from './timers.ts';

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

/** As RFC 9293 writes them: FinWait1 is FIN-WAIT-1. */
export const tcpStateNames: readonly string[] = Object.keys(TcpState).map((name) =>
  name.replace(/(?<=[a-z])(?=[A-Z\d])/g, '-').toUpperCase(),
);

/** RFC 9293 §3.7.1: what a peer that sends no MSS option takes. */
const DEFAULT_MSS_4 = 536;
const DEFAULT_MSS_6 = 1220;
/** Least segment we cut however small an MSS the guest claims (T-03): bounds packets per byte. */
export const MIN_MSS = 216;
/** Shift of the windows we advertise: 16 bits of them reach 8 MiB, above any buffer limit. */
export const WINDOW_SHIFT = 7;
/** An option list with timestamps takes this much of every segment. */
export const TIMESTAMP_OPTION_LENGTH = 12;

/** What a loss has set off: repair by acknowledgments (RFC 6675, RFC 6582), or from the start after the timer. */
export const Recovery = { None: 0, Fast: 1, Timeout: 2 } as const;
export type Recovery = (typeof Recovery)[keyof typeof Recovery];

/** The sending half: send sequence variables, what is queued, and what is due. */
export class Sender {
  /** Bytes not acknowledged yet. */
  readonly queue: ByteQueue;
  /** Sequence number of its first byte. */
  queueSeq: Seq = 0;
  iss: Seq = 0;
  una: Seq = 0;
  /** One past the highest sequence number sent. */
  nxt: Seq = 0;
  wnd = 0;
  wl1: Seq = 0;
  wl2: Seq = 0;
  /** Largest window the guest ever advertised. */
  maxWnd = 0;
  windowShift = 0;
  /** Largest payload per segment towards the guest, options taken off. */
  mss: number;
  synPending = false;
  synRetransmitted = false;
  /** The owner will write no more: FIN follows the queue. */
  finQueued = false;
  finSent = false;
  rstPending = false;
  /** Send one byte into a closed window (RFC 9293 §3.8.6.1). */
  persistPending = false;
  persistMs = 0;
  /** Until this is acknowledged, the congestion window was what kept us from sending more. */
  limitedUntil: Seq = 0;
  lastDataAt: number = Number.NEGATIVE_INFINITY;
  /** Bytes that left ahead of the pace, as of a time (pacing.ts). */
  paceDebt = 0;
  paceAt = 0;

  constructor(slab: Pages, mss: number) {
    this.queue = new ByteQueue(slab);
    this.mss = mss;
  }

  /** Bytes in flight, including SYN and FIN. */
  get flight(): number {
    return seqDiff(this.nxt, this.una);
  }

  /** The guest has everything, our FIN too. */
  get isDone(): boolean {
    return this.finSent && this.flight === 0;
  }
}

/** The receiving half: receive sequence variables, what is kept, and what to acknowledge. */
export class Receiver {
  /** What the owner has not taken, and what came ahead of a gap. */
  readonly queue: ReassemblyQueue;
  irs: Seq = 0;
  nxt: Seq = 0;
  /** Right edge of the window as advertised; never moves left. */
  adv: Seq = 0;
  mss: number;
  windowShift = 0;
  /** Right edge of what may be received is RCV.NXT + what is left of this. */
  limit: number;
  finKnown = false;
  finSeq: Seq = 0;
  /** FIN and all before it were received. */
  finReceived = false;
  /** In-order bytes of the segment just processed, borrowed until `takeDelivered`. */
  deliverOffset = 0;
  deliverLength = 0;
  ackNow = false;
  /** Acknowledgment number of the last segment sent. */
  lastAckSent: Seq = 0;
  /** Our own data follows the guest's so soon that it carries the acknowledgment: wait for it. Hoped for at first. */
  interactive = true;
  /** How often waiting was in vain. */
  delayFailures = 0;
  lastDataAt: number = Number.NEGATIVE_INFINITY;
  /** Latest out-of-order block, first in the next SACK option (RFC 2018 §4). */
  sackRecent: Seq = 0;
  /** A duplicate range to report as D-SACK (RFC 2883); length 0 = none. */
  dsackLeft: Seq = 0;
  dsackRight: Seq = 0;

  constructor(slab: Pages, mss: number, limit: number) {
    this.queue = new ReassemblyQueue(slab);
    this.mss = mss;
    this.limit = limit;
  }

  /** The largest window that we can offer. */
  get windowLimit(): number {
    return Math.min(this.limit, 65535 << this.windowShift);
  }

  /** Bytes beyond RCV.NXT that may be received: what there is room for, as far as the window field can say it. */
  get room(): number {
    return Math.max(0, Math.min(this.limit - this.queue.readable, this.windowLimit));
  }

  /**
   * Half of the window, the gain that is always told. Windows are rounded up to their unit, in the guest's eyes too, which
   * does not use less than half of the largest: without that unit both sides could wait for each other.
   */
  get halfWindow(): number {
    return (this.windowLimit - (1 << this.windowShift)) / 2;
  }

  /** What was received and not acknowledged. */
  get unacknowledged(): number {
    return seqDiff(this.nxt, this.lastAckSent);
  }
}

/** What is known of losses and of the network: the state of recovery.ts. */
export class LossState {
  readonly rtt: RttEstimator = new RttEstimator();
  /** Timed segment for peers without timestamps (Karn): -1 = none. */
  rttTimedAt = -1;
  rttTimedSeq: Seq = 0;
  /** Chosen when the options are known. */
  congestion: CongestionControl = noCongestionControl;
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
  /** RACK.reo_wnd_mult, RACK.reo_wnd_persist and RACK.dsack_round (RFC 8985 §6.2 step 4). */
  reorderMultiple = 1;
  reorderPersist = 0;
  dsackRound: Seq = 0;
  /** When the data now outstanding first timed out; -1 = it has not. */
  stuckSince = -1;
  probePending = false;
  probeSent = false;
  /** The probe repeated data up to `probeEnd`, and it is not known yet whether that repaired a loss. */
  probeResent = false;
  probeEnd: Seq = 0;
}

export class Tcb {
  state: TcpState = TcpState.Closed;
  readonly env: TcpEnvironment;
  readonly isV4: boolean;
  readonly snd: Sender;
  readonly rcv: Receiver;
  readonly loss: LossState = new LossState();

  // Options agreed on.
  sackOk = false;
  timestampsOk = false;
  tsRecent = 0;
  tsRecentAt = 0;
  /** Added to the clock to make our TSval, so that it tells nothing about the host. */
  tsOffset = 0;

  /** When a copy of the guest's SYN was last answered. */
  synRepeatedAt: number = Number.NEGATIVE_INFINITY;
  challengeCount = 0;
  challengeWindowStart = 0;
  keepaliveProbes = 0;
  lastHeardAt = 0;
  /** In TIME-WAIT, and only there. */
  timeWait: TimeWait | null = null;

  readonly timers: Float64Array = new Float64Array(TIMER_COUNT).fill(Number.POSITIVE_INFINITY);

  constructor(env: TcpEnvironment, isV4: boolean) {
    this.env = env;
    this.isV4 = isV4;
    this.snd = new Sender(env.slab, this.defaultMss);
    this.rcv = new Receiver(env.slab, this.defaultMss, env.receiveLimit);
  }

  get isSynchronized(): boolean {
    return this.state >= TcpState.Established;
  }

  get defaultMss(): number {
    return this.isV4 ? DEFAULT_MSS_4 : DEFAULT_MSS_6;
  }

  /** Largest payload without options that an IP packet of `mtu` bytes has room for. */
  fitting(mtu: number): number {
    return mtu - (this.isV4 ? 40 : 60);
  }
}
