import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addPortSpec, type PortOption } from '../../../src/cli/pasta/port-spec.ts';
import type { PortRule, PortScope } from '../../../src/config.ts';
import { ruleText } from '../../../src/expose/port-rule.ts';

const both: PortScope = {
  ...{ ipv4: true, ipv6: true, tcp: true, udp: true },
  ephemeral: { first: 32768, last: 60999 },
};

/** Options as they stand on a command line: what there is then, or what is said. */
function table(scope: PortScope, ...options: [PortOption, string][]): string[] {
  let rules: PortRule[] = [];
  try {
    for (const [option, spec] of options) rules = addPortSpec(option, spec, rules, scope);
  } catch (error) {
    assert.ok(error instanceof Error);
    return error.message.split('\n');
  }
  return rules.map(ruleText);
}

function one(spec: string, option: PortOption = 't', scope: PortScope = both): string[] {
  return table(scope, [option, spec]);
}

describe('pasta §8.1: what -t, -u, -T and -U mean', () => {
  const all = [
    'TCP [*]:1-32767  =>  1-32767  (best effort)',
    'TCP [*]:61000-65535  =>  61000-65535  (best effort)',
  ];
  const meanings: [spec: string, rules: string[], option?: PortOption][] = [
    ['none', []],
    ['8080', ['TCP [*]:8080  =>  8080 ']],
    ['8080', ['UDP [*]:8080  =>  8080 '], 'u'],
    ['8080', ['TCP [*]%lo:8080  =>  8080 '], 'T'],
    ['8080:80', ['UDP [*]%lo:8080  =>  80 '], 'U'],
    ['8080-8090', ['TCP [*]:8080-8090  =>  8080-8090 ']],
    ['8080-8080:80-80', ['TCP [*]:8080  =>  80 ']],
    ['8080-8090:80-90', ['TCP [*]:8080-8090  =>  80-90 ']],
    ['22,80:8080,443', ['TCP [*]:22  =>  22 ', 'TCP [*]:80  =>  8080 ', 'TCP [*]:443  =>  443 ']],
    ['65535:1', ['TCP [*]:65535  =>  1 ']],
    ['8000-8010,~8005', ['TCP [*]:8000-8004  =>  8000-8004 ', 'TCP [*]:8006-8010  =>  8006-8010 ']],
    ['~8005,8000-8010:9000-9010', ['TCP [*]:8000-8004  =>  9000-9004 ', 'TCP [*]:8006-8010  =>  9006-9010 ']],
    ['8000-8010,~8000-8001,~8001-8003', ['TCP [*]:8004-8010  =>  8004-8010 ']],
    ['8000,~1-65535', []],
    ['all', all],
    ['~1-79,~32000-65535', ['TCP [*]:80-31999  =>  80-31999  (best effort)']],
    ['all,~1-1023,~61000-65535', ['TCP [*]:1024-32767  =>  1024-32767  (best effort)']],
    ['auto', all.map((text) => `${text} (auto-scan)`)],
    ['auto,~1-1023,~61000-65535', ['TCP [*]:1024-32767  =>  1024-32767  (best effort) (auto-scan)']],
    ['8000-8010,auto', ['TCP [*]:8000-8010  =>  8000-8010  (auto-scan)']],
    ['*/80', ['TCP [*]:80  =>  80 ']],
    ['%eth0/80', ['TCP [*]%eth0:80  =>  80 ']],
    ['*%eth0/80', ['TCP [*]%eth0:80  =>  80 ']],
    ['192.0.2.1/80', ['TCP [192.0.2.1]:80  =>  80 ']],
    ['[192.0.2.1]/80', ['TCP [192.0.2.1]:80  =>  80 ']],
    ['192.0.2.1%eth0/80-81', ['TCP [192.0.2.1]%eth0:80-81  =>  80-81 ']],
    ['::1/8080-8080:80-80', ['TCP [::1]:8080  =>  80 ']],
    ['::/8080:80', ['TCP [::]:8080  =>  80 ']],
    ['[2001:db8::0]/80', ['TCP [2001:db8::]:80  =>  80 ']],
    ['fe80::1%eth0/80', ['TCP [fe80::1]%eth0:80  =>  80 ']],
    // Its first group could be a port.
    ['2001:db8::10%eth0/8052:52', ['TCP [2001:db8::10]%eth0:8052  =>  52 ']],
    ['0.0.0.0/8080:10.0.0.5/80', ['TCP [0.0.0.0]:8080  =>  [10.0.0.5]:80 ']],
    ['[::]/8080-8081:fd00::5/80-81', ['TCP [::]:8080-8081  =>  [fd00::5]:80-81 ']],
    ['[::]/8080:[fd00::5]/80', ['TCP [::]:8080  =>  [fd00::5]:80 ']],
    ['0.0.0.0/8080:10.0.0.5', ['TCP [0.0.0.0]:8080  =>  [10.0.0.5]:8080 ']],
    ['[::]/8080:fd00::5', ['TCP [::]:8080  =>  [fd00::5]:8080 ']],
    ['0.0.0.0/all:10.0.0.5,~61000-65535', ['TCP [0.0.0.0]:1-32767  =>  [10.0.0.5]:1-32767  (best effort)']],
  ];
  for (const [spec, rules, option = 't'] of meanings)
    test(`-${option} ${spec}`, () => assert.deepEqual(one(spec, option), rules));

  test('with one family, all addresses are those of it', () => {
    assert.deepEqual(one('80', 't', { ...both, ipv6: false }), ['TCP [0.0.0.0]:80  =>  80 ']);
    assert.deepEqual(one('80', 'T', { ...both, ipv4: false }), ['TCP [::]%lo:80  =>  80 ']);
    assert.deepEqual(one('auto,~61000-65535', 't', { ...both, ipv6: false }), [
      'TCP [0.0.0.0]:1-32767  =>  1-32767  (best effort) (auto-scan)',
    ]);
  });
});

