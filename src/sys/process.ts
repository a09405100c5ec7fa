/** What a process is to the system: how many files it may open, what happens when its parent dies. */
import { addressOf, errno, libcFunction } from './libc.ts';

const PR_SET_PDEATHSIG = 1;
const RLIMIT_NOFILE = 7;

const cPrctl = libcFunction('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']);
const cSetrlimit = libcFunction('setrlimit', 'int', ['int', 'uintptr_t']);

/** struct rlimit: two 64-bit numbers. A page, so that V8 keeps it off its moving heap. */
const rlimit = new DataView(new ArrayBuffer(4096));

/**
 * Have the kernel send the process `signal` when its parent ends (prctl(2)). The wish is the calling thread's and holds as
 * long as that thread lives; the signal is for the whole process. 0 or `-errno`.
 */
export function setParentDeathSignal(signal: number): number {
  return cPrctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0 ? -errno() : 0;
}

/** Set the soft and the hard limit of open files. 0 or `-errno`. */
export function setOpenFilesLimit(files: number): number {
  rlimit.setBigUint64(0, BigInt(files), true);
  rlimit.setBigUint64(8, BigInt(files), true);
  return cSetrlimit(RLIMIT_NOFILE, addressOf(rlimit.buffer)) < 0 ? -errno() : 0;
}
