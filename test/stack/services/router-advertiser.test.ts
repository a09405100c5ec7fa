import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultAddresses as plan } from '../../../src/config.ts';
import { OwnAddresses } from '../../../src/stack/ip/own-addresses.ts';
import { RouterAdvertiser } from '../../../src/stack/services/router-advertiser.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { icmp6Checksum } from '../../../src/stack/wire/icmp.ts';
import { Ipv6Header } from '../../../src/stack/wire/ipv6.ts';
import { SearchDomains } from '../../../src/stack/wire/search-domains.ts';
import { seededRng } from '../../support/seeded-rng.ts';

const own = new OwnAddresses(plan);
const out = new DataView(new ArrayBuffer(256));
const OFF = 10;

function make(seed = 1, rdnss = [own.dns6]): RouterAdvertiser {
  return new RouterAdvertiser(own, 1500, rdnss, seededRng(seed));
}

/** Options by type, as hex of what follows type and length. */
function options(len: number): Record<number, string> {
  const found: Record<number, string> = {};
  for (let p = OFF + 16; p < OFF + len; p += 8 * out.getUint8(p + 1))
    found[out.getUint8(p)] = Buffer.from(out.buffer, p + 2, 8 * out.getUint8(p + 1) - 2).toString('hex');
  return found;
}

function solicit(
  ra: RouterAdvertiser,
  src: string,
  nowMs: number,
  linkOption = false,
  hopLimit = 255,
): number {
  const ip = new Ipv6Header();
  ip.src.copyFrom(parseIpAddress(src));
  ip.dst.copyFrom(parseIpAddress('ff02::2'));
  ip.hopLimit = hopLimit;
  const view = new DataView(new ArrayBuffer(32));
  view.setUint8(4, 133);
  view.setUint16(12, 0x0101);
  view.setUint16(14, 0x0200);
  return ra.onSolicitation(view, 4, linkOption ? 16 : 8, ip, nowMs, out, OFF);
}

describe('router advertisement', () => {
  test('pasta §7: the prefix is that of the guest’s address where the router has none of it', () => {
    const shared = new OwnAddresses(
      { ...plan, guest6: '2001:db8::10', gateway6: 'fe80::1', linkLocal6: 'fe80::1' },
      { sharedNetwork: true },
    );
    const ra = new RouterAdvertiser(shared, 1500, [], seededRng(1), null, true);
    ra.start(0);
    const found = options(ra.onTimeout(0, out, OFF));
    assert.equal(ra.src.toString(), 'fe80::1');
    // Addresses are to be had by DHCPv6.
    assert.equal(out.getUint8(OFF + 5), 0x80);
    assert.equal(found[3]?.slice(0, 4), '40c0');
    assert.equal(found[3]?.slice(-32), '20010db8000000000000000000000000');
  });

  test('pasta §15.2: nothing is told without a network; another is told of at once', () => {
    const plan6 = { ...plan, guest6: '', gateway6: 'fe80::1', linkLocal6: 'fe80::1' };
    const shared = new OwnAddresses(plan6, { sharedNetwork: true });
    const ra = new RouterAdvertiser(shared, 1500, [], seededRng(1));
    ra.start(0);
    assert.equal(ra.nextTimeoutMs(), Number.POSITIVE_INFINITY);
    assert.equal(ra.onTimeout(5, out, OFF), 0);
    assert.equal(solicit(ra, 'fe80::9', 5), DropReason.NdIgnored);
    for (const [at, network] of [
      [10, '20010db8000000070000000000000000'],
      [20, '20010db8000000080000000000000000'],
    ] as const) {
      shared.change({ ...plan6, guest6: `2001:db8:0:${network.at(15)}::5` });
      ra.changeAddresses(shared, at);
      assert.equal(ra.nextTimeoutMs(), at);
      assert.equal(options(ra.onTimeout(at, out, OFF))[3]?.slice(-32), network);
    }
  });

  test('content: hop limit 64, lifetime 1800 s, MAC, MTU, prefix with L and A, RDNSS; right checksum', () => {
    const ra = make();
    ra.start(0);
    const len = ra.onTimeout(0, out, OFF);
    assert.equal(ra.src.toString(), 'fe80::2');
    assert.equal(ra.dst.toString(), 'ff02::1');
    assert.equal(icmp6Checksum(out, OFF, len, ra.src, ra.dst), 0);
    assert.equal(out.getUint16(OFF), 0x8600);
    assert.equal(out.getUint8(OFF + 4), 64);
    assert.equal(out.getUint8(OFF + 5), 0);
    assert.equal(out.getUint16(OFF + 6), 1800);
    assert.deepEqual(options(len), {
      1: '52550a000202',
      5: '0000000005dc',
      3: `40c0${'00278d00'}${'00093a80'}00000000fd00${'0'.repeat(28)}`,
      25: `0000${'00000708'}fd00${'0'.repeat(27)}3`,
    });
  });

  test('review OP-15: domains for short names as DNSSL, followed (RFC 8106 §5.2)', () => {
    const search = new SearchDomains();
    const ra = new RouterAdvertiser(own, 1500, [own.dns6], seededRng(1), search);
    ra.start(0);
    assert.equal(31 in options(ra.onTimeout(0, out, OFF)), false);
    search.set(['corp.example', 'a.b']);
    const len = solicit(ra, 'fe80::9', 5000);
    assert.equal(icmp6Checksum(out, OFF, len, ra.src, ra.dst), 0);
    const names = Buffer.from('\x04corp\x07example\0\x01a\x01b\0').toString('hex');
    assert.equal(options(len)[31], `000000000708${names}${'0'.repeat(10)}`);
  });

  test('another MTU is in the next advertisement; one that IPv6 cannot have is in none', () => {
    const ra = make(1);
    ra.start(0);
    ra.changeMtu(9000);
    assert.equal(options(ra.onTimeout(0, out, OFF))[5], '000000002328');
    ra.changeMtu(1279);
    assert.equal(options(ra.onTimeout(ra.nextTimeoutMs(), out, OFF))[5], undefined);
  });

  test('without DNS there is no RDNSS option; a prefix that is not a /64 is not for autoconfiguration', () => {
    const ra = make(1, []);
    ra.start(0);
    assert.equal(options(ra.onTimeout(0, out, OFF))[25], undefined);
    const wide = new RouterAdvertiser(new OwnAddresses({ ...plan, prefix6: 48 }), 1500, [], seededRng(1));
    wide.start(0);
    assert.equal(options(wide.onTimeout(0, out, OFF))[3]?.slice(0, 4), '3080');
  });

  test('RFC 4861 §6.2.4: three at start, 16 s apart, then 200 to 600 s, at random', () => {
    const ra = make(7);
    assert.equal(ra.nextTimeoutMs(), Number.POSITIVE_INFINITY);
    assert.equal(ra.onTimeout(5, out, OFF), 0);
    ra.start(100);
    const gaps: number[] = [];
    let nowMs = 100;
    for (let i = 0; i < 50; i++) {
      assert.equal(ra.onTimeout(ra.nextTimeoutMs() - 1, out, OFF), 0);
      assert.ok(ra.onTimeout(ra.nextTimeoutMs(), out, OFF) > 0, 'due');
      gaps.push(ra.nextTimeoutMs() - nowMs);
      nowMs = ra.nextTimeoutMs();
    }
    assert.deepEqual(gaps.slice(0, 2), [16_000, 16_000]);
    const later = gaps.slice(2);
    assert.ok(Math.min(...later) >= 200_000 && Math.max(...later) <= 600_000, String(later));
    assert.ok(Math.max(...later) - Math.min(...later) > 200_000, 'spread');
  });
});

