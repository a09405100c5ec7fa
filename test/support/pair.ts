/**
 * Two connections of ours, joined by a simulated link on a manual clock. Everything random comes from one seed.
 *
 * Each end is driven as a flow drives its connection: segments come in, in-order bytes go to a reader that may be slow,
 * a batch ends, what is to be sent is polled. Segments cross the link as bytes, so that options really have to fit.
 * Every byte's value follows from its position, so nothing has to be stored to compare.
 */

import type { Congestion } from '../../src/config.ts';
import { Parts } from '../../src/stack/buffer/byte-queue.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { Counters } from '../../src/stack/counters.ts';
import { ErrorLimiter } from '../../src/stack/icmp/limit.ts';
import type { CongestionControl } from '../../src/stack/tcp/congestion/congestion.ts';
import { Cubic } from '../../src/stack/tcp/congestion/cubic.ts';
import { NewReno } from '../../src/stack/tcp/congestion/new-reno.ts';
import { noCongestionControl } from '../../src/stack/tcp/congestion/none.ts';
import { HANDSHAKE_LIMIT_MS, TcpConnection } from '../../src/stack/tcp/connection.ts';
import {
  EV_CLOSED,
  EV_DELIVER,
  EV_FIN,
  EV_RESET,
  type TcpEnvironment,
  TcpSegmentOut,
} from '../../src/stack/tcp/owner.ts';
import { seqAdd, seqDiff } from '../../src/stack/tcp/seq.ts';
import { type Tcb, TcpState, tcpStateNames } from '../../src/stack/tcp/tcb.ts';
import { Timer } from '../../src/stack/tcp/timers.ts';
import { checksum, sumBytes } from '../../src/stack/wire/checksum.ts';
import {
  emitTcp,
  parseTcp,
  TCP_ACK,
  TCP_CHECKSUM_OFF,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  TcpHeader,
} from '../../src/stack/wire/tcp.ts';
import { seededRng } from './seeded-rng.ts';

export interface PairOptions {
  seed: number;
  isV4: boolean;
  mtu: number;
  /** Probability of loss, duplication and extra delay per packet, 0 … 1. */
  loss: number;
  duplication: number;
  reorder: number;
  /** Probability that a bit of a packet is turned over: the checksum must find it. */
  corruption: number;
  /** One-way delay in ms, and how much later a reordered packet may be. */
  delayMs: number;
  jitterMs: number;
  /** Bytes per ms each way, 0 = no limit; and how many bytes wait for it before packets are dropped. */
  rate: number;
  queueBytes: number;
  /** Every so many ms the link takes no packets above `dipMtu` for a while; 0 = never. */
  dipEveryMs: number;
  dipForMs: number;
  dipMtu: number;
  /** Every so many ms the link gets another MTU, of which both ends hear at once: the next of these. 0 = never. */
  mtuEveryMs: number;
  mtus: number[];
  receiveLimit: [number, number];
  sendLimit: number;
  outOfOrderRanges: number;
  /** The ends hand over super-segments; the link cuts them (as a device does) or passes them on whole. */
  superSegments: boolean;
  linkCuts: boolean;
  congestion: Exclude<Congestion, 'auto'>;
  sack: boolean;
  timestamps: boolean;
  windowScale: boolean;
  /** Bytes that each end has to send. */
  bytes: [number, number];
  /** How the readers behave: at once; so many bytes at a time; with pauses of this length; 0 = at once. */
  readerPauseMs: [number, number];
  readerChunk: number;
  /** An end resets the connection once it has written so many bytes; -1 = never. */
  resetAfter: [number, number];
  /** Pages of packet memory for both ends together. */
  pages: number;
  initialSeq: [number, number];
}

