/** What vpnguin got wrong between the client of a published service and the service. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { GuestAgent } from '../support/guest-agent.ts';
import { type Guest, startGuest } from '../support/namespaces.ts';
import * as host from '../support/net-actions.ts';
import { until } from '../support/wait.ts';

describe('a published service', () => {
  let guest: Guest;
  let agent: GuestAgent;

  before(async () => {
    const maps = [1, 3, 0].map((_, i) => `udp:${19101 + i}:*:${101 + i}`).join(',');
    guest = await startGuest('--port-map', `${maps},tcp:19101:*:101`);
    agent = new GuestAgent(guest.namespace);
    await agent.call('serveTcp', { host: '0.0.0.0', port: 101 });
    for (const [i, copies] of [1, 3, 0].entries())
      await agent.call('serveUdp', { host: '0.0.0.0', port: 101 + i, copies });
  });

  after(async () => {
    await agent.stop();
    await guest[Symbol.asyncDispose]();
  });

  test('ports P-23: replies have exactly the length that the service gave them, from 1 to 65,507 bytes', async () => {
    for (const length of [1, 2, 511, 1471, 1472, 1473, 8191, 8192, 8193, 65_506, 65_507]) {
      const [reply] = await host.talkUdp('127.0.0.1', 19101, [length]);
      assert.deepEqual([reply?.length, reply?.payload], [length, 0]);
    }
  });

  test('ports P-24: three replies to one request arrive, and a request without one holds nothing up', async () => {
    const replies = await host.talkUdp('127.0.0.1', 19102, ['x'], { expect: 3 });
    assert.deepEqual(
      replies.map(({ text }) => text),
      ['x', 'x', 'x'],
    );
    const before = (await agent.call('peersOf', 'udp', 103)).length;
    // Nothing is waited for but that the service has heard them all.
    await Promise.all(
      [1, 2, 3].map(() => host.talkUdp('127.0.0.1', 19103, ['a', 'b', 'c'], { expect: 1, waitMs: 1 })),
    );
    await until(
      async () => (await agent.call('peersOf', 'udp', 103)).length === before + 9,
      'the service to hear every request',
    );
    assert.equal((await host.talkUdp('127.0.0.1', 19101, ['still there']))[0]?.text, 'still there');
  });

  test('ports P-25: a client that has said all it has to say is answered', async () => {
    const reply = await host.talkTcp('127.0.0.1', 19101, ['x'.repeat(100_000)]);
    assert.deepEqual([reply.text.length, reply.error], [100_000, '']);
  });

  test('ports P-26: 10,000 UDP clients are served, and what they cost is bounded', async () => {
    const rss = (): number =>
      Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${guest.stack.pid}/status`, 'latin1'))?.[1]) / 1024;
    const memoryBefore = rss();
    const heardBefore = (await agent.call('peersOf', 'udp', 101)).length;
    let answered = 0;
    for (let round = 0; round < 100; round++) {
      const sockets = await Promise.all(
        Array.from({ length: 100 }, async () => {
          const socket = createSocket('udp4');
          socket.on('message', () => {
            answered++;
          });
          socket.bind();
          await once(socket, 'listening');
          socket.send('x', 19101, '127.0.0.1');
          return socket;
        }),
      );
      await until(() => answered >= (round + 1) * 100, `answers to ${(round + 1) * 100} clients`);
      for (const socket of sockets) socket.close();
    }
    assert.equal((await agent.call('peersOf', 'udp', 101)).length - heardBefore, 10_000);
    // Beyond 4,096 clients the oldest give way; how they are forgotten in time is told in test/forward/udp.
    assert.ok(rss() - memoryBefore < 60, `${memoryBefore} → ${rss()} MiB`);
    assert.equal((await host.talkUdp('127.0.0.1', 19101, ['one more']))[0]?.text, 'one more');
  });
});
