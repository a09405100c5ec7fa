/**
 * The longest turn of the data plane. While a turn lasts no other packet moves, so this is what the packet in the worst
 * place waited; a hostile guest must not be able to make it long (G-7).
 *
 * Two figures. The wall time says what was waited, for a CPU too when others had it; the CPU time says what the turn itself
 * took, whatever else the machine does. The first costs nothing: the loop reads that clock anyway. The CPU clock is a
 * system call; it is read at the beginning of a turn when the turns since the last reading took MARK_MS together, and at the
 * end of one that may have been the longest. What lies between is the turn and at most MARK_MS of turns before it: a bound
 * from above. A thread that waits uses no CPU, so how long ago the last reading was does not matter.
 *
 * Both are of the last one to two minutes. Reading changes nothing, so that several readers see the same.
 */

const WINDOW_MS = 60_000;
const MARK_MS = 5;

// Places in one array of numbers: fields of a class would be allocated anew with each fraction that they get.
const START = 0;
/** Wall time of the turns since the CPU clock was read. */
const BUSY = 1;
const CPU_AT_MARK = 2;
const WINDOW_START = 3;
const WALL = 4;
const WALL_BEFORE = 5;
const CPU = 6;
const CPU_BEFORE = 7;
const PLACES = 8;

export class TurnMeter {
  readonly #ms = new Float64Array(PLACES);
  readonly #cpuMs: () => number;

  /** `cpuMs` reads the thread's CPU clock, in milliseconds. */
  constructor(nowMs: number, cpuMs: () => number) {
    this.#cpuMs = cpuMs;
    this.forget(nowMs);
  }

  /** A turn begins: events have been fetched. */
  begin(nowMs: number): void {
    const ms = this.#ms;
    ms[START] = nowMs;
    if ((ms[BUSY] as number) >= MARK_MS) this.#mark();
    const age = nowMs - (ms[WINDOW_START] as number);
    if (age < WINDOW_MS) return;
    ms[WALL_BEFORE] = age < 2 * WINDOW_MS ? (ms[WALL] as number) : 0;
    ms[CPU_BEFORE] = age < 2 * WINDOW_MS ? (ms[CPU] as number) : 0;
    ms[WALL] = 0;
    ms[CPU] = 0;
    ms[WINDOW_START] = nowMs - (age % WINDOW_MS);
  }

  /** Everything of the turn is done. */
  end(nowMs: number): void {
    const ms = this.#ms;
    const wall = nowMs - (ms[START] as number);
    ms[BUSY] = (ms[BUSY] as number) + wall;
    if (wall > (ms[WALL] as number)) ms[WALL] = wall;
    // No turn takes more of a CPU than of time.
    if (wall <= (ms[CPU] as number)) return;
    const used = this.#cpuMs() - (ms[CPU_AT_MARK] as number);
    ms[CPU] = Math.max(ms[CPU] as number, Math.min(used, wall));
  }

  /** What was before does not count: starting is not serving. */
  forget(nowMs: number): void {
    this.#ms.fill(0);
    this.#ms[START] = nowMs;
    this.#ms[WINDOW_START] = nowMs;
    this.#mark();
  }

  get longestMs(): number {
    return Math.max(this.#ms[WALL] as number, this.#ms[WALL_BEFORE] as number);
  }

  get longestCpuMs(): number {
    return Math.max(this.#ms[CPU] as number, this.#ms[CPU_BEFORE] as number);
  }

  #mark(): void {
    this.#ms[BUSY] = 0;
    this.#ms[CPU_AT_MARK] = this.#cpuMs();
  }
}
