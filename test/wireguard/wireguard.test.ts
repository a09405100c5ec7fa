/** Two ends against each other, and against what is forged, old, cut or too much. */
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { mock, test } from 'node:test';
import { IpAddress } from '../../src/stack/wire/address.ts';
import { End, Ends, outer, packet } from './support/ends.ts';

const A = '10.9.0.2';
const B = '10.9.0.1';
const KINDS = ['initiation', 'response', 'cookie', 'data'];

function typeOf(bytes: Uint8Array): string {
  return KINDS[bytes[0]! - 1]!;
}

function types(list: { bytes: Uint8Array }[]): string {
  return list.map(({ bytes }) => typeOf(bytes)).join(' ');
}

for (const presharedKey of [new Uint8Array(32), new Uint8Array(32).fill(9)]) {
  const which = presharedKey[0] === 0 ? 'without' : 'with';
  test(`packets come through both ways, ${which} a preshared key`, () => {
    const ends = new Ends(presharedKey);
    const { a, b, peerA, peerB } = ends;
    const there = packet(A, B, 100);
    assert.ok(a.transmit(peerB, there));
    ends.carry();
    assert.deepEqual(b.inbox, [{ peer: peerA, packet: there }]);
    const back = packet(B, A, 1400);
    assert.ok(b.transmit(peerA, back));
    const [datagram] = b.outbox;
    assert.equal(datagram!.bytes.length, 1420 + 32, 'padding never passes the MTU');
    ends.carry();
    assert.deepEqual(a.inbox, [{ peer: peerB, packet: back }]);
    assert.equal(peerA.rxBytes, peerB.txBytes);
    assert.equal(peerB.rxBytes, peerA.txBytes);
    assert.equal(peerA.lastHandshakeMs, ends.clock.unixMs);
  });
}

test('another preshared key at either end: no session', () => {
  const ends = new Ends(new Uint8Array(32).fill(9));
  const other = new Ends(new Uint8Array(32).fill(8));
  ends.a.transmit(ends.peerB, packet(A, B));
  const [initiation] = ends.a.take();
  other.b.receive(initiation!.bytes, initiation!.from);
  const [response] = other.b.take();
  ends.a.receive(response!.bytes, response!.from);
  assert.equal(ends.a.ciphers.made, 0);
  assert.equal(ends.a.take().length, 0);
});

test('an end that is nobody of ours is not answered', () => {
  const ends = new Ends();
  const stranger = new End(ends.clock, new Uint8Array(32).fill(3), '192.0.2.3:1003');
  const peer = stranger.addPeer(ends.b, [`${B}/32`], { endpoint: '192.0.2.2:1002' });
  stranger.transmit(peer, packet('10.8.0.1', B));
  const [initiation] = stranger.take();
  ends.b.receive(initiation!.bytes, initiation!.from);
  assert.equal(ends.b.take().length, 0);
  assert.equal(ends.b.wireguard.counters.unknown, 1);
});

test('links L-41: each message with any single bit flipped is dropped, and nothing has changed', () => {
  const ends = new Ends();
  const { a, b, peerA, peerB } = ends;
  const first = packet(A, B, 3);
  const flipAll = (end: typeof a, bytes: Uint8Array, limit: number): void => {
    const { made, wiped } = end.ciphers;
    const received = end === a ? peerB.rxBytes : peerA.rxBytes;
    for (let bit = 0; bit < limit * 8; bit++) {
      const forged = bytes.slice();
      forged[bit >> 3]! ^= 1 << (bit & 7);
      end.receive(forged);
      assert.equal(end.take().length, 0, `bit ${bit} of the ${typeOf(bytes)} is answered`);
    }
    assert.deepEqual(end.ciphers, { made, wiped });
    assert.equal(end === a ? peerB.rxBytes : peerA.rxBytes, received);
    assert.equal(end.inbox.length, 0);
  };
  a.transmit(peerB, first);
  const [initiation] = a.take();
  flipAll(b, initiation!.bytes, 132);
  assert.ok(!peerA.hasEndpoint);
  b.receive(initiation!.bytes, a.address);
  const [response] = b.take();
  flipAll(a, response!.bytes, 76);
  a.receive(response!.bytes, b.address);
  const [data] = a.take();
  assert.equal(typeOf(data!.bytes), 'data');
  flipAll(b, data!.bytes, data!.bytes.length);
  assert.ok(peerA.endpoint.equals(a.address));
  // What they were made from still works, so nothing of it was used up.
  b.receive(data!.bytes, a.address);
  assert.deepEqual(b.inbox, [{ peer: peerA, packet: first }]);
});

