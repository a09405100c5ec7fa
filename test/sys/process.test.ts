import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { setOpenFilesLimit } from '../../src/sys/process.ts';
import { until } from '../support/wait.ts';

function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

describe('process', () => {
  test('setOpenFilesLimit sets both limits', () => {
    assert.equal(setOpenFilesLimit(900), 0);
    assert.match(readFileSync('/proc/self/limits', 'latin1'), /^Max open files\s+900\s+900\s/m);
  });

  test('setParentDeathSignal, called in a worker, ends the whole process with its parent', async () => {
    const module = new URL('../../src/sys/process.ts', import.meta.url).href;
    const compiled = module.includes('/dist/') ? module.replace(/\.ts$/, '.js') : module;
    const thread = `import(${JSON.stringify(compiled)}).then(({ setParentDeathSignal }) => {
      require('worker_threads').parentPort.postMessage(setParentDeathSignal(15));
      setInterval(() => {}, 1000);
    })`;
    const grandchild = `const { Worker } = require('worker_threads');
      new Worker(${JSON.stringify(thread)}, { eval: true }).on('message', (result) =>
        console.log(process.pid, result));`;
    // The shell is the parent: it waits, and is then killed.
    const argv = [...process.execArgv.filter((word) => !word.startsWith('--test')), '-e', grandchild];
    const shell = spawn('sh', ['-c', '"$0" "$@" & wait', process.execPath, ...argv], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: fileURLToPath(new URL('.', import.meta.url)),
    });
    let out = '';
    shell.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    await until(() => out.includes('\n'), 'the answer of prctl');
    const [pid = 0, result] = out.trim().split(' ').map(Number);
    assert.equal(result, 0);
    assert.ok(isAlive(pid));
    shell.kill('SIGKILL');
    await until(() => !isAlive(pid), 'the end with the parent');
  });
});
