import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { type Guest, HOST4, HOST4_OTHER, HOST6, OPEN, startGuest } from '../support/namespaces.ts';

const SIZES = [
  0, 1, 2, 508, 1231, 1232, 1233, 1452, 1453, 1471, 1472, 1473, 2953, 8972, 9000, 16384, 32768, 65507,
];

/** A host socket that sends each datagram back to where it came from. */
async function echoServer(host: string): Promise<{ port: number; sizes: number[]; socket: Socket }> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  const sizes: number[] = [];
  socket.on('message', (message, peer) => {
    sizes.push(message.length);
    socket.send(message, peer.port, peer.address);
  });
  socket.bind(0, host);
  await once(socket, 'listening');
  return { port: socket.address().port, sizes, socket };
}

/** Guest program: one datagram of each size, each after the echo of the one before; the sizes whose echo was the same. */
async function echoEach(host: string, port: number, sizes: number[]): Promise<number[]> {
  const { createSocket: open } = await import('node:dgram');
  const socket = open(host.includes(':') ? 'udp6' : 'udp4');
  const good: number[] = [];
  for (const size of sizes) {
    const body = Buffer.from(Array.from({ length: size }, (_, index) => (index * 7 + size) & 255));
    const came = await new Promise<Buffer | undefined>((resolve) => {
      socket.once('message', resolve);
      socket.send(body, port, host);
      setTimeout(() => resolve(undefined), 20_000);
    });
    if (came?.equals(body)) good.push(size);
    socket.removeAllListeners('message');
  }
  return good;
}

for (const mtu of [1280, 1500, 65520]) {
  describe(`UDP at MTU ${mtu}`, () => {
    let guest: Guest;
    before(async () => {
      guest = await startGuest(...OPEN, '--mtu', String(mtu));
    });
    after(() => guest?.[Symbol.asyncDispose]());

    for (const [family, host] of [
      ['IPv4', HOST4],
      ['IPv6', HOST6],
    ] as const) {
      test(`${family}: datagrams of 0 to 65507 bytes go and come back whole`, async () => {
        const { port, sizes, socket } = await echoServer(host);
        try {
          const good = await guest.namespace.evaluate(echoEach, [host, port, SIZES], 60_000);
          assert.deepEqual(good, SIZES, `the host got ${sizes.join()}`);
        } finally {
          socket.close();
        }
      });
    }
  });
}

describe('UDP', () => {
  let guest: Guest;
  before(async () => {
    guest = await startGuest(...OPEN);
  });
  after(() => guest?.[Symbol.asyncDispose]());

  for (const [family, host] of [
    ['IPv4', HOST4],
    ['IPv6', HOST6],
  ] as const) {
    test(`${family}: a closed port is refused`, async () => {
      const { port, socket } = await echoServer(host);
      socket.close();
      await once(socket, 'close');
      const code = await guest.namespace.evaluate(
        async (address: string, to: number) => {
          const { createSocket: open } = await import('node:dgram');
          const client = open(address.includes(':') ? 'udp6' : 'udp4');
          return await new Promise<string>((resolve) => {
            client.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
            // Errors come only to a connected socket.
            client.connect(to, address, () => {
              client.send('x');
              client.on('message', () => resolve('answer'));
            });
            setTimeout(() => resolve('nothing'), 20_000);
          });
        },
        [host, port],
      );
      assert.equal(code, 'ECONNREFUSED');
    });
  }

  test('one socket of the guest is one socket on the host, for all destinations (RQ-80, RFC 4787 REQ-1)', async () => {
    const ports: number[] = [];
    const servers = [createSocket('udp4'), createSocket('udp4')];
    try {
      for (const [index, server] of servers.entries()) {
        server.on('message', (message, peer) => {
          ports.push(peer.port);
          server.send(message, peer.port, peer.address);
        });
        server.bind(0, index === 0 ? HOST4 : HOST4_OTHER);
        await once(server, 'listening');
      }
      const targets = servers.map((server) => [server.address().address, server.address().port]);
      const answers = await guest.namespace.evaluate(
        async (to: (string | number)[][]) => {
          const { createSocket: open } = await import('node:dgram');
          const client = open('udp4');
          const froms: string[] = [];
          for (const [address, port] of to) {
            const from = await new Promise<string>((resolve) => {
              client.once('message', (_, peer) => resolve(`${peer.address}:${peer.port}`));
              client.send('x', port as number, address as string);
              setTimeout(() => resolve('nothing'), 20_000);
            });
            froms.push(from);
          }
          return froms;
        },
        [targets],
      );
      assert.deepEqual(
        answers,
        targets.map(([address, port]) => `${address}:${port}`),
      );
      assert.equal(ports.length, 2);
      assert.equal(ports[0], ports[1]);
    } finally {
      for (const server of servers) server.close();
    }
  });

  // A hundred: more than one batch of segments (64), and what the server's default receive buffer holds however late it
  // reads. Two hundred overran it now and then.
  test('a burst of datagrams of one size keeps its borders and its order', async () => {
    const got: number[] = [];
    const server = createSocket('udp4');
    try {
      server.on('message', (message, peer) => {
        got.push(message.length === 700 ? message.readUInt32BE(0) : -1);
        if (got.length === 100) server.send(String(got.length), peer.port, peer.address);
      });
      server.bind(0, HOST4);
      await once(server, 'listening');
      await guest.namespace.evaluate(
        async (address: string, port: number) => {
          const { createSocket: open } = await import('node:dgram');
          const client = open('udp4');
          await new Promise<void>((resolve) => {
            client.on('message', () => resolve());
            for (let index = 0; index < 100; index++) {
              const body = Buffer.alloc(700);
              body.writeUInt32BE(index);
              client.send(body, port, address);
            }
            setTimeout(resolve, 20_000);
          });
        },
        [HOST4, server.address().port],
      );
      assert.deepEqual(
        got,
        Array.from({ length: 100 }, (_, index) => index),
      );
    } finally {
      server.close();
    }
  });
});
