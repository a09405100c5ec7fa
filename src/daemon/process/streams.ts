/** The descriptors of a control connection, as streams. */
import { Socket } from 'node:net';
import { duplicate, setNonBlocking } from '../../sys/io.ts';
import { isHungUp } from '../../sys/poll.ts';
import type { ChannelStreams } from '../channel.ts';
import type { Passing } from '../control-server.ts';
import { PassingInput } from './passing-input.ts';

export interface ControlStreams extends ChannelStreams {
  passing?: Passing;
  /** Nobody reads what we write any more. */
  isDeaf: () => boolean;
}

/** A pair of pipes, or one stream socket twice. */
export function pairOf(readFd: number, writeFd: number): ControlStreams {
  // No program that we start has them.
  for (const fd of [readFd, writeFd]) setNonBlocking(fd);
  if (readFd === writeFd) {
    const both = new Socket({ fd: readFd, readable: true, writable: true, allowHalfOpen: true });
    return { input: both, output: both, isDeaf: () => both.destroyed || isHungUp(readFd) };
  }
  const input = new Socket({ fd: readFd, readable: true, writable: false });
  const output = new Socket({ fd: writeFd, readable: false, writable: true });
  return { input, output, isDeaf: () => output.destroyed || isHungUp(writeFd) };
}

/** A unix stream socket, by which descriptors can be passed. */
export function socketOf(fd: number): ControlStreams {
  const output = new Socket({ fd: duplicate(fd), readable: false, writable: true });
  setNonBlocking(fd);
  const input = new PassingInput(fd);
  return { input, output, passing: input, isDeaf: () => output.destroyed || isHungUp(fd) };
}