describe('pasta §8.2: what is refused, and how', () => {
  const syntax = [
    ...['', 'x', '80x', '-1', '80-', '-80', '90-80', '65536', '80-65536', '80:', ':80', '80:90-91'],
    ...['80-81:90', '80:65536', '80-81:65535-65536', '80,', ',80', '~', '~x', '~80:81', 'none,80', '80,none'],
    ...[
      'auto:80',
      'all:',
      'all:80',
      'autox',
      '08',
      '0x50',
      ' 80',
      '80 ',
      '80,all,x',
      '1.2.3/80',
      '1.2.3.4.5/80',
    ],
    ...[
      '/80',
      '%/80',
      '192.0.2.1%/80',
      '192.0.2.1/',
      '*/',
      '**/80',
      '[::1/80',
      '::1]/80',
      '[]/80',
      'host/80',
    ],
    ...[
      '192.0.2.1/80/81',
      '0.0.0.0/80:10.0.0.5/',
      '0.0.0.0/80:/80',
      '0.0.0.0/80:10.0.0/80',
      '0.0.0.0/80:host',
    ],
    ...['192.0.2.1%eth0%eth1/80x'],
  ];
  for (const spec of syntax)
    test(`-t ${JSON.stringify(spec)}`, () =>
      assert.deepEqual(one(spec), [`Invalid port specifier '${spec}'`]));

  const refusals: [spec: string, lines: string[], option?: PortOption][] = [
    ['0', ['Forwarding rule attempts to map from port 0', 'Unable to add rule TCP [*]:0  =>  0 ']],
    ['80:0', ['Forwarding rule attempts to map to port 0', 'Unable to add rule TCP [*]:80  =>  0 ']],
    ['127.0.0.1/80', ['Listening address not allowed for -T 127.0.0.1/80'], 'T'],
    ['*/80', ['Listening address not allowed for -U */80'], 'U'],
    ['%a23456789012345x/80', ["Interface name 'a23456789012345x' is too long (max 15)"]],
    [
      '8080:10.0.0.5/80',
      [
        'Dual stack forward to IPv4 address 10.0.0.5 unsupported',
        'Did you mean 0.0.0.0/... instead?',
        'Unable to add rule TCP [*]:8080  =>  [10.0.0.5]:80 ',
      ],
    ],
    [
      '8080:[fd00::5]/80',
      [
        'Dual stack forward to IPv6 address fd00::5 unsupported',
        'Did you mean [::]/... instead?',
        'Unable to add rule TCP [*]:8080  =>  [fd00::5]:80 ',
      ],
    ],
    [
      '0.0.0.0/8080:fd00::1/80',
      [
        'Forward from IPv4 (0.0.0.0) to IPv6 (fd00::1) unsupported',
        'Unable to add rule TCP [0.0.0.0]:8080  =>  [fd00::1]:80 ',
      ],
    ],
    [
      '0.0.0.0/8080:224.0.0.1/80',
      [
        'Multicast target address 224.0.0.1 for forwarding rule',
        'Unable to add rule TCP [0.0.0.0]:8080  =>  [224.0.0.1]:80 ',
      ],
    ],
  ];
  for (const [spec, lines, option = 't'] of refusals)
    test(`-${option} ${spec}`, () => assert.deepEqual(one(spec, option), lines));

  test('a family or protocol that is off', () => {
    assert.deepEqual(one('::1/80', 't', { ...both, ipv6: false }), [
      'IPv6 forward, but IPv6 not enabled',
      'Unable to add rule TCP [::1]:80  =>  80 ',
    ]);
    assert.deepEqual(
      one('192.0.2.1/80', 't', { ...both, ipv4: false })[0],
      'IPv4 forward, but IPv4 not enabled',
    );
    const [first] = one('8080', 't', { ...both, tcp: false });
    assert.equal(first, "Can't add TCP forwarding rule, TCP not enabled");
    assert.deepEqual(one('none', 't', { ...both, tcp: false }), []);
  });
});

