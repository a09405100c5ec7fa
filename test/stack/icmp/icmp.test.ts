/** Which packets are answered with an ICMP error. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab } from '../../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  fragmentHeader,
  frame,
  GATEWAY4,
  GUEST4,
  GUEST6,
  ICMP,
  ICMPV6,
  type Ip,
  icmp,
  ipv4,
  ipv6,
  isV6,
  optionsHeader,
  pattern,
} from '../../support/lab/packets.ts';

const ERRORS4 = [3, 4, 5, 11, 12];
const ERRORS6 = [1, 2, 3, 4, 100, 127, 137];

describe('Icmp', () => {
  test('review OR-6: no ICMP error about an ICMP error (RFC 1122 §3.2.2, RFC 4443 §2.4 (e.1, e.2))', () => {
    const lab = new Lab();
    /** How many answers a message gets whose hop limit ends here. */
    const onLastHop = (type: number, dst: Ip): number =>
      lab.send(icmp({ dst, type, ttl: 1 }, pattern(40))).length;
    for (const type of ERRORS4) assert.equal(onLastHop(type, ALLOWED4), 0, `ICMP type ${type}`);
    for (const type of ERRORS6) assert.equal(onLastHop(type, ALLOWED6), 0, `ICMPv6 type ${type}`);
    for (const type of [0, 8, 13]) assert.equal(onLastHop(type, ALLOWED4), 1, `ICMP type ${type}`);
    for (const type of [128, 129]) assert.equal(onLastHop(type, ALLOWED6), 1, `ICMPv6 type ${type}`);
    lab.check();
  });

  test('review OR-6: nor about one in fragments, whole or never whole, or behind extension headers', () => {
    const lab = new Lab();
    const message = (type: number, dst: Ip): Buffer =>
      icmp({ dst, type, ttl: 1 }, pattern(56)).subarray(isV6(dst) ? 40 : 20);
    const parts4 = (type: number): Buffer[] => {
      const m = message(type, ALLOWED4);
      const fields = { src: GUEST4, dst: ALLOWED4, protocol: ICMP, id: type, df: false, ttl: 1 };
      return [
        frame(ipv4({ ...fields, mf: true }, m.subarray(0, 32))),
        frame(ipv4({ ...fields, offset: 32 }, m.subarray(32))),
      ];
    };
    const parts6 = (type: number): Buffer[] => {
      const m = message(type, ALLOWED6);
      const fields = { src: GUEST6, dst: ALLOWED6, next: 44, hops: 1 };
      return [
        frame(ipv6(fields, Buffer.concat([fragmentHeader(ICMPV6, 0, true, type), m.subarray(0, 32)]))),
        frame(ipv6(fields, Buffer.concat([fragmentHeader(ICMPV6, 32, false, type), m.subarray(32)]))),
      ];
    };
    // Others are router advertisements.
    const expired = (): number =>
      lab.advance(61_000).filter((d) => d.icmpType === 11 || d.icmpType === 3).length;
    for (const [parts, error, query] of [
      [parts4, 3, 8],
      [parts6, 1, 128],
    ] as const) {
      assert.equal(lab.inject(...parts(error)).length, 0);
      assert.equal(lab.inject(...parts(query)).length, 1);
      // Never whole: time exceeded is told of queries only.
      lab.inject(parts(error)[0] as Buffer);
      assert.equal(expired(), 0);
      lab.inject(parts(query)[0] as Buffer);
      assert.equal(expired(), 1);
    }
    // An unknown option that asks for an error, then the ICMPv6 message.
    const behindOption = (type: number): Buffer =>
      ipv6(
        { src: GUEST6, dst: ALLOWED6, next: 60, hops: 64 },
        Buffer.concat([optionsHeader(ICMPV6, Buffer.from([0x80, 4, 0, 0, 0, 0])), message(type, ALLOWED6)]),
      );
    assert.equal(lab.send(behindOption(1)).length, 0);
    assert.equal(lab.send(behindOption(128)).length, 1);
    // Cut short in its headers: nothing can be said of what it carries.
    assert.equal(lab.send(ipv4({ src: GUEST4, dst: GATEWAY4, protocol: 99 }, Buffer.alloc(0))).length, 1);
    lab.check();
  });
});
