/**
 * The system call filter as a classic BPF program: what a process that only moves packets never calls again, and whoever
 * has taken it over would like to, kills it or is refused.
 *
 * Read: seccomp(2), Linux Documentation/userspace-api/seccomp_filter.rst, libseccomp's notes on x32.
 *
 * Everything that is not named is allowed: the runtime, the C library and the dynamic linker differ too much between
 * systems for a list of what they need. A call by another ABI of the processor (i386, x32, 32-bit ARM) kills as well, or
 * its numbers would be a way around. Allowed calls cost next to nothing: the kernel (5.11) works out once which numbers
 * are allowed whatever their arguments, and does not run the program for them.
 *
 * Judged by their arguments, because they are still made:
 *  - prctl may name the calling thread or a piece of memory (newer runtimes and C libraries do), nothing else;
 *  - clone makes threads, but no namespaces;
 *  - socket makes those of IP and NETLINK_ROUTE (name look-ups ask it for addresses), and unix sockets or
 *    those of vsock(7) if a forward or a link leads to one; socketpair makes stream sockets, which cannot be connected anew;
 *  - kill, tgkill and prlimit64 are for ourselves; fcntl and ioctl name nobody else who would get a signal;
 *  - ioctl puts nothing into a terminal's input: the terminal may be the user's, and what is read from it his shell's.
 *
 * Some get an error and live, because a C library or a runtime may try them and go on without: io_uring does not exist
 * (it does what the filter would not see), nor does clone3, whose flags are in memory, out of a filter's sight, upon which
 * C libraries use clone; other processes and their memory may not be touched.
 */

type Numbers = Readonly<Record<string, readonly [x64: number, arm64: number]>>;

/** [x86-64, arm64], from asm/unistd_64.h and asm-generic/unistd.h. */
const killing: Numbers = {
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
  // Memory, semaphores and queues shared with other processes by number or name.
  shmget: [29, 194],
  shmat: [30, 196],
  shmctl: [31, 195],
  semget: [64, 190],
  semop: [65, 193],
  semctl: [66, 191],
  semtimedop: [220, 192],
  msgget: [68, 186],
  msgsnd: [69, 189],
  msgrcv: [70, 188],
  msgctl: [71, 187],
  mq_open: [240, 180],
  mq_unlink: [241, 181],
};
/** EPERM. */
const denied: Numbers = {
  tkill: [200, 130],
  rt_sigqueueinfo: [129, 138],
  rt_tgsigqueueinfo: [297, 240],
  kcmp: [312, 272],
  process_madvise: [440, 440],
  process_mrelease: [448, 448],
  migrate_pages: [256, 238],
  move_pages: [279, 239],
  setpriority: [141, 140],
  ioprio_set: [251, 30],
  sched_setparam: [142, 118],
  sched_setscheduler: [144, 119],
  sched_setaffinity: [203, 122],
  sched_setattr: [314, 274],
};
/** ENOSYS. */
const missing: Numbers = {
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  clone3: [435, 435],
};
/** The commonest first: each looks through what is before it. */
const judged = {
  socket: [41, 198],
  ioctl: [16, 29],
  fcntl: [72, 25],
  socketpair: [53, 199],
  clone: [56, 220],
  prctl: [157, 167],
  kill: [62, 129],
  tgkill: [234, 131],
  prlimit64: [302, 261],
} as const satisfies Numbers;

const AUDIT_ARCH_X86_64 = 0xc000003e;
const AUDIT_ARCH_AARCH64 = 0xc00000b7;
/** Bit in the numbers of x32 calls, which share the audit architecture of x86-64. */
const X32_SYSCALL_BIT = 0x40000000;

const PR_SET_NAME = 15;
const PR_SET_VMA = 0x53564d41;
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (clone(2)). */
const CLONE_NEW_ANY = 0x7e020000;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const AF_NETLINK = 16;
const AF_VSOCK = 40;
const NETLINK_ROUTE = 0;
/** SOCK_STREAM, alone and with SOCK_NONBLOCK and SOCK_CLOEXEC. */
const STREAM_TYPES = [0x1, 0x80001, 0x801, 0x80801] as const;
/** F_SETOWN, F_SETSIG, F_SETOWN_EX (fcntl(2)). */
const SIGNAL_FCNTLS = [8, 10, 15] as const;
/** TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD; FIOSETOWN, SIOCSPGRP (ioctl_tty(2), asm/sockios.h). The kernel looks at 32 bits. */
const HOSTILE_IOCTLS = [0x5412, 0x541c, 0x541d, 0x5423, 0x8901, 0x8902] as const;
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** struct seccomp_data; of an argument, which has 64 bits, the lower half (little-endian). */
const DATA_NR = 0;
const DATA_ARCH = 4;
const DATA_ARG0 = 16;
const DATA_ARG1 = 24;
const DATA_ARG2 = 32;

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

type Label = 'native' | 'allow' | 'end' | 'missing' | 'denied' | keyof typeof judged | 'netlink';

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

