/** What a room that has something to tell needs of a log. How it is written is the program's affair (app/logger). */
import type { Config } from '../config.ts';

export type LogLevel = Exclude<Config['logLevel'], 'silent'>;
export type LogFields = Record<string, unknown>;

export interface Log {
  enabled(level: LogLevel): boolean;
  log(level: LogLevel, message: string, fields?: LogFields): void;
}
