import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Endpoint } from '../../../src/config.ts';
import { ForwardTargets } from '../../../src/control/names/forward-targets.ts';

/** A name service under the test's control. */
class Names {
  calls = 0;
  nowMs = 0;
  next: Endpoint | Error = { address: '192.0.2.1', port: 80 };
  readonly targets: ForwardTargets;

  constructor(ttlMs: number) {
    const lookup = async (): Promise<Endpoint> => {
      this.calls++;
      const { next } = this;
      await Promise.resolve();
      if (next instanceof Error) throw next;
      return next;
    };
    this.targets = new ForwardTargets(lookup, ttlMs, () => this.nowMs);
  }

  async resolve(): Promise<string> {
    return (await this.targets.resolve('a.example', 80)).address;
  }
}

describe('ForwardTargets', () => {
  test('a result serves for its time to live and no longer', async () => {
    const names = new Names(5000);
    await names.resolve();
    names.nowMs = 4999;
    names.next = { address: '192.0.2.2', port: 80 };
    assert.equal(await names.resolve(), '192.0.2.1');
    names.nowMs = 5000;
    assert.equal(await names.resolve(), '192.0.2.2');
    assert.equal(names.calls, 2);
  });

  test('the last good result outlives a failure, and is checked again a period later', async () => {
    const names = new Names(5000);
    await names.resolve();
    names.nowMs = 5000;
    names.next = new Error('down');
    assert.equal(await names.resolve(), '192.0.2.1');
    assert.equal(await names.resolve(), '192.0.2.1');
    assert.equal(names.calls, 2);
    names.nowMs = 10000;
    names.next = { address: '192.0.2.3', port: 80 };
    assert.equal(await names.resolve(), '192.0.2.3');
  });

  test('without a good result every flow fails by itself, and the next success counts at once', async () => {
    const names = new Names(5000);
    names.next = new Error('down');
    await assert.rejects(names.resolve(), /down/);
    await assert.rejects(names.resolve(), /down/);
    names.next = { address: '192.0.2.1', port: 80 };
    assert.equal(await names.resolve(), '192.0.2.1');
    assert.equal(names.calls, 3);
  });

  test('a time to live of 0 asks for every flow and keeps nothing', async () => {
    const names = new Names(0);
    await names.resolve();
    await names.resolve();
    names.next = new Error('down');
    await assert.rejects(names.resolve(), /down/);
    assert.equal(names.calls, 3);
  });

  test('flows that ask at the same time share one look-up; ports are kept apart', async () => {
    const names = new Names(0);
    await Promise.all([names.resolve(), names.resolve(), names.targets.resolve('a.example', 81)]);
    assert.equal(names.calls, 2);
  });
});
