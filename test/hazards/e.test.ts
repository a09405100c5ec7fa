/** Hazards E: link layer and ARP. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab, MARKER } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  AT_IP6_SRC,
  AT_TRANSPORT6,
  arp,
  arpBody,
  DNS4,
  ethernet,
  frame,
  GATEWAY4,
  GUEST_MAC,
  GUEST4,
  ICMP_SUM,
  ipBytes,
  ipv4,
  ndp,
  OUR_MAC,
  pattern,
  putLong,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';

/** ARP replies of ours among what was sent: what they claim. */
function arpReplies(frames: { etherType: number; raw: Buffer }[]): string[] {
  return frames
    .filter((d) => d.etherType === 0x0806)
    .map((d) => `${[...d.raw.subarray(28, 32)].join('.')} to ${d.raw.subarray(0, 6).toString('hex')}`);
}

describe('hazards E: link layer and ARP', () => {
  test('E-01: frames shorter than an Ethernet header', () => {
    const lab = new Lab();
    for (let n = 1; n < 14; n++) lab.expectDrop('link.short', `${n} bytes`, frame(udp({})).subarray(0, n));
    lab.check();
  });

  test('E-01: packets on a TUN device shorter than their header, and versions that do not exist', () => {
    const lab = new Lab({ device: { medium: 'ip' } });
    for (let n = 1; n < 20; n++) lab.expectDrop('link.short', `${n} bytes`, udp({}).subarray(0, n));
    for (let n = 1; n < 40; n++)
      lab.expectDrop('link.short', `${n} bytes`, udp({ dst: ALLOWED6 }).subarray(0, n));
    for (let version = 0; version < 16; version++) {
      if (version === 4 || version === 6) continue;
      const packet = udp({});
      packet[0] = (version << 4) | 5;
      lab.expectDrop('ip.version', `version ${version}`, packet);
    }
    lab.check();
  });

  test('E-02: frames of other protocols, tags nested to any depth, NC-SI', () => {
    const lab = new Lab();
    // Every EtherType that is not ours, and every length of an 802.3 frame.
    const ours = new Set([0x0800, 0x0806, 0x86dd]);
    const drops = lab.delta(() => {
      const flood = lab.flood(65_536, [ethernet(0, pattern(46))], (f, i) =>
        f.writeUInt16BE(ours.has(i) ? 0x88cc : i, 12),
      );
      assert.equal(flood.answers, 0);
    });
    assert.equal(drops['drop.link.type'], 65_536);
    for (let depth = 0; depth <= 8; depth++) {
      const tags = Buffer.alloc(4 * depth);
      for (let i = 0; i < depth; i++) tags.writeUInt32BE(0x00018100, 4 * i);
      lab.expectDrop(
        'link.type',
        `${depth} tags`,
        ethernet(0x8100, Buffer.concat([tags, Buffer.from([0, 1, 8, 0]), udp({})])),
      );
    }
    for (let n = 0; n <= 20; n++) lab.expectDrop('link.type', `NC-SI ${n}`, ethernet(0x88f8, pattern(n)));
    lab.check();
  });

  test('E-02: source addresses that are no single host or our own, destinations that are neither ours nor a group', () => {
    const lab = new Lab();
    for (const src of ['01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '33:33:00:00:00:01', OUR_MAC])
      lab.expectDrop('link.mac', `from ${src}`, frame(udp({}), src));
    for (const dst of ['52:55:0a:00:02:03', '00:00:00:00:00:00', GUEST_MAC])
      lab.expectDrop('link.mac', `to ${dst}`, frame(udp({}), GUEST_MAC, dst));
    lab.check();
  });

  test('E-02: EtherType and version disagree', () => {
    const lab = new Lab();
    lab.expectDrop('ip.version', 'IPv6 in 0x0800', ethernet(0x0800, udp({ dst: ALLOWED6 })));
    lab.expectDrop(
      'ip.version',
      'IPv4 in 0x86dd',
      ethernet(0x86dd, Buffer.concat([udp({}), Buffer.alloc(20)])),
    );
    lab.check();
  });

  test('E-03: ARP that is cut short or states other sizes', () => {
    const lab = new Lab();
    for (let n = 0; n < 28; n++)
      lab.expectDrop('arp.malformed', `${n} bytes`, ethernet(0x0806, arpBody({}).subarray(0, n)));
    for (const f of [
      { hlen: 0 },
      { hlen: 7 },
      { hlen: 255 },
      { plen: 0 },
      { plen: 16 },
      { htype: 2 },
      { ptype: 0x86dd },
    ])
      lab.expectDrop('arp.malformed', JSON.stringify(f), arp(f));
    const drops = lab.delta(() => {
      const flood = lab.flood(65_536, [arp({})], (f, i) => f.writeUInt16BE(i === 1 || i === 2 ? 0 : i, 20));
      assert.equal(flood.answers, 0);
    });
    assert.equal(drops['drop.arp.malformed'], 65_536, 'every other operation');
    lab.check();
  });

  test('E-04 (a): nobody takes our addresses over, and the guest itself may change its MAC address', () => {
    const lab = new Lab();
    for (const ip of [GATEWAY4, DNS4]) {
      const thief = '52:54:00:99:99:99';
      lab.inject(arp({ op: 2, senderIp: ip, senderMac: thief, targetIp: ip }, thief));
      lab.inject(arp({ op: 1, senderIp: ip, senderMac: thief, targetIp: ip }, thief));
      // Still answered as ours, to who asks.
      assert.deepEqual(arpReplies(lab.inject(arp({ targetIp: ip }))), [
        `${ip} to ${GUEST_MAC.replaceAll(':', '')}`,
      ]);
    }
    const moved = '52:54:00:77:77:77';
    lab.inject(arp({ op: 2, senderMac: moved, targetIp: GUEST4 }, moved));
    const [reply] = lab.inject(frame(udp({ dstPort: 7 }), moved));
    assert.equal(reply?.dstMac, moved);
    lab.check();
  });

  test('E-04 (b): 300,000 made-up neighbours do not displace the guest or grow the table', () => {
    const lab = new Lab();
    lab.inject(arp({}));
    // Half of them with addresses of the link, under ever new MAC addresses; each of the others with its own.
    const claim = arp({ op: 2, senderMac: '02:00:00:00:00:00' });
    lab.flood(200_000, [claim], (f, i) => {
      f.writeUInt32BE(i % 2 === 0 ? 0x0a000204 + (i % 90) : 0x0b000000 + i, 28);
      f.writeUInt32BE(i, 24);
    });
    // Addresses of the /64 are without number.
    const address = 'fd00::7:0:0';
    const advertisement = frame(ndp(address, 'ff02::1:ff00:2', 136, 0, ipBytes(address)));
    lab.flood(100_000, [advertisement], (f, i) => {
      const sum = AT_TRANSPORT6 + ICMP_SUM;
      putLong(f, AT_IP6_SRC + 12, i, sum);
      putLong(f, AT_TRANSPORT6 + 8 + 12, i, sum);
      f.writeUInt32BE(i, 8);
    });
    assert.equal(lab.counter('drop.icmp.csum'), 0);
    const [reply] = lab.send(udp({ dstPort: 7 }));
    assert.equal(reply?.dstMac, GUEST_MAC);
    lab.check();
  });

  test('E-04 (c, d): only our addresses are answered, once each; an address probe of the guest is not', () => {
    const lab = new Lab();
    const all = Array.from({ length: 256 }, (_, i) => arp({ targetIp: `10.0.2.${i}` }));
    const replies = arpReplies(lab.inject(...all));
    assert.deepEqual(replies.map((r) => r.split(' ')[0]).sort(), [GATEWAY4, DNS4].sort());
    const others = lab.flood(65_536, [arp({})], (f, i) =>
      f.writeUInt32BE((0x0a010000 + i * 0x10001) >>> 0, 38),
    );
    assert.equal(others.answers, 0);
    lab.expectDrop('arp.ignored', 'a probe for the guest', arp({ senderIp: '0.0.0.0', targetIp: GUEST4 }));
    // Whoever probes an address of ours is told that it is taken (RFC 5227 §2.1.1).
    assert.equal(arpReplies(lab.inject(arp({ senderIp: '0.0.0.0', targetIp: GATEWAY4 }))).length, 1);
    lab.check({ amplification: 1 });
  });

  test('E-05: frames longer than the link allows', () => {
    const lab = new Lab();
    for (let n = 1505; n <= 65_521; n += n < 1600 || n > 65_500 ? 1 : 97) {
      const packet = ipv4(
        { totalLength: Math.min(n, 65535) },
        Buffer.concat([udpDatagram({}), Buffer.alloc(n - 28)]),
      );
      lab.expectDrop('link.long', `${n} bytes of packet`, frame(packet.subarray(0, n)));
    }
    assert.equal(lab.kernel.datagrams.length, 0);
    lab.check();
  });

  test('E-05: a trailer behind the packet is cut off', () => {
    const lab = new Lab();
    const padded = Buffer.concat([frame(udp({ dstPort: 9 })), Buffer.alloc(18, 0x5a)]);
    assert.equal(padded.length, 60);
    lab.inject(padded);
    assert.equal(lab.kernel.datagrams[0]?.payload.length, 0);
    const v6 = Buffer.concat([
      frame(udp({ dst: ALLOWED6, dstPort: 9 }, Buffer.from('v6'))),
      Buffer.alloc(7, 0x5a),
    ]);
    lab.inject(v6);
    assert.equal(lab.kernel.datagrams[1]?.payload.toString(), 'v6');
    lab.check();
  });

  test('E-05: our own short frames carry nothing behind the packet but zeros, and never old memory', () => {
    const lab = new Lab();
    // `take` searches for the marker, `decode` for a trailer that is not zero.
    const out = [
      ...lab.inject(arp({})),
      ...lab.send(udp({ dst: GATEWAY4, dstPort: 9 })),
      ...lab.send(udp({ dst: ALLOWED4, dstPort: 7 })),
    ];
    assert.equal(out.length, 3);
    assert.ok(out.every((d) => !d.raw.includes(Buffer.alloc(2, MARKER))));
    lab.check();
  });
});
