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
  refusedCalls,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  SECCOMP_RET_KILL_PROCESS,
  seccompProgram,
} from '../../src/sys/seccomp-filter.ts';
import { run } from '../support/processes.ts';

const ARCH = { x64: 0xc000003e, arm64: 0xc00000b7, i386: 0x40000003, arm: 0x40000028 };
const ENOSYS = 38;

/** What the kernel's interpreter makes of a call (linux/filter.h). */
function judge(program: Uint8Array, arch: number, number: number, argument0 = 0): number {
  const code = new DataView(program.buffer, program.byteOffset, program.byteLength);
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, number, true);
  data.setUint32(4, arch, true);
  data.setUint32(16, argument0, true);
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

function program(arch: string): Uint8Array {
  const bytes = seccompProgram(arch);
  assert.ok(bytes);
  return bytes;
}

describe('the system call filter', () => {
  for (const arch of ['x64', 'arm64'] as const) {
    const prctl = arch === 'x64' ? 157 : 167;
    const clone = arch === 'x64' ? 56 : 220;

    test(`${arch}: what is refused kills, everything else up to 500 is allowed`, () => {
      const refused = new Set(refusedCalls(arch).values());
      assert.equal(refused.size, refusedCalls(arch).size);
      for (let number = 0; number < 500; number++) {
        if (number === prctl || number === clone || number === 435) continue;
        const expected = refused.has(number) ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ALLOW;
        assert.equal(judge(program(arch), ARCH[arch], number), expected, `call ${number}`);
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
      const verdict = (number: number, argument: number): number =>
        judge(program(arch), ARCH[arch], number, argument);
      for (const option of [15, 0x53564d41]) assert.equal(verdict(prctl, option), SECCOMP_RET_ALLOW);
      for (const option of [0, 1, 4, 22, 24, 38, 47])
        assert.equal(verdict(prctl, option), SECCOMP_RET_KILL_PROCESS);
      // pthread_create(3) and fork(3) of glibc.
      for (const flags of [0x3d0f00, 0x1200011]) assert.equal(verdict(clone, flags), SECCOMP_RET_ALLOW);
      for (const bit of [17, 25, 26, 27, 28, 29, 30]) {
        assert.equal(verdict(clone, 0x11 | (1 << bit)), SECCOMP_RET_KILL_PROCESS, `bit ${bit}`);
      }
      assert.equal(verdict(435, 0), SECCOMP_RET_ERRNO | ENOSYS);
    });
  }

  test('x32 calls kill: they share the architecture of x86-64', () => {
    for (const number of [0, 59, 520])
      assert.equal(judge(program('x64'), ARCH.x64, 0x40000000 + number), SECCOMP_RET_KILL_PROCESS);
  });

  test('a processor whose numbers are not known has no filter', () => {
    assert.equal(seccompProgram('riscv64'), undefined);
  });
});

describe('in force', () => {
  const filtered = fileURLToPath(new URL('support/filtered.js', import.meta.url));

  const threads = ['main', 'early', 'late', 'pool'];

  async function ends(thread: string, name: string, number: number): Promise<void> {
    const ended = await run([process.execPath, filtered, thread, String(number)]);
    assert.match(ended.stdout, /^\d+ threads, 0 without filter$/m, ended.stderr);
    assert.deepEqual([ended.signal, /alive/.test(ended.stdout)], ['SIGSYS', false], `${name} by ${thread}`);
  }

  test('each refused call ends the process', async () => {
    const calls = [...refusedCalls(process.arch)];
    const next = async (): Promise<void> => {
      for (;;) {
        const call = calls.pop();
        if (call === undefined) return;
        await ends(threads[calls.length % threads.length] as string, ...call);
      }
    };
    await Promise.all([next(), next()]);
  });

  for (const thread of threads) {
    test(`whichever thread makes it: ${thread}`, async () => {
      for (const name of ['execve', 'unshare', 'keyctl'])
        await ends(thread, name, refusedCalls(process.arch).get(name) as number);
    });
  }

  test('what is allowed goes on working, in all of them', async () => {
    const getppid = process.arch === 'arm64' ? '173' : '110';
    for (const thread of threads) {
      const ended = await run([process.execPath, filtered, thread, getppid]);
      assert.deepEqual([ended.status, /alive/.test(ended.stdout)], [0, true], `${thread}: ${ended.stderr}`);
    }
  });
});
