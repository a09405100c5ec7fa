/**
 * The peer of a datagram socket. It is known by its address, and connected to: whoever else sends is not heard, and what is
 * sent to a peer that is gone is refused. A unix peer is there when its socket can be connected to, which is tried every second;
 * one of another machine, or whose address nobody has told us, when something has come from it.
 *
 * The socket stays ours: peers are found with copies of its descriptor, because in the sandbox it could not be bound anew.
 *
 * vfkit: the peer binds its own path, and is not known before it sends. Older ones begin with the four bytes `VFKT`.
 */
import { fchmodSync } from 'node:fs';
import type { DatagramTarget } from '../device-spec.ts';
import { type IoHandler, TimerNode } from '../loop.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import { EAGAIN, errnoText } from '../sys/errno.ts';
import { duplicate } from '../sys/io.ts';
import {
  bind,
  connect,
  nameLength,
  peekFrom,
  putSockaddrNone,
  recv,
  SOCKADDR_UN_SIZE,
} from '../sys/socket.ts';
import { bindUnix, fileIdentity, removeSocketFile } from '../sys/unix-path.ts';
import type { PeerFound, PeerServices, PeerSource } from './peer-source.ts';
import { placeError, placeText, putPlace, socketFor, typeNumber } from './socket-place.ts';

const RETRY_MS = 1000;
/** `VFKT` as a big-endian number. */
const VFKIT_HELLO = 0x56464b54;
const HELLO_BYTES = 4;
/** Family of a socket address. */
const FAMILY_BYTES = 2;
/** Datagrams without a sender, of a turn. */
const NAMELESS = 64;

export class DatagramPeers extends TimerNode implements PeerSource, IoHandler {
  waiting = false;
  readonly #services: PeerServices;
  readonly #spec: DatagramTarget;
  readonly #descriptor: Descriptor;
  readonly #identity: string;
  #found: PeerFound | null = null;
  #token = -1;
  #reason = 0;

  /** Bound when it is made. @throws DeviceError */
  constructor(services: PeerServices, spec: DatagramTarget) {
    super();
    this.#services = services;
    this.#spec = spec;
    const { memory, frames } = services;
    const { local } = spec;
    this.#descriptor = new Descriptor(socketFor(memory, frames.scratch, local, 'dgram'));
    const { fd } = this.#descriptor;
    if (fd >= 0 && local.family === 'unix') fchmodSync(fd, 0o600);
    const result = fd < 0 ? fd : this.#bind(fd);
    if (result < 0) {
      this.#descriptor.close();
      throw placeError('bind', local, result);
    }
    this.#identity = local.family === 'unix' ? fileIdentity(local.path) : '';
  }

  start(found: PeerFound): void {
    this.#found = found;
    this.#look(0);
  }

  again(): void {
    const { memory, frames } = this.#services;
    connect(memory, this.#descriptor.fd, frames.scratch, putSockaddrNone(memory, frames.scratch));
    this.#look(RETRY_MS);
  }

  onTimer(): void {
    const { memory, frames, poller } = this.#services;
    const { remote } = this.#spec;
    const { fd } = this.#descriptor;
    this.deadline = Number.POSITIVE_INFINITY;
    if (remote !== null) {
      const result = connect(memory, fd, frames.scratch, putPlace(memory, frames.scratch, remote));
      if (result < 0) {
        this.#failed(result);
        return;
      }
      if (remote.family === 'unix') {
        this.#hand(placeText(remote));
        return;
      }
    }
    if (this.#token < 0) this.#token = poller.add(fd, EPOLLIN, this);
  }

  /** Something has come, and nobody is known yet that it could be from. */
  onIo(): void {
    const { memory, frames, log } = this.#services;
    const { fd } = this.#descriptor;
    const { remote } = this.#spec;
    const sender = frames.scratch;
    const bytes = sender + SOCKADDR_UN_SIZE + FAMILY_BYTES * 4;
    for (let i = 0; i < NAMELESS && this.#token >= 0; i++) {
      const n = peekFrom(memory, fd, bytes, HELLO_BYTES, sender);
      if (n === -EAGAIN) return;
      if (remote !== null) {
        // A refusal of what was sent to whoever is not there yet.
        if (n >= 0) this.#hand(placeText(remote));
        continue;
      }
      const length = n < 0 ? 0 : nameLength(memory, sender);
      if (length <= FAMILY_BYTES) {
        if (n >= 0)
          log('warn', `${placeText(this.#spec.local)}: a sender without an address cannot be answered`);
        recv(memory, fd, bytes, 1);
        continue;
      }
      const isHello = n === HELLO_BYTES && memory.view.getUint32(bytes) === VFKIT_HELLO;
      const result = connect(memory, fd, sender, length);
      if (result < 0 || isHello) recv(memory, fd, bytes, 1);
      if (result === 0) this.#hand(`unix:${senderText(frames.slab.bytes, sender, length)}`);
    }
    if (this.#token >= 0) this.#services.poller.ready(this);
  }

  close(): void {
    this.#found = null;
    this.#services.timers.cancel(this);
    this.#stopLooking();
    this.#descriptor.close();
    const { local } = this.#spec;
    if (local.family === 'unix') removeSocketFile(local.path, this.#identity);
  }

  #bind(fd: number): number {
    const { memory, frames } = this.#services;
    const { local } = this.#spec;
    if (local.family === 'unix') return bindUnix(memory, frames.scratch, fd, typeNumber('dgram'), local.path);
    return bind(memory, fd, frames.scratch, putPlace(memory, frames.scratch, local));
  }

  #hand(who: string): void {
    this.#stopLooking();
    this.#reason = 0;
    const fd = duplicate(this.#descriptor.fd);
    if (fd < 0) this.#failed(fd);
    else this.#found?.(fd, who);
  }

  #stopLooking(): void {
    if (this.#token >= 0) this.#services.poller.remove(this.#token);
    this.#token = -1;
  }

  #failed(error: number): void {
    const { remote, local } = this.#spec;
    if (error !== this.#reason) {
      const text = `${placeText(remote ?? local)}: ${errnoText(error)}: trying again every second`;
      this.#services.log('debug', text);
    }
    this.#reason = error;
    this.#look(RETRY_MS);
  }

  #look(ms: number): void {
    this.deadline = this.#services.clock.nowMs + ms;
    this.#services.timers.update(this);
  }
}

/** The path, or what stands for the NUL that a name without a file begins with. */
function senderText(bytes: Uint8Array, at: number, length: number): string {
  const name = Buffer.from(bytes.subarray(at + FAMILY_BYTES, at + length)).toString();
  return name.startsWith('\0') ? `@${name.slice(1)}` : name.replace(/\0.*$/s, '');
}
