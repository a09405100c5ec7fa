import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RTO_INITIAL_MS, RTO_MAX_MS, RTO_MIN_MS, RttEstimator } from '../../../src/stack/tcp/rtt.ts';

describe('RttEstimator (RFC 6298, RQ-34)', () => {
  test('starts at one second (§2.1)', () => {
    assert.equal(new RttEstimator().rtoMs, RTO_INITIAL_MS);
    assert.equal(RTO_INITIAL_MS, 1000);
  });

  test('the first sample sets SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 RTTVAR (§2.2)', () => {
    const rtt = new RttEstimator();
    rtt.sample(120);
    assert.equal(rtt.srttMs, 120);
    assert.equal(rtt.rttvarMs, 60);
    assert.equal(rtt.rtoMs, 360);
  });

  test('further samples: beta 1/4, alpha 1/8, the variance first (§2.3)', () => {
    const rtt = new RttEstimator();
    rtt.sample(120);
    rtt.sample(200);
    assert.equal(rtt.rttvarMs, 0.75 * 60 + 0.25 * 80);
    assert.equal(rtt.srttMs, 0.875 * 120 + 0.125 * 200);
    assert.equal(rtt.rtoMs, 130 + 4 * 65);
  });

  test('a steady path keeps the minimum as room for a delayed acknowledgment', () => {
    const rtt = new RttEstimator();
    for (let i = 0; i < 100; i++) rtt.sample(400);
    assert.ok(rtt.rttvarMs < 1);
    assert.ok(Math.abs(rtt.rtoMs - (400 + RTO_MIN_MS)) < 5, `${rtt.rtoMs}`);
    for (let i = 0; i < 200; i++) rtt.sample(0);
    assert.ok(rtt.rtoMs >= RTO_MIN_MS);
  });

  test('each time-out doubles up to the maximum (§5.5, RQ-09), a sample ends the back-off', () => {
    const rtt = new RttEstimator();
    rtt.sample(100);
    rtt.backOff();
    assert.equal(rtt.rtoMs, 600);
    rtt.backOff();
    assert.equal(rtt.rtoMs, 1200);
    for (let i = 0; i < 20; i++) rtt.backOff();
    assert.equal(rtt.rtoMs, RTO_MAX_MS);
    rtt.sample(100);
    assert.ok(rtt.rtoMs < 400);
  });

  test('resetBackOff goes back to the estimate; without one the back-off stays', () => {
    const rtt = new RttEstimator();
    rtt.backOff();
    rtt.resetBackOff();
    assert.equal(rtt.rtoMs, 2000);
    rtt.sample(100);
    const { rtoMs } = rtt;
    rtt.backOff();
    rtt.resetBackOff();
    assert.equal(rtt.rtoMs, rtoMs);
  });
});
