/** Virtual machines at the other end of links: QEMU, with a real kernel inside. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { bootMachine, type Machine } from '../support/machine.ts';
import { GATEWAY4, HOST4, mode } from '../support/namespaces.ts';
import { serveLinks, socketDirectory } from '../support/serve-links.ts';
import { digest, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

const SIZE = 8 * 1024 * 1024;
const BODY = sampleBytes(SIZE);

let source: TestServer;
let sink: TestServer;
/** Where the user of this mode may make sockets. */
let sockets = '';
before(async () => {
  source = await listen((socket) => {
    socket.once('data', () => socket.end(Buffer.concat([Buffer.from('HTTP/1.0 200 OK\r\n\r\n'), BODY])));
  });
  sink = await listen(digest);
  sockets = socketDirectory();
});
after(async () => {
  await source?.close();
  await sink?.close();
});

/** Bulk in both directions, with checksums. */
async function works(machine: Machine, size: number): Promise<void> {
  const got = await machine.run(`wget -q -O - http://${HOST4}:${source.port}/ | head -c ${size} | sha256sum`);
  assert.equal(got.split(' ')[0], sha256(BODY.subarray(0, size)), 'from the host');
  const sent = await machine.run(`head -c ${size} /dev/zero | nc ${HOST4} ${sink.port}`);
  assert.equal(sent, sha256(Buffer.alloc(size)), 'to the host');
}

describe(`machines (${mode})`, () => {
  // All of it with one machine: booting is what takes longest.
  test('links L-12, L-15, L-9: QEMU by a stream and by datagrams', async () => {
    const [stream, ours, theirs] = ['stream', 'ours', 'theirs'].map((name) => join(sockets, name));
    const links = [
      ...['--link', `qemu:unix:${stream},connect,guest=stream`],
      ...['--link', `dgram:local=${ours},remote=${theirs},guest=datagrams`],
    ];
    const isUp = (guest: string) => () =>
      new RegExp(`"guest":"${guest}"[^\n]*"the link is up"`).test(stack.stderr);
    let stack = await serveLinks(...links);
    const machine = await bootMachine([
      `stream,server=on,addr.type=unix,addr.path=${stream}`,
      `dgram,local.type=unix,local.path=${theirs},remote.type=unix,remote.path=${ours}`,
    ]);
    try {
      await until(isUp('stream'), 'the stream', 20_000);
      await until(isUp('datagrams'), 'the datagrams', 20_000);
      assert.match(await machine.lease('eth0'), /LEASE 10\.0\.2\.100 10\.0\.2\.2 10\.0\.2\.3/);
      await works(machine, SIZE);
      assert.match(await machine.run('ip -6 address show dev eth0 scope global'), /inet6 fd00::/);

      // It is there before us now, and its lease is as good as before.
      assert.equal((await stack.stop('SIGTERM')).status, 0);
      stack = await serveLinks(...links);
      await until(isUp('stream'), 'the stream again', 20_000);
      await machine.run(`ping -c 1 -W 5 ${GATEWAY4}`);

      // Another link address is learned with the first frame that has it.
      await machine.run(
        'ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:07; ip link set eth0 up',
      );
      assert.match(await machine.lease('eth0'), /LEASE 10\.0\.2\.100/);
      await machine.run(`ping -c 1 -W 5 ${GATEWAY4}`);

      // The other guest has the same addresses, by itself.
      await machine.run('ip address flush dev eth0; ip link set eth0 down');
      assert.match(await machine.lease('eth1'), /LEASE 10\.0\.2\.100/);
      await works(machine, 256 * 1024);
      await machine.end();
      await until(() => stack.stderr.split('link.down').length > 2, 'the end of both', 10_000);
      assert.equal((await stack.stop('SIGTERM')).status, 0);
    } finally {
      await machine.end();
      await stack.stop();
    }
  });
});
