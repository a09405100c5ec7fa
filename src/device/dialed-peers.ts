/** A peer that we connect to; once a second, until it is there, and again when it has gone. */
import type { DialTarget } from '../device-spec.ts';
import { type IoHandler, TimerNode } from '../loop.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLOUT } from '../sys/epoll.ts';
import { EAGAIN, EINPROGRESS, errnoText } from '../sys/errno.ts';
import {
  connect,
  getsockoptInt,
  IPPROTO_TCP,
  SO_ERROR,
  SOL_SOCKET,
  setsockoptInt,
  TCP_NODELAY,
} from '../sys/socket.ts';
import type { PeerFound, PeerServices, PeerSource } from './peer-source.ts';
import { placeText, putPlace, socketFor } from './socket-place.ts';

const RETRY_MS = 1000;

export class DialedPeers extends TimerNode implements PeerSource, IoHandler {
  waiting = false;
  readonly #services: PeerServices;
  readonly #spec: Pick<DialTarget, 'at' | 'type'>;
  #found: PeerFound | null = null;
  #descriptor = new Descriptor(-1);
  #token = -1;
  /** Told once, until it has changed. */
  #reason = 0;

  constructor(services: PeerServices, spec: Pick<DialTarget, 'at' | 'type'>) {
    super();
    this.#services = services;
    this.#spec = spec;
  }

  start(found: PeerFound): void {
    this.#found = found;
    this.#wait(0);
  }

  again(): void {
    this.#wait(RETRY_MS);
  }

  onTimer(): void {
    const { memory, frames, poller } = this.#services;
    const { at, type } = this.#spec;
    this.deadline = Number.POSITIVE_INFINITY;
    this.#descriptor = new Descriptor(socketFor(memory, frames.scratch, at, type));
    const { fd } = this.#descriptor;
    if (fd < 0) {
      this.#failed(fd);
      return;
    }
    const result = connect(memory, fd, frames.scratch, putPlace(memory, frames.scratch, at));
    if (result === 0) this.#connected();
    // A unix socket whose queue is full says EAGAIN, and nothing tells when it is not.
    else if (result !== -EINPROGRESS) this.#failed(result);
    else {
      this.#token = poller.add(fd, EPOLLOUT, this);
      if (this.#token < 0) this.#failed(this.#token);
    }
  }

  onIo(): void {
    const { memory, frames, poller } = this.#services;
    if (this.#token < 0) return;
    poller.remove(this.#token);
    this.#token = -1;
    const failed = getsockoptInt(memory, this.#descriptor.fd, SOL_SOCKET, SO_ERROR, frames.scratch);
    const error = failed < 0 ? failed : -memory.view.getInt32(frames.scratch, true);
    if (error < 0) this.#failed(error);
    else this.#connected();
  }

  close(): void {
    this.#found = null;
    this.#services.timers.cancel(this);
    if (this.#token >= 0) this.#services.poller.remove(this.#token);
    this.#token = -1;
    this.#descriptor.close();
  }

  #connected(): void {
    const { memory, frames } = this.#services;
    const { at } = this.#spec;
    const { fd } = this.#descriptor;
    this.#descriptor = new Descriptor(-1);
    this.#reason = 0;
    if (at.family === 'ip') setsockoptInt(memory, fd, IPPROTO_TCP, TCP_NODELAY, 1, frames.scratch);
    this.#found?.(fd, placeText(at));
  }

  #failed(error: number): void {
    this.#descriptor.close();
    if (error !== this.#reason && error !== -EAGAIN) {
      const text = `${placeText(this.#spec.at)}: ${errnoText(error)}: trying again every second`;
      this.#services.log('warn', text);
    }
    this.#reason = error;
    this.#wait(RETRY_MS);
  }

  #wait(ms: number): void {
    this.deadline = this.#services.clock.nowMs + ms;
    this.#services.timers.update(this);
  }
}
