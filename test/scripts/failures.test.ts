/** The last lines of a run say what failed and why: who sees only those of a run elsewhere must be able to mend it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const REPORTER = fileURLToPath(new URL('../support/failures.js', import.meta.url));

const FAILING = `
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
describe('a suite', () => {
  test('a bound', () => assert.ok(57 < 50, 'a turn took 57 ms'));
  test('a value', () => assert.equal(2, 3));
  test('a good one', () => undefined);
});
`;

test('each failed test is there with its message and place, a dead process with its last words, and the totals', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tslirp-failures-'));
  try {
    writeFileSync(join(directory, 'a.test.mjs'), FAILING);
    writeFileSync(
      join(directory, 'b.test.mjs'),
      `console.error('no more'); process.kill(process.pid, 'SIGKILL');`,
    );
    // The runner takes another one's environment for its own.
    const env = { ...process.env };
    delete env['NODE_TEST_CONTEXT'];
    const { stdout, status } = spawnSync(
      process.execPath,
      ['--test', '--test-reporter', REPORTER, 'a.test.mjs', 'b.test.mjs'],
      { cwd: directory, env, encoding: 'utf8' },
    );
    assert.equal(status, 1);
    assert.match(stdout, /^✖ a bound, a\.test\.mjs\n {4}.*a turn took 57 ms\n {4}at .*a\.test\.mjs:5:/m);
    assert.match(stdout, /^✖ a value, a\.test\.mjs\n( {4}.*\n)* {4}2 !== 3\n/m);
    assert.match(stdout, /^✖ b\.test\.mjs\n {4}its process ended: SIGKILL\n {4}no more\n/m);
    assert.match(stdout, /^# fail 3$/m);
    assert.doesNotMatch(stdout, /a good one|a suite/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
