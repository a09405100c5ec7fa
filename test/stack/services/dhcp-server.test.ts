import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultAddresses as plan } from '../../../src/config.ts';
import { OwnAddresses } from '../../../src/stack/ip/own-addresses.ts';
import { type DhcpManners, DhcpServer } from '../../../src/stack/services/dhcp-server.ts';
import { IpAddress, parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DHCP_NAK, DhcpMessage, parseDhcp } from '../../../src/stack/wire/dhcp.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { SearchDomains } from '../../../src/stack/wire/search-domains.ts';

const DISCOVER = 1;
const REQUEST = 3;
const DECLINE = 4;
const RELEASE = 7;
const INFORM = 8;
const OFF = 10;
const SERVER = ip('10.0.2.2');

function ip(text: string): number {
  return parseIpAddress(text).w3;
}

interface Client {
  type: number;
  mac?: number;
  requested?: string;
  server?: string;
  ciaddr?: string;
  giaddr?: string;
  flags?: number;
  op?: number;
}

class Bench {
  readonly server: DhcpServer;
  readonly out = new DataView(new ArrayBuffer(600));
  readonly request = new DataView(new ArrayBuffer(600));
  requestLen = 0;

  constructor(p = plan, search: SearchDomains | null = null, manners: DhcpManners = {}) {
    this.server = new DhcpServer(new OwnAddresses(p), 1500, [ip('10.0.2.3')], search, manners);
  }

  send(c: Client): number {
    const v = this.request;
    new Uint8Array(v.buffer).fill(0);
    v.setUint32(OFF, ((c.op ?? 1) << 24) | 0x010600);
    v.setUint32(OFF + 4, 0xdeadbeef);
    v.setUint16(OFF + 10, c.flags ?? 0);
    v.setUint32(OFF + 12, c.ciaddr === undefined ? 0 : ip(c.ciaddr));
    v.setUint32(OFF + 24, c.giaddr === undefined ? 0 : ip(c.giaddr));
    v.setUint16(OFF + 28, 0x0200);
    v.setUint32(OFF + 30, c.mac ?? 1);
    v.setUint32(OFF + 236, 0x63825363);
    let p = OFF + 240;
    for (const [code, value] of [
      [50, c.requested],
      [54, c.server],
    ] as const) {
      if (value === undefined) continue;
      v.setUint16(p, (code << 8) | 4);
      v.setUint32(p + 2, ip(value));
      p += 6;
    }
    v.setUint16(p, (53 << 8) | 1);
    v.setUint8(p + 2, c.type);
    v.setUint8(p + 3, 255);
    this.requestLen = p + 4 - OFF;
    return this.server.handle(v, OFF, this.requestLen, this.out, OFF);
  }

  /** Send, and name what came back: message type and address. */
  ask(c: Client): string {
    const len = this.send(c);
    if (len <= 0) return String(len);
    const m = new DhcpMessage();
    assert.equal(parseDhcp(this.out, OFF, len, m), 0);
    assert.equal(m.op, 2);
    assert.equal(m.xid, 0xdeadbeef);
    assert.deepEqual([m.chaddrHi, m.chaddrLo], [0x0200, c.mac ?? 1]);
    assert.equal(m.serverId, SERVER);
    const names: Record<number, string> = { 2: 'OFFER', 5: 'ACK', 6: 'NAK' };
    return `${names[m.messageType]} ${new IpAddress().setV4(m.yiaddr)}`;
  }

  options(): Record<number, string> {
    const found: Record<number, string> = {};
    for (let p = OFF + 240; this.out.getUint8(p) !== 255; p += 2 + this.out.getUint8(p + 1))
      found[this.out.getUint8(p)] = Buffer.from(this.out.buffer, p + 2, this.out.getUint8(p + 1)).toString(
        'hex',
      );
    return found;
  }

  get to(): string {
    const s = this.server;
    return `${new IpAddress().setV4(s.replyIp)} ${s.replyMacHi.toString(16)}:${s.replyMacLo.toString(16)}`;
  }
}

