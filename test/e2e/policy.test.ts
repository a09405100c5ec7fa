import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import {
  directory,
  GATEWAY4,
  GATEWAY6,
  type Guest,
  HOST4,
  HOST4_OTHER,
  HOST6,
  HOST6_OTHER,
  startGuest,
} from '../support/namespaces.ts';
import { start } from '../support/processes.ts';
import { echo, listen } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

/** Guest program: what connect(2) says, one after the other: 'connected' or the errno. */
async function connectEach(targets: [string, number][]): Promise<string[]> {
  const { connect } = await import('node:net');
  return await Promise.all(
    targets.map(
      ([host, port]) =>
        new Promise<string>((resolve) => {
          const socket = connect({ host, port });
          const end = (code: string): void => {
            socket.destroy();
            resolve(code);
          };
          socket.on('connect', () => end('connected'));
          socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? ''));
          setTimeout(() => end('nothing'), 20_000);
        }),
    ),
  );
}

/** Guest program: a datagram to each; 'answer', the errno, or 'nothing'. */
async function sendEach(targets: [string, number][]): Promise<string[]> {
  const { createSocket: open } = await import('node:dgram');
  return await Promise.all(
    targets.map(
      ([host, port]) =>
        new Promise<string>((resolve) => {
          const socket = open(host.includes(':') ? 'udp6' : 'udp4');
          socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
          socket.on('message', () => resolve('answer'));
          socket.connect(port, host, (error?: unknown) => {
            if (error === undefined) socket.send('x');
          });
          setTimeout(() => resolve('nothing'), 1000);
        }),
    ),
  );
}

/** With no flags none of these may be reached. The last ones are other ways to write IPv4 addresses. */
const OUTSIDE = [
  HOST4,
  HOST4_OTHER,
  '192.0.2.1',
  '8.8.8.8',
  '203.0.113.5',
  '169.254.169.254',
  '10.0.2.4',
  '172.16.0.1',
  HOST6,
  HOST6_OTHER,
  '2001:4860:4860::8888',
  'fd00::4',
  'fe80::1%tap0',
  '2002:c633:6401::1',
  '64:ff9b::198.51.100.1',
  '64:ff9b::127.0.0.1',
  '::ffff:198.51.100.1',
  '::198.51.100.1',
];

async function withGuest(options: string[], body: (guest: Guest) => Promise<void>): Promise<void> {
  const guest = await startGuest(...options);
  try {
    await body(guest);
  } finally {
    await guest[Symbol.asyncDispose]();
  }
}

/** Calls that could reach somebody, made by the process while `body` runs, as strace writes them. */
async function socketCalls(pid: number, body: () => Promise<void>): Promise<string[]> {
  const file = join(directory, `strace-${pid}.txt`);
  const calls = 'trace=connect,sendto,sendmsg,sendmmsg';
  const strace = start(['strace', '-f', '-qq', '-e', calls, '-o', file, '-p', String(pid)]);
  try {
    // The kernel tells who traces a thread; all of them are, once the last is.
    await until(
      () => !strace.running || /^TracerPid:\s+[1-9]/m.test(readFileSync(`/proc/${pid}/status`, 'latin1')),
      'strace',
    );
    assert.ok(strace.running, `strace does not run here: ${strace.stderr}`);
    await body();
  } finally {
    await strace.stop('SIGINT');
  }
  // Descriptors of the control plane (netlink, UNIX) reach nobody.
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => /AF_INET6?|sin6?_addr/.test(line));
}

describe('with no policy flags', () => {
  test('no call towards any outside address is made for TCP, UDP or ping, and the guest is told so', async () => {
    const server = await listen(echo);
    try {
      await withGuest([], async ({ stack, namespace }) => {
        const results: Record<string, string> = {};
        const calls = await socketCalls(stack.pid, async () => {
          const targets = OUTSIDE.map((address): [string, number] => [address, server.port]);
          const tcp = await namespace.evaluate(connectEach, [targets]);
          const udp = await namespace.evaluate(sendEach, [targets]);
          OUTSIDE.forEach((address, index) => {
            results[address] = `${tcp[index]} ${udp[index]}`;
          });
          const pings = OUTSIDE.filter((address) => !address.startsWith('::')).map((address) =>
            namespace.run(['ping', '-n', '-c', '1', '-W', '1', address]),
          );
          for (const { status, stdout } of await Promise.all(pings)) assert.notEqual(status, 0, stdout);
        });
        // The stack may rehearse meanwhile, with sockets of its own on the loopback.
        const isOwn = (call: string): boolean =>
          call.includes('inet_addr("127.0.0.1")') && !call.includes(`htons(${server.port})`);
        assert.deepEqual(
          calls.filter((call) => !isOwn(call)),
          [],
        );
        for (const [address, result] of Object.entries(results))
          assert.doesNotMatch(result, /connected|answer/, address);
        // A blocked SYN is refused; a blocked datagram is dropped without a word, as slirpnetstack does.
        assert.equal(results[HOST4], 'ECONNREFUSED nothing');
        assert.equal(results[HOST6], 'ECONNREFUSED nothing');
        assert.equal(server.accepted, 0);
      });
    } finally {
      await server.close();
    }
  });

  test('the same watch does see a call when one is allowed', async () => {
    const server = await listen(echo);
    try {
      await withGuest(['--allow', `tcp://${HOST4}`], async ({ stack, namespace }) => {
        const calls = await socketCalls(stack.pid, async () => {
          assert.deepEqual(await namespace.evaluate(connectEach, [[[HOST4, server.port]]]), ['connected']);
        });
        assert.match(calls.join('\n'), new RegExp(`connect.*${HOST4}`));
      });
    } finally {
      await server.close();
    }
  });

  test('our own addresses answer ping', async () => {
    await withGuest([], async ({ namespace }) => {
      for (const address of [GATEWAY4, GATEWAY6]) {
        await namespace.must(['ping', '-n', '-c', '1', '-W', '2', address]);
      }
    });
  });
});

