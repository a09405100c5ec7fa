/** What code inside a confined process can still do: tried by such code. */
import assert from 'node:assert/strict';
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { probed, probing, type Tools } from '../support/inside.ts';
import { asOwner, type Bare, bareNamespace, directory, ready } from '../support/namespaces.ts';
import { type Running, run, start } from '../support/processes.ts';
import { until } from '../support/wait.ts';

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

interface Inside {
  root: string[];
  processes: string[];
  ipc: string;
  links: string[];
  signal: number;
  ioUring: number;
  sockets: number[];
  typed: number;
  passwords: string;
}

/** `given` is the number of a process that it may not touch. */
function look({ fs, call, given }: Tools): Inside {
  const read = (path: string): string => {
    try {
      return fs.readFileSync(path, 'latin1');
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? '';
    }
  };
  const links = fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [fs.readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return [];
    }
  });
  return {
    root: fs.readdirSync('/'),
    processes: fs.readdirSync('/proc'),
    ipc: fs.readlinkSync('/proc/self/ns/ipc'),
    links,
    signal: call([62, 129], Number(given), 0),
    ioUring: call([425, 425], 1, Buffer.alloc(120)),
    // AF_ALG, AF_VSOCK, AF_UNIX, AF_PACKET.
    sockets: [38, 40, 1, 17].map((family) => call([41, 198], family, 5, 0)),
    // TIOCSTI.
    typed: call([16, 29], 0, 0x5412, Buffer.from('x')),
    passwords: read('/etc/passwd'),
  };
}

async function withNamespace(body: (bare: Bare) => Promise<void>): Promise<void> {
  const bare = await bareNamespace();
  try {
    await body(bare);
  } finally {
    await bare.anchor.stop();
  }
}

/** A process of the same user on the host. */
async function withVictim(body: (victim: Running) => Promise<void>): Promise<void> {
  const victim = start(asOwner('sh', '-c', 'echo $$; exec cat'));
  try {
    await victim.firstLine();
    await body(victim);
  } finally {
    await victim.stop();
  }
}

/** With a directory and a file as descriptors 5 and 6, which nobody has named. */
function withDescriptors(argv: string[], file: string): string[] {
  return ['sh', '-c', `exec 5</ 6<${file}; exec "$@"`, 'sh', ...argv];
}

function assertHelpless(inside: Inside, secret: string): void {
  assert.deepEqual(inside.root, ['proc']);
  assert.equal(inside.passwords, 'ENOENT');
  assert.equal(inside.processes.length, 2);
  assert.ok(!inside.links.some((link) => link === '/' || link.endsWith(secret)), inside.links.join(' '));
  assert.equal(inside.signal, -EPERM);
  assert.equal(inside.ioUring, -ENOSYS);
  assert.deepEqual(
    inside.sockets,
    [38, 40, 1, 17].map(() => -EAFNOSUPPORT),
  );
  assert.equal(inside.typed, -EPERM);
}

