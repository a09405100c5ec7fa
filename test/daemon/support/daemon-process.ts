/** A `tslirp daemon`, and the raw peer that has started it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { socketPair } from '../../embed/support/back-to-back.ts';
import { programPath } from '../../support/program-path.ts';
import { RawPeer } from './raw-peer.ts';

export type Form = 'pair' | 'socket';

export class DaemonProcess {
  readonly child: ChildProcess;
  readonly peer: RawPeer;
  /** Our end of the control socket. */
  readonly fd: number;
  readonly #sockets: Socket[];
  readonly #stderr: Promise<string>;
  readonly #exit: Promise<unknown[]>;

  constructor(form: Form, args: readonly string[] = [], links: readonly number[] = []) {
    const [ours, theirs] = socketPair();
    const [oursToo, theirsToo] = socketPair();
    const words =
      form === 'socket' ? ['--control-fd', '3'] : ['--control-read-fd', '3', '--control-write-fd', '4'];
    this.child = spawn(programPath('tslirp'), ['daemon', ...words, ...args], {
      stdio: ['ignore', 'ignore', 'pipe', theirs, theirsToo, ...links],
    });
    for (const fd of [theirs, theirsToo]) closeSync(fd);
    this.fd = ours;
    const first = new Socket({ fd: ours, readable: true, writable: true, allowHalfOpen: true });
    const second = new Socket({ fd: oursToo, readable: true, writable: true, allowHalfOpen: true });
    this.#sockets = [first, second];
    this.peer = form === 'socket' ? new RawPeer(first, first) : new RawPeer(second, first);
    this.#stderr = text(this.child.stderr as NodeJS.ReadableStream);
    this.#exit = once(this.child, 'exit');
  }

  /** Exit status, or the signal's name. */
  async exit(): Promise<number | string> {
    const [code, signal] = (await this.#exit) as [number | null, string | null];
    for (const socket of this.#sockets) socket.destroy();
    return code ?? signal ?? '';
  }

  stderr(): Promise<string> {
    return this.#stderr;
  }

  /** As if we were gone. */
  leave(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** What its descriptors lead to. */
  descriptors(): string[] {
    const directory = `/proc/${this.child.pid}/fd`;
    return readdirSync(directory).flatMap((fd) => {
      try {
        return [readlinkSync(`${directory}/${fd}`)];
      } catch {
        return [];
      }
    });
  }
}
