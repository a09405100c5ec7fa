/**
 * One direction of a spliced connection: what one socket has to give goes to the other, as fast as that takes it.
 *
 * Little is read and written, which takes no more calls than splice(2) and nothing that has to be kept: an idle connection has
 * no buffer at all. As soon as a read fills what there is room for, the bytes go by way of a pipe and are not copied. What the
 * other side does not take waits in the pipe, and nothing more is read meanwhile: the pipe is the bound.
 */
import { EAGAIN, EINTR, ENOBUFS, EPIPE } from '../../sys/errno.ts';
import { write } from '../../sys/io.ts';
import { recv, send } from '../../sys/socket.ts';
import { splice } from '../../sys/splice.ts';
import type { FlowContext } from '../flow/context.ts';
import { PIPE_BYTES, type Pipe, type Pipes } from './pipes.ts';
import type { StreamEnd } from './stream-end.ts';

/** What passes through memory at a time. */
const COPY_BYTES = 65536;
/** Less than that at a time, so many times in a row, is as well copied. */
const SMALL_BYTES = 16384;
const SMALL_MOVES = 16;
/** Calls in one turn. */
const MOVES_PER_TURN = 32;

/** There is more to do in another turn; nothing before there are events. */
export const PUMP_MORE = 1;
export const PUMP_WAITS = 0;

export class Pump {
  readonly from: StreamEnd;
  readonly to: StreamEnd;
  /** Bytes that were passed on. */
  bytes = 0;
  /** The end of file was passed on, after all that came before it. */
  isDone = false;
  /** Whose fault it was that `move` failed. */
  failed: StreamEnd;
  readonly #context: FlowContext;
  readonly #pipes: Pipes;
  #pipe: Pipe | null = null;
  /** Bytes in it. */
  #piped = 0;
  #isBulk = false;
  #smallMoves = 0;

  constructor(context: FlowContext, pipes: Pipes, from: StreamEnd, to: StreamEnd) {
    this.#context = context;
    this.#pipes = pipes;
    this.from = from;
    this.to = to;
    this.failed = from;
  }

  /** `PUMP_MORE`, `PUMP_WAITS`, or `-errno` of the end that has `failed`. */
  move(): number {
    for (let moves = 0; moves < MOVES_PER_TURN; moves++) {
      if (this.isDone) return PUMP_WAITS;
      if (this.#piped > 0) {
        if (!this.to.writable) return PUMP_WAITS;
        const n = this.#empty();
        if (n < 0) return n;
        continue;
      }
      if (this.from.eof) {
        this.to.endWriting();
        this.isDone = true;
        this.close();
        return PUMP_WAITS;
      }
      if (!this.from.readable || !this.to.writable) return PUMP_WAITS;
      const n = this.#isBulk ? this.#fill() : this.#copy();
      if (n < 0) return n;
    }
    return PUMP_MORE;
  }

  /** Whatever is in the pipe is lost. */
  close(): void {
    if (this.#pipe !== null) this.#pipes.giveBack(this.#pipe, this.#piped === 0);
    this.#pipe = null;
    this.#piped = 0;
  }

  #fail(end: StreamEnd, error: number): number {
    this.failed = end;
    return error;
  }

  /** What a call that read has said: how many bytes there are, or `-errno`. */
  #wasRead(n: number): number {
    const { from } = this;
    if (n > 0) return n;
    if (n === 0) from.eof = true;
    else if (n === -EAGAIN) from.readable = false;
    else if (n !== -EINTR) return this.#fail(from, n);
    return 0;
  }

  #copy(): number {
    const { from, to } = this;
    const { memory, scratch } = this.#context;
    const at = scratch.payloads;
    const n = this.#wasRead(recv(memory, from.fd, at, COPY_BYTES));
    if (n <= 0) return n;
    if (n < COPY_BYTES) {
      if (!from.hungUp) from.readable = false;
    } else this.#begin();
    to.beforeWrite();
    let sent: number;
    do sent = send(memory, to.fd, at, n);
    while (sent === -EINTR);
    if (sent === -EAGAIN) sent = 0;
    if (sent < 0) return this.#fail(to, sent);
    this.bytes += sent;
    if (sent === n) return 0;
    to.writable = false;
    this.#pipe ??= this.#pipes.take();
    const left = n - sent;
    if (this.#pipe === null || write(memory, this.#pipe.writing, at + sent, left) !== left)
      return this.#fail(to, -ENOBUFS);
    this.#piped = left;
    return 0;
  }

  /** From now on by way of a pipe, if there is one to be had. */
  #begin(): void {
    this.#pipe ??= this.#pipes.take();
    this.#isBulk = this.#pipe !== null;
    this.#smallMoves = 0;
  }

  #fill(): number {
    const pipe = this.#pipe as Pipe;
    const n = this.#wasRead(splice(this.from.fd, pipe.writing, PIPE_BYTES));
    if (n <= 0) return n;
    this.#piped = n;
    if (n >= SMALL_BYTES) this.#smallMoves = 0;
    else if (++this.#smallMoves >= SMALL_MOVES) this.#isBulk = false;
    return 0;
  }

  #empty(): number {
    const { to } = this;
    const pipe = this.#pipe as Pipe;
    to.beforeWrite();
    const n = splice(pipe.reading, to.fd, this.#piped);
    if (n > 0) {
      this.#piped -= n;
      this.bytes += n;
      if (this.#piped === 0 && !this.#isBulk) this.close();
      return 0;
    }
    if (n === -EINTR) return 0;
    if (n !== -EAGAIN) return this.#fail(to, n === 0 ? -EPIPE : n);
    to.writable = false;
    return 0;
  }
}
