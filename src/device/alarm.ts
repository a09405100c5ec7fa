/** A deadline of somebody who has several of them, or is something else already. */
import { TimerNode } from '../loop.ts';
import type { LinkServices } from './device-link.ts';

export class Alarm extends TimerNode {
  readonly #services: Pick<LinkServices, 'timers' | 'clock'>;
  readonly #onDue: () => void;

  constructor(services: Pick<LinkServices, 'timers' | 'clock'>, onDue: () => void) {
    super();
    this.#services = services;
    this.#onDue = onDue;
  }

  /** So many ms from now, whatever it was. */
  set(ms: number): void {
    this.deadline = this.#services.clock.nowMs + ms;
    this.#services.timers.update(this);
  }

  cancel(): void {
    this.#services.timers.cancel(this);
  }

  onTimer(): void {
    this.#onDue();
  }
}
