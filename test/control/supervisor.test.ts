import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PATIENCE_MS } from '../support/wait.ts';

interface Outcome {
  code: number | null;
  signal: NodeJS.Signals | null;
  output: string;
  hung: boolean;
}

/** Always the built program: loaders for TypeScript do not reach into worker threads on every version of Node. */
function findProgram(): string {
  const built = join('dist', 'test', 'control', 'support', 'ending.js');
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, built))) {
    assert.notEqual(directory, '/', `there is no ${built}`);
    directory = dirname(directory);
  }
  return join(directory, built);
}
const program = findProgram();

/** Runs the program; one that is still there after ten seconds hangs. `signal` is sent when it says that it waits. */
function run(args: string[], signal?: NodeJS.Signals): Promise<Outcome> {
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return new Promise((resolve) => {
    let output = '';
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      child.kill('SIGKILL');
    }, PATIENCE_MS);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (signal !== undefined && output === 'waiting') child.kill(signal);
    });
    child.on('close', (code, by) => {
      clearTimeout(timer);
      resolve({ code, signal: by, output, hung });
    });
  });
}

describe('every way to end a process whose data plane is blocked in a foreign call', () => {
  const ways: [string, Partial<Outcome>][] = [
    ['exit', { code: 3 }],
    ['throw', { code: 1 }],
    ['reject', { code: 1 }],
    ['stop', { code: 0, output: 'stopped' }],
    ['worker-throws', { code: 0, output: 'ended the stub throws' }],
    ['worker-leaves', { code: 0, output: 'ended without error' }],
  ];
  for (const [way, expected] of ways) {
    test(way, async () => {
      const outcome = await run([way]);
      assert.deepEqual(outcome, { signal: null, hung: false, output: '', ...expected });
    });
  }

  test('SIGTERM with and without a handler', async () => {
    const handled = await run(['sigterm-handled'], 'SIGTERM');
    assert.deepEqual(handled, { code: 4, signal: null, hung: false, output: 'waiting' });
    const plain = await run(['signal'], 'SIGTERM');
    assert.deepEqual(plain, { code: null, signal: 'SIGTERM', hung: false, output: 'waiting' });
  });

  test('exit before the thread has been heard of, at any moment of its start', async () => {
    for (const delay of [1, 50, 150, 400, 1000]) {
      const outcome = await run(['early', String(delay)]);
      assert.deepEqual(outcome, { code: 5, signal: null, hung: false, output: '' }, `after ${delay} ms`);
    }
  });
});
