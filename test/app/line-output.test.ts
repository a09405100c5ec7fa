import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { until } from '../support/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-lines-'));
after(() => rmSync(directory, { recursive: true }));

/** A program that writes numbered lines of `size` bytes, says on stderr that it has, and ends when it is told to. */
function program(lines: number, size: number): string {
  const module = new URL('../../src/app/line-output.ts', import.meta.url).href;
  const source = module.includes('/dist/') ? module.replace(/\.ts$/, '.js') : module;
  return `import(${JSON.stringify(source)}).then(({ LineOutput }) => {
    const output = new LineOutput();
    for (let i = 0; i < ${lines}; i++) output.line(String(i).padEnd(${size}, '.'));
    process.stderr.write('done');
    process.stdin.on('data', () => {}).on('end', () => process.exit(0));
  })`;
}

const args = (source: string): string[] => [
  ...process.execArgv.filter((word) => !word.startsWith('--test')),
  '-e',
  source,
];

describe('LineOutput', () => {
  test('writes whole lines to a pipe and to a file', () => {
    const expected = Array.from({ length: 1000 }, (_, i) => String(i).padEnd(20, '.')).join('\n');
    const piped = spawnSync(process.execPath, args(program(1000, 20)), { encoding: 'utf8' });
    assert.equal(piped.stdout, `${expected}\n`);
    const path = join(directory, 'file');
    spawnSync(process.execPath, args(program(1000, 20)), {
      stdio: ['ignore', openSync(path, 'a'), 'ignore'],
    });
    assert.equal(readFileSync(path, 'utf8'), `${expected}\n`);
  });

  for (const kind of ['a socket', 'a pipe'] as const) {
    test(`${kind}: does not wait for a reader, keeps 4 MiB, and drops whole lines beyond`, async () => {
      // Node gives its children sockets; a shell gives pipes. The reader behind that begins when descriptor 3 says so.
      const command = [process.execPath, ...args(program(10_000, 999))];
      const pipeline = ['sh', '-c', '"$@" | { read go <&3; exec cat; }', 'sh', ...command];
      const [file = '', ...rest] = kind === 'a pipe' ? pipeline : command;
      const child = spawn(file, rest, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
      try {
        let said = '';
        child.stderr?.setEncoding('utf8').on('data', (part: string) => {
          said += part;
        });
        // Nobody has read a byte of ten megabytes.
        await until(() => said === 'done', 'the end of writing');
        if (kind === 'a pipe') (child.stdio[3] as NodeJS.WritableStream).write('go\n');
        let text = '';
        child.stdout?.setEncoding('latin1').on('data', (part: string) => {
          text += part;
        });
        await until(() => text.length >= 4_000_000, 'what was kept');
        child.stdin?.end();
        await until(() => child.exitCode === 0, 'the end');
        const lines = text.split('\n');
        assert.equal(lines.pop(), '');
        assert.ok(lines.length < 4700, `${lines.length} lines`);
        lines.forEach((line, i) => {
          assert.equal(line, String(i).padEnd(999, '.'));
        });
      } finally {
        child.kill('SIGKILL');
        for (const stream of child.stdio) stream?.destroy();
      }
    });
  }

  test('a reader that is gone is no reason to end', async () => {
    const child = spawn(process.execPath, args(program(1000, 999)), { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdout.destroy();
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await until(() => said === 'done', 'the end of writing');
    child.stdin.end();
    await until(() => child.exitCode === 0, 'the end');
  });
});
