/** Hazards A: addresses and policy. The real check is G-3: which addresses the system calls got. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseRuleEntry } from '../../src/cli/rule.ts';
import { HostRouteTable } from '../../src/firewall/host-routes.ts';
import { toRuleSpec } from '../../src/firewall/rule.ts';
import { Policy, Protocol } from '../../src/firewall/verdict.ts';
import { parseIpAddress } from '../../src/stack/wire/address.ts';
import { cpuOf } from '../support/cpu-time.ts';
import { Lab, type LabOptions, summary } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  AT_IP4_DST,
  AT_IP4_SUM,
  AT_IP6_DST,
  AT_TRANSPORT4,
  AT_TRANSPORT6,
  type Decoded,
  DNS4,
  DNS6,
  echo,
  frame,
  GATEWAY4,
  GATEWAY6,
  GUEST4,
  ICMP_SUM,
  type Ip,
  isV6,
  putLong,
  putWord,
  RST,
  SYN,
  TCP_SUM,
  tcp,
  UDP_SUM,
  udp,
} from '../support/lab/packets.ts';

/** Everything that an ordinary user can open without naming a reserved range. */
const allowAll: LabOptions = {
  allow: ['any://0.0.0.0/0', 'any://[::]/0'],
  policy: { enableRouting: true, enableHost: true },
};
const policies: [string, LabOptions][] = [
  ['allow all', allowAll],
  ['default', {}],
];

/** TCP, UDP and echo to `dst`: what came back. */
function attempt(lab: Lab, dst: Ip, port = 80): Decoded[] {
  return lab.send(
    tcp({ dst, srcPort: lab.port(), dstPort: port }),
    udp({ dst, srcPort: lab.port(), dstPort: port }),
    echo(dst, lab.port(), 1),
  );
}

/** No call to the host for any of `addresses`, under both policies. */
function closed(addresses: readonly Ip[], options: { silentTcp?: boolean } = {}): void {
  for (const [name, policy] of policies) {
    const lab = new Lab(policy);
    for (const address of addresses) {
      const out = attempt(lab, address);
      assert.deepEqual(lab.kernel.reached, [], `${name}: ${address}`);
      const tcpAnswers = out.filter((d) => d.protocol === 6);
      if (options.silentTcp === true) assert.deepEqual(tcpAnswers.map(summary), [], `${name}: ${address}`);
      for (const answer of tcpAnswers) assert.ok((answer.flags & RST) !== 0, summary(answer));
    }
    assert.equal(lab.gauge('tcp.flows') + lab.gauge('udp.flows') + lab.gauge('ping.flows'), 0, name);
    lab.check();
  }
}

