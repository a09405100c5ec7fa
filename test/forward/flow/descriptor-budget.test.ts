/** Descriptors of several guests. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type DescriptorBudget,
  DescriptorPool,
  DescriptorUse,
} from '../../../src/forward/flow/descriptor-budget.ts';

const USES = [DescriptorUse.Tcp, DescriptorUse.Udp, DescriptorUse.Ping, DescriptorUse.Dns];

/** Take all that there are for `guest`; how many it has then. */
function takeAll(guest: DescriptorBudget): number {
  for (const use of USES) while (guest.hasRoom(use)) guest.take(use);
  return guest.used;
}

/** Give `count` back that were taken for `use`. */
function giveBack(guest: DescriptorBudget, use: DescriptorUse, count: number): void {
  for (let i = 0; i < count; i++) guest.giveBack(use);
}

describe('a pool of descriptors', () => {
  test('review H-1 (S-8): the only guest may have all, one of several a quarter', () => {
    const pool = new DescriptorPool(1000);
    const only = pool.join();
    assert.equal(takeAll(only), 1000);
    const second = pool.join();
    assert.equal(only.limit, 250);
    assert.equal(only.hasRoom(DescriptorUse.Tcp), false, 'what it has too many, it keeps and gets no more');
    giveBack(only, DescriptorUse.Tcp, 500);
    assert.equal(only.hasRoom(DescriptorUse.Tcp), false);
    assert.equal(takeAll(second), 250);
    second.leave();
    assert.equal(only.limit, 1000, 'alone again');
  });

  test('review H-1 (S-9): a guest with flows has 64 for certain, however many the others want', () => {
    const pool = new DescriptorPool(400);
    const quiet = pool.join();
    quiet.take(DescriptorUse.Tcp);
    const greedy = Array.from({ length: 4 }, () => pool.join());
    let taken = 0;
    for (const guest of greedy) taken += takeAll(guest);
    // For a fourth there is nothing that is certain.
    assert.equal(taken, 3 * 100);
    for (let i = 1; i < 64; i++) {
      assert.equal(quiet.hasRoom(DescriptorUse.Tcp), true, `${i} taken`);
      quiet.take(DescriptorUse.Tcp);
    }
    // What is certain comes back with the last of its flows, and goes to whoever asks.
    giveBack(quiet, DescriptorUse.Tcp, 64);
    assert.equal(pool.used, taken);
    const [fourth] = greedy.filter(({ used }) => used === 0);
    assert.equal(takeAll(fourth as DescriptorBudget), 100);
  });

  test('review H-1 (S-8): however many guests come and go, nothing is lost', () => {
    const pool = new DescriptorPool(300);
    for (let round = 0; round < 20; round++) {
      const guests = [1, 2, 3].map(() => pool.join());
      for (const [i, guest] of guests.entries())
        for (let k = 0; k < 20 * (i + 1); k++) guest.take(DescriptorUse.Udp);
      for (const guest of guests) giveBack(guest, DescriptorUse.Udp, guest.used);
      for (const guest of guests) guest.leave();
    }
    assert.equal(pool.used, 0);
    assert.equal(takeAll(pool.join()), 300);
  });
});
