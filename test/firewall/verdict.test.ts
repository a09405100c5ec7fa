import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseRuleList } from '../../src/cli/rule.ts';
import { HostRouteTable } from '../../src/firewall/host-routes.ts';
import { parsePrefix } from '../../src/firewall/prefix.ts';
import { reservedRanges } from '../../src/firewall/reserved.ts';
import { toRuleSpec } from '../../src/firewall/rule.ts';
import { describePolicy, Policy, type PolicySpec, Protocol, Verdict } from '../../src/firewall/verdict.ts';
import { IpAddress, parseIpAddress } from '../../src/stack/wire/address.ts';
import { cpuOf } from '../support/cpu-time.ts';

const { Tcp, Udp, Icmp } = Protocol;
const { Permit, Deny, DenyReserved, DenyGroup, DenyHost } = Verdict;
const protocols = [Tcp, Udp, Icmp];

interface Setup {
  routing?: boolean;
  host?: boolean;
  allow?: string;
  deny?: string;
  defaultAllow?: boolean;
  lenient?: boolean;
}

function spec(setup: Setup): PolicySpec {
  const rules = (text = '') =>
    text === '' ? [] : parseRuleList(text, { strict: !setup.lenient }).map((rule) => toRuleSpec(rule));
  return {
    enableRouting: setup.routing ?? false,
    enableHost: setup.host ?? false,
    allow: rules(setup.allow),
    deny: rules(setup.deny),
    defaultAllow: setup.defaultAllow ?? false,
    guestNetworks: [
      { address: '10.0.2.0', bits: 120 },
      { address: 'fd00::', bits: 64 },
    ],
  };
}

/** A host that owns 192.168.1.100/24, 3ffe::100/16 and 203.0.113.9, with default routes. */
function hostTable(): HostRouteTable {
  const table = new HostRouteTable();
  for (const text of ['0.0.0.0/0', '::/0', '127.0.0.0/8', '192.168.1.0/24', '3ffe::/16']) {
    const prefix = parsePrefix(text);
    table.add(prefix.address, prefix.bits);
  }
  for (const text of ['192.168.1.100', '192.168.1.255', '3ffe::100', '203.0.113.9'])
    table.addLocal(parseIpAddress(text));
  return table;
}

function policy(setup: Setup, table: HostRouteTable = hostTable()): Policy {
  return new Policy(structuredClone(spec(setup)), table);
}

function check(p: Policy, proto: Protocol, dst: string, port: number, expected: Verdict): void {
  const got = p.verdict(proto, parseIpAddress(dst), proto === Icmp ? 0 : port);
  assert.equal(got, expected, `${proto} ${dst}:${port}`);
}

function checkAll(p: Policy, dst: string, expected: Verdict, port = 80): void {
  for (const proto of protocols) check(p, proto, dst, port, expected);
}

