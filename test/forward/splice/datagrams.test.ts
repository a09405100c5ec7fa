/** Spliced datagrams in a real data plane, whose guest has the namespace of the test: both loopbacks are ours. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import type { OpenForward } from '../../../src/control/engine-client.ts';
import type { FlowInfo } from '../../../src/engine/messages.ts';
import { type EngineGuest, GuestEngine } from '../../support/engine-guests.ts';
import { localForward, remoteForward } from '../../support/forward-specs.ts';
import { enterOurselves } from '../../support/inside-channel.ts';
import { until, within } from '../../support/wait.ts';

/** As many as the smallest receive buffer holds of them. */
const BURST = 60;

const engine = new GuestEngine();
let guest: EngineGuest;
const sockets: Socket[] = [];

before(async () => {
  guest = await engine.add();
  await enterOurselves(guest);
});
after(async () => {
  for (const socket of sockets) socket.close();
  await engine.stop();
});

async function bound(address = '127.0.0.1'): Promise<Socket> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  sockets.push(socket);
  socket.bind(0, address);
  await once(socket, 'listening');
  return socket;
}

/** A service that says `times` everything that it hears, and to whom it was said by. */
async function echo(address = '127.0.0.1', times = 1): Promise<{ port: number; peers: Set<string> }> {
  const socket = await bound(address);
  const peers = new Set<string>();
  socket.on('message', (message, from) => {
    peers.add(`${from.address} ${from.port}`);
    for (let i = 0; i < times; i++) socket.send(message, from.port, from.address);
  });
  return { port: socket.address().port, peers };
}

type Way = 'in' | 'out';
const WAYS: readonly Way[] = ['in', 'out'];

function open(way: Way, port: number, address = '127.0.0.1'): Promise<OpenForward> {
  const place = { address, port: 0 };
  const target = { address, port };
  return guest.client.addForward(
    way === 'in'
      ? localForward({ protocol: 'udp', listen: { kind: 'ip', ...place }, target })
      : remoteForward({
          ...{ protocol: 'udp', bind: place, inside: { device: '' }, target: { kind: 'ip', ...target } },
        }),
  );
}

function portOf({ listen }: OpenForward): number {
  return listen.kind === 'ip' ? listen.port : 0;
}

/** All that comes to a socket from now on. */
function heard(socket: Socket): Buffer[] {
  const all: Buffer[] = [];
  socket.on('message', (message) => all.push(message));
  return all;
}

async function flowsOf({ id }: OpenForward): Promise<FlowInfo[]> {
  return (await guest.client.listFlows()).filter(({ forward }) => forward === id);
}

async function ask(port: number, question: Buffer, address = '127.0.0.1'): Promise<Buffer> {
  const client = await bound(address);
  client.send(question, port, address);
  const [answer] = (await within(once(client, 'message'), 'an answer')) as [Buffer];
  return answer;
}

for (const way of WAYS) {
  describe(way === 'in' ? 'host to guest' : 'guest to host', () => {
    test('pasta §8.4: the service sees a client on its own loopback, a port for each', async () => {
      const { port, peers } = await echo();
      const opened = await open(way, port);
      const answers = await Promise.all([1, 2, 3].map((i) => ask(portOf(opened), Buffer.from(`${i}`))));
      assert.deepEqual(answers.map(String), ['1', '2', '3']);
      assert.equal(peers.size, 3);
      for (const peer of peers) assert.match(peer, /^127\.0\.0\.1 /);
      const flows = await flowsOf(opened);
      assert.deepEqual(
        flows.map(({ protocol, bytesIn, bytesOut }) => `${protocol} ${bytesIn} ${bytesOut}`),
        Array.from({ length: 3 }, () => 'udp 1 1'),
      );
      await guest.client.removeForward(opened.id);
      await until(async () => (await flowsOf(opened)).length === 0, 'its flows end with it');
    });

    test('datagrams of all sizes stay whole', async () => {
      const { port } = await echo();
      const through = portOf(await open(way, port));
      for (const size of [0, 1, 1472, 9000, 65_507]) {
        const question = randomBytes(size);
        assert.ok((await ask(through, question)).equals(question), `${size}`);
      }
    });

    test('pasta §12.5: a burst arrives in order, before there is a socket as well, and each is answered twice', async () => {
      const { port } = await echo('127.0.0.1', 2);
      const through = portOf(await open(way, port));
      const client = await bound();
      const answers = heard(client);
      for (let i = 0; i < BURST; i++) client.send(`${i}`, through, '127.0.0.1');
      await until(() => answers.length === 2 * BURST, 'every answer');
      assert.deepEqual(
        answers.map(String),
        Array.from({ length: 2 * BURST }, (_, i) => `${i >> 1}`),
      );
    });

    test('IPv6', async () => {
      const { port } = await echo('::1');
      const through = portOf(await open(way, port, '::1'));
      assert.equal((await ask(through, Buffer.from('six'), '::1')).toString(), 'six');
    });

    test('nobody listens: the flow ends, and goes on when somebody does', async () => {
      const gone = await bound();
      const { port } = gone.address();
      sockets.splice(sockets.indexOf(gone), 1);
      gone.close();
      await once(gone, 'close');
      const opened = await open(way, port);
      const client = await bound();
      const begun = async (): Promise<number> => (await guest.client.snapshot()).counters['udp.opened'] ?? 0;
      const before = await begun();
      client.send('lost', portOf(opened), '127.0.0.1');
      await until(async () => (await begun()) > before, 'it has begun');
      await until(async () => (await flowsOf(opened)).length === 0, 'it has ended');
      const service = createSocket('udp4');
      sockets.push(service);
      service.bind(port, '127.0.0.1');
      await once(service, 'listening');
      client.send('found', portOf(opened), '127.0.0.1');
      const [message] = (await within(once(service, 'message'), 'the next')) as [Buffer];
      assert.equal(message.toString(), 'found');
    });
  });
}
