/** A whole conversation, byte for byte, as a prototype had it that spoke with wireguard-go in both roles. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimerHeap } from '../../src/timer-heap.ts';
import { Gate, Stamp } from '../../src/wireguard/cookie.ts';
import { nodeCiphers } from '../../src/wireguard/node-cipher.ts';
import {
  createInitiation,
  createResponse,
  openInitiation,
  openResponse,
  openTimestamp,
  timestamp,
} from '../../src/wireguard/noise.ts';
import { Peer } from '../../src/wireguard/peer.ts';
import { type Bytes, PrivateKey } from '../../src/wireguard/primitives.ts';
import { Session } from '../../src/wireguard/transport.ts';
import { outer } from './support/ends.ts';
import { hex, unhex } from './support/hex.ts';

const PRIVATE_I = Uint8Array.from({ length: 32 }, (_, i) => i);
const PRIVATE_R = new Uint8Array(32).fill(0x42);
const PRESHARED = new Uint8Array(32).fill(0x33);
const INDEX_I = 0x01020304;
const INDEX_R = 0x05060708;
const INITIATION =
  '01000000040302017b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13b93bde8b61d37ef250a9c31a5fa2d6bb268ef7dcda3e0e20687b73d52b5ba8d5' +
  '8125cdfba01f75a16b061c1cb89cf129679ca449b69364c8f0c67f7e4c006b0bae9b1863d1986729defd0d84135749a8c04f8c10999999c58699a99f00000000000000000000000000000000';
const RESPONSE =
  '0200000008070605040302010faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20f9a5a53be39cfa5b55ce42d9fa6f8a60' +
  '72588a441aed430d73e0b3df56da468d00000000000000000000000000000000';

const initiator = new PrivateKey(PRIVATE_I);
const responder = new PrivateKey(PRIVATE_R);
const toResponder = {
  publicKey: responder.publicKey,
  shared: initiator.agree(responder.publicKey)!,
  presharedKey: PRESHARED,
};
const toInitiator = {
  publicKey: initiator.publicKey,
  shared: responder.agree(initiator.publicKey)!,
  presharedKey: PRESHARED,
};

function initiation() {
  const message = new Uint8Array(148);
  const ephemeral = new PrivateKey(new Uint8Array(32).fill(0x11));
  const time = timestamp(1_700_000_000_000);
  const sent = createInitiation(message, initiator, toResponder, ephemeral, INDEX_I, time)!;
  return { message, sent };
}

test('links L-40: public keys', () => {
  assert.equal(hex(initiator.publicKey), '8f40c5adb68f25624ae5b214ea767a6ec94d829d3d7b5e1ad1ba6f3e2138285f');
  assert.equal(hex(responder.publicKey), '132c442be010fbd57e72603328aa76e71fccc1503aae219327d14d9c9993f472');
});

test('links L-40: the handshake and its keys, from both ends', () => {
  const { message, sent } = initiation();
  const stampI = new Stamp(responder.publicKey);
  stampI.put(message, 0);
  assert.equal(hex(message), INITIATION);
  assert.equal(hex(sent.chain), '081a3f722dce12ff6aeea75a791dce40a52b29861f5a9e6245e35dd6bfacc134');
  assert.equal(hex(sent.hash), 'a3c62bd4c999c1da1eb610feb9c26842fa1212dd59e296e9681fe8befc6db9c5');

  const opened = openInitiation(message, responder)!;
  assert.equal(hex(opened.staticKey), hex(initiator.publicKey));
  assert.equal(hex(openTimestamp(message, opened, toInitiator)!), '400000006553f10a00000000');
  assert.equal(hex(opened.hash), hex(sent.hash));

  const response = new Uint8Array(92);
  const ephemeral = new PrivateKey(new Uint8Array(32).fill(0x22));
  const theirs = createResponse(response, opened, toInitiator, ephemeral, INDEX_R)!;
  new Stamp(initiator.publicKey).put(response, 0);
  assert.equal(hex(response), RESPONSE);
  const ours = openResponse(response, sent, initiator, toResponder)!;
  const [there, back] = [
    'ea436b6617141f336ecdb4dff22290cbe3e421726e66c47b0f69a6210e1cf1b6',
    '647d88f596d235f39898262eb99a308a10fd66ed7ddb6d8125975dd0c47293ce',
  ];
  assert.deepEqual([hex(ours.send), hex(ours.receive)], [there, back]);
  assert.deepEqual([hex(theirs.receive), hex(theirs.send)], [there, back]);
  assert.ok(
    opened.chain.every((byte) => byte === 0),
    'what the keys were made of is wiped',
  );
});

test('links L-40: packets, padded, and a keep-alive', () => {
  const bytes = new Uint8Array(4096);
  const newCipher = nodeCiphers(bytes);
  const key = unhex('ea436b6617141f336ecdb4dff22290cbe3e421726e66c47b0f69a6210e1cf1b6');
  const session = new Session(INDEX_I, INDEX_R, true, 0, newCipher(key), newCipher(key));
  const sent: string[] = [];
  const peer = new Peer(
    { ...toResponder, persistentKeepaliveMs: 0 },
    {
      bytes,
      view: new DataView(bytes.buffer),
      timers: new TimerHeap(),
      scratch: 2048,
      mtu: 1420,
      send: (at, length) => sent.push(hex(bytes.subarray(at, at + length))),
      // The packet waits, so that the session begins with it.
      initiate: () => undefined,
      randomBelow: () => 0,
      release: () => undefined,
      unixMs: () => 0,
    },
  );
  peer.setEndpoint(outer('127.0.0.1:51820'));
  bytes.fill(0xff);
  bytes.set(unhex('4500001400000000400166d50a0900020a090001'), 64);
  assert.ok(peer.transmit(64, 20, 0));
  peer.onResponse(session, 0);
  peer.onData(session, outer('127.0.0.1:51820'), true, 0);
  peer.onTimer(10_000);
  assert.deepEqual(sent, [
    '0400000008070605000000000000000056e3c82a443094b300f47217f5ab90c7e155072492b5007e3d43330a3183dd054780a7c7afad480cb7720a0bbbe32fb1',
    '04000000080706050100000000000000d1f587edce485fc44c3c55e4716b8880',
  ]);
});

test('links L-40: a cookie, and the message that carries it', () => {
  const randoms = [
    new Uint8Array(32).fill(0x55),
    Uint8Array.from({ length: 24 }, (_, i) => 0x40 + i),
  ] as Bytes[];
  const gate = new Gate(responder.publicKey, () => randoms.shift()!);
  const { message } = initiation();
  const stamp = new Stamp(responder.publicKey);
  stamp.put(message, 0);
  const from = outer('127.0.0.1:51820');
  assert.equal(hex(from.toBytes()), '7f000001ca6c');
  const reply = new Uint8Array(64);
  gate.reply(reply, message, from, 0);
  assert.equal(
    hex(reply),
    '0300000004030201404142434445464748494a4b4c4d4e4f5051525354555657ad6ddaa937b5bf010fd3ac6f2584a741604760bd4745cbec9fafa125186aa7f7',
  );
  assert.ok(!gate.knowsCookie(message, from, 0));
  assert.ok(stamp.take(reply, 0));
  const again = initiation().message;
  stamp.put(again, 0);
  assert.equal(hex(again.subarray(132)), '7d0dc9e4045d8e3f3647fb24f1a05a52');
  assert.ok(gate.knowsCookie(again, from, 119_999));
  assert.ok(!gate.knowsCookie(again, from, 120_000), 'it dies after 120 s');
  assert.ok(!gate.knowsCookie(again, outer('127.0.0.1:51821'), 0), 'it is of one address and port');
});
