/** The namespaces of a command under `run`: what they take, what is said where there are none, and who collects whom. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  asOwner,
  bareNamespace,
  directory,
  GATEWAY4,
  mode,
  programPath,
  ready,
} from '../support/namespaces.ts';
import { must, run, start } from '../support/processes.ts';

const QUIET = ['--log-level', 'warn'];

/** A directory with Node and these programs, and no others. */
function pathOf(name: string, ...programs: string[]): string {
  const path = join(directory, name);
  mkdirSync(path);
  symlinkSync(process.execPath, join(path, 'node'));
  for (const program of programs) symlinkSync(join('/usr/bin', program), join(path, program));
  return path;
}

describe('what namespaces take', () => {
  test('review ON-7: neither nsenter, unshare nor setpriv', async () => {
    const few = pathOf('few', 'perl', 'env', 'sh', 'true', 'readlink', 'cp', 'mount', 'umount', 'mkdir');
    const inFew = (...args: string[]): string[] =>
      asOwner('/usr/bin/env', `PATH=${few}`, programPath('tslirp'), ...args);
    const ended = await run(inFew('run', ...QUIET, '--', 'true'));
    assert.deepEqual([ended.status, ended.stderr], [0, '']);
    const { namespace, anchor } = await bareNamespace();
    const stack = start(inFew('attach', ...QUIET, '--ready-fd', '3', String(namespace.pid)), {
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    });
    try {
      await ready(stack);
    } finally {
      await stack.stop('SIGTERM');
      await anchor.stop();
    }
  });

  test('review ON-7, ON-8, OP-14: where there are none, one line says which setting forbids them', async () => {
    const script = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"';
    for (const sandbox of [[], ['--no-sandbox']]) {
      const argv = [programPath('tslirp'), 'run', ...QUIET, ...sandbox, '--', 'true'];
      const inside = ['unshare', '--user', '--map-root-user', 'sh', '-c', script, 'sh'];
      const { status, stderr } = await run(asOwner(...inside, ...argv));
      assert.equal(status, 1);
      assert.match(stderr, /^tslirp: no user namespace .*user\.max_user_namespaces allows \(0\)[^\n]*\n$/);
    }
  });
});

describe('review OP-15: the ids of a command', () => {
  const change = `f=$(mktemp) && chown 5:7 "$f" && stat -c %u:%g "$f"; rm -f "$f"
    setpriv --reuid 1000 --regid 1000 --groups 1001 id; cat /proc/self/uid_map; ping -n -c 1 -W 5 ${GATEWAY4} >/dev/null && echo reached`;
  const REFUSAL = /^tslirp: the ids that --map-auto is for cannot be had: ([^\n]*)\n$/;

  /** What `run --map-auto` comes to where both files say this, with or without a sandbox. */
  async function withIds(
    ids: string,
    env: string[] = [],
  ): Promise<{ status: number | null; said: string }[]> {
    const given = join(directory, 'sub-ids');
    writeFileSync(given, ids);
    const files = ['/etc/subuid', '/etc/subgid'];
    for (const file of files) await must(['mount', '--bind', given, file]);
    const ended: { status: number | null; said: string }[] = [];
    try {
      for (const sandbox of [[], ['--no-sandbox']]) {
        const argv = [
          programPath('tslirp'),
          'run',
          ...QUIET,
          ...sandbox,
          '--map-auto',
          '--',
          'sh',
          '-c',
          change,
        ];
        const { status, stdout, stderr } = await run(asOwner('env', ...env, ...argv));
        ended.push({ status, said: stdout + stderr });
      }
    } finally {
      for (const file of files) await must(['umount', file]);
    }
    return ended;
  }
  const self = async (what: string): Promise<string> => (await must(asOwner('id', what))).trim();

  test('with --map-auto all that /etc/subuid and /etc/subgid give', async () => {
    const [name, uid] = [await self('-un'), await self('-u')];
    for (const { status, said } of await withIds(`${name}:200000:1000\nother:1:5\n\n${uid}:300000:64536\n`)) {
      if (mode === 'nested') {
        // This user namespace maps one id, and so there are no others to give.
        assert.equal(status, 1);
        assert.match(said, REFUSAL);
        continue;
      }
      const map = `\n +0 +${uid} +1\n +1 +200000 +1000\n +1001 +300000 +64536\n`;
      assert.match(said, new RegExp(`^5:7\nuid=1000.* gid=1000.* groups=1000[^ ]*,1001.*${map}reached\n$`));
      assert.equal(status, 0);
    }
  });

  test('where there are none, or nobody to give them, one line says so', async () => {
    const name = await self('-un');
    for (const { status, said } of await withIds('other:1:5\n')) {
      assert.equal(status, 1);
      assert.equal(REFUSAL.exec(said)?.[1], `/etc/subuid gives none to ${name}`);
    }
    const few = pathOf('without-newuidmap', 'perl', 'env', 'sh', 'readlink');
    for (const { status, said } of await withIds(`${name}:200000:1000\n`, [`PATH=${few}`])) {
      assert.equal(status, 1);
      assert.equal(REFUSAL.exec(said)?.[1], 'newuidmap cannot be started (package uidmap)');
    }
    // Too many, for whoever checks it: what newuidmap(1) says is passed on.
    for (const { status, said } of await withIds(`${name}:4294967000:1000\n`)) {
      assert.equal(status, 1);
      assert.match(REFUSAL.exec(said)?.[1] ?? said, /^newuidmap: /);
    }
  });
});

