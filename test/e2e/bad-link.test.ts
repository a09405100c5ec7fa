/**
 * A real guest behind a link that loses, reorders and copies frames: everything arrives as it was sent, both ways.
 * Goodput over such links is measured by bench/badlink.
 */
import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { BadLinkOptions } from '../support/bad-link/direction.ts';
import { openTap, packetSockets, startBadLink } from '../support/bad-link/ends.ts';
import { bareNamespace, HOST4, type Namespace, ready, tslirpCommand } from '../support/namespaces.ts';
import { type Running, start } from '../support/processes.ts';

const bad: BadLinkOptions = {
  seed: 7,
  loss: 0.05,
  duplication: 0.01,
  reorder: 0.02,
  delayMs: 5,
  jitterMs: 4,
  rateMbit: 100,
  queueBytes: 100_000,
};
const SIZE = 400_000;
const LIMIT_MS = 60_000;

/** Both sides make the same bytes. */
const payload = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16)).update(Buffer.alloc(SIZE));
const digest = createHash('sha256').update(payload).digest('hex');

/** Answers what it got with a digest, one line, and with the payload. */
function serve(socket: Socket): void {
  const hash = createHash('sha256');
  socket.on('data', (part: Buffer) => hash.update(part));
  socket.on('error', () => undefined);
  socket.on('end', () => {
    socket.write(`${hash.digest('hex')}\n`);
    socket.end(payload);
  });
}

/** In the guest: sends the payload, and returns the digest of the server and of what it sent. */
async function exchange(host: string, port: number, size: number): Promise<{ told: string; got: string }> {
  const net = await import('node:net');
  const crypto = await import('node:crypto');
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = [];
    const socket = net.connect({ host, port, allowHalfOpen: true });
    socket.on('error', reject);
    socket.on('data', (part) => parts.push(part as Buffer));
    socket.on('end', () => {
      const all = Buffer.concat(parts);
      const line = all.indexOf(10);
      const got = crypto
        .createHash('sha256')
        .update(all.subarray(line + 1))
        .digest('hex');
      resolve({ told: all.subarray(0, line).toString('latin1'), got });
    });
    const cipher = crypto.createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
    socket.end(cipher.update(Buffer.alloc(size)));
  });
}

describe('behind a bad link', () => {
  const running: Running[] = [];
  let guest: Namespace;
  let server: Server;
  let port = 0;

  before(async () => {
    server = createServer({ allowHalfOpen: true }, serve).listen(0, HOST4);
    await once(server, 'listening');
    port = (server.address() as { port: number }).port;
    const { namespace, anchor } = await bareNamespace({ plain: true });
    running.push(anchor);
    guest = namespace;
    const tap = openTap(namespace.pid, 'tap0');
    const [ours, links] = packetSockets();
    running.push(await startBadLink(tap, links, bad));
    const args = [
      'attach',
      '--enable-host',
      '--no-ipv6',
      '--log-level',
      'warn',
      '--ready-fd',
      '4',
      '--fd',
      '3',
    ];
    const stack = start(tslirpCommand(...args), { stdio: ['ignore', 'pipe', 'pipe', ours, 'pipe'] });
    running.push(stack);
    await ready(stack, 4);
    await guest.ip(
      'link set tap0 mtu 1500 up',
      'address add 10.0.2.100/24 dev tap0',
      'route add default via 10.0.2.2',
    );
  });

  after(async () => {
    server.close();
    for (const one of running.reverse()) await one.stop();
  });

  test('400 KB each way arrive complete at 5 % loss, with reordering and copies', async () => {
    const result = await guest.evaluate(exchange, [HOST4, port, SIZE], LIMIT_MS);
    assert.deepEqual(result, { told: digest, got: digest });
  });
});
