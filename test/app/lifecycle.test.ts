import assert from 'node:assert/strict';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { signalReady } from '../../src/app/lifecycle.ts';
import { namespaceOfPath, processStartTime } from '../../src/sandbox/namespace.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));

describe('namespaceOfPath', () => {
  test('takes /proc/PID/ns/net for that process', () => {
    const namespace = namespaceOfPath(`/proc/${process.pid}/ns/net`);
    assert.equal(namespace.pid, process.pid);
    assert.equal(namespace.startTime, processStartTime(process.pid));
  });
});

test('processStartTime is empty for a process that is not there', () => {
  assert.equal(processStartTime(0x3fffffff), '');
  assert.match(processStartTime(process.pid), /^\d+$/);
});

test('signalReady writes one byte and closes; a closed descriptor is no error', () => {
  const path = join(directory, 'ready');
  const fd = openSync(path, 'w');
  signalReady(fd);
  assert.equal(readFileSync(path, 'latin1'), '1');
  assert.throws(() => fstatSync(fd), { code: 'EBADF' });
  signalReady(-1);
  const closed = openSync(path, 'r');
  closeSync(closed);
  signalReady(closed);
});
