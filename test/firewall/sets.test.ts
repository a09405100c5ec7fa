import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AddressSet } from '../../src/firewall/address-set.ts';
import { HostRouteTable } from '../../src/firewall/host-routes.ts';
import { type Prefix, parsePrefix } from '../../src/firewall/prefix.ts';
import { PrefixSet } from '../../src/firewall/prefix-set.ts';
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

describe('PrefixSet', () => {
  test('contains what was added, over growth', () => {
    fc.assert(
      fc.property(
        fc.array(fewPrefixes, { maxLength: 300 }),
        fc.array(address, { maxLength: 5 }),
        (prefixes, extra) => {
          const set = new PrefixSet();
          for (const p of prefixes) set.add(p.address, p.bits);
          const model = new Set(prefixes.map((p) => `${p.address}/${p.bits}`));
          assert.equal(set.size, model.size);
          assert.deepEqual(new Set(set.prefixes().map((p) => `${p.address}/${p.bits}`)), model);
          for (const addr of probes(prefixes.slice(0, 40), extra))
            assert.equal(
              set.contains(addr),
              prefixes.some((p) => modelContains(p, addr)),
              addr.toString(),
            );
        },
      ),
      { numRuns: 60 },
    );
  });

  test('10 000 prefixes, and host bits are no part of them', () => {
    const set = new PrefixSet();
    const addr = new IpAddress();
    for (let i = 0; i < 10_000; i++) set.add(addr.setV4(0x0a000000 + i * 4 + 1), 126);
    for (let i = 0; i < 10_000; i++) set.add(addr.setV4(0x0a000000 + i * 4 + 1), 127);
    assert.equal(set.size, 20_000);
    for (let i = 0; i < 40_000; i++) assert.equal(set.contains(addr.setV4(0x0a000000 + i)), true, `${i}`);
    assert.equal(set.contains(addr.setV4(0x0a000000 + 40_000)), false);
  });
});

describe('HostRouteTable', () => {
  const ip = parseIpAddress;

  test('leaves out default routes and what VPN software writes in their place', () => {
    const table = new HostRouteTable();
    for (const text of ['0.0.0.0/0', '0.0.0.0/1', '128.0.0.0/1', '::/0', '::/1', '8000::/1', '2000::/3']) {
      const p = parsePrefix(text);
      table.add(p.address, p.bits);
    }
    for (const far of ['1.1.1.1', '200.1.1.1', '2001:db8::1']) assert.equal(table.contains(ip(far)), false);
    table.add(ip('64.0.0.0'), 98);
    assert.equal(table.contains(ip('64.1.1.1')), true);
  });

  test('local addresses are contained and local, routes only contained', () => {
    const table = new HostRouteTable();
    table.add(ip('192.168.1.0'), 120);
    table.addLocal(ip('203.0.113.9'));
    table.addLocal(ip('192.168.1.255'));
    assert.equal(table.isLocal(ip('192.168.1.1')), false);
    assert.equal(table.contains(ip('192.168.1.1')), true);
    assert.equal(table.isLocal(ip('192.168.1.255')), true);
    assert.equal(table.contains(ip('203.0.113.9')), true);
  });

  test('replace takes what was read in place of all, include adds it', () => {
    const table = new HostRouteTable();
    table.add(ip('192.168.1.0'), 120);
    table.addLocal(ip('203.0.113.9'));
    table.addBroadcast(ip('192.168.1.255'));
    const read = new HostRouteTable();
    read.add(ip('10.9.0.0'), 112);
    read.addLocal(ip('203.0.113.10'));
    read.addBroadcast(ip('10.9.255.255'));
    const of = (address: string): boolean[] => [
      table.contains(ip(address)),
      table.isLocal(ip(address)),
      table.isBroadcast(ip(address)),
    ];
    const { version } = table;
    table.include(read);
    assert.notEqual(table.version, version);
    const before = ['192.168.1.255', '203.0.113.9'].map(of);
    assert.deepEqual(before, [
      [true, false, true],
      [true, true, false],
    ]);
    const included = ['10.9.3.4', '203.0.113.10', '10.9.255.255'].map(of);
    assert.deepEqual(included, [
      [true, false, false],
      [true, true, false],
      [true, false, true],
    ]);
    const later = table.version;
    table.replace(read);
    assert.notEqual(table.version, later);
    assert.deepEqual(['10.9.3.4', '203.0.113.10', '10.9.255.255'].map(of), included);
    for (const gone of ['192.168.1.1', '203.0.113.9', '192.168.1.255'])
      assert.deepEqual(of(gone), [false, false, false]);
  });
});
