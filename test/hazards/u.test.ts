/** Hazards U: UDP. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Datagram,
  EACCES,
  ECONNREFUSED,
  EHOSTUNREACH,
  EMSGSIZE,
  ENETUNREACH,
  ENOBUFS,
  EPERM,
} from '../support/lab/fake-kernel.ts';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  AT_TRANSPORT4,
  AT_TRANSPORT6,
  type Decoded,
  DNS4,
  DNS6,
  fragmentHeader,
  frame,
  GATEWAY4,
  GUEST4,
  type Ip,
  icmp,
  ip,
  ipv4,
  ipv6,
  isV6,
  pattern,
  reassemble,
  UDP,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';

const families: [string, Ip][] = [
  ['IPv4', ALLOWED4],
  ['IPv6', ALLOWED6],
];

/** A flow from port 4000 to `dst`, and the last datagram of it with the socket it left by. */
function openFlow(lab: Lab, dst: Ip, srcPort = 4000): Datagram {
  lab.send(udp({ dst, srcPort, dstPort: 9 }, Buffer.from('open')));
  return lab.kernel.datagrams.at(-1) as Datagram;
}

function deliver(lab: Lab, d: Datagram, payload: Buffer, from: { address: Ip; port: number } = d): Decoded[] {
  d.file.deliver({ address: from.address, port: from.port }, payload);
  lab.run();
  return lab.take();
}

const EIO = 5;
const EINVAL = 22;

