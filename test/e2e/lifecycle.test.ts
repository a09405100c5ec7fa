import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { afterEach, describe, test } from 'node:test';
import {
  attach,
  bareNamespace,
  GATEWAY4,
  Namespace,
  networkOf,
  ready,
  startGuest,
  tslirpCommand,
} from '../support/namespaces.ts';
import { type Ended, type Running, run, start } from '../support/processes.ts';
import { least, until } from '../support/wait.ts';

function tslirp(args: string[], input = ''): Promise<Ended> {
  return run(tslirpCommand(...args), { input });
}

const QUIET = ['run', '--log-level', 'warn'];

/** Processes other than us, our ancestors and what was there before. */
function processes(): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        // Zombies have ended; whoever they belong to will collect them.
        return !/^State:\s+Z/m.test(readFileSync(`/proc/${name}/status`, 'latin1'));
      } catch {
        return false;
      }
    });
}

const before = new Set(processes());

function leftOvers(): string[] {
  return processes()
    .filter((pid) => !before.has(pid))
    .map((pid) => {
      try {
        return `${pid} ${readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').slice(0, 80)}`;
      } catch {
        return '';
      }
    })
    .filter((line) => line !== '');
}

/** The broker of a stack. */
function brokerOf(stack: Running): number {
  const children = readFileSync(`/proc/${stack.pid}/task/${stack.pid}/children`, 'latin1').trim().split(' ');
  const broker = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(': broker'));
  assert.ok(broker !== undefined, children.join());
  return Number(broker);
}

async function nothingLeft(): Promise<void> {
  try {
    // Commands of these tests would end by themselves after a minute.
    await until(() => leftOvers().length === 0, 'nothing left', 20_000);
  } catch {
    assert.deepEqual(leftOvers(), []);
  }
}