function numbersOf(calls: Numbers, arch: string): ReadonlyMap<string, number> {
  const column = arch === 'arm64' ? 1 : 0;
  return new Map(Object.entries(calls).map(([name, numbers]) => [name, numbers[column]]));
}

/** What becomes of a call, whatever its arguments. */
export interface FilteredCalls {
  kill: ReadonlyMap<string, number>;
  denied: ReadonlyMap<string, number>;
  missing: ReadonlyMap<string, number>;
  /** By their arguments. */
  judged: ReadonlyMap<string, number>;
}

/** Numbers of the calls that are not simply allowed, by name. */
export function filteredCalls(arch: string): FilteredCalls {
  return {
    kill: numbersOf(killing, arch),
    denied: numbersOf(denied, arch),
    missing: numbersOf(missing, arch),
    judged: numbersOf(judged, arch),
  };
}

export interface FilterOptions {
  /** The process itself. */
  self: number;
  /** Unix sockets are made. */
  unixSockets: boolean;
  /** Sockets between virtual machines are (vsock(7)). */
  vsockets: boolean;
}

/** The program as an array of struct sock_filter; undefined for a processor whose numbers are not known here. */
export function seccompProgram(arch: string, options: FilterOptions): Uint8Array | undefined {
  if (arch !== 'x64' && arch !== 'arm64') return undefined;
  const calls = filteredCalls(arch);
  const program = new Assembler();
  program.load(DATA_ARCH);
  // There is no "jump if not equal".
  program.jump(BPF_JUMP_EQUAL, arch === 'x64' ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64, 'native');
  program.end(SECCOMP_RET_KILL_PROCESS);

  program.label('native');
  program.load(DATA_NR);
  if (arch === 'x64') program.jump(BPF_JUMP_GREATER_EQUAL, X32_SYSCALL_BIT, 'end');
  for (const [name, number] of calls.judged) program.jump(BPF_JUMP_EQUAL, number, name as Label);
  for (const number of calls.kill.values()) program.jump(BPF_JUMP_EQUAL, number, 'end');
  for (const number of calls.denied.values()) program.jump(BPF_JUMP_EQUAL, number, 'denied');
  for (const number of calls.missing.values()) program.jump(BPF_JUMP_EQUAL, number, 'missing');
  program.end(SECCOMP_RET_ALLOW);

  judgeArguments(program, options);

  program.label('allow');
  program.end(SECCOMP_RET_ALLOW);
  program.label('missing');
  program.end(SECCOMP_RET_ERRNO | ENOSYS);
  program.label('denied');
  program.end(SECCOMP_RET_ERRNO | EPERM);
  program.label('end');
  program.end(SECCOMP_RET_KILL_PROCESS);
  return program.bytes();
}

/** One block for each call that is judged; it ends in a verdict or jumps to one. */
function judgeArguments(program: Assembler, { self, unixSockets, vsockets }: FilterOptions): void {
  const among = (
    call: Label,
    argument: number,
    values: readonly number[],
    then: Label,
    otherwise: number,
  ) => {
    program.label(call);
    program.load(argument);
    for (const value of values) program.jump(BPF_JUMP_EQUAL, value, then);
    program.end(otherwise);
  };
  const refused = SECCOMP_RET_ERRNO | EPERM;
  const noFamily = SECCOMP_RET_ERRNO | EAFNOSUPPORT;

  program.label('socket');
  program.load(DATA_ARG0);
  for (const family of [AF_INET, AF_INET6]) program.jump(BPF_JUMP_EQUAL, family, 'allow');
  if (unixSockets) program.jump(BPF_JUMP_EQUAL, AF_UNIX, 'allow');
  if (vsockets) program.jump(BPF_JUMP_EQUAL, AF_VSOCK, 'allow');
  program.jump(BPF_JUMP_EQUAL, AF_NETLINK, 'netlink');
  program.end(noFamily);
  among('netlink', DATA_ARG2, [NETLINK_ROUTE], 'allow', noFamily);
  among('socketpair', DATA_ARG1, STREAM_TYPES, 'allow', noFamily);
  among('ioctl', DATA_ARG1, HOSTILE_IOCTLS, 'denied', SECCOMP_RET_ALLOW);
  among('fcntl', DATA_ARG1, SIGNAL_FCNTLS, 'denied', SECCOMP_RET_ALLOW);
  among('kill', DATA_ARG0, [self], 'allow', refused);
  among('tgkill', DATA_ARG0, [self], 'allow', refused);
  among('prlimit64', DATA_ARG0, [0, self], 'allow', refused);
  among('prctl', DATA_ARG0, [PR_SET_NAME, PR_SET_VMA], 'allow', SECCOMP_RET_KILL_PROCESS);

  program.label('clone');
  program.load(DATA_ARG0);
  program.jump(BPF_JUMP_SET, CLONE_NEW_ANY, 'end');
  program.end(SECCOMP_RET_ALLOW);
}
