/**
 * Refusals and failures in the log: of each kind one line a second, with how many more there were. What somebody out there
 * refuses is no news unless one looks for it (`debug`); nor is what is sent to groups, as every guest does.
 */

import type { Log, LogLevel } from '../control/log.ts';
import type { RefusalText } from '../control/refusal-text.ts';
import type { Refusal, RefusalReason } from '../engine/messages.ts';

const INTERVAL_MS = 1000;

const levels: Record<RefusalReason, LogLevel> = {
  ...{
    default: 'info',
    reserved: 'info',
    host: 'info',
    port: 'info',
    guest: 'info',
    target: 'info',
    system: 'info',
  },
  ...{ unsure: 'warn', limit: 'warn', resolver: 'warn', name: 'warn' },
  ...{ group: 'debug', connect: 'debug', left: 'debug' },
};

export class RefusalLog {
  readonly #logger: Log;
  readonly #text: RefusalText;
  readonly #said = new Map<RefusalReason, { atMs: number; more: number }>();
  readonly #now: () => number;

  constructor(logger: Log, text: RefusalText, now: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#text = text;
    this.#now = now;
  }

  /** `detail` as in `RefusalText.line`. */
  note(refusal: Refusal, detail = ''): void {
    const { reason, repeated } = refusal;
    const level = levels[reason];
    if (!this.#logger.enabled(level)) return;
    const nowMs = this.#now();
    const said = this.#said.get(reason) ?? { atMs: Number.NEGATIVE_INFINITY, more: 0 };
    this.#said.set(reason, said);
    said.more += repeated;
    if (nowMs - said.atMs < INTERVAL_MS) {
      said.more++;
      return;
    }
    this.#logger.log(level, this.#text.line(refusal, detail), said.more === 0 ? {} : { more: said.more });
    said.atMs = nowMs;
    said.more = 0;
  }

  /** There were so many more, and none since. */
  leftOut(reason: RefusalReason, count: number): void {
    const more = count + (this.#said.get(reason)?.more ?? 0);
    this.#said.delete(reason);
    this.#logger.log(levels[reason], 'and more were refused or failed', { reason, more });
  }
}