test('links L-42: messages cut at each length, or longer than they are, are dropped', () => {
  const ends = new Ends();
  const { a, b, peerB } = ends;
  a.transmit(peerB, packet(A, B, 30));
  const [initiation] = a.take();
  const cut = (end: typeof a, bytes: Uint8Array): void => {
    for (let length = 0; length < bytes.length; length++) end.receive(bytes.subarray(0, length));
    end.receive(Buffer.concat([bytes, Buffer.alloc(1)]));
    assert.equal(end.take().length, 0);
    assert.equal(end.inbox.length, 0);
  };
  cut(b, initiation!.bytes);
  b.receive(initiation!.bytes, a.address);
  const [response] = b.take();
  cut(a, response!.bytes);
  a.receive(response!.bytes, b.address);
  const [data] = a.take();
  cut(b, data!.bytes);
  b.receive(data!.bytes, a.address);
  assert.equal(b.inbox.length, 1);
});

test('links L-43: an initiation again, or an older one, is dropped; so is a response to another index', () => {
  const ends = new Ends();
  const { a, b, clock, peerB } = ends;
  a.transmit(peerB, packet(A, B));
  const [older] = a.take();
  ends.runTo(6000, () => undefined);
  const [newer] = a.take();
  assert.equal(types([older!, newer!]), 'initiation initiation');
  b.receive(newer!.bytes, a.address);
  const [response] = b.take();
  assert.ok(response);
  clock.nowMs += 1000;
  for (const { bytes } of [newer!, older!]) b.receive(bytes, a.address);
  assert.equal(b.take().length, 0);
  assert.equal(b.wireguard.counters.stale, 2);
  // The responder's MAC covers the index, so another one has to be made rather than forged.
  const other = new Ends();
  other.a.transmit(other.peerB, packet(A, B));
  other.a.receive(response.bytes, b.address);
  assert.equal(other.a.wireguard.counters.stale, 1);
  assert.equal(other.a.ciphers.made, 0);
  a.receive(response.bytes, b.address);
  assert.equal(a.ciphers.made, 2);
  a.take();
  a.receive(response.bytes, b.address);
  assert.equal(a.ciphers.made, 2, 'a response is good once');
});

test('initiations of one peer are 20 ms apart', () => {
  const ends = new Ends();
  const { a, b, clock, peerB } = ends;
  a.transmit(peerB, packet(A, B));
  const [first] = a.take();
  ends.runTo(6000, () => undefined);
  const [second] = a.take();
  b.receive(first!.bytes, a.address);
  clock.nowMs += 19;
  b.receive(second!.bytes, a.address);
  assert.equal(types(b.take()), 'response');
  clock.nowMs += 1;
  b.receive(second!.bytes, a.address);
  assert.equal(types(b.take()), 'response');
});

test('links L-44: each counter is taken once, and none that is too old', () => {
  const ends = new Ends();
  ends.connect();
  const { a, b, peerB } = ends;
  const sent: Uint8Array[] = [];
  for (let i = 0; i <= 8201; i++) {
    a.transmit(peerB, packet(A, B, 1));
    sent.push(a.take()[0]!.bytes);
  }
  const counters = sent.map((bytes) => new DataView(bytes.buffer).getUint32(8, true));
  const accepted: number[] = [];
  const base = counters[0]!;
  for (const counter of [0, 1, 5, 3, 5, 8200, 60, 71, 72, 73, 8200, 8201]) {
    b.inbox = [];
    if (counter < base) {
      accepted.push(counter);
      continue;
    }
    b.receive(sent[counter - base]!, a.address);
    if (b.inbox.length === 1) accepted.push(counter);
  }
  assert.deepEqual(accepted, [0, 1, 5, 3, 8200, 72, 73, 8201]);
});

