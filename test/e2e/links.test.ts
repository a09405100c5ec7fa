import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  attachToPair,
  attachToTap,
  bridgeCommand,
  connecting,
  IFF_VNET_HDR,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
} from '../support/link-bridge.ts';
import {
  asOwner,
  bareNamespace,
  directory,
  GATEWAY4,
  HOST4,
  type Namespace,
  OPEN,
  programPath,
  ready,
  tslirpCommand,
} from '../support/namespaces.ts';
import { type Running, run, start } from '../support/processes.ts';
import { digest, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { receive, send } from '../support/transfer.ts';
import { until } from '../support/wait.ts';

/** More than any queue between us and the guest holds. */
const BODY = sampleBytes(8 * 1024 * 1024);

let source: TestServer;
let sink: TestServer;
before(async () => {
  source = await listen((socket) => socket.end(BODY));
  sink = await listen(digest);
});
after(async () => {
  await source?.close();
  await sink?.close();
});

async function configure(namespace: Namespace, mtu = 1500): Promise<void> {
  await until(async () => (await namespace.run(['ip', 'link', 'show', 'tap0'])).status === 0, 'tap0');
  await namespace.ip(
    `link set tap0 mtu ${mtu} up`,
    'address add 10.0.2.100/24 dev tap0',
    `route add default via ${GATEWAY4}`,
  );
}

/** Bulk in both directions, with checksums. */
async function works(namespace: Namespace, address = HOST4): Promise<void> {
  const sum = sha256(BODY);
  assert.equal(await namespace.evaluate(receive, [address, source.port]), sum, 'from the host');
  assert.equal(await namespace.evaluate(send, [address, sink.port, BODY.length]), sum, 'to the host');
}

async function withNamespace(body: (namespace: Namespace) => Promise<void>): Promise<void> {
  const { namespace, anchor } = await bareNamespace();
  try {
    await body(namespace);
  } finally {
    await anchor.stop();
  }
}

/** Runs `body` while these run, and ends them. */
async function during(processes: readonly Running[], body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } finally {
    for (const running of processes) await running.stop();
  }
}

describe('a link over a descriptor', () => {
  for (const [name, type] of [
    ['datagram', SOCK_DGRAM],
    ['seqpacket', SOCK_SEQPACKET],
  ] as const) {
    test(`a unix ${name} socket carries one frame per packet, full or not`, async () => {
      await withNamespace(async (namespace) => {
        const stack = await attachToPair(namespace, type, ...OPEN);
        await during([stack], async () => {
          await configure(namespace);
          await namespace.must(['ping', '-n', '-c', '1', '-W', '2', GATEWAY4]);
          await works(namespace);
        });
      });
    });
  }

  for (const [name, flags] of [
    ['with', IFF_VNET_HDR],
    ['without', 0],
  ] as const) {
    test(`an attached TAP ${name} virtio-net headers`, async () => {
      await withNamespace(async (namespace) => {
        const holder = start(bridgeCommand(namespace, '-1', flags));
        const fd = await holder.firstLine();
        const stack = await attachToTap(holder, fd, ...OPEN, '--mtu', '9000');
        await during([stack, holder], async () => {
          await configure(namespace, 9000);
          await works(namespace);
        });
      });
    });
  }

  test('a seqpacket socket that we listen on serves the first peer and ends with it', async () => {
    const path = join(directory, 'bess.sock');
    await withNamespace(async (namespace) => {
      const program = asOwner(programPath('slirp4netns'), '-r', '3', '--target-type=bess', path);
      const stack = start(program, { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
      await during([stack], async () => {
        await until(() => stack.stderr.includes(`Waiting for connection to ${path}`), 'waiting');
        assert.equal(statSync(path).mode & 0o777, 0o600);
        const bridge = start(connecting(SOCK_SEQPACKET, path, bridgeCommand(namespace, 'LINK')));
        await during([bridge], async () => {
          await ready(stack);
          assert.equal(existsSync(path), false);
          await configure(namespace);
          await works(namespace);
          // An empty packet reads like the end of the connection, and is none.
          bridge.child.stdin?.write('empty\n');
          await namespace.must(['ping', '-n', '-c', '3', '-i', '0.2', '-W', '2', GATEWAY4]);
          await bridge.stop();
          assert.equal((await stack.end()).status, 0);
        });
      });
    });
  });

  test('a descriptor that is no link is one line, and not 0', async () => {
    for (const fd of ['0', '77']) {
      // The pipes that Node makes are sockets.
      const ended = await run([
        'sh',
        '-c',
        'exec "$0" "$@" </dev/null',
        ...tslirpCommand('attach', '--fd', fd),
      ]);
      assert.equal(ended.status, 2);
      assert.match(ended.stderr, /^tslirp: [^\n]+\n$/);
    }
  });
});
