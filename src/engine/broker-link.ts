/**
 * The data plane's end of the socket to the broker (bin/broker.pl). The main thread writes orders to it; what comes back is
 * read here alone, because descriptors can be taken, and without waiting: channels to children that open devices for us,
 * and words, which go on to the main thread.
 */
import type { IoHandler, Poller } from '../loop.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import { EAGAIN, EINTR } from '../sys/errno.ts';
import { MessageSocket } from '../sys/pass-descriptor.ts';
import { waitForChild } from '../sys/process.ts';

const MESSAGE_BYTES = 65536;

export interface BrokerEnd {
  fd: number;
  /** A child of ours. */
  pid: number;
}

export interface BrokerHandlers {
  /** Answer to order `id`: a channel, which is the receiver's. */
  channel: (id: number, fd: number) => void;
  /** A descriptor that came with it is the last field. */
  said: (text: string) => void;
  /** The broker has ended. */
  gone: () => void;
}

export class BrokerLink implements IoHandler {
  waiting = false;
  readonly #end: BrokerEnd;
  readonly #socket: MessageSocket;
  readonly #handlers: BrokerHandlers;
  readonly #poller: Poller;
  readonly #token: number;
  #open = true;

  constructor(end: BrokerEnd, poller: Poller, handlers: BrokerHandlers) {
    this.#end = end;
    this.#socket = new MessageSocket(end.fd, MESSAGE_BYTES);
    this.#handlers = handlers;
    this.#poller = poller;
    this.#token = poller.add(end.fd, EPOLLIN, this);
    if (this.#token < 0) throw new Error(`the socket to the broker cannot be watched: errno ${-this.#token}`);
  }

  onIo(): void {
    while (this.#open) {
      const length = this.#socket.receive();
      if (length === -EAGAIN) return;
      if (length === -EINTR) continue;
      if (length <= 0) {
        this.#open = false;
        this.#poller.remove(this.#token);
        this.#handlers.gone();
        return;
      }
      this.#take(this.#socket.text);
    }
  }

  #take(text: string): void {
    const [, id] = /^open\0(\d+)$/.exec(text) ?? [];
    const fd = this.#socket.take();
    if (id !== undefined && fd >= 0) this.#handlers.channel(Number(id), fd);
    else this.#handlers.said(fd < 0 ? text : `${text}\0${fd}`);
  }

  /** Our own end has come, and there is something to do for both at that. */
  dismiss(): void {
    this.#socket.send(new TextEncoder().encode('end'));
  }

  /**
   * After `dismiss`: what the broker does at our end is done when this returns, and the process is collected, which nobody
   * else may do where the first process does not.
   */
  finish(): void {
    while (this.#open && this.#socket.receive(true) > 0) this.#socket.drop();
    waitForChild(this.#end.pid);
  }
}
