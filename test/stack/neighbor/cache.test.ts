import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultAddresses as plan } from '../../../src/config.ts';
import { OwnAddresses } from '../../../src/stack/ip/own-addresses.ts';
import {
  answerArp,
  answerNeighborSolicitation,
  Neighbor,
  NeighborReply,
  NeighborTable,
} from '../../../src/stack/neighbor/cache.ts';
import { IpAddress, parseIpAddress } from '../../../src/stack/wire/address.ts';
import { ArpPacket, parseArp } from '../../../src/stack/wire/arp.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { icmp6Checksum } from '../../../src/stack/wire/icmp.ts';
import { Ipv6Header } from '../../../src/stack/wire/ipv6.ts';
import {
  emitNeighborAdvertisement,
  emitNeighborSolicitation,
  NdpMessage,
  parseNdp,
} from '../../../src/stack/wire/ndp.ts';

const own = new OwnAddresses(plan);
const GUEST_HI = 0x0200;
const GUEST_LO = 0x0a0b0c0d;

describe('neighbour table', () => {
  test('learns, overwrites and finds both families', () => {
    const table = new NeighborTable(8, own);
    const found = new Neighbor();
    for (const text of ['10.0.2.100', 'fd00::100', 'fe80::abcd']) {
      const address = parseIpAddress(text);
      assert.equal(table.lookup(address, found), false);
      table.learn(address, GUEST_HI, 1);
      table.learn(address, GUEST_HI, GUEST_LO);
      assert.equal(table.lookup(address, found), true);
      assert.deepEqual([found.macHi, found.macLo], [GUEST_HI, GUEST_LO]);
    }
    assert.equal(table.size, 3);
  });

  test('E-04 (a), S-07: own, group, unspecified and off-link addresses and group MACs are never learned', () => {
    const table = new NeighborTable(8, own);
    for (const text of [
      ...['10.0.2.2', '10.0.2.3', 'fd00::2', 'fd00::3', 'fe80::2'],
      ...['0.0.0.0', '::', '224.0.0.1', 'ff02::1', '192.0.2.1', '2001:db8::1'],
    ]) {
      table.learn(parseIpAddress(text), GUEST_HI, GUEST_LO);
      assert.equal(table.lookup(parseIpAddress(text), new Neighbor()), false, text);
    }
    table.learn(parseIpAddress('10.0.2.100'), 0x0100, 1);
    table.learn(parseIpAddress('10.0.2.100'), 0xffff, 0xffffffff);
    table.learn(parseIpAddress('10.0.2.100'), 0, 0);
    assert.equal(table.size, 0);
  });

  test('E-04 (b): 100 000 addresses leave at most max entries, the youngest and the guest', () => {
    const table = new NeighborTable(256, own);
    const found = new Neighbor();
    const guest4 = parseIpAddress('10.0.2.100');
    const guest6 = parseIpAddress('fd00::100');
    table.learn(guest4, GUEST_HI, 4);
    table.learn(guest6, GUEST_HI, 6);
    const address = new IpAddress();
    for (let i = 0; i < 100_000; i++) {
      address.set(0xfd000000, 0, i + 1, i);
      table.learn(address, GUEST_HI, i);
      assert.ok(table.size <= 256, 'bounded');
    }
    assert.equal(table.size, 256);
    for (let i = 0; i < 100_000; i++) {
      address.set(0xfd000000, 0, i + 1, i);
      assert.equal(table.lookup(address, found), i >= 100_000 - 254, String(i));
      if (i >= 100_000 - 254) assert.equal(found.macLo, i);
    }
    assert.equal(table.lookup(guest4, found), true);
    assert.equal(table.lookup(guest6, found), true);
    assert.deepEqual([found.macHi, found.macLo], [GUEST_HI, 6]);
  });

  test('being heard of makes an entry young again', () => {
    const table = new NeighborTable(3, own);
    const [a, b, c, d] = ['10.0.2.10', '10.0.2.11', '10.0.2.12', '10.0.2.13'].map(parseIpAddress) as [
      IpAddress,
      IpAddress,
      IpAddress,
      IpAddress,
    ];
    for (const address of [a, b, c, a, d]) table.learn(address, GUEST_HI, 1);
    assert.equal(table.lookup(b, new Neighbor()), false);
    for (const address of [a, c, d]) assert.equal(table.lookup(address, new Neighbor()), true);
  });
});

