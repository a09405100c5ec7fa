/**
 * The file of `--log-file`, of a bounded size: its first line says whose it is, and when it is full, the oldest lines after that
 * go. It is used by its descriptor alone, since there are no files in sight later.
 */
import { constants, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { errnoTextOf } from '../../control/errno-text.ts';
import { PastaError } from './values.ts';

/** What is cut away at a time, of the whole. */
const CUT_SHARE = 4;

export class LogFile {
  readonly #fd: number;
  readonly #size: number;
  readonly #header: string;
  #written: number;

  /** Throws `PastaError`. `header`: the first line, without its end. */
  constructor(path: string, size: number, header: string) {
    const { O_RDWR, O_CREAT, O_TRUNC } = constants;
    try {
      this.#fd = openSync(path, O_RDWR | O_CREAT | O_TRUNC, 0o600);
    } catch (error) {
      throw new PastaError(`Couldn't open log file ${path}: ${errnoTextOf(error)}`);
    }
    this.#size = size;
    this.#header = header;
    this.#written = 0;
    this.#put(`${header}\n`);
  }

  /** A line with its end. */
  write(line: string): void {
    const { length } = Buffer.from(line);
    if (this.#written + length > this.#size) this.#cut(length);
    this.#put(line);
  }

  #put(text: string): void {
    try {
      this.#written += writeSync(this.#fd, text, this.#written);
    } catch {
      // A full disk loses lines, and nothing else.
    }
  }

  /** Leaves room for a line. */
  #cut(room: number): void {
    const { size } = fstatSync(this.#fd);
    const text = Buffer.alloc(size);
    readSync(this.#fd, text, 0, size, 0);
    const header = `${this.#header} - log truncated at ${new Date().toISOString()}\n`;
    const kept = Math.min(this.#size - this.#size / CUT_SHARE, this.#size - room - header.length);
    const body = text.subarray(Math.max(text.indexOf('\n') + 1, size - Math.max(kept, 0)));
    // Lines are whole.
    const start = body.length < kept ? 0 : body.indexOf('\n') + 1;
    ftruncateSync(this.#fd);
    this.#written = 0;
    this.#put(header + body.subarray(start).toString('utf8'));
  }
}
