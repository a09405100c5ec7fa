import assert from 'node:assert/strict';
import { test } from 'node:test';
import { candidates, lowestPort } from '../../src/expose/host-ports.ts';

function first(count: number, port: number, minPort: number): number[] {
  return [...candidates(port, minPort)].slice(0, count);
}

/** from, from + step … while it is no more than `last`. */
function sequence(from: number, last: number, step: number): number[] {
  return Array.from({ length: Math.floor((last - from) / step) + 1 }, (_, i) => from + i * step);
}

test('ports P-10: 80 without privilege goes up in thousands from 1080, then from 1081', () => {
  const golden = [
    ...sequence(1080, 65080, 1000),
    ...sequence(1081, 65081, 1000),
    ...sequence(1082, 65082, 1000),
    ...sequence(1083, 65083, 1000),
  ].slice(0, 200);
  assert.equal(golden.length, 200);
  assert.deepEqual(first(200, 80, 1024), golden);
  assert.deepEqual(first(4, 80, 1024), [1080, 2080, 3080, 4080]);
});

test('ports P-10: 8080, if busy, is followed by 9080 … 65080, then 8081, 9081 …', () => {
  const golden = [0, 1, 2, 3].flatMap((shift) => sequence(8080 + shift, 65535, 1000)).slice(0, 200);
  assert.equal(golden.length, 200);
  assert.deepEqual(first(200, 8080, 1024), golden);
  assert.deepEqual(first(60, 8080, 1024).slice(56), [64080, 65080, 8081, 9081]);
});

test('ports P-10: 65500 is followed by the ports to 65535, and then by none', () => {
  assert.deepEqual(first(200, 65500, 1024), sequence(65500, 65535, 1));
});

test('ports P-10: a port has 66 shifts, and no candidate twice or out of range', () => {
  const all = [...candidates(443, 1)];
  assert.equal(all[0], 443);
  assert.equal(new Set(all).size, all.length);
  assert.ok(all.every((port) => port > 0 && port <= 65535));
  assert.equal(Math.max(...all.filter((port) => port < 1000)), 443 + 65);
});

test('the lowest port is the kernel’s where nothing allows more', () => {
  assert.ok(lowestPort() >= 1 && lowestPort() <= 1024);
});
