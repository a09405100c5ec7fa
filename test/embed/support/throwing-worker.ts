/** The data plane, which throws out of its loop as soon as it is asked for flows. */

import { createRequire, syncBuiltinESMExports } from 'node:module';
import workerThreads from 'node:worker_threads';
import type { Command } from '../../../src/engine/messages.ts';

const receive = workerThreads.receiveMessageOnPort;
const load = Atomics.load;
let isDoomed = false;
workerThreads.receiveMessageOnPort = (port) => {
  const received = receive(port);
  if ((received?.message as Command | undefined)?.type === 'listFlows') isDoomed = true;
  return received;
};
syncBuiltinESMExports();
Atomics.load = ((array: Int32Array, index: number) => {
  if (isDoomed && index === 0) throw new Error('injected');
  return load(array, index);
}) as typeof Atomics.load;
createRequire(import.meta.url)('../../../bundle/worker.cjs');
