/** The programs in bin/ as people start them: by a link, by Node, from a path with blanks, without perl, before the build. */
import assert from 'node:assert/strict';
import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { programPath } from '../support/program-path.ts';
import { PATIENCE_MS } from '../support/wait.ts';

const root = dirname(dirname(programPath('broker.pl')));
const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

function start([program = '', ...args]: readonly string[], options: SpawnSyncOptions = {}): Ended {
  const { status, stdout, stderr } = spawnSync(program, args, {
    timeout: PATIENCE_MS,
    ...options,
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}

/** A package whose path has a blank, a quote and a letter beyond ASCII, of links to the parts of this one. */
function elsewhere(name: string, ...parts: string[]): string {
  const place = join(directory, name);
  mkdirSync(place);
  cpSync(join(root, 'bin'), join(place, 'bin'), { recursive: true });
  for (const part of parts) symlinkSync(join(root, part), join(place, part));
  return place;
}

/** A PATH with these programs, and no others. */
function pathOf(name: string, ...programs: readonly [name: string, path: string][]): string {
  const place = join(directory, name);
  mkdirSync(place);
  for (const [program, path] of programs) symlinkSync(path, join(place, program));
  return place;
}

const SH: [string, string] = ['sh', '/bin/sh'];
const NODE: [string, string] = ['node', process.execPath];

const programs = [
  ['tslirp', ['--version'], new RegExp(`^${version}\n$`)],
  ['slirp4netns', ['--version'], /^slirp4netns version/],
  ['slirpnetstack', ['-version'], /./],
  ['pasta', ['--version'], /^pasta \d{4}_\d\d_\d\d\S*\n/],
  ['pesto', ['--version'], /^pesto \d{4}_\d\d_\d\d\S*\n/],
] as const;

describe('each program says its version', () => {
  for (const [name, args, expected] of programs) {
    const program = join(root, 'bin', name);
    test(`${name}, by its path and by Node`, () => {
      for (const words of [[program], [process.execPath, program]]) {
        const { status, stdout, stderr } = start([...words, ...args]);
        assert.deepEqual([status, stderr], [0, ''], words.join(' '));
        assert.match(stdout, expected);
      }
    });

    test(`${name}, by links, from a path with blanks, by its bare name`, () => {
      const place = elsewhere(`a 'b' ü ${name}`, 'dist', 'package.json', 'node_modules');
      const link = join(place, 'link to it');
      symlinkSync(`bin/${name}`, link);
      const second = join(directory, `second ${name}`);
      symlinkSync(link, second);
      const byName = { cwd: join(place, 'bin'), env: { PATH: `.:${process.env['PATH']}` } };
      for (const [words, options] of [
        [[join(place, 'bin', name)], {}],
        [[link], {}],
        [[second], {}],
        [[process.execPath, second], {}],
        [[name], byName],
        [['sh', name], { cwd: join(place, 'bin') }],
      ] as const) {
        const { status, stdout, stderr } = start([...words, ...args], options);
        assert.deepEqual([status, stderr], [0, ''], words.join(' '));
        assert.match(stdout, expected, words.join(' '));
      }
    });

    test(`${name}, without perl`, () => {
      const PATH = pathOf(`no perl ${name}`, SH, NODE);
      for (const words of [[program], [process.execPath, program]]) {
        const { status, stdout, stderr } = start([...words, ...args], { env: { PATH } });
        assert.deepEqual([status, stderr], [0, ''], words.join(' '));
        assert.match(stdout, expected);
      }
    });

    test(`${name}, before it is built: one line`, () => {
      const place = elsewhere(`unbuilt ${name}`, 'package.json', 'node_modules');
      for (const words of [[], [process.execPath]]) {
        const { status, stdout, stderr } = start([...words, join(place, 'bin', name), ...args]);
        assert.deepEqual([status, stdout], [127, '']);
        assert.match(stderr, /^[^\n]+ is missing: build it with `npm run build`\n$/);
      }
    });
  }
});

describe('what needs perl, where there is none', () => {
  const PATH = pathOf('no perl', SH, NODE, ['true', '/bin/true']);
  test('tslirp run and attach: one line with the package', () => {
    const program = join(root, 'bin', 'tslirp');
    for (const args of [
      ['run', '--', 'true'],
      ['attach', String(process.pid)],
    ]) {
      const { status, stderr } = start([program, ...args], { env: { PATH } });
      assert.equal(status, 1);
      assert.match(stderr, /^tslirp: [^\n]* perl, [^\n]*\(package perl-base\)\n$/);
    }
  });

  test('slirp4netns and slirpnetstack: with the package', () => {
    const target = String(process.pid);
    for (const words of [
      [join(root, 'bin', 'slirp4netns'), target, 'tap0'],
      [join(root, 'bin', 'slirpnetstack'), '-netns', `/proc/${target}/ns/net`],
    ]) {
      const { status, stderr } = start(words, { env: { PATH } });
      assert.notEqual(status, 0);
      assert.match(stderr, /perl, .*\(package perl-base\)/);
    }
  });
});

test('no Node in PATH is told; by Node itself, that one is used', () => {
  const perl = start(['sh', '-c', 'command -v perl']).stdout.trim();
  const PATH = pathOf('no node', SH, ['perl', perl]);
  const program = join(root, 'bin', 'tslirp');
  const { status, stderr } = start([program, '--version'], { env: { PATH } });
  assert.equal(status, 127);
  assert.match(stderr, /^[^\n]*tslirp: node cannot be started: [^\n]*; Node\.js [^\n]* has to be in PATH\n$/);
  const bare = pathOf('nothing', SH);
  assert.equal(start([program, '--version'], { env: { PATH: bare } }).status, 127);
  assert.equal(start([process.execPath, program, '--version'], { env: { PATH } }).stdout, `${version}\n`);
  assert.equal(
    start([process.execPath, program, '--version'], { env: { PATH: bare } }).stdout,
    `${version}\n`,
  );
});

test('variables for Node are not obeyed, with perl or without', () => {
  const program = join(root, 'bin', 'tslirp');
  const PATH = pathOf('no perl again', SH, NODE);
  for (const path of [process.env['PATH'], PATH]) {
    const env = { PATH: path, NODE_OPTIONS: '--no-such-option' };
    const { status, stderr } = start([program, '--version'], { env });
    assert.deepEqual([status, stderr], [0, '']);
  }
});

test('what Node sees of a program is a script of a package of the old kind, wherever that is', () => {
  const { type } = JSON.parse(readFileSync(join(root, 'bin', 'package.json'), 'utf8')) as { type: string };
  assert.equal(type, 'commonjs');
  const place = elsewhere('module', 'dist', 'node_modules');
  writeFileSync(join(place, 'package.json'), JSON.stringify({ type: 'module', version }));
  assert.equal(start([process.execPath, join(place, 'bin', 'tslirp'), '--version']).stdout, `${version}\n`);
});
