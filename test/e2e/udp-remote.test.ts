/** Remote UDP forwards: a guest that uses services of the host at addresses of its own side. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { type Guest, HOST4, HOST6, startGuest } from '../support/namespaces.ts';

/** A host socket that sends each datagram back to where it came from, and remembers whom it heard. */
class EchoServer {
  readonly socket: Socket;
  readonly heard: { size: number; from: string }[] = [];

  constructor(family: 'udp4' | 'udp6') {
    this.socket = createSocket(family);
    this.socket.on('message', (message, peer) => {
      this.heard.push({ size: message.length, from: `${peer.address} ${peer.port}` });
      this.socket.send(message, peer.port, peer.address);
    });
  }

  get port(): number {
    return this.socket.address().port;
  }

  static async at(host: string, port = 0): Promise<EchoServer> {
    const server = new EchoServer(host.includes(':') ? 'udp6' : 'udp4');
    server.socket.bind(port, host);
    await once(server.socket, 'listening');
    return server;
  }
}

/**
 * Guest program: send datagrams of these sizes; sizes and sender of what came back, in order. The first goes alone and the
 * others, at once, when it has come back: what a kernel keeps while it asks for a neighbour's address may leave it after
 * what comes later.
 */
async function burst(
  host: string,
  port: number,
  sizes: number[],
): Promise<{ sizes: number[]; from: string }> {
  const { createSocket: open } = await import('node:dgram');
  const socket = open(host.includes(':') ? 'udp6' : 'udp4');
  const [first = 0, ...rest] = sizes;
  const came: number[] = [];
  let from = '';
  await new Promise<void>((resolve) => {
    socket.on('error', () => resolve());
    socket.on('message', (message, peer) => {
      came.push(message.equals(Buffer.alloc(message.length, message.length)) ? message.length : -1);
      from = `${peer.address} ${peer.port}`;
      if (came.length === 1) for (const size of rest) socket.send(Buffer.alloc(size, size), port, host);
      if (came.length === sizes.length) resolve();
    });
    socket.send(Buffer.alloc(first, first), port, host);
    setTimeout(resolve, 10_000);
  });
  return { sizes: came, from };
}

describe('remote UDP forwards', () => {
  let echo4: EchoServer;
  let echo6: EchoServer;
  let guest: Guest;
  before(async () => {
    [echo4, echo6] = await Promise.all([EchoServer.at(HOST4), EchoServer.at(HOST6)]);
    guest = await startGuest(
      ...['-R', `udp://192.0.2.5:80:${HOST4}:${echo4.port}`],
      ...['-R', `udp://10.0.2.77:81:[${HOST6}]:${echo6.port}`],
      ...['-R', `udp://[fd00::2]:82:${HOST4}:${echo4.port}`],
      ...['-R', `udp://[2001:db8:2::5]:83:[${HOST6}]:${echo6.port}`],
      ...['-R', `udp+rpc://10.0.2.2:84:${HOST4}:${echo4.port}`],
      ...['-R', `udp://10.0.2.2:85:${HOST4}:9`],
    );
  });
  after(async () => {
    await guest?.[Symbol.asyncDispose]();
    echo4?.socket.close();
    echo6?.socket.close();
  });

  const sizes = [0, 1, 700, 700, 1472, 9000, 65507, 3, 0, 65487];
  for (const [name, address, port] of [
    ['any IPv4 address', '192.0.2.5', 80],
    ['an address of the guest network, IPv4 to IPv6', '10.0.2.77', 81],
    ['the gateway, IPv6 to IPv4', 'fd00::2', 82],
    ['any IPv6 address', '2001:db8:2::5', 83],
  ] as const) {
    test(`${name}: datagrams go and come back whole and in order, from the address sent to`, async () => {
      const result = await guest.namespace.evaluate(burst, [address, port, sizes]);
      assert.deepEqual(result, { sizes, from: `${address} ${port}` });
    });
  }

  test('a closed port of the host is refused, and the next datagram is tried anew', async () => {
    const refused = async (): Promise<string> =>
      await guest.namespace.evaluate(
        async (address: string, port: number) => {
          const { createSocket: open } = await import('node:dgram');
          const client = open('udp4');
          return await new Promise<string>((resolve) => {
            client.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
            client.on('message', (message) => resolve(message.toString()));
            // Errors come only to a connected socket.
            client.bind(4000, () => client.connect(port, address, () => client.send('late')));
            setTimeout(() => resolve('nothing'), 20_000);
          });
        },
        ['10.0.2.2', 85],
      );
    assert.equal(await refused(), 'ECONNREFUSED');
    const late = await EchoServer.at(HOST4, 9);
    try {
      assert.equal(await refused(), 'late');
    } finally {
      late.socket.close();
    }
  });

  test('udp+rpc: each exchange is a flow of its own, so each question has another source port', async () => {
    const heard = echo4.heard.length;
    for (let i = 0; i < 3; i++) {
      const { sizes: came } = await guest.namespace.evaluate(burst, ['10.0.2.2', 84, [10]]);
      assert.deepEqual(came, [10]);
    }
    assert.equal(new Set(echo4.heard.slice(heard).map(({ from }) => from)).size, 3);
  });

  test('nothing else is opened: neither another port of the address nor the target itself', async () => {
    const heard = echo4.heard.length;
    const send = async (address: string, port: number): Promise<void> => {
      const { createSocket: open } = await import('node:dgram');
      const socket = open('udp4');
      await new Promise<void>((resolve, reject) =>
        socket.send('x', port, address, (error) => (error ? reject(error) : resolve())),
      );
    };
    await guest.namespace.evaluate(send, ['192.0.2.5', 81]);
    await guest.namespace.evaluate(send, [HOST4, echo4.port]);
    // What is sent after them would arrive after them.
    await guest.namespace.evaluate(burst, ['192.0.2.5', 80, [1]]);
    assert.equal(echo4.heard.length, heard + 1);
  });
});
