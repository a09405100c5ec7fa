import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import {
  BPF_INSTRUCTION_BYTES,
  BPF_JUMP_EQUAL,
  BPF_JUMP_GREATER_EQUAL,
  BPF_JUMP_SET,
  BPF_LOAD,
  BPF_RETURN,
  filteredCalls,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  SECCOMP_RET_KILL_PROCESS,
  seccompProgram,
} from '../../src/sys/seccomp-filter.ts';
import { run } from '../support/processes.ts';
import { programPath } from '../support/program-path.ts';

const ARCH = { x64: 0xc000003e, arm64: 0xc00000b7, i386: 0x40000003, arm: 0x40000028 };
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;
const SELF = 4321;

const SIGSYS = 31;

/** `ARCHITECTURE FILTER CALL…`: makes each call in a process of its own, and prints by which signal that ended. */
const EACH_CALL = `
  my ($arch, $code, @calls) = @ARGV;
  my ($prctl, $seccomp) = $arch eq 'arm64' ? (167, 277) : (157, 317);
  $code = pack('H*', $code);
  my $filter = pack('S x6 P', length($code) / 8, $code);
  for my $call (@calls) {
    my $pid = fork() // die "fork: $!";
    if (!$pid) {
      # PR_SET_NO_NEW_PRIVS, SECCOMP_SET_MODE_FILTER
      syscall($prctl, 38, 1, 0, 0, 0) == 0 && syscall($seccomp, 1, 0, $filter) == 0 or die "no filter: $!";
      syscall($call + 0, 0, 0, 0, 0);
      exit;
    }
    waitpid($pid, 0);
    print "$call ", $? & 127, "\n";
  }
`;

/** What the kernel's interpreter makes of a call (linux/filter.h). */
function judge(program: Uint8Array, arch: number, number: number, ...args: number[]): number {
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, number, true);
  data.setUint32(4, arch, true);
  args.forEach((argument, index) => {
    data.setBigInt64(16 + 8 * index, BigInt(argument), true);
  });
  let accumulator = 0;
  for (let at = 0; ; at += BPF_INSTRUCTION_BYTES) {
    const k = code.getUint32(at + 4, true);
    let taken = false;
    switch (code.getUint16(at, true)) {
      case BPF_LOAD:
        accumulator = data.getUint32(k, true);
        continue;
      case BPF_RETURN:
        return k;
      case BPF_JUMP_EQUAL:
        taken = accumulator === k;
        break;
      case BPF_JUMP_GREATER_EQUAL:
        taken = accumulator >= k;
        break;
      case BPF_JUMP_SET:
        taken = (accumulator & k) !== 0;
        break;
      default:
        assert.fail(`an instruction that is not known at ${at}`);
    }
    at += code.getUint8(taken ? at + 2 : at + 3) * BPF_INSTRUCTION_BYTES;
  }
}

function program(arch: string, unixSockets = false): Uint8Array {
  const bytes = seccompProgram(arch, { self: SELF, unixSockets, vsockets: false });
  assert.ok(bytes);
  return bytes;
}

