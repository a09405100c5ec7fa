/** Clocks that JavaScript does not have. */
import { errno, libcFunction } from './libc.ts';
import type { Memory } from './memory.ts';

const CLOCK_THREAD_CPUTIME_ID = 3;
/** struct timespec: seconds and nanoseconds, 64 bits each. */
export const TIMESPEC_SIZE = 16;

const cClockGettime = libcFunction('clock_gettime', 'int', ['int', 'uintptr_t']);

/** CPU time that the calling thread has used, into the timespec at `at` of `memory`. 0 or `-errno`; a system call. */
export function readThreadCpuTime(memory: Memory, at: number): number {
  return cClockGettime(CLOCK_THREAD_CPUTIME_ID, memory.address(at, TIMESPEC_SIZE)) < 0 ? -errno() : 0;
}
