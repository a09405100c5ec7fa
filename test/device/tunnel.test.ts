/** The plain tunnel (links.md §10) on real sockets of the loopback interface. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { HOLD_MS } from '../../src/device/tunnel-link.ts';
import { EHOSTUNREACH, EMSGSIZE } from '../../src/sys/errno.ts';
import { packet } from '../wireguard/support/ends.ts';
import { packet6, TunnelBench } from './support/tunnel-bench.ts';

const PEER = '10.1.3.1';
const BEHIND = '10.1.1.2';

let b: TunnelBench;
beforeEach(() => {
  b = new TunnelBench();
});
afterEach(() => b.end());

describe('a plain tunnel', () => {
  test('links L-31: a packet is the payload of a datagram, nothing added, both ways', () => {
    const guest = b.guest([`${PEER}/32`]);
    const client = b.sender();
    const asked = packet(PEER, BEHIND, 100);
    client.send(asked);
    assert.deepEqual(guest.received, [asked]);
    assert.deepEqual(guest.peers, [{ type: 'peer.up', endpoint: client.place }]);
    const answer = packet(BEHIND, PEER, 200);
    assert.equal(guest.transmit(answer), answer.length);
    b.settle();
    assert.deepEqual(client.received(), [answer]);
  });

  test('links L-31: IPv6 inside', () => {
    const guest = b.guest(['fd01:3::1/128']);
    const client = b.sender();
    const asked = packet6('fd01:3::1', 'fd01:1::2', 60);
    client.send(asked);
    assert.deepEqual(guest.received, [asked]);
    const answer = packet6('fd01:1::2', 'fd01:3::1', 80);
    assert.equal(guest.transmit(answer), answer.length);
    b.settle();
    assert.deepEqual(client.received(), [answer]);
  });

  test('links L-31: a batch of packets comes whole and in order', () => {
    const guest = b.guest([`${PEER}/32`]);
    const client = b.sender();
    client.send(packet(PEER, BEHIND));
    // As many as the client's socket has room for, of one size, of another, and one that is shorter.
    const sent = Array.from({ length: 90 }, (_, i) => packet(BEHIND, PEER, i < 50 ? 1000 : i < 70 ? 100 : i));
    for (const each of sent) assert.equal(guest.transmit(each), each.length);
    b.settle();
    const received = client.received();
    assert.equal(received.length, sent.length);
    assert.ok(Buffer.concat(received).equals(Buffer.concat(sent)));
  });

  test('links L-32: 1400 bytes may go, what others send longer is taken', () => {
    const guest = b.guest([`${PEER}/32`]);
    const client = b.sender();
    const long = packet(PEER, BEHIND, 8980);
    client.send(long);
    assert.deepEqual(guest.received, [long]);
    assert.equal(guest.link.mtu, 1400);
    assert.equal(guest.transmit(packet(BEHIND, PEER, 1381)), -EMSGSIZE);
    assert.equal(guest.transmit(packet(BEHIND, PEER, 1380)), 1400);
  });

  test('links L-33: an empty datagram is ignored, and sent when nothing else was', () => {
    const guest = b.guest([`${PEER}/32`], { keepaliveSeconds: 25 });
    const client = b.sender();
    client.send(Buffer.alloc(0));
    assert.deepEqual(b.counts, { keepalives: 1 });
    assert.deepEqual(guest.peers, [], 'it shows nothing');
    client.send(packet(PEER, BEHIND));
    b.pass(1);
    client.received();
    guest.transmit(packet(BEHIND, PEER));
    b.pass(24_999);
    assert.equal(client.received().length, 1, 'the packet alone');
    b.pass(1);
    assert.deepEqual(client.received(), [Buffer.alloc(0)]);
    b.pass(25_000);
    assert.deepEqual(client.received(), [Buffer.alloc(0)]);
  });

  test('links L-33: without keepalive= nothing is sent unasked', () => {
    b.guest([`${PEER}/32`]);
    const client = b.sender();
    client.send(packet(PEER, BEHIND));
    b.pass(3_600_000);
    assert.deepEqual(client.received(), []);
  });

  test('links L-34: what is no packet is dropped and counted, by why', () => {
    const guest = b.guest([`${PEER}/32`, 'fd01:3::1/128']);
    const client = b.sender();
    const good = packet(PEER, BEHIND, 10);
    const good6 = packet6('fd01:3::1', 'fd01:1::2', 10);
    client.send(Buffer.from([0x50]));
    assert.deepEqual(b.counts, { bad_version: 1 });
    client.send(good.subarray(0, 19));
    client.send(good6.subarray(0, 39));
    assert.deepEqual(b.counts, { bad_version: 1, short: 2 });
    client.send(good.subarray(0, 29));
    client.send(Buffer.concat([good, Buffer.alloc(1)]));
    client.send(good6.subarray(0, 49));
    client.send(Buffer.concat([good6, Buffer.alloc(1)]));
    assert.deepEqual(b.counts, { bad_version: 1, short: 2, bad_length: 4 });
    assert.deepEqual(guest.received, []);
    assert.deepEqual(guest.peers, [], 'nobody has come');
    client.send(good);
    client.send(good6);
    assert.deepEqual(guest.received, [good, good6]);
  });

  test('links L-35: an inner source that is not the peer’s is dropped, and so is a packet to another', () => {
    const guest = b.guest([`${PEER}/32`]);
    const client = b.sender();
    const wrong = [packet6('::', 'fd01:1::2', 8), packet('0.0.0.0', BEHIND), packet('10.1.3.2', BEHIND)];
    for (const each of wrong) client.send(each);
    assert.deepEqual(b.counts, { not_allowed: 3 });
    client.send(packet(PEER, BEHIND));
    for (const each of wrong) client.send(each);
    assert.deepEqual(b.counts, { not_allowed: 6 });
    assert.equal(guest.received.length, 1);
    assert.equal(guest.transmit(packet(BEHIND, '10.1.3.2')), -EHOSTUNREACH);
  });

  for (const [to, what] of [
    ['127.0.0.1', 'loopback'],
    ['192.0.2.1', 'an address of the host'],
    ['10.1.3.254', 'the gateway'],
  ] as const) {
    test(`links L-35: a packet to our own end of the tunnel is dropped: ${what}`, () => {
      const guest = b.guest([`${PEER}/32`]);
      const client = b.sender();
      const loop = packet(PEER, to, 8);
      loop.writeUInt16BE(b.interface!.port, 22);
      client.send(loop);
      assert.deepEqual(b.counts, { to_itself: 1 });
      assert.deepEqual(guest.received, []);
      loop.writeUInt16BE(b.interface!.port ^ 1, 22);
      client.send(loop);
      assert.equal(guest.received.length, 1, 'another port is as good as any');
    });
  }

  test('links L-36: the first sender has the tunnel until it was silent for 60 s', () => {
    const guest = b.guest([`${PEER}/32`]);
    const [first, second] = [b.sender(), b.sender()];
    first.send(packet(PEER, BEHIND));
    second.send(packet(PEER, BEHIND));
    assert.deepEqual(b.counts, { other_sender: 1 });
    assert.equal(guest.received.length, 1);
    guest.transmit(packet(BEHIND, PEER));
    b.settle();
    assert.deepEqual([first.received().length, second.received().length], [1, 0]);
    b.pass(HOLD_MS - 1);
    // An empty one holds it too.
    first.send(Buffer.alloc(0));
    b.pass(HOLD_MS - 1);
    second.send(packet(PEER, BEHIND));
    assert.equal(guest.received.length, 1);
    b.pass(1);
    assert.deepEqual(guest.peers.at(-1), { type: 'peer.down', reason: 'nothing was heard for 60 s' });
    second.send(packet(PEER, BEHIND));
    assert.equal(guest.received.length, 2);
    assert.deepEqual(guest.peers.at(-1), { type: 'peer.up', endpoint: second.place });
    guest.transmit(packet(BEHIND, PEER));
    b.settle();
    assert.deepEqual([first.received().length, second.received().length], [0, 1]);
  });

  test('links L-36: what is dropped holds nothing', () => {
    const guest = b.guest([`${PEER}/32`]);
    const [first, second] = [b.sender(), b.sender()];
    first.send(packet(PEER, BEHIND));
    b.pass(HOLD_MS - 1);
    first.send(packet('10.1.3.9', BEHIND));
    first.send(Buffer.from([0x45]));
    b.pass(1);
    second.send(packet(PEER, BEHIND));
    assert.equal(guest.received.length, 2);
  });

  test('links L-36: with remote= nobody else is heard, ever', () => {
    const [known, other] = [b.sender(), b.sender()];
    const guest = b.guest([`${PEER}/32`], { remote: { address: '127.0.0.1', port: known.port } });
    guest.transmit(packet(BEHIND, PEER));
    b.settle();
    assert.equal(known.received().length, 1, 'it is known where it is');
    other.send(packet(PEER, BEHIND));
    b.pass(10 * HOLD_MS);
    other.send(packet(PEER, BEHIND));
    assert.deepEqual(b.counts, { other_sender: 2 });
    known.send(packet(PEER, BEHIND));
    assert.equal(guest.received.length, 1);
  });

  test('links L-36: peers at one port are told by where they are and by their inner addresses', () => {
    const [one, two, three] = [b.sender(), b.sender(), b.sender()];
    const at = (port: number) => ({ remote: { address: '127.0.0.1', port } });
    const first = b.guest([`${PEER}/32`], at(one.port));
    // The same inner address, as two networks may have it.
    const second = b.guest([`${PEER}/32`], at(two.port));
    const third = b.guest(['10.1.4.0/24']);
    for (const client of [one, two, two]) client.send(packet(PEER, BEHIND));
    for (const client of [three, one]) client.send(packet('10.1.4.7', BEHIND));
    assert.deepEqual(
      [first, second, third].map(({ received }) => received.length),
      [1, 2, 1],
    );
    assert.deepEqual(b.counts, { other_sender: 1 });
    for (const guest of [first, second]) guest.transmit(packet(BEHIND, PEER));
    third.transmit(packet(BEHIND, '10.1.4.9'));
    b.settle();
    assert.deepEqual(
      [one, two, three].map((client) => client.received().length),
      [1, 1, 1],
    );
  });

  test('nobody is there yet: the packet is refused; the socket goes with the last peer', () => {
    const [first, second] = [b.guest([`${PEER}/32`]), b.guest(['10.1.4.1/32'])];
    assert.equal(first.transmit(packet(BEHIND, PEER)), -EHOSTUNREACH);
    first.link.close();
    assert.equal(b.isEmpty, false);
    second.link.close();
    second.link.close();
    assert.equal(b.isEmpty, true);
  });
});
