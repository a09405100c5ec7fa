/** Opening what an option names for lines to be written to. What cannot be opened is one line. */
import { constants, lstatSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { OutputSpec } from '../config.ts';
import { errnoTextOf } from '../control/errno-text.ts';

/** The descriptor, to append to. A named pipe has to have a reader. */
export function openOutput(option: string, { path, fd }: OutputSpec): number {
  if (fd >= 0) return fd;
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NONBLOCK;
  try {
    return openSync(path, flags, 0o600);
  } catch (error) {
    const isUnread = (error as NodeJS.ErrnoException).code === 'ENXIO';
    throw cannotOpen(option, path, isUnread ? 'nobody reads this pipe' : errnoTextOf(error), error);
  }
}

export function isSocketFile(path: string): boolean {
  return path !== '' && lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true;
}

/** A stream to whoever listens at a unix socket. */
export function openSocket(option: string, path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error) => reject(cannotOpen(option, path, errnoTextOf(error), error)));
  });
}

function cannotOpen(option: string, path: string, why: string, cause: unknown): Error {
  return new Error(`option ${option}: ${path} cannot be opened: ${why}`, { cause });
}
