/**
 * SIGINT and SIGTERM. Until the program is up they are only remembered, so that a start that fails reports why. The first
 * of them ends it; meanwhile the same one again kills, and the other is ignored.
 *
 * Loaded before everything else: up to here a signal has its default action.
 */
import { onSignal } from '../../app/found.ts';

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

export class EndSignals {
  #received: NodeJS.Signals | undefined;
  #onEnd: (() => void) | undefined;

  constructor() {
    for (const signal of SIGNALS) onSignal(signal, () => this.#receive(signal));
  }

  /** The program is up: `end` is called with the next signal, or at once if there was one. */
  whenReceived(end: () => void): void {
    this.#onEnd = end;
    if (this.#received !== undefined) this.#end(this.#received);
  }

  #receive(signal: NodeJS.Signals): void {
    if (this.#received !== undefined) return;
    this.#received = signal;
    if (this.#onEnd !== undefined) this.#end(signal);
  }

  #end(signal: NodeJS.Signals): void {
    // Without a listener the signal has its default action again.
    process.removeAllListeners(signal);
    this.#onEnd?.();
  }
}
