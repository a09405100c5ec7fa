/** Connections between the loopback of the guest and that of the host (issue 15, point 2; pasta §8.4), in the sandbox. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { GuestListeners } from '../support/guest-listeners.ts';
import { directory, HOST4, mode, startGuest } from '../support/namespaces.ts';
import { until } from '../support/wait.ts';

/** Of the host and of the guest: no other test listens there. */
const PORT = 28_180;

/** What comes back of a word said to a port, or the code of what went wrong. */
async function say(port: number, host = '127.0.0.1'): Promise<string> {
  const net = await import('node:net');
  return new Promise((resolve) => {
    const socket = net.connect({ host, port }, () => socket.end('hello'));
    let answer = '';
    socket.on('data', (part) => {
      answer += part.toString();
    });
    socket.on('end', () => resolve(answer));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? String(error)));
  });
}

test('issue 15: -L and -R by loopback, also below 1024 inside; A-12: what is found there is for the host alone', async (t) => {
  const server = createServer((socket) => socket.end(`from ${socket.remoteAddress}`));
  server.listen(PORT + 1, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const events = join(directory, `splice-${mode}.jsonl`);
  rmSync(events, { force: true });
  const guest = await startGuest(
    ...['-L', `127.0.0.1:${PORT}:127.0.0.1:80`, '-R', `127.0.0.1:53:127.0.0.1:${PORT + 1}`],
    ...['--auto-forward=tcp,bind=0.0.0.0', '--events', events],
  );
  const listeners = new GuestListeners(guest.namespace);
  t.after(async () => {
    await listeners.stop();
    await guest[Symbol.asyncDispose]();
  });
  assert.equal(await say(PORT), 'ECONNRESET', 'nobody listens yet');
  // A guest's own rights are enough for what takes one.
  await guest.namespace.sysctl('net.ipv4.ip_unprivileged_port_start=0');
  await listeners.open('tcp', '127.0.0.1', 80);
  await listeners.open('tcp', '127.0.0.1', PORT + 2);
  assert.equal(await say(PORT), 'hello');
  assert.equal(await guest.namespace.evaluate(say, [53]), 'from 127.0.0.1');
  const forwarded = (): boolean =>
    existsSync(events) &&
    readFileSync(events, 'utf8').includes(`"hostEnd":{"ip":"127.0.0.1","port":${PORT + 2}}`);
  await until(forwarded, 'a service on loopback is published');
  assert.equal(await say(PORT + 2), 'hello');
  assert.equal(await say(PORT + 2, HOST4), 'ECONNREFUSED', 'though others are to be for all');
  // Many at once: sockets are made as fast as they are wanted.
  const answers = await Promise.all(Array.from({ length: 100 }, () => say(PORT)));
  assert.deepEqual(new Set(answers), new Set(['hello']));
});