describe('slirpnetstack decisions (worked examples)', () => {
  const P = 5000;
  test('no options: everything is blocked', () => {
    const p = policy({});
    checkAll(p, '1.1.1.1', Deny);
    checkAll(p, '2001:2::2', Deny);
    checkAll(p, '10.0.2.2', DenyReserved);
    checkAll(p, '192.168.1.100', DenyHost);
    checkAll(p, '3ffe::100', DenyHost);
    checkAll(p, '127.0.0.1', DenyReserved);
  });

  test('-enable-host opens what the routing tables know, nothing else', () => {
    const p = policy({ host: true });
    for (const dst of ['192.168.1.100', '192.168.1.1', '3ffe::100', '3ffe:1::1', '203.0.113.9'])
      checkAll(p, dst, Permit);
    checkAll(p, '1.1.1.1', Deny);
    checkAll(p, '2001:2::2', Deny);
    checkAll(p, '127.0.0.1', DenyReserved);
  });

  test('-enable-routing opens everything but the host', () => {
    const p = policy({ routing: true });
    checkAll(p, '1.1.1.1', Permit);
    checkAll(p, '2001:2::2', Permit);
    checkAll(p, '192.168.1.100', DenyHost);
    checkAll(p, '3ffe::1', DenyHost);
  });

  test('allow both, deny tcp: TCP refused, UDP passes', () => {
    const p = policy({
      lenient: true,
      allow: 'tcp://192.168.1.100,udp://192.168.1.100,tcp://[3ffe::100],udp://[3ffe::100]',
      deny: 'tcp://192.168.1.100,tcp://[3ffe::100]',
    });
    for (const dst of ['192.168.1.100', '3ffe::100']) {
      check(p, Tcp, dst, P, Deny);
      check(p, Udp, dst, P, Permit);
      check(p, Icmp, dst, 0, DenyHost);
    }
  });

  test('deny of one port beside -enable-host', () => {
    const p = policy({
      lenient: true,
      host: true,
      allow: 'udp://192.168.1.100:100-200',
      deny: `tcp://192.168.1.100:${P},tcp://[3ffe::100]:${P}-${P}`,
    });
    check(p, Tcp, '192.168.1.100', P, Deny);
    check(p, Tcp, '3ffe::100', P, Deny);
    check(p, Tcp, '192.168.1.100', P + 1, Permit);
    check(p, Tcp, '3ffe::100', P - 1, Permit);
    check(p, Udp, '192.168.1.100', P, Permit);
    check(p, Udp, '3ffe::100', P, Permit);
  });

  test('an allow entry opens its port without -enable-host', () => {
    const p = policy({ lenient: true, allow: `192.168.1.100:${P}` });
    check(p, Tcp, '192.168.1.100', P, Permit);
    check(p, Tcp, '192.168.1.100', P + 1, DenyHost);
    check(p, Udp, '192.168.1.100', P, DenyHost);
    check(p, Tcp, '192.168.1.101', P, DenyHost);
  });

  test('an unknown protocol word never matches', () => {
    const p = policy({ lenient: true, routing: true, allow: 'any://127.0.0.1', deny: 'any://1.1.1.1' });
    checkAll(p, '127.0.0.1', DenyReserved);
    checkAll(p, '1.1.1.1', Permit);
  });
});

const everything: Setup = { routing: true, host: true, allow: 'any://0.0.0.0/0,any://[::]/0' };
const openPolicies: [string, Setup][] = [
  ['routing and host', { routing: true, host: true }],
  ['allow everything', everything],
  ['default allow', { defaultAllow: true }],
];

for (const [name, setup] of openPolicies) {
  describe(`reserved destinations under "${name}"`, () => {
    test('A-01 loopback and this-network', () => {
      const p = policy(setup);
      for (const dst of [
        '127.0.0.1',
        '127.1.2.3',
        '127.255.255.254',
        '0.0.0.0',
        '0.0.0.1',
        '0.255.255.255',
        '::1',
        '::',
      ])
        checkAll(p, dst, DenyReserved);
      for (const dst of ['126.255.255.255', '128.0.0.0', '1.0.0.0']) checkAll(p, dst, Permit);
    });

    test('A-02 embedded IPv4: loopback, metadata and link-local inside never pass', () => {
      const p = policy(setup);
      for (const dst of [
        '::127.0.0.1',
        '::ffff:0:127.0.0.1',
        '::8.8.8.8',
        '::ffff:0:8.8.8.8',
        '64:ff9b::7f00:1',
        '64:ff9b::0.0.0.1',
        '64:ff9b::169.254.169.254',
        '64:ff9b::10.0.2.2', // the guest's network
        '64:ff9b:1::7f00:1',
        '64:ff9b:1::8.8.8.8',
        '2002:7f00:1::',
        '2002:7f00:1::1',
        '2002:a9fe:a9fe::1',
        '2002:0:1::',
        '2001:0:808:808::80ff:fffe', // client ~127.0.0.1
        '2001:0:7f00:1::f7f7:f7f7', // server 127.0.0.1
        '::5efe:127.0.0.1',
        'fe80::5efe:8.8.8.8',
        '2001:db8::5efe:127.0.0.1',
        '2001:db8::200:5efe:169.254.169.254',
        '2002:808:808::5efe:127.0.0.1', // ISATAP inside 6to4
        '2002:a00:202::1', // the guest's network
      ])
        checkAll(p, dst, DenyReserved);
      checkAll(p, '2002:e000:1::1', DenyGroup);
      checkAll(p, '64:ff9b::224.0.0.1', DenyGroup);
      for (const dst of [
        '64:ff9b::8.8.8.8',
        '2002:808:808::1',
        '2001:0:808:808::f7f7:f7f7',
        '2001:db8::5efe:8.8.8.8',
        '2001:db8::5eff:127.0.0.1',
        '2001:1::80ff:fffe',
      ])
        checkAll(p, dst, Permit);
    });

    test('A-05 metadata and link-local', () => {
      const p = policy(setup);
      for (const dst of [
        '169.254.169.254',
        '169.254.170.2',
        '169.254.0.0',
        '169.254.255.255',
        'fd00:ec2::254',
        '100.100.100.200',
        '168.63.129.16',
        'fe80::1',
        'febf:ffff::1',
      ])
        checkAll(p, dst, DenyReserved);
      for (const dst of ['169.253.255.255', '169.255.0.0', '100.100.100.201', 'fec0::1', 'fd00:ec2::1'])
        checkAll(p, dst, Permit);
    });

    test('A-06 groups and the guest network', () => {
      const p = policy(setup);
      for (const dst of [
        '224.0.0.1',
        '239.255.255.255',
        '240.0.0.1',
        '255.255.255.255',
        '255.255.255.254',
        'ff00::',
        'ff02::1',
        'ffff::1',
        '10.0.2.0',
        '10.0.2.255',
      ])
        checkAll(p, dst, DenyGroup);
      for (const dst of ['10.0.2.1', '10.0.2.100', '10.0.2.254', 'fd00::2', 'fd00::ffff:ffff:ffff:ffff'])
        checkAll(p, dst, DenyReserved);
      for (const dst of [
        '10.0.1.255',
        '10.0.3.0',
        '223.255.255.255',
        'fd00:0:0:1::',
        '192.0.2.1',
        '2001:db8::1',
      ])
        checkAll(p, dst, Permit);
    });
  });
}