test('links L-45: the initiator makes new keys after 120 s, the responder never', () => {
  const ends = new Ends();
  ends.connect();
  const { a, b, peerA, peerB } = ends;
  ends.runTo(119_999);
  b.transmit(peerA, packet(B, A));
  a.transmit(peerB, packet(A, B));
  assert.equal(types([...a.take(), ...b.take()]), 'data data');
  ends.clock.nowMs += 1;
  b.transmit(peerA, packet(B, A));
  assert.equal(types(b.take()), 'data', 'the responder waits for the initiator');
  a.transmit(peerB, packet(A, B));
  assert.equal(types(a.outbox), 'data initiation');
  ends.carry();
  assert.equal(a.ciphers.made, 4);
  a.transmit(peerB, packet(A, B));
  assert.equal(types(a.take()), 'data');
});

test('links L-45: an initiator that only receives makes new keys after 165 s', () => {
  const ends = new Ends();
  ends.connect();
  const { a, b, peerA } = ends;
  ends.runTo(165_000, () => ends.carry());
  a.take();
  b.transmit(peerA, packet(B, A));
  for (const { bytes } of b.take()) a.receive(bytes, b.address);
  assert.equal(types(a.take()), '');
  ends.clock.nowMs += 1;
  b.transmit(peerA, packet(B, A));
  for (const { bytes } of b.take()) a.receive(bytes, b.address);
  assert.equal(types(a.take()), 'initiation');
});

test('links L-45: a key of 180 s is neither used nor taken', () => {
  const ends = new Ends();
  ends.connect();
  const { a, b, peerA, clock } = ends;
  clock.nowMs += 179_999;
  b.transmit(peerA, packet(B, A));
  b.transmit(peerA, packet(B, A));
  const [first, second] = b.take();
  clock.nowMs += 1;
  a.receive(first!.bytes, b.address);
  assert.equal(a.inbox.length, 1);
  clock.nowMs += 1;
  a.receive(second!.bytes, b.address);
  assert.equal(a.inbox.length, 1);
  assert.equal(a.wireguard.counters.noSession, 1);
  b.transmit(peerA, packet(B, A));
  assert.equal(types(b.take()), 'initiation');
});

test('links L-45: after 540 s all keys are gone', () => {
  const ends = new Ends();
  let down = '';
  ends.peerB.owner = {
    onUp: () => undefined,
    onDown: (reason) => {
      down = reason;
    },
    onRoamed: () => undefined,
  };
  ends.connect();
  ends.runTo(539_999);
  assert.equal(ends.a.ciphers.wiped, 0);
  ends.runTo(540_000);
  assert.deepEqual(ends.a.ciphers, { made: 2, wiped: 2 });
  assert.deepEqual(ends.b.ciphers, { made: 2, wiped: 2 });
  assert.match(down, /silent/);
});

test('links L-45: 18 to 19 tries in 90 s, each with a time of its own, then none', () => {
  const ends = new Ends();
  const { a, b, peerB } = ends;
  a.transmit(peerB, packet(A, B));
  ends.runTo(200_000, () => undefined);
  const tries = a.take();
  assert.equal(types(tries), Array(tries.length).fill('initiation').join(' '));
  assert.ok(tries.length >= 18 && tries.length <= 19, `${tries.length} tries`);
  for (const { bytes } of tries) {
    b.receive(bytes, a.address);
    ends.clock.nowMs += 1000;
  }
  assert.equal(types(b.take()).split(' ').length, tries.length, 'one was not newer than the one before');
  // The packet was dropped with them.
  ends.connect();
  assert.equal(a.ciphers.made, 2);
});

