/**
 * The scripted peer of one connection: it sends exactly the segments it is told to, and writes down what comes back.
 * Nothing is acknowledged, repeated or put in order by itself.
 *
 * Numbers that it sends are relative: 0 is the SYN of the side that they count. What it writes down is one line per
 * segment, relative to where the other end stood before: its SND.NXT is `nxt`, its RCV.NXT `rcv`, the right edge of its
 * window `edge` (the sizes of windows are no subject):
 *
 *   `. nxt(10) ack rcv+5 ts sack rcv+10:rcv+20 win0`   flags (S F R, `.` for ACK alone, else A), first byte and how many,
 *                                                     acknowledgment, options, and whether the window is shut
 *
 * The first number of a SYN is not written. Data and FINs that are repeated, and SYNs that are without having been asked
 * for by another SYN, come by timers and are left out.
 */
import {
  ACK,
  type Decoded,
  FIN,
  GUEST4,
  GUEST6,
  isV6,
  PSH,
  RST,
  SYN,
  tcp,
  tcpOptions,
  URG,
} from '../lab/packets.ts';
import { PATIENCE_MS, until } from '../wait.ts';
import type { Wire } from './wire.ts';

/** Letters of S F R P A U, in any order. */
export interface Segment {
  flags: string;
  seq?: number;
  ack?: number;
  data?: string;
  urgent?: number;
  window?: number;
  /** Timestamp: milliseconds to add to the clock, or none; by default the clock, where timestamps were agreed on. */
  ts?: number | 'none';
  /** Of a SYN: without options. */
  bare?: boolean;
}

/** Where the other end stands: RCV.NXT, SND.NXT, SND.UNA, and the right edge of its window. */
export interface Numbers {
  rcv: number;
  nxt: number;
  una: number;
  edge: number;
}

/** `full` offers everything, `plain` nothing but a segment size. */
export type Profile = 'full' | 'plain';

/** Close below zero, so that numbers wrap in every script. */
const ISN = 0xffff_fff0;
/** The other side's first number as far as a script needs one before it is known. */
const UNKNOWN_ISS = 0x2000_0000;
const TS_START = 1_000_000_000;
const MSS = 1460;
const SCALE = 7;
/** How far from where it stood a number is still told relative to that. */
const NEAR = 5000;

const LETTERS: readonly [string, number][] = [
  ['S', SYN],
  ['F', FIN],
  ['R', RST],
  ['P', PSH],
  ['A', ACK],
  ['U', URG],
];

interface Options {
  names: string[];
  scale: number;
  tsVal: number;
  sack: [number, number][];
}

export class Peer {
  readonly port: number;
  readonly #wire: Wire;
  /** Of the other end; its first SYN tells, where that comes before ours. */
  #to: string;
  #toPort: number;
  readonly #profile: Profile;
  readonly #startedAt = performance.now();
  #iss = UNKNOWN_ISS;
  #scale = 0;
  #tsRecent = 0;
  #replies: string[] = [];
  /** We have sent the first SYN again, so that it may be answered again. */
  #asked = false;
  #base: Numbers = { rcv: 1, nxt: 1, una: 1, edge: 65536 };
  /** The other side has sent a SYN. */
  opened = false;
  /** … and since lines are written, another one: the connection is a new one. */
  reopened = false;
  /** One past the last that the other side has sent, and has acknowledged; its right edge; what we acknowledged. */
  nxt = 1;
  rcv = 1;
  edge = 65536;
  una = 1;
  windowShut = false;
  /** What the other side has sent, in order. */
  received = '';
  onReceived: () => void = () => undefined;

