/**
 * Our stack against a peer that shares no code with it, over a link that loses and delays. The peer has habits that no
 * stack of today has all at once; whatever they are, every byte has to get through, both ways, and in order.
 *
 * As receiver it keeps what comes ahead of a gap or throws it away, tells of it by SACK or not, forgets what it reported,
 * acknowledges each segment or every n-th, late, twice, a byte at a time; its window is small, shuts and opens.
 * As sender it cuts as it likes, each time anew, overlapping, in any order, and repeats itself.
 */
import { TcpState } from '../../src/stack/tcp/tcb.ts';
import { TCP_FIN } from '../../src/stack/wire/tcp.ts';
import { seededRng } from '../support/seeded-rng.ts';
import { hostIn, type Out, pattern, type TcpHost } from '../support/tcp-host.ts';

const LIMIT_MS = 1_500_000;
const MSS = 1000;

interface Habits {
  keepsAhead: boolean;
  sacks: boolean;
  reneges: number;
  ackEvery: number;
  ackTwice: number;
  ackBytewise: number;
  window: number;
  shuts: number;
  loss: number;
  delayMs: number;
  timestamps: boolean;
}

export class ScriptedPeer {
  readonly #rng;
  readonly #habits: Habits;
  readonly #host: TcpHost;
  readonly #out: string;
  readonly #in: string;
  /** Arrivals: at the peer (index into what the host sent) or at the host (an action). */
  readonly #events: { at: number; run: () => void }[] = [];
  readonly #held: boolean[] = [];
  #got = 0;
  #finHeard = 0;
  #unacked = 0;
  #told = 0;
  #shutUntil = 0;
  #seenSent = 0;
  #sendAt = 0;
  #start: number;

