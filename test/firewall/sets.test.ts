import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AddressSet } from '../../src/firewall/address-set.ts';
import { HostRouteTable } from '../../src/firewall/host-routes.ts';
import { type Prefix, parsePrefix } from '../../src/firewall/prefix.ts';
import { PrefixCounter } from '../../src/firewall/prefix-counter.ts';
import type { RuleSpec } from '../../src/firewall/rule.ts';
import { Protocol, RuleSet } from '../../src/firewall/rule-set.ts';
import { IpAddress, parseIpAddress } from '../../src/stack/wire/address.ts';

/** Words from a small alphabet, so that prefixes nest and collide; half of the addresses are IPv4. */
const word = fc.constantFrom(
  0,
  1,
  0x0a000000,
  0x0a000001,
  0x7fffffff,
  0x80000000,
  0xffff,
  0xffff0000,
  0xffffffff,
);
const address = fc.oneof(
  fc.oneof(word, fc.nat(0xffffffff)).map((w) => new IpAddress().setV4(w >>> 0)),
  fc.tuple(word, word, word, word).map(([a, b, c, d]) => new IpAddress().set(a, b, c, d)),
);
const prefix = fc.tuple(address, fc.nat(128)).map(([addr, length]): Prefix => {
  const bits = addr.isV4 ? 96 + (length % 33) : length;
  return { address: masked(addr, bits), bits };
});

/** Few prefixes, so that several rules or routes fall on the same one. */
const fewPrefixes = fc.oneof(
  prefix,
  fc.constantFrom(...['10.0.0.0/8', '10.0.0.0', '0.0.0.0/0', '::/0', 'fd00::/64'].map(parsePrefix)),
);

/** The model: arithmetic on one 128-bit number. */
function toBigInt(a: IpAddress): bigint {
  return (BigInt(a.w0) << 96n) | (BigInt(a.w1) << 64n) | (BigInt(a.w2) << 32n) | BigInt(a.w3);
}

function masked(a: IpAddress, bits: number): IpAddress {
  const kept = (toBigInt(a) >> BigInt(128 - bits)) << BigInt(128 - bits);
  const part = (shift: bigint) => Number((kept >> shift) & 0xffffffffn);
  return new IpAddress().set(part(96n), part(64n), part(32n), part(0n));
}

function isV4Prefix(p: Prefix): boolean {
  return p.bits >= 96 && toBigInt(p.address) >> 32n === 0xffffn;
}

function modelContains(p: Prefix, a: IpAddress): boolean {
  const shift = BigInt(128 - p.bits);
  return isV4Prefix(p) === a.isV4 && toBigInt(p.address) >> shift === toBigInt(a) >> shift;
}

/** Addresses worth asking about: inside, at the edges of, and just outside each prefix. */
function probes(prefixes: readonly Prefix[], extra: readonly IpAddress[]): IpAddress[] {
  const all = [...extra];
  for (const { address: base, bits } of prefixes) {
    const first = toBigInt(base);
    const last = first + (1n << BigInt(128 - bits)) - 1n;
    for (const value of [first - 1n, first, last, last + 1n]) {
      if (value < 0n || value >> 128n !== 0n) continue;
      const part = (shift: bigint) => Number((value >> shift) & 0xffffffffn);
      all.push(new IpAddress().set(part(96n), part(64n), part(32n), part(0n)));
    }
  }
  return all;
}

describe('AddressSet', () => {
  test('finds the longest prefix and then every shorter one, as a list searched one by one does', () => {
    fc.assert(
      fc.property(
        fc.array(prefix, { maxLength: 40 }),
        fc.array(address, { maxLength: 10 }),
        (prefixes, extra) => {
          const set = new AddressSet(prefixes);
          for (const addr of probes(prefixes, extra)) {
            const expected = [...new Set(prefixes.filter((p) => modelContains(p, addr)).map((p) => p.bits))];
            expected.sort((a, b) => b - a);
            const found: number[] = [];
            for (let entry = set.find(addr); entry >= 0; entry = set.parentOf(entry))
              found.push(set.bitsOf(entry));
            assert.deepEqual(found, expected, addr.toString());
            assert.equal(set.has(addr), expected.length > 0);
          }
        },
      ),
    );
  });

  test('entryOf gives equal prefixes one entry', () => {
    const set = new AddressSet(['10.0.0.0/8', 'fd00::/64', '10.0.0.0/8', '10.0.0.0/9'].map(parsePrefix));
    assert.equal(set.size, 3);
    assert.equal(set.entryOf[0], set.entryOf[2]);
    assert.notEqual(set.entryOf[0], set.entryOf[3]);
    assert.equal(set.bitsOf(set.entryOf[1]!), 64);
  });

  test('::/0 holds no IPv4 address and 0.0.0.0/0 no IPv6 address', () => {
    const v6 = new AddressSet([parsePrefix('::/0')]);
    assert.equal(v6.has(parseIpAddress('1.2.3.4')), false);
    assert.equal(v6.has(parseIpAddress('2001:db8::1')), true);
    const v4 = new AddressSet([parsePrefix('0.0.0.0/0')]);
    assert.equal(v4.has(parseIpAddress('1.2.3.4')), true);
    assert.equal(v4.has(parseIpAddress('2001:db8::1')), false);
    assert.equal(v4.has(parseIpAddress('::1.2.3.4')), false);
  });
});

