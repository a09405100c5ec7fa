/** What a process is to the system: its program, how many files it may open, what happens when its parent dies. */
import { addressOf, errno, libcFunction } from './libc.ts';

const PR_SET_PDEATHSIG = 1;
const RLIMIT_NOFILE = 7;
const F_SETFD = 2;
const SIG_DFL = 0;
const SIGPIPE = 13;
const SIGXFSZ = 25;

const cPrctl = libcFunction('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']);
const cWaitpid = libcFunction('waitpid', 'int', ['int', 'uintptr_t', 'int']);
const cExecve = libcFunction('execve', 'int', ['str', 'const char **', 'const char **']);
const cFcntl = libcFunction('fcntl', 'int', ['int', 'int', 'int']);
const cSignal = libcFunction('signal', 'uintptr_t', ['int', 'uintptr_t']);
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

/** Wait for the end of a child of ours that is about to come; 0 or `-errno`. */
export function waitForChild(pid: number): number {
  return cWaitpid(pid, 0, 0) < 0 ? -errno() : 0;
}

/**
 * Become another program (execve(2)), which has `descriptors`, and all signals that the runtime ignores at their default.
 * Returns `-errno`.
 */
export function becomeProgram(
  path: string,
  args: readonly string[],
  descriptors: readonly number[],
  environment: Readonly<Record<string, string | undefined>>,
): number {
  for (const signal of [SIGPIPE, SIGXFSZ]) cSignal(signal, SIG_DFL);
  // The runtime has all of them closed on exec.
  for (const fd of descriptors) cFcntl(fd, F_SETFD, 0);
  const variables = Object.entries(environment).map(([name, value = '']) => `${name}=${value}`);
  return cExecve(path, [...args, null], [...variables, null]) < 0 ? -errno() : 0;
}
