/**
 * How fast our sender is over long links: what it gets through is compared with what the link and CUBIC's own rules
 * allow. Beside a real kernel it is measured by bench/badlink; here a mistake shows in seconds and in every run.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { runPair } from '../support/pair.ts';
import { drawClean } from './scenario.ts';

/** Mbit/s of one transfer with CUBIC over 200 Mbit/s with a queue of 1,000 KiB. */
function goodput(seed: number, bytes: number, rttMs: number, loss: number): number {
  const { elapsedMs } = runPair({
    ...drawClean(seed),
    isV4: true,
    mtu: 1500,
    mtuEveryMs: 0,
    loss,
    delayMs: rttMs / 2,
    rate: 25_000,
    queueBytes: 1000 * 1024,
    receiveLimit: [6 << 20, 6 << 20],
    sendLimit: 8 << 20,
    // As a kernel, which has no such limit.
    outOfOrderRanges: 4096,
    superSegments: false,
    congestion: 'cubic',
    sack: true,
    timestamps: true,
    windowScale: true,
    bytes: [bytes, 0],
    readerPauseMs: [0, 0],
    initialSeq: [1, 1],
  });
  return (bytes * 8) / elapsedMs / 1000;
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1] as number;
}

describe('goodput of one transfer', () => {
  test('no loss, 200 ms: slow start goes on until the link is full', () => {
    const mbit = goodput(1, 40_000_000, 200, 0);
    assert.ok(mbit > 60, `${mbit.toFixed(1)} Mbit/s`);
  });

  test('0.1 % loss, 100 ms: slow start ends with the first loss, not before', () => {
    const mbit = median([1, 2, 3, 4, 5, 6, 7].map((seed) => goodput(seed, 8_000_000, 100, 0.001)));
    assert.ok(mbit > 30, `${mbit.toFixed(1)} Mbit/s`);
  });
});
