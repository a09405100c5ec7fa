/** Spliced TCP connections in a real data plane, whose guest has the namespace of the test: both loopbacks are ours. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { LocalForwardSpec, RemoteForwardSpec } from '../../../src/config.ts';
import type { OpenForward } from '../../../src/control/engine-client.ts';
import type { FlowEvent } from '../../../src/engine/messages.ts';
import { profiles } from '../../../src/profiles.ts';
import { type EngineGuest, GuestEngine } from '../../support/engine-guests.ts';
import { localForward, remoteForward } from '../../support/forward-specs.ts';
import { enterOurselves } from '../../support/inside-channel.ts';
import { plainGuest } from '../../support/plain-guest.ts';
import { PATIENCE_MS, until, within } from '../../support/wait.ts';

/** Of 1 MiB: more than all buffers between two programs hold. */
const PIECES = 64;

const engine = new GuestEngine();
let guest: EngineGuest;
const servers: Server[] = [];
const sockets: Socket[] = [];

before(async () => {
  guest = await engine.add({ behavior: { ...plainGuest.behavior, ...profiles.tslirp, flowEvents: true } });
  await enterOurselves(guest);
});
after(async () => {
  for (const server of servers) server.close();
  for (const socket of sockets) socket.destroy();
  await engine.stop();
});

/** A service; what it does with each client. */
async function serve(
  client: (socket: Socket) => void,
  { address = '127.0.0.1', allowHalfOpen = true, pauseOnConnect = false } = {},
): Promise<number> {
  const server = createServer({ allowHalfOpen, pauseOnConnect }, (socket) => {
    socket.on('error', () => undefined);
    sockets.push(socket);
    client(socket);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  return (server.address() as AddressInfo).port;
}

/** The two ways: from the host's loopback to the guest's, and back. */
type Way = 'in' | 'out';
const WAYS: readonly Way[] = ['in', 'out'];

/** What is otherwise than usual, by the way that it is of. */
interface Unusual {
  in?: Partial<LocalForwardSpec>;
  out?: Partial<RemoteForwardSpec>;
}

/** A forward that leads to `port`; where it listens. */
async function forward(way: Way, port: number, unusual: Unusual = {}): Promise<number> {
  return portOf(await open(way, port, unusual));
}

function open(way: Way, port: number, unusual: Unusual = {}): Promise<OpenForward> {
  const place = { address: '127.0.0.1', port: 0 };
  const target = { address: '127.0.0.1', port };
  return guest.client.addForward(
    way === 'in'
      ? localForward({ listen: { kind: 'ip', ...place }, target, ...unusual.in })
      : remoteForward({
          ...{ bind: place, inside: { device: '' }, target: { kind: 'ip', ...target } },
          ...unusual.out,
        }),
  );
}

function portOf({ listen }: OpenForward): number {
  return listen.kind === 'ip' ? listen.port : 0;
}

async function connected(port: number, address = '127.0.0.1'): Promise<Socket> {
  const socket = dial({ port, host: address, allowHalfOpen: true });
  socket.on('error', () => undefined);
  sockets.push(socket);
  await within(once(socket, 'connect'), 'connect');
  return socket;
}

/** All that comes until the end; rejects when it is a reset. */
async function read(socket: Socket): Promise<Buffer> {
  const pieces: Buffer[] = [];
  socket.on('data', (piece: Buffer) => pieces.push(piece));
  await within(
    new Promise<void>((resolve, reject) => {
      socket.once('end', resolve);
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('closed without an end')));
    }),
    'the end of a stream',
  );
  return Buffer.concat(pieces);
}

