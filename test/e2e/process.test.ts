/** What our process is to others, and what it leaves as it found it. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  asOwner,
  attach,
  bareNamespace,
  directory,
  GATEWAY4,
  mode,
  programPath,
  tslirpCommand,
} from '../support/namespaces.ts';
import { type Ended, must, type Running, run } from '../support/processes.ts';
import { startSlirp4netns } from '../support/slirp4netns.ts';
import { slirpnetstackGuest, startSlirpnetstack } from '../support/slirpnetstack.ts';
import { until } from '../support/wait.ts';

/** What a command says of itself when `shell`, a line of bash(1), has become `tslirp run`. */
function found(shell: string, script: string): Promise<Ended> {
  const words = tslirpCommand('run', '--log-level', 'error', '--', 'sh', '-c', script);
  return run(['bash', '-c', `${shell} "$@"`, 'bash', ...words]);
}

function field(pid: number, name: string): string {
  return (
    new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? ''
  );
}

/** The process that serves, below whatever has changed the user on the way. */
function name(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'latin1').trim();
  } catch {
    return '';
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

/** Sockets that listen in our namespace. */
function listeners(): string[] {
  return readFileSync('/proc/self/net/tcp', 'latin1')
    .split('\n')
    .filter((line) => / 0A /.test(line))
    .map((line) => line.split(/\s+/)[2] ?? '');
}

async function isLeftAlone(pid: number, stack: { running: boolean }, program: string): Promise<void> {
  assert.equal(name(pid), program);
  const before = listeners();
  // A signal that is handled has been seen by the runtime's own thread by the time a second one is.
  for (let times = 0; times < 5; times++) {
    process.kill(pid, 'SIGUSR1');
    await until(() => field(pid, 'SigPnd') === field(pid, 'ShdPnd') || !stack.running, 'the signal is taken');
  }
  await assert.rejects(
    until(() => listeners().length > before.length, 'an inspector', 700),
    /an inspector/,
  );
  assert.ok(stack.running, 'it has ended');
}

describe('review O-6, ON-11: the process is ours', () => {
  for (const options of ['', '--inspect=0', '--inspect=127.0.0.1:9229']) {
    test(`tslirp attach opens no inspector, NODE_OPTIONS=${options}`, async () => {
      const { namespace, anchor } = await bareNamespace();
      process.env['NODE_OPTIONS'] = options;
      let stack: Running | undefined;
      try {
        stack = await attach(namespace.pid);
        await isLeftAlone(stack.pid, stack, 'tslirp');
        assert.doesNotMatch(stack.stderr, /Debugger/);
        assert.equal(await answers(9229), false);
      } finally {
        delete process.env['NODE_OPTIONS'];
        await stack?.stop();
        await anchor.stop();
      }
    });
  }

  test('a helper is named for what it is', async () => {
    const { namespace, anchor } = await bareNamespace();
    const stack = await attach(namespace.pid);
    try {
      const names = readdirSync('/proc')
        .filter((entry) => /^\d+$/.test(entry))
        .map((pid) => name(Number(pid)));
      assert.ok(names.includes('tslirp: broker'), names.join());
    } finally {
      await stack.stop();
      await anchor.stop();
    }
  });

  test('slirp4netns opens no inspector', async () => {
    const { namespace, anchor } = await bareNamespace();
    try {
      await using service = await startSlirp4netns(['-c', String(namespace.pid), 'tap0']);
      await isLeftAlone(service.process.pid, service.process, 'slirp4netns');
    } finally {
      await anchor.stop();
    }
  });

  test('slirpnetstack opens no inspector', async () => {
    const guest = await slirpnetstackGuest({});
    try {
      await using stack = await startSlirpnetstack(guest);
      await isLeftAlone(stack.running.pid, stack.running, 'slirpnetstack');
    } finally {
      await guest.end();
    }
  });

  test('an inspector asked for on the command line of Node is closed before a guest is served', async () => {
    const main = join(programPath(''), '../dist/bundle/tslirp.cjs');
    const { stderr } = await run([process.execPath, '--inspect=0', main, 'attach', '--fd', '0']);
    assert.match(stderr, /Debugger listening/);
    assert.deepEqual(
      listeners(),
      listeners().filter((port) => !/:2E09$/.test(port)),
    );
  });
});

describe('review OP-12: a command finds what we were started with', () => {
  test('ignored signals, and we do not end by them either', async () => {
    const ignoring = "trap '' HUP INT; exec";
    // Whoever runs these tests may have had others ignored.
    const before = await run(['bash', '-c', `${ignoring} grep SigIgn /proc/self/status`]);
    assert.match(before.stdout, /[37bf]\n$/);
    const ended = await found(ignoring, 'grep SigIgn /proc/self/status; kill -HUP $PPID; echo still');
    assert.equal(ended.stdout, `${before.stdout}still\n`, ended.stderr);
  });

  test('review OR-26: the soft limit of open files', async () => {
    const ended = await found('ulimit -Sn 777; exec', 'ulimit -Sn');
    assert.equal(ended.stdout, '777\n', ended.stderr);
  });

  test('variables for Node, of which we obey none', async () => {
    const set = 'NODE_OPTIONS=--no-such-option NODE_DEBUG=net NODE_V8_COVERAGE=/nonexistent NODE_PATH=/x';
    const ended = await found(`exec env ${set}`, 'env | grep ^NODE_');
    const expected = [
      ...set.split(' '),
      ...Object.entries(process.env).map(([key, value]) => `${key}=${value}`),
    ];
    for (const line of ended.stdout.trim().split('\n')) assert.ok(expected.includes(line), line);
    assert.equal(ended.stdout.match(/^NODE_(OPTIONS|DEBUG|V8_COVERAGE|PATH)=/gm)?.length, 4);
    assert.equal(ended.stderr, '');
  });

  test('a locale that is not installed, and nothing is said of it', async () => {
    const ended = await found(
      'exec env LC_ALL=xx_YY LANG=xx_YY',
      'echo $LC_ALL $LANG; env | grep -c ^PERL_BADLANG',
    );
    assert.deepEqual([ended.stdout, ended.stderr], ['xx_YY xx_YY\n0\n', '']);
  });

  test('OLDPWD, set or not', async () => {
    assert.equal((await found('exec env OLDPWD=/old', 'echo $OLDPWD')).stdout, '/old\n');
    assert.equal((await found('exec env -u OLDPWD', 'env | grep -c ^OLDPWD=')).stdout, '0\n');
  });

  test('closed standard streams', async () => {
    const script = 'for fd in 0 1 2; do [ -e /proc/$$/fd/$fd ] || echo $fd >&3; done';
    for (const [closing, expected] of [
      ['0<&-', '0\n'],
      ['2>&-', '2\n'],
      ['0<&- 1>&- 2>&-', '0\n1\n2\n'],
    ] as const) {
      const words = tslirpCommand('run', '--log-level', 'error', '--', 'sh', '-c', script);
      const { stdout } = await run(['bash', '-c', `exec 3>&1; exec "$@" ${closing}`, 'bash', ...words]);
      assert.equal(stdout, expected, closing);
    }
  });

  test('descriptors of socket activation, with the number of the process that they are for', async () => {
    const script = 'read -r a <&3; read -r b <&4; echo "$a $b $LISTEN_FDS $((LISTEN_PID - $$))"';
    const shell = 'exec 3<<<three 4<<<four; export LISTEN_FDS=2 LISTEN_PID=$$; exec';
    // A change of user is by setpriv(1), which is replaced by us.
    assert.equal((await found(shell, script)).stdout, 'three four 2 0\n');
  });

  test('a descriptor of any number, and none of ours', async () => {
    // What we have of whoever runs the tests is not closed.
    const before = (await run(['sh', '-c', 'ls /proc/$$/fd'])).stdout.trim().split('\n');
    const ended = await found('exec 63<<<high; exec', "bash -c 'cat <&63'; ls /proc/$$/fd");
    const [text, ...numbers] = ended.stdout.trim().split('\n');
    assert.deepEqual([text, numbers.sort()], ['high', [...before, '63'].sort()]);
  });

  test('a working directory that was removed', async () => {
    const gone = mkdtempSync(join(directory, 'gone-'));
    // The caller's own: dash(1) has a word to say of one that it may not even look at.
    chmodSync(gone, 0o777);
    const ended = await found(`cd ${gone}; rmdir ${gone}; exec`, 'echo here');
    assert.deepEqual([ended.status, ended.stdout, ended.stderr], [0, 'here\n', '']);
  });
});

test('run without a command is a shell, with what is said to it', async () => {
  const ended = await run(tslirpCommand('run', '-q'), {
    input: 'cut -s -d: -f1 /proc/net/dev; exit 7',
    env: { ...process.env, SHELL: '/bin/sh' },
  });
  assert.deepEqual([ended.status, ended.stdout, ended.stderr], [7, '    lo\n  tap0\n', '']);
});

test('review OP-14: a limit of address space that Node cannot start with is one line', async () => {
  const words = ['bash', '-c', 'ulimit -v 2000000; exec "$@"', 'bash', ...tslirpCommand('run', '--', 'true')];
  const ended = await run(words);
  assert.deepEqual([ended.status, ended.stdout], [1, '']);
  assert.equal(
    ended.stderr,
    'tslirp: the limit of address space, 1953 MiB, is too low for Node: at least 3072 MiB (ulimit -v)\n',
  );
});

test('review OP-14: a limit of processes that leaves too few for Node is one line', async () => {
  // Root has no limit.
  const user =
    mode === 'root' ? ['setpriv', '--reuid', '65533', '--regid', '65533', '--clear-groups', '--'] : [];
  for (const [name, words, count] of [
    ['tslirp', ['run', '-q', '--', 'true'], 8],
    ['slirp4netns', ['-c', '1', 'tap0'], 6],
    ['slirpnetstack', [], 6],
  ] as const) {
    const argv = ['prlimit', '--nproc=5:5', programPath(name), ...words];
    const ended = await run(asOwner(...user, ...argv));
    assert.deepEqual([ended.status, ended.stdout], [1, ''], name);
    assert.equal(
      ended.stderr,
      `${name}: the limit of processes, 5, leaves too few for Node and its threads: ${count} beside those of this user (ulimit -u)\n`,
    );
  }
});

test('review OP-14: a TMPDIR where nothing can be made is told in words', async () => {
  const ended = await run(['env', 'TMPDIR=/nonexistent', ...tslirpCommand('run', '--', 'true')]);
  assert.deepEqual([ended.status, ended.stdout], [1, '']);
  assert.equal(
    ended.stderr,
    'tslirp: no directory can be made in /nonexistent: No such file or directory; TMPDIR chooses another place\n',
  );
});

describe('review ON-8: a capture goes where it is sent', () => {
  const script = `ping -c 1 ${GATEWAY4} >/dev/null`;
  /** tslirp with its standard output where the shell has it lead. */
  const into = (redirection: string, path: string): Promise<Ended> => {
    const words = tslirpCommand('run', '-q', '--pcap', path, '--', 'sh', '-c', script);
    return run(['sh', '-c', `"$@" ${redirection}`, 'sh', ...words]);
  };
  /** The echo and its reply are in it. */
  async function holdsPing(file: string): Promise<void> {
    const out = await must(['tshark', '-n', '-r', file, '-Y', 'icmp'], { limitMs: 60_000 });
    assert.equal(out.split('\n').filter((line) => line !== '').length, 2, out);
  }

  for (const path of ['-', '/dev/stdout']) {
    test(`${path}: standard output, a file that is not emptied, or a pipe`, async () => {
      const file = join(directory, `stdout-${path.length}`);
      for (const redirection of [`>>${file}`, `| cat >${file}`]) {
        const ended = await into(redirection, path);
        assert.deepEqual([ended.status, ended.stderr], [0, ''], redirection);
        await holdsPing(file);
        rmSync(file);
      }
    });
  }

  test('a device, and a file of ours in a directory of somebody else', async () => {
    assert.deepEqual(await into('', '/dev/null'), { status: 0, signal: null, stdout: '', stderr: '' });
    const theirs = join(directory, 'theirs');
    mkdirSync(theirs);
    const file = join(theirs, 'a.pcap');
    writeFileSync(file, '');
    chmodSync(file, 0o666);
    chmodSync(theirs, 0o555);
    const ended = await into('', file);
    assert.deepEqual([ended.status, ended.stderr], [0, '']);
    await holdsPing(file);
  });
});
