/**
 * Waiting for the one peer of a "bess" socket: a unix SOCK_SEQPACKET socket on which each packet is an Ethernet frame
 * (User Mode Linux). The socket file goes as soon as the peer is there.
 */
import { fchmodSync } from 'node:fs';
import { DeviceError } from '../device-error.ts';
import type { IoHandler } from '../loop.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import { errnoText } from '../sys/errno.ts';
import { AF_UNIX, accept, listen, SOCK_SEQPACKET, socket } from '../sys/socket.ts';
import { bindUnix, fileIdentity, removeSocketFile } from '../sys/unix-path.ts';
import type { LinkServices } from './device-link.ts';

export class BessListener implements IoHandler {
  waiting = false;
  readonly #services: LinkServices;
  readonly #path: string;
  readonly #connected: (fd: number) => void;
  readonly #identity: string;
  readonly #descriptor: Descriptor;
  readonly #token: number;
  #closed = false;

  /** `connected` gets the peer's socket, non-blocking, which is then its own. @throws DeviceError */
  constructor(services: LinkServices, path: string, connected: (fd: number) => void) {
    this.#services = services;
    this.#path = path;
    this.#connected = connected;
    this.#descriptor = new Descriptor(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    this.#token = this.#listen();
    if (this.#token < 0) {
      this.#descriptor.close();
      const message = `cannot listen on unix:${path}: ${errnoText(this.#token)}`;
      throw new DeviceError('link', -this.#token, message);
    }
    this.#identity = fileIdentity(path);
  }

  onIo(): void {
    const { memory, frames } = this.#services;
    const fd = accept(memory, this.#descriptor.fd, frames.scratch);
    // One that has gone again; the next one may stay.
    if (fd < 0) return;
    this.close();
    this.#connected(fd);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#services.poller.remove(this.#token);
    this.#descriptor.close();
    removeSocketFile(this.#path, this.#identity);
  }

  /** A token of the loop, or `-errno`. */
  #listen(): number {
    const { memory, frames, poller } = this.#services;
    const { fd } = this.#descriptor;
    if (fd < 0) return fd;
    // bind(2) gives the file the mode that the socket has.
    fchmodSync(fd, 0o600);
    const bound = bindUnix(memory, frames.scratch, fd, SOCK_SEQPACKET, this.#path);
    if (bound < 0) return bound;
    const result = listen(fd, 1);
    return result < 0 ? result : poller.add(fd, EPOLLIN, this);
  }
}
