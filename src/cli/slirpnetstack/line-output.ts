/**
 * Standard output, one line at a time, without ever waiting for its reader.
 *
 * A guest opens as many flows as it likes and each is a line or two, while whoever reads them may be slow or stuck. Waiting
 * in write(2) would keep us from hearing signals; keeping everything would let the guest fill our memory. So what the
 * reader does not take at once is kept up to a bound, and beyond that lines are lost, whole and from the end.
 *
 * A pipe is opened anew through /proc, which gives a description of our own that can be non-blocking without being so for
 * others. A socket (what Node's child processes have) is left to the runtime, which makes it non-blocking. Everything else
 * (files, terminals, a pipe of another user's) is written as it is.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';

/** Bytes kept for a reader that is slow. */
const BACKLOG_MAX = 4 * 1024 * 1024;
const RETRY_MS = 20;

export class LineOutput {
  readonly #fd: number;
  readonly #socket: Socket | undefined;
  /** What the reader has not taken yet, and where in the first of it we are. */
  #backlog: Buffer[] = [];
  #backlogBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #broken = false;

  constructor(fd = 1) {
    this.#fd = reopen(fd);
    if (fstatSync(fd).isSocket()) {
      this.#socket = new Socket({ fd, readable: false, writable: true }).unref();
      this.#socket.on('error', () => this.#giveUp());
    }
    process.on('exit', () => this.#drain());
  }

  line(text: string): void {
    if (this.#broken) return;
    const bytes = Buffer.from(`${text}\n`);
    if (this.#socket !== undefined) {
      if (this.#socket.writableLength + bytes.length <= BACKLOG_MAX) this.#socket.write(bytes);
      return;
    }
    if (this.#backlogBytes + bytes.length > BACKLOG_MAX) return;
    this.#backlog.push(bytes);
    this.#backlogBytes += bytes.length;
    if (this.#timer === undefined) this.#drain();
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
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  /** Nobody reads any more. */
  #giveUp(): void {
    this.#broken = true;
    this.#backlog = [];
    this.#backlogBytes = 0;
    clearInterval(this.#timer);
  }
}

function reopen(fd: number): number {
  try {
    if (!fstatSync(fd).isFIFO()) return fd;
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    return fd;
  }
}
