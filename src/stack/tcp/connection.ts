/**
 * One TCP connection as the guest sees it (RFC 9293), without any I/O: what its owner (a flow) may do with it and ask.
 *
 * Theory of operation. The connection is plain state (`Tcb`); three files act on it, each with the time passed in:
 *
 *   input.ts   `onSegment`     a segment from the guest → new state, a bit mask of events for the owner
 *   output.ts  `pollTransmit`  the next segment to send, or none; called until there is none
 *   timeout.ts `onTimeout`     a deadline passed; `nextTimeout` tells the next one
 *
 * Bytes to the guest wait in a queue until they are acknowledged: the owner reads its host socket straight into it
 * (`snd.queue`), retransmission reads from it. Bytes from the guest that are in order are shown to the owner where
 * they lie, in the received frame (`deliverOffset`, `deliverLength`); only what the host socket does not take is copied
 * and kept (`rcv.queue`), as is what comes ahead of a gap. The receive window is what there is room for, so a host socket that does not
 * drain closes the window by itself.
 */
import type { ByteQueue } from '../buffer/byte-queue.ts';
import type { ReassemblyQueue } from '../buffer/reassembly-queue.ts';
import type { TcpHeader } from '../wire/tcp.ts';
import { abort, checkFin } from './closing.ts';
import { takeSyn } from './handshake.ts';
import { onSegment } from './input.ts';
import { pollTransmit, transmitUnit } from './output.ts';
import type { TcpEnvironment, TcpSegmentOut } from './owner.ts';
import { mayKeep } from './receive.ts';
import { type Seq, seqAdd, seqDiff } from './seq.ts';
import { type Receiver, type Sender, Tcb, TcpState, tcpStateNames } from './tcb.ts';
import type { TimeWait } from './time-wait.ts';
import { armKeepalive, onTimeout } from './timeout.ts';
import { earliest, Timer } from './timers.ts';

/** A handshake that is not complete by then is given up (T-20; deviation RQ-11: not three minutes). */
export const HANDSHAKE_LIMIT_MS = 60_000;

/** What others may read of either half, and where the owner puts bytes for the guest and finds those that are kept. */
type SenderView = Readonly<Pick<Sender, 'iss' | 'wnd' | 'isDone'>> & {
  readonly queue: Pick<ByteQueue, 'reserve' | 'commit' | 'slice'>;
};
type ReceiverView = Readonly<
  Pick<Receiver, 'irs' | 'nxt' | 'deliverOffset' | 'deliverLength' | 'finReceived'>
> & { readonly queue: Readonly<Pick<ReassemblyQueue, 'readable' | 'peek'>> };

export class TcpConnection {
  readonly snd: SenderView;
  readonly rcv: ReceiverView;
  private readonly tcb: Tcb;

  constructor(env: TcpEnvironment, isV4: boolean) {
    this.tcb = new Tcb(env, isV4);
    this.snd = this.tcb.snd;
    this.rcv = this.tcb.rcv;
  }

  /**
   * Take a SYN from the guest (passive open). Nothing is answered until `accept`.
   * @param mtu of the link, in bytes of IP packet
   * @param iss by RFC 6528
   */
  openPassive(syn: TcpHeader, mtu: number, iss: Seq, tsOffset: number, nowMs: number): void {
    this.#start(TcpState.SynPending, iss, mtu, tsOffset, nowMs);
    takeSyn(this.tcb, syn, nowMs);
    this.tcb.snd.wl2 = iss;
  }

  /** Send a SYN to the guest (active open). */
  openActive(mtu: number, iss: Seq, tsOffset: number, nowMs: number): void {
    this.#start(TcpState.SynSent, iss, mtu, tsOffset, nowMs);
    this.tcb.timestampsOk = true;
    this.#sendSyn(nowMs);
  }

  /** The destination answered: complete the handshake. */
  accept(nowMs: number): void {
    this.tcb.state = TcpState.SynReceived;
    this.#sendSyn(nowMs);
  }

  /** Our SYN may have gone nowhere: send it again without waiting for its timer. */
  repeatSyn(): void {
    this.tcb.snd.synPending = true;
  }

  /** No more bytes will be queued: send FIN behind them. */
  closeSend(): void {
    this.tcb.snd.finQueued = true;
  }

  /** Reset the connection: the next `pollTransmit` gives the RST. */
  abort(): void {
    abort(this.tcb);
  }

  /** Give back all memory: nobody will read or send what is left. */
  release(): void {
    this.tcb.snd.queue.clear();
    this.tcb.rcv.queue.clear();
  }

  onSegment(h: TcpHeader, offset: number, length: number, nowMs: number): number {
    return onSegment(this.tcb, h, offset, length, nowMs);
  }

  pollTransmit(nowMs: number, out: TcpSegmentOut): boolean {
    return pollTransmit(this.tcb, nowMs, out);
  }

  onTimeout(nowMs: number): number {
    return onTimeout(this.tcb, nowMs);
  }

  /** When `onTimeout` is next due; Infinity = never. */
  get nextTimeout(): number {
    return earliest(this.tcb.timers);
  }

  /** Watch from now on for a guest that is gone. */
  armKeepalive(nowMs: number): void {
    armKeepalive(this.tcb, nowMs);
  }

  /** As it is shown. */
  get stateName(): string {
    return tcpStateNames[this.tcb.state] as string;
  }

  /** A SYN was received, and neither accepted nor refused. */
  get isPending(): boolean {
    return this.tcb.state === TcpState.SynPending;
  }

  /** Our SYN was not answered yet. */
  get isOpening(): boolean {
    return this.tcb.state === TcpState.SynSent;
  }

