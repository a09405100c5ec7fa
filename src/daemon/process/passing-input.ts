/** What is read of a unix socket by which descriptors may come, too. */
import { writeSync } from 'node:fs';
import { Readable } from 'node:stream';
import { EAGAIN, EINTR } from '../../sys/errno.ts';
import { close, eventfd } from '../../sys/io.ts';
import { PASSED_MAX, PassingSocket } from '../../sys/passing-socket.ts';
import { ReadableWait } from '../../sys/poll.ts';
import type { Passing } from '../control-server.ts';

const ONE = Buffer.from(new BigUint64Array([1n]).buffer);

export class PassingInput extends Readable implements Passing {
  readonly #socket: PassingSocket;
  readonly #wait = new ReadableWait();
  readonly #wake: number;
  /** Those that nobody has taken, in the order in which they came; -1 = taken. */
  #passed: number[] = [];
  #isWaiting = false;
  readonly #onExit = (): void => this.#wakeUp();

  /** Takes `fd` over. */
  constructor(fd: number) {
    super({ highWaterMark: 65536 });
    this.#socket = new PassingSocket(fd);
    this.#wake = eventfd();
    // A process does not end while a thread of its pool waits.
    process.on('exit', this.#onExit);
  }

  takePassed(index: number): number {
    const fd = this.#passed[index] ?? -1;
    if (fd >= 0) this.#passed[index] = -1;
    return fd;
  }

  closeRest(): void {
    for (const fd of this.#passed) if (fd >= 0) close(fd);
    this.#passed = [];
  }

  closePassed(fd: number): void {
    close(fd);
  }

  override _read(): void {
    if (this.#isWaiting || this.destroyed) return;
    this.#isWaiting = true;
    this.#wait.wait(this.#socket.fd, this.#wake, () => {
      this.#isWaiting = false;
      if (this.destroyed) this.#closeAll();
      else this.#receive();
    });
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // What is waited for stays open until then.
    if (this.#isWaiting) this.#wakeUp();
    else this.#closeAll();
    done(error);
  }

  #receive(): void {
    const n = this.#socket.receive();
    if (n < 0) {
      if (n === -EAGAIN || n === -EINTR) this._read();
      else this.push(null);
      return;
    }
    for (const fd of this.#socket.passed) {
      if (this.#passed.length < PASSED_MAX) this.#passed.push(fd);
      else close(fd);
    }
    this.push(n === 0 ? null : Buffer.from(this.#socket.content));
  }

  #wakeUp(): void {
    writeSync(this.#wake, ONE);
  }

  #closeAll(): void {
    process.off('exit', this.#onExit);
    this.closeRest();
    close(this.#wake);
    close(this.#socket.fd);
  }
}