describe('RuleSet', () => {
  const port = fc.oneof(fc.nat(12), fc.constantFrom(0, 65534, 65535));
  const rule = fc
    .tuple(fewPrefixes, fc.constantFrom('tcp', 'udp', 'icmp', 'any', 'none' as const), port, port)
    .map(
      ([p, proto, a, b]): RuleSpec => ({
        proto,
        address: p.address.toString(),
        bits: p.bits,
        portMin: Math.min(a, b),
        portMax: Math.max(a, b),
      }),
    )
    // `::ffff:0:0/96`-like text is IPv4; a shorter prefix with such an address can not be written.
    .filter((spec) => !parseIpAddress(spec.address).isV4 || spec.bits >= 96);
  const names = ['tcp', 'udp', 'icmp'] as const;

  test('matches what a list searched one by one matches', () => {
    fc.assert(
      fc.property(
        fc.array(rule, { maxLength: 30 }),
        fc.array(address, { maxLength: 5 }),
        port,
        (rules, extra, p) => {
          const set = new RuleSet(rules);
          const prefixes = rules.map((r) => ({ address: parseIpAddress(r.address), bits: r.bits }));
          for (const addr of probes(prefixes, extra)) {
            for (const protocol of [Protocol.Tcp, Protocol.Udp, Protocol.Icmp]) {
              for (const minBits of [0, 100, 128]) {
                const expected = rules.some(
                  (r, i) =>
                    (r.proto === names[protocol] || r.proto === 'any') &&
                    r.bits >= minBits &&
                    p >= r.portMin &&
                    p <= r.portMax &&
                    modelContains(prefixes[i]!, addr),
                );
                assert.equal(
                  set.matches(protocol, addr, p, minBits),
                  expected,
                  `${addr} ${protocol} ${minBits}`,
                );
              }
            }
          }
        },
      ),
    );
  });

  test('touching and overlapping port ranges join, a gap of one port stays a gap', () => {
    const rule = { proto: 'tcp', address: '10.0.0.0', bits: 104 } as const;
    const set = new RuleSet([
      { ...rule, portMin: 5, portMax: 9 },
      { ...rule, portMin: 1, portMax: 3 },
      { ...rule, portMin: 6, portMax: 7 },
      { ...rule, portMin: 10, portMax: 12 },
    ]);
    const open = Array.from({ length: 16 }, (_, port) => port).filter((port) =>
      set.matches(Protocol.Tcp, parseIpAddress('10.1.2.3'), port, 0),
    );
    assert.deepEqual(open, [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12]);
  });

  test('refuses data that no parser made', () => {
    const good: RuleSpec = { proto: 'tcp', address: '10.0.0.0', bits: 104, portMin: 0, portMax: 1 };
    assert.doesNotThrow(() => new RuleSet([good]));
    for (const bad of [
      { address: '10.0.0' },
      { bits: 8 },
      { bits: Number.NaN },
      { portMin: 2 },
      { portMax: 65536 },
      { portMin: -1 },
      { portMin: 0.5 },
      { proto: 'sctp' as 'tcp' },
      { proto: 'constructor' as 'tcp' },
    ])
      assert.throws(() => new RuleSet([{ ...good, ...bad }]), { code: 'ERR_RULE' }, JSON.stringify(bad));
  });
});