describe('the system call filter', () => {
  for (const arch of ['x64', 'arm64'] as const) {
    const calls = filteredCalls(arch);
    const number = (name: string): number => calls.judged.get(name) as number;

    test(`${arch}: what is refused kills or fails, everything else up to 500 is allowed`, () => {
      const verdicts = new Map<number, number>();
      for (const call of calls.kill.values()) verdicts.set(call, SECCOMP_RET_KILL_PROCESS);
      for (const call of calls.denied.values()) verdicts.set(call, SECCOMP_RET_ERRNO | EPERM);
      for (const call of calls.missing.values()) verdicts.set(call, SECCOMP_RET_ERRNO | ENOSYS);
      const judged = new Set(calls.judged.values());
      assert.equal(
        verdicts.size + judged.size,
        calls.kill.size + calls.denied.size + calls.missing.size + calls.judged.size,
      );
      for (let call = 0; call < 500; call++) {
        if (judged.has(call)) continue;
        const expected = verdicts.get(call) ?? SECCOMP_RET_ALLOW;
        assert.equal(judge(program(arch), ARCH[arch], call), expected, `call ${call}`);
      }
    });

    test(`${arch}: calls of another ABI kill, whatever their number`, () => {
      for (const [name, other] of Object.entries(ARCH)) {
        if (name === arch) continue;
        for (const number of [0, 4, 11, 64, 221]) {
          assert.equal(judge(program(arch), other, number), SECCOMP_RET_KILL_PROCESS, `${name} ${number}`);
        }
      }
    });

    test(`${arch}: prctl may give names and nothing else; clone makes threads, no namespaces`, () => {
      const verdict = (name: string, argument: number): number =>
        judge(program(arch), ARCH[arch], number(name), argument);
      for (const option of [15, 0x53564d41]) assert.equal(verdict('prctl', option), SECCOMP_RET_ALLOW);
      for (const option of [0, 1, 4, 22, 24, 38, 47])
        assert.equal(verdict('prctl', option), SECCOMP_RET_KILL_PROCESS);
      // pthread_create(3) and fork(3) of glibc.
      for (const flags of [0x3d0f00, 0x1200011]) assert.equal(verdict('clone', flags), SECCOMP_RET_ALLOW);
      for (const bit of [17, 25, 26, 27, 28, 29, 30]) {
        assert.equal(verdict('clone', 0x11 | (1 << bit)), SECCOMP_RET_KILL_PROCESS, `bit ${bit}`);
      }
    });

    test(`${arch}: sockets of IP and of routes only; of unix where a forward leads to one`, () => {
      const noFamily = SECCOMP_RET_ERRNO | EAFNOSUPPORT;
      const verdict = (bytes: Uint8Array, ...args: number[]): number =>
        judge(bytes, ARCH[arch], number('socket'), ...args);
      for (const family of [2, 10]) {
        for (const type of [1, 2, 0x802, 0x80801])
          assert.equal(verdict(program(arch), family, type, 0), SECCOMP_RET_ALLOW);
      }
      for (let family = 0; family < 50; family++) {
        if ([2, 10, 16].includes(family)) continue;
        assert.equal(verdict(program(arch), family, 1, 0), noFamily, `family ${family}`);
        const expected = family === 1 ? SECCOMP_RET_ALLOW : noFamily;
        assert.equal(verdict(program(arch, true), family, 1, 0), expected, `family ${family}`);
      }
      for (let protocol = 0; protocol < 23; protocol++) {
        const expected = protocol === 0 ? SECCOMP_RET_ALLOW : noFamily;
        assert.equal(verdict(program(arch, true), 16, 3, protocol), expected, `netlink ${protocol}`);
      }
    });

    test(`${arch}: a pair of sockets is of streams, which have their peer for good`, () => {
      for (const flags of [0, 0x800, 0x80000, 0x80800]) {
        for (const type of [1, 2, 3, 5]) {
          const expected = type === 1 ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | EAFNOSUPPORT;
          assert.equal(judge(program(arch), ARCH[arch], number('socketpair'), 1, type | flags), expected);
        }
      }
    });

    test(`${arch}: signals and limits are for itself`, () => {
      const denied = SECCOMP_RET_ERRNO | EPERM;
      for (const pid of [0, -1, -SELF, 1, SELF]) {
        const verdict = (name: string): number => judge(program(arch), ARCH[arch], number(name), pid, 15);
        assert.equal(verdict('kill') === SECCOMP_RET_ALLOW, pid === SELF, `kill ${pid}`);
        assert.equal(verdict('tgkill'), pid === SELF ? SECCOMP_RET_ALLOW : denied, `tgkill ${pid}`);
        const limits = [0, SELF].includes(pid) ? SECCOMP_RET_ALLOW : denied;
        assert.equal(verdict('prlimit64'), limits, `prlimit64 ${pid}`);
      }
      assert.equal(judge(program(arch), ARCH[arch], number('kill'), 0, 9), denied);
    });

    test(`${arch}: nothing is typed into a terminal, and nobody named for a signal`, () => {
      const denied = SECCOMP_RET_ERRNO | EPERM;
      const verdict = (name: string, request: number): number =>
        judge(program(arch), ARCH[arch], number(name), 0, request);
      // With anything above the 32 bits that the kernel looks at, too.
      for (const high of [0, 2 ** 32, 5 * 2 ** 40]) {
        for (const request of [0x5412, 0x541c, 0x541d, 0x5423, 0x8901, 0x8902])
          assert.equal(verdict('ioctl', high + request), denied, `ioctl ${request}`);
        for (const command of [8, 10, 15]) assert.equal(verdict('fcntl', high + command), denied);
      }
      // TCGETS, FIONBIO, FIONREAD; F_DUPFD to F_SETFL.
      for (const request of [0x5401, 0x5421, 0x541b])
        assert.equal(verdict('ioctl', request), SECCOMP_RET_ALLOW);
      for (const command of [0, 1, 2, 3, 4]) assert.equal(verdict('fcntl', command), SECCOMP_RET_ALLOW);
    });
  }

  test('x32 calls kill: they share the architecture of x86-64', () => {
    for (const number of [0, 59, 520])
      assert.equal(judge(program('x64'), ARCH.x64, 0x40000000 + number), SECCOMP_RET_KILL_PROCESS);
  });

  test('a processor whose numbers are not known has no filter', () => {
    assert.equal(seccompProgram('riscv64', { self: SELF, unixSockets: false, vsockets: false }), undefined);
  });
});