describe('the end of `run`', () => {
  // Each test leaves the machine as it found it.
  afterEach(() => nothingLeft());

  for (const [what, script, status] of [
    ['status 0', 'exit 0', 0],
    ['status 3', 'exit 3', 3],
    ['status 255', 'exit 255', 255],
    ['SIGTERM', 'kill -TERM $$', 143],
    ['SIGKILL', 'kill -KILL $$', 137],
    ['SIGSEGV', 'kill -SEGV $$', 139],
  ] as const) {
    test(`a command that ends with ${what} gives ${status}`, async () => {
      const ended = await tslirp([...QUIET, '--', 'sh', '-c', script]);
      assert.deepEqual([ended.status, ended.signal], [status, null], ended.stderr);
    });
  }

  test('a command that does not exist gives 127 and one line; one that cannot be executed 126', async () => {
    const missing = await tslirp([...QUIET, '--', '/nonexistent/program']);
    assert.equal(missing.status, 127);
    assert.match(missing.stderr, /^tslirp: [^\n]+\n$/);
    const directory = await tslirp([...QUIET, '--', '/etc']);
    assert.equal(directory.status, 126);
    assert.match(directory.stderr, /^tslirp: [^\n]+\n$/);
  });

  test('input, output and errors are those of the command', async () => {
    const ended = await tslirp([...QUIET, '--', 'sh', '-c', 'cat; echo problem >&2'], 'text\n');
    assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, 'text\n', 'problem\n']);
  });

  for (const [signal, status] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
    ['SIGHUP', 129],
    ['SIGQUIT', 131],
  ] as const) {
    test(`${signal} is the command's: it ends, and we with ${status}`, async () => {
      const stack = start(tslirpCommand(...QUIET, '--', 'sh', '-c', 'echo here; exec sleep 60'));
      await stack.firstLine();
      assert.equal((await stack.stop(signal)).status, status);
    });
  }

  test('the environment of the command is ours', async () => {
    const set = ['env', 'NODE_EXTRA_CA_CERTS=/nonexistent/x'];
    const { stdout } = await run([...set, ...tslirpCommand(...QUIET, '--', 'env')]);
    assert.match(stdout, /^NODE_EXTRA_CA_CERTS=\/nonexistent\/x$/m);
    assert.doesNotMatch(stdout, /^TSLIRP_(?!(TEST|E2E))/m);
  });

  test('a command that treats SIGTERM itself decides its status', async () => {
    const script = 'trap "echo bye; exit 7" TERM; echo here; while :; do sleep 0.05; done';
    const stack = start(tslirpCommand(...QUIET, '--', 'sh', '-c', script));
    await stack.firstLine();
    const { status, stdout } = await stack.stop('SIGTERM');
    assert.deepEqual([status, stdout], [7, 'here\nbye\n']);
  });

  test('kill -9 of tslirp ends the command, and nothing remains', async () => {
    const guest = await startGuest();
    const { pid } = guest.namespace;
    const network = networkOf(pid);
    await guest.stack.stop('SIGKILL');
    await nothingLeft();
    for (const other of processes()) assert.notEqual(networkOf(Number(other)), network);
  });

  test('kill -9 of the command ends tslirp with 137', async () => {
    const guest = await startGuest();
    process.kill(guest.namespace.pid, 'SIGKILL');
    assert.equal((await guest.stack.end()).status, 137);
  });

  test('review TRY-1: kill -9 of the broker is a failure, in one line and with 1', async () => {
    const { stack } = await startGuest();
    process.kill(brokerOf(stack), 'SIGKILL');
    const { status, stderr } = await stack.end();
    assert.deepEqual([status, stderr], [1, 'tslirp: the broker has ended\n']);
  });

  test('the exit descriptor ends the command and us when its other end closes', async () => {
    const stack = start(tslirpCommand(...QUIET, '--ready-fd', '3', '--exit-fd', '4', '--', 'sleep', '60'), {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    await ready(stack);
    (stack.child.stdio[4] as NodeJS.WritableStream & { destroy(): void }).destroy();
    assert.equal((await stack.end()).status, 143);
  });

  test('kill -9 of our parent, who held the exit descriptor, leaves nothing', async () => {
    // The parent keeps the writing end open by holding a pipe; its death is the only thing that closes it.
    const [program = '', ...args] = tslirpCommand(
      ...QUIET,
      '--exit-fd',
      '3',
      '--',
      'sh',
      '-c',
      'echo here; exec sleep 60',
    );
    const parent = start([
      process.execPath,
      '-e',
      `const { spawn } = require('node:child_process');
       spawn(${JSON.stringify(program)}, ${JSON.stringify(args)}, { stdio: ['ignore', 'inherit', 'inherit', 'pipe'] });`,
    ]);
    await parent.firstLine();
    await parent.stop('SIGKILL');
    await nothingLeft();
  });

  test('the ready descriptor gets its byte and its end before the command begins', async () => {
    const stack = start(tslirpCommand(...QUIET, '--ready-fd', '3', '--', 'sleep', '0'), {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    });
    await ready(stack);
    assert.equal((await stack.end()).status, 0);
  });

  test('bad arguments are one line and status 2', async () => {
    const ended = await tslirp(['run', '--mtu', 'wide', '--', 'echo', 'started']);
    assert.deepEqual([ended.status, ended.stdout], [2, '']);
    assert.match(ended.stderr, /^tslirp: option --mtu: [^\n]+\n$/);
  });
});

describe('what a command under `run` sees', () => {
  afterEach(() => nothingLeft());

  test('the network is there from its first moment', async () => {
    const ended = await tslirp([...QUIET, '--', 'ping', '-n', '-c', '1', '-W', '2', GATEWAY4]);
    assert.equal(ended.status, 0, ended.stderr);
  });

  test('it has its own resolv.conf and hosts; those of the host stay as they are', async () => {
    const host = readFileSync('/etc/resolv.conf', 'utf8');
    const ended = await tslirp([...QUIET, '--', 'cat', '/etc/resolv.conf', '/etc/hosts']);
    assert.match(ended.stdout, /^nameserver 10\.0\.2\.3$/m);
    assert.match(ended.stdout, /^nameserver fd00::3$/m);
    assert.match(ended.stdout, /^127\.0\.0\.1 localhost$/m);
    assert.equal(readFileSync('/etc/resolv.conf', 'utf8'), host);
  });

  test('review OP-13: a limit of open files that leaves nothing for connections is told', async () => {
    const argv = tslirpCommand(...QUIET, '--', 'true');
    const { status, stderr } = await run(['prlimit', '--nofile=64:64', '--', ...argv]);
    assert.equal(status, 0, stderr);
    assert.match(stderr, /the hard limit of 64 open files \(ulimit -Hn\) leaves no sockets for/);
  });

  test('log lines on a pipe are JSON, and one says what the guest may reach', async () => {
    const ended = await tslirp(['run', '--', 'true']);
    const lines = ended.stderr.trim().split('\n');
    const records = lines.map((line) => JSON.parse(line) as { msg: string });
    assert.ok(records.length >= 1);
    assert.match(records.map((record) => record.msg).join('\n'), /guest/);
  });
});

