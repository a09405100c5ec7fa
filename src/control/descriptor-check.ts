/** Whether as many listeners as are asked for can be had at all, told before the first of them is opened. */
import { readFileSync } from 'node:fs';
import type { ForwardSpec } from '../config.ts';

/** Each listener takes a descriptor, and traffic needs some of its own. Throws with one line. */
export function checkDescriptors(forwards: readonly ForwardSpec[], reserve: number): void {
  const listeners = forwards.filter(({ direction }) => direction === 'local').length;
  const limit = openFilesLimit();
  if (listeners + reserve <= limit) return;
  throw new Error(
    `${listeners} local forwards need a descriptor each, and this process may have ${limit} in all (ulimit -n)`,
  );
}

/** The data plane has raised it as far as it goes. */
function openFilesLimit(): number {
  const match = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'latin1'));
  const number = Number(match?.[1]);
  return Number.isNaN(number) ? Number.POSITIVE_INFINITY : number;
}
