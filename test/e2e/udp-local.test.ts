/** Local UDP forwards: clients of the host that use services of the guest. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertAnswersFromContacted, DatagramClient } from '../support/datagram-client.ts';
import { type GuestDatagrams, guestDatagrams } from '../support/guest-datagrams.ts';
import {
  GATEWAY4,
  GATEWAY6,
  type Guest,
  HOST4,
  HOST4_OTHER,
  HOST6,
  HOST6_OTHER,
  startGuest,
} from '../support/namespaces.ts';

const GUEST4 = '10.0.2.100';
const GUEST6 = 'fd00::100';

function pattern(size: number): Buffer {
  return Buffer.from(Array.from({ length: size }, (_, index) => (index * 7 + size) & 255));
}

describe('local UDP forwards', () => {
  let guest: Guest;
  let server4: GuestDatagrams;
  let server6: GuestDatagrams;
  before(async () => {
    guest = await startGuest(
      ...['-L', `udp://5001:${GUEST4}:5000`],
      ...['-L', `udp://127.1.2.3:5002:[${GUEST6}]:5000`],
      ...['-L', `udp://[::1]:5003:${GUEST4}:5000`],
      ...['-L', `udp://0.0.0.0:5004:${GUEST4}:5000`],
      ...['-L', `udp://[::]:5005:[${GUEST6}]:5000`],
      ...['-L', `udp://${HOST4}:5006:${GUEST4}:5000`],
      ...['-L', 'udp://127.0.0.1:5000'],
      ...['-L', `udp+rpc://127.0.0.1:5008:${GUEST4}:5000`],
      ...['-L', `udp+spp://127.0.0.1:5009:${GUEST4}:5000`],
      ...['-L', `udp+spp://127.0.0.1:5010:${GUEST4}:0`],
      ...['-L', `udp://127.0.0.1:5011:${GUEST4}:5099`],
    );
    server4 = await guestDatagrams(guest.namespace, '0.0.0.0', 5000);
    server6 = await guestDatagrams(guest.namespace, GUEST6, 5000);
  });
  after(async () => {
    await server4?.[Symbol.asyncDispose]();
    await server6?.[Symbol.asyncDispose]();
    await guest?.[Symbol.asyncDispose]();
  });

  const sizes = [0, 1, 700, 700, 1472, 1473, 9000, 65507, 3, 0, 65487];
  for (const { name, from, to, port, server, sees } of [
    {
      name: 'the default address',
      from: '127.0.0.1',
      to: '127.0.0.1',
      port: 5001,
      server: 4,
      sees: GATEWAY4,
    },
    { name: 'the port alone', from: '127.0.0.1', to: '127.0.0.1', port: 5000, server: 4, sees: GATEWAY4 },
    { name: 'IPv4 to IPv6', from: '127.0.0.1', to: '127.1.2.3', port: 5002, server: 6, sees: GATEWAY6 },
    { name: 'IPv6 to IPv4', from: '::1', to: '::1', port: 5003, server: 4, sees: GATEWAY4 },
    { name: 'a real IPv4 address', from: HOST4, to: HOST4, port: 5006, server: 4, sees: HOST4 },
    { name: 'a real IPv6 address', from: HOST6_OTHER, to: HOST6, port: 5005, server: 6, sees: HOST6_OTHER },
  ] as const) {
    test(`${name}: datagrams go and come back whole and in order; the guest sees ${sees}`, async () => {
      await using client = await DatagramClient.at(from);
      const heard = (server === 4 ? server4 : server6).heard;
      await heard();
      for (const size of sizes) client.send(pattern(size), port, to);
      const answers = await client.have(sizes.length);
      assert.deepEqual(
        answers.map(({ data }) => data.length),
        sizes,
      );
      for (const [index, { data, from: sender }] of answers.entries()) {
        assert.ok(data.equals(pattern(sizes[index] as number)));
        assert.equal(sender, `${to} ${port}`);
      }
      const clients = await heard();
      const ends = new Set(clients.map((line) => line.split(' ').slice(0, 2).join(' ')));
      assert.equal(ends.size, 1);
      const [address, seenPort] = ([...ends][0] as string).split(' ');
      assert.equal(address, sees);
      assert.notEqual(Number(seenPort), client.socket.address().port);
    });
  }

  for (const [name, port, wildcards] of [
    [
      '0.0.0.0',
      5004,
      [
        ['127.0.0.1', '127.5.5.5'],
        [HOST4, HOST4_OTHER],
      ],
    ],
    [
      '[::]',
      5005,
      [
        ['::1', '::1'],
        [HOST6, HOST6_OTHER],
      ],
    ],
  ] as const) {
    test(`${name}: answers leave from the address that was contacted, and each such address is a flow`, async () => {
      for (const [from, to] of wildcards) {
        await assertAnswersFromContacted(port, from, to);
      }
    });
  }

  test('a datagram of the guest from another port is no answer (U-05)', async () => {
    await using client = await DatagramClient.at('127.0.0.1');
    client.send('stray', 5001, '127.0.0.1');
    client.send('after', 5001, '127.0.0.1');
    const answers = await client.have(2);
    assert.deepEqual(
      answers.map(({ data }) => data.toString()),
      ['stray', 'after'],
    );
  });

  test('zero bytes a thousand times, both ways (U-02)', async () => {
    await using client = await DatagramClient.at('127.0.0.1');
    for (let i = 1; i <= 1000; i++) {
      client.send('', 5001, '127.0.0.1');
      if (i % 50 === 0) await client.have(i);
    }
    assert.ok(client.received.every(({ data }) => data.length === 0));
  });

  test('100,000 datagrams there and back, none lost, merged, split or out of order', async () => {
    await using client = await DatagramClient.at('127.0.0.1');
    const window = 64;
    let next = 0;
    await new Promise<void>((resolve, reject) => {
      let expected = 0;
      const timer = setTimeout(() => reject(new Error(`${expected} came back`)), 60_000);
      const sendOne = (): void => {
        const data = Buffer.alloc(8 + (next % 500));
        data.writeUInt32BE(next++);
        client.socket.send(data, 5001, '127.0.0.1');
      };
      client.socket.removeAllListeners('message');
      client.socket.on('message', (data) => {
        if (data.readUInt32BE(0) !== expected || data.length !== 8 + (expected % 500)) {
          clearTimeout(timer);
          reject(new Error(`datagram ${expected}: number ${data.readUInt32BE(0)}, ${data.length} bytes`));
        }
        expected++;
        if (next < 100_000) sendOne();
        if (expected < 100_000) return;
        clearTimeout(timer);
        resolve();
      });
      for (let i = 0; i < window; i++) sendOne();
    });
  });

  test('udp+rpc: the first answer ends the flow; the next question has a fresh port', async () => {
    await using client = await DatagramClient.at('127.0.0.1');
    await server4.heard();
    for (let i = 1; i <= 3; i++) {
      client.send('twice', 5008, '127.0.0.1');
      await client.have(i);
    }
    const clients = new Set(await server4.heard());
    assert.equal(clients.size, 3);
    client.send('last', 5008, '127.0.0.1');
    const answers = await client.have(4);
    assert.deepEqual(
      answers.map(({ data }) => data.toString()),
      ['twice', 'twice', 'twice', 'last'],
    );
  });

  test('udp+spp: the header names the client, and answers get the first one back', async () => {
    await using client = await DatagramClient.at('127.0.0.1');
    const header = (last: number): Buffer => {
      const bytes = Buffer.alloc(38);
      bytes.writeUInt16BE(0x56ec);
      bytes.fill(0xff, 12, 14);
      Buffer.from([203, 0, 113, last]).copy(bytes, 14);
      bytes.fill(0xff, 28, 30);
      Buffer.from([192, 0, 2, 1]).copy(bytes, 30);
      bytes.writeUInt16BE(1234, 34);
      bytes.writeUInt16BE(5000, 36);
      return bytes;
    };
    const big = pattern(65000);
    for (const port of [5009, 5010]) {
      const from = client.received.length;
      await server4.heard();
      client.send(Buffer.concat([header(7), big]), port, '127.0.0.1');
      client.send('too short', port, '127.0.0.1');
      client.send(Buffer.concat([Buffer.alloc(38), Buffer.from('second')]), port, '127.0.0.1');
      client.send(Buffer.alloc(38), port, '127.0.0.1');
      const answers = (await client.have(from + 3)).slice(from);
      assert.deepEqual(
        answers.map(({ data }) => data),
        [Buffer.concat([header(7), big]), Buffer.concat([header(7), Buffer.from('second')]), header(7)],
      );
      const heard = await server4.heard();
      assert.deepEqual(
        heard.map((line) => line.replace(/ \d+ /, ' ')),
        ['203.0.113.7 65000', '203.0.113.7 6', '203.0.113.7 0'],
      );
    }
  });

  test('a service that starts late works at the next attempt', async () => {
    await using client = await DatagramClient.at('127.0.0.1');
    client.send('lost', 5011, '127.0.0.1');
    await using late = await guestDatagrams(guest.namespace, '0.0.0.0', 5099);
    client.send('found', 5011, '127.0.0.1');
    const [answer] = await client.have(1);
    assert.equal(answer?.data.toString(), 'found');
    assert.equal((await late.heard()).length, 1);
  });
});
