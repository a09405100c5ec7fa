/** The namespaces of a command under `run`: what they take, what is said where there are none, and who collects whom. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { asOwner, bareNamespace, directory, programPath, ready } from '../support/namespaces.ts';
import { run, start } from '../support/processes.ts';

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

/** A first process that collects only the one it has started, and then names those that nobody has collected. */
const CARELESS = `
  my $child = fork;
  if (!$child) { exec @ARGV }
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
});
