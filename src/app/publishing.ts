/** The publisher of a process's guest, put together, and what becomes of its connections at the end. */
import { readFileSync } from 'node:fs';
import type { GuestConfig, PublishSpec } from '../config.ts';
import type { EngineClient } from '../control/engine-client.ts';
import type { EventSink } from '../expose/event.ts';
import { lowestPort } from '../expose/host-ports.ts';
import { Publisher } from '../expose/publisher.ts';

const LOOPBACK6 = /^0{31}1 /m;
/** How often one looks whether the last connection is over. */
const LOOK_MS = 50;

/** The host has it. */
export function hasIpv6(): boolean {
  try {
    return LOOPBACK6.test(readFileSync('/proc/net/if_inet6', 'latin1'));
  } catch {
    return false;
  }
}

export class Publishing {
  readonly publisher: Publisher;
  readonly #client: EngineClient;

  /** @throws Error with one line */
  constructor(client: EngineClient, { addresses }: GuestConfig, spec: PublishSpec, events: EventSink) {
    this.#client = client;
    this.publisher = new Publisher({
      ...{ engine: client, events, spec, plan: addresses },
      ...{ minPort: lowestPort(), hasIpv6: hasIpv6() },
    });
  }

  /** Listens no more, and leaves the connections that there are so many ms to end by themselves. */
  async stop(graceMs: number): Promise<void> {
    const forwards = new Set(this.#client.listForwards().map(({ id }) => id));
    const until = Date.now() + graceMs;
    await this.publisher.stop();
    while (Date.now() < until) {
      const flows = await this.#client.listFlows();
      if (!flows.some(({ kind, forward }) => kind === 'local' && forwards.has(forward))) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }
}