function digest(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

for (const way of WAYS) {
  describe(way === 'in' ? 'host to guest' : 'guest to host', () => {
    test('pasta §8.4: the service sees a client on its own loopback', async () => {
      let peer = '';
      const port = await serve((socket) => {
        peer = socket.remoteAddress ?? '';
        socket.end('hello');
      });
      const client = await connected(await forward(way, port));
      assert.equal((await read(client)).toString(), 'hello');
      client.end();
      assert.equal(peer, '127.0.0.1');
    });

    test('pasta §8.4: half of a connection ends, the other goes on', async () => {
      const port = await serve((socket) => {
        void read(socket).then((question) => {
          socket.write('to ');
          setImmediate(() => socket.end(question));
        });
      });
      const client = await connected(await forward(way, port));
      client.end('question');
      assert.equal((await read(client)).toString(), 'to question');
      // And the other half first.
      const quiet = await serve((socket) => {
        socket.end('first');
        void read(socket).then((rest) => heard.push(rest.toString()));
      });
      const heard: string[] = [];
      const second = await connected(await forward(way, quiet));
      assert.equal((await read(second)).toString(), 'first');
      second.end('after');
      await until(() => heard.length > 0, 'what comes after the end');
      assert.deepEqual(heard, ['after']);
    });

    test('pasta §12.5: 16 MB both ways at once arrive as they were', async () => {
      const there = randomBytes(16 * 1024 * 1024);
      const back = randomBytes(16 * 1024 * 1024);
      let sum = '';
      const port = await serve((socket) => {
        socket.end(back);
        void read(socket).then((all) => {
          sum = digest(all);
        });
      });
      const client = await connected(await forward(way, port));
      const reading = read(client);
      client.end(there);
      assert.equal(digest(await reading), digest(back));
      await until(() => sum !== '', 'the other way');
      assert.equal(sum, digest(there));
    });

    test('a stream of small and large writes by turns stays in order', async () => {
      const port = await serve((socket) => socket.pipe(socket));
      const client = await connected(await forward(way, port));
      const data = randomBytes(2_000_000);
      const reading = read(client);
      for (let at = 0, size = 1; at < data.length; at += size) {
        size = [1, 300, 70_000, 16, 200_000, 3][at % 6] as number;
        if (!client.write(data.subarray(at, at + size))) await once(client, 'drain');
      }
      client.end();
      assert.equal(digest(await reading), digest(data));
    });

    test('pasta §8.4: a reset is passed on, either way', async () => {
      const accepted: Socket[] = [];
      const port = await serve((socket) => accepted.push(socket));
      const through = await forward(way, port);
      const client = await connected(through);
      await until(() => accepted.length === 1, 'the service has a client');
      const ending = once(client, 'error');
      accepted[0]?.resetAndDestroy();
      const [error] = (await within(ending, 'a reset of the client')) as [NodeJS.ErrnoException];
      assert.equal(error.code, 'ECONNRESET');
      const second = await connected(through);
      await until(() => accepted.length === 2, 'the service has another client');
      const [, served] = accepted;
      const gone = once(served as Socket, 'error');
      second.resetAndDestroy();
      const [reset] = (await within(gone, 'a reset of the service')) as [NodeJS.ErrnoException];
      assert.equal(reset.code, 'ECONNRESET');
    });

    test('pasta §8.4: nobody listens: the client is accepted, and reset', async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as AddressInfo;
      await new Promise((resolve) => server.close(resolve));
      const client = dial({ port: await forward(way, port), host: '127.0.0.1' });
      const [error] = (await within(once(client, 'error'), 'a reset')) as [NodeJS.ErrnoException];
      assert.equal(error.code, 'ECONNRESET');
      const failed = (): FlowEvent | undefined =>
        guest.reports.find(
          (report): report is FlowEvent =>
            report.type === 'flow' && report.event === 'error' && report.right.port === port,
        );
      await until(
        () => guest.reports.some((report) => report.type === 'flow' && report.event === 'error'),
        'it is told',
      );
      const event =
        failed() ?? (guest.reports.findLast((r) => r.type === 'flow' && r.event === 'error') as FlowEvent);
      assert.equal(event.failure, way === 'in' ? 'guest' : 'target');
      assert.equal(event.kind, way === 'in' ? 'local' : 'remote');
      assert.equal(event.status.rightRead, 111, 'ECONNREFUSED');
    });

    test('a service that does not read stops its client, who goes on when it does', async () => {
      const accepted: Socket[] = [];
      const port = await serve((socket) => accepted.push(socket), { pauseOnConnect: true });
      const client = await connected(await forward(way, port));
      const piece = randomBytes(1024 * 1024);
      let taken = 0;
      for (let i = 0; i < PIECES; i++) client.write(piece, () => taken++);
      client.end();
      // As long as it still grows.
      let last = -1;
      const isStill = (): boolean => {
        const still = taken === last && accepted.length === 1;
        last = taken;
        return still;
      };
      await until(isStill, 'nothing more is taken', PATIENCE_MS, 200);
      assert.ok(taken < PIECES, 'most of it has to wait');
      const sum = read(accepted[0] as Socket);
      accepted[0]?.resume();
      assert.equal((await sum).length, PIECES * piece.length);
      accepted[0]?.end();
    });

    test('as other flows it is listed with its bytes, told of, and can be cut', async () => {
      const accepted: Socket[] = [];
      const port = await serve((socket) => {
        accepted.push(socket);
        socket.on('data', () => socket.write('four'));
      });
      const { id, ...rest } = await open(way, port);
      const client = await connected(portOf({ id, ...rest }));
      client.write('six by');
      await once(client, 'data');
      const flow = (await guest.client.listFlows()).find((one) => one.forward === id);
      assert.ok(flow, 'it is listed');
      assert.equal(flow.kind, way === 'in' ? 'local' : 'remote');
      assert.equal(flow.state, 'ESTABLISHED');
      assert.deepEqual([flow.bytesIn, flow.bytesOut], way === 'in' ? [6, 4] : [4, 6]);
      assert.equal(flow.left.port, client.localPort);
      assert.equal(flow.right.port, port);
      const ending = once(client, 'error');
      assert.equal(await guest.client.closeFlow(flow.flow), true);
      const [error] = (await within(ending, 'a reset')) as [NodeJS.ErrnoException];
      assert.equal(error.code, 'ECONNRESET');
      const closed = (): boolean =>
        guest.reports.some((r) => r.type === 'flow' && r.event === 'close' && r.flow === flow.flow);
      await until(closed, 'its end is told');
    });

    test('two hundred at once', async () => {
      const port = await serve((socket) => socket.pipe(socket));
      const through = await forward(way, port);
      const answers = await Promise.all(
        Array.from({ length: 200 }, async (_, i) => {
          const client = await connected(through);
          client.end(`${i}`);
          return (await read(client)).toString();
        }),
      );
      assert.deepEqual(
        answers,
        answers.map((_, i) => `${i}`),
      );
      await until(async () => (await guest.client.listFlows()).length === 0, 'all of them have ended');
    });

    test('a forward that is taken back listens no more', async () => {
      const port = await serve((socket) => socket.end());
      const opened = await open(way, port);
      assert.equal(await guest.client.removeForward(opened.id), true);
      const client = dial({ port: portOf(opened), host: '127.0.0.1' });
      const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
      assert.equal(error.code, 'ECONNREFUSED');
    });
  });
}