describe('allow rules and reserved ranges (A-07)', () => {
  test('a rule inside a reserved range opens that much', () => {
    const p = policy({ allow: '127.0.0.1:8080,any://[::1],udp://169.254.0.0/16,10.0.2.0/24' });
    check(p, Tcp, '127.0.0.1', 8080, Permit);
    check(p, Tcp, '127.0.0.1', 8081, DenyReserved);
    check(p, Udp, '127.0.0.1', 8080, DenyReserved);
    check(p, Icmp, '127.0.0.1', 0, DenyReserved);
    check(p, Tcp, '127.0.0.2', 8080, DenyReserved);
    checkAll(p, '::1', Permit);
    check(p, Udp, '169.254.3.3', 1, Permit);
    check(p, Tcp, '10.0.2.77', 1, Permit);
  });

  test('the innermost range counts', () => {
    const p = policy({ allow: 'any://169.254.0.0/16,any://10.0.2.0/24,any://240.0.0.0/4,any://[::]/96' });
    checkAll(p, '169.254.169.254', DenyReserved);
    checkAll(p, '10.0.2.255', DenyGroup);
    checkAll(p, '255.255.255.255', DenyGroup);
    checkAll(p, '240.0.0.1', Permit);
    checkAll(p, '::1', DenyReserved);
    checkAll(p, '::', DenyReserved);
    checkAll(policy({ allow: 'any://169.254.169.254' }), '169.254.169.254', Permit);
  });

  test('every reserved range is closed to a rule one bit broader and open to one of its own length', () => {
    for (const range of reservedRanges) {
      if (range.kind === 'embedded') continue;
      const { address, bits } = parsePrefix(range.prefix);
      const rule = { proto: 'any', address: address.toString(), portMin: 0, portMax: 65535 } as const;
      const closed = new Policy({ ...spec({}), allow: [{ ...rule, bits: bits - 1 }] });
      const open = new Policy({ ...spec({}), allow: [{ ...rule, bits }] });
      const last = new IpAddress().copyFrom(address);
      if (bits < 128) last.w3 = (last.w3 | 0x0a) >>> 0;
      for (const proto of protocols) {
        assert.notEqual(closed.verdict(proto, last, 0), Permit, range.prefix);
        const neverTcp: boolean = range.kind === 'group' && proto === Tcp;
        assert.equal(open.verdict(proto, last, 0), neverTcp ? DenyGroup : Permit, range.prefix);
      }
    }
  });

  test('TCP to a group is never permitted, UDP is when named', () => {
    const p = policy({ allow: 'any://239.1.1.1,any://[ff05::1:3],any://255.255.255.255' });
    for (const dst of ['239.1.1.1', 'ff05::1:3', '255.255.255.255']) {
      check(p, Tcp, dst, 80, DenyGroup);
      check(p, Udp, dst, 80, Permit);
    }
  });

  test('IPv4-compatible and translated addresses are closed even to rules that name them', () => {
    const p = policy({
      routing: true,
      allow: 'any://[::8.8.8.8],any://[::ffff:0:8.8.8.8],any://[::ffff:0:0:0]/96',
    });
    checkAll(p, '::8.8.8.8', DenyReserved);
    checkAll(p, '::ffff:0:8.8.8.8', DenyReserved);
  });

  test('review OP-7: a NAT64 address is judged as the IPv4 address inside', () => {
    const p = policy({
      routing: true,
      allow: '127.0.0.1:8080',
      deny: 'any://9.9.9.9,any://[64:ff9b::1.0.0.0]/104',
    });
    checkAll(p, '64:ff9b::8.8.8.8', Permit);
    checkAll(p, '64:ff9b::9.9.9.9', Deny);
    checkAll(p, '64:ff9b::1.2.3.4', Deny);
    checkAll(p, '1.2.3.4', Permit);
    checkAll(p, '64:ff9b::192.168.1.100', DenyHost);
    checkAll(p, '64:ff9b::127.0.0.1', DenyReserved, 81);
    check(p, Tcp, '64:ff9b::127.0.0.1', 8080, Permit);
    checkAll(p, '64:ff9b::10.0.2.2', DenyReserved);
    checkAll(policy({ routing: true, deny: 'any://[::]/0' }), '64:ff9b::8.8.8.8', Deny);
    checkAll(policy({ host: true }), '64:ff9b::192.168.1.100', Permit);
    checkAll(policy({}), '64:ff9b::8.8.8.8', Deny);
    checkAll(policy({ allow: '8.8.8.8' }), '64:ff9b::8.8.4.4', Deny);
    check(policy({ allow: '8.8.8.8' }), Tcp, '64:ff9b::8.8.8.8', 80, Permit);
    // Whether the host has a route of its own for the prefix does not matter: a translator may be on it.
    const table = hostTable();
    table.add(parseIpAddress('64:ff9b::'), 96);
    checkAll(policy({ routing: true }, table), '64:ff9b::8.8.8.8', Permit);
  });

  test('review OP-7: a rule written with NAT64 addresses opens those it names, and a rule for all of them none', () => {
    const one = policy({ allow: 'any://[64:ff9b::8.8.8.0]/120' });
    checkAll(one, '64:ff9b::8.8.8.8', Permit);
    checkAll(one, '64:ff9b::8.8.4.4', Deny);
    checkAll(one, '8.8.8.8', Deny);
    const loopback = policy({ allow: 'any://[64:ff9b::127.0.0.0]/104' });
    checkAll(loopback, '64:ff9b::127.0.0.1', Permit);
    checkAll(policy({ allow: 'any://[64:ff9b::]/97' }), '64:ff9b::127.0.0.1', DenyReserved);
    for (const all of ['any://[64:ff9b::]/96', 'any://[::]/0'])
      checkAll(policy({ allow: all }), '64:ff9b::8.8.8.8', Deny);
  });

  test('review OP-7: where the prefix is kept closed it needs a rule, and so does the one for local use', () => {
    const rules = 'any://[64:ff9b::]/96,any://[64:ff9b:1::]/48';
    const closed = [{ address: '64:ff9b::', bits: 96 }];
    const table = hostTable();
    const p = new Policy({ ...spec({ routing: true, allow: rules, deny: 'any://9.9.9.9' }), closed }, table);
    checkAll(p, '64:ff9b::8.8.8.8', Permit);
    checkAll(p, '64:ff9b:1:abcd::8.8.8.8', Permit);
    checkAll(p, '64:ff9b::9.9.9.9', Deny);
    checkAll(p, '64:ff9b::192.168.1.100', DenyHost);
    checkAll(p, '64:ff9b::127.0.0.1', DenyReserved);
    checkAll(p, '64:ff9b::10.0.2.2', DenyReserved);
    checkAll(p, '64:ff9b:1::127.0.0.1', DenyReserved);
    checkAll(p, '64:ff9b:1:7f00:0:100::', DenyReserved); // /48 layout of 127.0.0.1
    checkAll(new Policy({ ...spec({ allow: rules }), closed }, table), '64:ff9b::8.8.8.8', Deny);
    const routed = new Policy({ ...spec({ routing: true }), closed }, table);
    for (const dst of ['64:ff9b::8.8.8.8', '64:ff9b:1::8.8.8.8']) checkAll(routed, dst, DenyReserved);
  });

  test('deny wins over allow, inside and around it', () => {
    const p = policy({
      routing: true,
      allow: 'any://1.0.0.0/8,any://[2001:db8::]/32',
      deny: 'tcp://1.2.0.0/16:80-90',
    });
    check(p, Tcp, '1.2.3.4', 80, Deny);
    check(p, Tcp, '1.2.3.4', 91, Permit);
    check(p, Udp, '1.2.3.4', 80, Permit);
    const around = policy({ allow: 'any://1.2.3.4,any://127.0.0.1', deny: 'any://0.0.0.0/0' });
    checkAll(around, '1.2.3.4', Deny);
    checkAll(around, '127.0.0.1', Deny);
  });

  test('a rule for all of one family says nothing about the other', () => {
    const p = policy({ allow: 'any://[::]/0' });
    checkAll(p, '1.1.1.1', Deny);
    checkAll(p, '2606:4700::1111', Permit);
    const q = policy({ routing: true, deny: 'any://[::]/0' });
    checkAll(q, '1.1.1.1', Permit);
    checkAll(q, '2606:4700::1111', Deny);
    const r = policy({ allow: 'any://0.0.0.0/0' });
    checkAll(r, '1.1.1.1', Permit);
    checkAll(r, '2606:4700::1111', Deny);
  });

  test('10 000 rules on each side: right, and far quicker than a search one by one', () => {
    const rule = { proto: 'any', bits: 128, portMin: 1, portMax: 65535 } as const;
    const dst = new IpAddress();
    const at = (i: number) => dst.setV4((0x14000000 + i * 3) >>> 0).toString();
    const allow = Array.from({ length: 10_000 }, (_, i) => ({ ...rule, address: at(i) }));
    // One address with 5000 separate ports, and 5000 addresses.
    const deny = Array.from({ length: 10_000 }, (_, i) =>
      i % 2 === 0
        ? { ...rule, address: '20.0.0.0', portMin: i * 2 + 1, portMax: i * 2 + 1 }
        : { ...rule, address: at(i) },
    );
    const p = new Policy({ ...spec({}), allow, deny }, hostTable());
    for (let i = 0; i < 30_000; i++) {
      const expected = i % 3 !== 0 ? Deny : (i / 3) % 2 === 0 ? Permit : Deny;
      assert.equal(p.verdict(Tcp, dst.setV4(0x14000000 + i), 2), expected, `${i}`);
    }
    dst.setV4(0x14000000);
    for (let port = 1; port < 20_000; port++)
      assert.equal(p.verdict(Udp, dst, port), port % 4 === 1 ? Deny : Permit, `${port}`);
    let permitted = 0;
    const ms = cpuOf(() => {
      for (let i = 0; i < 200_000; i++)
        if (p.verdict(Tcp, dst.setV4(0x14000000 + (i % 30_000)), 2) === Permit) permitted++;
    });
    assert.ok(permitted > 0);
    // About 1 µs each; a search through 20 000 rules takes tens of microseconds.
    assert.ok(ms < 2000, `${ms} ms`);
  });
});

