/** The programs in examples/embed, as a reader would run them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { projectPath } from '../support/program-path.ts';

test('the sandbox: a command has a network, and its exit status is ours', () => {
  const words = ['sh', '-c', 'ip -o -4 addr show tap0 && ping -c1 -W30 10.0.2.2 && exit 7'];
  const args = [projectPath('examples/embed/sandbox.mjs'), ...words];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  assert.equal(status, 7, stderr);
  assert.match(stdout, /inet 10\.0\.2\.100\/24.* 1 received, 0% packet loss/s);
});
