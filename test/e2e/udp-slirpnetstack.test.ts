/** What the slirpnetstack front end promises about UDP, ARP and ping (its specification, §4.2, §8.5, §9 and §13). */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertAnswersFromContacted, DatagramClient } from '../support/datagram-client.ts';
import { type GuestDatagrams, guestDatagrams } from '../support/guest-datagrams.ts';
import { HOST4, HOST4_OTHER, HOST6, HOST6_OTHER } from '../support/namespaces.ts';
import {
  type Slirpnetstack,
  type SlirpnetstackGuest,
  slirpnetstackGuest,
  startSlirpnetstack,
} from '../support/slirpnetstack.ts';
import { until } from '../support/wait.ts';

/** Guest program: one datagram; the answer and who sent it, or the error. */
async function ask(host: string, port: number, text: string, limitMs: number): Promise<string> {
  const { createSocket: open } = await import('node:dgram');
  const socket = open(host.includes(':') ? 'udp6' : 'udp4');
  return await new Promise<string>((resolve) => {
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    socket.on('message', (message, peer) => resolve(`${message.toString()} ${peer.address} ${peer.port}`));
    socket.connect(port, host, () => socket.send(text));
    setTimeout(() => resolve('nothing'), limitMs);
  });
}

describe('slirpnetstack: UDP', () => {
  let guest: SlirpnetstackGuest;
  let server4: GuestDatagrams;
  let server6: GuestDatagrams;
  before(async () => {
    guest = await slirpnetstackGuest();
    server4 = await guestDatagrams(guest.namespace, '0.0.0.0', 5000);
    server6 = await guestDatagrams(guest.namespace, 'fd00::100', 5000);
  });
  after(async () => {
    await server4?.[Symbol.asyncDispose]();
    await server6?.[Symbol.asyncDispose]();
    await guest?.end();
  });

  for (const [rule, announced, to, sees] of [
    ['udp://:0::5000', '127.0.0.1', '127.0.0.1', '10.0.2.2'],
    ['udp://0:10.0.2.100:5000', '127.0.0.1', '127.0.0.1', '10.0.2.2'],
    ['udp://[::1]:0::5000', '[::1]', '::1', 'fd00::2'],
    ['udp://:0:[fd00::100]:5000', '[::1]', '::1', 'fd00::2'],
    ['udp://[::]:::5000', '[::]', '::1', 'fd00::2'],
    ['udp://localhost:0::5000', '127.0.0.1', '127.0.0.1', '10.0.2.2'],
    ['udp://0.0.0.0:0::5000', '[::]', '127.0.0.1', '10.0.2.2'],
    ['udp://0.0.0.0:0:[fd00::100]:5000', '[::]', '127.0.0.1', 'fd00::2'],
    ['udp://0.0.0.0:5000', '[::]', HOST4, HOST4],
  ] as const) {
    test(`-L ${rule} listens at ${announced} and shows ${sees}`, async () => {
      await using program = await startSlirpnetstack(guest, '-L', rule);
      const line = await program.line(/local-fwd Local listen/);
      const port = program.port();
      assert.equal(line, `[+] local-fwd Local listen udp://${announced}:${port}`);
      await using client = await DatagramClient.at(to);
      client.send('hello', port, to);
      const [answer] = await client.have(1);
      assert.equal(`${answer?.data.toString()} ${answer?.from}`, `hello ${to} ${port}`);
      const opened = await program.line(/local-fwd conn/);
      const mine = to.includes(':') ? `[${to}]` : to;
      const shown = sees.includes(':') ? `[${sees}]` : sees;
      const target = sees.includes(':') ? '[fd00::100]:5000' : '10.0.2.100:5000';
      const start = `[+] udp://${mine}:${client.socket.address().port}-${mine}:${port}/${shown}:`;
      assert.ok(
        opened.startsWith(start) && opened.endsWith(`-${target} local-fwd conn`),
        `${opened} is not ${start}…`,
      );
    });
  }

  test('a dual-stack wildcard answers IPv4 and IPv6 clients from the address that each contacted', async () => {
    await using program = await startSlirpnetstack(guest, '-L', 'udp://0.0.0.0:0::5000');
    const port = program.port();
    for (const [from, to] of [
      [HOST4, HOST4_OTHER],
      ['127.0.0.1', '127.9.9.9'],
      [HOST6, HOST6_OTHER],
    ] as const) {
      await assertAnswersFromContacted(port, from, to);
    }
  });

  test('udprpc: a conn and a done line for each exchange', async () => {
    await using program = await startSlirpnetstack(guest, '-L', 'udprpc://:0::5000');
    await using client = await DatagramClient.at('127.0.0.1');
    for (let i = 1; i <= 2; i++) {
      client.send('hello', program.port(), '127.0.0.1');
      await client.have(i);
    }
    await until(() => program.lines(/local-fwd done/).length === 2, 'two lines of flows that are done');
    const lines = program.lines(/local-fwd (conn|done)/).map((line) => line.replace(/.* local-fwd /, ''));
    assert.deepEqual(
      lines.map((line) => line.slice(0, 4)),
      ['conn', 'done', 'conn', 'done'],
    );
  });

  test('udpspp: PP lines, and what is wrong with a header that is', async () => {
    await using program = await startSlirpnetstack(guest, '-L', 'udpspp://:0:10.0.2.100:5000');
    await program.line(/local-fwd Local PP listen udp:/);
    await using client = await DatagramClient.at('127.0.0.1');
    client.send(Buffer.alloc(37), program.port(), '127.0.0.1');
    await program.line(/local-fwd PP error: unexpected EOF$/);
    client.send(Buffer.alloc(38), program.port(), '127.0.0.1');
    await program.line(/local-fwd PP error: spp: bad magic number$/);
    const good = Buffer.alloc(40);
    good.writeUInt16BE(0x56ec);
    client.send(good, program.port(), '127.0.0.1');
    await program.line(/local-fwd PP conn$/);
    assert.ok((await client.have(1))[0]?.data.equals(good));
  });

  test('the guest refuses: the flow is done with its error', async () => {
    await using program = await startSlirpnetstack(guest, '-L', 'udp://:0::5999');
    await using client = await DatagramClient.at('127.0.0.1');
    client.send('hello', program.port(), '127.0.0.1');
    const line = await program.line(/local-fwd done/);
    assert.match(line, /local-fwd done: l=EOF\/0 r=\[.*refused\]\/0$/);
  });

  test('review O-5: routed: one connected socket per destination, its lines, and the guest hears of a closed port', async () => {
    await using program: Slirpnetstack = await startSlirpnetstack(guest, '-enable-host');
    for (const host of [HOST4, HOST6]) {
      await using server = await DatagramClient.at(host);
      server.socket.on('message', (data, peer) => server.send(data, peer.port, peer.address));
      const { port } = server.socket.address();
      assert.equal(
        await guest.namespace.evaluate(ask, [host, port, 'hello', 20_000]),
        `hello ${host} ${port}`,
      );
      const at = host.includes(':') ? `\\[${host}\\]` : host;
      await program.line(new RegExp(`^\\[\\+\\] udp://.*/.*-${at}:${port} Routing conn new$`));
    }
    const closed = await DatagramClient.at(HOST4);
    const { port } = closed.socket.address();
    await closed[Symbol.asyncDispose]();
    assert.equal(await guest.namespace.evaluate(ask, [HOST4, port, 'hello', 20_000]), 'ECONNREFUSED');
    await program.line(
      new RegExp(`-${HOST4}:${port} Routing conn done: l=EOF/0 r=\\[read udp .*refused\\]/0$`),
    );
  });

  test('nothing but what is opened: no datagram, no line', async () => {
    await using program = await startSlirpnetstack(guest);
    await using server = await DatagramClient.at(HOST4);
    const { port } = server.socket.address();
    assert.equal(await guest.namespace.evaluate(ask, [HOST4, port, 'hello', 300]), 'nothing');
    assert.equal(server.received.length, 0);
    assert.equal(program.running.stdout, '');
  });

  test('pings of any address are answered; the link-local address of the guest is its own', async () => {
    await using _program = await startSlirpnetstack(guest);
    for (const host of ['10.0.2.11', '1.1.1.1', '2001:2::2', 'fd00::11']) {
      const out = await guest.namespace.must(['ping', '-c', '1', '-W', '2', '-n', host]);
      assert.match(out, /ttl=64/);
    }
    // Addresses are probed when a link comes up.
    await guest.namespace.ip('link set tun0 addrgenmode eui64', 'link set tun0 down', 'link set tun0 up');
    let shown = '';
    await until(async () => {
      shown = await guest.namespace.must(['ip', '-6', 'address', 'show', 'dev', 'tun0']);
      return shown.includes('inet6 fe80:') && (shown.includes('dadfailed') || !shown.includes('tentative'));
    }, 'the probing of addresses');
    assert.doesNotMatch(shown, /dadfailed/);
  });
});
