import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { changes } from '../../../src/cli/pasta/counters.ts';
import { namedIds } from '../../../src/cli/pasta/run-as.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));
writeFileSync(join(directory, 'passwd'), 'root:x:0:0::/root:/bin/sh\nann:x:1001:1002::/:/bin/sh\n');
writeFileSync(join(directory, 'group'), 'root:x:0:\nstaff:x:50:ann\n');

describe('pasta §16: --runas', () => {
  for (const [value, uid, gid] of [
    ['1000', 1000, 1000],
    ['1000:5', 1000, 5],
    ['0', 0, 0],
    ['ann', 1001, 1002],
    ['ann:staff', 1001, 50],
    ['7:staff', 7, 50],
  ] as const)
    test(value, () => assert.deepEqual(namedIds(value, directory), { uid, gid }));

  for (const value of ['root', 'nosuch', '1000:nosuch', '4294967295', '1:2x'])
    test(`${value} is refused`, () =>
      assert.throws(() => namedIds(value, directory), { message: `Invalid --runas option: ${value}` }));
});

test('pasta §3: --stats tells of what has changed alone', () => {
  const before = { 'rx.packets': 1, 'tx.packets': 2 };
  assert.equal(changes(before, before), '');
  assert.match(changes({ ...before, 'tx.packets': 3, drops: 1 }, before), /^tx\.packets +3\ndrops +1\n$/);
});
