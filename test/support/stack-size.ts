/** What a process holds. */
import { readdirSync, readFileSync } from 'node:fs';

export function descriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Resident memory in MiB. */
export function memory(pid: number): number {
  const text = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
  return Number(text) / 1024;
}
