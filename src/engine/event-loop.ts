/**
 * The data plane's loop: descriptors (epoll), turns and their shares, the clock; deadlines are in timer-heap.ts. One
 * thread that blocks in epoll_wait(2); no promise, stream or event emitter.
 */
import type { Clock, IoHandler, Poller } from '../loop.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { readThreadCpuTime, TIMESPEC_SIZE } from '../sys/clock.ts';
import { Epoll } from '../sys/epoll.ts';
import { EINTR } from '../sys/errno.ts';
import { close } from '../sys/io.ts';
import type { Memory } from '../sys/memory.ts';
import { TimerHeap } from '../timer-heap.ts';
import { FairTurns, GuestShare, type SharedLoop } from './fair-turns.ts';
import { TurnMeter } from './turn-meter.ts';

const MAX_EVENTS = 256;
/** To look through them costs less than a system call. */
const FEW_EVENTS = 32;
/** epoll_wait takes an int of milliseconds; longer waits are simply made again. */
const MAX_WAIT_MS = 60_000;

/**
 * Host bytes that flows move towards guests in one turn, all together: a quarter of a millisecond's worth. What the guest sends
 * meanwhile, a ping say, waits no longer than that, however many flows there are.
 */
const TURN_BYTES = 256 * 1024;

/**
 * What flows send to guests in one turn, all together, each frame counted as some bytes more (forward/tcp/flow.ts). Far more than
 * is read from hosts: only lost or newly opened windows come to it, of which a guest can have many at once.
 */
const TURN_SEND_BYTES = 2 * 1024 * 1024;

/**
 * Turns in a row of which one flow may have all: a millisecond's worth. What it moves is still in the caches, here and
 * at its reader; flows that take turns at every turn cost a fifth more.
 */
const TURNS_IN_A_ROW = 4;

/** So long guests are taken to compete after they did. */
const COMPETITION_MS = 10;
/** Frames from a device in one go. */
const TURN_FRAMES = 64;

export class EventLoop implements Poller, SharedLoop {
  readonly clock: Clock;
  readonly timers: TimerHeap = new TimerHeap();
  readonly meter: TurnMeter;
  readonly #epoll: Epoll;
  /** This turn's events. */
  #count = 0;
  #handlers: (IoHandler | null)[] = [];
  #generations: number[] = [];
  #free: number[] = [];
  #fds: number[] = [];
  /** By token: this one's events are handled before all others (devices). */
  #first: boolean[] = [];
  /** By token: whose it is, and what events wait until that guest runs. */
  #shares: (GuestShare | null)[] = [];
  #pending: number[] = [];
  /** Guests have been seen to compete, until then. */
  #contendedUntil = Number.NEGATIVE_INFINITY;
  #isContended = false;
  /** How many guests there are. */
  #guests = 0;
  /** The guest that had the last event. */
  #lastShare: GuestShare | null = null;
  readonly #fair: FairTurns;
  // Handlers that asked for another turn: this turn's and the next one's. Counts instead of lengths, because an array
  // that is emptied gives its storage back and has to get it again.
  #ready: (IoHandler | null)[] = [];
  #readyCount = 0;
  #running: (IoHandler | null)[] = [];
  /** Of the handlers that asked, how many had done so when the turn's shares were used up; -1 = they were not. */
  #served = -1;
  /** Who used them up, and how many turns in a row it did. */
  #greedy: IoHandler | null = null;
  #greedyTurns = 0;
  readonly #onError: (error: unknown) => void;
  readonly #now: () => number;

  /**
   * `onError` is told of every exception a handler lets out: it costs that handler's turn, not the loop (N-01). `now` is
   * monotonic, in milliseconds.
   */
  constructor(
    memory: Memory,
    slab: Slab,
    onError: (error: unknown) => void,
    now: () => number = () => performance.now(),
  ) {
    this.#now = now;
    this.clock = {
      nowMs: Math.floor(now()),
      turn: 0,
      bytesLeft: TURN_BYTES,
      sendLeft: TURN_SEND_BYTES,
      batchFrames: TURN_FRAMES,
    };
    this.#fair = new FairTurns(this.clock, now);
    this.#epoll = new Epoll(memory.structures, MAX_EVENTS);
    this.#onError = onError;
    const timespec = slab.region(TIMESPEC_SIZE);
    this.meter = new TurnMeter(now(), () => {
      readThreadCpuTime(memory, timespec);
      const seconds = slab.view.getUint32(timespec, true);
      return seconds * 1e3 + slab.view.getUint32(timespec + 8, true) / 1e6;
    });
  }

