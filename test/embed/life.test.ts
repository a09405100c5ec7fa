/** How a tunnel in this process begins and ends, and what it leaves. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openTunnel } from '../../src/embed/open-tunnel.ts';
import type { OpenOptions, TunnelConfig } from '../../src/embed/types.ts';
import { WorkerTunnel } from '../../src/embed/worker-tunnel.ts';
import { until } from '../support/wait.ts';
import { BackToBack, blockingPair, facing, GUEST, held, more, socketPair } from './support/back-to-back.ts';

const worker: OpenOptions = { mode: 'worker' };

/** Nothing is held after `body` that was not held before it. */
async function leavesNothing(body: () => Promise<void>): Promise<void> {
  const before = held();
  await body();
  const isNothing = (): boolean => Object.keys(more(before)).length === 0;
  await until(isNothing, 'everything given back').catch(() => assert.deepEqual(more(before), {}));
}

async function plain(): Promise<void> {
  const fds = socketPair();
  await (await openTunnel({ link: { fd: fds[0] } }, worker)).stop();
  for (const fd of fds) closeSync(fd);
}

/** O_NONBLOCK and the like of an open file. */
function flagsOf(fd: number): number {
  const [, octal = ''] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')) ?? [];
  return Number.parseInt(octal, 8);
}

function never(): Promise<void> {
  return new Promise(() => undefined);
}

describe('M-1: a start that fails leaves nothing', () => {
  type Step = { code: string; config?: Partial<TunnelConfig>; options?: Partial<OpenOptions> };
  const steps: Record<string, (busy: number, file: number) => Step> = {
    'a descriptor that is no link': (_, file) => ({ code: 'FD_UNSUPPORTED', config: { link: { fd: file } } }),
    'settings rejected': () => ({
      code: 'SETTINGS_REJECTED',
      options: { applySettings: () => Promise.reject(new Error('no')) },
    }),
    'settings not answered': () => ({
      code: 'START_TIMEOUT',
      options: { applySettings: never, startTimeoutMs: 300 },
    }),
    'not there in time': () => ({ code: 'START_TIMEOUT', options: { startTimeoutMs: 1 } }),
    'a port that is taken': (busy) => ({ code: 'ADDRESS_IN_USE', config: { forwards: [`tcp:${busy}:80`] } }),
    'the second of two ports taken': (busy) => ({
      code: 'ADDRESS_IN_USE',
      config: { forwards: ['tcp:0:80', `tcp:${busy}:80`] },
    }),
    'a capture that cannot be written': () => ({
      code: 'BAD_CONFIG',
      config: { capture: { path: '/nonexistent/x.pcap' } },
    }),
  };
  for (const [name, step] of Object.entries(steps)) {
    test(name, async () => {
      await plain();
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      const file = openSync(fileURLToPath(import.meta.url), 'r');
      const { code, config, options } = step((server.address() as { port: number }).port, file);
      await leavesNothing(async () => {
        const fds = socketPair();
        await assert.rejects(openTunnel({ link: { fd: fds[0] }, ...config }, { ...worker, ...options }), {
          name: 'TslirpError',
          code,
        });
        for (const fd of fds) closeSync(fd);
      });
      closeSync(file);
      server.close();
    });
  }

  test('abort, however far it has come', async () => {
    await plain();
    for (let turns = 0; turns < 200; turns = turns * 2 + 1) {
      await leavesNothing(async () => {
        const fds = socketPair();
        const controller = new AbortController();
        const opening = openTunnel({ link: { fd: fds[0] } }, { ...worker, signal: controller.signal });
        opening.catch(() => undefined);
        for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
        controller.abort();
        await opening.then(
          async (tunnel) => assert.equal((await tunnel.closed).code, 'ABORTED'),
          (error: { code: string }) => assert.equal(error.code, 'ABORTED'),
        );
        for (const fd of fds) closeSync(fd);
      });
    }
  });
});

/** A program of its own, and how it ends; it is told so as soon as its tunnel runs. */
async function run(
  what: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<{ code: number | null; output: string }> {
  const program = fileURLToPath(new URL('support/embedder.js', import.meta.url));
  const child = spawn(process.execPath, ['--expose-gc', program, what], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  });
  child.stdin.on('error', () => undefined);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
    if (output === 'running\n') child.stdin.write('end');
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output };
}