export interface PairResult {
  elapsedMs: number;
  packets: number;
  /** What the link did to them: lost for any reason, of these for want of queue and above `dipMtu`; and the rest. */
  dropped: number;
  queueDrops: number;
  dipDrops: number;
  damaged: number;
  copied: number;
  late: number;
  mtuChanges: number;
  /** Payload bytes sent, and sent more than once, not counting window probes. */
  sentBytes: number;
  resentBytes: number;
  /** Of these, bytes of which an earlier copy was not lost. */
  needlessBytes: number;
  /** Retransmission timers that fired. */
  timeouts: number;
  /** Longest time for which the link was idle although a sender had bytes that its peer had room for. */
  longestIdleMs: number;
  /** How often that was for more than `STALL_MS` without a loss that explains it. */
  stalls: number;
  /** Loss kept everything from getting through for so long that an end gave up, as it must. */
  gaveUp: boolean;
  reset: boolean;
}

const UNSENT = 0;
const LOST = 1;
const ARRIVES = 2;

/** No timer but those for losses takes this long. */
export const STALL_MS = 150;

const HEADERS_4 = 40;
const HEADERS_6 = 60;
const TCP_HEADER_ROOM = 60;
const POISON = 0xa5;
const EMPTY = new Uint8Array(0);
/** What stands for the pseudo-header: any number will do, as long as both ends take the same. */
const PSEUDO_SUM = 0x1234;
/** A run that needs more packets than this for its bytes is answering itself. */
const PACKETS_PER_BYTE_LIMIT = 4;
const TIME_LIMIT_MS = 1_800_000;
const R2_MS = 100_000;

interface Event {
  at: number;
  order: number;
  to: number;
  /** null = the reader of end `to` wakes up. */
  packet: Uint8Array | null;
}

/** Bytes repeat at a prime distance, so that a shift by any buffer or window size shows. */
const PATTERN_LENGTH = 65521;
const patterns = [0, 1].map((end) => {
  const rng = seededRng(end + 1);
  return Uint8Array.from({ length: 3 * PATTERN_LENGTH }, () => 0).map((_, i, all) => {
    return i < PATTERN_LENGTH ? rng.u32() & 0xff : (all[i] as number);
  });
});
for (const pattern of patterns) {
  pattern.copyWithin(PATTERN_LENGTH, 0, PATTERN_LENGTH);
  pattern.copyWithin(2 * PATTERN_LENGTH, 0, PATTERN_LENGTH);
}

/** The `length` (≤ 2 × 65521) bytes that end `end` sends at `position`. */
function bytesOf(end: number, position: number, length: number): Uint8Array {
  const from = position % PATTERN_LENGTH;
  return (patterns[end] as Uint8Array).subarray(from, from + length);
}

const congestionControls: Record<PairOptions['congestion'], (mss: number) => CongestionControl> = {
  none: () => noCongestionControl,
  newReno: (mss) => new NewReno(mss),
  cubic: (mss) => new Cubic(mss),
};

/** Run a pair to the end; a run that fails is repeated with a log of its last packets in the message. */
export function runPair(options: PairOptions): PairResult {
  try {
    return new Pair(options).run();
  } catch {
    return new Pair(options, true).run();
  }
}

class End {
  readonly index: number;
  readonly connection: TcpConnection;
  readonly options: PairOptions;
  readonly environment: TcpEnvironment;
  written = 0;
  read = 0;
  finSeen = false;
  closed = false;
  accepted = false;
  readerWakesAt = 0;
  touched = false;
  /** Right edge that the peer has advertised, as far as it has reached this end; and the highest byte sent. */
  edge = 0;
  edgeKnown = false;
  highestSent = 0;
  /** For each byte, what became of it. */
  readonly fate: Uint8Array;
  /** Bytes that were sent, but no copy of which was spared. */
  missing = 0;
  /** The peer has missed something that was said at `unheardSeq`, and nothing that counts as newer has followed. */
  unheard = false;
  unheardSeq = 0;
  /** When the link has carried what this end has sent so far. */
  linkFreeAt = 0;

  constructor(index: number, options: PairOptions, slab: Slab, link: { readonly mtu: number }) {
    this.index = index;
    this.options = options;
    const mtuRoom = 65535 - 80;
    this.environment = {
      slab,
      link,
      receiveLimit: options.receiveLimit[index] as number,
      sendLimit: options.sendLimit,
      outOfOrderRanges: options.outOfOrderRanges,
      superSegment4: options.superSegments ? mtuRoom : 0,
      superSegment6: options.superSegments ? mtuRoom : 0,
      delayedAckMs: 2,
      newCongestionControl: congestionControls[options.congestion],
      counters: new Counters(),
      challenges: new ErrorLimiter(1000, 1000, seededRng(1)),
    };
    this.fate = new Uint8Array((options.bytes[index] as number) + 2);
    this.connection = new TcpConnection(this.environment, options.isV4);
  }

