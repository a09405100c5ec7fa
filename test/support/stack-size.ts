/** What a process holds, and what the machine withholds from it. */
import { readdirSync, readFileSync } from 'node:fs';
import { getHeapStatistics } from 'node:v8';

export function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Resident memory in MiB. */
export function memory(pid: number): number {
  const text = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return Number(text) / 1024;
}

/** Bytes of this process in memory, but for room in this thread's own heap: 8 or 16 MB of it come and go as V8 likes. */
export function ownMemory(): number {
  const { total_physical_size, used_heap_size } = getHeapStatistics();
  return process.memoryUsage.rss() - (total_physical_size - used_heap_size);
}

/** For how long each thread has waited for a processor, in milliseconds. */
function threadWaits(pid: number): Map<string, number> {
  const tasks = `/proc/${pid}/task`;
  return new Map(
    readdirSync(tasks).map((task) => {
      const [, ns] = readFileSync(`${tasks}/${task}/schedstat`, 'latin1').split(' ');
      return [task, Number(ns) / 1e6];
    }),
  );
}

/** What is returned tells for how long, since now, the thread that waited most for a processor did, in milliseconds. */
export function processorWait(pid: number): () => number {
  const before = threadWaits(pid);
  return () => Math.max(...[...threadWaits(pid)].map(([task, ms]) => ms - (before.get(task) ?? 0)));
}