test('links L-46: the responder waits for a sign before it uses new keys; what waited goes then', () => {
  const ends = new Ends();
  const { a, b, peerA, peerB } = ends;
  a.transmit(peerB, packet(A, B, 1));
  const [initiation] = a.take();
  b.receive(initiation!.bytes, a.address);
  const [response] = b.take();
  for (let i = 0; i < 3; i++) b.transmit(peerA, packet(B, A, i));
  assert.equal(types(b.outbox.filter(({ bytes }) => typeOf(bytes) === 'data')), '');
  b.take();
  a.receive(response!.bytes, b.address);
  for (const { bytes } of a.take()) b.receive(bytes, a.address);
  const waited = b.take();
  assert.equal(types(waited), 'data data data');
  for (const { bytes } of waited) a.receive(bytes, b.address);
  assert.deepEqual(
    a.inbox.map(({ packet: bytes }) => bytes.length),
    [20, 21, 22],
  );
});

test('links L-46: without a packet that waits the initiator gives a sign by a keep-alive', () => {
  const ends = new Ends();
  ends.connect();
  ends.clock.nowMs += 120_000;
  ends.a.transmit(ends.peerB, packet(A, B));
  ends.carry();
  assert.equal(ends.b.ciphers.made, 4);
  ends.b.transmit(ends.peerA, packet(B, A));
  const [data] = ends.b.take();
  assert.equal(new DataView(data!.bytes.buffer).getUint32(8, true), 0, 'it goes by the new session');
});

test('at most 128 packets wait for a session; the oldest gives way', () => {
  const ends = new Ends();
  for (let i = 0; i < 130; i++) ends.a.transmit(ends.peerB, packet(A, B, i));
  ends.carry();
  assert.equal(ends.b.inbox.length, 128);
  assert.equal(ends.b.inbox[0]!.packet.length, 22);
});

test('links L-47: a packet from elsewhere moves the peer, a forged one does not', () => {
  const ends = new Ends();
  ends.connect();
  const { a, b, peerA, peerB } = ends;
  const roamed: string[] = [];
  peerA.owner = {
    onUp: () => undefined,
    onDown: () => undefined,
    onRoamed: ({ address, port }) => roamed.push(`${address}:${port}`),
  };
  a.transmit(peerB, packet(A, B, 4));
  const [data] = a.take();
  const elsewhere = outer('198.51.100.7:7777');
  const forged = data!.bytes.slice();
  forged[20]! ^= 1;
  b.receive(forged, elsewhere);
  assert.ok(peerA.endpoint.equals(a.address));
  b.receive(data!.bytes, elsewhere);
  assert.ok(peerA.endpoint.equals(elsewhere));
  b.receive(data!.bytes, a.address);
  assert.ok(peerA.endpoint.equals(elsewhere), 'a replayed packet moves nobody');
  assert.deepEqual(roamed, ['198.51.100.7:7777']);
  b.transmit(peerA, packet(B, A));
  assert.ok(b.take()[0]!.to.equals(elsewhere));
});

/** `count` initiations that A could have sent, a new one each. */
function initiations(ends: Ends, count: number): Uint8Array[] {
  const { a, clock, peerB } = ends;
  const list: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    peerB.handshake(clock.nowMs, false);
    list.push(a.take()[0]!.bytes);
    clock.nowMs += 5000;
  }
  return list;
}

