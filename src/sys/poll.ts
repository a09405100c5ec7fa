/**
 * poll(2), for the main thread: whether a descriptor has something, and waiting for it on a thread of the runtime's pool,
 * which waits until there is something or somebody writes to `wake`.
 */
import { addressOf, type LibcFunction, libcFunction } from './libc.ts';

const cPoll = libcFunction('poll', 'int', ['uintptr_t', 'ulong', 'int']) as LibcFunction & {
  async: (
    fds: number,
    count: number,
    timeoutMs: number,
    done: (error: Error | null, n: number) => void,
  ) => void;
};

const POLLIN = 1;
const POLLERR = 8;
const POLLHUP = 16;
/** struct pollfd: descriptor, events asked for, events there are. */
const POLLFD_BYTES = 8;
/** So that V8 keeps it off its moving heap. */
const BUFFER_BYTES = 4096;

/** Nobody is at the other end any more who could read what is written there. */
export function isHungUp(fd: number): boolean {
  const view = new DataView(new ArrayBuffer(BUFFER_BYTES));
  view.setInt32(0, fd, true);
  const n = cPoll(addressOf(view.buffer), 1, 0);
  return n > 0 && (view.getInt16(6, true) & (POLLERR | POLLHUP)) !== 0;
}

/** Waits for one descriptor at a time. */
export class ReadableWait {
  readonly #view = new DataView(new ArrayBuffer(BUFFER_BYTES));

  /** `done` is called when `fd` can be read, or `wake` can. */
  wait(fd: number, wake: number, done: () => void): void {
    for (const [i, each] of [fd, wake].entries()) {
      this.#view.setInt32(i * POLLFD_BYTES, each, true);
      this.#view.setInt32(i * POLLFD_BYTES + 4, POLLIN, true);
    }
    cPoll.async(addressOf(this.#view.buffer), 2, -1, () => done());
  }
}
