/** Naming the namespaces of a guest, by process or by file. */
import { readFileSync } from 'node:fs';

/** Which network namespace to enter. */
export interface NamespaceRef {
  netPath: string;
  /** A user namespace that was named beside it, or empty. */
  userPath: string;
  /** Process that the paths belong to, or 0, and its start time as /proc tells it. */
  pid: number;
  startTime: string;
}

/** Fields of /proc/PID/stat from the third on. Throws when there is no such process. */
export function processFields(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The second field is the program's name in parentheses and may itself hold blanks and parentheses.
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Field 22, or empty when there is no such process or it is only a zombie. */
export function processStartTime(pid: number): string {
  try {
    const fields = processFields(pid);
    return fields[0] === 'Z' || fields[0] === 'X' ? '' : (fields[19] ?? '');
  } catch {
    return '';
  }
}

/**
 * What stands for the network namespace of a process: unlike its file under /proc/PID/ns, everybody may look at this one,
 * and all processes of a namespace have the same.
 */
export function processNetwork(pid: number): string {
  return `/proc/${pid}/net/dev`;
}

/** Namespaces of a running process. Throws with one line when there is none. */
export function namespaceOfProcess(pid: number, usernsPath = ''): NamespaceRef {
  const startTime = processStartTime(pid);
  if (startTime === '') throw new Error(`there is no process ${pid}`);
  return { netPath: `/proc/${pid}/ns/net`, userPath: usernsPath, pid, startTime };
}

/** Network namespace by file; a /proc/PID/ns/net path means that process. */
export function namespaceOfPath(netPath: string, usernsPath = ''): NamespaceRef {
  const match = /^\/proc\/(\d+)\/ns\/net$/.exec(netPath);
  if (match !== null) return namespaceOfProcess(Number(match[1]), usernsPath);
  return { netPath, userPath: usernsPath, pid: 0, startTime: '' };
}
