/** The MTU of the guest's interface, chosen at start and changed while running. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { type BothWays, serveBothWays } from '../support/both-ways.ts';
import { type Guest, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import { echo, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { receive, send } from '../support/transfer.ts';
import { until } from '../support/wait.ts';

let transfers: BothWays;
before(async () => {
  transfers = await serveBothWays();
});
after(async () => {
  await transfers?.close();
});

describe('MTU', () => {
  for (const mtu of [576, 1280, 1500, 9000, 49192, 65520, 65521]) {
    test(`${mtu}: the interface has it, and everything passes`, async () => {
      const ipv6 = mtu >= 1280;
      const guest = await startGuest(...OPEN, '--mtu', String(mtu), ...(ipv6 ? [] : ['--no-ipv6']));
      try {
        assert.match(await guest.namespace.must(['ip', 'link', 'show', 'tap0']), new RegExp(`mtu ${mtu} `));
        await transfers.works(guest.namespace, ipv6 ? [HOST4, HOST6] : [HOST4]);
        const out = await guest.namespace.must(['ping', '-n', '-c', '1', '-W', '2', '-s', '20000', HOST4]);
        assert.match(out, /1 received/);
      } finally {
        await guest[Symbol.asyncDispose]();
      }
    });
  }
});

/** Guest program: sends datagrams and gets them back; for each the fragments that came in and went out (IPv4). */
async function fragments(host: string, port: number, sizes: number[]): Promise<string[]> {
  const { createSocket } = await import('node:dgram');
  const { readFileSync } = await import('node:fs');
  const counters = (): { ReasmReqds: number; FragCreates: number } => {
    const [names = [], values = []] = readFileSync('/proc/net/snmp', 'latin1')
      .split('\n')
      .filter((line) => line.startsWith('Ip:'))
      .map((line) => line.split(' '));
    const value = (name: string): number => Number(values[names.indexOf(name)]);
    return { ReasmReqds: value('ReasmReqds'), FragCreates: value('FragCreates') };
  };
  const socket = createSocket('udp4');
  const found: string[] = [];
  for (const size of sizes) {
    const before = counters();
    const came = await new Promise<number>((resolve) => {
      socket.once('message', (message) => resolve(message.length));
      socket.send(Buffer.alloc(size, size & 255), port, host);
      setTimeout(() => resolve(-1), 20_000);
    });
    const after = counters();
    const sent = after.FragCreates - before.FragCreates;
    found.push(`${came}: ${after.ReasmReqds - before.ReasmReqds} in, ${sent} out`);
    socket.removeAllListeners('message');
  }
  return found;
}

/** Guest program: a connection to an echo server, and the segment size by which the guest sends on it. */
async function segmentSize(host: string, port: number): Promise<number> {
  const { connect } = await import('node:net');
  const { execFileSync } = await import('node:child_process');
  return await new Promise((resolve, reject) => {
    const socket = connect({ host, port }, () => socket.write('x'));
    socket.on('error', reject).on('data', () => {
      const out = execFileSync('ss', ['-tinH', 'dport', '=', `:${port}`], { encoding: 'latin1' });
      socket.destroy();
      resolve(Number(/ mss:(\d+)/.exec(out)?.[1]));
    });
  });
}