test('links L-48: under load a sender has to show a cookie before there is work for it', () => {
  const ends = new Ends();
  const { a, b, clock, peerB } = ends;
  const [early, late, latest] = initiations(ends, 3) as [Uint8Array, Uint8Array, Uint8Array];
  // Right MACs and nothing in them: what costs work is only seen then.
  for (let i = 0; i < 64; i++) b.receive(early, outer(`198.51.100.${i}:1`));
  b.take();
  const agreed = mock.method(crypto, 'diffieHellman');
  syncBuiltinESMExports();
  try {
    b.receive(late, a.address);
    const [cookie] = b.take();
    assert.equal(types([cookie!]), 'cookie');
    assert.ok(cookie!.bytes.length <= late.length);
    for (let i = 0; i < 1000; i++) b.receive(latest, outer(`198.51.100.1:${i + 1}`));
    assert.equal(
      b.take().every(({ bytes }) => typeOf(bytes) === 'cookie'),
      true,
    );
    assert.equal(agreed.mock.callCount(), 0);
    // The reply is to what was sent last.
    b.receive(latest, a.address);
    const [reply] = b.take();
    a.receive(reply!.bytes, b.address);
    assert.equal(a.take().length, 0, 'a cookie is used at the next try that is due');
    clock.nowMs += 600;
    for (let i = 0; i < 300; i++) b.receive(latest, outer(`198.51.100.1:${i + 1}`));
    clock.nowMs += 600;
    b.take();
    peerB.handshake(clock.nowMs + 5000, false);
    const [next] = a.take();
    b.receive(next!.bytes, outer('203.0.113.5:5'));
    assert.equal(types(b.take()), 'cookie', 'it is of one address');
    assert.equal(agreed.mock.callCount(), 1);
    b.receive(next!.bytes, a.address);
    assert.equal(types(b.take()), 'response');
  } finally {
    agreed.mock.restore();
    syncBuiltinESMExports();
  }
});

test('links L-48: a cookie is put into no message after 120 s', () => {
  const ends = new Ends();
  const { a, b, clock, peerB } = ends;
  const [first] = initiations(ends, 1);
  for (let i = 0; i < 65; i++) b.receive(first!, a.address);
  a.receive(b.take().at(-1)!.bytes, b.address);
  const mac2 = (): boolean => {
    peerB.handshake(clock.nowMs, false);
    return a
      .take()[0]!
      .bytes.subarray(132)
      .some((byte) => byte !== 0);
  };
  const taken = clock.nowMs;
  assert.ok(mac2());
  clock.nowMs = taken + 119_999;
  assert.ok(mac2());
  clock.nowMs = taken + 126_000;
  assert.ok(!mac2());
});

test('links L-48: with a cookie, 20 handshakes a second of one address are looked into', () => {
  const ends = new Ends();
  const { a, b, clock } = ends;
  const [first] = initiations(ends, 1);
  for (let i = 0; i < 65; i++) b.receive(first!, a.address);
  a.receive(b.take().at(-1)!.bytes, b.address);
  const [withCookie] = initiations(ends, 1);
  clock.nowMs -= 5000;
  const before = b.wireguard.counters.limited;
  for (let i = 0; i < 300; i++) b.receive(withCookie!, a.address);
  assert.ok(b.wireguard.counters.limited - before >= 300 - 64 - 5, `${b.wireguard.counters.limited}`);
});

test('links L-49: an inner source outside the allowed prefixes is dropped and counted', () => {
  const ends = new Ends();
  ends.connect();
  const { a, b, peerB } = ends;
  for (const source of ['10.9.0.3', '192.0.2.1', '0.0.0.0', B]) a.transmit(peerB, packet(source, B));
  ends.carry();
  assert.equal(b.inbox.length, 0);
  assert.equal(b.wireguard.counters.notAllowed, 4);
});

test('links L-49: the unspecified address is nobody’s, also of a peer that has sent nothing yet', () => {
  const { b, peerA } = new Ends();
  assert.equal(b.wireguard.isAllowed(peerA, new IpAddress()), false);
});

test('links L-49: the longest prefix has an address', () => {
  const ends = new Ends();
  const { b } = ends;
  const wide = b.addPeer({ wireguard: { publicKey: ends.a.wireguard.publicKey.map((x) => x ^ 5) } }, [
    '10.0.0.0/8',
    '::/0',
  ]);
  const { wireguard } = b;
  const address = (text: string) => outer(`${text}:1`).address;
  assert.ok(wireguard.isAllowed(ends.peerA, address(A)));
  assert.ok(!wireguard.isAllowed(wide, address(A)));
  assert.ok(wireguard.isAllowed(wide, address('10.9.0.3')));
  assert.ok(!wireguard.isAllowed(wide, address('11.0.0.1')), '::/0 is not for IPv4');
  assert.throws(
    () =>
      b.addPeer({ wireguard: { publicKey: ends.a.wireguard.publicKey.map((x) => x ^ 9) } }, ['10.0.0.0/8']),
    /10\.0\.0\.0.*twice/,
  );
});

