/** The forwards of the user's rules (`-L`, `add_hostfwd`) as events. Those of unix sockets have no place in them. */
import type { OpenForward } from '../control/engine-client.ts';
import type { EventSink, Published } from './event.ts';

export class RuleForwards {
  readonly #events: EventSink;
  readonly #ids = new Set<number>();
  /** By the data plane's number. */
  readonly #open = new Map<number, Published>();

  constructor(events: EventSink) {
    this.#events = events;
  }

  /** Whether it is one of them, and not of somebody else who publishes. */
  has(id: number): boolean {
    return this.#ids.has(id);
  }

  added({ id, spec, listen }: OpenForward): void {
    this.#ids.add(id);
    if (spec.direction !== 'local' || listen.kind !== 'ip') return;
    const published: Published = {
      proto: spec.protocol,
      guestEnd: { ip: spec.target.address, port: spec.target.port },
      hostEnd: { ip: listen.address, port: listen.port },
      reason: 'fixed',
      process: null,
      source: spec.source || 'client',
    };
    this.#open.set(id, published);
    this.#events.emit({ type: 'forward.added', ...published });
  }

  removed(id: number): void {
    this.#ids.delete(id);
    this.#remove(id, 'policy');
  }

  /** Together with the process. */
  end(): void {
    for (const id of this.#open.keys()) this.#remove(id, 'stop');
  }

  #remove(id: number, cause: 'policy' | 'stop'): void {
    const published = this.#open.get(id);
    if (published === undefined) return;
    this.#open.delete(id);
    const { proto, guestEnd, hostEnd } = published;
    const counts = { connections: 0, bytesIn: 0, bytesOut: 0 };
    this.#events.emit({ type: 'forward.removed', proto, guestEnd, hostEnd, cause, ...counts });
  }
}