  constructor(seed: number) {
    this.#rng = seededRng(seed ^ 0x3c6ef372);
    const pick = <T>(...values: T[]): T => values[this.#rng.u32() % values.length] as T;
    this.#habits = {
      keepsAhead: pick(true, true, false),
      sacks: pick(true, false),
      reneges: pick(0, 0, 0.02),
      ackEvery: pick(1, 2, 4),
      ackTwice: pick(0, 0.1),
      ackBytewise: pick(0, 0.02),
      window: pick(1500, 4000, 20_000),
      shuts: pick(0, 0, 0.05),
      loss: pick(0, 0.02, 0.1),
      delayMs: pick(0, 1, 30),
      timestamps: pick(true, false),
    };
    const { sacks, keepsAhead, window, timestamps } = this.#habits;
    this.#host = hostIn(TcpState.Established, {
      congestion: pick('none', 'newReno', 'cubic'),
      mss: MSS,
      sack: sacks && keepsAhead,
      timestamps,
      windowScale: 0,
      window,
      receiveLimit: pick(3000, 20_000),
    });
    this.#out = pattern(pick(1, 5000, 30_000));
    this.#in = pattern(pick(1, 5000, 20_000));
    this.#start = this.#host.now;
    this.#sendAt = this.#start;
  }

  /** @throws an Error that says what is missing or wrong */
  run(): void {
    const host = this.#host;
    host.write(this.#out.length);
    host.close();
    this.#collect();
    while (!this.#done) {
      this.#events.sort((a, b) => a.at - b.at);
      const event = this.#events[0]?.at ?? Number.POSITIVE_INFINITY;
      const next = Math.min(event, host.connection.nextTimeout, this.#sendAt);
      if (next - this.#start > LIMIT_MS) this.#fail('not finished in time');
      if (next > host.now) host.advance(next - host.now);
      while ((this.#events[0]?.at ?? Number.POSITIVE_INFINITY) <= host.now) this.#events.shift()?.run();
      if (this.#sendAt <= host.now) this.#speak();
      host.read(Number.MAX_SAFE_INTEGER);
      this.#collect();
      if (host.state === TcpState.Closed && !this.#done) this.#fail('closed');
    }
  }

  get #done(): boolean {
    return this.#got === this.#out.length && this.#host.received.length === this.#in.length;
  }

  #chance(p: number): boolean {
    return this.#rng.u32() < p * 2 ** 32;
  }

  #below(n: number): number {
    return n <= 0 ? 0 : this.#rng.u32() % n;
  }

  /** What the host has sent since goes to the peer, or is lost. */
  #collect(): void {
    const { sent } = this.#host;
    for (; this.#seenSent < sent.length; this.#seenSent++) {
      const segment = sent[this.#seenSent] as Out;
      if (segment.line.startsWith('R')) this.#fail('reset');
      const isFin = (segment.header.flags & TCP_FIN) !== 0;
      if ((segment.length === 0 && !isFin) || this.#chance(this.#habits.loss)) continue;
      this.#later(() => this.#hear(segment));
    }
  }

  #later(run: () => void): void {
    this.#events.push({ at: this.#host.now + this.#habits.delayMs, run });
  }

  #hear(segment: Out): void {
    const { keepsAhead, reneges, ackEvery, ackTwice } = this.#habits;
    const from = ((segment.header.seq - this.#host.iss) | 0) - 1;
    const open = this.#told + this.#window();
    for (let i = 0; i < segment.length; i++) {
      const at = from + i;
      if (segment.text[i] !== this.#out[at]) this.#fail(`byte ${at} is wrong`);
      if (at < open + 1 && (keepsAhead || at <= this.#got)) {
        this.#held[at] = true;
        if (at === this.#got) this.#got++;
      }
    }
    while (this.#held[this.#got] === true) this.#got++;
    const isFin = (segment.header.flags & TCP_FIN) !== 0;
    if (isFin && this.#got === this.#out.length) this.#finHeard = 1;
    const ahead = from > this.#got;
    if (this.#chance(reneges)) this.#held.length = this.#got;
    if (this.#chance(this.#habits.shuts)) this.#shutUntil = this.#host.now + this.#below(2000);
    this.#unacked++;
    if (!ahead && this.#unacked < ackEvery) {
      // Late, but no later than anybody may be (RFC 9293 §3.8.6.3).
      this.#events.push({ at: this.#host.now + 200, run: () => this.#unacked > 0 && this.#acknowledge() });
      return;
    }
    this.#acknowledge();
    if (this.#chance(ackTwice)) this.#acknowledge();
  }

  #window(): number {
    return this.#host.now < this.#shutUntil ? 0 : this.#habits.window;
  }

  #acknowledge(): void {
    this.#unacked = 0;
    if (this.#chance(this.#habits.ackBytewise)) {
      for (let n = Math.max(this.#told, this.#got - 20); n < this.#got; n++) this.#say('A', 0, '', n);
    }
    this.#say('A', 0, '', this.#got);
    const reopens = this.#shutUntil;
    if (reopens > this.#host.now) {
      this.#events.push({ at: reopens, run: () => this.#say('A', 0, '', this.#got) });
    }
  }

  /** A segment to the host; what it says is as of now, and arrives later or never. */
  #say(flags: string, seq: number, data: string, ack: number): void {
    this.#told = Math.max(this.#told, ack);
    if (this.#chance(this.#habits.loss)) return;
    const window = this.#window();
    const sack: [number, number][] = [];
    if (this.#habits.sacks && this.#habits.keepsAhead && this.#host.tcb.sackOk) {
      for (let i = ack; i < this.#held.length && sack.length < 3; i++) {
        if (this.#held[i] !== true || i === ack) continue;
        let end = i;
        while (this.#held[end] === true) end++;
        sack.push([1 + i, 1 + end]);
        i = end;
      }
    }
    const sent = this.#host.now - this.#start;
    const position = data === '' ? Math.min(this.#sentTo, this.#in.length) : seq;
    this.#later(() => {
      this.#host.segment({
        flags,
        seq: 1 + position,
        ack: 1 + ack + (ack === this.#out.length ? this.#finHeard : 0),
        window,
        data,
        ...(sack.length > 0 ? { sack } : {}),
        ...(this.#habits.timestamps ? { tsVal: sent } : {}),
      });
    });
  }

  /** One past the highest byte the peer has sent. */
  #sentTo = 0;

  /** Send something of what the host does not have yet, cut anew, perhaps with what it has. */
  #speak(): void {
    const c = this.#host.tcb;
    const acked = ((c.rcv.lastAckSent - this.#host.irs) | 0) - 1;
    const edge = Math.min(this.#in.length, ((c.rcv.adv - this.#host.irs) | 0) - 1);
    if (acked >= this.#in.length) {
      this.#sendAt = Number.POSITIVE_INFINITY;
      return;
    }
    const pieces = 1 + this.#below(4);
    for (let i = 0; i < pieces; i++) {
      const from = Math.max(
        0,
        i === 0 ? acked - this.#below(50) : acked - 50 + this.#below(edge - acked + 50),
      );
      const to = Math.min(edge, from + 1 + this.#below(MSS));
      if (to <= from) continue;
      this.#sentTo = Math.max(this.#sentTo, to);
      this.#say('PA', from, this.#in.slice(from, to), this.#got);
    }
    this.#sendAt = this.#host.now + 1 + this.#below(40);
  }

  #fail(why: string): never {
    const c = this.#host.tcb;
    throw new Error(
      `${why} after ${Math.round(this.#host.now - this.#start)} ms: peer has ${this.#got} of ${this.#out.length}, ` +
        `host has ${this.#host.received.length} of ${this.#in.length}, flight ${c.snd.flight}, window ${c.snd.wnd}; ` +
        JSON.stringify(this.#habits),
    );
  }
}
