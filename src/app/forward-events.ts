/**
 * Services that an events file names (`--forward-events`): a file is followed as it grows, a pipe or a socket is read as it
 * comes. Its end withdraws nothing.
 */
import { constants, fstatSync, openSync, type Stats, statSync } from 'node:fs';
import { Socket } from 'node:net';
import type { OutputSpec } from '../config.ts';
import type { Log } from '../control/log.ts';
import { BridgeEvents } from '../expose/bridge-events.ts';
import { FollowedFile } from '../expose/followed-file.ts';
import type { ServiceSink } from '../expose/service.ts';
import { openSocket } from './open-output.ts';

const OPTION = '--forward-events';

/** `guest` is the name of the guest whose services they are. Rejects with one line. */
export async function readServices(
  { path, fd }: OutputSpec,
  guest: string,
  sink: ServiceSink,
  log: Log,
): Promise<void> {
  const events = new BridgeEvents(sink, guest, (fault) => log.log('warn', `${OPTION}: ${fault}`));
  const stat: Stats | undefined = fd >= 0 ? fstatSync(fd) : statSync(path, { throwIfNoEntry: false });
  if (stat?.isSocket() === true && fd < 0) read(await openSocket(OPTION, path), events);
  else if (stat?.isFIFO() === true || stat?.isSocket() === true)
    read(new Socket({ fd: pipe(path, fd) }), events);
  else {
    new FollowedFile(fd >= 0 ? `/proc/self/fd/${fd}` : path, {
      piece: (bytes) => events.push(bytes),
      restarted: () => events.restart(),
    });
  }
}

/** For writing as well, so that it does not end with whoever writes. */
function pipe(path: string, fd: number): number {
  return fd >= 0 ? fd : openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
}

function read(socket: Socket, events: BridgeEvents): void {
  socket.on('data', (bytes: Buffer) => events.push(bytes));
  // Then no more comes.
  socket.on('error', () => socket.destroy());
  socket.unref();
}
