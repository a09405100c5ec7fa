/** What tslirp itself may still do and see once it is ready, and that all of its work goes on nevertheless. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  asOwner,
  attach,
  bareNamespace,
  directory,
  GATEWAY4,
  HOST4,
  mode,
  OPEN,
  programPath,
  ready,
  startGuest,
  tslirpCommand,
} from '../support/namespaces.ts';
import { must, type Running, run, start } from '../support/processes.ts';
import { until } from '../support/wait.ts';

/** For what copies /etc first, on a loaded machine. */
const SLOW_MS = 30_000;

const NET_BIND_SERVICE = '0000000000000400';

/** Every thread of a process: its status, and the root directory as it sees it. */
function threads(pid: number): { status: string; root: string[] }[] {
  return readdirSync(`/proc/${pid}/task`).map((task) => ({
    status: readFileSync(`/proc/${pid}/task/${task}/status`, 'latin1'),
    root: readdirSync(`/proc/${pid}/task/${task}/root`),
  }));
}

function field(status: string, name: string): string {
  return new RegExp(`^${name}:\\t(.*)$`, 'm').exec(status)?.[1] ?? '';
}

/** Places that are on every host. */
const hidden = ['dev', 'root', 'run', 'sys', 'tmp', 'var', 'bin', 'usr', 'etc', '.old'];

function assertConfined(pid: number): void {
  const all = threads(pid);
  assert.ok(all.length > 4);
  for (const { status, root } of all) {
    // One since before Node, against rings of io_uring, and the one that counts.
    assert.deepEqual([field(status, 'Seccomp_filters'), field(status, 'NoNewPrivs')], ['2', '1']);
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd'])
      assert.equal(field(status, set), NET_BIND_SERVICE, set);
    assert.equal(field(status, 'CapAmb'), '0000000000000000');
    assert.ok(root.includes('proc'));
    for (const name of hidden) assert.ok(!root.includes(name), name);
  }
  // By /proc/PID/root of another process, such as the command, its file system would be back.
  assert.deepEqual(readdirSync(`/proc/${pid}/root/proc`).sort(), [String(pid), 'self']);
  for (const line of readFileSync(`/proc/${pid}/mountinfo`, 'latin1').trim().split('\n')) {
    const [, , , , path = '', options = ''] = line.split(' ');
    for (const flag of ['ro', 'nosuid', 'nodev']) assert.ok(options.split(',').includes(flag), line);
    if (/^\/(etc|run|proc)/.test(path)) assert.match(options, /noexec/);
  }
}

async function withAttached(options: string[], body: (stack: Running, pid: number) => Promise<void>) {
  const { namespace, anchor } = await bareNamespace();
  try {
    const stack = await attach(namespace.pid, ...options);
    try {
      await body(stack, namespace.pid);
    } finally {
      await stack.stop('SIGTERM');
    }
  } finally {
    await anchor.stop();
  }
}

