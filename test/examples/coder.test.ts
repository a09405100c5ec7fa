import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { test } from 'node:test';
import { socketPair } from '../embed/support/back-to-back.ts';
import { projectPath } from '../support/program-path.ts';
import { until } from '../support/wait.ts';

test('examples/coder starts a stack on a tunnel descriptor, applies settings, and stops it', async () => {
  const fds = socketPair();
  const manager = spawn(process.execPath, [projectPath('examples/coder/manager.js'), '3'], {
    stdio: ['pipe', 'pipe', 'inherit', fds[0]],
  });
  let told = '';
  manager.stdout?.on('data', (chunk: Buffer) => {
    told += chunk.toString();
  });
  await until(() => told.includes('tunnel t1 is running'), 'a tunnel that runs');
  assert.match(
    told,
    /settings mtu 1280\nsettings addresses 10\.0\.2\.100\/24 by 10\.0\.2\.2\nsettings dns 10\.0\.2\.3/,
  );
  manager.stdin?.end();
  const [code] = (await once(manager, 'close')) as [number];
  for (const fd of fds) closeSync(fd);
  assert.equal(code, 0);
  assert.match(told, /stopped: STOPPED, exit 0\n$/);
});