describe('one decision for all protocols (A-08)', () => {
  const forms = ['198.51.100.7', '2001:db8:1::7', '2002:c633:6407::1', '2001:db8:2::5efe:198.51.100.7'];
  test('an any rule opens and closes each address form alike', () => {
    const wide = policy({
      allow: 'any://198.51.100.0/24,any://[2001:db8:1::]/64,any://[2002::]/16,any://[2001:db8:2::]/64',
    });
    for (const dst of forms) checkAll(wide, dst, Permit);
    const closed = policy({ routing: true, deny: 'any://198.51.100.0/24,any://[2001:db8:1::]/64' });
    for (const dst of forms) checkAll(closed, dst, Deny);
  });

  test('ICMP is opened by icmp and any rules, not by tcp or udp rules nor ports', () => {
    check(policy({ allow: '1.2.3.4,udp://1.2.3.4' }), Icmp, '1.2.3.4', 0, Deny);
    check(policy({ allow: 'icmp://1.2.3.4' }), Icmp, '1.2.3.4', 0, Permit);
    check(policy({ allow: 'icmp://1.2.3.4:80' }), Icmp, '1.2.3.4', 0, Permit);
    check(policy({ allow: 'any://1.2.3.4' }), Icmp, '1.2.3.4', 0, Permit);
    check(policy({ allow: 'any://1.2.3.4:80' }), Icmp, '1.2.3.4', 0, Deny);
    check(policy({ allow: 'icmp://1.2.3.4' }), Tcp, '1.2.3.4', 80, Deny);
    check(policy({ routing: true, deny: '1.2.3.4' }), Icmp, '1.2.3.4', 0, Permit);
    check(policy({ routing: true, deny: 'icmp://1.2.3.4' }), Icmp, '1.2.3.4', 0, Deny);
  });

  test('the host by way of its own published or broadcast address is host access, also as inner address', () => {
    const p = policy({ routing: true });
    for (const dst of ['203.0.113.9', '192.168.1.255', '2002:cb00:7109::1', '2002:c0a8:164::1'])
      checkAll(p, dst, DenyHost);
    checkAll(policy({ routing: true, host: true }), '2002:cb00:7109::1', Permit);
  });

  test('A-03 an address that the host gains or loses counts at the next call', () => {
    const table = hostTable();
    const p = policy({ routing: true }, table);
    checkAll(p, '198.51.100.1', Permit);
    table.addLocal(parseIpAddress('198.51.100.1'));
    checkAll(p, '198.51.100.1', DenyHost);
    table.replace(hostTable());
    checkAll(p, '198.51.100.1', Permit);
  });

  test('default allow permits the host too, and deny rules hold', () => {
    const p = policy({ defaultAllow: true, deny: 'any://9.9.9.9' });
    for (const dst of ['1.1.1.1', '192.168.1.100', '3ffe::100', '10.0.3.1']) checkAll(p, dst, Permit);
    checkAll(p, '9.9.9.9', Deny);
    checkAll(p, '127.0.0.1', DenyReserved);
  });

  test('another guest network closes its own addresses and leaves 10.0.2.0/24 alone', () => {
    const p = new Policy({ ...spec({ routing: true }), guestNetworks: [{ address: '10.9.8.0', bits: 122 }] });
    checkAll(p, '10.0.2.2', Permit);
    checkAll(p, '10.9.8.2', DenyReserved);
    checkAll(p, '10.9.8.63', DenyGroup);
    checkAll(p, '10.9.8.64', Permit);
  });
});

