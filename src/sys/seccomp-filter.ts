/**
 * The system call filter as a classic BPF program: what a process that only moves packets never calls again, and whoever
 * has taken it over would like to, kills it.
 *
 * Read: seccomp(2), Linux Documentation/userspace-api/seccomp_filter.rst, libseccomp's notes on x32.
 *
 * Everything that is not named is allowed: the runtime, the C library and the dynamic linker differ too much between
 * systems for a list of what they need. A call by another ABI of the processor (i386, x32, 32-bit ARM) kills as well, or
 * its numbers would be a way around. Allowed calls cost next to nothing: the kernel (5.11) works out once which numbers
 * are allowed whatever their arguments, and does not run the program for them.
 *
 * Three calls are judged by their arguments, because threads are still made:
 *  - prctl may name the calling thread or a piece of memory (newer runtimes and C libraries do), nothing else;
 *  - clone makes threads, but no namespaces;
 *  - clone3 has its flags in memory, out of a filter's sight: it "does not exist", upon which C libraries use clone.
 */

/** [x86-64, arm64], from asm/unistd_64.h and asm-generic/unistd.h. */
const refused: Readonly<Record<string, readonly [x64: number, arm64: number]>> = {
  // Other programs and other processes.
  execve: [59, 221],
  execveat: [322, 281],
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  pidfd_open: [434, 434],
  pidfd_getfd: [438, 438],
  pidfd_send_signal: [424, 424],
  // Namespaces and mounts.
  setns: [308, 268],
  unshare: [272, 97],
  chroot: [161, 51],
  pivot_root: [155, 41],
  mount: [165, 40],
  umount2: [166, 39],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  move_mount: [429, 429],
  open_tree: [428, 428],
  mount_setattr: [442, 442],
  // Files by handle, past every directory.
  open_by_handle_at: [304, 265],
  name_to_handle_at: [303, 264],
  lookup_dcookie: [212, 18],
  // The kernel itself.
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  reboot: [169, 142],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  // Keys.
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
};
const judged = { prctl: [157, 167], clone: [56, 220], clone3: [435, 435] } as const;

const AUDIT_ARCH_X86_64 = 0xc000003e;
const AUDIT_ARCH_AARCH64 = 0xc00000b7;
/** Bit in the numbers of x32 calls, which share the audit architecture of x86-64. */
const X32_SYSCALL_BIT = 0x40000000;

const PR_SET_NAME = 15;
const PR_SET_VMA = 0x53564d41;
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (clone(2)). */
const CLONE_NEW_ANY = 0x7e020000;
const ENOSYS = 38;

/** struct seccomp_data; of an argument, which has 64 bits, the lower half (little-endian). */
const DATA_NR = 0;
const DATA_ARCH = 4;
const DATA_ARG0 = 16;

export const SECCOMP_RET_KILL_PROCESS = 0x80000000;
export const SECCOMP_RET_ALLOW = 0x7fff0000;
export const SECCOMP_RET_ERRNO = 0x00050000;

/** BPF_LD | BPF_W | BPF_ABS and so on (linux/filter.h). */
export const BPF_LOAD = 0x20;
export const BPF_JUMP_EQUAL = 0x15;
export const BPF_JUMP_GREATER_EQUAL = 0x35;
export const BPF_JUMP_SET = 0x45;
export const BPF_RETURN = 0x06;
/** Bytes of struct sock_filter: code (16 bits), jt, jf (8 each), k (32). */
export const BPF_INSTRUCTION_BYTES = 8;

type Label = 'native' | 'allow' | 'kill' | 'missing' | 'prctl' | 'clone';

/** Instructions with jumps to labels; a jump that is not taken goes on to the next instruction. */
class Assembler {
  readonly #code: { code: number; k: number; to: Label | '' }[] = [];
  readonly #labels = new Map<Label, number>();

  load(offset: number): void {
    this.#code.push({ code: BPF_LOAD, k: offset, to: '' });
  }

  jump(code: number, k: number, to: Label): void {
    this.#code.push({ code, k, to });
  }

  label(name: Label): void {
    this.#labels.set(name, this.#code.length);
  }

  end(value: number): void {
    this.#code.push({ code: BPF_RETURN, k: value, to: '' });
  }

  bytes(): Uint8Array {
    const view = new DataView(new ArrayBuffer(this.#code.length * BPF_INSTRUCTION_BYTES));
    this.#code.forEach(({ code, k, to }, index) => {
      const at = index * BPF_INSTRUCTION_BYTES;
      const distance = to === '' ? 0 : (this.#labels.get(to) ?? -1) - index - 1;
      if (distance < 0 || distance > 255) throw new RangeError(`seccomp: no jump from ${index} to ${to}`);
      view.setUint16(at, code, true);
      view.setUint8(at + 2, distance);
      view.setUint32(at + 4, k, true);
    });
    return new Uint8Array(view.buffer);
  }
}

/** Numbers of the calls that kill, by name. */
export function refusedCalls(arch: string): ReadonlyMap<string, number> {
  const column = arch === 'arm64' ? 1 : 0;
  return new Map(Object.entries(refused).map(([name, numbers]) => [name, numbers[column]]));
}

/** The program as an array of struct sock_filter; undefined for a processor whose numbers are not known here. */
export function seccompProgram(arch: string): Uint8Array | undefined {
  if (arch !== 'x64' && arch !== 'arm64') return undefined;
  const column = arch === 'arm64' ? 1 : 0;
  const program = new Assembler();
  program.load(DATA_ARCH);
  // There is no "jump if not equal".
  program.jump(BPF_JUMP_EQUAL, arch === 'x64' ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64, 'native');
  program.end(SECCOMP_RET_KILL_PROCESS);

  program.label('native');
  program.load(DATA_NR);
  if (arch === 'x64') program.jump(BPF_JUMP_GREATER_EQUAL, X32_SYSCALL_BIT, 'kill');
  for (const number of refusedCalls(arch).values()) program.jump(BPF_JUMP_EQUAL, number, 'kill');
  program.jump(BPF_JUMP_EQUAL, judged.prctl[column], 'prctl');
  program.jump(BPF_JUMP_EQUAL, judged.clone[column], 'clone');
  program.jump(BPF_JUMP_EQUAL, judged.clone3[column], 'missing');
  program.end(SECCOMP_RET_ALLOW);

  program.label('prctl');
  program.load(DATA_ARG0);
  program.jump(BPF_JUMP_EQUAL, PR_SET_NAME, 'allow');
  program.jump(BPF_JUMP_EQUAL, PR_SET_VMA, 'allow');
  program.end(SECCOMP_RET_KILL_PROCESS);

  program.label('clone');
  program.load(DATA_ARG0);
  program.jump(BPF_JUMP_SET, CLONE_NEW_ANY, 'kill');
  program.label('allow');
  program.end(SECCOMP_RET_ALLOW);
  program.label('missing');
  program.end(SECCOMP_RET_ERRNO | ENOSYS);
  program.label('kill');
  program.end(SECCOMP_RET_KILL_PROCESS);
  return program.bytes();
}