describe('pasta §7: DHCP', () => {
  test('whoever asks has the one address for ever, one that asks for another is told that it cannot', () => {
    const bench = new Bench(plan, null, { oneLease: true, hostname: 'box', fqdn: 'box.example.com' });
    for (const mac of [1, 2, 3]) {
      assert.equal(bench.ask({ type: DISCOVER, mac }), 'OFFER 10.0.2.100');
      assert.equal(bench.options()[51], 'ffffffff');
      const wish = { requested: '10.0.2.100', server: '10.0.2.2' };
      assert.equal(bench.ask({ type: REQUEST, mac, ...wish }), 'ACK 10.0.2.100');
      assert.equal(bench.options()[12], Buffer.from('box').toString('hex'));
      assert.equal(bench.options()[81], '0cffff03626f78076578616d706c6503636f6d00');
      assert.equal(bench.options()[121], undefined);
    }
    assert.equal(bench.ask({ type: REQUEST, mac: 1, ciaddr: '10.0.2.100' }), 'ACK 10.0.2.100');
    assert.equal(bench.ask({ type: REQUEST, mac: 9, requested: '10.0.2.101' }).slice(0, 3), 'NAK');
  });

  test('pasta §15.2: the network changes, and may have no router for a while', () => {
    const bench = new Bench(plan, null, { oneLease: true });
    const own = new OwnAddresses({ ...plan, guest4: '192.0.2.7', lease4: '192.0.2.7', gateway4: '' });
    bench.server.changeAddresses(own);
    assert.equal(bench.send({ type: DISCOVER }), 0);
    own.change({ ...plan, guest4: '192.0.2.7', lease4: '192.0.2.7', prefix4: 16 });
    bench.server.changeAddresses(own);
    assert.equal(bench.ask({ type: DISCOVER }), 'OFFER 192.0.2.7');
    assert.equal(bench.options()[1], 'ffff0000');
    assert.equal(bench.options()[3], '0a000202');
    assert.equal(bench.ask({ type: REQUEST, ciaddr: '10.0.2.100' }).slice(0, 3), 'NAK');
  });

  test('a router outside the network comes with routes to it, and by it (RFC 3442)', () => {
    const bench = new Bench({ ...plan, guest4: '192.0.2.10', lease4: '192.0.2.10' }, null, {
      oneLease: true,
    });
    assert.equal(bench.ask({ type: DISCOVER }), 'OFFER 192.0.2.10');
    assert.equal(bench.options()[121], '200a00020200000000' + '000a000202');
    assert.deepEqual([bench.options()[12], bench.options()[81]], [undefined, undefined]);
  });
});

test('review OP-15: domains for short names as options 15 and 119, followed; a NAK has none (RFC 2132, RFC 3397)', () => {
  const search = new SearchDomains();
  const bench = new Bench(plan, search);
  const options = (): Map<number, string> => {
    const found = new Map<number, string>();
    const { out } = bench;
    for (let p = OFF + 240; out.getUint8(p) !== 255; p += 2 + out.getUint8(p + 1))
      found.set(out.getUint8(p), Buffer.from(out.buffer, p + 2, out.getUint8(p + 1)).toString('latin1'));
    return found;
  };
  bench.send({ type: DISCOVER });
  assert.equal(options().has(15) || options().has(119), false);
  search.set(['corp.example', 'a.b']);
  bench.send({ type: DISCOVER });
  assert.equal(options().get(15), 'corp.example');
  assert.equal(options().get(119), '\x04corp\x07example\0\x01a\x01b\0');
  bench.send({ type: REQUEST, requested: '10.9.9.9', server: '10.0.2.2' });
  assert.equal(options().has(15) || options().has(119), false);
  // A reply stays within what every client takes: 576 bytes of IP packet.
  search.set(Array.from({ length: 50 }, (_, n) => `${'d'.repeat(20)}${n}.example`));
  assert.ok(bench.send({ type: DISCOVER }) <= 576 - 28);
});

