/** What a tunnel has in either form: its state, its settings, its end, and those who read its events. */
import { TslirpError } from './errors.ts';
import { EventFeed } from './event-feed.ts';
import type { CloseReason, NetworkSettings, TunnelNews, TunnelState } from './types.ts';

export class TunnelLife {
  state: TunnelState = 'starting';
  settings: NetworkSettings = {};
  /** The first there was. */
  reason: CloseReason | undefined;
  readonly closed: Promise<CloseReason>;
  readonly feed: EventFeed;
  resolveClosed!: (reason: CloseReason) => void;

  /** `flowsWanted` hears whether anybody reads of flows. */
  constructor(flowsWanted: (areWanted: boolean) => void) {
    this.closed = new Promise((resolve) => {
      this.resolveClosed = resolve;
    });
    this.feed = new EventFeed({ first: () => this.#first(), snapshot: () => this.#snapshot() }, flowsWanted);
  }

  /** @throws TslirpError unless it runs */
  mustRun(): void {
    if (this.state !== 'running') throw new TslirpError('NOT_RUNNING', `the tunnel is ${this.state}`);
  }

  turn(state: TunnelState, reason?: CloseReason): void {
    this.state = state;
    this.feed.tell({ type: 'state', state, ...(reason === undefined ? {} : { reason }) });
  }

  #first(): TunnelNews[] {
    const { state, reason } = this;
    const settings = structuredClone(this.settings);
    return [
      { type: 'state', state, ...(reason === undefined ? {} : { reason }) },
      { type: 'settings', settings, diff: settings },
      this.#snapshot(),
    ];
  }

  #snapshot(): TunnelNews {
    const [[, present] = ['', { listeners: [], forwards: [] }] as const] = this.feed.hub.present();
    return { type: 'snapshot', state: this.state, ...present };
  }
}
