/** What tslirp itself may still do once it is ready, and that all of its work goes on nevertheless. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { attach, bareNamespace, startGuest } from '../support/namespaces.ts';

/** Status of every thread of a process. */
function threadStatus(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((task) =>
    readFileSync(`/proc/${pid}/task/${task}/status`, 'latin1'),
  );
}

function field(status: string, name: string): string {
  return new RegExp(`^${name}:\\t(.*)$`, 'm').exec(status)?.[1] ?? '';
}

function assertFiltered(pid: number): void {
  const threads = threadStatus(pid);
  assert.ok(threads.length > 4);
  for (const status of threads) {
    assert.deepEqual([field(status, 'Seccomp'), field(status, 'NoNewPrivs')], ['2', '1']);
  }
}

function assertFree(pid: number): void {
  for (const status of threadStatus(pid)) {
    assert.deepEqual([field(status, 'Seccomp'), field(status, 'NoNewPrivs')], ['0', '0']);
  }
}

describe('the sandbox', () => {
  test('run: every thread of ours is filtered, the command is not', async () => {
    await using guest = await startGuest();
    assertFiltered(guest.stack.pid);
    assertFree(guest.namespace.pid);
  });

  test('attach: every thread is filtered; with --no-sandbox none is', async () => {
    const { namespace, anchor } = await bareNamespace();
    try {
      const filtered = await attach(namespace.pid);
      assertFiltered(filtered.pid);
      await filtered.stop('SIGTERM');
      const free = await attach(namespace.pid, '--no-sandbox');
      assertFree(free.pid);
      await free.stop('SIGTERM');
    } finally {
      await anchor.stop();
    }
  });
});
