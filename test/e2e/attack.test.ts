/** G-7 with a real guest: floods from a raw socket while neighbours of it are measured. `make attack` is the long form. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { attack, NeighbourServers } from '../attack/attack.ts';
import { floods } from '../attack/floods.ts';

const SECONDS = 2;
const RATE = 50_000;
/** The machine of a test run has other things to do: what is asserted is that nothing stands still. */
const LONGEST_WAIT_MS = 1000;
/** G-7. Of the CPU, because a turn may be interrupted by whatever else runs. */
const LONGEST_TURN_MS = 50;

describe('a hostile guest', () => {
  test('floods of hazards leave its other flows moving, the API answering, the loop turning and memory where it was', async () => {
    const servers = new NeighbourServers();
    await servers.open();
    try {
      for (const name of [
        'T-22 SYN to silence',
        'T-14 SACK',
        'F-05 first parts',
        'S-01 to S-05 IPv6 headers',
        'U-04 DNS',
      ]) {
        const flood = floods.find((f) => f.name === name);
        assert.ok(flood !== undefined);
        const a = await attack(servers, flood, RATE, SECONDS);
        assert.ok(a.sent > RATE / 5, `${name}: only ${a.sent} frames were sent`);
        assert.ok(a.down + a.up > 0 && a.tcp.count > 1, `${name}: ${a.down} MB/s down, ${a.up} up`);
        assert.ok(a.tcp.max < LONGEST_WAIT_MS, `${name}: an echo took ${a.tcp.max} ms`);
        assert.ok(
          a.udp.failed < a.udp.count / 2,
          `${name}: ${a.udp.failed} of ${a.udp.count} datagrams lost`,
        );
        assert.equal(a.api.failed, 0, `${name}: the API did not answer within a second`);
        assert.ok(a.turnCpu < LONGEST_TURN_MS, `${name}: a turn took ${a.turnCpu} ms`);
        assert.equal(a.exceptions, 0, name);
        assert.ok(a.after - a.before < 96, `${name}: from ${a.before} to ${a.after} MiB`);
      }
    } finally {
      servers.close();
    }
  });
});
