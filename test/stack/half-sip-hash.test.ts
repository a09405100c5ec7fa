import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HalfSipHash } from '../../src/stack/half-sip-hash.ts';
import { parseIpAddress } from '../../src/stack/wire/address.ts';

const A = '10.0.2.100';
const B = '198.51.100.1';

/** The reference implementation's words, written out once more from the paper: HalfSipHash-2-4 over 32-bit words. */
function reference(key0: number, key1: number, words: readonly number[]): number {
  let [v0, v1, v2, v3] = [key0, key1, 0x6c796765 ^ key0, 0x74656462 ^ key1];
  const rotate = (x: number, n: number): number => (x << n) | (x >>> (32 - n));
  const round = (): void => {
    v0 = (v0 + v1) | 0;
    v1 = rotate(v1, 5) ^ v0;
    v0 = rotate(v0, 16);
    v2 = (v2 + v3) | 0;
    v3 = rotate(v3, 8) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = rotate(v3, 7) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = rotate(v1, 13) ^ v2;
    v2 = rotate(v2, 16);
  };
  for (const word of words) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  v2 ^= 0xff;
  for (let i = 0; i < 4; i++) round();
  return (v1 ^ v3) >>> 0;
}

test('HalfSipHash: a tuple is its addresses, ports, length and protocol', () => {
  const hash = new HalfSipHash(0x01234567, 0x89abcdef);
  const ports = ((40_000 << 16) | 443) >>> 0;
  const words = [0, 0, 0xffff, 0x0a000264, 0, 0, 0xffff, 0xc6336401, ports, (36 << 24) | 6];
  const expected = reference(0x01234567, 0x89abcdef | 0, words);
  assert.equal(hash.tuple(parseIpAddress(A), parseIpAddress(B), ports, 6), expected);
});

test('review §5: HalfSipHash takes no tuple for the one before it', () => {
  const tuples: [string, string, number, number][] = [
    [A, B, 1, 6],
    [B, B, 1, 6],
    [A, A, 1, 6],
    [A, B, 2, 6],
    [A, B, 1, 17],
    ['fd00::100', B, 1, 6],
  ];
  const one = (hash: HalfSipHash, [a, b, ports, protocol]: (typeof tuples)[number]): number =>
    hash.tuple(parseIpAddress(a), parseIpAddress(b), ports, protocol);
  const alone = tuples.map((tuple) => one(new HalfSipHash(7, 9), tuple));
  assert.equal(new Set(alone).size, tuples.length);
  const shared = new HalfSipHash(7, 9);
  for (const [i, first] of tuples.entries())
    for (const [j, second] of tuples.entries()) {
      assert.equal(one(shared, first), alone[i]);
      assert.equal(one(shared, second), alone[j]);
    }
});

test('review §5: the address that was hashed may change afterwards', () => {
  const hash = new HalfSipHash(7, 9);
  const address = parseIpAddress(A);
  const before = hash.tuple(address, parseIpAddress(B), 1, 6);
  address.copyFrom(parseIpAddress(B));
  assert.notEqual(hash.tuple(address, parseIpAddress(B), 1, 6), before);
});
