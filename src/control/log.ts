/** What a room that has something to tell needs of a log. How it is written is the program's affair (app/logger). */
import type { ProcessConfig } from '../config.ts';

export type LogLevel = Exclude<ProcessConfig['logLevel'], 'silent'>;
export type LogFields = Record<string, unknown>;

export interface Log {
  enabled(level: LogLevel): boolean;
  log(level: LogLevel, message: string, fields?: LogFields): void;
}

/** The same log, for what is said of one guest. */
export function logOf(log: Log, guest: string): Log {
  return {
    enabled: (level) => log.enabled(level),
    log: (level, message, fields) => log.log(level, message, { guest, ...fields }),
  };
}