test('pasta §7: --host-lo-to-ns-lo: the loopback address that was contacted is the one that is reached', async () => {
  const port = await serve((socket) => socket.end(socket.localAddress ?? ''), { address: '127.0.0.9' });
  const through = await forward('in', port, {
    in: {
      listen: { kind: 'ip', address: '0.0.0.0', port: 0 },
      target: { address: '10.0.2.100', port },
      splice: 'same',
    },
  });
  assert.equal((await read(await connected(through, '127.0.0.9'))).toString(), '127.0.0.9');
});

test('pasta §8.4: IPv6, both ways', async () => {
  for (const way of WAYS) {
    const port = await serve((socket) => socket.end(socket.remoteAddress ?? ''), { address: '::1' });
    const place = { address: '::1', port: 0 };
    const through = await forward(way, port, {
      in: { listen: { kind: 'ip', ...place }, target: { address: '::1', port } },
      out: { bind: place, target: { kind: 'ip', address: '::1', port } },
    });
    assert.equal((await read(await connected(through, '::1'))).toString(), '::1');
  }
});

test('a port inside that is in use is refused with its errno', async () => {
  const port = await serve(() => undefined);
  await assert.rejects(
    open('out', port, { out: { bind: { address: '127.0.0.1', port } } }),
    /cannot listen on tcp:\/\/127\.0\.0\.1:\d+ in the guest's namespace: Address already in use/,
  );
});

test('where nobody of ours is inside, a forward to loopback is refused', async () => {
  const other = await engine.add();
  await assert.rejects(
    other.client.addForward(localForward({ target: { address: '127.0.0.1', port: 80 } })),
    /127\.0\.0\.1 is reached only inside the guest's namespace, where nobody of ours is/,
  );
  await assert.rejects(
    other.client.addForward(remoteForward({ inside: { device: '' } })),
    /in the guest's namespace: Transport endpoint is not connected/,
  );
  await engine.remove(other);
});

test('nothing is held when there is nothing to splice', async () => {
  const port = await serve((socket) => socket.end('x'));
  const opened = await open('in', port);
  await read(await connected(portOf(opened)));
  await guest.client.removeForward(opened.id);
  for (const { id } of guest.client.listForwards()) await guest.client.removeForward(id);
  for (const { flow } of await guest.client.listFlows()) await guest.client.closeFlow(flow);
  await until(async () => (await engine.gauges())['descriptors.used'] === 0, 'no descriptor is held');
});
