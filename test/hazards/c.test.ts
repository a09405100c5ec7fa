/** Hazards C: ICMP. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ENOBUFS } from '../../src/sys/errno.ts';
import { type Datagram, EACCES, EHOSTUNREACH, ENETUNREACH, EPERM } from '../support/lab/fake-kernel.ts';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  AT_TRANSPORT4,
  AT_TRANSPORT6,
  type Decoded,
  echo,
  fragmentHeader,
  frame,
  GATEWAY4,
  GATEWAY6,
  ICMP,
  ICMP_SUM,
  ICMPV6,
  type Ip,
  icmp,
  ipv4,
  ipv6,
  isV6,
  pattern,
  reassemble,
  tcp,
  UDP,
  udp,
} from '../support/lab/packets.ts';

const families: [string, Ip, Ip][] = [
  ['IPv4', ALLOWED4, GATEWAY4],
  ['IPv6', ALLOWED6, GATEWAY6],
];

describe('hazards C: ICMP', () => {
  for (const [family, dst, gateway] of families) {
    const v6 = isV6(dst);
    const protocol = v6 ? ICMPV6 : ICMP;
    const wrap = (body: Buffer): Buffer =>
      frame(v6 ? ipv6({ next: protocol, dst }, body) : ipv4({ protocol, dst }, body));

    test(`C-01 (${family}): echo that is cut short, or has a wrong checksum`, () => {
      const lab = new Lab();
      const body = echo(dst, 1, 1).subarray(v6 ? 40 : 20);
      // An IPv6 packet with nothing in it is S-01's.
      for (let n = v6 ? 1 : 0; n < 8; n++)
        lab.expectDrop('icmp.malformed', `${n} bytes`, wrap(body.subarray(0, n)));
      for (const to of [dst, gateway]) {
        const right = frame(icmp({ dst: to }, pattern(8)));
        const at = (v6 ? AT_TRANSPORT6 : AT_TRANSPORT4) + ICMP_SUM;
        const sum = right.readUInt16BE(at);
        const drops = lab.delta(() => {
          const flood = lab.flood(65_535, [right], (f, i) => f.writeUInt16BE(sum ^ (i + 1), at));
          assert.equal(flood.answers, 0);
        });
        assert.equal(drops['drop.icmp.csum'], 65_535, 'every sum but the right one');
      }
      lab.expectDrop('icmp.malformed', 'code', frame(icmp({ dst: gateway, code: 1 }, pattern(8))));
      lab.check();
    });

    test(`C-01, RQ-54, RQ-65 (RFC 1122 §3.2.2.6, RFC 4443 §4.2, ${family}): the reply carries exactly what was sent, the first one of an identifier too, up to 64 KiB`, () => {
      const lab = new Lab();
      for (const to of [dst, gateway]) {
        for (const size of [0, 1, 56, 1400]) {
          const [reply] = lab.send(echo(to, 77, size, pattern(size, size)));
          assert.equal(reply?.icmpType, v6 ? 129 : 0);
          assert.equal(reply?.icmpRest, (77 << 16) | size);
          assert.ok(reply?.payload.equals(pattern(size, size)));
          assert.equal(reply?.src, to);
        }
      }
      const big = echo(gateway, 5, 6, pattern(65507 - 28)).subarray(v6 ? 40 : 20);
      const parts: Buffer[] = [];
      for (let at = 0; at < big.length; at += 1440) {
        const mf = at + 1440 < big.length;
        const data = big.subarray(at, at + 1440);
        parts.push(
          frame(
            v6
              ? ipv6({ next: 44, dst: gateway }, Buffer.concat([fragmentHeader(ICMPV6, at, mf, 9), data]))
              : ipv4({ id: 9, offset: at, mf, protocol, dst: gateway }, data),
          ),
        );
      }
      const reply = reassemble(lab.inject(...parts));
      assert.ok(reply.payload.equals(pattern(65507 - 28)));
      lab.check({ amplification: 1 });
    });

    test(`C-01 (${family}): 10,000 identifiers: the table is bounded and empty a minute later`, () => {
      const lab = new Lab();
      for (let id = 0; id < 10_000; id += 50) {
        const out = lab.send(
          ...Array.from({ length: 50 }, (_, i) => echo(dst, id + i, 1, pattern(8, id + i))),
        );
        assert.equal(out.filter((d) => d.icmpType === (v6 ? 129 : 0)).length, 50);
        assert.ok(lab.gauge('ping.flows') <= 1024);
      }
      lab.advance(61_000);
      assert.equal(lab.gauge('ping.flows'), 0);
      assert.equal(lab.services.descriptors.used, 0);
      lab.check({ heapMiB: 8 });
    });

    test(`C-02 (${family}): no reply for an address that nobody owns; denied and unpermitted say so`, () => {
      const lab = new Lab();
      const nobody = v6 ? '2001:db8:1::99' : '198.51.100.99';
      assert.deepEqual(lab.send(echo(nobody, 1, 1)), []);
      const prohibited = v6 ? [1, 1] : [3, 13];
      const calls = lab.kernel.calls.get('socket');
      const [denied] = lab.send(echo(v6 ? '2001:db8:77::1' : '192.0.2.1', 2, 1));
      assert.deepEqual([denied?.icmpType, denied?.icmpCode], prohibited);
      assert.equal(lab.kernel.calls.get('socket'), calls, 'no socket');
      for (const errno of [EACCES, EPERM]) {
        lab.kernel.fault = (name) => (name === 'socket' ? -errno : undefined);
        for (let id = 10; id < 20; id++) {
          lab.advance(200);
          const [error] = lab.send(echo(dst, id, 1));
          assert.deepEqual([error?.icmpType, error?.icmpCode], prohibited);
        }
        lab.kernel.fault = null;
      }
      assert.equal(lab.logs.filter((l) => /ping_group_range/.test(l.message)).length, 1, 'one log line');
      lab.check();
    });

    test(`C-02 (${family}): what the network says about an echo request reaches the guest, about its own`, () => {
      const lab = new Lab();
      const router = v6 ? '2001:db8:ffff::1' : '203.0.113.1';
      lab.send(echo(dst, 321, 7, pattern(20)));
      const { file, payload } = lab.kernel.datagrams.at(-1) as Datagram;
      // Who says so (1 = our own kernel), errno, type and code; what the guest hears, or nothing.
      const exceeded: [number, number] = v6 ? [3, 0] : [11, 0];
      const cases: [number, number, number, number, number[] | null][] = [
        [v6 ? 3 : 2, EHOSTUNREACH, ...exceeded, exceeded],
        [1, EHOSTUNREACH, 0, 0, v6 ? [1, 3] : [3, 1]],
        [1, ENETUNREACH, 0, 0, v6 ? [1, 0] : [3, 0]],
        [1, EPERM, 0, 0, v6 ? [1, 1] : [3, 13]],
        [1, ENOBUFS, 0, 0, null],
        [0, EHOSTUNREACH, 0, 0, null],
      ];
      for (const [origin, errno, type, code, expected] of cases) {
        lab.advance(500);
        const offender = origin > 1 ? router : '';
        const destination = { address: dst, port: 0 };
        file.queueError({ errno, origin, type, code, info: 0, offender, destination, payload });
        lab.run();
        const [error, ...more] = lab.take();
        assert.deepEqual(more, []);
        if (expected === null) {
          assert.equal(error, undefined);
          continue;
        }
        assert.deepEqual([error?.icmpType, error?.icmpCode], expected);
        assert.equal(error?.src, origin > 1 ? router : gateway);
        const quoted = (error as Decoded).payload.subarray(v6 ? 40 : 20);
        assert.equal(quoted.readUInt16BE(4), 321, "the guest's identifier, not the kernel's");
      }
      lab.check();
    });

    test(`C-03, RQ-20, RQ-57, RQ-58, RQ-59 (RFC 5927, RFC 6633, RFC 8201 §4, ${family}): ICMP errors from the guest are ignored, whatever they quote`, () => {
      const lab = new Lab();
      const peer = lab.connect(dst, 7);
      peer.stream?.send(pattern(40_000));
      lab.run();
      const [segment] = lab.take();
      const inFlight = (segment as Decoded).raw.subarray(14, 1014);
      const other = Buffer.from(inFlight);
      other.writeUInt32BE(0x7777, (v6 ? 40 : 20) + 4);
      const quotes = [
        inFlight,
        inFlight.subarray(0, (v6 ? 40 : 20) + 8),
        inFlight.subarray(0, 19),
        Buffer.alloc(0),
        other,
        tcp({ dst, dstPort: 81 }),
        icmp({ dst, type: 3 }),
        udp({ dst, dstPort: 9 }),
      ];
      const types: [number, number, number][] = [];
      if (v6) {
        for (let code = 0; code < 8; code++) types.push([1, code, 0]);
        for (const mtu of [0, 68, 1279, 1280, 65535, 0xffffffff]) types.push([2, 0, mtu]);
        types.push([3, 0, 0], [3, 1, 0], [4, 0, 0], [4, 1, 6]);
      } else {
        for (let code = 0; code < 16; code++) types.push([3, code, 0]);
        for (const mtu of [0, 68, 575, 1279, 65535]) types.push([3, 4, mtu]);
        types.push([11, 0, 0], [11, 1, 0], [12, 0, 0], [4, 0, 0], [5, 0, 0x0a000263], [5, 1, 0]);
      }
      for (const [type, code, rest] of types)
        for (const quote of quotes)
          lab.expectDrop(
            'icmp.ignored',
            `${type}/${code} ${rest}`,
            frame(icmp({ dst, type, code, rest }, quote)),
          );
      // The connection went on as if nothing had been said, with segments of the same size.
      peer.absorb([segment as Decoded]);
      lab.advance(1000);
      peer.absorb(lab.take());
      lab.check();
    });

    test(`C-04, RQ-53, RQ-64 (RFC 1122 §3.2.2, RFC 4443 §2.4, ${family}): no error about groups, invalid sources, later fragments and errors`, () => {
      const lab = new Lab();
      const group = v6 ? 'ff02::1' : '224.0.0.1';
      const silent = v6
        ? [
            udp({ dst: group, dstPort: 9 }),
            udp({ dst, src: 'ff02::7' }),
            udp({ dst, src: '::' }),
            ipv6(
              { next: 44, dst: gateway },
              Buffer.concat([fragmentHeader(UDP, 1480, false, 3), pattern(8)]),
            ),
            icmp({ dst: gateway, type: 1, code: 4 }, udp({ dst })),
            icmp({ dst: gateway, type: 137 }, udp({ dst })),
            ipv6({ next: 200, dst: group }, pattern(8)),
          ]
        : [
            udp({ dst: group, dstPort: 9 }),
            udp({ dst: '10.0.2.255', dstPort: 9 }),
            udp({ dst, src: '224.0.0.7' }),
            udp({ dst, src: '0.0.0.0' }),
            ipv4({ offset: 1480, dst: gateway, protocol: UDP, id: 3 }, pattern(8)),
            ipv4({ offset: 1480, dst: gateway, protocol: 200, id: 4 }, pattern(8)),
            icmp({ dst: gateway, type: 3, code: 3 }, udp({ dst })),
            ipv4({ protocol: 200, dst: group }, pattern(8)),
            ipv4({ protocol: 200, dst: '10.0.2.255' }, pattern(8)),
            ipv4({ protocol: 200, dst: '10.0.2.0' }, pattern(8)),
            ipv4({ ttl: 1, dst: '10.0.2.255' }, pattern(8)),
            tcp({ dst: '10.0.2.255' }),
          ];
      for (const packet of silent) assert.deepEqual(lab.send(packet), []);
      lab.check();
    });

    test(`C-04, RQ-53 (RFC 1122 §3.2.2, ${family}): an error about what came in fragments quotes the datagram, not its last part`, () => {
      const lab = new Lab();
      const body = pattern(2000);
      const parts = [0, 1440].map((at) => {
        const data = body.subarray(at, at + 1440);
        return v6
          ? ipv6({ next: 44, dst }, Buffer.concat([fragmentHeader(200, at, at === 0, 5), data]))
          : ipv4({ offset: at, mf: at === 0, dst, protocol: 200, id: 5 }, data);
      });
      const [error, ...rest] = lab.send(...parts);
      assert.deepEqual(rest, []);
      assert.deepEqual([error?.icmpType, error?.icmpCode], v6 ? [4, 1] : [3, 2]);
      // The pointer is at what names the protocol, in the header that is quoted.
      assert.equal(error?.icmpRest, v6 ? 6 : 0);
      const quote = error?.payload ?? Buffer.alloc(0);
      const headerLength = v6 ? 40 : 20;
      assert.equal(quote[v6 ? 6 : 9], 200);
      assert.equal(v6 ? quote.readUInt16BE(4) : quote.readUInt16BE(2) - 20, body.length);
      if (!v6) assert.equal(quote.readUInt16BE(6) & 0x3fff, 0);
      assert.ok(quote.subarray(headerLength).equals(body.subarray(0, quote.length - headerLength)));
      assert.ok(quote.length >= headerLength + 8);
      lab.check();
    });

    test(`C-04 (${family}): 100,000 datagrams to closed ports in a second: errors at the limit, at random`, () => {
      const counts = new Set<number>();
      for (const seed of [1, 2, 3]) {
        const lab = new Lab({ seed });
        const batch = Array.from({ length: 100 }, (_, i) =>
          udp({ dst: gateway, dstPort: 10_000 + i }, pattern(40)),
        );
        let errors = 0;
        for (let ms = 0; ms < 1000; ms++) {
          errors += lab.send(...batch).length;
          lab.now += 1;
        }
        // 100 a second and 50 at once, the refill between half and one and a half of that.
        assert.ok(errors > 60 && errors <= 220, `${errors} errors`);
        counts.add(errors);
        assert.equal(lab.counter('icmp.errors_suppressed'), 100_000 - errors);
        assert.ok(lab.bytesOut < lab.bytesIn / 100, 'G-5');
        lab.advance(2000);
        lab.check();
      }
      assert.ok(counts.size > 1, 'no exact number to count on');
    });
  }

  test('C-04: timestamp, address mask, information and router requests', () => {
    const lab = new Lab();
    for (const dst of [GATEWAY4, ALLOWED4])
      for (const type of [1, 2, 6, 7, 9, 10, 13, 14, 15, 16, 17, 18, 19, 30, 40, 42, 255])
        lab.expectDrop('icmp.type', `${type}`, frame(icmp({ dst, type }, pattern(20))));
    lab.expectDrop(
      'icmp.type',
      'a reply nobody asked for',
      frame(icmp({ dst: ALLOWED4, type: 0, rest: 1 }, pattern(20))),
    );
    for (const type of [100, 127, 129, 138, 139, 140, 141, 148, 160, 200, 255])
      lab.expectDrop('icmp.type', `ICMPv6 ${type}`, frame(icmp({ dst: GATEWAY6, type }, pattern(20))));
    lab.check();
  });

  test('C-04, RQ-53, RQ-64 (RFC 1812 §4.3.2.3, RFC 4443 §2.4): errors carry no more than the RFCs allow, and the packet they are about', () => {
    const lab = new Lab();
    const [v4] = lab.send(udp({ dst: GATEWAY4, dstPort: 9 }, pattern(1400)));
    assert.equal(v4?.transport.length, 576 - 20, 'RFC 1812 §4.3.2.3');
    const [v6] = lab.send(udp({ dst: GATEWAY6, dstPort: 9 }, pattern(1400)));
    assert.equal(v6?.raw.length, 1280 + 14, 'RFC 4443 §2.4 (c)');
    assert.ok(
      v6?.payload.subarray(0, 40).equals(udp({ dst: GATEWAY6, dstPort: 9 }, pattern(1400)).subarray(0, 40)),
    );
    lab.check();
  });
});