describe('in force', () => {
  const filtered = fileURLToPath(new URL('support/filtered.js', import.meta.url));
  /** As our programs are started: a Node that has a ring of io_uring ends when it is refused that. */
  const start = [
    ...['perl', '-e', 'require shift; without_rings() or die "$!\\n"; exec @ARGV or die "$!\\n"'],
    ...[programPath('confine.pl'), process.execPath, filtered],
  ];

  const threads = ['main', 'early', 'late', 'pool'];

  async function ends(thread: string, name: string, number: number): Promise<void> {
    const ended = await run([...start, thread, String(number)]);
    assert.match(ended.stdout, /^\d+ threads, 0 without filter$/m, ended.stderr);
    assert.deepEqual([ended.signal, /alive/.test(ended.stdout)], ['SIGSYS', false], `${name} by ${thread}`);
  }

  test('each refused call ends the process', async () => {
    const calls = [...filteredCalls(process.arch).kill.values()];
    const code = Buffer.from(program(process.arch)).toString('hex');
    const ended = await run(['perl', '-e', EACH_CALL, process.arch, code, ...calls.map(String)]);
    assert.equal(ended.stdout, calls.map((number) => `${number} ${SIGSYS}\n`).join(''), ended.stderr);
    assert.ok(calls.length > 0);
  });

  for (const thread of threads) {
    test(`whichever thread makes it: ${thread}`, async () => {
      for (const name of ['execve', 'unshare', 'keyctl'])
        await ends(thread, name, filteredCalls(process.arch).kill.get(name) as number);
    });
  }

  const { denied, missing, judged } = filteredCalls(process.arch);

  /** What each of the calls fails with, made one after the other; 0 = it does not. */
  async function errnos(calls: [number: number, ...args: (number | string)[]][]): Promise<number[]> {
    const words = calls.map((call) => call.join(' ')).join(' / ');
    const ended = await run([...start, 'main', ...words.split(' ')]);
    assert.match(ended.stdout, /alive/, ended.stderr);
    return [...ended.stdout.matchAll(/^errno (\d+)$/gm)].map(([, errno]) => Number(errno));
  }

  test('review OR-27: io_uring does not exist', async () => {
    const numbers = [...missing.values()];
    assert.deepEqual(
      await errnos(numbers.map((number) => [number, 1, 0])),
      numbers.map(() => ENOSYS),
    );
  });

  test('review OR-27: no sockets of AF_ALG, AF_VSOCK, AF_UNIX, AF_PACKET, and no netlink but for routes', async () => {
    const socket = judged.get('socket') as number;
    const families = [38, 40, 1, 17];
    const none = await errnos([
      ...families.map((family) => [socket, family, 5, 0] as [number, ...number[]]),
      [socket, 16, 3, 4],
    ]);
    assert.deepEqual(
      none,
      [...families, 16].map(() => EAFNOSUPPORT),
    );
    const some = await errnos([2, 10, 16].map((family) => [socket, family, 2, 0]));
    assert.deepEqual(some, [0, 0, 0]);
  });

  test('review OR-27: no signal reaches another process, and no limit; itself it may signal', async () => {
    const kill = judged.get('kill') as number;
    const numbers = [
      kill,
      judged.get('tgkill') as number,
      judged.get('prlimit64') as number,
      ...denied.values(),
    ];
    assert.deepEqual(
      await errnos(numbers.map((number) => [number, 'parent', 0])),
      numbers.map(() => EPERM),
    );
    assert.deepEqual(
      await errnos([
        [kill, 0, 0],
        [kill, -1, 0],
        [kill, 'self', 0],
      ]),
      [EPERM, EPERM, 0],
    );
  });

  test('what is allowed goes on working, in all of them', async () => {
    const getppid = process.arch === 'arm64' ? '173' : '110';
    for (const thread of threads) {
      const ended = await run([...start, thread, getppid]);
      assert.deepEqual([ended.status, /alive/.test(ended.stdout)], [0, true], `${thread}: ${ended.stderr}`);
    }
  });
});