  add(
    fd: number,
    events: number,
    handler: IoHandler,
    first = false,
    share: GuestShare | null = null,
  ): number {
    const token = this.#free.pop() ?? this.#handlers.length;
    const generation = ((this.#generations[token] ?? 0) + 1) >>> 0;
    const result = this.#epoll.add(fd, events, token, generation);
    if (result < 0) {
      this.#free.push(token);
      this.#handlers[token] = null;
      this.#generations[token] ??= 0;
      return result;
    }
    this.#handlers[token] = handler;
    this.#generations[token] = generation;
    this.#fds[token] = fd;
    this.#first[token] = first;
    this.#shares[token] = share;
    this.#pending[token] = 0;
    return token;
  }

  modify(token: number, events: number): number {
    return this.#epoll.modify(this.#fds[token] as number, events, token, this.#generations[token] as number);
  }

  remove(token: number): void {
    this.#epoll.remove(this.#fds[token] as number);
    this.forget(token);
  }

  forget(token: number): void {
    this.#handlers[token] = null;
    this.#pending[token] = 0;
    this.#free.push(token);
  }

  deliver(token: number): void {
    const events = this.#pending[token] as number;
    this.#pending[token] = 0;
    const handler = this.#handlers[token] as IoHandler | null;
    if (events !== 0 && handler !== null) this.call(handler, events);
  }

  /** For a guest of this weight, until `leave`. */
  share(weight: () => number): GuestShare {
    this.#guests++;
    return new GuestShare(this, weight);
  }

  leave(): void {
    this.#guests--;
  }

  readyFor(share: GuestShare, handler: IoHandler): void {
    share.seenMs = this.clock.nowMs;
    if (!this.#isContended) this.ready(handler);
    else if (!handler.waiting) {
      handler.waiting = true;
      share.push(handler, -1);
      this.#fair.list(share);
    }
  }

  ready(handler: IoHandler): void {
    if (handler.waiting) return;
    handler.waiting = true;
    this.#ready[this.#readyCount++] = handler;
  }

  /** Whether this turn's events include one for `token`; also true when that is not worth looking for, or not known. */
  mayConcern(token: number): boolean {
    const count = this.#count;
    if (token < 0 || count < 0 || count > FEW_EVENTS) return true;
    for (let i = 0; i < count; i++) if (this.#epoll.tokenAt(i) === token) return true;
    return false;
  }

  /** No turn may follow. */
  close(): void {
    close(this.#epoll.fd);
  }

  readClock(): void {
    this.#setClock(this.#now());
  }

  /**
   * One turn: wait (at most until the next deadline); then devices, work left over from the last turn, everybody else's
   * events, and deadlines. Returns how many events and leftovers there were.
   *
   * Flows share a turn's bytes. Where those of the last turn did not suffice, the one that had them goes on for a while,
   * and then those that were cut short come first: before those that had their share, and for host bytes also before what
   * the guest's acknowledgments in this turn make room for.
   */
  turn(): number {
    const clock = this.clock;
    let timeout = 0;
    const mayWait = this.#readyCount === 0 && !this.#fair.hasWork;
    if (mayWait) {
      const before = this.#now();
      this.meter.end(before);
      // The clock has whole milliseconds: a deadline in between is due with the next one, and not to be polled for until then.
      const next = Math.ceil(this.timers.next) - before;
      timeout = next <= 0 ? 0 : Math.min(MAX_WAIT_MS, Math.ceil(next));
    }
    const count = this.#epoll.wait(timeout);
    if (count < 0 && count !== -EINTR) throw new Error(`epoll_wait failed: errno ${-count}`);
    this.#count = count;
    const now = this.#now();
    if (!mayWait) this.meter.end(now);
    this.meter.begin(now);
    this.#setClock(now);
    clock.turn++;
    if (this.#guests > 1 || this.#isContended) this.#lookForCompetition(count);
    const wasShort = clock.bytesLeft <= 0 && this.#readyCount > 0;
    const first = this.#firstServed();
    // While host bytes have to wait for those who wait already, nobody uses them up.
    this.#served = wasShort ? 0 : -1;
    // Handlers asked for in the last turn, before this turn's events may ask again.
    const running = this.#ready;
    const leftovers = this.#readyCount;
    this.#ready = this.#running;
    this.#readyCount = 0;
    this.#running = running;
    clock.bytesLeft = wasShort ? 0 : TURN_BYTES;
    clock.sendLeft = TURN_SEND_BYTES;
    clock.batchFrames = TURN_FRAMES;
    this.#dispatch(count, true);
    if (wasShort) {
      clock.bytesLeft = TURN_BYTES;
      this.#served = -1;
    }
    for (let i = 0; i < leftovers; i++) {
      const index = (first + i) % leftovers;
      const handler = running[index] as IoHandler;
      running[index] = null;
      handler.waiting = false;
      this.call(handler, 0);
    }
    this.#dispatch(count, false);
    const runs = this.#fair.hasWork ? this.#fair.run() : 0;
    this.timers.run(clock.nowMs, this.#onError);
    return Math.max(count, 0) + leftovers + runs;
  }

  /** Whole milliseconds: a number that V8 keeps in a register, where a fraction costs an allocation at every call. */
  #setClock(now: number): void {
    this.clock.nowMs = Math.floor(now);
  }

  /** Which of the handlers that wait has the first of the turn's shares. */
  #firstServed(): number {
    const served = this.#served;
    if (served > 0 && this.#ready[served - 1] === this.#greedy && this.#greedyTurns < TURNS_IN_A_ROW)
      return served - 1;
    return served < this.#readyCount ? Math.max(0, served) : 0;
  }

  #dispatch(count: number, first: boolean): void {
    for (let i = 0; i < count; i++) {
      const token = this.#epoll.tokenAt(i);
      if (this.#first[token] !== first) continue;
      const handler = this.#handlers[token] as IoHandler | null;
      if (handler === null || this.#generations[token] !== this.#epoll.generationAt(i)) continue;
      const share = this.#shares[token] as GuestShare | null;
      if (this.#isContended && share !== null) this.#keep(token, share, this.#epoll.eventsAt(i));
      else this.call(handler, this.#epoll.eventsAt(i));
    }
  }

  /** Until the guest's turn. */
  #keep(token: number, share: GuestShare, events: number): void {
    const pending = this.#pending[token] as number;
    this.#pending[token] = pending | events;
    if (pending === 0) share.push(null, token);
    this.#fair.list(share);
  }

  /** Whether two guests have had something to do within a while: then they take turns, otherwise all is done as it comes. */
  #lookForCompetition(count: number): void {
    const { nowMs } = this.clock;
    for (let i = 0; i < count; i++) {
      const share = this.#shares[this.#epoll.tokenAt(i)];
      if (share === null || share === undefined) continue;
      const last = this.#lastShare;
      if (share !== last) {
        if (last !== null && nowMs - last.seenMs <= COMPETITION_MS)
          this.#contendedUntil = nowMs + COMPETITION_MS;
        this.#lastShare = share;
      }
      share.seenMs = nowMs;
    }
    const wasContended = this.#isContended;
    this.#isContended = this.#contendedUntil >= nowMs;
    if (wasContended && !this.#isContended) this.#fair.drain();
  }

  call(handler: IoHandler, events: number): void {
    try {
      handler.onIo(events);
    } catch (error) {
      this.#onError(error);
    }
    const { bytesLeft, sendLeft } = this.clock;
    if (this.#served >= 0 || (bytesLeft > 0 && sendLeft > 0)) return;
    this.#served = this.#readyCount;
    this.#greedyTurns = handler === this.#greedy ? this.#greedyTurns + 1 : 1;
    this.#greedy = handler;
  }
}
