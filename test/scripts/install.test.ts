/** `make install` and `make uninstall`, below a directory of ours. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import { programPath } from '../support/program-path.ts';

const root = dirname(dirname(programPath('tslirp')));
const directory = mkdtempSync(join(tmpdir(), 'tslirp test-'));
after(() => rmSync(directory, { recursive: true }));

function make(target: string): void {
  const args = ['-s', target, `DESTDIR=${directory}`, 'PREFIX=/opt/a b'];
  const { status, stdout, stderr } = spawnSync('make', args, { cwd: root, encoding: 'utf8' });
  assert.deepEqual([status, stdout, stderr], [0, '', ''], target);
}

test('what is installed works from where it is, has its pages and completions, and goes without a trace', () => {
  const prefix = join(directory, 'opt/a b');
  make('install');
  // Over itself, too.
  make('install');
  for (const [name, option] of [
    ['tslirp', '--version'],
    ['slirp4netns', '--version'],
    ['pasta', '--version'],
    ['pesto', '--version'],
    ['slirpnetstack', '-version'],
  ] as const) {
    const { status, stdout, stderr } = spawnSync(join(prefix, 'bin', name), [option], { encoding: 'utf8' });
    assert.deepEqual([status, stderr], [0, ''], name);
    assert.match(stdout, /\d+\.\d+\.\d+/);
    for (const file of [
      `man/man1/${name}.1`,
      `bash-completion/completions/${name}`,
      `zsh/site-functions/_${name}`,
      `fish/vendor_completions.d/${name}.fish`,
    ])
      assert.ok(existsSync(join(prefix, 'share', file)), file);
  }
  const packages = readdirSync(join(prefix, 'lib/tslirp/node_modules'));
  for (const wanted of ['koffi', '@koromix', 'pino', 'pino-pretty', 'prom-client'])
    assert.ok(packages.includes(wanted), wanted);
  assert.ok(!packages.includes('typescript'));
  make('uninstall');
  const left = readdirSync(prefix, { recursive: true, withFileTypes: true }).filter(
    (entry) => !entry.isDirectory(),
  );
  assert.deepEqual(left, []);
});
