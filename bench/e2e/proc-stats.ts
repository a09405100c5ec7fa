/**
 * What `/proc` says about a stack process (with its descendants) and about a guest interface.
 * Needs no entry into a namespace: `/proc/PID/net/dev` shows the namespace of PID.
 */
import { readdirSync, readFileSync } from 'node:fs';

/** USER_HZ: the unit of utime and stime in `/proc/PID/stat` (proc(5)); 100 on every Linux that Node supports. */
const TICKS_PER_SECOND = 100;

/** Resident memory of a process tree, in KiB. */
export interface Memory {
  /** Rss: all resident pages, program text shared with others included. */
  readonly resident: number;
  /** VmHWM: the most that was ever resident. */
  readonly peak: number;
  /** Private_Dirty: what would be given back if the process ended. */
  readonly privateDirty: number;
}

/** Counters of one interface. */
export interface InterfaceCounters {
  readonly rxBytes: number;
  readonly rxPackets: number;
  readonly txBytes: number;
  readonly txPackets: number;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** `pid` and all its descendants that exist now. */
export function processTree(pid: number): number[] {
  const found: number[] = [];
  const queue = [pid];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    found.push(next);
    for (const task of tasks(next)) {
      for (const child of read(`/proc/${next}/task/${task}/children`).split(' ')) {
        if (child !== '') queue.push(Number(child));
      }
    }
  }
  return found;
}

function tasks(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** User plus system time of the tree of `pid` so far, in seconds (all threads; resolution 10 ms). */
export function cpuSeconds(pid: number): number {
  let ticks = 0;
  for (const member of processTree(pid)) {
    // The command name may hold spaces: fields are counted from after its closing bracket, where field 3 begins.
    const stat = read(`/proc/${member}/stat`);
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  }
  return ticks / TICKS_PER_SECOND;
}

/**
 * The same to the nanosecond, for what costs little: `/proc/PID/task/TID/schedstat`. A thread that has ended is not in it.
 */
export function cpuMilliseconds(pid: number): number {
  let nanoseconds = 0;
  for (const member of processTree(pid)) {
    for (const task of tasks(member))
      nanoseconds += Number(read(`/proc/${member}/task/${task}/schedstat`).split(' ')[0] ?? 0);
  }
  return nanoseconds / 1e6;
}

/** Memory of the tree of `pid`. */
export function memory(pid: number): Memory {
  let resident = 0;
  let privateDirty = 0;
  let peak = 0;
  for (const member of processTree(pid)) {
    const rollup = read(`/proc/${member}/smaps_rollup`);
    peak += field(read(`/proc/${member}/status`), 'VmHWM');
    resident += field(rollup, 'Rss');
    privateDirty += field(rollup, 'Private_Dirty');
  }
  return { resident, peak, privateDirty };
}

function field(text: string, name: string): number {
  const match = new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text);
  return match === null ? 0 : Number(match[1]);
}

/** Descriptors that the tree of `pid` has open. */
export function openDescriptors(pid: number): number {
  let count = 0;
  for (const member of processTree(pid)) {
    try {
      count += readdirSync(`/proc/${member}/fd`).length;
    } catch {
      // The process ended between the two looks.
    }
  }
  return count;
}

/** Counters of `name` in the network namespace of `pid`, or undefined when there is no such interface. */
export function interfaceCounters(pid: number, name: string): InterfaceCounters | undefined {
  for (const line of read(`/proc/${pid}/net/dev`).split('\n')) {
    const [device, rest] = line.split(':');
    if (device?.trim() !== name || rest === undefined) continue;
    const n = rest.trim().split(/\s+/).map(Number);
    return { rxBytes: n[0] ?? 0, rxPackets: n[1] ?? 0, txBytes: n[8] ?? 0, txPackets: n[9] ?? 0 };
  }
  return undefined;
}

/** True when the network namespace of `pid` has a default route (IPv4). */
export function hasDefaultRoute(pid: number): boolean {
  return read(`/proc/${pid}/net/route`)
    .split('\n')
    .some((line) => line.split('\t')[1] === '00000000');
}
