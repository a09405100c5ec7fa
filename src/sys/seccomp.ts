/**
 * Putting the system call filter in force, in every thread of the process at once.
 *
 * SECCOMP_FILTER_FLAG_TSYNC gives all threads the caller's filter and its no_new_privs, those of the runtime that never
 * run our code included; threads made later inherit both. There is no way back.
 */
import { EOPNOTSUPP, ESRCH } from './errno.ts';
import { errno, libcFunction } from './libc.ts';
import type { Memory } from './memory.ts';
import { BPF_INSTRUCTION_BYTES, type FilterOptions, seccompProgram } from './seccomp-filter.ts';

const cPrctl = libcFunction('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']);
const cSyscall = libcFunction('syscall', 'long', ['long', 'uint', 'uint', 'uintptr_t']);

const SYS_seccomp = process.arch === 'arm64' ? 277 : 317;
const PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_SET_MODE_FILTER = 1;
/**
 * TSYNC, and SPEC_ALLOW: older kernels slow every filtered process down to guard against code inside it that is not
 * trusted; there is none here.
 */
const FILTER_FLAGS = 1 | 4;

/** Bytes of struct sock_fprog: a count, and a pointer at offset 8. */
const FPROG_BYTES = 16;

/** Room that `enterSeccomp` needs. */
export const SECCOMP_SCRATCH_BYTES = 2048;

export type FilterWish = Omit<FilterOptions, 'self'>;

/** No new privileges and the filter, for all threads. `scratch` is `SECCOMP_SCRATCH_BYTES` of the arena. 0 or `-errno`. */
export function enterSeccomp(memory: Memory, scratch: number, wish: FilterWish): number {
  const program = seccompProgram(process.arch, { ...wish, self: process.pid });
  if (program === undefined) return -EOPNOTSUPP;
  const { structures } = memory;
  const fprog = structures.region(FPROG_BYTES);
  const code = memory.address(scratch, program.length);
  new Uint8Array(memory.view.buffer, scratch, program.length).set(program);
  structures.view.setUint16(fprog, program.length / BPF_INSTRUCTION_BYTES, true);
  structures.putPointer(fprog + 8, code);
  if (cPrctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) return -errno();
  const result = cSyscall(
    SYS_seccomp,
    SECCOMP_SET_MODE_FILTER,
    FILTER_FLAGS,
    structures.address(fprog, FPROG_BYTES),
  );
  // A positive number is a thread that has a filter of its own already.
  return result === 0 ? 0 : result > 0 ? -ESRCH : -errno();
}