describe('an MTU changed while running', () => {
  let guest: Guest;
  let echoing: TestServer;
  before(async () => {
    echoing = await listen(echo);
    guest = await startGuest(...OPEN, '--mtu', '1500');
  });
  after(async () => {
    await guest?.[Symbol.asyncDispose]();
    await echoing?.close();
  });

  for (const mtu of [1280, 9000, 1500]) {
    test(`${mtu}: datagrams and new connections go by it`, async () => {
      const server = createSocket('udp4');
      server.on('message', (message, peer) => server.send(message, peer.port, peer.address));
      server.bind(0, HOST4);
      await once(server, 'listening');
      try {
        await guest.namespace.ip(`link set tap0 mtu ${mtu}`);
        const fits = mtu - 28;
        const { port } = server.address();
        const found = await guest.namespace.evaluate(fragments, [HOST4, port, [fits, fits + 1]]);
        assert.deepEqual(found, [`${fits}: 0 in, 0 out`, `${fits + 1}: 2 in, 2 out`]);
        // 12 bytes are timestamps.
        assert.equal(await guest.namespace.evaluate(segmentSize, [HOST4, echoing.port]), mtu - 52);
        assert.equal(await guest.namespace.evaluate(segmentSize, [HOST6, echoing.port]), mtu - 72);
      } finally {
        server.close();
      }
    });
  }

  test('what we announce at a small one holds when it is raised', async () => {
    await guest.namespace.ip('link set tap0 mtu 1280');
    const pause = 500;
    const size = await guest.namespace.evaluate(
      async (host: string, port: number, limitMs: number) => {
        const { connect } = await import('node:net');
        const { execFileSync } = await import('node:child_process');
        const socket = connect({ host, port });
        const exchange = (): Promise<unknown> => {
          socket.write('x');
          return new Promise((resolve) => socket.once('data', resolve));
        };
        await new Promise((resolve) => socket.once('connect', resolve));
        await exchange();
        execFileSync('ip', ['link', 'set', 'tap0', 'mtu', '9000']);
        let mss = 0;
        // Had we announced more than 1280 bytes hold, the guest would soon send them.
        for (const end = Date.now() + limitMs; Date.now() < end; ) {
          await exchange();
          const out = execFileSync('ss', ['-tinH', 'dport', '=', `:${port}`], { encoding: 'latin1' });
          mss = Math.max(mss, Number(/ mss:(\d+)/.exec(out)?.[1]));
        }
        socket.destroy();
        return mss;
      },
      [HOST4, echoing.port, pause] as [string, number, number],
    );
    assert.equal(size, 1228);
  });

  test('transfers go on while it changes, up and down', async () => {
    await guest.namespace.ip('link set tap0 mtu 1500');
    const body = sampleBytes(32 * 1024 * 1024);
    const server = await listen((socket) => socket.end(body));
    try {
      let running = true;
      const both = Promise.all([
        guest.namespace.evaluate(send, [HOST4, transfers.sink.port, body.length], 30_000),
        guest.namespace.evaluate(receive, [HOST4, server.port], 30_000),
      ]).finally(() => {
        running = false;
      });
      await until(() => server.accepted > 0, 'the transfer has begun');
      let changes = 0;
      while (running) {
        for (const mtu of [1280, 9000, 576, 1500]) await guest.namespace.ip(`link set tap0 mtu ${mtu}`);
        changes++;
      }
      const sum = sha256(body);
      assert.deepEqual(await both, [sum, sum]);
      assert.ok(changes > 0);
    } finally {
      await server.close();
    }
  });

  test('a flood of news about links does not hold anything up, and the last MTU counts', async () => {
    const flap = Array.from({ length: 3000 }, (_, i) => `link set lo mtu ${65535 + (i % 2)}`);
    const flapping = guest.namespace.ip(...flap, 'link set tap0 mtu 1400', ...flap, 'link set tap0 mtu 9000');
    await transfers.works(guest.namespace, [HOST4]);
    await flapping;
    await until(
      async () => (await guest.namespace.evaluate(segmentSize, [HOST4, echoing.port])) === 8948,
      'an MTU of 9000',
    );
  });

  // Last: the guest's kernel remembers for ten minutes that its least TCP segment did not fit.
  test('68, at which TCP comes in fragments, holds up neither streams nor datagrams', async () => {
    await guest.namespace.ip('link set tap0 mtu 68');
    await transfers.works(guest.namespace, [HOST4]);
    await guest.namespace.must(['ping', '-n', '-c', '1', '-W', '2', '-s', '300', HOST4]);
  });
});
