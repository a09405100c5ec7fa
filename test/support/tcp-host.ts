/**
 * One connection of ours on a manual clock, and a peer that is the test itself: it sends one segment and gets back
 * exactly what came out, as one line per segment. Sequence numbers are relative: 0 is the SYN of the side they count.
 *
 *   `SA 0:0 ack 1`   flags (S F R P, and `.` for ACK alone or `A` behind others), first and last+1 byte, acknowledgment
 */
import { Parts } from '../../src/stack/buffer/byte-queue.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { Counters } from '../../src/stack/counters.ts';
import { ErrorLimiter } from '../../src/stack/icmp/limit.ts';
import { Cubic } from '../../src/stack/tcp/congestion/cubic.ts';
import { NewReno } from '../../src/stack/tcp/congestion/new-reno.ts';
import { noCongestionControl } from '../../src/stack/tcp/congestion/none.ts';
import { TcpConnection } from '../../src/stack/tcp/connection.ts';
import { EV_CLOSED, EV_DELIVER, TcpSegmentOut } from '../../src/stack/tcp/owner.ts';
import { seqAdd, seqDiff } from '../../src/stack/tcp/seq.ts';
import { type Tcb, TcpState } from '../../src/stack/tcp/tcb.ts';
import {
  emitTcp,
  parseTcp,
  TCP_ACK,
  TCP_FIN,
  TCP_PSH,
  TCP_RST,
  TCP_SYN,
  TCP_URG,
  TcpHeader,
  tcpHeaderLength,
} from '../../src/stack/wire/tcp.ts';
import { seededRng } from './seeded-rng.ts';

export interface HostOptions {
  isV4?: boolean;
  mtu?: number;
  receiveLimit?: number;
  sendLimit?: number;
  superSegment?: number;
  newReno?: boolean;
  /** In place of `newReno`. */
  congestion?: 'none' | 'newReno' | 'cubic';
  outOfOrderRanges?: number;
  /** The first acknowledgment waits for data that carries it. */
  interactive?: boolean;
  pages?: number;
  iss?: number;
  irs?: number;
  /** What the peer's SYN offers; -1 or false = not. */
  mss?: number;
  windowScale?: number;
  sack?: boolean;
  timestamps?: boolean;
  /** Raw window of the peer's SYN, and of its segments unless they say otherwise. */
  window?: number;
}

export interface Segment {
  /** Letters of S F R P A U, in any order. */
  flags: string;
  seq?: number;
  ack?: number;
  window?: number;
  /** Payload, or how many bytes of it. */
  data?: string | number;
  sack?: [number, number][];
  /** TSval (relative to the peer's first) and TSecr; by default the clock and what was last received. */
  tsVal?: number;
  tsEcr?: number;
  noTimestamps?: boolean;
  urgent?: number;
}

const FLAGS: readonly [string, number][] = [
  ['S', TCP_SYN],
  ['F', TCP_FIN],
  ['R', TCP_RST],
  ['P', TCP_PSH],
  ['A', TCP_ACK],
  ['U', TCP_URG],
];
/** Where the peer's timestamps begin: shortly before they become negative. */
export const PEER_TS = 0x7fffff00;
const POISON = 0xa5;

/** What came out: the line, and the header for what the line does not say. */
export interface Out {
  line: string;
  header: TcpHeader;
  length: number;
  mss: number;
  text: string;
  atMs: number;
}

export class TcpHost {
  readonly connection: TcpConnection;
  readonly slab: Slab;
  readonly counters: Counters = new Counters();
  readonly iss: number;
  readonly irs: number;
  readonly options: HostOptions;
  now = 100_000;
  /** Events of the last call, or-ed. */
  events = 0;
  /** Bytes that the reader got. */
  received = '';
  /** How many bytes the reader takes at a time from now on. */
  readerTakes: number = Number.MAX_SAFE_INTEGER;
  /** Every segment that ever came out. */
  readonly sent: Out[] = [];
  readonly #rx: number;
  readonly #tx: number;
  readonly #out = new TcpSegmentOut();
  readonly #parts = new Parts(64);
  /** May be changed. */
  readonly link = { mtu: 65535 };
  readonly #header = new TcpHeader();
  #lastTsVal = 0;

  constructor(options: HostOptions = {}) {
    this.options = options;
    this.slab = new Slab(256 * 1024, options.pages ?? 256);
    this.slab.bytes.fill(POISON);
    this.#rx = this.slab.region(80 * 1024);
    this.#tx = this.slab.region(64);
    this.iss = options.iss ?? 5000;
    this.irs = options.irs ?? 1000;
    const congestion = options.congestion ?? (options.newReno === true ? 'newReno' : 'none');
    this.connection = new TcpConnection(
      {
        slab: this.slab,
        link: this.link,
        receiveLimit: options.receiveLimit ?? 65536,
        sendLimit: options.sendLimit ?? 1 << 20,
        outOfOrderRanges: options.outOfOrderRanges ?? 128,
        superSegment4: options.superSegment ?? 0,
        superSegment6: options.superSegment ?? 0,
        delayedAckMs: 2,
        counters: this.counters,
        challenges: new ErrorLimiter(1000, 1000, seededRng(1)),
        newCongestionControl: (mss) => {
          if (congestion === 'none') return noCongestionControl;
          return congestion === 'cubic' ? new Cubic(mss) : new NewReno(mss);
        },
      },
      options.isV4 ?? true,
    );
    // What an acknowledgment may wait for is one test's business; here it comes at once unless a test says otherwise.
    this.tcb.rcv.interactive = options.interactive ?? false;
  }

