/** G-7 with a real guest: floods from a raw socket while neighbours of it are measured. `make attack` is the long form. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { attack, DEVICE_QUEUE, NeighbourServers } from '../attack/attack.ts';
import { floods } from '../attack/floods.ts';

const SECONDS = 2;
const RATE = 50_000;
/** What is asserted is that nothing stands still. Time for which the program waited for a processor does not count. */
const LONGEST_WAIT_MS = 1000;
/** G-7. Of the CPU, because a turn may be interrupted by whatever else runs. */
const LONGEST_TURN_MS = 50;

describe('a hostile guest', () => {
  test('floods of hazards leave its other flows moving, the API answering, the loop turning and memory where it was', async (t) => {
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
        const allowed = LONGEST_WAIT_MS + a.withheld;
        t.diagnostic(
          `${name}: ${a.sent} frames; ${a.tcp.count} echoes up to ${a.tcp.max.toFixed(0)} ms, the API ` +
            `${a.api.max.toFixed(0)}, of ${allowed.toFixed(0)}; ${a.udp.failed} of ${a.udp.count} datagrams lost; ` +
            `a turn ${a.turnCpu.toFixed(1)} ms; ${a.before.toFixed(0)} to ${a.after.toFixed(0)} MiB`,
        );
        // A machine that is slow lets no more through; then the queue was full all the time.
        assert.ok(a.sent > DEVICE_QUEUE, `${name}: only ${a.sent} frames were sent`);
        assert.ok(a.down + a.up > 0 && a.tcp.count > 1, `${name}: ${a.down} MB/s down, ${a.up} up`);
        assert.ok(a.tcp.max < allowed, `${name}: an echo took ${a.tcp.max} ms of ${allowed}`);
        assert.ok(
          a.udp.failed < a.udp.count / 2 + a.withheld / LONGEST_WAIT_MS,
          `${name}: ${a.udp.failed} of ${a.udp.count} datagrams lost`,
        );
        assert.ok(
          a.api.failed === 0 && a.api.max < allowed,
          `${name}: the API took ${a.api.max} ms of ${allowed}`,
        );
        assert.ok(a.turnCpu < LONGEST_TURN_MS, `${name}: a turn took ${a.turnCpu} ms`);
        assert.equal(a.exceptions, 0, name);
        assert.ok(a.after - a.before < 96, `${name}: from ${a.before} to ${a.after} MiB`);
      }
    } finally {
      servers.close();
    }
  });
});
