/** Taking a descriptor over from another process: pidfd_open(2) and pidfd_getfd(2). */
import { errno, libcFunction } from '../../src/sys/libc.ts';

const cSyscall3 = libcFunction('syscall', 'long', ['long', 'int', 'int', 'uint']);
const cClose = libcFunction('close', 'int', ['int']);

// The same numbers on every architecture: both came after the unification of the tables.
const SYS_pidfd_open = 434;
const SYS_pidfd_getfd = 438;

/**
 * A duplicate, in this process, of descriptor `fd` of process `pid`, or `-errno` (EPERM unless ptrace access to it is
 * allowed: the owner of a user namespace has it over the processes inside).
 */
export function takeDescriptor(pid: number, fd: number): number {
  const pidfd = cSyscall3(SYS_pidfd_open, pid, 0, 0);
  if (pidfd < 0) return -errno();
  const taken = cSyscall3(SYS_pidfd_getfd, pidfd, fd, 0);
  const result = taken < 0 ? -errno() : taken;
  cClose(pidfd);
  return result;
}
