/** Where the events of the process are told (`--events`); SIGUSR1 asks for what is there. */
import { isWanted, type OutputSpec } from '../config.ts';
import type { EventHub } from '../expose/event-hub.ts';
import { EventStream } from '../expose/event-stream.ts';
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