describe('PrefixCounter', () => {
  test('contains what was added more often than removed, over growth and holes', () => {
    const step = fc.record({ add: fc.integer({ min: 0, max: 3 }), prefix: fewPrefixes });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), fc.array(address, { maxLength: 5 }), (steps, extra) => {
        const counter = new PrefixCounter();
        const model: Prefix[] = [];
        const same = (a: Prefix, b: Prefix) => a.bits === b.bits && a.address.equals(b.address);
        for (const { add, prefix: p } of steps) {
          if (add > 0) {
            counter.add(p.address, p.bits);
            model.push(p);
          } else {
            // Remove something present as often as not.
            const victim = model.length > 0 && p.bits % 2 === 0 ? model[p.bits % model.length]! : p;
            const at = model.findIndex((other) => same(other, victim));
            assert.equal(counter.remove(victim.address, victim.bits), at >= 0);
            if (at >= 0) model.splice(at, 1);
          }
        }
        assert.equal(counter.size, new Set(model.map((p) => `${p.address}/${p.bits}`)).size);
        for (const addr of probes(
          steps.slice(0, 40).map((s) => s.prefix),
          extra,
        ))
          assert.equal(
            counter.contains(addr),
            model.some((p) => modelContains(p, addr)),
            addr.toString(),
          );
      }),
      { numRuns: 60 },
    );
  });

  test('a count survives the removal of others around it', () => {
    const counter = new PrefixCounter();
    const addr = new IpAddress();
    for (let i = 0; i < 30; i++) for (let n = 0; n < 2; n++) counter.add(addr.setV4(i), 128);
    for (let i = 0; i < 30; i++) {
      assert.equal(counter.remove(addr.setV4(i), 128), true);
      assert.equal(counter.contains(addr), true);
      assert.equal(counter.remove(addr, 128), true);
      assert.equal(counter.contains(addr), false);
    }
    assert.equal(counter.size, 0);
  });

  test('10 000 prefixes come and go', () => {
    const counter = new PrefixCounter();
    const addr = new IpAddress();
    for (let i = 0; i < 10_000; i++) counter.add(addr.setV4(0x0a000000 + i * 2), 128);
    assert.equal(counter.size, 10_000);
    for (let i = 0; i < 10_000; i += 2)
      assert.equal(counter.remove(addr.setV4(0x0a000000 + i * 2), 128), true);
    for (let i = 0; i < 20_000; i++)
      assert.equal(counter.contains(addr.setV4(0x0a000000 + i)), i % 4 === 2, `${i}`);
    counter.clear();
    assert.equal(counter.size, 0);
    assert.equal(counter.contains(addr.setV4(0x0a000002)), false);
  });
});

describe('HostRouteTable', () => {
  const ip = parseIpAddress;

  test('leaves out default routes and what VPN software writes in their place', () => {
    const table = new HostRouteTable();
    for (const text of ['0.0.0.0/0', '0.0.0.0/1', '128.0.0.0/1', '::/0', '::/1', '8000::/1', '2000::/3']) {
      const p = parsePrefix(text);
      assert.equal(table.add(p.address, p.bits, 254), false, text);
    }
    assert.equal(table.contains(ip('1.1.1.1')), false);
    assert.equal(table.contains(ip('200.1.1.1')), false);
    assert.equal(table.contains(ip('2001:db8::1')), false);
    assert.equal(table.add(ip('64.0.0.0'), 98, 254), true);
    assert.equal(table.contains(ip('64.1.1.1')), true);
  });

  test('a route in two tables, or twice in one, stays until each was removed', () => {
    const table = new HostRouteTable();
    const net = ip('192.168.1.0');
    const inside = ip('192.168.1.77');
    table.add(net, 120, 254);
    table.add(net, 120, 254);
    table.add(net, 120, 100);
    assert.equal(table.remove(net, 120, 7), false);
    assert.equal(table.remove(net, 120, 100), true);
    assert.equal(table.remove(net, 120, 100), false);
    assert.equal(table.contains(inside), true);
    assert.equal(table.remove(net, 120, 254), true);
    assert.equal(table.contains(inside), true);
    assert.equal(table.remove(net, 120, 254), true);
    assert.equal(table.contains(inside), false);
    assert.equal(table.remove(net, 120, 254), false);
  });

  test('local addresses are contained and local, routes only contained', () => {
    const table = new HostRouteTable();
    table.add(ip('192.168.1.0'), 120, 254);
    table.addLocal(ip('203.0.113.9'));
    table.addLocal(ip('203.0.113.9'));
    table.addLocal(ip('192.168.1.255'));
    assert.equal(table.isLocal(ip('192.168.1.1')), false);
    assert.equal(table.contains(ip('192.168.1.1')), true);
    assert.equal(table.isLocal(ip('192.168.1.255')), true);
    assert.equal(table.removeLocal(ip('203.0.113.9')), true);
    assert.equal(table.contains(ip('203.0.113.9')), true);
    assert.equal(table.removeLocal(ip('203.0.113.9')), true);
    assert.equal(table.removeLocal(ip('203.0.113.9')), false);
    assert.equal(table.contains(ip('203.0.113.9')), false);
  });

  test('replace takes a new dump of routes and keeps the local addresses', () => {
    const table = new HostRouteTable();
    table.add(ip('192.168.1.0'), 120, 254);
    table.addLocal(ip('203.0.113.9'));
    table.replace([
      { prefix: ip('10.9.0.0'), bits: 112, table: 254 },
      { prefix: ip('0.0.0.0'), bits: 96, table: 254 },
    ]);
    assert.equal(table.contains(ip('192.168.1.1')), false);
    assert.equal(table.contains(ip('10.9.3.4')), true);
    assert.equal(table.contains(ip('1.1.1.1')), false);
    assert.equal(table.isLocal(ip('203.0.113.9')), true);
    table.replaceLocals([ip('203.0.113.10')]);
    assert.equal(table.isLocal(ip('203.0.113.9')), false);
    assert.equal(table.isLocal(ip('203.0.113.10')), true);
  });
});
