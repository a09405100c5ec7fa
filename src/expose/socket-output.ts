/** Lines of an event stream for whoever is at the other end of a stream socket. Its end is its own business. */
import type { Socket } from 'node:net';
import type { EventOutput } from './event-stream.ts';

export class SocketOutput implements EventOutput {
  readonly #socket: Socket;
  /** What waited is taken. */
  taken: () => void = () => undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  get waiting(): number {
    return this.#socket.writableLength;
  }

  line(text: string): void {
    if (this.#socket.destroyed) return;
    this.#socket.write(`${text}\n`, () => {
      if (this.waiting === 0) this.taken();
    });
  }
}
