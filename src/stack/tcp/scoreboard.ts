/**
 * What is in flight: every byte from SND.UNA to SND.NXT, with the time of its last transmission, and whether the peer
 * holds it (RFC 2018), it is taken for lost, or was sent again. RACK (RFC 8985 §6) reads losses from it.
 *
 *   | run | run | run | …      sorted, without gaps; run i ends where run i+1 begins, the last at `end`
 *
 * What one turn sends is one run, so a window takes few of them. SACK blocks cut runs at their edges; runs that the peer
 * holds are joined. The peer decides on the cuts, so their number is bounded (T-14): a block beyond it is ignored.
 * Blocks that make no sense are ignored as well. Arrays keep their storage: nothing is allocated per segment. Runs are
 * moved by the engine's memmove, the shorter side of them: an edge in the midst of 4,096 costs a microsecond.
 */
import { type Seq, seqDiff, seqLeq, seqLt } from './seq.ts';

/** Most runs: a turn's worth each, or pieces between SACK blocks. */
const MAX_RUNS = 4096;
/** Storage beyond this is let go when nothing is in flight. */
const KEPT_RUNS = 64;
/** Storage that the first run makes; it grows twofold. */
const FIRST_RUNS = 16;
/** What a connection that sends nothing has. */
const NO_WORDS = new Uint32Array(0);
const NO_TIMES = new Float64Array(0);
const NO_FLAGS = new Uint8Array(0);

const SACKED = 1;
const LOST = 2;
const RESENT = 4;

export class Scoreboard {
  /** Bytes held by the peer beyond the cumulative acknowledgment. */
  sacked = 0;
  /** Bytes taken for lost that were not sent again yet. */
  lost = 0;
  /** Bytes in flight that were sent more than once. */
  resent = 0;
  /** RACK.xmit_ts, RACK.end_seq and RACK.rtt: of what was sent last among all that has arrived. */
  rackSentAt: number = Number.NEGATIVE_INFINITY;
  rackEnd: Seq = 0;
  rackRttMs = 0;
  /** Least round trip seen, on our own clock; Infinity before the first. */
  minRttMs: number = Number.POSITIVE_INFINITY;
  /** Something sent once arrived after something sent later (RACK.reordering_seen). */
  reorderingSeen = false;
  #start: Uint32Array = NO_WORDS;
  #sentAt: Float64Array = NO_TIMES;
  #flags: Uint8Array = NO_FLAGS;
  #first = 0;
  /** One past the last run. */
  #last = 0;
  #end: Seq = 0;
  /** RACK.fack: one past the highest byte known to have arrived; only kept while something is SACKed. */
  #fack: Seq = 0;
  /** No lost byte lies below this, as long as some are lost: where to look for the first one. */
  #lostFrom: Seq = 0;
  // What `detectLost` found last holds until something arrives, or the time when the next run can be taken for lost.
  #judged = false;
  #judgedReorderMs = 0;
  #nextLossAt = 0;
  #allLostAt = 0;

  /** The peer has reported nothing beyond the cumulative acknowledgment. */
  get isEmpty(): boolean {
    return this.sacked === 0;
  }

  /** Runs kept, for tests of their bound. */
  get runs(): number {
    return this.#last - this.#first;
  }

