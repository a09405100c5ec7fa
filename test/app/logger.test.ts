import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import { Logger } from '../../src/app/logger.ts';
import { until } from '../support/wait.ts';

describe('Logger', () => {
  test('R-01: a library that cannot be loaded costs no exception, whenever a line is written', () => {
    // As if there were no descriptors left to read it with.
    const logger = new Logger('info', new URL('file:///nowhere/'));
    logger.activate();
    for (let i = 0; i < 1000; i++) assert.doesNotThrow(() => logger.log('error', `line ${i}`));
  });

  test('review OR-23: nobody reads standard error: we hear signals, and what is lost is told', async () => {
    const module = new URL('../../src/app/logger.ts', import.meta.url).href;
    const source = module.includes('/dist/') ? module.replace(/\.ts$/, '.js') : module;
    const program = `import(${JSON.stringify(source)}).then(({ Logger }) => {
      const logger = new Logger('info');
      logger.activate();
      for (let i = 0; i < 2000; i++) logger.log('info', String(i).padEnd(1000, '.'));
      process.on('SIGHUP', () => logger.log('info', 'after'));
      process.on('SIGTERM', () => process.exit(7));
      console.log('here');
      setInterval(() => undefined, 1000);
    })`;
    const options = process.execArgv.filter((word) => !word.startsWith('--test'));
    const script = '{ sh -c "echo \\$PPID"; exec "$@"; } 2>&1 >&5 | { read go <&3; exec cat >&4; }';
    const child = spawn('sh', ['-c', script, 'sh', process.execPath, ...options, '-e', program], {
      stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe', 'pipe'],
    });
    const [, , , go, log, says] = child.stdio as (Duplex | null)[];
    let pid = 0;
    let said = '';
    let text = '';
    says?.setEncoding('utf8').on('data', (part: string) => {
      said += part;
    });
    log?.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    try {
      await until(() => said.includes('here\n'), 'a program that has written two megabytes');
      pid = Number.parseInt(said, 10);
      go?.write('go\n');
      await until(() => text.length > 200_000, 'what was kept');
      process.kill(pid, 'SIGHUP');
      await until(() => /\d+ log lines are missing here/.test(text) && text.includes('"after"'), 'the count');
      const lost = [...text.matchAll(/(\d+) log lines are missing/g)].reduce(
        (sum, [, count]) => sum + Number(count),
        0,
      );
      assert.equal((text.match(/\.\.\."/g) ?? []).length + lost, 2000);
      process.kill(pid, 'SIGTERM');
      await until(() => child.exitCode !== null, 'the end');
    } finally {
      child.kill('SIGKILL');
      if (pid > 0 && child.exitCode === null) process.kill(pid, 'SIGKILL');
      for (const stream of child.stdio) stream?.destroy();
    }
  });
});
