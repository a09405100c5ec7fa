/**
 * A process under the system call filter that one of its threads has entered. `filtered.js THREAD NUMBER`: THREAD makes
 * the call NUMBER; prints `alive` when it still can.
 *
 * THREAD: main; early (a worker that is there before the filter); late (one made after it); pool (libuv).
 */
import { readdirSync, readFileSync, stat } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { Memory } from '../../../src/sys/memory.ts';
import { enterSeccomp, SECCOMP_SCRATCH_BYTES } from '../../../src/sys/seccomp.ts';

const library = koffi.load(null);
const syscall = library.func('long syscall(long, ulong, ulong, ulong, ulong)');

async function main(): Promise<void> {
  const [thread = '', text = ''] = process.argv.slice(2);
  const number = Number(text);
  const early = new Worker(new URL(import.meta.url), { workerData: 'attempt' });
  await new Promise((resolve) => early.once('message', resolve));
  await Promise.all([1, 2, 3, 4].map(() => new Promise((resolve) => stat('/', resolve))));
  const filter = new Worker(new URL(import.meta.url), { workerData: 'filter' });
  const entered = await new Promise((resolve) => filter.once('message', resolve));
  if (entered !== 0) throw new Error(`no filter: ${String(entered)}`);

  const threads = readdirSync('/proc/self/task').map((task) =>
    readFileSync(`/proc/self/task/${task}/status`, 'latin1'),
  );
  const wrong = threads.filter((text) => !/^NoNewPrivs:\t1$/m.test(text) || !/^Seccomp:\t2$/m.test(text));
  process.stdout.write(`${threads.length} threads, ${wrong.length} without filter\n`);

  if (thread === 'main') syscall(number, 0, 0, 0, 0);
  else if (thread === 'pool') {
    await new Promise((resolve) => syscall.async(number, 0, 0, 0, 0, resolve));
  } else {
    const worker =
      thread === 'early' ? early : new Worker(new URL(import.meta.url), { workerData: 'attempt' });
    if (thread === 'late') await new Promise((resolve) => worker.once('message', resolve));
    worker.postMessage(number);
    await new Promise((resolve) => worker.once('message', resolve));
  }
  process.stdout.write('alive\n', () => process.exit(0));
}

if (isMainThread) await main();
else if (workerData === 'filter') {
  const memory = new Memory(new ArrayBuffer(SECCOMP_SCRATCH_BYTES));
  parentPort?.postMessage(enterSeccomp(memory, 0));
  // Stays: a thread that ends takes nothing back, but the count of threads is then the same in every run.
  parentPort?.once('message', () => undefined);
} else {
  parentPort?.once('message', (number: number) => {
    syscall(number, 0, 0, 0, 0);
    parentPort?.postMessage('done');
  });
  parentPort?.postMessage('up');
}