describe('review O-2: the first advertisement', () => {
  test('waits until the guest asks, or uses its link-local address', () => {
    const ra = make();
    assert.equal(ra.nextTimeoutMs(), Number.POSITIVE_INFINITY);
    ra.start(5000);
    assert.equal(ra.nextTimeoutMs(), 5000);
    assert.ok(ra.onTimeout(5000, out, OFF) > 0);
    // Once only.
    ra.start(5001);
    assert.equal(ra.nextTimeoutMs(), 21_000);
  });

  test('waits for the end of the last address probe', () => {
    const ra = make();
    ra.onProbe(1000);
    ra.onProbe(2000);
    assert.equal(ra.nextTimeoutMs(), 3500);
    assert.equal(ra.onTimeout(3499, out, OFF), 0);
    assert.ok(ra.onTimeout(3500, out, OFF) > 0);
    // Probes for the address that it told of.
    ra.onProbe(3600);
    assert.equal(ra.nextTimeoutMs(), 19_500);
  });

  test('is the answer, where the guest asks; those to all nodes follow', () => {
    const ra = make();
    assert.ok(solicit(ra, 'fe80::abcd', 1000) > 0);
    assert.equal(ra.nextTimeoutMs(), 17_000);
    const other = make();
    assert.ok(solicit(other, '::', 1000) > 0);
    assert.equal(other.nextTimeoutMs(), 17_000);
  });
});

describe('router solicitation', () => {
  test('from an address: answered to it at once, at most once in 100 ms', () => {
    const ra = make();
    const len = solicit(ra, 'fe80::abcd', 1000, true);
    assert.ok(len > 0, String(len));
    assert.equal(ra.dst.toString(), 'fe80::abcd');
    assert.equal(icmp6Checksum(out, OFF, len, ra.src, ra.dst), 0);
    assert.equal(solicit(ra, 'fe80::abce', 1099), DropReason.IcmpLimit);
    assert.equal(solicit(ra, 'fe80::abce', 1100), len);
    assert.equal(ra.dst.toString(), 'fe80::abce');
  });

  test('from ::, answered to all nodes, at least 3 s from one another', () => {
    const ra = make();
    ra.start(0);
    ra.onTimeout(0, out, OFF);
    assert.equal(solicit(ra, '::', 1000), 0);
    assert.equal(solicit(ra, '::', 2000), 0);
    assert.equal(ra.nextTimeoutMs(), 3000);
    assert.ok(ra.onTimeout(3000, out, OFF) > 0, 'due');
    assert.equal(ra.dst.toString(), 'ff02::1');
    assert.equal(ra.nextTimeoutMs(), 19_000);
    assert.ok(solicit(ra, '::', 6000) > 0, 'at once');
    assert.equal(ra.dst.toString(), 'ff02::1');
  });

  test('S-06: malformed ones', () => {
    const ra = make();
    assert.equal(solicit(ra, 'fe80::abcd', 0, true, 254), DropReason.NdMalformed);
    assert.equal(solicit(ra, '::', 0, true), DropReason.NdMalformed);
    const ip = new Ipv6Header();
    ip.hopLimit = 255;
    const view = new DataView(new ArrayBuffer(64));
    for (let len = 0; len < 8; len++)
      assert.equal(ra.onSolicitation(view, 0, len, ip, 0, out, OFF), DropReason.NdMalformed);
    view.setUint8(0, 134);
    assert.equal(ra.onSolicitation(view, 0, 16, ip, 0, out, OFF), DropReason.NdIgnored);
    assert.equal(ra.nextTimeoutMs(), Number.POSITIVE_INFINITY);
  });
});
