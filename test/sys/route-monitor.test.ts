import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Memory } from '../../src/sys/memory.ts';
import { RouteMessage } from '../../src/sys/route-messages.ts';
import { ROUTE_MONITOR_BYTES, RouteDump, RouteMonitor } from '../../src/sys/route-monitor.ts';

describe('RouteMonitor', () => {
  test('dumps end, have the loopback network, and can be begun again after one was abandoned', () => {
    const memory = new Memory(new ArrayBuffer(ROUTE_MONITOR_BYTES));
    const monitor = new RouteMonitor(memory, 0);
    assert.ok(monitor.fd >= 0);
    try {
      const dump = (what: RouteDump): { kinds: Set<RouteMessage>; loopback: boolean } => {
        const kinds = new Set<RouteMessage>();
        let loopback = false;
        assert.equal(monitor.startDump(what), 0);
        while (!kinds.has(RouteMessage.Done)) {
          const received = monitor.receiveDump();
          assert.ok(received > 0, `receiveDump ${received}`);
          for (
            let kind = monitor.messages.next();
            kind !== RouteMessage.None;
            kind = monitor.messages.next()
          ) {
            kinds.add(kind);
            if (kind !== RouteMessage.Done) loopback ||= monitor.messages.record.w3 >>> 24 === 127;
          }
        }
        return { kinds, loopback };
      };
      assert.equal(monitor.startDump(RouteDump.Addresses), 0);
      monitor.abandonDump();
      for (const what of [RouteDump.Routes4, RouteDump.Addresses]) {
        const { kinds, loopback } = dump(what);
        const kind = what === RouteDump.Addresses ? RouteMessage.Address : RouteMessage.Route;
        assert.deepEqual(kinds, new Set<RouteMessage>([kind, RouteMessage.Done]));
        assert.ok(loopback);
      }
    } finally {
      monitor.close();
      monitor.close();
    }
    assert.equal(monitor.receive(), -9);
    assert.equal(monitor.startDump(RouteDump.Routes4), -9);
  });

  test('its memory must be there', () => {
    const memory = new Memory(new ArrayBuffer(64));
    assert.throws(() => new RouteMonitor(memory, 0), RangeError);
  });
});
