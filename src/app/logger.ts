/**
 * The log, on stderr: for people when that is a terminal, JSON lines otherwise. Every line is written before the call
 * returns, so that nothing is lost however the process ends; but nobody waits for a reader that does not read. What is lost
 * then is counted, and told when there is room again.
 *
 * Loading the logging library costs more than it takes to open a device. So lines are only kept at first; `activate`,
 * called when the network is up, loads the library and writes them. An error or the end of the process does so too.
 */
import { isatty } from 'node:tty';
import type { Logger as Pino } from 'pino';
import type { ProcessConfig } from '../config.ts';
import type { Log, LogFields, LogLevel } from '../control/log.ts';
import { Library } from './library.ts';
import { standardError } from './say.ts';

/** Lines that wait for a library which cannot be loaded. */
const MOST_KEPT = 100;

/** The number of level `warn` in a line. */
const PINO_WARN = 40;

const order: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'];

/** The log of a process: kept at first, written from `activate` on, and in need of no files after `readLibraries`. */
export interface ProcessLog extends Log {
  readLibraries(): void;
  activate(): void;
}

export class Logger implements ProcessLog {
  private readonly level: ProcessConfig['logLevel'];
  private readonly kept: { level: LogLevel; message: string; fields: LogFields }[] = [];
  private readonly flush = (): void => {
    if (this.kept.length > 0) this.activate();
  };
  /** Lines are written at once from now on; the library itself is loaded with the first of them. */
  private active = false;
  private pino: Pino | undefined;
  private readonly pinoBundle: Library<typeof import('pino')>;
  /** For people. */
  private readonly prettyBundle: Library<typeof import('pino-pretty')> | undefined;

  /** `directory`: where the libraries are; tests have other places. */
  constructor(level: ProcessConfig['logLevel'], directory?: URL) {
    this.level = level;
    this.pinoBundle = new Library('log', directory);
    if (isatty(2)) this.prettyBundle = new Library('pretty', directory);
    // Opened while everything is in sight.
    standardError();
    process.on('exit', this.flush);
  }

  enabled(level: LogLevel): boolean {
    return this.level !== 'silent' && order.indexOf(level) >= order.indexOf(this.level);
  }

  log(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (!this.enabled(level)) return;
    this.kept.push({ level, message, fields: { ...fields, time: Date.now() } });
    if (this.active || level === 'error' || level === 'fatal') this.activate();
  }

  /** From now on no files are needed. */
  readLibraries(): void {
    if (this.level === 'silent' || this.pino !== undefined) return;
    try {
      this.pinoBundle.read();
      this.prettyBundle?.read();
    } catch {
      // Then the lines wait for ever: no reason to leave files in sight.
    }
  }

  /** Write what was kept, and from now on write at once. */
  activate(): void {
    this.active = true;
    if (this.kept.length === 0) return;
    try {
      this.pino ??= this.open();
    } catch {
      // Out of descriptors, for one: the lines wait, and the next one tries again.
      if (this.kept.length > MOST_KEPT) this.kept.shift();
      return;
    }
    for (const { level, message, fields } of this.kept.splice(0)) this.pino[level](fields, message);
  }

  private open(): Pino {
    const { pino } = this.pinoBundle.load();
    // The time is put in by us: of when it happened, not of when it was written.
    const options = { level: this.level, base: null, timestamp: false };
    if (this.prettyBundle === undefined) return pino(options, new CountingOutput((line) => line));
    const { prettyFactory } = this.prettyBundle.load();
    const { NO_COLOR = '', TERM } = process.env;
    const format = prettyFactory({
      // no-color.org
      colorize: NO_COLOR === '' && TERM !== 'dumb',
      singleLine: true,
      translateTime: 'SYS:HH:MM:ss.l',
      // Who reads along has started the only one.
      ignore: 'guest',
    });
    return pino(options, new CountingOutput(format));
  }
}

/** Standard error, and how many lines it did not take. */
class CountingOutput {
  readonly #format: (line: string) => string;
  #lost = 0;

  constructor(format: (line: string) => string) {
    this.#format = format;
  }

  write(line: string): void {
    const before = this.#lost === 0 ? '' : this.#format(this.#gap());
    // Both or none: the one is shorter than the other, and would take the last of the room.
    if (standardError().text(before + this.#format(line))) this.#lost = 0;
    else this.#lost++;
  }

  #gap(): string {
    const msg = `${this.#lost} log lines are missing here: nobody has read standard error`;
    return `${JSON.stringify({ level: PINO_WARN, time: Date.now(), msg })}\n`;
  }
}