describe('review OR-27: from inside', () => {
  const secret = 'nobody-named-this';
  writeFileSync(join(directory, secret), 'secret');

  test('attach: no files, directories, signals, terminals, io_uring, and an IPC namespace of its own', async () => {
    await withNamespace(async ({ namespace }) => {
      await withVictim(async (victim) => {
        const program = probing('tslirp', look, { given: String(victim.pid) });
        const args = ['attach', '--sandbox', '--log-level', 'warn', '--ready-fd', '3', String(namespace.pid)];
        const argv = withDescriptors(asOwner(program, ...args), join(directory, secret));
        const stack = start(argv, { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
        try {
          await ready(stack);
          const inside = await probed<Inside>(stack);
          assertHelpless(inside, secret);
          assert.notEqual(inside.ipc, readlinkSync('/proc/self/ns/ipc'));
        } finally {
          await stack.stop('SIGTERM');
        }
      });
    });
  });

  test('run: the same; the command gets our signals nevertheless, and has the IPC namespace of the caller', async () => {
    await withVictim(async (victim) => {
      const program = probing('tslirp', look, { given: String(victim.pid) });
      const args = [
        'run',
        '--sandbox',
        '--log-level',
        'warn',
        '--ready-fd',
        '3',
        '--',
        'sh',
        '-c',
        'readlink /proc/self/ns/ipc; exec cat',
      ];
      const argv = withDescriptors(asOwner(program, ...args), join(directory, secret));
      const stack = start(argv, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
      try {
        await ready(stack);
        const inside = await probed<Inside>(stack);
        assertHelpless(inside, secret);
        const own = readlinkSync('/proc/self/ns/ipc');
        assert.notEqual(inside.ipc, own);
        assert.equal((await stack.firstLine()).trim(), own);
        assert.equal((await stack.stop('SIGTERM')).status, 128 + 15);
      } finally {
        await stack.stop();
      }
    });
  });

  test('run: shared memory and message queues end the process', async () => {
    const program = probing('tslirp', ({ call }: Tools) => call([29, 194], 0, 4096, 0o1600));
    const stack = start(asOwner(program, 'run', '--log-level', 'warn', '--', 'sleep', '20'));
    try {
      assert.equal((await stack.end()).signal, 'SIGSYS');
    } finally {
      await stack.stop();
    }
  });

  test('run: nothing is typed into the terminal that the command reads', async () => {
    const program = probing('tslirp', look, { given: '1' });
    // script(1) gives it a terminal that is its own.
    const command = asOwner(program, 'run', '--log-level', 'warn', '--', 'sleep', '20').join(' ');
    const stack = start(['script', '-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'pipe'] });
    try {
      assert.equal((await probed<Inside>(stack)).typed, -EPERM);
    } finally {
      await stack.stop('SIGTERM');
    }
  });

  test('slirp4netns --enable-sandbox, no filter: no signal, no abstract socket (Landlock), nothing in /etc and /run', async (t) => {
    const abi = await run(['perl', '-e', 'print syscall(444, 0, 0, 1)']);
    const scoped = Number(abi.stdout) >= 6;
    if (!scoped)
      t.diagnostic(`NOT TRIED: this kernel has no Landlock scoping (ABI ${abi.stdout}, 6 is needed)`);
    const name = `tslirp-test-${process.pid}`;
    const server = start(['socat', `ABSTRACT-LISTEN:${name},fork`, 'EXEC:true']);
    const listens = (): boolean => readFileSync('/proc/net/unix', 'latin1').includes(`@${name}\n`);
    await until(listens, 'an abstract socket of the host');
    const attempt = ({ fs, call, given }: Tools): Record<string, unknown> => {
      const [victim = '', abstract = ''] = given.split(' ');
      const socket = call([41, 198], 1, 1, 0);
      const address = Buffer.from(`\u0001\0\0${abstract}`, 'latin1');
      return {
        signal: call([62, 129], Number(victim), 0),
        abstract: call([42, 203], socket, address, address.length),
        ipc: fs.readlinkSync('/proc/self/ns/ipc'),
        inside: [fs.readdirSync('/etc'), fs.readdirSync('/run')],
      };
    };
    try {
      await withNamespace(async ({ namespace }) => {
        await withVictim(async (victim) => {
          const given = `${victim.pid} ${name}`;
          const program = probing('slirp4netns', attempt, { given, filtered: false });
          const argv = asOwner(program, '--enable-sandbox', '-r', '3', String(namespace.pid), 'tap11');
          const stack = start(argv, { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
          try {
            await ready(stack);
            const { ipc, ...inside } = await probed<Record<string, unknown>>(stack);
            const refused = scoped ? -EPERM : 0;
            assert.deepEqual(inside, { signal: refused, abstract: refused, inside: [[], []] });
            assert.notEqual(ipc, readlinkSync('/proc/self/ns/ipc'));
          } finally {
            await stack.stop('SIGTERM');
          }
        });
      });
    } finally {
      await server.stop();
    }
  });
});