describe('the sandbox', () => {
  test('run: every thread of ours is confined, the command is not', async () => {
    await using guest = await startGuest();
    assertConfined(guest.stack.pid);
    for (const { status, root } of threads(guest.namespace.pid)) {
      assert.deepEqual([field(status, 'Seccomp'), field(status, 'NoNewPrivs')], ['0', '0']);
      assert.match(field(status, 'CapBnd'), /^0*1?f+$/);
      for (const name of ['dev', 'sys', 'usr']) assert.ok(root.includes(name), name);
    }
  });

  for (const word of ['--no-sandbox', '--version', '--help']) {
    test(`review H-3: ${word} as a word of the command is no option of ours`, async () => {
      const script = 'echo "$1"; exec cat';
      const argv = tslirpCommand(
        ...['run', '--log-level', 'warn', '--ready-fd', '3', 'sh', '-c', script, 'sh', word],
      );
      const stack = start(argv, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
      try {
        await ready(stack);
        assert.equal((await stack.firstLine()).trim(), word);
        assertConfined(stack.pid);
      } finally {
        await stack.stop('SIGTERM');
      }
    });
  }

  test('attach: every thread is confined', async () => {
    await withAttached([], async (stack) => assertConfined(stack.pid));
  });

  test('--no-sandbox: nothing is given up', async () => {
    await withAttached(['--no-sandbox'], async (stack) => {
      for (const { status, root } of threads(stack.pid)) {
        assert.deepEqual([field(status, 'Seccomp'), field(status, 'NoNewPrivs')], ['0', '0']);
        assert.ok(root.includes('tmp'));
      }
    });
  });

  test('the command keeps its working directory, environment and descriptors as they are without it', async () => {
    const script = 'pwd; ls /proc/$$/fd; env | grep -c TSLIRP_';
    const outputs = await Promise.all(
      [[], ['--no-sandbox']].map(async (options) => {
        const ended = await run(
          tslirpCommand('run', '--log-level', 'warn', ...options, '--', 'sh', '-c', script),
        );
        return ended.stdout.replace(/\d{3,}\n/g, '');
      }),
    );
    assert.equal(outputs[0], outputs[1]);
    assert.match(outputs[0] ?? '', /^0$/m);
  });

  test('new connections are made, and the capture goes on', async () => {
    const capture = join(directory, 'sandbox.pcap');
    await using guest = await startGuest(...OPEN, '--pcap', capture);
    const server = createServer((socket) => socket.end('hello'));
    await new Promise<void>((resolve) => server.listen(0, HOST4, resolve));
    const { port } = server.address() as { port: number };
    try {
      const before = lstatSync(capture).size;
      const said = await guest.namespace.must(['socat', '-', `TCP:${HOST4}:${port}`]);
      assert.equal(said, 'hello');
      await until(() => lstatSync(capture).size > before, 'the capture grows');
    } finally {
      server.close();
    }
    assert.equal((await guest.namespace.run(['ping', '-n', '-c', '1', '-W', '2', GATEWAY4])).status, 0);
  });

  test('resolv.conf is followed: replaced by rename, behind a symlink below /run', async () => {
    const { namespace, anchor } = await bareNamespace();
    // In a mount namespace of its own, where /etc and /run are copies. A line of input replaces the file.
    const script = `
      mount -t tmpfs copy "$1" && { cp -a /etc "$1/" 2>/dev/null; mount --bind "$1/etc" /etc; } && mount -t tmpfs run /run &&
      rm -f /etc/resolv.conf && mkdir /run/resolve && ln -s ../run/resolve/now /etc/resolv.conf &&
      echo nameserver 192.0.2.1 >/run/resolve/now && echo nameserver 192.0.2.2 >/run/resolve/next || exit 9
      chmod 644 /run/resolve/*
      exec 3<&0
      { read -r line && mv /run/resolve/next /run/resolve/now; } <&3 &
      shift
      exec "$@" </dev/null 3<&-`;
    const copy = mkdtempSync(join(directory, 'etc-'));
    const stack = start([
      ...['unshare', '--mount', 'sh', '-c', script, 'sh', copy],
      ...tslirpCommand('attach', '--log-level', 'debug', String(namespace.pid)),
    ]);
    try {
      const reads = (server: string): Promise<void> =>
        until(() => stack.stderr.includes(`"servers":["${server}"]`), server, SLOW_MS);
      await reads('192.0.2.1');
      await until(() => stack.stderr.includes('guest may reach'), 'ready');
      await until(() => !existsSync(`/proc/${stack.pid}/root/sys`), 'the tree is closed');
      assert.ok(!existsSync(`/proc/${stack.pid}/root/run`));
      stack.child.stdin?.write('next\n');
      await reads('192.0.2.2');
    } finally {
      await stack.stop('SIGTERM');
      await anchor.stop();
    }
  });

  /** On a host whose /etc and /run are copies: `prepare` there first, then `steps` one by one, each until it is told. */
  async function following(prepare: string, steps: [script: string, told: RegExp][]): Promise<void> {
    const { namespace, anchor } = await bareNamespace();
    const script = `
      mount -t tmpfs copy "$1" && { cp -a /etc "$1/" 2>/dev/null; mount --bind "$1/etc" /etc; } && mount -t tmpfs run /run &&
      rm -f /etc/resolv.conf || exit 9
      ${prepare}
      exec 3<&0
      { while read -r line; do eval "$line"; done; } <&3 &
      shift
      exec "$@" </dev/null 3<&-`;
    const stack = start([
      ...['unshare', '--mount', 'sh', '-c', script, 'sh', mkdtempSync(join(directory, 'etc-'))],
      ...tslirpCommand('attach', '--sandbox', '--log-level', 'debug', String(namespace.pid)),
    ]);
    try {
      await until(() => stack.stderr.includes('guest may reach') || !stack.running, 'ready', SLOW_MS);
      for (const [change, told] of steps) {
        stack.child.stdin?.write(`${change}\n`);
        await until(() => told.test(stack.stderr), `${told}`, SLOW_MS);
      }
    } finally {
      await stack.stop('SIGTERM');
      await anchor.stop();
    }
  }

  test('review OP-2: resolv.conf is followed through symlinks to directories, as NixOS has them', async () => {
    const write = (name: string, server: string): string =>
      `mkdir -p /run/store/${name} && echo nameserver ${server} >/run/store/${name}/resolv.conf`;
    await following(
      `${write('one', '192.0.2.1')}; ln -s /run/store/one /etc/static; ln -s static/resolv.conf /etc/resolv.conf`,
      [
        [':', /"servers":\["192.0.2.1"\]/],
        [`${write('two', '192.0.2.2')}; ln -sfn /run/store/two /etc/static`, /"servers":\["192.0.2.2"\]/],
      ],
    );
  });

  test('review OP-2: a plain resolv.conf is replaced by a link into a directory that comes later', async () => {
    await following('echo nameserver 192.0.2.1 >/etc/resolv.conf; ln -s /run /var/run 2>/dev/null', [
      ['ln -sf /var/run/late/now /etc/resolv.conf', /"servers":\["127.0.0.1","::1"\]/],
      ['mkdir /run/late; echo nameserver 192.0.2.2 >/run/late/now', /"servers":\["192.0.2.2"\]/],
    ]);
  });

  test('review OP-2: what cannot be read is told with its reason, and the servers stay', async () => {
    await following('echo nameserver 192.0.2.1 >/etc/resolv.conf', [
      ['rm /etc/resolv.conf; mkdir /etc/resolv.conf', /resolv\.conf cannot be read: not a file/],
      ['rmdir /etc/resolv.conf; echo nameserver 192.0.2.3 >/etc/resolv.conf', /"servers":\["192.0.2.3"\]/],
    ]);
  });

  test('a resolv.conf that leads nowhere, and unix sockets that are not there, are no obstacle', async () => {
    const script = `
      mount -t tmpfs copy "$1" && { cp -a /etc "$1/" 2>/dev/null; mount --bind "$1/etc" /etc; } &&
      rm -f /etc/resolv.conf && ln -s /run/nowhere/resolv.conf /etc/resolv.conf || exit 9
      shift
      exec "$@"`;
    const options = ['--sandbox', '--log-level', 'error', '-R', '10.0.2.2:80:unix:/run/missing/socket'];
    await must([
      ...['unshare', '--mount', 'sh', '-c', script, 'sh', mkdtempSync(join(directory, 'etc-'))],
      ...tslirpCommand('run', ...options, '--', 'true'),
    ]);
  });

  if (mode !== 'user') {
    test('the file system of the host stays as it was: shared mounts below /run survive', async () => {
      // In a mount namespace of its own, whose mounts are shared as systemd has them.
      const script = `
        mount --make-rshared / && mount -t tmpfs run /run && mkdir /run/foo && mount -t tmpfs foo /run/foo &&
        touch /run/foo/here && mount --make-rshared /run || exit 9
        "$@" || exit 8
        test -e /run/foo/here && mountpoint -q /run/foo && mountpoint -q /run`;
      await must([
        ...['unshare', '--mount', 'sh', '-c', script, 'sh'],
        ...tslirpCommand('run', '--sandbox', '--log-level', 'warn', '--', 'true'),
      ]);
    });
  }

  test('review OR-27: /etc is in sight only where a forward leads to a name, which is then found', async () => {
    const server = createServer((socket) => socket.end('hello'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    try {
      await using guest = await startGuest('-R', `7:localhost:${port}`);
      assert.ok(readdirSync(`/proc/${guest.stack.pid}/root`).includes('etc'));
      assert.equal(await guest.namespace.must(['socat', '-', `TCP4:${GATEWAY4}:7`]), 'hello');
    } finally {
      server.close();
    }
  });

  test('--sandbox is an error where it cannot be had', async () => {
    // As it is left when it may not do more.
    const bin = programPath('');
    const program = `require "${bin}/$_.pl" for qw(launch confine); { no strict; *{'main::confine'} = sub { 0 } }
      launch('run', 'confined filtered', '', '', '${bin}/tslirp', '${bin}/../dist/bundle/tslirp.cjs', @ARGV)`;
    const args = ['run', '--log-level', 'warn', '--sandbox', '--', 'true'];
    const ended = await run(asOwner('perl', '-e', program, '--', ...args));
    assert.equal(ended.status, 1);
    assert.match(ended.stderr, /^tslirp: no file system of our own: [^\n]+\n$/);
  });
});
describe('unix sockets that forwards lead to', () => {
  const at = '10.0.2.2:7';

  async function withService(
    path: string,
    body: (stack: Running, ask: () => Promise<string>) => Promise<void>,
  ) {
    const { namespace, anchor } = await bareNamespace();
    const service = start(asOwner('socat', `UNIX-LISTEN:${path},fork`, 'EXEC:echo one'));
    try {
      await until(() => existsSync(path), path);
      const stack = await attach(namespace.pid, '--sandbox', '-R', `${at}:unix:${path}`);
      try {
        const ask = async (): Promise<string> =>
          (await namespace.run(['socat', '-T3', '-', `TCP4:${at}`])).stdout.trim();
        assert.equal(await ask(), 'one');
        await body(stack, ask);
      } finally {
        await stack.stop('SIGTERM');
      }
    } finally {
      await service.stop();
      await anchor.stop();
    }
  }

  test('review OR-27: of a directory that others use too, only the socket is in sight', async () => {
    const place = mkdtempSync(join(directory, 'shared-'));
    chmodSync(place, 0o777);
    writeFileSync(join(place, 'diary'), 'private');
    await withService(join(place, 'service.sock'), async (stack) => {
      assert.deepEqual(readdirSync(`/proc/${stack.pid}/root${place}`), ['service.sock']);
    });
  });

  test('review OR-27: of a directory of sockets, also one that its service makes anew', async () => {
    const place = mkdtempSync(join(directory, 'own-'));
    chmodSync(place, 0o777);
    writeFileSync(join(place, 'service.pid'), '1');
    const path = join(place, 'service.sock');
    await withService(path, async (_stack, ask) => {
      rmSync(path);
      const again = start(asOwner('socat', `UNIX-LISTEN:${path},fork`, 'EXEC:echo two'));
      try {
        await until(async () => (await ask()) === 'two', 'the new service');
      } finally {
        await again.stop();
      }
    });
  });
});

describe('files that the process cannot see any more', () => {
  test('a unix socket that it listens on is removed at the end, however that comes', async () => {
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      const path = join(directory, `sandbox-${signal}.sock`);
      await withAttached(['-L', `unix:${path}:10.0.2.100:80`], async (stack) => {
        assert.ok(lstatSync(path).isSocket());
        await stack.stop(signal);
        // After a clean end it is gone already.
        if (signal === 'SIGTERM') assert.ok(!existsSync(path));
        await until(() => !existsSync(path), `${path} is removed after ${signal}`);
      });
    }
  });

  test('one that somebody else has put in its place is left alone', async () => {
    const path = join(directory, 'sandbox-other.sock');
    await withAttached(['-L', `unix:${path}:10.0.2.100:80`], async (stack) => {
      renameSync(path, `${path}.old`);
      writeFileSync(path, 'mine');
      await stack.stop('SIGTERM');
    });
    assert.equal(readFileSync(path, 'utf8'), 'mine');
    rmSync(path);
    rmSync(`${path}.old`);
  });
});