describe('ARP', () => {
  const outView = new DataView(new ArrayBuffer(64));

  function ask(target: string, sender = '10.0.2.100', operation = 1, senderHi = GUEST_HI): number {
    const p = new ArpPacket();
    p.operation = operation;
    p.senderHi = senderHi;
    p.senderLo = GUEST_LO;
    p.senderIp = parseIpAddress(sender).w3;
    p.targetIp = parseIpAddress(target).w3;
    return answerArp(p, outView, 10, own);
  }

  test('a request for our address is answered once, to the sender', () => {
    for (const target of ['10.0.2.2', '10.0.2.3']) {
      assert.equal(ask(target), 28);
      const reply = new ArpPacket();
      assert.equal(parseArp(outView, 10, 28, reply), 0);
      assert.equal(reply.operation, 2);
      assert.deepEqual([reply.senderHi, reply.senderLo], [own.macHi, own.macLo]);
      assert.equal(reply.senderIp, parseIpAddress(target).w3);
      assert.deepEqual([reply.targetHi, reply.targetLo], [GUEST_HI, GUEST_LO]);
      assert.equal(reply.targetIp, own.guest4.w3);
    }
  });

  test('E-04 (c): of the whole /24 and around only our two addresses are answered', () => {
    const answered: string[] = [];
    for (const net of ['10.0.1.', '10.0.2.', '10.0.3.'])
      for (let i = 0; i < 256; i++) if (ask(`${net}${i}`) > 0) answered.push(`${net}${i}`);
    assert.deepEqual(answered, ['10.0.2.2', '10.0.2.3']);
  });

  test('E-04 (d): a probe for the guest address gets no answer, one for ours does', () => {
    assert.equal(ask('10.0.2.100', '0.0.0.0'), DropReason.ArpIgnored);
    assert.equal(ask('10.0.2.2', '0.0.0.0'), 28);
  });

  test('E-04 (a): replies, and announcements of our addresses, get none', () => {
    assert.equal(ask('10.0.2.2', '10.0.2.100', 2), DropReason.ArpIgnored);
    assert.equal(ask('10.0.2.2', '10.0.2.2'), DropReason.ArpIgnored);
    assert.equal(ask('10.0.2.100', '10.0.2.2', 2), DropReason.ArpIgnored);
  });

  test('E-03: a group MAC as sender is malformed', () => {
    assert.equal(ask('10.0.2.2', '10.0.2.100', 1, 0x0100), DropReason.ArpMalformed);
  });
});

describe('answers for everybody', () => {
  const proxying = new OwnAddresses(plan, { proxyNeighbors: true });
  const inView = new DataView(new ArrayBuffer(64));
  const outView = new DataView(new ArrayBuffer(64));

  function table(...used: string[]): NeighborTable {
    const neighbors = new NeighborTable(16, proxying);
    for (const address of used) neighbors.learn(parseIpAddress(address), GUEST_HI, GUEST_LO);
    return neighbors;
  }

  test("ARP: every address but the guest's and those it uses; no probe, no announcement", () => {
    const ask = (target: string, sender: string): boolean => {
      const p = new ArpPacket();
      p.operation = 1;
      p.senderHi = GUEST_HI;
      p.senderLo = GUEST_LO;
      p.senderIp = parseIpAddress(sender).w3;
      p.targetIp = parseIpAddress(target).w3;
      return answerArp(p, outView, 0, proxying, table('10.0.2.50')) === 28;
    };
    for (const target of ['10.0.2.2', '10.0.2.10', '192.0.2.1', '8.8.8.8'])
      assert.equal(ask(target, '10.0.2.100'), true, target);
    for (const target of ['10.0.2.100', '10.0.2.50', '0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255'])
      assert.equal(ask(target, '10.0.2.100'), false, target);
    assert.equal(ask('10.0.2.10', '0.0.0.0'), false);
    assert.equal(ask('10.0.2.2', '0.0.0.0'), true);
  });

  test("neighbour discovery: every address but the guest's and those it uses, and no probe", () => {
    const ip = new Ipv6Header();
    const reply = new NeighborReply();
    const ask = (target: string, sender: string): boolean => {
      const address = parseIpAddress(target);
      const isProbe = sender === '::';
      ip.src.copyFrom(parseIpAddress(sender));
      ip.dst.set(0xff020000, 0, 1, 0xff000000 + (address.w3 & 0xffffff));
      ip.hopLimit = 255;
      const length = emitNeighborSolicitation(inView, 0, address, isProbe ? -1 : GUEST_HI, GUEST_LO);
      const neighbors = table('fe80::abcd', 'fd00::50');
      return answerNeighborSolicitation(inView, 0, length, ip, outView, 0, proxying, reply, neighbors) === 32;
    };
    for (const target of ['fd00::2', 'fd00::10', '2001:db8::1', 'fe80::1'])
      assert.equal(ask(target, 'fd00::100'), true, target);
    for (const target of ['fd00::100', 'fe80::abcd', 'fd00::50'])
      assert.equal(ask(target, 'fd00::100'), false, target);
    assert.equal(ask('fe80::abcd', '::'), false);
    assert.equal(ask('fd00::10', '::'), false);
  });
});

