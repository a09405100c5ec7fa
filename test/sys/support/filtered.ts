/**
 * A process under the system call filter that one of its threads has entered. `filtered.js THREAD NUMBER ARGUMENT… [/ NUMBER …]…`: THREAD
 * makes the calls; prints the errno of each (0: it succeeded), and `alive` when it still can. An argument `self` is the
 * process, `parent` its parent.
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

type Call = [number: number, a: number, b: number, c: number, d: number];

function make(call: Call): void {
  const result = syscall(...call);
  process.stdout.write(`errno ${result < 0 ? koffi.errno() : 0}\n`);
}

function readCall(text: string): Call {
  const [number = 0, a = 0, b = 0, c = 0, d = 0] = text
    .trim()
    .split(' ')
    .map((word) => (word === 'self' ? process.pid : word === 'parent' ? process.ppid : Number(word)));
  return [number, a, b, c, d];
}

async function main(): Promise<void> {
  const [thread = '', ...words] = process.argv.slice(2);
  const calls = words.join(' ').split('/').map(readCall);
  const [call = readCall('')] = calls;
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

  if (thread === 'main') calls.forEach(make);
  else if (thread === 'pool') {
    await new Promise((resolve) => syscall.async(...call, resolve));
  } else {
    const worker =
      thread === 'early' ? early : new Worker(new URL(import.meta.url), { workerData: 'attempt' });
    if (thread === 'late') await new Promise((resolve) => worker.once('message', resolve));
    worker.postMessage(call);
    await new Promise((resolve) => worker.once('message', resolve));
  }
  process.stdout.write('alive\n', () => process.exit(0));
}

if (isMainThread) await main();
else if (workerData === 'filter') {
  const memory = new Memory(new ArrayBuffer(SECCOMP_SCRATCH_BYTES));
  parentPort?.postMessage(enterSeccomp(memory, 0, { unixSockets: false, vsockets: false }));
  // Stays: a thread that ends takes nothing back, but the count of threads is then the same in every run.
  parentPort?.once('message', () => undefined);
} else {
  parentPort?.once('message', (call: Call) => {
    syscall(...call);
    parentPort?.postMessage('done');
  });
  parentPort?.postMessage('up');
}