  constructor(wire: Wire, port: number, to: string, toPort: number, profile: Profile) {
    this.port = port;
    this.#wire = wire;
    this.#to = to;
    this.#toPort = toPort;
    this.#profile = profile;
    wire.claim(port, (segment) => this.#note(segment));
  }

  close(): void {
    this.#wire.release(this.port);
  }

  send(s: Segment): void {
    let flags = 0;
    for (const [letter, flag] of LETTERS) if (s.flags.includes(letter)) flags |= flag;
    const isSyn = s.flags.includes('S') && s.bare !== true;
    if (s.flags.includes('S') && !s.flags.includes('A') && s.seq === 0) this.#asked = true;
    const full = this.#profile === 'full';
    const withTs = full && s.ts !== 'none';
    const now = TS_START + Math.floor(performance.now() - this.#startedAt);
    const ts: [number, number] = [now + (typeof s.ts === 'number' ? s.ts : 0), this.#tsRecent];
    const packet = tcp(
      {
        src: isV6(this.#to) ? GUEST6 : GUEST4,
        dst: this.#to,
        srcPort: this.port,
        dstPort: this.#toPort,
        seq: (ISN + (s.seq ?? this.rcv)) >>> 0,
        ack: s.flags.includes('A') ? (this.#iss + (s.ack ?? this.una)) >>> 0 : 0,
        flags,
        urgent: s.urgent ?? 0,
        window: s.window ?? (isSyn ? 65535 : full ? 500 : 64000),
        options: tcpOptions({
          ...(isSyn ? { mss: MSS } : {}),
          ...(isSyn && full ? { sack: true, scale: SCALE } : {}),
          ...(withTs ? { ts } : {}),
        }),
      },
      Buffer.from(s.data ?? '', 'latin1'),
    );
    this.#wire.send(packet);
  }

  /** The first SYN. */
  syn(): void {
    this.send({ flags: 'S', seq: 0 });
  }

  /** Acknowledge all that has come. */
  acknowledge(): void {
    this.una = this.nxt;
    this.send({ flags: 'A' });
  }

  /** Lines are relative to here from now on, and those so far are forgotten. */
  mark(): Numbers {
    this.#base = { rcv: this.rcv, nxt: this.nxt, una: this.una, edge: this.edge };
    this.#replies = [];
    return this.#base;
  }

  /** The lines since the last call. */
  take(): string[] {
    const lines = this.#replies;
    this.#replies = [];
    return lines;
  }

  until(holds: () => boolean, what: string): Promise<void> {
    const stand = (): string => `(port ${this.port}: ${this.#replies.join('; ') || 'nothing'})`;
    return until(holds, what, PATIENCE_MS, 1).catch((error: Error) => {
      throw new Error(`${error.message} ${stand()}`, { cause: error });
    });
  }

  #note(d: Decoded): void {
    const isSyn = (d.flags & SYN) !== 0;
    const hasAck = (d.flags & ACK) !== 0;
    const isReset = (d.flags & RST) !== 0;
    const options = readOptions(d.options);
    if (isSyn) {
      const isRepeated = this.opened && d.seq === this.#iss;
      if (isRepeated && !(this.#asked && hasAck)) return;
      this.#asked = false;
      this.reopened ||= this.opened && !isRepeated;
      this.opened = true;
      this.#to = d.src;
      this.#toPort = d.srcPort;
      this.#iss = d.seq;
      this.nxt = 1;
      this.#scale = Math.max(options.scale, 0);
    }
    if (options.tsVal >= 0) this.#tsRecent = options.tsVal;
    const seq = (d.seq - this.#iss) | 0;
    const last = seq + d.payload.length + ((d.flags & FIN) !== 0 ? 1 : 0);
    const ack = (d.ack - ISN) | 0;
    if (!isReset && !isSyn && last > seq) {
      if (last <= this.nxt) return;
      this.nxt = last;
      this.received += d.payload.toString('latin1');
    }
    this.#replies.push(this.#line(d, seq, ack, options));
    if (!isReset && hasAck) {
      if (ack >= this.rcv) {
        this.rcv = ack;
        this.windowShut = d.window === 0;
      }
      this.edge = Math.max(this.edge, ack + d.window * 2 ** (isSyn ? 0 : this.#scale));
      if (isSyn) this.edge = ack + d.window;
    }
    this.onReceived();
  }

  #line(d: Decoded, seq: number, ack: number, options: Options): string {
    let letters = '';
    for (const [letter, flag] of LETTERS) {
      if (flag !== PSH && (d.flags & flag) !== 0) letters += letter;
    }
    const isReset = (d.flags & RST) !== 0;
    const parts = [letters === 'A' ? '.' : letters];
    const length = d.payload.length > 0 ? `(${d.payload.length})` : '';
    // A reset that acknowledges has no number of its own (RFC 9293 §3.10.7.1).
    if (isReset && d.seq === 0) parts.push('0');
    else if ((d.flags & SYN) === 0) parts.push(offset('nxt', seq - this.#base.nxt) + length);
    if ((d.flags & ACK) !== 0) parts.push(`ack ${this.#ours(ack)}`);
    if (options.names.length > 0) parts.push(options.names.join(','));
    for (const [left, right] of options.sack) {
      parts.push(`sack ${this.#ours((left - ISN) | 0)}:${this.#ours((right - ISN) | 0)}`);
    }
    if (!isReset && d.window === 0) parts.push('win0');
    return parts.join(' ');
  }

  /** One of our own numbers. */
  #ours(n: number): string {
    const { rcv, edge } = this.#base;
    if (Math.abs(n - edge) < Math.min(NEAR, Math.abs(n - rcv))) return offset('edge', n - edge);
    return offset('rcv', n - rcv);
  }
}

function offset(name: string, n: number): string {
  return n === 0 ? name : `${name}${n < 0 ? '' : '+'}${n}`;
}

function readOptions(raw: Buffer): Options {
  const found: Options = { names: [], scale: -1, tsVal: -1, sack: [] };
  let at = 0;
  while (at < raw.length) {
    const kind = raw[at] as number;
    if (kind === 0) break;
    if (kind === 1) {
      at++;
      continue;
    }
    const length = raw[at + 1] as number;
    if (kind === 2) found.names.push('mss');
    else if (kind === 3) {
      found.names.push('ws');
      found.scale = raw[at + 2] as number;
    } else if (kind === 4) found.names.push('sackOK');
    else if (kind === 8) {
      found.names.push('ts');
      found.tsVal = raw.readUInt32BE(at + 2);
    } else if (kind === 5) {
      for (let i = at + 2; i < at + length; i += 8) {
        found.sack.push([raw.readUInt32BE(i), raw.readUInt32BE(i + 4)]);
      }
    } else found.names.push(`option ${kind}`);
    at += length;
  }
  found.names.sort();
  return found;
}