describe('neighbour solicitation', () => {
  const inView = new DataView(new ArrayBuffer(128));
  const outView = new DataView(new ArrayBuffer(128));
  const reply = new NeighborReply();
  const ip = new Ipv6Header();

  function solicitedNode(target: string): string {
    const a = parseIpAddress(target);
    return new IpAddress().set(0xff020000, 0, 1, 0xff000000 + (a.w3 & 0xffffff)).toString();
  }

  function ask(target: string, src: string, dst: string, macHi = GUEST_HI, hopLimit = 255): number {
    ip.src.copyFrom(parseIpAddress(src));
    ip.dst.copyFrom(parseIpAddress(dst));
    ip.hopLimit = hopLimit;
    const len = emitNeighborSolicitation(inView, 6, parseIpAddress(target), macHi, GUEST_LO);
    return answerNeighborSolicitation(inView, 6, len, ip, outView, 10, own, reply);
  }

  function parsed(len: number): NdpMessage {
    const m = new NdpMessage();
    assert.equal(parseNdp(outView, 10, len, 255, 0, m), 0);
    assert.equal(icmp6Checksum(outView, 10, len, reply.src, reply.dst), 0);
    return m;
  }

  test('S-07, RQ-67: solicitations to the address and to its group are answered: S, O, R, our MAC, unicast', () => {
    for (const target of ['fd00::2', 'fd00::3', 'fe80::2']) {
      for (const dst of [target, solicitedNode(target)]) {
        const len = ask(target, 'fd00::100', dst);
        assert.equal(len, 32);
        const m = parsed(len);
        assert.equal(m.type, 136);
        assert.equal(m.flags, 0xe0);
        assert.equal(m.target.toString(), target);
        assert.deepEqual([m.targetLinkHi, m.targetLinkLo], [own.macHi, own.macLo]);
        assert.equal(reply.src.toString(), target);
        assert.equal(reply.dst.toString(), 'fd00::100');
      }
    }
  });

  test('RQ-67: a probe for an address we own is answered to all nodes with S clear', () => {
    const len = ask('fd00::2', '::', solicitedNode('fd00::2'), -1);
    const m = parsed(len);
    assert.equal(m.flags, 0xa0);
    assert.equal(reply.dst.toString(), 'ff02::1');
    assert.equal(reply.src.toString(), 'fd00::2');
  });

  test('RQ-68: a probe for any other address is not', () => {
    for (const target of ['fd00::100', 'fe80::abcd', 'fd00::1', '2001:db8::1']) {
      assert.equal(ask(target, '::', solicitedNode(target), -1), DropReason.NdIgnored);
      assert.equal(ask(target, 'fd00::100', solicitedNode(target)), DropReason.NdIgnored);
    }
  });

  test('RFC 4861 §7.1.1: a probe with a link-layer option or not to the group is malformed', () => {
    assert.equal(ask('fd00::2', '::', solicitedNode('fd00::2')), DropReason.NdMalformed);
    for (const dst of ['fd00::2', 'ff02::1', 'ff02::1:ff00:3'])
      assert.equal(ask('fd00::2', '::', dst, -1), DropReason.NdMalformed, dst);
  });

  test('S-06, RQ-66: hop limit, code, every cut length, multicast target', () => {
    assert.equal(ask('fd00::2', 'fd00::100', 'fd00::2', GUEST_HI, 254), DropReason.NdMalformed);
    assert.equal(ask('ff02::1', 'fd00::100', 'fd00::2'), DropReason.NdMalformed);
    assert.equal(ask('fd00::2', 'fd00::100', 'fd00::2'), 32);
    for (let len = 0; len < 32; len++) {
      // 24 bytes are a solicitation without options.
      const expected = len === 24 ? 32 : DropReason.NdMalformed;
      assert.equal(answerNeighborSolicitation(inView, 6, len, ip, outView, 10, own, reply), expected);
    }
    inView.setUint8(7, 1);
    assert.equal(
      answerNeighborSolicitation(inView, 6, 32, ip, outView, 10, own, reply),
      DropReason.NdMalformed,
    );
  });

  test('advertisements and solicitations from our own addresses are ignored', () => {
    assert.equal(ask('fd00::2', 'fd00::2', 'fd00::2'), DropReason.NdIgnored);
    const len = emitNeighborAdvertisement(inView, 6, parseIpAddress('fd00::2'), 0x60, GUEST_HI, GUEST_LO);
    ip.src.copyFrom(parseIpAddress('fd00::100'));
    assert.equal(
      answerNeighborSolicitation(inView, 6, len, ip, outView, 10, own, reply),
      DropReason.NdIgnored,
    );
  });
});
