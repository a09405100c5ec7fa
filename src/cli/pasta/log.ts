/**
 * What pasta says while it runs: on standard error, to the system's log or to a file, as that program does. What the engine has
 * to say is in its own words and of interest to who looks for a fault: it is told a level lower, so that `--quiet` is quiet.
 */
import { writeSync } from 'node:fs';
import { syslogFd } from '../../app/found.ts';
import type { ProcessLog } from '../../app/logger.ts';
import { sayError } from '../../app/say.ts';
import type { LogFields, LogLevel } from '../../control/log.ts';
import type { LogFile } from './log-file.ts';
import type { PastaConfig } from './pasta-config.ts';

/** In order; as in a log file. */
const LABELS = {
  error: 'ERROR:   ',
  warning: 'WARNING: ',
  info: 'info:    ',
  debug: '         ',
  trace: '         ',
};
type Level = keyof typeof LABELS;
const LEVELS = Object.keys(LABELS) as Level[];

const LEAST: Record<PastaConfig['verbosity'], Level> = {
  quiet: 'warning',
  normal: 'info',
  debug: 'debug',
  trace: 'trace',
};

/** syslog(3): facility daemon, and severities. */
const FACILITY = 3 << 3;
const SEVERITIES: Record<Level, number> = { error: 3, warning: 4, info: 6, debug: 7, trace: 7 };

const ENGINE_LEVELS: Record<LogLevel, Level> = {
  fatal: 'error',
  error: 'error',
  warn: 'info',
  info: 'debug',
  debug: 'debug',
  trace: 'trace',
};

/** Fraction digits of seconds since the start. */
const DIGITS = 4;

export interface PastaLogSpec {
  verbosity: PastaConfig['verbosity'];
  /** Where all goes, and nowhere else; null: to standard error and the system's log. */
  file: LogFile | null;
}

export class PastaLog implements ProcessLog {
  readonly #least: number;
  readonly #stamped: boolean;
  readonly #file: LogFile | null;
  readonly #syslog: number;

  constructor({ verbosity, file }: PastaLogSpec) {
    this.#least = LEVELS.indexOf(LEAST[verbosity]);
    this.#stamped = LEVELS.indexOf(LEAST[verbosity]) >= LEVELS.indexOf('debug');
    this.#file = file;
    this.#syslog = this.#stamped ? -1 : syslogFd;
  }

  error(text: string): void {
    this.#say('error', text);
  }

  warning(text: string): void {
    this.#say('warning', text);
  }

  info(text: string): void {
    this.#say('info', text);
  }

  enabled(level: LogLevel): boolean {
    return LEVELS.indexOf(ENGINE_LEVELS[level]) <= this.#least;
  }

  log(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (!this.enabled(level)) return;
    const { guest: _, ...told } = fields;
    const details = Object.entries(told).map(([name, value]) => ` ${name}=${shown(value)}`);
    this.#say(ENGINE_LEVELS[level], message + details.join(''));
  }

  /** There are none. */
  readLibraries(): void {}

  /** Nothing was kept. */
  activate(): void {}

  #say(level: Level, text: string): void {
    if (LEVELS.indexOf(level) > this.#least) return;
    const stamp = `${process.uptime().toFixed(DIGITS)}: `;
    if (this.#file !== null) {
      this.#file.write(`${stamp}${LABELS[level]}${text}\n`);
      return;
    }
    sayError(`${this.#stamped ? stamp : ''}${text}\n`);
    if (this.#syslog < 0) return;
    try {
      writeSync(this.#syslog, `<${FACILITY | SEVERITIES[level]}>pasta[${process.pid}]: ${text}`);
    } catch {
      // Nobody reads, or too slowly.
    }
  }
}

function shown(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
