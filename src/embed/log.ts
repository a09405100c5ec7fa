/** Where an embedder's log records go. A sink that throws costs its own record. */
import { closeSync, writeSync } from 'node:fs';
import type { LogLevel as AnyLevel, Log, LogFields } from '../control/log.ts';
import { unblocked } from '../control/unblocked.ts';
import type { LogLevel, LogOptions, LogRecord } from './types.ts';

/** Bytes of a line with its end: one write(2) to a pipe is all of it or nothing (pipe(7), PIPE_BUF). */
const LINE_MAX = 4096;
/** Of a message that would not fit, in UTF-16 units of which each may take six bytes. */
const TEXT_MAX = 600;

const order: readonly AnyLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];

export class EmbedLog implements Log {
  readonly #least: number;
  readonly #sink: (record: LogRecord) => void;
  readonly #lines: LogLines | null;
  /** Told of every record, whatever the sink's level. */
  readonly #heard: (record: LogRecord) => void;

  constructor(options: LogOptions | undefined, heard: (record: LogRecord) => void) {
    this.#heard = heard;
    this.#least = order.indexOf(options?.level ?? 'info');
    const sink = options?.sink ?? (() => undefined);
    this.#lines = typeof sink === 'function' ? null : new LogLines(sink.fd);
    this.#sink = typeof sink === 'function' ? sink : (record) => this.#lines?.write(record);
  }

  enabled(level: AnyLevel): boolean {
    return order.indexOf(level) >= this.#least;
  }

  log(level: AnyLevel, message: string, fields: LogFields = {}): void {
    const record: LogRecord = { time: Date.now(), level: named(level), message, fields };
    this.#heard(record);
    if (!this.enabled(level)) return;
    try {
      this.#sink(record);
    } catch {
      // The embedder's own affair.
    }
  }

  close(): void {
    this.#lines?.close();
  }
}

function named(level: AnyLevel): LogLevel {
  return level === 'trace' ? 'debug' : level;
}

/** Records as lines on a descriptor. What it does not take at once is lost, and the next line says how much that was. */
class LogLines {
  readonly #given: number;
  readonly #fd: number;
  #lost = 0;
  #isOver = false;

  constructor(fd: number) {
    this.#given = fd;
    this.#fd = unblocked(fd);
  }

  write(record: LogRecord): void {
    if (this.#isOver) return;
    const line = logLine(record, this.#lost);
    try {
      const written = writeSync(this.#fd, line);
      this.#lost = written === line.length ? 0 : this.#lost + 1;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') this.#lost++;
      else this.close();
    }
  }

  close(): void {
    if (!this.#isOver && this.#fd !== this.#given) closeSync(this.#fd);
    this.#isOver = true;
  }
}

/** A line of at most `LINE_MAX` bytes, with its end. */
export function logLine({ time, level, message, fields }: LogRecord, dropped: number): Buffer {
  const front = dropped > 0 ? { dropped } : {};
  const whole = Buffer.from(`${JSON.stringify({ ...front, time, level, message, fields })}\n`);
  if (whole.length <= LINE_MAX) return whole;
  const short = message.length > TEXT_MAX ? `${message.slice(0, TEXT_MAX)}…` : message;
  return Buffer.from(`${JSON.stringify({ ...front, time, level, message: short, fields: {} })}\n`);
}
