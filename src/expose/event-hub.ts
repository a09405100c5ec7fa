/**
 * The events of a process, in the order in which they come, and what is there because of them: listeners and forwards that
 * have been added and not removed, so that whoever has missed something can be told. A reader that throws is a defect; one
 * that cannot keep up loses events on its own account (event-stream.ts).
 */
import type { EventSink, GuestEvent, Listener, Published } from './event.ts';

/** An event with what every line of a stream has, but for its number there. */
export type StampedEvent = { t: string; guest: string } & GuestEvent;

/** What a guest has, oldest first. */
export interface Present {
  readonly listeners: readonly Listener[];
  readonly forwards: readonly Published[];
}

export class EventHub {
  readonly #readers = new Set<(event: StampedEvent) => void>();
  readonly #guests = new Map<string, GuestState>();
  readonly #now: () => number;

  /** `now`: ms since the epoch. */
  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** Where the events of the guest of that name go. */
  sink(guest: string): EventSink {
    const state = this.#guests.get(guest) ?? new GuestState();
    this.#guests.set(guest, state);
    return {
      emit: (event) => {
        state.note(event);
        const stamped = { t: this.time(), guest, ...event };
        for (const read of this.#readers) read(stamped);
      },
    };
  }

  /** Told of every event from now on. Returns what ends that. */
  listen(reader: (event: StampedEvent) => void): () => void {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }

  /** By guest. */
  present(): [guest: string, present: Present][] {
    return [...this.#guests].map(([guest, state]) => [guest, state.present()]);
  }

  time(): string {
    return new Date(this.#now()).toISOString();
  }
}

class GuestState {
  readonly #listeners = new Map<string, Listener>();
  readonly #forwards = new Map<string, Published>();

  note(event: GuestEvent): void {
    switch (event.type) {
      case 'listener.added': {
        const { type: _, ...listener } = event;
        this.#listeners.set(listenerKey(listener), listener);
        return;
      }
      case 'listener.removed':
        this.#listeners.delete(listenerKey(event));
        return;
      case 'forward.added': {
        const { type: _, ...published } = event;
        this.#forwards.set(forwardKey(published), published);
        return;
      }
      case 'forward.removed':
        this.#forwards.delete(forwardKey(event));
        return;
      default:
    }
  }

  present(): Present {
    return { listeners: [...this.#listeners.values()], forwards: [...this.#forwards.values()] };
  }
}

function listenerKey({
  proto,
  family,
  ip,
  port,
}: Pick<Listener, 'proto' | 'family' | 'ip' | 'port'>): string {
  return `${proto} ${family} ${ip} ${port}`;
}

/** A port of the host leads to one service. */
function forwardKey({ proto, hostEnd }: Pick<Published, 'proto' | 'hostEnd'>): string {
  return `${proto} ${hostEnd.ip} ${hostEnd.port}`;
}
