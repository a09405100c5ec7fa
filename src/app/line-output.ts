/**
 * Lines for a descriptor, standard output for one, without ever waiting for their reader.
 *
 * A guest opens as many flows as it likes and each is a line or two, while whoever reads them may be slow or stuck. Waiting
 * in write(2) would keep us from hearing signals; keeping everything would let the guest fill our memory. So what the
 * reader does not take at once is kept up to a bound, and beyond that lines are lost, whole and from the end.
 *
 * At the end of the process a reader that is only slow gets a moment more.
 */
import { writeSync } from 'node:fs';
import { unblocked } from '../control/unblocked.ts';

/** Bytes kept for a reader that is slow. */
const BACKLOG_MAX = 4 * 1024 * 1024;
const RETRY_MS = 20;
/** What a slow reader gets when we end. */
const FINISH_MS = 200;
const FINISH_POLL_MS = 2;

export class LineOutput {
  readonly #fd: number;
  readonly #backlogMax: number;
  readonly #taken: () => void;
  /** What the reader has not taken yet, and where in the first of it we are. */
  #backlog: Buffer[] = [];
  #backlogBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #broken = false;

  /** `taken` is called when the reader has taken all that had to wait for it. */
  constructor(fd = 1, backlogMax: number = BACKLOG_MAX, taken: () => void = () => undefined) {
    this.#fd = unblocked(fd);
    this.#backlogMax = backlogMax;
    this.#taken = taken;
    process.on('exit', () => this.#finish());
  }

  /** Bytes that the reader has not taken. */
  get waiting(): number {
    return this.#backlogBytes;
  }

  /** False: it is lost. */
  line(text: string): boolean {
    return this.text(`${text}\n`);
  }

  /** One line or several, with their ends. False: all of it is lost. */
  text(text: string): boolean {
    if (this.#broken || text === '') return !this.#broken;
    const bytes = Buffer.from(text);
    if (this.#backlogBytes + bytes.length > this.#backlogMax) return false;
    this.#backlog.push(bytes);
    this.#backlogBytes += bytes.length;
    if (this.#timer === undefined) this.#drain();
    return true;
  }

  #drain(): void {
    while (this.#backlog.length > 0) {
      const first = this.#backlog[0] as Buffer;
      let written: number;
      try {
        written = writeSync(this.#fd, first);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') {
          this.#timer ??= setInterval(() => this.#drain(), RETRY_MS).unref();
        } else this.#giveUp();
        return;
      }
      this.#backlogBytes -= written;
      if (written === first.length) this.#backlog.shift();
      else this.#backlog[0] = first.subarray(written);
    }
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#taken();
  }

  #finish(): void {
    const pause = new Int32Array(new SharedArrayBuffer(4));
    const deadline = performance.now() + FINISH_MS;
    this.#drain();
    while (this.#backlog.length > 0 && performance.now() < deadline) {
      Atomics.wait(pause, 0, 0, FINISH_POLL_MS);
      this.#drain();
    }
  }

  /** Nobody reads any more. */
  #giveUp(): void {
    this.#broken = true;
    this.#backlog = [];
    this.#backlogBytes = 0;
    clearInterval(this.#timer);
  }
}