  /** Nothing will be sent or received any more, but for what TIME-WAIT answers. */
  get isOver(): boolean {
    return this.tcb.state === TcpState.Closed || this.tcb.state === TcpState.TimeWait;
  }

  /** In TIME-WAIT, what is to be kept of it. */
  get timeWait(): TimeWait | null {
    return this.tcb.timeWait;
  }

  /** Of either side. */
  get bytesHeld(): number {
    const { snd, rcv } = this.tcb;
    return snd.queue.length + rcv.queue.readable + rcv.queue.outOfOrder;
  }

  // Bytes to the guest.

  /** Time between window probes, in ms, while bytes wait for a window that is shut; 0 = none do. */
  get shutProbeMs(): number {
    const { snd, timers } = this.tcb;
    const probing = timers[Timer.Persist] !== Number.POSITIVE_INFINITY;
    return snd.wnd === 0 && snd.queue.length > 0 && probing ? snd.persistMs : 0;
  }

  /** How many bytes may be queued so that the windows are used and `ahead` more are at hand; less than 1 = none. */
  wanted(ahead: number): number {
    const { env, snd, loss, isSynchronized } = this.tcb;
    if (!isSynchronized || this.isOver) return 0;
    const reach = Math.min(snd.wnd, 2 * Math.floor(loss.congestion.cwnd)) + ahead;
    return Math.min(env.sendLimit, reach) - snd.queue.length;
  }

  /** Largest payload that one `pollTransmit` gives: a whole number of segments, as many as the device takes at once. */
  get transmitUnit(): number {
    return transmitUnit(this.tcb);
  }

  // Bytes from the guest.

  /** The owner took `bytes` of what is kept. */
  consume(bytes: number): void {
    const { rcv } = this.tcb;
    rcv.queue.consume(bytes);
    // After the guest's FIN nothing more can come.
    if (rcv.finReceived) return;
    // RFC 9293 §3.8.6.2.2: tell the guest only when the window grew by something worth telling.
    const gain = rcv.room - seqDiff(rcv.adv, rcv.nxt);
    if (gain >= Math.min(rcv.halfWindow, Math.max(rcv.mss, rcv.windowLimit / 8))) rcv.ackNow = true;
  }

  /**
   * The owner passed `taken` of the delivered bytes on; the rest is kept for later. Returns further events (EV_FIN).
   * Bytes that do not fit in memory are given back: they are not acknowledged and will come again.
   */
  takeDelivered(taken: number): number {
    const { rcv } = this.tcb;
    const rest = rcv.deliverLength - taken;
    rcv.deliverLength = 0;
    if (rest > 0 && !this.keepDelivered(rcv.deliverOffset + taken, rest)) {
      this.giveBackDelivered(rest);
      return 0;
    }
    return checkFin(this.tcb);
  }

  /**
   * The owner took delivered bytes but could not pass them on after all: keep those at `offset` behind what is kept
   * already. False: no memory; call `giveBackDelivered` for these and all after them.
   */
  keepDelivered(offset: number, length: number): boolean {
    const { queue } = this.tcb.rcv;
    return mayKeep(this.tcb) && queue.insert(queue.readable, offset, length, 0);
  }

  /** The last `bytes` received are lost for lack of memory: not being acknowledged yet, they will come again. */
  giveBackDelivered(bytes: number): void {
    const { rcv } = this.tcb;
    rcv.nxt = seqAdd(rcv.nxt, -bytes);
    rcv.ackNow = true;
  }

  /** Let the window be no larger than `bytes` from now on; what was offered stays offered. */
  limitWindow(bytes: number): void {
    this.tcb.rcv.limit = bytes;
  }

  /** A guest that fills its window must not wait for the end of the batch: is an acknowledgment due at once? */
  acknowledgeFull(): boolean {
    const { rcv } = this.tcb;
    if (rcv.unacknowledged * 4 < rcv.windowLimit) return false;
    rcv.ackNow = true;
    return true;
  }

  /** At the end of a batch: is an acknowledgment due before the delay is over? A window of few segments must not wait. */
  acknowledgeBatch(): void {
    const { env, rcv } = this.tcb;
    const { unacknowledged } = rcv;
    if (unacknowledged === 0) return;
    // What was announced, or what the guest can send by now: its MTU may have become smaller.
    const mss = Math.min(rcv.mss, this.tcb.fitting(env.link.mtu));
    if (!rcv.interactive || unacknowledged >= Math.min(2 * mss, rcv.windowLimit / 4)) rcv.ackNow = true;
  }

  /**
   * How long the guest had been silent when it sent this keep-alive (RFC 9293 §3.8.4: nothing new, although there would be
   * room for it); -1 = it is none.
   */
  silenceBefore(h: TcpHeader, length: number, nowMs: number): number {
    const { rcv, state, lastHeardAt } = this.tcb;
    const repeats = length <= 1 && seqDiff(rcv.nxt, h.seq) === 1;
    return repeats && rcv.windowLimit > 0 && state === TcpState.Established ? nowMs - lastHeardAt : -1;
  }

  #start(state: TcpState, iss: Seq, mtu: number, tsOffset: number, nowMs: number): void {
    const c = this.tcb;
    c.state = state;
    c.snd.iss = iss;
    c.snd.una = iss;
    c.snd.nxt = iss;
    c.snd.limitedUntil = iss;
    c.snd.queueSeq = seqAdd(iss, 1);
    c.loss.recover = iss;
    c.rcv.mss = c.fitting(mtu);
    c.tsOffset = tsOffset;
    c.lastHeardAt = nowMs;
  }

  #sendSyn(nowMs: number): void {
    this.repeatSyn();
    this.tcb.timers[Timer.State] = nowMs + HANDSHAKE_LIMIT_MS;
  }
}
