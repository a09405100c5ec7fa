/**
 * Stands in for the data-plane thread: blocks in a foreign call as that does, and answers each command with an event. The
 * name of a watched descriptor says what it shall do: `throw`, `leave`, or anything else for an `fdEvent`.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { Command, EngineOptions, Event } from '../../../src/engine/messages.ts';
import { addressOf, libcFunction } from '../../../src/sys/libc.ts';

const eventfd = libcFunction('eventfd', 'int', ['uint', 'int']);
const poll = libcFunction('poll', 'int', ['uintptr_t', 'ulong', 'int']);
const read = libcFunction('read', 'long', ['int', 'uintptr_t', 'size_t']);

const EFD_NONBLOCK = 0o4000;
const port = parentPort as MessagePort;
const stop = new Int32Array((workerData as EngineOptions).stop);
const scratch = new DataView(new ArrayBuffer(4096));
const address = addressOf(scratch.buffer);

function post(event: Event): void {
  port.postMessage(event);
}

function main(): void {
  const wakeFd = eventfd(0, EFD_NONBLOCK);
  Atomics.store(stop, 1, wakeFd + 1);
  post({ type: 'started', wakeFd });
  while (Atomics.load(stop, 0) === 0) {
    scratch.setInt32(0, wakeFd, true);
    scratch.setInt32(4, 1, true);
    poll(address, 1, -1);
    read(wakeFd, address + 64, 8);
    for (;;) {
      const message = receiveMessageOnPort(port) as { message: Command } | undefined;
      if (message === undefined) break;
      const command = message.message;
      if (command.type !== 'watchFd') continue;
      if (command.name === 'throw') throw new Error('the stub throws');
      if (command.name === 'leave') return;
      post({ type: 'fdEvent', fd: command.fd, name: command.name });
    }
  }
}

main();