  /** Its state, which only tests look at. */
  get tcb(): Tcb {
    return this.connection['tcb'];
  }
}

export class Pair {
  readonly options: PairOptions;
  readonly slab: Slab;
  readonly ends: [End, End];
  readonly log: string[] = [];
  readonly result: PairResult = {
    elapsedMs: 0,
    packets: 0,
    dropped: 0,
    queueDrops: 0,
    dipDrops: 0,
    damaged: 0,
    copied: 0,
    late: 0,
    mtuChanges: 0,
    sentBytes: 0,
    resentBytes: 0,
    needlessBytes: 0,
    timeouts: 0,
    longestIdleMs: 0,
    stalls: 0,
    gaveUp: false,
    reset: false,
  };
  #now = 1000;
  #order = 0;
  #inFlight = 0;
  #idleSince = -1;
  readonly #link: { mtu: number };
  #nextMtuAt: number;
  readonly #rng;
  readonly #events: Event[] = [];
  readonly #rx: number;
  readonly #tx: number;
  readonly #parts = new Parts(64);
  readonly #ioParts = new Parts(6);
  readonly #segment = new TcpSegmentOut();
  readonly #header = new TcpHeader();
  readonly #logging: boolean;

  constructor(options: PairOptions, logging = false) {
    this.options = options;
    this.#logging = logging;
    this.#rng = seededRng(options.seed);
    this.slab = new Slab(256 * 1024, options.pages);
    this.slab.bytes.fill(POISON);
    this.#rx = this.slab.region(80 * 1024);
    this.#tx = this.slab.region(TCP_HEADER_ROOM);
    this.#link = { mtu: options.mtu };
    this.#nextMtuAt = options.mtuEveryMs > 0 ? this.#now + options.mtuEveryMs : Number.POSITIVE_INFINITY;
    this.ends = [new End(0, options, this.slab, this.#link), new End(1, options, this.slab, this.#link)];
  }

  /** Run until both ends have everything and are closed. Throws an Error that tells what went wrong. */
  run(): PairResult {
    const [a] = this.ends;
    a.connection.openActive(this.#link.mtu, this.options.initialSeq[0], this.#rng.u32(), this.#now);
    a.accepted = true;
    this.#flush(a);
    const limit =
      2000 + PACKETS_PER_BYTE_LIMIT * Math.ceil((this.options.bytes[0] + this.options.bytes[1]) / 100);
    while (!this.#done() && !this.result.gaveUp) {
      this.#step();
      if (this.result.packets > limit)
        this.#fail(`${this.result.packets} packets: the ends answer each other`);
      if (this.#now > TIME_LIMIT_MS) this.#fail('not finished in time');
    }
    this.result.elapsedMs = this.#now - 1000;
    for (const end of this.ends) {
      end.tcb.rcv.queue.clear();
      end.tcb.snd.queue.clear();
    }
    if (this.slab.pagesUsed !== 0) this.#fail(`${this.slab.pagesUsed} pages leaked`);
    return this.result;
  }

  #done(): boolean {
    const [a, b] = this.ends;
    if (this.result.reset) return (a.closed && b.closed) || this.#nextAt() === Number.POSITIVE_INFINITY;
    return a.closed && b.closed && a.read === this.options.bytes[1] && b.read === this.options.bytes[0];
  }

  #nextAt(): number {
    let next = this.#events[0]?.at ?? Number.POSITIVE_INFINITY;
    for (const end of this.ends) if (!end.closed) next = Math.min(next, end.connection.nextTimeout);
    return next;
  }

  #step(): void {
    const [a, b] = this.ends;
    const next = this.#nextAt();
    if (next === Number.POSITIVE_INFINITY) this.#fail('nothing will ever happen again');
    this.#watchIdle(next);
    this.#now = Math.max(this.#now, next);
    while (this.#nextMtuAt <= this.#now) this.#changeMtu();
    // One batch: everything that is due now, for both ends.
    while (this.#events[0] !== undefined && this.#events[0].at <= this.#now) {
      const event = this.#events.shift() as Event;
      const end = this.ends[event.to] as End;
      if (event.packet !== null) {
        this.#inFlight--;
        this.#receive(end, event.packet);
      } else {
        this.#readSome(end);
      }
      // Sometimes every packet is a batch of its own.
      if (this.#chance(0.5)) this.#settle(end);
    }
    for (const end of [a, b]) {
      if (end.closed) continue;
      if (end.connection.nextTimeout <= this.#now) {
        const { timers } = end.tcb;
        if ((timers[Timer.Retransmit] as number) <= this.#now) this.result.timeouts++;
        this.#react(end, end.connection.onTimeout(this.#now));
        end.touched = true;
      }
      this.#settle(end);
    }
  }

  #changeMtu(): void {
    const { mtus, mtuEveryMs } = this.options;
    this.#link.mtu = mtus[this.result.mtuChanges++ % mtus.length] as number;
    this.#nextMtuAt += mtuEveryMs;
  }

  /** How long does the link lie idle although somebody could send? */
  #watchIdle(next: number): void {
    const canMove = this.#inFlight === 0 && this.ends.some((end) => this.#couldSend(end));
    if (!canMove) {
      this.#idleSince = -1;
      return;
    }
    if (this.#idleSince < 0) this.#idleSince = this.#now;
    const idle = next - this.#idleSince;
    this.result.longestIdleMs = Math.max(this.result.longestIdleMs, idle);
    // Bytes are missing, or one end does not know what the other one told it last.
    const explained = this.ends.some((end) => end.missing > 0 || end.unheard);
    if (idle > STALL_MS && !explained) this.result.stalls++;
    if (next > this.#now) {
      this.#idleSince = -1;
    }
  }

  #couldSend(end: End): boolean {
    const peer = this.ends[1 - end.index] as End;
    if (end.closed || end.tcb.state < TcpState.Established) return !end.closed && end.accepted;
    const unfinished =
      end.tcb.snd.queue.length > 0 ||
      (end.tcb.snd.finQueued && end.tcb.snd.flight > 0) ||
      (end.tcb.snd.finQueued && !end.tcb.snd.finSent);
    if (!unfinished || peer.closed) return false;
    // The peer's reader is what everybody waits for.
    return peer.tcb.rcv.queue.readable === 0;
  }

  #receive(end: End, packet: Uint8Array): void {
    const { bytes, view } = this.slab;
    const at = this.#rx + 64 + (this.#rng.u32() & 7);
    bytes.fill(POISON, this.#rx, at);
    bytes.set(packet, at);
    bytes.fill(POISON, at + packet.length, at + packet.length + 64);
    if (this.options.corruption > 0 && checksum(sumBytes(view, at, packet.length, PSEUDO_SUM)) !== 0) {
      return;
    }
    const h = this.#header;
    if (parseTcp(view, at, packet.length, h) !== 0) this.#fail('segment does not parse');
    if (h.optionError) this.#fail('options do not parse');
    this.#middlebox(h);
    const c = end.connection;
    if (end.tcb.state === TcpState.Closed && end.index === 1 && !end.closed) {
      if ((h.flags & TCP_SYN) === 0) return;
      c.openPassive(h, this.#link.mtu, this.options.initialSeq[1], this.#rng.u32(), this.#now);
      this.#push(this.#now + this.#below(20), end.index, null);
      return;
    }
    if (end.closed) {
      if (end.tcb.timeWait !== null) {
        c.onSegment(h, at, 0, this.#now);
        this.#flush(end);
      } else if (this.result.reset && (h.flags & TCP_RST) === 0) {
        this.#refuse(end, h);
      }
      return;
    }
    this.#noteEdge(end, h);
    // Overtaken by a retransmission: PAWS takes it for an old duplicate (RFC 7323 §5.3).
    if (end.tcb.timestampsOk && ((h.tsVal - end.tcb.tsRecent) | 0) < 0) {
      this.#noteDropped(end, h, packet.length - h.headerLen, 0);
    }
    // A window probe: what lies beyond the window is not taken.
    const inWindow = Math.max(0, seqDiff(end.tcb.rcv.adv, h.seq));
    if (packet.length - h.headerLen > inWindow) {
      this.#noteDropped(end, h, packet.length - h.headerLen, inWindow);
    }
    let events = c.onSegment(h, at + h.headerLen, packet.length - h.headerLen, this.#now);
    if ((events & EV_DELIVER) !== 0) {
      let taken = end.tcb.rcv.deliverLength;
      if (this.#now < end.readerWakesAt || end.tcb.rcv.queue.readable > 0) taken = 0;
      else if (this.#pause(end) > 0) taken = Math.min(taken, this.#below(this.options.readerChunk + 1));
      this.#check(end, end.tcb.rcv.deliverOffset, taken);
      events |= c.takeDelivered(taken);
      if (end.tcb.rcv.queue.readable > 0) this.#wakeReader(end);
    }
    if (end.tcb.rcv.queue.readable > 0) this.#wakeReader(end);
    this.#react(end, events);
    if (seqDiff(end.tcb.rcv.nxt, end.tcb.rcv.lastAckSent) * 4 >= end.tcb.rcv.limit) {
      end.tcb.rcv.ackNow = true;
      this.#flush(end);
    }
    end.touched = true;
  }

  #pause(end: End): number {
    return this.options.readerPauseMs[end.index] as number;
  }

  #wakeReader(end: End): void {
    if (end.readerWakesAt > this.#now) return;
    const pause = this.#pause(end);
    end.readerWakesAt = this.#now + (pause > 0 ? 1 + this.#below(pause) : 0);
    this.#push(end.readerWakesAt, end.index, null);
  }

  #readSome(end: End): void {
    const c = end.connection;
    if (!end.accepted) {
      end.accepted = true;
      c.accept(this.#now);
      this.#flush(end);
      return;
    }
    end.readerWakesAt = 0;
    const chunk = this.#pause(end) > 0 ? 1 + this.#below(this.options.readerChunk) : Number.MAX_SAFE_INTEGER;
    let left = Math.min(chunk, end.tcb.rcv.queue.readable);
    while (left > 0) {
      const n = end.tcb.rcv.queue.peek(left, this.#ioParts);
      for (let i = 0; i < this.#ioParts.count; i++)
        this.#check(end, this.#ioParts.offset[i] as number, this.#ioParts.length[i] as number);
      c.consume(n);
      left -= n;
    }
    if (end.tcb.rcv.queue.readable > 0) this.#wakeReader(end);
    end.touched = true;
  }

  #check(end: End, offset: number, length: number): void {
    const expected = bytesOf(1 - end.index, end.read, length);
    if (Buffer.compare(this.slab.bytes.subarray(offset, offset + length), expected) !== 0) {
      this.#fail(`end ${end.index}: bytes from ${end.read} on are wrong`);
    }
    end.read += length;
    if (end.read > (this.options.bytes[1 - end.index] as number)) this.#fail('more bytes than were sent');
  }

  #react(end: End, events: number): void {
    if ((events & EV_RESET) !== 0) {
      if (this.result.reset) {
        end.closed = true;
        return;
      }
      const { lastHeardAt } = end.tcb;
      const { stuckSince } = end.tcb.loss;
      const since = stuckSince < 0 ? lastHeardAt : Math.min(stuckSince, lastHeardAt);
      // Nothing got through for R2 (RFC 9293 §3.8.3).
      const { loss, corruption, rate, dipEveryMs } = this.options;
      const patience = end.tcb.isSynchronized ? R2_MS : HANDSHAKE_LIMIT_MS;
      if (loss + corruption + rate + dipEveryMs === 0 || this.#now - since < patience) {
        this.#fail(`end ${end.index}: reset`);
      }
      this.result.gaveUp = true;
      return;
    }
    if ((events & EV_FIN) !== 0) end.finSeen = true;
    if ((events & EV_CLOSED) !== 0) {
      this.#flush(end);
      end.closed = true;
      if (!end.finSeen && !this.result.reset) this.#fail(`end ${end.index}: closed without the peer's FIN`);
    }
  }

  #settle(end: End): void {
    if (!end.touched || end.closed || !end.accepted) return;
    end.touched = false;
    end.connection.acknowledgeBatch();
    this.#write(end);
    this.#flush(end);
  }

  /** The writer: as the flow does, in pieces, and FIN behind the last byte. */
  #write(end: End): void {
    const c = end.connection;
    const total = this.options.bytes[end.index] as number;
    while (end.tcb.isSynchronized && end.written < total) {
      const sendRoom = this.options.sendLimit - end.tcb.snd.queue.length;
      // Filling up every byte that becomes free would make packets of a byte.
      if (sendRoom < Math.min(total - end.written, this.options.sendLimit / 4)) break;
      const want = Math.min(sendRoom, total - end.written, 1 + this.#below(70_000));
      if (want <= 0) break;
      const room = end.tcb.snd.queue.reserve(want, this.#ioParts);
      if (room === 0) {
        // Out of packet memory: come again.
        this.#push(this.#now + 5, end.index, null);
        break;
      }
      const used = this.#chance(0.3) ? 1 + this.#below(room) : room;
      let at = 0;
      for (let p = 0; p < this.#ioParts.count && at < used; p++) {
        const piece = Math.min(this.#ioParts.length[p] as number, used - at);
        this.slab.bytes.set(bytesOf(end.index, end.written + at, piece), this.#ioParts.offset[p] as number);
        at += piece;
      }
      end.tcb.snd.queue.commit(used);
      end.written += used;
      this.#flush(end);
    }
    const resetAfter = this.options.resetAfter[end.index] as number;
    if (end.tcb.isSynchronized && resetAfter >= 0 && end.written >= resetAfter && !this.result.reset) {
      this.result.reset = true;
      c.abort();
      this.#flush(end);
      end.closed = true;
      return;
    }
    if (end.written === total && !end.tcb.snd.finQueued && end.tcb.isSynchronized) c.closeSend();
  }

  #flush(end: End): void {
    const c = end.connection;
    while (c.pollTransmit(this.#now, this.#segment)) this.#transmit(end);
  }

  #transmit(end: End): void {
    const { header: h, length, mss, queueOffset } = this.#segment;
    const { bytes } = this.slab;
    if ((h.flags & TCP_RST) !== 0) {
      if (this.result.gaveUp) return;
      if (this.result.reset) {
        this.#launch(end, h, 0, this.#packet(h, EMPTY, 0));
        return;
      }
      this.#fail(`end ${end.index}: sends RST in ${tcpStateNames[end.tcb.state]}`);
    }
    this.#parts.count = 0;
    if (length > 0) end.tcb.snd.queue.slice(queueOffset, length, this.#parts);
    const payload = new Uint8Array(length);
    let at = 0;
    for (let i = 0; i < this.#parts.count; i++) {
      const offset = this.#parts.offset[i] as number;
      payload.set(bytes.subarray(offset, offset + (this.#parts.length[i] as number)), at);
      at += this.#parts.length[i] as number;
    }
    if (at !== length) this.#fail('parts do not add up');
    this.#account(end, h, length);
    const flags = h.flags;
    const seq = h.seq;
    const cut = this.options.linkCuts || !this.options.superSegments;
    const piece = cut && length > mss ? mss : length;
    if (length > mss && !this.options.superSegments)
      this.#fail('super-segment without a device that takes it');
    let from = 0;
    do {
      const size = Math.min(piece, length - from);
      const last = from + size >= length;
      h.seq = seqAdd(seq, from);
      h.flags = last ? flags : flags & ~(TCP_FIN | TCP_PSH);
      const packet = this.#packet(h, payload, from, size);
      const headerLength = packet.length - size;
      const wire = Math.min(size, mss) + headerLength - 20 + (this.options.isV4 ? HEADERS_4 : HEADERS_6);
      if (wire > this.#link.mtu) this.#fail(`packet of ${wire} bytes on a link of ${this.#link.mtu}`);
      this.#launch(end, h, size, packet);
      from += size;
    } while (from < length);
  }

  /** A segment as it goes over the link, with a checksum where the link may damage it. */
  #packet(h: TcpHeader, payload: Uint8Array, from: number, size = 0): Uint8Array {
    const { bytes, view } = this.slab;
    const headerLength = emitTcp(view, this.#tx, h);
    const packet = new Uint8Array(headerLength + size);
    packet.set(bytes.subarray(this.#tx, this.#tx + headerLength));
    packet.set(payload.subarray(from, from + size), headerLength);
    if (this.options.corruption > 0) {
      const whole = new DataView(packet.buffer);
      whole.setUint16(TCP_CHECKSUM_OFF, checksum(sumBytes(whole, 0, packet.length, PSEUDO_SUM)));
    }
    return packet;
  }

  /** Nobody knows of this connection any more (RFC 9293 §3.10.7.1). */
  #refuse(end: End, h: TcpHeader): void {
    const reply = new TcpHeader();
    reply.flags = TCP_RST;
    reply.seq = h.ack;
    this.#launch(end, reply, 0, this.#packet(reply, EMPTY, 0));
  }

  #account(end: End, h: TcpHeader, length: number): void {
    if ((h.flags & TCP_SYN) !== 0) {
      end.highestSent = seqAdd(h.seq, 1);
      return;
    }
    if (length === 0) return;
    const last = seqAdd(h.seq, length);
    const news = seqDiff(last, end.highestSent);
    const isProbe = length === 1 && (seqDiff(end.edge, h.seq) <= 0 || news <= 0);
    if (news > 0) end.highestSent = last;
    this.result.sentBytes += length;
    if (!isProbe) this.result.resentBytes += length - Math.max(0, Math.min(news, length));
    const beyond = seqDiff(last, end.edge);
    if (beyond > 0 && !isProbe) this.#fail(`end ${end.index}: ${beyond} bytes beyond the peer's window`);
  }

  #noteEdge(end: End, h: TcpHeader): void {
    const peer = this.ends[1 - end.index] as End;
    const isSyn = (h.flags & TCP_SYN) !== 0;
    // A SYN without ACK acknowledges, as it were, what comes before our own.
    const base = (h.flags & TCP_ACK) !== 0 ? h.ack : seqAdd(end.tcb.snd.iss, 1);
    const edge = seqAdd(base, isSyn ? h.window : h.window * 2 ** peer.tcb.rcv.windowShift);
    if (end.edgeKnown && seqDiff(edge, end.edge) <= 0) return;
    end.edge = edge;
    end.edgeKnown = true;
  }

  #launch(end: End, h: TcpHeader, size: number, packet: Uint8Array): void {
    const { loss, duplication, reorder, corruption, delayMs, jitterMs } = this.options;
    this.result.packets++;
    const copies = this.#chance(duplication) ? 2 : 1;
    const damaged = this.#chance(corruption);
    const inTime = this.#queue(end, packet.length);
    const dipped = this.#dips(packet.length);
    const lost = this.#chance(loss) || inTime < 0 || dipped;
    if ((h.flags & TCP_RST) === 0) this.#noteFate(end, h, size, lost || damaged);
    if (lost || damaged) {
      if (!end.unheard || seqDiff(h.seq, end.unheardSeq) > 0) end.unheardSeq = h.seq;
      end.unheard = true;
    } else if (seqDiff(h.seq, end.unheardSeq) >= 0) {
      end.unheard = false;
    }
    if (this.#logging) {
      this.log.push(
        `${this.#now.toFixed(1)} ${end.index} ${tcpStateNames[end.tcb.state]} seq ${seqDiff(h.seq, this.options.initialSeq[end.index] as number)} len ${size} ack ${seqDiff(h.ack, this.options.initialSeq[1 - end.index] as number)} win ${h.window} flags ${h.flags} sack ${h.sackCount}${lost ? ' LOST' : ''}`,
      );
    }
    if (lost) {
      this.result.dropped++;
      if (inTime < 0) this.result.queueDrops++;
      else if (dipped) this.result.dipDrops++;
      return;
    }
    if (damaged) {
      this.result.damaged++;
      const bit = this.#below(packet.length * 8);
      (packet[bit >> 3] as number) ^= 1 << (bit & 7);
    }
    this.result.copied += copies - 1;
    for (let i = 0; i < copies; i++) {
      const late = this.#chance(reorder) ? this.#below(jitterMs * 10) / 10 : 0;
      if (late > 0) this.result.late++;
      this.#inFlight++;
      this.#push(this.#now + inTime + delayMs + late, 1 - end.index, packet);
    }
  }

  /** How long a packet waits for the link and occupies it, in ms; -1 = there is no room for it. */
  #queue(end: End, size: number): number {
    const { rate, queueBytes } = this.options;
    if (rate === 0) return 0;
    const waits = Math.max(0, end.linkFreeAt - this.#now);
    if (waits * rate > queueBytes) return -1;
    end.linkFreeAt = this.#now + waits + size / rate;
    return waits + size / rate;
  }

  #dips(size: number): boolean {
    const { dipEveryMs, dipForMs, dipMtu } = this.options;
    return dipEveryMs > 0 && size > dipMtu && this.#now % dipEveryMs < dipForMs;
  }

  /** Keep count of bytes (SYN and FIN are one each) that were sent although an earlier copy arrives. */
  #noteFate(end: End, h: TcpHeader, size: number, lost: boolean): void {
    const from = seqDiff(h.seq, this.options.initialSeq[end.index] as number);
    const to = from + size + ((h.flags & (TCP_SYN | TCP_FIN)) !== 0 ? 1 : 0);
    for (let i = from; i < to; i++) {
      const before = end.fate[i];
      if (before === ARRIVES) this.result.needlessBytes++;
      else if (lost) {
        if (before === UNSENT) end.missing++;
        end.fate[i] = LOST;
      } else {
        if (before === LOST) end.missing--;
        end.fate[i] = ARRIVES;
      }
    }
  }

  /** The receiving end did not take what has arrived, but for the first `taken` bytes. */
  #noteDropped(end: End, h: TcpHeader, size: number, taken: number): void {
    const sender = this.ends[1 - end.index] as End;
    const from = Math.max(taken, seqDiff(end.tcb.rcv.nxt, h.seq));
    const base = seqDiff(h.seq, this.options.initialSeq[sender.index] as number);
    for (let i = base + from; i < base + size; i++) {
      if (sender.fate[i] !== ARRIVES) continue;
      sender.fate[i] = LOST;
      sender.missing++;
    }
    sender.unheard = true;
    sender.unheardSeq = h.seq;
  }

  /** A box on the way that takes options out of the handshake. */
  #middlebox(h: TcpHeader): void {
    if ((h.flags & TCP_SYN) === 0) return;
    if (!this.options.sack) h.sackPermitted = false;
    if (!this.options.timestamps) h.hasTimestamps = false;
    if (!this.options.windowScale) h.windowScale = -1;
  }

  #push(at: number, to: number, packet: Uint8Array | null): void {
    const event: Event = { at, order: this.#order++, to, packet };
    let i = this.#events.length;
    while (i > 0 && (this.#events[i - 1] as Event).at > at) i--;
    this.#events.splice(i, 0, event);
  }

  #below(n: number): number {
    return n <= 0 ? 0 : Math.floor((this.#rng.u32() / 2 ** 32) * n);
  }

  #chance(p: number): boolean {
    return p > 0 && this.#rng.u32() < p * 2 ** 32;
  }

  #fail(why: string): never {
    const states = this.ends
      .map((e) => {
        const c = e.tcb;
        return `end ${e.index} ${tcpStateNames[c.state]}: read ${e.read}, written ${e.written}, queued ${c.snd.queue.length}, flight ${c.snd.flight}, window ${c.snd.wnd}, held ${c.rcv.queue.readable}+${c.rcv.queue.outOfOrder}, timers ${[...c.timers].map((t) => (Number.isFinite(t) ? Math.round(t - this.#now) : '-')).join(' ')}`;
      })
      .join('; ');
    throw new Error(
      `${why} at ${Math.round(this.#now)} ms after ${this.result.packets} packets (${states})\n${JSON.stringify(this.options)}\n${this.log.slice(-30).join('\n')}`,
    );
  }
}