describe('DHCP leases', () => {
  test('DISCOVER, REQUEST: the first client gets the guest address with all options', () => {
    const b = new Bench();
    const options = {
      1: 'ffffff00',
      3: '0a000202',
      6: '0a000203',
      26: '05dc',
      28: '0a0002ff',
      51: '00015180',
      54: '0a000202',
    };
    assert.equal(b.ask({ type: DISCOVER, requested: '10.0.2.103' }), 'OFFER 10.0.2.100');
    assert.deepEqual(b.options(), { ...options, 53: '02' });
    assert.equal(b.ask({ type: REQUEST, requested: '10.0.2.100', server: '10.0.2.2' }), 'ACK 10.0.2.100');
    assert.deepEqual(b.options(), { ...options, 53: '05' });
    assert.equal(b.ask({ type: DISCOVER }), 'OFFER 10.0.2.100');
  });

  test('further clients get the following addresses, a wanted one if it is free; the 17th displaces the oldest', () => {
    const b = new Bench();
    assert.equal(b.ask({ type: DISCOVER, mac: 1 }), 'OFFER 10.0.2.100');
    assert.equal(b.ask({ type: DISCOVER, mac: 2, requested: '10.0.2.103' }), 'OFFER 10.0.2.103');
    assert.equal(b.ask({ type: DISCOVER, mac: 3, requested: '10.0.2.103' }), 'OFFER 10.0.2.101');
    assert.equal(b.ask({ type: DISCOVER, mac: 4, requested: '10.0.2.2' }), 'OFFER 10.0.2.102');
    for (let mac = 5; mac <= 16; mac++)
      assert.equal(b.ask({ type: DISCOVER, mac }), `OFFER 10.0.2.${99 + mac}`);
    b.ask({ type: DISCOVER, mac: 1 });
    assert.equal(b.ask({ type: DISCOVER, mac: 17 }), 'OFFER 10.0.2.103');
    assert.equal(
      b.ask({ type: REQUEST, mac: 2, requested: '10.0.2.103', server: '10.0.2.2' }),
      'NAK 0.0.0.0',
    );
    assert.equal(b.ask({ type: DISCOVER, mac: 1 }), 'OFFER 10.0.2.100');
  });

  test('the pool leaves out our own addresses, network and broadcast', () => {
    const b = new Bench({ ...plan, lease4: '10.0.2.250' });
    const seen = new Set<string>();
    for (let mac = 1; mac < 40; mac++) seen.add(b.ask({ type: DISCOVER, mac }));
    assert.deepEqual(
      [...seen],
      ['250', '251', '252', '253', '254'].map((n) => `OFFER 10.0.2.${n}`),
    );
    const around = new Bench({ ...plan, lease4: '10.0.2.1' });
    const got = [1, 2].map((mac) => around.ask({ type: DISCOVER, mac }));
    assert.deepEqual(got, ['OFFER 10.0.2.1', 'OFFER 10.0.2.4']);
  });

  test('leases may begin elsewhere than at the guest address', () => {
    const b = new Bench({ ...plan, lease4: '10.0.2.15' });
    const given = Array.from({ length: 17 }, (_, mac) => b.ask({ type: DISCOVER, mac: mac + 1 }));
    assert.deepEqual([given[0], given[15], given[16]], ['OFFER 10.0.2.15', 'OFFER 10.0.2.30', given[0]]);
  });

  test('REQUEST for something else than was offered gets a NAK without configuration', () => {
    const b = new Bench();
    b.ask({ type: DISCOVER });
    for (const requested of ['10.0.2.101', '10.0.2.2', '192.168.1.5'])
      assert.equal(b.ask({ type: REQUEST, requested, server: '10.0.2.2' }), 'NAK 0.0.0.0');
    assert.equal(b.out.getUint8(OFF + 242), DHCP_NAK);
    assert.deepEqual(b.options(), { 53: '06', 54: '0a000202' });
    assert.equal(b.to, '255.255.255.255 ffff:ffffffff');
    assert.equal(
      b.ask({ type: REQUEST, mac: 9, requested: '10.0.2.105', server: '10.0.2.2' }),
      'NAK 0.0.0.0',
    );
  });

  test('init-reboot without a lease: the guest address yes, another only when the guest address is taken', () => {
    const b = new Bench();
    assert.equal(b.ask({ type: REQUEST, mac: 1, requested: '10.0.2.103' }), 'NAK 0.0.0.0');
    assert.equal(b.ask({ type: REQUEST, mac: 1, requested: '10.0.2.100' }), 'ACK 10.0.2.100');
    assert.equal(b.ask({ type: REQUEST, mac: 2, requested: '10.0.2.100' }), 'NAK 0.0.0.0');
    assert.equal(b.ask({ type: REQUEST, mac: 2, requested: '10.0.2.103' }), 'ACK 10.0.2.103');
    assert.equal(b.ask({ type: REQUEST, mac: 2, requested: '192.168.1.5' }), 'NAK 0.0.0.0');
  });

  test('renewing: from the lease, after we forgot it, and of what is not the client’s', () => {
    const b = new Bench();
    assert.equal(b.ask({ type: REQUEST, mac: 2, ciaddr: '10.0.2.103' }), 'ACK 10.0.2.103');
    assert.equal(b.ask({ type: REQUEST, mac: 2, ciaddr: '10.0.2.103' }), 'ACK 10.0.2.103');
    assert.equal(b.to, '10.0.2.103 200:2');
    assert.equal(b.ask({ type: REQUEST, mac: 3, ciaddr: '10.0.2.103' }), 'NAK 0.0.0.0');
    assert.equal(b.ask({ type: REQUEST, mac: 3, ciaddr: '10.9.9.9' }), 'NAK 0.0.0.0');
    assert.equal(b.ask({ type: REQUEST, mac: 3 }), 'NAK 0.0.0.0');
  });

  test('RELEASE, DECLINE and a REQUEST to another server free the address; nobody answers them', () => {
    const b = new Bench();
    b.ask({ type: DISCOVER, mac: 1 });
    assert.equal(b.ask({ type: REQUEST, mac: 1, requested: '10.0.2.100', server: '10.0.2.9' }), '0');
    assert.equal(b.ask({ type: DISCOVER, mac: 2 }), 'OFFER 10.0.2.100');
    assert.equal(b.ask({ type: RELEASE, mac: 3, ciaddr: '10.0.2.100', server: '10.0.2.2' }), '0');
    assert.equal(b.ask({ type: DISCOVER, mac: 3 }), 'OFFER 10.0.2.101');
    assert.equal(b.ask({ type: RELEASE, mac: 2, ciaddr: '10.0.2.100', server: '10.0.2.2' }), '0');
    assert.equal(b.ask({ type: DISCOVER, mac: 4 }), 'OFFER 10.0.2.100');
    assert.equal(b.ask({ type: DECLINE, mac: 4, requested: '10.0.2.100', server: '10.0.2.2' }), '0');
    assert.equal(b.ask({ type: DISCOVER, mac: 4 }), 'OFFER 10.0.2.102');
  });

  test('INFORM: configuration without an address or a lease', () => {
    const b = new Bench();
    assert.equal(b.ask({ type: INFORM, ciaddr: '10.0.2.77' }), 'ACK 0.0.0.0');
    assert.equal(b.options()[51], undefined);
    assert.equal(b.options()[3], '0a000202');
    assert.equal(b.to, '10.0.2.77 200:1');
    assert.equal(b.ask({ type: INFORM }), '0');
    assert.equal(b.ask({ type: INFORM, ciaddr: '8.8.8.8' }), '0');
    assert.equal(b.ask({ type: DISCOVER, mac: 2 }), 'OFFER 10.0.2.100');
  });

  test('RFC 2131 §4.1: where the reply goes', () => {
    const b = new Bench();
    b.ask({ type: DISCOVER });
    assert.equal(b.to, '10.0.2.100 200:1');
    b.ask({ type: DISCOVER, flags: 0x8000 });
    assert.equal(b.to, '255.255.255.255 ffff:ffffffff');
    b.ask({ type: REQUEST, requested: '10.0.2.100', server: '10.0.2.2' });
    assert.equal(b.to, '10.0.2.100 200:1');
  });
});

