import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultAddresses as plan } from '../../../src/config.ts';
import { OwnAddresses } from '../../../src/stack/ip/own-addresses.ts';
import { Dhcpv6Server } from '../../../src/stack/services/dhcpv6-server.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { SearchDomains } from '../../../src/stack/wire/search-domains.ts';

/** What dhclient (4.4.3) has sent and been answered. */
const CLIENT = '0001000e00010001329f21c546ef5ca50b20';
const OURS = '0002000a000300019a559a559a55';
const WISHES = '000600040017001800080002';
const SOLICIT = `0144c587${CLIENT}${WISHES}00000003000c5ca50b2000000e1000001518`;
const IA_ADDRESS = '20010db8000000000000000000000010';
const REQUEST = `030bbf88${CLIENT}${OURS}${WISHES}0000000300285ca50b2000000e100000151800050018${IA_ADDRESS}00001c2000001d4c`;
const GIVEN = `000300285ca50b20ffffffffffffffff00050018${IA_ADDRESS}ffffffffffffffff`;
const NAMES =
  '0017001020010db8000000000000000000000053' +
  '0018000d076578616d706c6503636f6d00' +
  '002700120403626f78076578616d706c6503636f6d00';
const NOT_ON_LINK = `000d00220004${Buffer.from('Prefix not appropriate for link.').toString('hex')}`;

const OFF = 6;

class Bench {
  readonly own: OwnAddresses;
  readonly #server: Dhcpv6Server;

  constructor(guest6 = '2001:db8::10') {
    const search = new SearchDomains();
    search.set(['example.com']);
    this.own = new OwnAddresses({ ...plan, guest6 }, { mac: '9a:55:9a:55:9a:55', sharedNetwork: true });
    this.#server = new Dhcpv6Server(this.own, [parseIpAddress('2001:db8::53')], search, 'box.example.com');
  }

  /** The answer in hexadecimal, or what there is instead. */
  ask(hex: string): string | number {
    const content = Buffer.from(hex, 'hex');
    const view = new DataView(new ArrayBuffer(OFF + content.length));
    new Uint8Array(view.buffer).set(content, OFF);
    const out = new DataView(new ArrayBuffer(OFF + 800));
    const length = this.#server.handle(view, OFF, content.length, out, OFF);
    return length <= 0 ? length : Buffer.from(out.buffer, OFF, length).toString('hex');
  }
}

const as = (type: string, message: string): string => type + message.slice(2);

describe('pasta §7: DHCPv6', () => {
  test('a solicitation is answered by an advertisement, a request by a reply, both with everything', () => {
    const bench = new Bench();
    assert.equal(bench.ask(SOLICIT), `0244c587${CLIENT}${OURS}${GIVEN}${NAMES}`);
    assert.equal(bench.ask(REQUEST), `070bbf88${CLIENT}${OURS}${GIVEN}${NAMES}`);
  });

  test('renewing names us; rebinding and confirming nobody', () => {
    const bench = new Bench();
    const reply = bench.ask(REQUEST);
    const nameless = REQUEST.replace(OURS, '');
    assert.equal(bench.ask(as('05', REQUEST)), reply);
    for (const type of ['04', '06']) {
      assert.equal(bench.ask(as(type, nameless)), reply);
      assert.equal(bench.ask(as(type, REQUEST)), 0);
    }
    const another = OURS.replace('9a559a55', '9a559a56');
    for (const type of ['03', '05', '0b'])
      assert.equal(bench.ask(as(type, REQUEST.replace(OURS, another))), 0, type);
    assert.equal(bench.ask(nameless), 0);
    assert.equal(bench.ask(as('01', REQUEST)), 0);
  });

  test('an address that is not the guest’s is not for this link, temporary or not; hoped for, it is passed over', () => {
    const bench = new Bench();
    const foreign = REQUEST.replace(IA_ADDRESS, IA_ADDRESS.replace(/10$/, '11'));
    const answer = `070bbf88${CLIENT}${OURS}${NOT_ON_LINK}`;
    assert.equal(bench.ask(foreign), answer);
    assert.equal(bench.ask(`030bbf88${CLIENT}${OURS}000400200000000100050018${foreign.slice(-48)}`), answer);
    assert.equal(bench.ask(as('01', foreign.replace(OURS, ''))), `020bbf88${CLIENT}${OURS}${GIVEN}${NAMES}`);
  });

  test('who asks for information alone gets no address, and need not say who he is', () => {
    const bench = new Bench();
    assert.equal(bench.ask(`0b000001${WISHES}0000`), `07000001${OURS}${NAMES}`);
    assert.equal(bench.ask(`0b000001${CLIENT}`), `07000001${CLIENT}${OURS}${NAMES}`);
    assert.equal(bench.ask(as('0b', REQUEST)), 0);
  });

  test('other messages, and those of nobody, are not answered', () => {
    const bench = new Bench();
    for (const type of ['02', '07', '08', '09', '0a', '0c', '0d'])
      assert.equal(bench.ask(as(type, REQUEST)), 0);
    assert.equal(bench.ask(SOLICIT.replace(CLIENT, '')), 0);
    assert.equal(bench.ask(REQUEST.replace(CLIENT, '')), 0);
  });

  test('whatever is cut off, or longer than it can be, is malformed', () => {
    const bench = new Bench();
    // Whole options in front of the cut are a message.
    const ends = [4, 22, 36, 44, 50].map((bytes) => 2 * bytes);
    for (let end = 0; end < REQUEST.length; end += 2)
      if (!ends.includes(end))
        assert.equal(bench.ask(REQUEST.slice(0, end)), DropReason.DhcpMalformed, `${end}`);
    const long = (bytes: number): string =>
      `01000001${'0001'}${bytes.toString(16).padStart(4, '0')}${'aa'.repeat(bytes)}`;
    for (const bytes of [0, 2, 131]) assert.equal(bench.ask(long(bytes)), DropReason.DhcpMalformed);
    assert.equal(typeof bench.ask(long(130)), 'string');
    for (const inner of ['0005', '00050017', `00050017${'00'.repeat(23)}`, '0005ffff'])
      assert.equal(
        bench.ask(
          `01000001${CLIENT}0003${(12 + inner.length / 2).toString(16).padStart(4, '0')}${'00'.repeat(12)}${inner}`,
        ),
        DropReason.DhcpMalformed,
      );
  });

  test('without an address nobody is answered; with another, by that', () => {
    const bench = new Bench('');
    assert.equal(bench.ask(SOLICIT), 0);
    bench.own.change({ ...plan, guest6: '2001:db8::10' });
    assert.equal(bench.ask(SOLICIT), `0244c587${CLIENT}${OURS}${GIVEN}${NAMES}`);
  });
});
