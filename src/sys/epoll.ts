/**
 * epoll(7), edge-triggered. Each registration carries a token and a generation (both 32 bit), so that an event for a
 * descriptor that was closed, and whose number was used again, is told apart from one for its successor (N-03).
 */
import { errno, libcFunction } from './libc.ts';
import type { Structures } from './structures.ts';

const cCreate = libcFunction('epoll_create1', 'int', ['int']);
const cCtl = libcFunction('epoll_ctl', 'int', ['int', 'int', 'int', 'uintptr_t']);
const cWait = libcFunction('epoll_wait', 'int', ['int', 'uintptr_t', 'int', 'int']);

export const EPOLLIN = 0x1;
export const EPOLLPRI = 0x2;
export const EPOLLOUT = 0x4;
export const EPOLLERR = 0x8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x80000000;

const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;

// struct epoll_event is packed on x86-64 only.
const EVENT_SIZE = process.arch === 'x64' ? 12 : 16;
const DATA_OFFSET = process.arch === 'x64' ? 4 : 8;

export class Epoll {
  readonly fd: number;
  readonly #structures: Structures;
  readonly #events: number;
  readonly #single: number;
  readonly #maxEvents: number;

  constructor(structures: Structures, maxEvents: number) {
    const fd = cCreate(EPOLL_CLOEXEC);
    if (fd < 0) throw new Error(`epoll_create1 failed: errno ${errno()}`);
    this.fd = fd;
    this.#structures = structures;
    this.#events = structures.region(maxEvents * EVENT_SIZE);
    this.#single = structures.region(EVENT_SIZE);
    this.#maxEvents = maxEvents;
  }

  add(fd: number, events: number, token: number, generation: number): number {
    return this.#control(EPOLL_CTL_ADD, fd, events, token, generation);
  }

  modify(fd: number, events: number, token: number, generation: number): number {
    return this.#control(EPOLL_CTL_MOD, fd, events, token, generation);
  }

  remove(fd: number): number {
    return this.#control(EPOLL_CTL_DEL, fd, 0, 0, 0);
  }

  /** Block for at most `timeoutMs` (-1 = for ever); how many events there are, or `-errno`. */
  wait(timeoutMs: number): number {
    const n = cWait(
      this.fd,
      this.#structures.address(this.#events, this.#maxEvents * EVENT_SIZE),
      this.#maxEvents,
      timeoutMs,
    );
    return n < 0 ? -errno() : n;
  }

  eventsAt(index: number): number {
    return this.#structures.view.getUint32(this.#events + index * EVENT_SIZE, true);
  }

  tokenAt(index: number): number {
    return this.#structures.view.getUint32(this.#events + index * EVENT_SIZE + DATA_OFFSET, true);
  }

  generationAt(index: number): number {
    return this.#structures.view.getUint32(this.#events + index * EVENT_SIZE + DATA_OFFSET + 4, true);
  }

  #control(operation: number, fd: number, events: number, token: number, generation: number): number {
    const view = this.#structures.view;
    view.setUint32(this.#single, events, true);
    view.setUint32(this.#single + DATA_OFFSET, token, true);
    view.setUint32(this.#single + DATA_OFFSET + 4, generation, true);
    const result = cCtl(this.fd, operation, fd, this.#structures.address(this.#single, EVENT_SIZE));
    return result < 0 ? -errno() : 0;
  }
}
