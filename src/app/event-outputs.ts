/** Where the events of the process go: `--events`, for which SIGUSR1 asks for what is there, and the files of `--out-dir`. */
import { isWanted, type OutputSpec } from '../config.ts';
import { errnoTextOf } from '../control/errno-text.ts';
import type { Log } from '../control/log.ts';
import type { EventHub } from '../expose/event-hub.ts';
import { EventStream } from '../expose/event-stream.ts';
import { OutFiles, reachedAt } from '../expose/out-files.ts';
import { SocketOutput } from '../expose/socket-output.ts';
import { LineOutput } from './line-output.ts';
import { isSocketFile, openOutput, openSocket } from './open-output.ts';

/** Rejects with one line. */
export async function tellEvents(hub: EventHub, output: OutputSpec): Promise<void> {
  if (!isWanted(output)) return;
  const stream = isSocketFile(output.path)
    ? await toSocket(hub, output.path)
    : toDescriptor(hub, openOutput('--events', output));
  process.on('SIGUSR1', () => stream.snapshot());
}

async function toSocket(hub: EventHub, path: string): Promise<EventStream> {
  const socket = await openSocket('--events', path);
  const output = new SocketOutput(socket);
  const stream = new EventStream(hub, output);
  output.taken = () => stream.taken();
  // Whoever reads has gone, and nothing else happens.
  socket.on('error', () => socket.destroy());
  socket.on('close', () => stream.close());
  socket.resume().unref();
  return stream;
}

function toDescriptor(hub: EventHub, fd: number): EventStream {
  // The stream says when it is too much.
  const output = new LineOutput(fd, Number.POSITIVE_INFINITY, () => stream.taken());
  const stream: EventStream = new EventStream(hub, output);
  return stream;
}

/** @throws Error with one line */
export function keepFiles(hub: EventHub, directory: string, log: Log): void {
  if (directory === '') return;
  const { CONTAINER_IP = '' } = process.env;
  try {
    const files = new OutFiles(hub, {
      ...{ directory, address: reachedAt('127.0.0.1', CONTAINER_IP) },
      ...{ startedAt: Date.now(), now: Date.now },
      failed: (error) =>
        log.log('warn', 'files of --out-dir cannot be written', { reason: errnoTextOf(error) }),
    });
    process.on('exit', () => files.flush());
  } catch (error) {
    throw new Error(`option --out-dir: ${directory}: ${errnoTextOf(error)}`, { cause: error });
  }
}