describe('hazards A: addresses and policy', () => {
  test("A-01: the host's loopback and unspecified addresses are closed to every policy", () => {
    closed(['127.0.0.1', '127.1.2.3', '127.255.255.254', '0.0.0.0', '0.0.0.1', '0.255.255.255', '::1', '::']);
  });

  test('A-01: an exact rule opens loopback, and only that port', () => {
    const lab = new Lab({ allow: ['tcp://127.0.0.1:8080', 'any://198.51.100.0/24'] });
    lab.send(tcp({ dst: '127.0.0.1', dstPort: 8080 }), tcp({ dst: '127.0.0.1', dstPort: 8081 }));
    lab.send(udp({ dst: '127.0.0.1', dstPort: 8080 }));
    assert.deepEqual(
      lab.kernel.reached.map((r) => `${r.protocol} ${r.address} ${r.port}`),
      ['tcp 127.0.0.1 8080'],
    );
  });

  /** Inner addresses as hexadecimal words: loopback, metadata, private, the host's. */
  const inner = ['7f00:1', 'a9fe:a9fe', 'a00:1', 'c0a8:101'];
  test('A-02, RQ-85 (RFC 6052, RFC 4291 §2.5.5): IPv4 inside IPv6 is judged as both, and denied if either is', () => {
    const forms = inner.flatMap((w) => [`::ffff:${w}`, `::${w}`, `::ffff:0:${w}`, `64:ff9b:1::${w}`]);
    closed([...forms, '64:ff9b::7f00:1', '64:ff9b::a9fe:a9fe']);
    // These forms are unicast otherwise, so that only what is inside tells.
    const loopback = [
      '2002:7f00:1::',
      '2001:0:c633:6401:0:0:80ff:fffe',
      '2001:db8:1::5efe:7f00:1',
      'fe80::5efe:7f00:1',
    ];
    const metadata = ['2002:a9fe:a9fe::1', '2001:0:c633:6401:0:0:5601:5601', '2001:db8:1::5efe:a9fe:a9fe'];
    closed([...loopback, ...metadata]);
  });

  test('A-02: mapped, compatible and translated are dropped even when a rule names them', () => {
    const lab = new Lab({
      allow: ['any://[::ffff:0:c633:6401]', 'any://198.51.100.0/24', 'any://[2001:db8:1::/64]'],
    });
    for (const dst of ['::ffff:c633:6401', '::c633:6401', '::ffff:0:c633:6401']) attempt(lab, dst);
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test('A-02, review OP-7: NAT64 is judged as the address inside: open as the internet is, closed as the host is', () => {
    const lab = new Lab({ policy: { enableRouting: true } });
    const { hostRoutes } = lab.services;
    hostRoutes.add(parseIpAddress('10.0.0.0'), 104);
    hostRoutes.addLocal(parseIpAddress('192.168.1.1'));
    for (const dst of ['64:ff9b::7f00:1', '64:ff9b::a9fe:a9fe', '64:ff9b::a00:1', '64:ff9b::c0a8:101'])
      attempt(lab, dst);
    assert.equal(lab.kernel.reached.length, 0);
    lab.mayReach = () => true;
    attempt(lab, '64:ff9b::c633:6401');
    assert.deepEqual([...new Set(lab.kernel.reached.map((r) => r.address))], ['64:ff9b::c633:6401']);
    lab.check();
  });

  test('A-03: an address that the host gets while flows exist is closed to new ones at once', () => {
    const lab = new Lab({ policy: { enableRouting: true } });
    const dst = '192.0.2.77';
    lab.mayReach = () => true;
    const before = lab.connect(dst, 7);
    lab.send(udp({ dst, srcPort: 5000, dstPort: 9 }));
    assert.equal(lab.kernel.datagrams.length, 1);
    lab.services.hostRoutes.addLocal(parseIpAddress(dst));
    lab.kernel.reached.length = 0;
    const out = attempt(lab, dst, 7);
    assert.ok(out.some((d) => d.protocol === 6 && (d.flags & RST) !== 0));
    // A UDP flow is judged anew at once; a TCP connection that exists goes on (docs/commands.md).
    lab.send(udp({ dst, srcPort: 5000, dstPort: 9 }));
    assert.deepEqual(lab.kernel.reached, []);
    assert.ok(before.sendData(Buffer.from('still here')).equals(Buffer.from('still here')));
    lab.check();
  });

  test('A-03: what the host has become a moment ago is asked for flows that exist, too', () => {
    for (const isSame of [true, false]) {
      const lab = new Lab({ policy: { enableRouting: true } });
      lab.mayReach = () => true;
      const [first, late] = ['192.0.2.76', isSame ? '192.0.2.76' : '192.0.2.77'];
      const datagram = (dst: Ip): Buffer => udp({ dst, srcPort: 5000, dstPort: 9 });
      lab.send(datagram(first), echo(first, 5, 1));
      assert.equal(lab.kernel.reached.length, 2);
      // The news are in the netlink socket, and nobody has looked yet.
      let news = true;
      lab.askHost = () => {
        if (news) lab.services.hostRoutes.addLocal(parseIpAddress(late));
        news = false;
        return true;
      };
      lab.kernel.reached.length = 0;
      lab.send(datagram(late));
      assert.deepEqual(lab.kernel.reached, []);
      news = true;
      lab.services.hostRoutes.replace(new HostRouteTable());
      lab.send(echo(late, 5, 2));
      assert.deepEqual(lab.kernel.reached, []);
      lab.check();
    }
  });

  test("A-03: the host's addresses, networks and broadcast addresses are closed without host access", () => {
    const lab = new Lab({ policy: { enableRouting: true } });
    lab.mayReach = () => true;
    const { hostRoutes } = lab.services;
    for (const own of ['203.0.113.9', '203.0.113.255', '10.8.0.6', '2001:db8:9::9'])
      hostRoutes.addLocal(parseIpAddress(own));
    hostRoutes.add(parseIpAddress('10.8.0.0'), 96 + 16);
    hostRoutes.add(parseIpAddress('2001:db8:9::'), 64);
    for (const dst of [
      '203.0.113.9',
      '203.0.113.255',
      '10.8.0.6',
      '10.8.77.1',
      '2001:db8:9::9',
      '2001:db8:9::1',
    ])
      attempt(lab, dst);
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test("A-06, U-06: broadcast addresses of the host's links are nobody's, even to a rule that covers them", () => {
    const lab = new Lab();
    const dst = '198.51.100.255';
    lab.services.hostRoutes.addBroadcast(parseIpAddress(dst));
    lab.expectDrop('policy.group', 'TCP', frame(tcp({ dst })));
    lab.expectDrop('udp.group', 'UDP', frame(udp({ dst, dstPort: 9 })));
    lab.expectDrop('policy.group', 'ping', frame(echo(dst, 1, 1)));
    assert.equal(lab.gauge('udp.flows'), 0);
    lab.check();
  });

  test('A-03: nothing is opened while the host cannot be asked for its addresses', () => {
    const lab = new Lab({ policy: { enableRouting: true } });
    lab.askHost = () => false;
    attempt(lab, '192.0.2.1');
    assert.deepEqual(lab.kernel.reached, []);
  });

  test('A-04: no port of the gateway, and no port but 53 of the DNS address, leads to the host', () => {
    for (const [name, policy] of policies) {
      const lab = new Lab(policy);
      const addresses: Ip[] = [GATEWAY4, GATEWAY6, DNS4, DNS6];
      for (const dst of addresses) {
        const at = isV6(dst) ? AT_TRANSPORT6 : AT_TRANSPORT4;
        // 53 of the DNS addresses is what they are for.
        const port = (i: number): number => (i + 1 === 53 && (dst === DNS4 || dst === DNS6) ? 54 : i + 1);
        const syns = lab.flood(65_535, [frame(tcp({ dst }))], (f, i) =>
          putWord(f, at + 2, port(i), at + TCP_SUM),
        );
        assert.equal(syns.answers, 65_535, `${name}: ${dst}`);
        assert.ok(syns.sample.every((d) => (d.flags & RST) !== 0));
        const datagrams = lab.flood(65_535, [frame(udp({ dst }, Buffer.alloc(40)))], (f, i) =>
          putWord(f, at + 2, port(i), at + UDP_SUM),
        );
        assert.ok(datagrams.sample.every((d) => d.icmpType === (isV6(dst) ? 1 : 3)));
      }
      assert.deepEqual(lab.kernel.reached, []);
      lab.check({ amplification: 1 });
    }
  });

  test('A-04: the DNS address leads to the configured resolver and nowhere else, over UDP and TCP', () => {
    const lab = new Lab();
    const query = Buffer.from('00070100000100000000000003777777076578616d706c6503636f6d0000010001', 'hex');
    lab.send(udp({ dst: DNS4, dstPort: 53 }, query));
    // Over TCP a message goes there, not the connection.
    const stream = lab.connect(DNS4, 53);
    assert.equal(lab.kernel.reached.length, 1);
    stream.sendData(Buffer.concat([Buffer.from([0, query.length]), query]));
    assert.deepEqual(
      lab.kernel.reached.map((r) => `${r.protocol} ${r.address} ${r.port}`),
      ['udp 203.0.113.53 53', 'tcp 203.0.113.53 53'],
    );
  });

  test('A-05: link-local and the addresses of cloud metadata services are closed', () => {
    closed([
      '169.254.169.254',
      '169.254.170.2',
      '169.254.0.1',
      '169.254.255.255',
      'fd00:ec2::254',
      '100.100.100.200',
      '168.63.129.16',
      'fe80::1',
      'fe80::a9fe:a9fe',
      'febf::1',
    ]);
  });

  test('A-05: all of 169.254.0.0/16, and as much of fe80::/10, over TCP, UDP and ping', () => {
    for (const [name, policy] of policies) {
      const lab = new Lab(policy);
      const v4 = '169.254.0.0';
      const v6 = 'fe80::';
      lab.flood(
        6 * 65_536,
        [
          frame(tcp({ dst: v4 })),
          frame(udp({ dst: v4 })),
          frame(echo(v4, 1, 1)),
          frame(tcp({ dst: v6 })),
          frame(udp({ dst: v6 })),
          frame(echo(v6, 1, 1)),
        ],
        (f, i) => {
          const sum = [TCP_SUM, UDP_SUM, ICMP_SUM][i % 3] as number;
          const n = Math.floor(i / 6);
          if (i % 6 < 2) putWord(f, AT_IP4_DST + 2, n, AT_IP4_SUM, AT_TRANSPORT4 + sum);
          else if (i % 6 === 2) putWord(f, AT_IP4_DST + 2, n, AT_IP4_SUM);
          else {
            putWord(f, AT_IP6_DST, 0xfe80 + (n & 63), AT_TRANSPORT6 + sum);
            putWord(f, AT_IP6_DST + 14, n, AT_TRANSPORT6 + sum);
          }
        },
      );
      assert.deepEqual(lab.kernel.reached, [], name);
      assert.equal(
        lab.counter('drop.tcp.csum') + lab.counter('drop.udp.csum') + lab.counter('drop.icmp.csum'),
        0,
      );
      lab.check();
    }
  });

  test('A-06: all of 224.0.0.0/3 by samples, every other address of the link: closed, and TCP to groups not answered', () => {
    for (const [name, policy] of policies) {
      const lab = new Lab(policy);
      const template = [frame(tcp({ dst: '224.0.0.0' })), frame(udp({ dst: '224.0.0.0' }))];
      const groups = lab.flood(131_072, template, (f, i) =>
        // A large odd step goes everywhere.
        putLong(
          f,
          AT_IP4_DST,
          (0xe0000000 | (Math.imul(i, 0x9e3779b1) >>> 3)) >>> 0,
          AT_IP4_SUM,
          AT_TRANSPORT4 + (i % 2 === 0 ? TCP_SUM : UDP_SUM),
        ),
      );
      assert.ok(
        groups.sample.every((d) => d.protocol !== 6),
        `${name}: TCP was answered`,
      );
      for (let i = 0; i < 256; i++) if (i !== 2 && i !== 3 && i !== 100) attempt(lab, `10.0.2.${i}`);
      assert.deepEqual(lab.kernel.reached, [], name);
      lab.check();
    }
  });

  test('A-06, RQ-19, RQ-85 (RFC 9293 §3.9.2.3, RFC 6890): groups, class E, the network and broadcast addresses of the link: closed, and TCP not answered', () => {
    closed(
      [
        '224.0.0.1',
        '224.0.0.251',
        '239.255.255.250',
        '255.255.255.255',
        '0.0.0.0',
        '10.0.2.0',
        '10.0.2.255',
        '240.0.0.1',
        'ff02::1',
        'ff02::fb',
        'ff0e::1',
      ],
      { silentTcp: true },
    );
    closed(['10.0.2.77', '10.0.2.1', 'fd00::77']);
  });

  test("A-06: documentation prefixes and the guest's own address need a rule like anything else", () => {
    const lab = new Lab();
    for (const dst of ['192.0.2.1', '203.0.113.1', '2001:db8::1', '8.8.8.8', GUEST4]) attempt(lab, dst);
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test('A-07: deny wins over allow, and a broad allow opens no reserved range', () => {
    const lab = new Lab({
      allow: ['any://0.0.0.0/0', 'any://198.51.100.0/24'],
      deny: ['any://198.51.100.64/26', 'tcp://198.51.100.1:25'],
    });
    for (const dst of ['198.51.100.64', '198.51.100.127', '127.0.0.1', '169.254.169.254']) attempt(lab, dst);
    lab.send(tcp({ dst: ALLOWED4, dstPort: 25 }));
    assert.deepEqual(lab.kernel.reached, []);
    lab.send(tcp({ dst: ALLOWED4, dstPort: 26 }), udp({ dst: ALLOWED4, dstPort: 25 }));
    assert.equal(lab.kernel.reached.length, 2);
    lab.check();
  });

  test('A-07: what is odd in a rule is refused, with the text that was odd', () => {
    const odd = [
      '10.0.0.1:53-1',
      '10.0.0.1:0-65536',
      '10.0.0.1:-1',
      '10.0.0.1:',
      '10.0.0.1:65536',
      '010.0.0.1',
      '1.2.3',
      '0x7f000001',
      '[fe80::1%eth0]',
      '10.0.0.0/33',
      '[::/129]',
      '10.0.0.1 ',
      ' 10.0.0.1',
      '10.0.0.0/8/8',
      'sctp://10.0.0.1',
      '',
      '10.0.0.0/-1',
      '10.0.0.0/+8',
      '10.0.0.0/08',
    ];
    for (const text of odd) {
      assert.throws(
        () => toRuleSpec(parseRuleEntry(text)),
        (error: Error) => error.message.includes(text.trim()),
        JSON.stringify(text),
      );
    }
  });

  test('A-07: 10,000 rules stay within the packet budget', () => {
    const rule = (text: string) => toRuleSpec(parseRuleEntry(text));
    const allow = Array.from({ length: 10_000 }, (_, i) =>
      rule(`tcp://20.${i >> 8}.${i & 255}.0/24:${1 + (i % 1000)}-2000`),
    );
    const policy = new Policy({
      enableRouting: false,
      enableHost: false,
      allow,
      deny: [],
      guestNetworks: [],
    });
    const dst = parseIpAddress('20.39.15.9');
    let permits = 0;
    const rounds = 200_000;
    const ms = cpuOf(() => {
      for (let i = 0; i < rounds; i++) if (policy.verdict(Protocol.Tcp, dst, 2000) === 0) permits++;
    });
    const micros = (ms * 1000) / rounds;
    assert.equal(permits, rounds);
    // A packet takes a few microseconds; a walk over all rules would take twenty times this bound.
    assert.ok(micros < 5, `${micros} µs`);
  });

  test('A-08: one rule, every protocol and address form: the verdicts agree', () => {
    for (const family of [['198.51.100.1'], ['2001:db8:1::1']]) {
      for (const dst of family) {
        const open = new Lab({ allow: [isV6(dst) ? `any://[${dst}]` : `any://${dst}`] });
        attempt(open, dst);
        assert.deepEqual(
          open.kernel.reached.map((r) => `${r.protocol} ${r.address}`).sort(),
          ['icmp', 'tcp', 'udp'].map((p) => `${p} ${dst}`),
        );
        const shut = new Lab({
          allow: ['any://0.0.0.0/0', 'any://[::]/0'],
          deny: [isV6(dst) ? `any://[${dst}]` : `any://${dst}`],
        });
        attempt(shut, dst);
        assert.deepEqual(shut.kernel.reached, []);
      }
    }
  });

  test('A-02: a SYN is refused, never left without an answer, where a unicast destination is denied', () => {
    const lab = new Lab();
    const [answer] = lab.send(tcp({ dst: '192.0.2.1', flags: SYN }));
    assert.equal(answer?.flags, RST | 16);
  });
});