describe('describePolicy', () => {
  const table: [Setup, RegExp][] = [
    [{}, /^guest may reach nothing outside its own network; its own network is 10\.0\.2\.0\/24, fd00::\/64$/],
    [{ routing: true }, /reach the internet, not the host's addresses and networks; reserved/],
    [{ host: true }, /reach the host's addresses and networks, not the internet; reserved/],
    [{ routing: true, host: true }, /reach the internet, the host's addresses and its networks; /],
    [{ defaultAllow: true }, /reach the internet, the host's addresses and its networks; /],
    [
      { allow: '1.2.3.4:80', deny: 'udp://[fd01::]/64' },
      /reach tcp:\/\/1\.2\.3\.4:80; but not udp:\/\/\[fd01::\/64\]; /,
    ],
    [{ allow: Array.from({ length: 12 }, (_, i) => `1.2.3.${i}`).join() }, /1\.2\.3\.7 and 4 more rules;/],
  ];
  for (const [setup, pattern] of table) {
    test(JSON.stringify(setup).slice(0, 60), () => {
      const line = describePolicy(spec(setup));
      assert.match(line, pattern);
      assert.ok(!line.includes('\n'));
    });
  }

  test('review OP-8: tells what counts as the host’s', () => {
    const networks = Array.from({ length: 10 }, (_, i) => `10.${i}.0.0/16`);
    const routing = describePolicy(spec({ routing: true }), networks);
    assert.match(
      routing,
      /internet, not the host's addresses and networks \(10\.0\.0\.0\/16, .*10\.7\.0\.0\/16 and 2 more\); /,
    );
    assert.match(
      describePolicy(spec({ host: true }), networks.slice(0, 2)),
      /reach the host's addresses and networks \(10\.0\.0\.0\/16, 10\.1\.0\.0\/16\), not the internet; /,
    );
  });
});
