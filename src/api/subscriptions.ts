/** Clients that get the event stream (docs/events.md) for as long as they stay, beginning with what is there. */
import type { Socket } from 'node:net';
import type { EventHub } from '../expose/event-hub.ts';
import { EventStream } from '../expose/event-stream.ts';
import { SocketOutput } from '../expose/socket-output.ts';
import { ApiError } from './fields.ts';

const SUBSCRIBERS_MAX = 16;

/** An answer that goes on. `begin` returns what ends it. */
export interface StreamAnswer {
  begin(socket: Socket): () => void;
}

export class Subscriptions {
  readonly #hub: EventHub;
  #count = 0;

  constructor(hub: EventHub) {
    this.#hub = hub;
  }

  /** Throws an ApiError when there are enough of them. */
  add(): StreamAnswer {
    if (this.#count >= SUBSCRIBERS_MAX)
      throw new ApiError(`subscribe: there are ${SUBSCRIBERS_MAX} subscribers, which is all`);
    return { begin: (socket) => this.#begin(socket) };
  }

  #begin(socket: Socket): () => void {
    this.#count++;
    const output = new SocketOutput(socket);
    const stream = new EventStream(this.#hub, output);
    output.taken = () => stream.taken();
    stream.snapshot();
    return () => {
      this.#count--;
      stream.close();
    };
  }
}
