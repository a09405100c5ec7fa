import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseForwardSource, parsePortMaps } from '../../src/cli/port-map.ts';
import { UsageError } from '../../src/cli/values.ts';
import { defaultAddresses, type PortMap } from '../../src/config.ts';

function parse(text: string): Partial<PortMap>[] {
  return parsePortMaps(text, defaultAddresses).map(({ text: _, ...map }) => map);
}

const web = { protocol: 'tcp', host: '', hostPort: 80, guest: '192.168.0.1', guestPort: 80, source: '' };
const dns = { ...web, protocol: 'udp', hostPort: 20002, guestPort: 20002 };

function refusal(text: string): string {
  try {
    parsePortMaps(text, defaultAddresses);
  } catch (error) {
    assert.ok(error instanceof UsageError);
    assert.doesNotMatch(error.message, /\n/);
    assert.ok(error.message.length < 400);
    return error.message;
  }
  assert.fail(`${text} was taken`);
}

describe('parsePortMaps', () => {
  test('ports P-1: the two examples', () => {
    assert.deepEqual(parse('TCP:80:192.168.0.1:80,udp:20002:192.168.0.1:20002'), [web, dns]);
    assert.deepEqual(parse(' tcp : 80 : 192.168.0.1 : 80 , UDP:20002:192.168.0.1:20002 '), [web, dns]);
  });

  test('ports P-2: IPv6 with and without brackets is the same; addresses are numbers', () => {
    const map = { ...web, guest: 'fd00::100' };
    for (const guest of ['[fd00::100]', 'fd00::100', 'FD00:0::0100'])
      assert.deepEqual(parse(`tcp:80:${guest}:80`), [map]);
    assert.deepEqual(parse('tcp:80:::ffff:192.168.0.1:80'), [web]);
    assert.match(refusal('tcp:80:192.168.000.001:80'), /has no guest address "192\.168\.000\.001"/);
  });

  test('a map may say where the host listens, that any guest address will do, and who is seen as the client', () => {
    assert.deepEqual(parse('tcp:127.0.0.1/8080:*:80'), [
      { ...web, host: '127.0.0.1', hostPort: 8080, guest: '*' },
    ]);
    assert.deepEqual(
      parse('tcp:[::1]/0:[::]:80,source=client, udp:20002:192.168.0.1:20002,source=192.0.2.7'),
      [
        { ...web, host: '::1', hostPort: 0, guest: '::', source: 'client' },
        { ...dns, source: '192.0.2.7' },
      ],
    );
  });

  test('ports P-3: what is wrong is one line that names the map', () => {
    const bad: [string, string][] = [
      ['', 'port map "": is empty; accepted: PROTO:[HOST/]PORT:GUEST:PORT'],
      ['tcp:80:192.168.0.1:80,', 'port map "": is empty; accepted: PROTO:[HOST/]PORT:GUEST:PORT'],
      [
        'tcp:80:192.168.0.1',
        'port map "tcp:80:192.168.0.1": has too few fields; accepted: PROTO:[HOST/]PORT:GUEST:PORT',
      ],
      ['sctp:80:1.2.3.4:80', 'port map "sctp:80:1.2.3.4:80": has no protocol "sctp"; accepted: tcp, udp'],
      ['xtcp:80:1.2.3.4:80', 'port map "xtcp:80:1.2.3.4:80": has no protocol "xtcp"; accepted: tcp, udp'],
      ['tcp:80:1.2.3.4:0', 'port map "tcp:80:1.2.3.4:0": has no guest port "0"; accepted: 1 to 65535'],
      [
        'tcp:80:1.2.3.4:65536',
        'port map "tcp:80:1.2.3.4:65536": has no guest port "65536"; accepted: 1 to 65535',
      ],
      [
        'tcp:65536:1.2.3.4:80',
        'port map "tcp:65536:1.2.3.4:80": has no host port "65536"; accepted: 0 to 65535',
      ],
      ['tcp:80:1.2.3.4:80z', 'port map "tcp:80:1.2.3.4:80z": has no guest port "80z"; accepted: 1 to 65535'],
      [
        'tcp:80:1.2.3.4z:80',
        'port map "tcp:80:1.2.3.4z:80": has no guest address "1.2.3.4z"; accepted: an address, or * for any',
      ],
      ['tcp:80::80', 'port map "tcp:80::80": has no guest address ""; accepted: an address, or * for any'],
      [
        'tcp:80:127.0.0.1:80',
        'port map "tcp:80:127.0.0.1:80": has the guest address 127.0.0.1, which is not reached from outside',
      ],
      [
        'tcp:::1/80:1.2.3.4:80',
        'port map "tcp:::1/80:1.2.3.4:80": has no host address "::1"; accepted: an IPv4 address, or an IPv6 one in brackets',
      ],
      ['source=client', 'port map "source=client": stands before the map that it belongs to'],
    ];
    for (const [text, message] of bad) assert.equal(refusal(text), message);
    for (const source of ['127.0.0.1', '224.0.0.1', '10.0.2.100', '255.255.255.255', '0.0.0.0', 'eth0', ''])
      assert.match(
        refusal(`tcp:80:1.2.3.4:80,source=${source}`),
        /^port map ".*": has no usable source; accepted: gateway/,
      );
    assert.match(refusal('tcp:80:1.2.3.4:80,source=client,source=gateway'), /has two sources/);
    const many = Array.from({ length: 10_000 }, (_, i) => `tcp:${i + 1}:1.2.3.4:${i + 1}`).join(',');
    assert.match(refusal(many), /^port map "tcp:1:.*…": 10000 maps; accepted: up to 1024$/);
    assert.match(refusal('tcp:80:1.2\n.3.4:80'), /^port map "tcp:80:1\.2\\n\.3\.4:80": has no guest address/);
  });

  test('IPv6 is refused for a guest without', () => {
    const plan = { ...defaultAddresses, ipv6: false };
    assert.throws(() => parsePortMaps('tcp:80:fd00::100:80', plan), /without IPv6/);
    assert.throws(() => parseForwardSource('fd77::1', plan), /no usable source/);
  });

  test('ports P-4: one service has one host port, however often that is said', () => {
    assert.deepEqual(parse('tcp:80:192.168.0.1:80,TCP:80:192.168.0.1:80'), [web]);
    assert.equal(
      refusal('tcp:80:192.168.0.1:80,tcp:81:192.168.0.1:80'),
      'port map "tcp:81:192.168.0.1:80": has another host port by "tcp:80:192.168.0.1:80"',
    );
  });

  test('ports P-5: two services cannot have one host port, unless the protocol or the address is another', () => {
    assert.equal(
      refusal('tcp:80:192.168.0.1:80,tcp:80:192.168.0.2:80'),
      'port map "tcp:80:192.168.0.2:80": has the host port of "tcp:80:192.168.0.1:80"',
    );
    assert.match(refusal('tcp:80:192.168.0.1:80,tcp:127.0.0.1/80:192.168.0.2:80'), /has the host port of/);
    assert.equal(parse('tcp:127.0.0.1/80:192.168.0.1:80,tcp:127.0.0.2/80:192.168.0.2:80').length, 2);
    assert.equal(parse('tcp:53:192.168.0.1:53,udp:53:192.168.0.1:53').length, 2);
    assert.equal(parse('tcp:0:192.168.0.1:53,tcp:0:192.168.0.2:53').length, 2);
  });

  test('what --forward-source takes', () => {
    for (const source of ['gateway', 'client', '192.0.2.7', 'fd77::1', '10.0.2.77', '10.0.2.2'])
      assert.equal(parseForwardSource(source, defaultAddresses), source);
    assert.throws(
      () => parseForwardSource('10.0.2.100', defaultAddresses),
      /^UsageError: option --forward-source: "10\.0\.2\.100" is no usable source; accepted: gateway, client, or/,
    );
  });
});
