/** A tunnel whose stack is a child: what is peculiar to that. What both forms have in common is told in the other files here. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { openTunnel } from '../../src/embed/open-tunnel.ts';
import type { OpenOptions, TunnelEvent } from '../../src/embed/types.ts';
import { until } from '../support/wait.ts';
import { BackToBack, GUEST, socketPair } from './support/back-to-back.ts';

const child: OpenOptions = { mode: 'process' };

/** PIDs of our children, but for those that the runtime has. */
function children(): number[] {
  const tasks = readdirSync('/proc/self/task');
  const lists = tasks.map((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8'));
  return lists
    .flatMap((list) => list.split(' ').filter(Boolean).map(Number))
    .filter((pid) => !others.has(pid));
}

const others = new Set<number>();
for (const pid of children()) others.add(pid);

async function withLink(use: (fd: number) => Promise<void>): Promise<void> {
  const fds = socketPair();
  try {
    await use(fds[0]);
  } finally {
    for (const fd of fds) closeSync(fd);
  }
}

describe('a tunnel in a child', () => {
  test('starts, answers, and stops; the child is gone, and the descriptor is ours', () =>
    withLink(async (fd) => {
      const before = children();
      const tunnel = await openTunnel({ link: { fd } }, child);
      assert.equal(tunnel.state, 'running');
      assert.equal((await tunnel.status()).state, 'running');
      assert.equal(tunnel.settings.ipv4?.addresses[0], '10.0.2.100/24');
      await assert.rejects(openTunnel({ link: { fd } }, child), { code: 'BAD_CONFIG' });
      assert.deepEqual(await tunnel.stop(), { code: 'STOPPED' });
      assert.deepEqual(await tunnel.closed, { code: 'STOPPED' });
      assert.equal(tunnel.state, 'stopped');
      assert.deepEqual(children(), before);
      await assert.rejects(tunnel.status(), { code: 'NOT_RUNNING' });
      await (await openTunnel({ link: { fd } }, child)).stop();
    }));

  test('what the child refuses has its code, its path and its cause', () =>
    withLink(async (fd) => {
      const no = new Error('no such interface');
      const rejecting: OpenOptions = { ...child, applySettings: () => Promise.reject(no) };
      await assert.rejects(openTunnel({ link: { fd } }, rejecting), { code: 'SETTINGS_REJECTED', cause: no });
      const bad = openTunnel({ link: { fd }, policy: { allow: ['nonsense:::'] } }, child);
      await assert.rejects(bad, { code: 'BAD_CONFIG' });
      await assert.rejects(openTunnel({ link: { fd: 999 } }, child), { code: 'FD_INVALID' });
      await assert.rejects(openTunnel({ link: { fd } }, { ...child, startTimeoutMs: 1 }), {
        code: 'START_TIMEOUT',
      });
      const reason = new Error('enough');
      const aborted = openTunnel({ link: { fd } }, { ...child, signal: AbortSignal.abort(reason) });
      await assert.rejects(aborted, { code: 'ABORTED', cause: reason });
      const nowhere = openTunnel({ link: { fd } }, { ...child, executable: '/nonexistent' });
      await assert.rejects(nowhere, { code: 'CHILD_EXITED' });
      const other = openTunnel({ link: { fd } }, { ...child, executable: '/bin/false' });
      await assert.rejects(other, { code: 'CHILD_EXITED', message: /ended with status 1/ });
      assert.deepEqual(children(), []);
    }));

  test('settings, forwards and events go through', () =>
    withLink(async (fd) => {
      const diffs: unknown[] = [];
      const tunnel = await openTunnel(
        { link: { fd } },
        { ...child, applySettings: (diff) => void diffs.push(Object.keys(diff)) },
      );
      const events: TunnelEvent[] = [];
      const reading = (async () => {
        for await (const event of tunnel.events()) events.push(event);
      })();
      const forward = await tunnel.addForward('tcp:0:80');
      assert.ok(forward.host.port > 0);
      await tunnel.updateSettings({ mtu: 1280 });
      assert.deepEqual(diffs.at(-1), ['mtu']);
      assert.equal(tunnel.settings.mtu, 1280);
      await forward.remove();
      await tunnel.setPolicy({ routing: true }, { revoke: true });
      tunnel.wake();
      for await (const flow of tunnel.flows()) assert.fail(JSON.stringify(flow));
      await until(() => events.some(({ type }) => type === 'forward.removed'), 'the event of a forward');
      await tunnel.stop();
      await reading;
      const types = events.map((event) => (event.type === 'state' ? event.state : event.type));
      assert.deepEqual(types.slice(0, 3), ['running', 'settings', 'snapshot']);
      assert.ok(types.includes('forward.added'));
      assert.equal(types.at(-1), 'stopped');
    }));

  test('streams into the guest and out of it are streams of ours', async () => {
    const pair = await BackToBack.open(child);
    try {
      const listener = await pair.far.listen({ host: GUEST, port: 7000 });
      const [stream, accepted] = await Promise.all([
        pair.near.dial({ host: GUEST, port: 7000 }),
        listener[Symbol.asyncIterator]().next(),
      ]);
      const other = accepted.value;
      stream.write('hello');
      assert.equal(String((await once(other, 'data'))[0]), 'hello');
      other.end('bye');
      assert.equal(String((await once(stream, 'data'))[0]), 'bye');
      await once(stream, 'end');
      stream.destroy();
      await listener.close();
      await assert.rejects(pair.near.dial({ host: GUEST, port: 7001 }), {
        code: 'ECONNREFUSED',
        syscall: 'connect',
      });
    } finally {
      await pair.close();
    }
  });

  for (const signal of ['SIGKILL', 'SIGSEGV'] as const) {
    test(`M-29: ended by ${signal}, it is CRASHED, and calls that wait are CHILD_EXITED (M-26)`, () =>
      withLink(async (fd) => {
        const tunnel = await openTunnel({ link: { fd } }, child);
        const [pid = 0] = children();
        process.kill(pid, 'SIGSTOP');
        const calls = [tunnel.status(), tunnel.addForward('tcp:0:80'), tunnel.setPolicy({})];
        const settled = Promise.allSettled(calls);
        process.kill(pid, signal);
        process.kill(pid, 'SIGCONT');
        const results = await settled;
        for (const result of results)
          assert.equal(
            result.status === 'rejected' && (result.reason as { code: string }).code,
            'CHILD_EXITED',
          );
        const reason = await tunnel.closed;
        assert.deepEqual([reason.code, reason.signal], ['CRASHED', signal]);
        assert.equal(tunnel.state, 'failed');
        assert.deepEqual(await tunnel.stop(), reason);
        assert.deepEqual(children(), []);
      }));
  }

  test('the end of the link is told as its reason', async () => {
    const fds = socketPair();
    const tunnel = await openTunnel({ link: { fd: fds[0] } }, child);
    closeSync(fds[1]);
    assert.equal((await tunnel.closed).code, 'LINK_CLOSED');
    assert.equal(tunnel.state, 'stopped');
    closeSync(fds[0]);
    assert.deepEqual(children(), []);
  });
});