test('M-6: a thread that throws is CRASHED, its connections are closed, and other tunnels go on', async () => {
  await plain();
  const other = await BackToBack.open(worker);
  const service = await other.far.listen({ port: 7 });
  void (async () => {
    for await (const socket of service) socket.pipe(socket);
  })();
  await leavesNothing(async () => {
    const [near, far] = socketPair();
    const guest = await openTunnel({ link: { fd: far }, addresses: facing }, worker);
    const listener = await guest.listen({ port: 7 });
    const doomed = await WorkerTunnel.open(
      { link: { fd: near } },
      worker,
      new URL('support/throwing-worker.js', import.meta.url),
    );
    const forward = await doomed.addForward('tcp:0:10.0.2.100:7');
    const stream = await doomed.dial({ host: GUEST, port: 7 });
    const ended = once(stream.resume(), 'end');
    const flows = doomed.flows();
    await assert.rejects(flows.next());
    const reason = await doomed.closed;
    assert.equal(reason.code, 'CRASHED');
    assert.match(reason.detail ?? '', /injected/);
    assert.equal(doomed.state, 'failed');
    await ended;
    stream.destroy();
    const server = createServer().listen(forward.host.port, forward.host.ip);
    await once(server, 'listening');
    server.close();
    await listener.close();
    await guest.stop();
    for (const fd of [near, far]) closeSync(fd);
  });
  const stream = await other.near.dial({ host: GUEST, port: 7 });
  stream.end('still there');
  assert.equal(Buffer.concat(await stream.toArray()).toString(), 'still there');
  await other.close();
});

test('M-7: twenty tunnels at once, and then none', async () => {
  // Each thread has an arena of glibc's otherwise, and what is free in there is not given back.
  const { code, output } = await run('twenty', { MALLOC_ARENA_MAX: '1' });
  assert.equal(code, 0);
  const told = JSON.parse(output) as { grownMb: number; left: object; warned: string[] };
  assert.deepEqual(told.left, {});
  assert.deepEqual(told.warned, []);
  assert.ok(told.grownMb < 100, `${told.grownMb} MB more than after the first twenty`);
});

test('M-8: a sink that throws costs its own record', async () => {
  const fds = socketPair();
  let calls = 0;
  const sink = (): void => {
    calls++;
    throw new Error('the sink’s own');
  };
  const tunnel = await openTunnel({ link: { fd: fds[0] } }, { ...worker, log: { level: 'debug', sink } });
  assert.ok(calls > 0);
  assert.equal((await tunnel.status()).state, 'running');
  await tunnel.stop();
  for (const fd of fds) closeSync(fd);
});

test('M-10: the caller’s descriptor is open afterwards, and blocks as it did', async () => {
  for (const [near, far] of [blockingPair(), socketPair()] as const) {
    const before = flagsOf(near);
    const tunnel = await openTunnel({ link: { fd: near } }, worker);
    assert.notEqual(flagsOf(near) & 0o4000, 0, 'shared by the two descriptors');
    await tunnel.stop();
    assert.equal(flagsOf(near) & 0o4000, before & 0o4000);
    for (const each of [near, far]) closeSync(each);
  }
});

describe('M-5: a process with a tunnel', () => {
  test('stays as long as it runs', async () => {
    const { code, output } = await run('stays');
    assert.deepEqual([code, output], [0, 'running\nstopped\n']);
  });
  test('ends by itself where it is not to be kept', async () => {
    assert.equal((await run('unref')).code, 0);
  });
  test('ends by process.exit and by an exception', async () => {
    assert.equal((await run('exits')).code, 7);
    assert.equal((await run('throws')).code, 1);
  });
  test('is as it was: directory, umask, handlers, no warning', async () => {
    const { code, output } = await run('touches');
    assert.equal(code, 0);
    const told = JSON.parse(output.split('\n')[1] ?? '') as { before: string; now: string; warned: string[] };
    assert.equal(told.now, told.before);
    assert.deepEqual(told.warned, []);
  });
});