test('a packet whose inner length cannot be is dropped', () => {
  const ends = new Ends();
  ends.connect();
  const { a, b, peerB } = ends;
  const long = packet(A, B, 10);
  long.writeUInt16BE(64, 2);
  const short = packet(A, B, 10);
  short.writeUInt16BE(19, 2);
  const bad = packet(A, B, 10);
  bad[0] = 0x55;
  for (const bytes of [long, short, bad, Buffer.from([0x45])]) a.transmit(peerB, bytes);
  ends.carry();
  assert.equal(b.inbox.length, 0);
  assert.equal(b.wireguard.counters.badPacket, 4);
});

test('what was received and not answered is answered by a keep-alive after 10 s', () => {
  const ends = new Ends();
  ends.connect();
  const { a, b, peerB } = ends;
  ends.runTo(30_000);
  a.transmit(peerB, packet(A, B));
  ends.carry();
  ends.runTo(39_999, () => undefined);
  assert.equal(b.take().length, 0);
  ends.runTo(40_000, () => undefined);
  assert.equal(types(b.outbox), 'data');
  ends.carry();
  ends.runTo(100_000, () => undefined);
  assert.equal(a.take().length, 0, 'a keep-alive is not answered');
});

test('data that nobody answers for 15 s: a new handshake', () => {
  const ends = new Ends();
  ends.connect();
  const { a, peerB } = ends;
  ends.runTo(30_000);
  a.take();
  a.transmit(peerB, packet(A, B));
  assert.equal(types(a.take()), 'data');
  ends.runTo(44_999, () => undefined);
  assert.equal(a.take().length, 0);
  ends.runTo(45_334, () => undefined);
  assert.equal(types(a.take()), 'initiation');
});

test('a persistent keep-alive begins by itself and goes on', () => {
  const ends = new Ends(new Uint8Array(32), 25_000);
  ends.peerB.start(ends.clock.nowMs);
  ends.carry();
  assert.equal(ends.a.ciphers.made, 2);
  let sent = 0;
  ends.runTo(100_000, () => {
    sent += ends.a.outbox.length;
    ends.carry();
  });
  assert.equal(sent, 4);
});

test('both begin at once: a session all the same', () => {
  const ends = new Ends();
  ends.peerA.setEndpoint(ends.a.address);
  ends.a.transmit(ends.peerB, packet(A, B, 1));
  ends.b.transmit(ends.peerA, packet(B, A, 2));
  ends.carry();
  assert.equal(ends.b.inbox.length, 1);
  assert.equal(ends.a.inbox.length, 1);
  ends.a.transmit(ends.peerB, packet(A, B, 3));
  ends.b.transmit(ends.peerA, packet(B, A, 4));
  ends.carry();
  assert.equal(ends.b.inbox.length, 2);
  assert.equal(ends.a.inbox.length, 2);
});

test('nobody knows where the peer is: the packet is not taken', () => {
  const ends = new Ends();
  assert.equal(ends.b.transmit(ends.peerA, packet(B, A)), false);
  assert.equal(ends.b.take().length, 0);
});

test('a closed end has wiped its keys and has no deadline', () => {
  const ends = new Ends();
  ends.connect();
  ends.a.wireguard.close();
  assert.deepEqual(ends.a.ciphers, { made: 2, wiped: 2 });
  assert.equal(ends.a.timers.size, 0);
  ends.b.transmit(ends.peerA, packet(B, A));
  ends.carry();
  assert.equal(ends.a.inbox.length, 0);
});
