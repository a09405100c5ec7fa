import assert from 'node:assert/strict';
import { test } from 'node:test';
import { evpCiphers } from '../../src/sys/chacha20-poly1305.ts';
import { Memory } from '../../src/sys/memory.ts';
import { nodeCiphers } from '../../src/wireguard/node-cipher.ts';

const buffer = new ArrayBuffer(262_144);
const memory = new Memory(buffer);
const bytes = new Uint8Array(buffer);
const key = Uint8Array.from({ length: 32 }, (_, i) => 3 * i + 1);
const evp = evpCiphers(memory)!;
const COUNTERS = [0, 1, 255, 2 ** 32 - 1, 2 ** 32, 2 ** 48 + 5, 2 ** 52 - 1];

test('OpenSSL seals what node:crypto opens, and the other way round', () => {
  const [ours, nodes] = [evp(key), nodeCiphers(bytes)(key)];
  for (const length of [0, 1, 15, 16, 17, 1424, 65_535]) {
    for (const counter of COUNTERS) {
      const plain = Uint8Array.from({ length }, (_, i) => (i * 31 + counter) & 255);
      for (const [seal, open] of [
        [ours, nodes],
        [nodes, ours],
      ] as const) {
        bytes.set(plain, 1003);
        seal.seal(1003, length, counter);
        assert.ok(length < 16 || !Buffer.from(plain).equals(bytes.subarray(1003, 1003 + length)));
        assert.equal(open.open(1003, length, counter), true, `${length} bytes, counter ${counter}`);
        assert.deepEqual(bytes.subarray(1003, 1003 + length), plain);
      }
    }
  }
});

test('what was changed, or sealed under another counter or key, is not opened', () => {
  const cipher = evp(key);
  const other = evp(key.map((byte) => byte ^ 1));
  const seal = (): void => {
    bytes.fill(7, 100, 200);
    cipher.seal(100, 100, 5);
  };
  for (let at = 0; at < 116; at++) {
    seal();
    bytes[100 + at]! ^= 0x10;
    assert.equal(cipher.open(100, 100, 5), false, `byte ${at}`);
  }
  seal();
  assert.equal(cipher.open(100, 100, 6), false);
  seal();
  assert.equal(other.open(100, 100, 5), false);
  seal();
  assert.equal(cipher.open(100, 100, 5), true, 'a failure before it changes nothing');
});

test('the key is not left in memory that others use, and a wiped cipher does nothing', () => {
  const cipher = evp(key);
  const structures = Buffer.from(memory.structures.view.buffer);
  assert.equal(structures.indexOf(Buffer.from(key)), -1);
  assert.throws(() => cipher.seal(buffer.byteLength - 20, 10, 0), RangeError);
  cipher.wipe();
  assert.throws(() => cipher.seal(100, 10, 0), /sealed/);
  assert.equal(cipher.open(100, 10, 0), false);
  cipher.wipe();
});