describe('D-06', () => {
  test('message types 0 to 255: only DISCOVER, REQUEST and INFORM are ever answered', () => {
    const b = new Bench();
    const answered: number[] = [];
    for (let type = 0; type < 256; type++)
      if (b.send({ type, ciaddr: '10.0.2.100' }) > 0) answered.push(type);
    assert.deepEqual(answered, [DISCOVER, REQUEST, INFORM]);
  });

  test('replies, relayed requests and group hardware addresses are ignored', () => {
    const b = new Bench();
    assert.equal(b.send({ type: DISCOVER, op: 2 }), 0);
    assert.equal(b.send({ type: DISCOVER, giaddr: '10.0.2.50' }), 0);
    b.send({ type: DISCOVER });
    b.request.setUint16(OFF + 28, 0x0300);
    assert.equal(b.server.handle(b.request, OFF, b.requestLen, b.out, OFF), 0);
  });

  test('every cut length is malformed and reads nothing beyond', () => {
    const b = new Bench();
    b.send({ type: DISCOVER, requested: '10.0.2.100' });
    for (let len = 0; len < b.requestLen; len++) {
      const exact = new DataView(b.request.buffer.slice(0, OFF + len));
      assert.equal(b.server.handle(exact, OFF, len, b.out, OFF), DropReason.DhcpMalformed, String(len));
    }
  });
});