describe('the end of `attach`', () => {
  afterEach(() => nothingLeft());

  async function withAttached(
    body: (stack: Running, namespace: Namespace, anchor: Running) => Promise<void>,
  ) {
    const { namespace, anchor } = await bareNamespace();
    let stack: Running | undefined;
    try {
      stack = await attach(namespace.pid);
      await body(stack, namespace, anchor);
    } finally {
      await stack?.stop();
      await anchor.stop();
    }
  }

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    test(`${signal} is a clean end with status 0, and the interface goes with it`, async () => {
      await withAttached(async (stack, namespace) => {
        await namespace.must(['ip', 'link', 'show', 'tap0']);
        const ended = await stack.stop(signal);
        assert.deepEqual([ended.status, ended.signal], [0, null], ended.stderr);
        assert.notEqual((await namespace.run(['ip', 'link', 'show', 'tap0'])).status, 0);
      });
    });
  }

  test('kill -9 takes the interface with it', async () => {
    await withAttached(async (stack, namespace) => {
      await stack.stop('SIGKILL');
      assert.notEqual((await namespace.run(['ip', 'link', 'show', 'tap0'])).status, 0);
    });
  });

  test('review TRY-1: kill -9 of the broker is a failure, not the end of the namespace', async () => {
    const { namespace, anchor } = await bareNamespace();
    const stack = await attach(namespace.pid);
    process.kill(brokerOf(stack), 'SIGKILL');
    const { status, stderr } = await stack.end();
    await anchor.stop();
    assert.deepEqual([status, stderr], [1, 'tslirp: the broker has ended\n']);
  });

  test('the death of the last process in the namespace ends us within a second, with 0', async () => {
    const soonest = await least(1000, async () => {
      let ms = 0;
      await withAttached(async (stack, _, anchor) => {
        await anchor.stop('SIGKILL');
        const start = performance.now();
        assert.equal((await stack.end()).status, 0);
        ms = performance.now() - start;
      });
      return ms;
    });
    assert.ok(soonest < 1000, `after ${soonest} ms`);
  });

  test('a namespace in which somebody else still lives goes on being served', async () => {
    await withAttached(async (stack, namespace, anchor) => {
      const other = namespace.start(['sh', '-c', 'echo $$; exec cat']);
      const second = new Namespace(Number(await other.firstLine()), true);
      try {
        await anchor.stop('SIGKILL');
        // Longer than it takes to notice.
        await second.must(['ping', '-n', '-i', '0.2', '-c', '6', '-W', '2', GATEWAY4]);
        assert.ok(stack.running);
      } finally {
        await other.stop();
      }
      assert.equal((await stack.end()).status, 0);
    });
  });

  test('the exit descriptor is a clean end', async () => {
    const { namespace, anchor } = await bareNamespace();
    const stack = start(
      tslirpCommand(
        ...['attach', '--log-level', 'warn', '--ready-fd', '3', '--exit-fd', '4', String(namespace.pid)],
      ),
      { stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'] },
    );
    try {
      await ready(stack);
      (stack.child.stdio[4] as NodeJS.WritableStream & { destroy(): void }).destroy();
      assert.equal((await stack.end()).status, 0);
    } finally {
      await stack.stop();
      await anchor.stop();
    }
  });

  test('no such process, or a file that is no namespace: one line, and not 0', async () => {
    for (const target of ['999999', '/etc/passwd']) {
      const ended = await tslirp(['attach', target]);
      assert.ok(ended.status > 0, `status ${ended.status}`);
      assert.match(ended.stderr, /^tslirp: [^\n]+\n$/);
    }
  });
});
