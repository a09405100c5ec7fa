/**
 * A descriptor of our own for what is behind one that others have too, which is never waited for and does not change theirs.
 *
 * A pipe is opened anew through /proc, which gives a description of our own that can be non-blocking without being so for
 * others; so is a terminal, which may have been stopped, as every character device. A socket (what Node's child processes
 * have) is made non-blocking by the runtime, as it is for every program in Node. Everything else (files, a pipe of another
 * user's) is written as it is.
 */
import { constants, fstatSync, openSync } from 'node:fs';
import type { Socket } from 'node:net';

/** Kept for ever: an object that is collected may close its descriptor. */
const opened: Socket[] = [];

/** To be closed by whoever gets it, if it is another one. */
export function unblocked(fd: number): number {
  try {
    const stat = fstatSync(fd);
    if (stat.isSocket()) {
      // Not loaded for everybody: it takes as long as all of ours that comes before the data plane.
      const { Socket: NetSocket } = process.getBuiltinModule('node:net');
      // Opening it is what makes it non-blocking; it is never written by way of this object.
      opened.push(new NetSocket({ fd, readable: false, writable: true }).unref());
    }
    if (!stat.isFIFO() && !stat.isCharacterDevice()) return fd;
    const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    return fd;
  }
}