  /** Its state, which only tests look at. */
  get tcb(): Tcb {
    return this.connection['tcb'];
  }

  get state(): TcpState {
    return this.tcb.state;
  }

  /** The peer's SYN arrives; nothing is answered until `accept`. `raw` options replace the usual ones. */
  openPassive(raw?: number[]): void {
    const h = this.#synHeader(TCP_SYN, raw);
    this.connection.openPassive(h, this.options.mtu ?? 1500, this.iss, 7, this.now);
  }

  accept(): string[] {
    this.connection.accept(this.now);
    return this.flush();
  }

  openActive(): string[] {
    this.connection.openActive(this.options.mtu ?? 1500, this.iss, 7, this.now);
    return this.flush();
  }

  /** The peer's SYN (or SYN-ACK with `ack`) as a segment. */
  syn(ack = -1): string[] {
    const h = this.#synHeader(ack < 0 ? TCP_SYN : TCP_SYN | TCP_ACK);
    h.ack = ack < 0 ? 0 : seqAdd(this.iss, ack);
    return this.#input(h, this.#rx, 0);
  }

  /** A segment from the peer: what comes out. */
  segment(s: Segment): string[] {
    const h = this.#header;
    h.flags = 0;
    for (const [letter, flag] of FLAGS) if (s.flags.includes(letter)) h.flags |= flag;
    h.seq = seqAdd(this.irs, s.seq ?? seqDiff(this.tcb.rcv.nxt, this.irs));
    h.ack = seqAdd(this.iss, s.ack ?? seqDiff(this.tcb.snd.nxt, this.iss));
    h.window = s.window ?? this.options.window ?? 60000;
    h.urgent = s.urgent ?? 0;
    h.mss = -1;
    h.windowScale = -1;
    h.sackPermitted = false;
    h.sackCount = s.sack?.length ?? 0;
    s.sack?.forEach(([left, right], i) => {
      h.sackLeft[i] = seqAdd(this.iss, left);
      h.sackRight[i] = seqAdd(this.iss, right);
    });
    h.hasTimestamps = (this.options.timestamps ?? false) && s.noTimestamps !== true;
    h.tsVal = seqAdd(PEER_TS, s.tsVal ?? this.now - 100_000);
    h.tsEcr = s.tsEcr ?? this.#lastTsVal;
    const data = typeof s.data === 'number' ? '.'.repeat(s.data) : (s.data ?? '');
    const at = this.#rx + 128;
    this.slab.bytes.fill(POISON, this.#rx, at + data.length + 64);
    this.slab.bytes.set(Buffer.from(data, 'latin1'), at);
    return this.#input(h, at, data.length);
  }

  /** The owner queues bytes: what comes out. */
  write(data: string | number): string[] {
    const bytes = Buffer.from(typeof data === 'number' ? pattern(data) : data, 'latin1');
    const queue = this.tcb.snd.queue;
    const room = queue.reserve(bytes.length, this.#parts);
    if (room < bytes.length) throw new RangeError('no room to write');
    let at = 0;
    for (let i = 0; i < this.#parts.count; i++) {
      const size = this.#parts.length[i] as number;
      this.slab.bytes.set(bytes.subarray(at, at + size), this.#parts.offset[i] as number);
      at += size;
    }
    queue.commit(bytes.length);
    return this.flush();
  }

  close(): string[] {
    this.connection.closeSend();
    return this.flush();
  }

  abort(): string[] {
    this.connection.abort();
    return this.flush();
  }

  /** The reader takes up to `bytes` of what waits. */
  read(bytes: number): string[] {
    const queue = this.tcb.rcv.queue;
    const n = queue.peek(bytes, this.#parts);
    for (let i = 0; i < this.#parts.count; i++) {
      this.#take(this.#parts.offset[i] as number, this.#parts.length[i] as number);
    }
    this.connection.consume(n);
    return this.flush();
  }

  /** Let time pass, and every deadline in it: what comes out, each line with the milliseconds since the call in front. */
  advance(ms: number): string[] {
    const start = this.now;
    const lines: string[] = [];
    this.events = 0;
    for (;;) {
      const at = this.connection.nextTimeout;
      if (at > start + ms) break;
      this.now = Math.max(this.now, at);
      this.events |= this.connection.onTimeout(this.now);
      for (const line of this.flush()) lines.push(`+${Math.round(this.now - start)} ${line}`);
    }
    this.now = start + ms;
    return lines;
  }

  flush(): string[] {
    const lines: string[] = [];
    for (let i = 0; this.connection.pollTransmit(this.now, this.#out); i++) {
      if (i > 10_000) throw new Error('pollTransmit never ends');
      lines.push(this.#record());
    }
    return lines;
  }

  /** The last segment that came out. */
  get last(): Out {
    return this.sent[this.sent.length - 1] as Out;
  }

  #input(h: TcpHeader, at: number, length: number): string[] {
    const c = this.connection;
    this.events = c.onSegment(h, at, length, this.now);
    if ((this.events & EV_DELIVER) !== 0) {
      const taken = Math.min(this.readerTakes, this.tcb.rcv.deliverLength);
      this.#take(this.tcb.rcv.deliverOffset, taken);
      this.events |= c.takeDelivered(taken);
    }
    if ((this.events & EV_CLOSED) === 0) c.acknowledgeBatch();
    return this.flush();
  }

  #take(offset: number, length: number): void {
    this.received += Buffer.from(this.slab.bytes.subarray(offset, offset + length)).toString('latin1');
  }

  #synHeader(flags: number, raw?: number[]): TcpHeader {
    const o = this.options;
    const h = this.#header;
    h.flags = flags;
    h.seq = this.irs;
    h.window = o.window ?? 60000;
    h.urgent = 0;
    h.mss = o.mss ?? 1460;
    h.windowScale = o.windowScale ?? 7;
    h.sackPermitted = o.sack ?? true;
    h.sackCount = 0;
    h.hasTimestamps = o.timestamps ?? false;
    h.tsVal = PEER_TS;
    h.tsEcr = this.#lastTsVal;
    // Through bytes, so that malformed options are possible.
    const view = this.slab.view;
    let length = tcpHeaderLength(h);
    emitTcp(view, this.#tx, h);
    if (raw !== undefined) {
      length = 20 + Math.ceil(raw.length / 4) * 4;
      for (let i = 0; i < length - 20; i++) view.setUint8(this.#tx + 20 + i, raw[i] ?? 0);
      view.setUint8(this.#tx + 12, length << 2);
    }
    parseTcp(view, this.#tx, length, h);
    return h;
  }

  #record(): string {
    const { header, length, queueOffset, mss } = this.#out;
    const view = this.slab.view;
    const copy = new TcpHeader();
    // 60 bytes are all that a header may have.
    parseTcp(view, this.#tx, emitTcp(view, this.#tx, header), copy);
    if (copy.hasTimestamps) this.#lastTsVal = copy.tsVal;
    let text = '';
    if (length > 0) {
      this.tcb.snd.queue.slice(queueOffset, length, this.#parts);
      for (let i = 0; i < this.#parts.count; i++) {
        const from = this.#parts.offset[i] as number;
        text += Buffer.from(
          this.slab.bytes.subarray(from, from + (this.#parts.length[i] as number)),
        ).toString('latin1');
      }
    }
    const seq = seqDiff(copy.seq, this.iss);
    const letters = FLAGS.map(([letter, flag]) => ((copy.flags & flag) !== 0 ? letter : '')).join('');
    const ack = (copy.flags & TCP_ACK) !== 0 ? ` ack ${seqDiff(copy.ack, this.irs)}` : '';
    const line = `${letters === 'A' ? '.' : letters} ${seq}:${seq + length}${ack}`;
    this.sent.push({ line, header: copy, length, mss, text, atMs: this.now });
    return line;
  }
}

/** What `write(n)` queues: letters that repeat at a length that divides no buffer. */
export function pattern(length: number): string {
  let text = '';
  for (let i = 0; i < 251; i++) text += String.fromCharCode(i);
  return text.repeat(Math.ceil(length / 251)).slice(0, length);
}

/** A connection in `state`. Unless said otherwise nothing is in flight but what the state itself needs. */
export function hostIn(state: TcpState, options: HostOptions = {}): TcpHost {
  const host = new TcpHost(options);
  if (state === TcpState.Closed) return host;
  if (state === TcpState.SynSent) {
    host.openActive();
    return host;
  }
  host.openPassive();
  if (state === TcpState.SynPending) return host;
  host.accept();
  if (state === TcpState.SynReceived) return host;
  host.segment({ flags: 'A' });
  switch (state) {
    case TcpState.FinWait1:
      host.close();
      break;
    case TcpState.FinWait2:
      host.close();
      host.segment({ flags: 'A' });
      break;
    case TcpState.CloseWait:
      host.segment({ flags: 'FA' });
      break;
    case TcpState.Closing:
      host.close();
      host.segment({ flags: 'FA', ack: 1 });
      break;
    case TcpState.LastAck:
      host.segment({ flags: 'FA' });
      host.close();
      break;
    case TcpState.TimeWait:
      host.close();
      host.segment({ flags: 'FA' });
      break;
    default:
      break;
  }
  return host;
}