  /** New bytes from SND.NXT (`from`) to `to` were sent. */
  sent(from: Seq, to: Seq, nowMs: number): void {
    const last = this.#last - 1;
    const joins =
      last >= this.#first &&
      ((this.#flags[last] === 0 && this.#sentAt[last] === nowMs) || this.runs >= MAX_RUNS - 2);
    if (!joins) this.#append(from, nowMs);
    else if (this.#flags[last] !== 0) this.#setRange(this.#start[last] as number, from, 0, nowMs);
    else this.#sentAt[last] = nowMs;
    this.#end = to;
  }

  /** Bytes in flight from `from` to `to` were sent again. */
  sentAgain(from: Seq, to: Seq, nowMs: number): void {
    this.#setRange(from, to, RESENT, nowMs);
  }

  /**
   * Enter a SACK block. Returns how many bytes were news; 0 for nonsense (outside una…nxt, empty) and duplicates.
   * `echoedMs` (when what the segment's timestamp echoes was sent; -1 = unknown) and the least round trip keep an
   * acknowledgment of the original from being taken for one of its repetition.
   */
  add(left: Seq, right: Seq, nowMs: number, echoedMs: number): number {
    const first = this.#first;
    if (first === this.#last) return 0;
    const una = this.#start[first] as number;
    if (!seqLt(left, right) || seqLt(left, una) || seqLt(this.#end, right)) return 0;
    let i = this.#find(left);
    if ((this.#flags[i] as number) & SACKED && seqLeq(right, this.#endOf(i))) return 0;
    if (this.runs > MAX_RUNS - 2) return 0;
    if (this.sacked === 0) this.#fack = una;
    this.#splitAt(right);
    i = this.#splitAt(left);
    let news = 0;
    let at = i;
    while (at < this.#last && seqLt(this.#start[at] as number, right)) {
      if (((this.#flags[at] as number) & SACKED) === 0) {
        news += seqDiff(this.#endOf(at), this.#start[at] as number);
        this.#arrived(at, this.#endOf(at), nowMs, echoedMs);
      }
      at++;
    }
    this.#setRange(left, right, SACKED, 0);
    if (seqLt(this.#fack, right)) this.#fack = right;
    return news;
  }

  /** Everything below `una` is acknowledged for good. */
  advance(una: Seq, nowMs: number, echoedMs: number): void {
    const track = this.sacked > 0 || this.resent > 0 || this.lost > 0;
    while (this.#first < this.#last) {
      const i = this.#first;
      const start = this.#start[i] as number;
      if (!seqLt(start, una)) break;
      const whole = seqLeq(this.#endOf(i), una);
      const end = whole ? this.#endOf(i) : una;
      const flags = this.#flags[i] as number;
      if (track) {
        if ((flags & SACKED) === 0) this.#arrived(i, end, nowMs, echoedMs);
      } else {
        // In order and sent once: the last of them is the newest.
        this.rackSentAt = this.#sentAt[i] as number;
        this.rackEnd = end;
        this.rackRttMs = nowMs - this.rackSentAt;
        if (this.rackRttMs < this.minRttMs) this.minRttMs = this.rackRttMs;
        this.#judged = false;
      }
      if (flags !== 0) this.#account(flags, -seqDiff(end, start));
      if (!whole) {
        this.#start[i] = una;
        break;
      }
      this.#first++;
    }
    if (this.#first === this.#last) this.clear();
  }

  /**
   * RFC 8985 §6.2 step 5: mark as lost what was sent `reorderMs` before something that has arrived. Returns how long to
   * wait until more of it can be taken for lost; 0 = there is nothing to wait for.
   */
  detectLost(nowMs: number, reorderMs: number): number {
    if (this.sacked === 0 && this.resent === 0) return 0;
    if (this.#judged && reorderMs === this.#judgedReorderMs && nowMs < this.#nextLossAt)
      return Math.max(0, this.#allLostAt - nowMs);
    const patience = this.rackRttMs + reorderMs;
    let least = Number.POSITIVE_INFINITY;
    let waitMs = 0;
    for (let i = this.#first; i < this.#last; i++) {
      const flags = this.#flags[i] as number;
      if ((flags & (SACKED | LOST)) !== 0) continue;
      const sentAt = this.#sentAt[i] as number;
      // In one instant the order is that of the bytes, and repetitions come last.
      const later =
        sentAt > this.rackSentAt ||
        (sentAt === this.rackSentAt && (flags !== 0 || seqLt(this.rackEnd, this.#endOf(i))));
      if (later) {
        // What was sent once was sent in order.
        if (flags === 0) break;
        continue;
      }
      const remaining = sentAt + patience - nowMs;
      if (remaining > 0) {
        waitMs = Math.max(waitMs, remaining);
        least = Math.min(least, remaining);
      } else {
        this.#lose(i);
      }
    }
    this.#judged = true;
    this.#judgedReorderMs = reorderMs;
    this.#nextLossAt = nowMs + least;
    this.#allLostAt = nowMs + waitMs;
    return waitMs;
  }

  /** The first `bytes` in flight are lost, as far as the peer does not hold them (RFC 6582: no SACK to know better). */
  loseFirst(bytes: number): void {
    if (this.#first === this.#last) return;
    const una = this.#start[this.#first] as number;
    const flight = seqDiff(this.#end, una);
    const to = (una + Math.min(bytes, flight)) >>> 0;
    this.#splitAt(to);
    for (let i = this.#first; i < this.#last && seqLt(this.#start[i] as number, to); i++) {
      if (((this.#flags[i] as number) & (SACKED | LOST)) === 0) this.#lose(i);
    }
  }

  /** Everything in flight is lost, and what the peer reported is forgotten (RFC 2018 §8: it may have dropped it). */
  loseAll(): void {
    if (this.#first === this.#last) return;
    this.#last = this.#first + 1;
    this.#flags[this.#first] = LOST;
    this.#sentAt[this.#first] = Number.NEGATIVE_INFINITY;
    this.#judged = false;
    this.#lostFrom = this.#start[this.#first] as number;
    this.sacked = 0;
    this.resent = 0;
    this.lost = seqDiff(this.#end, this.#start[this.#first] as number);
  }

  /** Nothing was lost after all: it is only late. */
  forgiveLost(nowMs: number): void {
    for (let i = this.#first; i < this.#last; i++) {
      if (((this.#flags[i] as number) & LOST) === 0) continue;
      this.#flags[i] = 0;
      if ((this.#sentAt[i] as number) === Number.NEGATIVE_INFINITY) this.#sentAt[i] = nowMs;
    }
    this.lost = 0;
    this.#judged = false;
  }

  /** Where the first lost byte is; only valid while there is one. */
  get firstLost(): Seq {
    return this.#start[this.#firstLostRun()] as number;
  }

  /** How many bytes are lost in one piece from `firstLost` on. */
  get firstLostLength(): number {
    let i = this.#firstLostRun();
    const from = this.#start[i] as number;
    while (i + 1 < this.#last && ((this.#flags[i + 1] as number) & LOST) !== 0) i++;
    return seqDiff(this.#endOf(i), from);
  }

  clear(): void {
    this.#judged = false;
    this.sacked = 0;
    this.lost = 0;
    this.resent = 0;
    this.#first = 0;
    this.#last = 0;
    if (this.#start.length > KEPT_RUNS) {
      this.#start = NO_WORDS;
      this.#sentAt = NO_TIMES;
      this.#flags = NO_FLAGS;
    }
  }

  #firstLostRun(): number {
    const first = this.#start[this.#first] as number;
    let i = seqLt(first, this.#lostFrom) ? this.#find(this.#lostFrom) : this.#first;
    while (((this.#flags[i] as number) & LOST) === 0) i++;
    this.#lostFrom = this.#start[i] as number;
    return i;
  }

  /** Run `i`, up to `end`, has arrived: RACK.update and the detection of reordering (RFC 8985 §6.2 steps 2 and 3). */
  #arrived(i: number, end: Seq, nowMs: number, echoedMs: number): void {
    const sentAt = this.#sentAt[i] as number;
    if (((this.#flags[i] as number) & RESENT) !== 0) {
      if (nowMs - sentAt < this.minRttMs || (echoedMs >= 0 && echoedMs < Math.floor(sentAt))) return;
    } else if (this.sacked > 0 && seqLt(end, this.#fack)) {
      this.reorderingSeen = true;
    }
    if (sentAt > this.rackSentAt || (sentAt === this.rackSentAt && seqLt(this.rackEnd, end))) {
      this.rackSentAt = sentAt;
      this.rackEnd = end;
      this.rackRttMs = nowMs - sentAt;
      if (this.rackRttMs < this.minRttMs) this.minRttMs = this.rackRttMs;
      this.#judged = false;
    }
  }

  #lose(i: number): void {
    const start = this.#start[i] as number;
    if (this.lost === 0 || seqLt(start, this.#lostFrom)) this.#lostFrom = start;
    const length = seqDiff(this.#endOf(i), start);
    this.#account(this.#flags[i] as number, -length);
    this.#flags[i] = LOST;
    this.lost += length;
  }

  #endOf(i: number): Seq {
    return i + 1 < this.#last ? (this.#start[i + 1] as number) : this.#end;
  }

  #account(flags: number, bytes: number): void {
    if ((flags & SACKED) !== 0) this.sacked += bytes;
    if ((flags & LOST) !== 0) this.lost += bytes;
    if ((flags & RESENT) !== 0) this.resent += bytes;
  }

  /** The run that holds byte `seq`, which is in flight. */
  #find(seq: Seq): number {
    let low = this.#first;
    let high = this.#last - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (seqLeq(this.#start[middle] as number, seq)) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Make `seq` (in flight, or the end) the beginning of a run; which one. Other runs change their numbers. */
  #splitAt(seq: Seq): number {
    if (seq === this.#end) return this.#last;
    const i = this.#find(seq);
    if (this.#start[i] === seq) return i;
    if (this.#first > 0 && i - this.#first < this.#last - i) {
      this.#move(this.#first, i + 1, -1);
      this.#first--;
      this.#start[i] = seq;
      return i;
    }
    if (this.#last === this.#start.length) this.#grow();
    this.#move(i, this.#last, 1);
    this.#last++;
    this.#start[i + 1] = seq;
    return i + 1;
  }

  /** Give `from` … `to` one state, and join the run with neighbours in the same state. */
  #setRange(from: Seq, to: Seq, flags: number, sentAt: number): void {
    this.#splitAt(to);
    let i = this.#splitAt(from);
    let last = i;
    while (last < this.#last && seqLt(this.#start[last] as number, to)) {
      this.#account(this.#flags[last] as number, -seqDiff(this.#endOf(last), this.#start[last] as number));
      last++;
    }
    this.#account(flags, seqDiff(to, from));
    // Runs i … last-1 become one; then it takes in what is like it on either side.
    this.#flags[i] = flags;
    this.#sentAt[i] = sentAt;
    if (last < this.#last && this.#flags[last] === flags && this.#sentAt[last] === sentAt) last++;
    if (i > this.#first && this.#flags[i - 1] === flags && this.#sentAt[i - 1] === sentAt) i--;
    this.#remove(i + 1, last);
  }

  /** Take runs `from` … `to`-1 out, by moving the shorter side. */
  #remove(from: number, to: number): void {
    const gone = to - from;
    if (gone <= 0) return;
    if (from - this.#first < this.#last - to) {
      this.#move(this.#first, from, gone);
      this.#first += gone;
    } else {
      this.#move(to, this.#last, -gone);
      this.#last -= gone;
    }
  }

  /** Move runs `from` … `to`-1 by so many places. */
  #move(from: number, to: number, by: number): void {
    this.#start.copyWithin(from + by, from, to);
    this.#sentAt.copyWithin(from + by, from, to);
    this.#flags.copyWithin(from + by, from, to);
  }

  #grow(): void {
    const length = Math.max(FIRST_RUNS, 2 * this.#start.length);
    const start = new Uint32Array(length);
    const sentAt = new Float64Array(length);
    const flags = new Uint8Array(length);
    start.set(this.#start);
    sentAt.set(this.#sentAt);
    flags.set(this.#flags);
    this.#start = start;
    this.#sentAt = sentAt;
    this.#flags = flags;
  }

  #append(start: Seq, sentAt: number): void {
    if (this.#first > 32 && this.#first > this.runs) {
      const by = this.#first;
      this.#move(by, this.#last, -by);
      this.#first = 0;
      this.#last -= by;
    }
    if (this.#last === this.#start.length) this.#grow();
    this.#start[this.#last] = start;
    this.#sentAt[this.#last] = sentAt;
    this.#flags[this.#last] = 0;
    this.#last++;
  }
}
