import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { after, describe, type TestContext, test } from 'node:test';
import { signalReady, TargetWatch } from '../../src/app/lifecycle.ts';
import { namespaceOfPath, namespaceOfProcess, processStartTime } from '../../src/sandbox/namespace.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));

/** A process in a network namespace of its own; the script says `up` when it is ready, and ends with its standard input. */
async function startTarget(t: TestContext, script: string): Promise<ChildProcess> {
  const child = spawn('unshare', ['--user', '--map-root-user', '--net', 'sh', '-c', script], {
    stdio: ['pipe', 'pipe', 'inherit', 'pipe'],
  });
  // Whatever happens in the test, nobody stays behind in the namespace.
  t.after(() => {
    child.stdin?.end();
    (child.stdio[3] as Duplex).destroy();
  });
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

describe('TargetWatch', () => {
  test('a process: there while it runs, gone when it has ended', async (t) => {
    const child = await startTarget(t, 'echo up; exec cat');
    const watch = new TargetWatch(namespaceOfProcess(child.pid as number));
    assert.equal(watch.isGone(), false);
    child.stdin?.end();
    await once(child, 'exit');
    assert.equal(watch.isGone(), true);
  });

  // The other one reads descriptor 3: the runtime closes its end of a standard input as soon as the process has ended.
  test('a process that has ended, with another one still in its namespace', async (t) => {
    const child = await startTarget(t, 'cat <&3 >/dev/null & echo up; wait');
    const watch = new TargetWatch(namespaceOfProcess(child.pid as number));
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(watch.isGone(), false);
    (child.stdio[3] as Duplex).end();
    const deadline = Date.now() + 5000;
    while (!watch.isGone()) {
      assert.ok(Date.now() < deadline, 'the namespace is empty and yet not gone');
      await new Promise((resolve) => setImmediate(resolve));
    }
  });

  test('a number that belongs to another process now is not the target', async (t) => {
    const child = await startTarget(t, 'echo up; exec cat');
    const watch = new TargetWatch({ ...namespaceOfProcess(child.pid as number), startTime: '1' });
    assert.equal(watch.isGone(), false, 'somebody is in the namespace');
    child.stdin?.end();
    await once(child, 'exit');
    assert.equal(watch.isGone(), true);
  });

  test('review OP-9: a file that is gone is missed only when nobody is in the namespace', async (t) => {
    const child = await startTarget(t, 'echo up; exec cat');
    const path = join(directory, 'link');
    symlinkSync(`/proc/${child.pid}/ns/net`, path);
    const watch = new TargetWatch(namespaceOfPath(path));
    rmSync(path);
    assert.equal(watch.isGone(), false);
    child.stdin?.end();
    await once(child, 'exit');
    assert.equal(watch.isGone(), true);
  });

  test('a file: gone when it is removed or another one has taken its place', () => {
    const path = join(directory, 'netns');
    writeFileSync(path, '');
    const watch = new TargetWatch(namespaceOfPath(path));
    assert.equal(watch.isGone(), false);
    writeFileSync(`${path}.new`, '');
    renameSync(`${path}.new`, path);
    assert.equal(watch.isGone(), true);
    const second = new TargetWatch(namespaceOfPath(path));
    assert.equal(second.isGone(), false);
    rmSync(path);
    assert.equal(second.isGone(), true);
  });
});

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
