/** A flow that ends when nothing was said for a while. Restarting the wait is one assignment. */

import { TimerNode } from '../../loop.ts';
import type { FlowContext } from './context.ts';

export abstract class IdleTimer extends TimerNode {
  readonly context: FlowContext;
  /** How long nothing may be said. May grow at any time; it holds from the next `used` on. */
  idleMs: number;
  #lastUse = 0;

  constructor(context: FlowContext, idleMs: number) {
    super();
    this.context = context;
    this.idleMs = idleMs;
  }

  /** Something was said, in either direction. The first time starts the clock. */
  used(): void {
    const { clock, timers } = this.context;
    this.#lastUse = clock.nowMs;
    if (this.deadline !== Number.POSITIVE_INFINITY) return;
    this.deadline = clock.nowMs + this.idleMs;
    timers.update(this);
  }

  onTimer(nowMs: number): void {
    const end = this.#lastUse + this.idleMs;
    if (nowMs >= end) {
      this.onIdle();
      return;
    }
    this.deadline = end;
    this.context.timers.update(this);
  }

  /** Nothing was said for `idleMs`. */
  protected abstract onIdle(): void;
}
