/**
 * Telling of all flows, a share of them each turn: 20,000 at once, with two system calls for each, would hold up every
 * packet for a fifth of a second (X-02, G-7). One question after the other; flows that end meanwhile are left out.
 */

import type { FlowInfo, ListedFlow } from '../forward/flow/info.ts';
import type { Clock, IoHandler, Poller } from '../loop.ts';

/** About 3 ms. */
const FLOWS_PER_TURN = 250;

/** `flows` are some of those of `guest` that question `request` was for; `more` will follow. */
export type TellFlows = (guest: number, request: number, flows: FlowInfo[], more: boolean) => void;

export class FlowLister implements IoHandler {
  waiting = false;
  readonly #poller: Poller;
  readonly #clock: Clock;
  readonly #collect: (guest: number) => ListedFlow[];
  readonly #tell: TellFlows;
  readonly #questions: { guest: number; request: number }[] = [];
  /** What is left of the first question's flows; null = it was not begun. */
  #left: ListedFlow[] | null = null;

  /** `collect` lists all flows of a guest. */
  constructor(poller: Poller, clock: Clock, collect: (guest: number) => ListedFlow[], tell: TellFlows) {
    this.#poller = poller;
    this.#clock = clock;
    this.#collect = collect;
    this.#tell = tell;
  }

  ask(guest: number, request: number): void {
    this.#questions.push({ guest, request });
    this.#poller.ready(this);
  }

  onIo(_events: number): void {
    const [question] = this.#questions;
    if (question === undefined) return;
    const { guest, request } = question;
    this.#left ??= this.#collect(guest);
    const share = this.#left.splice(0, FLOWS_PER_TURN).filter((flow) => !flow.isOver);
    const more = this.#left.length > 0;
    this.#tell(
      guest,
      request,
      share.map((flow) => flow.info(this.#clock.nowMs)),
      more,
    );
    if (!more) {
      this.#left = null;
      this.#questions.shift();
    }
    if (this.#questions.length > 0) this.#poller.ready(this);
  }
}
