/** G-7 with a real guest: floods from a raw socket while a neighbour flow is measured. `make attack` is the long form. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { attack, NeighbourServers } from '../attack/attack.ts';
import { floods } from '../attack/floods.ts';
import { OPEN, startGuest } from '../support/namespaces.ts';

const SECONDS = 2;
const RATE = 50_000;
/** The machine of a test run has other things to do: what is asserted is that nothing stands still. */
const LONGEST_WAIT_MS = 1000;

describe('a hostile guest', () => {
  test('floods of hazards leave a neighbour flow moving and memory where it was', async () => {
    const servers = new NeighbourServers();
    await servers.open();
    try {
      for (const name of [
        'T-22 SYN to silence',
        'F-05 first parts',
        'S-02 header chains, S-03',
        'U-04 DNS',
      ]) {
        const flood = floods.find((f) => f.name === name);
        assert.ok(flood !== undefined);
        await using guest = await startGuest(...OPEN);
        const a = await attack(guest, servers, flood, RATE, SECONDS);
        assert.ok(a.sent > RATE / 5, `${name}: only ${a.sent} frames were sent`);
        assert.ok(a.megabytesPerSecond > 1, `${name}: ${a.megabytesPerSecond} MB/s`);
        assert.ok(a.max < LONGEST_WAIT_MS, `${name}: an echo took ${a.max} ms`);
        assert.ok(a.after - a.before < 96, `${name}: from ${a.before} to ${a.after} MiB`);
      }
    } finally {
      servers.close();
    }
  });
});
