/** UDP forwards whose host end is a unix socket, forwards that come and go, and the gateway that stands for the host. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { DatagramClient } from '../support/datagram-client.ts';
import { guestDatagrams } from '../support/guest-datagrams.ts';
import { bareNamespace, directory, GATEWAY4, GATEWAY6, startGuest } from '../support/namespaces.ts';
import { must, type Running, start } from '../support/processes.ts';
import { addForward, ask, startSlirp4netns } from '../support/slirp4netns.ts';
import { until } from '../support/wait.ts';

let paths = 0;

function socketPlace(): string {
  return join(directory, `dgram-${process.pid}-${++paths}.sock`);
}

/** A unix socket for datagrams that sends back what comes. */
async function unixEcho(path: string): Promise<Running> {
  const program = `
    my $s = IO::Socket::UNIX->new(Local => $ARGV[0], Type => SOCK_DGRAM) or die $!;
    chmod 0666, $ARGV[0];
    print STDERR "ready\\n";
    while (defined(my $from = recv($s, my $data, 70000, 0))) { send($s, $data, 0, $from) }`;
  const running = start(['perl', '-MIO::Socket::UNIX', '-e', program, path]);
  await until(() => running.stderr.includes('ready'), 'the unix echo server');
  return running;
}

/**
 * Guest program: send datagrams of these sizes; what came back, in order. The first goes alone and the others, at once,
 * when it has come back: what a kernel keeps while it asks for a neighbour's address may leave it after what comes later.
 */
async function burst(host: string, port: number, sizes: number[]): Promise<number[]> {
  const { createSocket: open } = await import('node:dgram');
  const socket = open(host.includes(':') ? 'udp6' : 'udp4');
  const [first = 0, ...rest] = sizes;
  const came: number[] = [];
  await new Promise<void>((resolve) => {
    socket.on('error', (error: NodeJS.ErrnoException) => {
      came.push(-(error.errno ?? 0));
      resolve();
    });
    socket.on('message', (message) => {
      came.push(message.equals(Buffer.alloc(message.length, message.length)) ? message.length : -1);
      if (came.length === 1) for (const size of rest) socket.send(Buffer.alloc(size, size));
      if (came.length === sizes.length) resolve();
    });
    socket.connect(port, host, () => socket.send(Buffer.alloc(first, first)));
    setTimeout(resolve, 10_000);
  });
  return came;
}

describe('UDP forwards with unix sockets', () => {
  test('local: a client with a name is answered, the guest sees the gateway, and the file goes with the program', async () => {
    const path = socketPlace();
    {
      await using guest = await startGuest('-L', `udp://unix:${path}:10.0.2.100:5000`);
      await using server = await guestDatagrams(guest.namespace, '0.0.0.0', 5000);
      // Whoever tslirp runs as must be allowed to answer.
      const client = ['sh', '-c', `umask 0; exec socat -t 1 - UNIX-SENDTO:${path},bind=${path}.client`];
      assert.equal(await must(client, { input: 'hello' }), 'hello');
      const [heard] = await server.heard();
      assert.match(heard ?? '', /^10\.0\.2\.2 \d+ 5$/);
    }
    assert.equal(existsSync(path), false);
  });

  test('remote: more than the queue of the socket holds, in order, none lost; refused when it is gone', async () => {
    const path = socketPlace();
    const service = await unixEcho(path);
    try {
      await using guest = await startGuest('-R', `udp://10.0.2.2:86:unix:${path}`);
      const sizes = [0, 65507, ...Array.from({ length: 48 }, (_, i) => i * 7)];
      assert.deepEqual(await guest.namespace.evaluate(burst, [GATEWAY4, 86, sizes]), sizes);
      await service.stop('SIGTERM');
      assert.deepEqual(await guest.namespace.evaluate(burst, [GATEWAY4, 86, [1]]), [111]);
    } finally {
      await service.stop();
    }
  });
});

describe('UDP under the slirp4netns front end', () => {
  test('a forward can be removed and added again on the same port at once; two of them cannot share it (X-05)', async () => {
    const { namespace, anchor } = await bareNamespace();
    try {
      await using service = await startSlirp4netns(['-c', '-m', '1500', String(namespace.pid), 'tap0']);
      await using server = await guestDatagrams(namespace, '0.0.0.0', 5000);
      const forward = { proto: 'udp', host_addr: '127.0.0.1', host_port: 5353, guest_port: 5000 };
      for (let round = 1; round <= 3; round++) {
        const { id } = await addForward(service.api, forward);
        const second = await ask(service.api, { execute: 'add_hostfwd', arguments: forward });
        assert.ok(second['error'] !== undefined, JSON.stringify(second));
        await using client = await DatagramClient.at('127.0.0.1');
        client.send('hello', 5353, '127.0.0.1');
        const [answer] = await client.have(1);
        assert.equal(`${answer?.data.toString()} ${answer?.from}`, 'hello 127.0.0.1 5353');
        await ask(service.api, { execute: 'remove_hostfwd', arguments: { id } });
      }
      assert.equal((await server.heard()).length, 3);
    } finally {
      await anchor.stop();
    }
  });

  test('the gateway is the host: answers and refusals of its loopback come from the gateway', async () => {
    const { namespace, anchor } = await bareNamespace();
    try {
      await using _service = await startSlirp4netns([
        ...['-c', '-m', '1500', '--enable-ipv6'],
        ...[String(namespace.pid), 'tap0'],
      ]);
      await until(
        async () => {
          const addresses = await namespace.must([
            'ip',
            '-6',
            'address',
            'show',
            'dev',
            'tap0',
            'scope',
            'global',
          ]);
          return addresses.includes('inet6') && !addresses.includes('tentative');
        },
        'an IPv6 address of the guest',
        10_000,
      );
      for (const [gateway, loopback] of [
        [GATEWAY4, '127.0.0.1'],
        [GATEWAY6, '::1'],
      ] as const) {
        let port = 0;
        {
          await using server = await DatagramClient.at(loopback);
          port = server.socket.address().port;
          server.socket.on('message', (data, peer) => server.socket.send(data, peer.port, peer.address));
          const sizes = [0, 700, 700, 9000];
          assert.deepEqual(await namespace.evaluate(burst, [gateway, port, sizes]), sizes, gateway);
        }
        assert.deepEqual(await namespace.evaluate(burst, [gateway, port, [1]]), [111], gateway);
      }
    } finally {
      await anchor.stop();
    }
  });
});
