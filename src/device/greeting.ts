/** A greeting (greetings.ts) on a real stream, within 5 s of its first byte, or of its beginning where we speak first. */
import { type IoHandler, TimerNode } from '../loop.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLET, EPOLLIN, EPOLLRDHUP } from '../sys/epoll.ts';
import { EAGAIN, EINTR, errnoText } from '../sys/errno.ts';
import { peek, recv, send } from '../sys/socket.ts';
import type { GreetingSteps, Step } from './greetings.ts';
import type { PeerServices } from './peer-source.ts';

const LIMIT_MS = 5000;

export interface GreetingEnd {
  /** The stream is what it was wanted for, and whoever is told has it. */
  greeted(fd: number): void;
  /** It was closed. One line. */
  failed(reason: string): void;
}

export class StreamGreeting extends TimerNode implements IoHandler {
  waiting = false;
  readonly #services: PeerServices;
  readonly #end: GreetingEnd;
  readonly #steps: GreetingSteps;
  #descriptor: Descriptor;
  #token = -1;
  #wanted = 0;
  #peeks = false;
  /** Of what is wanted, what has come. */
  #got = new Uint8Array(0);

  /** Takes over `fd`. `end` may be told at once. */
  constructor(services: PeerServices, fd: number, steps: GreetingSteps, end: GreetingEnd) {
    super();
    this.#services = services;
    this.#descriptor = new Descriptor(fd);
    this.#steps = steps;
    this.#end = end;
  }

  start(): void {
    const { poller } = this.#services;
    // What was looked at and not taken is no news.
    this.#token = poller.add(this.#descriptor.fd, EPOLLIN | EPOLLRDHUP | EPOLLET, this);
    if (this.#token < 0) {
      this.#fail(errnoText(this.#token));
      return;
    }
    this.#advance(new Uint8Array(0));
    // Who only listens may do so for as long as it likes.
    if (!this.#peeks) this.#setLimit();
  }

  onIo(): void {
    while (this.#token >= 0) {
      const n = this.#read();
      if (n === -EINTR) continue;
      if (n === -EAGAIN) return;
      if (n <= 0) {
        this.#fail(n === 0 ? 'it has closed' : errnoText(n));
        return;
      }
      if (this.deadline === Number.POSITIVE_INFINITY) this.#setLimit();
      if (this.#got.length < this.#wanted) {
        // What was only looked at is there still, and no news.
        if (this.#peeks) return;
        continue;
      }
      const got = this.#got;
      this.#got = new Uint8Array(0);
      this.#advance(got);
    }
  }

  onTimer(): void {
    this.#fail(`it has not finished within ${LIMIT_MS / 1000} s`);
  }

  close(): void {
    this.#stop();
    this.#descriptor.close();
  }

  #read(): number {
    const { memory, frames } = this.#services;
    const { fd } = this.#descriptor;
    const missing = this.#wanted - this.#got.length;
    const n = this.#peeks
      ? peek(memory, fd, frames.scratch, this.#wanted)
      : recv(memory, fd, frames.scratch, missing);
    if (n <= 0) return n;
    const read = frames.slab.bytes.slice(frames.scratch, frames.scratch + n);
    const before = this.#peeks ? new Uint8Array(0) : this.#got;
    const all = new Uint8Array(before.length + n);
    all.set(before);
    all.set(read, before.length);
    this.#got = all;
    return n;
  }

  #advance(got: Uint8Array): void {
    let step: IteratorResult<Step, void>;
    try {
      step = this.#steps.next(got);
      while (step.done !== true && typeof step.value === 'object' && 'send' in step.value) {
        this.#send(step.value.send);
        step = this.#steps.next(new Uint8Array(0));
      }
    } catch (error) {
      this.#fail((error as Error).message);
      return;
    }
    if (step.done === true) {
      this.#stop();
      const { fd } = this.#descriptor;
      this.#descriptor = new Descriptor(-1);
      this.#end.greeted(fd);
      return;
    }
    const { value } = step;
    this.#peeks = typeof value === 'object';
    this.#wanted = typeof value === 'number' ? value : 'peek' in value ? value.peek : 0;
  }

  /** A few hundred bytes, which an empty socket always takes. @throws Error with one line */
  #send(bytes: Uint8Array): void {
    const { memory, frames } = this.#services;
    frames.slab.bytes.set(bytes, frames.scratch);
    const n = send(memory, this.#descriptor.fd, frames.scratch, bytes.length);
    if (n !== bytes.length) throw new Error(n < 0 ? errnoText(n) : 'it takes nothing');
  }

  #setLimit(): void {
    if (this.#token < 0) return;
    this.deadline = this.#services.clock.nowMs + LIMIT_MS;
    this.#services.timers.update(this);
  }

  #stop(): void {
    this.#services.timers.cancel(this);
    if (this.#token >= 0) this.#services.poller.remove(this.#token);
    this.#token = -1;
  }

  #fail(reason: string): void {
    this.close();
    this.#end.failed(reason);
  }
}