/** A first process that collects only the one it has started, and then names those that nobody has collected. */
const CARELESS = `
  my $child = fork;
  if (!$child) { exec { $ARGV[0] } @ARGV }
  waitpid($child, 0);
  my $status = $? >> 8;
  for my $stat (glob '/proc/[0-9]*/stat') {
    open(my $file, '<', $stat) or next;
    my $line = <$file> // '';
    print $line if $line =~ /\\) Z /;
  }
  exit $status`;

describe('review ON-4: where the first process collects nobody', () => {
  for (const [what, options] of [
    ['run', []],
    ['run --no-sandbox', ['--no-sandbox']],
    ['an argument that cannot be used', ['--mtu', 'wide']],
  ] as const) {
    test(`${what}: no zombie is left`, async () => {
      const inside = ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--mount-proc'];
      const argv = [programPath('tslirp'), 'run', ...QUIET, ...options, '--', 'true'];
      const ended = await run(asOwner(...inside, 'perl', '-e', CARELESS, '--', ...argv));
      assert.equal(ended.status, options.includes('wide' as never) ? 2 : 0, ended.stderr);
      assert.equal(ended.stdout, '');
    });
  }

  for (const [what, name, words, status] of [
    ['no arguments', 'slirp4netns', [], 1],
    ['a process that is not there', 'slirp4netns', ['-c', '4194303', 'tap0'], 1],
    ['an early device of such a process', 'slirp4netns', ['4194303', 'tap0'], 1],
    ['a device of another kind', 'slirp4netns', ['1', 'lo'], 1],
    ['a flag that there is not', 'slirpnetstack', ['-none'], 2],
    ['a namespace that is not there', 'slirpnetstack', ['-netns', '/nonexistent'], 253],
  ] as const) {
    test(`${name}, ${what}: no zombie is left`, async () => {
      const inside = ['unshare', '--user', '--map-root-user', '--net', '--pid', '--fork', '--mount-proc'];
      const argv = [programPath(name), ...words];
      const ended = await run(asOwner(...inside, 'perl', '-e', CARELESS, '--', ...argv));
      assert.doesNotMatch(ended.stdout, /\) Z /);
      assert.equal(ended.status, status, ended.stderr);
    });
  }
});
