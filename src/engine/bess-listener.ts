/**
 * Waiting for the one peer of a "bess" socket: a unix SOCK_SEQPACKET socket on which each packet is an Ethernet frame
 * (User Mode Linux). The socket file goes as soon as the peer is there.
 */
import { fchmodSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { DeviceError } from '../device-error.ts';
import type { HostScratch } from '../forward/host/scratch.ts';
import { ForwardError } from '../forward/publish/forward-error.ts';
import { bindUnix, fileIdentity, removeSocketFile } from '../forward/publish/unix-path.ts';
import type { IoHandler, Poller } from '../loop.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import type { Memory } from '../sys/memory.ts';
import { AF_UNIX, accept, listen, SOCK_SEQPACKET, socket } from '../sys/socket.ts';

interface ListenerContext {
  readonly memory: Memory;
  readonly scratch: HostScratch;
  readonly poller: Poller;
}

export class BessListener implements IoHandler {
  waiting = false;
  readonly #context: ListenerContext;
  readonly #path: string;
  readonly #connected: (fd: number) => void;
  readonly #identity: string;
  readonly #descriptor: Descriptor;
  readonly #token: number;
  #closed = false;

  /** `connected` gets the peer's socket, non-blocking, which is then its own. @throws DeviceError */
  constructor(context: ListenerContext, path: string, connected: (fd: number) => void) {
    this.#context = context;
    this.#path = path;
    this.#connected = connected;
    const fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (fd < 0) throw failure(path, fd);
    this.#descriptor = new Descriptor(fd);
    try {
      // bind(2) gives the file the mode that the socket has.
      fchmodSync(fd, 0o600);
      bindUnix(context, fd, SOCK_SEQPACKET, path);
      const result = listen(fd, 1);
      if (result < 0) throw failure(path, result);
      this.#token = context.poller.add(fd, EPOLLIN, this);
      if (this.#token < 0) throw failure(path, this.#token);
    } catch (error) {
      this.#descriptor.close();
      throw error instanceof ForwardError ? new DeviceError('link', error.errno, error.message) : error;
    }
    this.#identity = fileIdentity(path);
  }

  onIo(): void {
    const { memory, scratch } = this.#context;
    const fd = accept(memory, this.#descriptor.fd, scratch.sockaddr);
    // One that has gone again; the next one may stay.
    if (fd < 0) return;
    this.close();
    this.#connected(fd);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#context.poller.remove(this.#token);
    this.#descriptor.close();
    removeSocketFile(this.#path, this.#identity);
  }
}

function failure(path: string, result: number): DeviceError {
  return new DeviceError('link', -result, `unix:${path}: ${getSystemErrorName(result)}`);
}