describe('pasta §8.1: several of them', () => {
  const conflict = (one: string, other: string): string[] => [
    `Forwarding configuration conflict: ${one} versus ${other}`,
    `Unable to add rule ${one}`,
  ];
  const cases: [title: string, specs: string[], result: string[]][] = [
    ['none and then a port', ['none', '8080'], ['TCP [*]:8080  =>  8080 ']],
    ['none twice', ['none', 'none'], []],
    ['none behind a port', ['8080', 'none'], ['-t none conflicts with previous options']],
    ['none and then auto', ['none', '80,auto'], ['TCP [*]:80  =>  80  (auto-scan)']],
    [
      'the same port twice',
      ['8080', '8080:81'],
      conflict('TCP [*]:8080  =>  81 ', 'TCP [*]:8080  =>  8080 '),
    ],
    [
      'in a range',
      ['8080-8090', '8085'],
      conflict('TCP [*]:8085  =>  8085 ', 'TCP [*]:8080-8090  =>  8080-8090 '),
    ],
    [
      'everywhere and on one',
      ['80', '127.0.0.1/80'],
      conflict('TCP [127.0.0.1]:80  =>  80 ', 'TCP [*]:80  =>  80 '),
    ],
    [
      'everywhere of a family and on one of it',
      ['::/80', '::1/80'],
      conflict('TCP [::1]:80  =>  80 ', 'TCP [::]:80  =>  80 '),
    ],
    [
      'auto and then one of its ports',
      ['auto,~81-65535', '80'],
      conflict('TCP [*]:80  =>  80 ', 'TCP [*]:1-80  =>  1-80  (best effort) (auto-scan)'),
    ],
    [
      'two addresses with different targets',
      ['127.0.0.1/80:81', '127.0.0.2/80:82'],
      ['TCP [127.0.0.1]:80  =>  81 ', 'TCP [127.0.0.2]:80  =>  82 '],
    ],
    [
      'all addresses of each family',
      ['0.0.0.0/80', '[::]/80'],
      ['TCP [0.0.0.0]:80  =>  80 ', 'TCP [::]:80  =>  80 '],
    ],
    ['two interfaces', ['%a/80', '%b/80'], ['TCP [*]%a:80  =>  80 ', 'TCP [*]%b:80  =>  80 ']],
    ['an interface and any', ['%a/80', '80'], conflict('TCP [*]:80  =>  80 ', 'TCP [*]%a:80  =>  80 ')],
  ];
  for (const [title, specs, result] of cases)
    test(`${title}: ${specs.map((spec) => `-t ${spec}`).join(' ')}`, () =>
      assert.deepEqual(table(both, ...specs.map((spec): [PortOption, string] => ['t', spec])), result));

  test('one protocol does not stand in the way of the other', () => {
    assert.deepEqual(table(both, ['t', '53'], ['u', '53'], ['u', 'none']), [
      '-u none conflicts with previous options',
    ]);
    assert.deepEqual(table(both, ['t', '53'], ['u', '53']), ['TCP [*]:53  =>  53 ', 'UDP [*]:53  =>  53 ']);
  });

  test('so many rules and no more', () => {
    const specs = Array.from({ length: 4097 }, (_, i): [PortOption, string] => ['t', `${i + 1}`]);
    assert.equal(table(both, ...specs.slice(0, 4096)).length, 4096);
    assert.equal(table(both, ...specs)[0], 'Too many rules (maximum 4096)');
  });
});