describe('policy flags', () => {
  /** [what, options, reachable?] of TCP to the host's own address, behind its network, and beyond. */
  const table: [string, string[], Record<string, boolean>][] = [
    [
      '--enable-host opens the addresses of the host',
      ['--enable-host'],
      { [HOST4]: true, [HOST6]: true, far: false },
    ],
    [
      '--enable-routing opens all but those',
      ['--enable-routing'],
      { [HOST4]: false, [HOST6]: false, far: true },
    ],
    [
      '--allow opens exactly what it names',
      ['--allow', `tcp://${HOST4}`],
      { [HOST4]: true, [HOST4_OTHER]: false, [HOST6]: false, far: false },
    ],
    [
      '--allow takes prefixes of both families',
      ['--allow', 'tcp://198.51.100.2/31,tcp://[2001:db8:1::2/127]'],
      { [HOST4]: false, [HOST4_OTHER]: true, [HOST6]: false, [HOST6_OTHER]: true },
    ],
    [
      '--deny is stronger than the others',
      ['--enable-host', '--allow', `any://${HOST4}`, '--deny', `tcp://${HOST4}`],
      { [HOST4]: false, [HOST4_OTHER]: true, [HOST6]: true },
    ],
    [
      'a rule for UDP does not speak of TCP',
      ['--allow', `udp://${HOST4}`],
      { [HOST4]: false, [HOST4_OTHER]: false },
    ],
  ];
  for (const [what, options, expected] of table) {
    test(what, async () => {
      const server = await listen(echo);
      try {
        await withGuest(options, async ({ namespace }) => {
          // What may go out and has no route is told apart from what may not go out.
          const hosts = Object.keys(expected).map((name) => (name === 'far' ? '192.0.9.1' : name));
          const targets = hosts.map((host): [string, number] => [host, server.port]);
          const results = await namespace.evaluate(connectEach, [targets]);
          const reached = results.map((code) => ['connected', 'ENETUNREACH', 'EHOSTUNREACH'].includes(code));
          assert.deepEqual(reached, Object.values(expected), `${hosts} gave ${results}`);
        });
      } finally {
        await server.close();
      }
    });
  }

  test('--allow with a port range opens these ports, and only for its protocol', async () => {
    const server = await listen(echo, 7100);
    const above = await listen(echo, 7102);
    const udp = createSocket('udp4');
    udp.on('message', (message, peer) => udp.send(message, peer.port, peer.address));
    try {
      udp.bind(7100, HOST4);
      await once(udp, 'listening');
      await withGuest(['--allow', `tcp://${HOST4}:7099-7101`], async ({ namespace }) => {
        const results = await namespace.evaluate(connectEach, [
          [
            [HOST4, 7100],
            [HOST4, 7102],
            [HOST4_OTHER, 7100],
          ],
        ]);
        assert.equal(results[0], 'connected');
        assert.notEqual(results[1], 'connected');
        assert.notEqual(results[2], 'connected');
        const [datagram] = await namespace.evaluate(sendEach, [[[HOST4, 7100]]]);
        assert.notEqual(datagram, 'answer');
      });
      assert.equal(server.accepted, 1);
      assert.equal(above.accepted, 0);
    } finally {
      udp.close();
      await server.close();
      await above.close();
    }
  });

  test('an address that becomes the host’s while we run is the host’s at once', async () => {
    const { must } = await import('../support/processes.ts');
    const server = await listen(echo);
    try {
      await withGuest(['--enable-routing'], async ({ namespace }) => {
        await must(['ip', 'address', 'add', '198.51.102.1/32', 'dev', 'lo']);
        try {
          await until(
            async () => {
              const [code] = await namespace.evaluate(connectEach, [[['198.51.102.1', server.port]]]);
              return code !== 'connected' && code !== 'ENETUNREACH';
            },
            'the new address closed',
            3000,
          );
        } finally {
          await must(['ip', 'address', 'del', '198.51.102.1/32', 'dev', 'lo']);
        }
      });
    } finally {
      await server.close();
    }
  });
});
