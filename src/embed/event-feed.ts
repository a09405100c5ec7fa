/**
 * What a tunnel tells, and those who read it. A reader that is slow costs its own oldest events, which are counted, and gets
 * a snapshot in their place; whoever tells never waits.
 */
import { EventHub, type StampedEvent } from '../expose/event-hub.ts';
import type { EventOptions, EventType, TunnelEvent, TunnelNews } from './types.ts';

const BUFFER = 1024;
/** These are told to readers that name them, and cost something. */
const ON_REQUEST: readonly EventType[] = ['flow.opened', 'flow.closed', 'log'];

/** What is so, for a reader that has heard nothing, or not all. */
export interface Present {
  /** For a new reader. */
  first(): TunnelNews[];
  snapshot(): TunnelNews;
}

export class EventFeed {
  readonly hub: EventHub = new EventHub();
  readonly #present: Present;
  readonly #readers = new Set<EventReader>();
  /** Whether anybody wants to hear of flows has changed. */
  readonly #flowsWanted: (areWanted: boolean) => void;
  #wantsFlows = false;
  #isOver = false;

  constructor(present: Present, flowsWanted: (areWanted: boolean) => void) {
    this.#present = present;
    this.#flowsWanted = flowsWanted;
    this.hub.listen((event: StampedEvent) => {
      const { guest: _, ...told } = event;
      this.#tell(told);
    });
  }

  tell(news: TunnelNews): void {
    this.#tell({ t: this.hub.time(), ...news });
  }

  /** Somebody reads events of this kind. */
  has(type: EventType): boolean {
    for (const reader of this.#readers) if (reader.wants(type)) return true;
    return false;
  }

  read(options: EventOptions): EventReader {
    const now = (news: TunnelNews): TunnelEvent => ({ t: this.hub.time(), ...news });
    const reader = new EventReader(
      options,
      () => now(this.#present.snapshot()),
      () => this.#left(reader),
    );
    for (const news of this.#present.first()) reader.push(now(news));
    if (this.#isOver) reader.finish();
    else this.#readers.add(reader);
    this.#lookForFlows();
    return reader;
  }

  /** There is no more to tell: readers end when they have taken what they have. */
  end(): void {
    this.#isOver = true;
    for (const reader of this.#readers) reader.finish();
    this.#readers.clear();
  }

  #tell(event: TunnelEvent): void {
    for (const reader of this.#readers) reader.push(event);
  }

  #left(reader: EventReader): void {
    this.#readers.delete(reader);
    this.#lookForFlows();
  }

  #lookForFlows(): void {
    const areWanted = this.has('flow.opened') || this.has('flow.closed');
    if (areWanted === this.#wantsFlows || this.#isOver) return;
    this.#wantsFlows = areWanted;
    this.#flowsWanted(areWanted);
  }
}

interface Taker {
  resolve: (result: IteratorResult<TunnelEvent, undefined>) => void;
}

export class EventReader implements AsyncIterableIterator<TunnelEvent> {
  readonly #types: ReadonlySet<EventType> | null;
  readonly #most: number;
  readonly #snapshot: () => TunnelEvent;
  readonly #left: () => void;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.return();
  #events: TunnelEvent[] = [];
  #takers: Taker[] = [];
  #lost = 0;
  #owesSnapshot = false;
  #isOver = false;

  constructor({ types, buffer, signal }: EventOptions, snapshot: () => TunnelEvent, left: () => void) {
    this.#types = types === undefined ? null : new Set(types);
    this.#most = Math.max(1, buffer ?? BUFFER);
    this.#snapshot = snapshot;
    this.#left = left;
    this.#signal = signal;
    if (signal?.aborted === true) this.#isOver = true;
    else signal?.addEventListener('abort', this.#onAbort);
  }

  wants(type: EventType): boolean {
    if (this.#types !== null) return this.#types.has(type);
    return !ON_REQUEST.includes(type);
  }

  push(event: TunnelEvent): void {
    if (this.#isOver) return;
    const isOfFlows = event.type === 'dropped' && (this.wants('flow.opened') || this.wants('flow.closed'));
    if (!this.wants(event.type) && !isOfFlows) return;
    const taker = this.#takers.shift();
    if (taker !== undefined) {
      taker.resolve({ done: false, value: event });
      return;
    }
    this.#events.push(event);
    if (this.#events.length <= this.#most) return;
    this.#events.shift();
    this.#lost++;
  }

  /** No more will come. */
  finish(): void {
    this.#isOver = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    for (const taker of this.#takers.splice(0)) taker.resolve({ done: true, value: undefined });
  }

  next(): Promise<IteratorResult<TunnelEvent, undefined>> {
    const value = this.#take();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    if (this.#isOver) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#takers.push({ resolve }));
  }

  return(): Promise<IteratorResult<TunnelEvent, undefined>> {
    this.#events = [];
    this.#lost = 0;
    this.#owesSnapshot = false;
    this.finish();
    this.#left();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #take(): TunnelEvent | undefined {
    if (this.#lost > 0) {
      const count = this.#lost;
      this.#lost = 0;
      this.#owesSnapshot = true;
      return { t: new Date().toISOString(), type: 'dropped', count, what: 'events' };
    }
    if (this.#owesSnapshot) {
      this.#owesSnapshot = false;
      return this.#snapshot();
    }
    return this.#events.shift();
  }
}