describe('hazards U: UDP', () => {
  for (const [family, dst] of families) {
    test(`U-01, RQ-55 (RFC 768, RFC 1122 §4.1.3, ${family}): lengths that cannot be, trailing bytes, checksums`, () => {
      const lab = new Lab();
      const payload = pattern(20);
      const length = (n: number): Buffer =>
        frame(ip(isV6(dst) ? 'fd00::100' : GUEST4, dst, UDP, udpDatagram({ dst, length: n }, payload)));
      // Every length but those from the header's to the packet's.
      const at = (isV6(dst) ? AT_TRANSPORT6 : AT_TRANSPORT4) + 4;
      const drops = lab.delta(() => {
        const flood = lab.flood(65_536, [length(0)], (f, i) =>
          f.writeUInt16BE(i >= 8 && i <= 28 ? 0 : i, at),
        );
        assert.equal(flood.answers, 0);
      });
      assert.equal(drops['drop.udp.malformed'], 65_536);
      for (let n = 1; n < 8; n++)
        lab.expectDrop(
          'udp.malformed',
          `${n} bytes`,
          frame(ip(isV6(dst) ? 'fd00::100' : GUEST4, dst, UDP, udpDatagram({ dst }).subarray(0, n))),
        );
      const right = frame(udp({ dst }, payload));
      const sum = right.readUInt16BE(at + 2);
      const bad = lab.delta(() => {
        // Zero is none, which is another matter.
        const flood = lab.flood(65_536, [right], (f, i) =>
          f.writeUInt16BE(i === sum || i === 0 ? sum ^ 1 : i, at + 2),
        );
        assert.equal(flood.answers, 0);
      });
      assert.equal(bad['drop.udp.csum'], 65_536, 'every sum but the right one');
      // Smaller than the packet: what lies behind is cut off, and the checksum covers what is stated.
      const short = udpDatagram({ dst, dstPort: 9 }, payload.subarray(0, 12));
      lab.inject(
        frame(ip(isV6(dst) ? 'fd00::100' : GUEST4, dst, UDP, Buffer.concat([short, Buffer.alloc(8, 0x5a)]))),
      );
      assert.equal(lab.kernel.datagrams.length, 1);
      assert.ok(lab.kernel.datagrams[0]?.payload.equals(payload.subarray(0, 12)));
      lab.check();
    });

    test(`U-02 (${family}): a thousand empty datagrams each way; the flow stays and nothing spins`, () => {
      const lab = new Lab();
      const flow = openFlow(lab, dst);
      for (let i = 0; i < 1000; i += 50)
        lab.send(...Array.from({ length: 50 }, () => udp({ dst, srcPort: 4000, dstPort: 9 })));
      assert.equal(lab.kernel.datagrams.filter((d) => d.payload.length === 0).length, 1000);
      let back = 0;
      for (let i = 0; i < 1000; i += 10) {
        for (let j = 0; j < 10; j++) flow.file.deliver(flow, Buffer.alloc(0));
        lab.run();
        back += lab.take().filter((d) => d.dstPort === 4000 && d.payload.length === 0).length;
      }
      assert.equal(back, 1000);
      const waits = lab.kernel.calls.get('epoll_wait') as number;
      lab.run();
      assert.ok((lab.kernel.calls.get('epoll_wait') as number) - waits <= 1, 'at rest');
      assert.equal(lab.gauge('udp.flows'), 1);
      lab.check();
    });

    test(`U-03, RQ-55 (RFC 768, ${family}): the largest datagrams both ways, and the edges between two sent back to back`, () => {
      const lab = new Lab();
      const most = isV6(dst) ? 65487 : 65507;
      const big = pattern(most, 5);
      const flow = openFlow(lab, dst);
      const body = udpDatagram({ dst, srcPort: 4000, dstPort: 9 }, big);
      // In fragments, as the guest's kernel sends it.
      const parts: Buffer[] = [];
      for (let at = 0; at < body.length; at += 1440) {
        const mf = at + 1440 < body.length;
        const data = body.subarray(at, at + 1440);
        parts.push(
          frame(
            isV6(dst)
              ? ipv6({ next: 44 }, Buffer.concat([fragmentHeader(UDP, at, mf, 77), data]))
              : ipv4({ id: 77, offset: at, mf, protocol: UDP }, data),
          ),
        );
      }
      lab.inject(...parts);
      assert.ok(lab.kernel.datagrams.at(-1)?.payload.equals(big));
      assert.ok(reassemble(deliver(lab, flow, big)).payload.equals(big));
      lab.kernel.datagrams.length = 0;
      for (let i = 0; i < 10_000; i += 40) {
        const pairs = Array.from({ length: 40 }, (_, j) =>
          udp({ dst, srcPort: 4000, dstPort: 9 }, pattern(1 + ((i + j) % 90), i + j)),
        );
        lab.send(...pairs);
      }
      assert.equal(lab.kernel.datagrams.length, 10_000);
      lab.kernel.datagrams.forEach((d, i) => {
        assert.ok(d.payload.equals(pattern(1 + (i % 90), i)), `datagram ${i}`);
      });
      lab.check({ heapMiB: 16 });
    });

    test(`U-03, RQ-56 (RFC 1191 §4, ${family}): a datagram that the path does not take becomes "too big" with the MTU`, () => {
      const lab = new Lab();
      const flow = openFlow(lab, dst);
      lab.kernel.fault = (name) => (/^send(to|msg)?$/.test(name) ? -EMSGSIZE : undefined);
      lab.send(udp({ dst, srcPort: 4000, dstPort: 9 }, pattern(1400)));
      lab.kernel.fault = null;
      flow.file.queueError({
        errno: EMSGSIZE,
        origin: 1,
        type: 0,
        code: 0,
        info: 1280,
        offender: '',
        destination: { address: dst, port: 9 },
        payload: pattern(1400),
      });
      lab.run();
      const [error] = lab.take();
      assert.deepEqual(
        [error?.icmpType, error?.icmpCode, error?.icmpRest],
        isV6(dst) ? [2, 0, 1280] : [3, 4, 1280],
      );
      lab.check();
    });

    test(`U-05 (${family}): a sender that the guest may not reach is dropped; one that it may reach gets through`, () => {
      const lab = new Lab();
      const flow = openFlow(lab, dst);
      const stranger = isV6(dst) ? '2001:db8:77::1' : '192.0.2.1';
      const onLink = isV6(dst) ? 'fd00::2' : '10.0.2.2';
      const drops = lab.delta(() => {
        for (const from of [stranger, onLink, isV6(dst) ? '::1' : '127.0.0.1'])
          assert.deepEqual(deliver(lab, flow, Buffer.from('evil'), { address: from, port: 9 }), []);
      });
      assert.equal(drops['drop.udp.peer'], 3);
      // Endpoint-independent mapping: another port of an allowed host may answer (RFC 4787 REQ-1).
      const [other] = deliver(lab, flow, Buffer.from('other'), { address: dst, port: 1234 });
      assert.equal(other?.srcPort, 1234);
      lab.check();
    });

    test(`U-05 (${family}): errors of the host socket become ICMP about the guest's own datagram, and nothing spins`, () => {
      const lab = new Lab();
      const flow = openFlow(lab, dst);
      const v6 = isV6(dst);
      const router = v6 ? '2001:db8:ffff::1' : '203.0.113.1';
      const unreachable: [number, number, number][] = v6
        ? [
            [ECONNREFUSED, 1, 4],
            [EHOSTUNREACH, 1, 3],
            [ENETUNREACH, 1, 0],
            [EHOSTUNREACH, 3, 0],
          ]
        : [
            [ECONNREFUSED, 3, 3],
            [EHOSTUNREACH, 3, 1],
            [ENETUNREACH, 3, 0],
            [EHOSTUNREACH, 11, 0],
          ];
      for (const [errno, type, code] of unreachable) {
        flow.file.queueError({
          errno,
          origin: v6 ? 3 : 2,
          type,
          code,
          info: 0,
          offender: router,
          destination: { address: dst, port: 9 },
          payload: Buffer.from('open'),
        });
        lab.run();
        const [error, ...more] = lab.take();
        assert.deepEqual(more, []);
        assert.deepEqual([error?.src, error?.icmpType, error?.icmpCode], [router, type, code]);
        const quoted = error?.payload.subarray(v6 ? 40 : 20) as Buffer;
        assert.deepEqual([quoted.readUInt16BE(0), quoted.readUInt16BE(2)], [4000, 9]);
        lab.advance(1000);
      }
      const before = lab.kernel.calls.get('epoll_wait') as number;
      for (const errno of [ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EPERM, EACCES, ENOBUFS]) {
        let times = 3;
        lab.kernel.fault = (name) =>
          /^(send(to|msg)?|recvmmsg)$/.test(name) && times-- > 0 ? -errno : undefined;
        lab.send(udp({ dst, srcPort: 4000, dstPort: 9 }, Buffer.from('again')));
        lab.kernel.fault = null;
      }
      assert.ok((lab.kernel.calls.get('epoll_wait') as number) - before < 100, 'no spin');
      lab.kernel.datagrams.length = 0;
      lab.send(udp({ dst, srcPort: 4000, dstPort: 9 }, Buffer.from('alive')));
      assert.equal(lab.kernel.datagrams[0]?.payload.toString(), 'alive');
      assert.equal(lab.gauge('udp.flows'), 1);
      lab.check();
    });

    test(`U-06 (${family}): port 0, and groups of every kind`, () => {
      const lab = new Lab({
        allow: ['any://0.0.0.0/0', 'any://[::]/0'],
        policy: { enableRouting: true, enableHost: true },
      });
      lab.mayReach = (address) => address === ALLOWED4 || address === ALLOWED6;
      lab.expectDrop('udp.port0', 'destination', frame(udp({ dst, dstPort: 0 })));
      lab.expectDrop('udp.port0', 'source', frame(udp({ dst, srcPort: 0 })));
      const groups = isV6(dst)
        ? ['ff02::1', 'ff02::fb', 'ff05::1:3', 'ff0e::1']
        : ['255.255.255.255', '10.0.2.255', '10.0.2.0', '224.0.0.251', '239.1.1.1', '240.0.0.1'];
      for (const group of groups) lab.expectDrop('udp.group', group, frame(udp({ dst: group, dstPort: 9 })));
      lab.check();
    });
  }

  for (const [errno, name, singly] of [
    [ENOBUFS, 'a full queue', 0],
    [EPERM, "a rule of the host's firewall", 0],
    [EINVAL, 'a route with a smaller MTU', 1],
    [EIO, 'no checksum offload', 1],
  ] as const) {
    test(`review OR-22: datagrams go on leaving in one call: ${name}${singly ? ' does not let them' : ''}`, () => {
      const lab = new Lab();
      const calls = (): number =>
        (lab.kernel.calls.get('sendmsg') ?? 0) + (lab.kernel.calls.get('sendto') ?? 0);
      const train = (): number => {
        const before = calls();
        lab.kernel.forget();
        lab.send(...Array.from({ length: 8 }, (_, i) => udp({ srcPort: 4000, dstPort: 9 }, pattern(500, i))));
        if (lab.kernel.fault === null) assert.equal(lab.kernel.datagrams.length, 8);
        return calls() - before;
      };
      assert.equal(train(), 1);
      lab.kernel.fault = (call) => (call === 'sendmsg' ? -errno : undefined);
      train();
      lab.kernel.fault = null;
      assert.equal(train(), singly ? 8 : 1);
      lab.check();
    });
  }

  test('U-01: no checksum is right in IPv4 and wrong in IPv6', () => {
    const lab = new Lab();
    lab.send(udp({ dstPort: 9, checksum: 0 }, Buffer.from('sum')));
    assert.equal(lab.kernel.datagrams[0]?.payload.toString(), 'sum');
    lab.expectDrop(
      'udp.csum0',
      'IPv6',
      frame(udp({ dst: ALLOWED6, dstPort: 9, checksum: 0 }, Buffer.from('sum'))),
    );
    lab.check();
  });

  test('U-04: 60,000 source ports to a resolver: the oldest give way, TCP is not touched, reuse works at once', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 7);
    lab.kernel.keepDatagrams = false;
    for (let port = 1024; port < 61_024; port += 50) {
      lab.send(
        ...Array.from({ length: 50 }, (_, i) => udp({ srcPort: port + i, dstPort: 53 }, Buffer.alloc(12))),
      );
      assert.ok(lab.gauge('udp.flows') <= 4096);
      // Six thousand a second; above 8192 they are dropped instead of making others give way.
      lab.now += 8;
    }
    assert.ok(lab.counter('udp.evicted') >= 60_000 - 4096);
    assert.ok(peer.sendData(pattern(1000)).equals(pattern(1000)));
    // DNS flows end seconds after.
    lab.advance(11_000);
    assert.equal(lab.gauge('udp.flows'), 0);
    assert.equal(lab.services.descriptors.used, 1, 'the TCP flow is left');
    lab.kernel.keepDatagrams = true;
    const reply = lab.send(udp({ srcPort: 1024, dstPort: 7 }, Buffer.from('reuse')));
    assert.equal(reply[0]?.payload.toString(), 'reuse');
    lab.check({ heapMiB: 16 });
  });

  test('U-04: a closed port of a host, asked again and again: answered by us for the rest of the second', () => {
    const lab = new Lab();
    const { onDatagram } = lab.kernel;
    lab.kernel.onDatagram = (d) => {
      onDatagram(d);
      if (d.protocol !== 'udp' || d.port !== 9) return;
      const { address, port, payload } = d;
      d.file.queueError({
        errno: ECONNREFUSED,
        origin: 2,
        type: 3,
        code: 3,
        info: 0,
        offender: address,
        destination: { address, port },
        payload,
      });
    };
    const sent = (): number => lab.kernel.datagrams.filter((d) => d.port === 9).length;
    for (let i = 0; i < 20; i++)
      lab.send(
        ...Array.from({ length: 50 }, (_, j) => udp({ srcPort: 5000 + j, dstPort: 9 }, Buffer.from('no'))),
      );
    assert.ok(sent() >= 200 && sent() <= 300, `${sent()} of 1000`);
    assert.equal(lab.counter('udp.refused'), 1000 - sent());
    // Other ports are not affected, and this one is asked again.
    assert.equal(lab.send(udp({ srcPort: 5000, dstPort: 7 }, Buffer.from('yes')))[0]?.srcPort, 7);
    const before = sent();
    lab.now += 1000;
    const [error] = lab.send(udp({ srcPort: 5000, dstPort: 9 }));
    assert.equal(sent(), before + 1);
    assert.equal(error?.icmpType, 3);
    const refused = lab.counter('udp.refused');
    lab.send(udp({ srcPort: 5000, dstPort: 9 }));
    assert.equal(lab.counter('udp.refused'), refused);
    lab.check();
  });

  test('U-04: the same to our own DNS address, with a resolver that never answers', () => {
    const lab = new Lab();
    const query = (id: number): Buffer => {
      const q = Buffer.from('00000100000100000000000003777777076578616d706c6503636f6d0000010001', 'hex');
      q.writeUInt16BE(id & 0xffff);
      return q;
    };
    const most = lab.services.limits.dnsMaxOutstanding;
    let refused = 0;
    for (let port = 1024; port < 61_024; port += 50) {
      const out = lab.send(
        ...Array.from({ length: 50 }, (_, i) =>
          udp({ dst: DNS4, srcPort: port + i, dstPort: 53 }, query(port + i)),
        ),
      );
      refused += out.length;
      assert.ok(lab.gauge('dns.outstanding') <= most);
      lab.kernel.datagrams.length = 0;
    }
    assert.equal(refused, 0, 'nobody is refused: the oldest give way');
    assert.equal(lab.counter('drop.dns.limit'), 60_000 - most);
    assert.ok(lab.services.descriptors.used < 100);
    const late = lab.advance(5000);
    assert.equal(late.filter((d) => ((d.payload[3] as number) & 15) === 2).length, most);
    assert.equal(lab.gauge('dns.outstanding'), 0);
    lab.advance(11_000);
    assert.equal(lab.services.descriptors.used, 0);
    lab.check({ heapMiB: 16 });
  });

  test('U-06: answers are not answered: QR=1 to the DNS address from ports 53 and 19', () => {
    const lab = new Lab();
    const answer = Buffer.from('00078180000100000000000003777777076578616d706c6503636f6d0000010001', 'hex');
    for (const dst of [DNS4, DNS6])
      for (const srcPort of [53, 19])
        lab.expectDrop('dns.response', `${srcPort}`, frame(udp({ dst, srcPort, dstPort: 53 }, answer)));
    lab.check();
  });

  test('U-05: a guest port on which nobody listens is told by ICMP, which is ignored and loops nothing', () => {
    const lab = new Lab();
    const flow = openFlow(lab, ALLOWED4);
    const [datagram] = deliver(lab, flow, Buffer.from('to nobody'));
    lab.expectDrop(
      'icmp.ignored',
      'port unreachable',
      frame(icmp({ type: 3, code: 3, dst: ALLOWED4 }, (datagram as Decoded).raw.subarray(14))),
    );
    assert.equal(lab.gauge('udp.flows'), 1);
    assert.equal(lab.send(udp({ dst: GATEWAY4, dstPort: 9 }))[0]?.icmpType, 3);
    lab.check();
  });
});
