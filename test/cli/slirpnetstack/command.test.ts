/** The real program, as far as it gets without a network: what is wrong with a command line, and how it says so. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { oneLine } from '../../../src/cli/slirpnetstack/lines.ts';
import { parseOptions } from '../../../src/cli/slirpnetstack/options.ts';
import { programPath } from '../../support/program-path.ts';
import { PATIENCE_MS } from '../../support/wait.ts';

const launcher = programPath('slirpnetstack');

interface Result {
  status: number | null;
  stdout: string;
  stderr: string;
}

function slirpnetstack(...args: string[]): Result {
  const { status, stdout, stderr } = spawnSync(launcher, args, { encoding: 'utf8', timeout: PATIENCE_MS });
  return { status, stdout, stderr };
}

const FLAGS = [
  ...['L', 'R', 'allow', 'deny', 'dns-ttl', 'enable-host', 'enable-routing', 'exit-with-parent', 'fd'],
  ...[
    'interface',
    'm',
    'maxprocs',
    'mtu',
    'netns',
    'pcap',
    'print-config',
    'quiet',
    'source-ipv4',
    'source-ipv6',
    'version',
  ],
];

describe('what is wrong is the first line, then comes the usage; status 2, nothing on stdout', () => {
  const table: [string[], string][] = [
    [['--frobnicate'], 'flag provided but not defined: -frobnicate'],
    [['-fd'], 'flag needs an argument: -fd'],
    [['-=x'], 'bad flag syntax: -=x'],
    [['---x'], 'bad flag syntax: ---x'],
    [['-quiet=maybe'], 'invalid boolean value "maybe" for -quiet: parse error'],
    [['-fd=x'], 'invalid value "x" for flag -fd: parse error'],
    [['--mtu', '-1'], 'invalid value "-1" for flag -mtu: parse error'],
    [
      ['-fd', '99999999999999999999'],
      'invalid value "99999999999999999999" for flag -fd: value out of range',
    ],
    [['-maxprocs=many'], 'invalid value "many" for flag -maxprocs: parse error'],
    [['-dns-ttl', '5'], 'invalid value "5" for flag -dns-ttl: parse error'],
    [['-L', 'foo://80'], 'invalid value "foo://80" for flag -L: unknown network type "foo"'],
    [
      ['-R=70000'],
      'invalid value "70000" for flag -R: strconv.ParseUint: parsing "70000": value out of range',
    ],
    [['-L', 'x'], 'invalid value "x" for flag -L: strconv.ParseUint: parsing "x": invalid syntax'],
    [
      ['-allow=localhost:a'],
      'invalid value "localhost:a" for flag -allow: strconv.ParseUint: parsing "a": invalid syntax',
    ],
    [
      ['-deny=localhost:0-b'],
      'invalid value "localhost:0-b" for flag -deny: strconv.ParseUint: parsing "b": invalid syntax',
    ],
    [
      ['-deny=localhost:70000'],
      'invalid value "localhost:70000" for flag -deny: strconv.ParseUint: parsing "70000": value out of range',
    ],
    [
      ['-allow=localhost:2-1'],
      'invalid value "localhost:2-1" for flag -allow: min port must be smaller equal than max',
    ],
    [['-allow=1:2:3'], 'invalid value "1:2:3" for flag -allow: error parsing ipportrange'],
    [['-allow=notahostó'], 'invalid value "notahostó" for flag -allow: lookup notahostó: no such host'],
    [['-allow=a\u001bc\n'], 'invalid value "a\\x1bc\\n" for flag -allow: lookup a\\x1bc\\x0a: no such host'],
    [['-deny='], 'invalid value "" for flag -deny: lookup : no such host'],
    [['-allow=192.0.2.1,,'], 'invalid value "192.0.2.1,," for flag -allow: lookup : no such host'],
    [['-source-ipv4=a/b'], 'invalid value "a/b" for flag -source-ipv4: lookup a/b: no such host'],
    [['-source-ipv6', 'é'], 'invalid value "é" for flag -source-ipv6: lookup é: no such host'],
    [['-source-ipv4=::1'], 'invalid value "::1" for flag -source-ipv4: ::1 is not an IPv4 address'],
    ...['127.0.0.1:0', 'http://127.0.0.1:0', ''].map((value): [string[], string] => [
      ['-m', value],
      `invalid value "${value}" for flag -m: Address must be in form net://address, where net is one of unix/tcp/udp`,
    ]),
    [
      ['-m=tcp://127.0.0.1'],
      'invalid value "tcp://127.0.0.1" for flag -m: address 127.0.0.1: missing port in address',
    ],
    // Names are resolved where they stand, so the first that is wrong is told.
    [['-allow=é', '-L', 'x'], 'invalid value "é" for flag -allow: lookup é: no such host'],
    [
      ['-L', 'x', '-allow=é'],
      'invalid value "x" for flag -L: strconv.ParseUint: parsing "x": invalid syntax',
    ],
  ];
  for (const [args, message] of table)
    test(args.join(' '), () =>
      assert.rejects(parseOptions(args), (error: Error) => {
        assert.deepEqual([error.name, oneLine(error.message)], ['FlagError', message]);
        return true;
      }),
    );

  // Of each kind of reason one, and what would be a control character.
  const told = table.filter(([args]) => /^(--frobnicate|-fd|-L foo:|-allow=a|-deny=)/.test(args.join(' ')));
  for (const [args, first] of told) {
    test(`by the program: ${args.join(' ')}`, () => {
      const { status, stdout, stderr } = slirpnetstack(...args);
      const [line, usage] = stderr.split('\n');
      assert.equal(line, first);
      assert.equal(usage, `Usage of ${launcher}:`);
      assert.deepEqual([status, stdout], [2, '']);
    });
  }

  for (const flag of ['-h', '--help']) {
    test(`${flag} is the usage alone, with every flag`, () => {
      const { status, stdout, stderr } = slirpnetstack(flag);
      assert.deepEqual([status, stdout], [2, '']);
      assert.ok(stderr.startsWith(`Usage of ${launcher}:\n`));
      for (const name of FLAGS) assert.match(stderr, new RegExp(`^  -${name}( |$)`, 'm'));
    });
  }
});

describe('-version', () => {
  test('two lines on stdout, as of a release', () => {
    const { status, stdout, stderr } = slirpnetstack('-version');
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(
      stdout,
      /^slirpnetstack version \d+\.\d+\.\d+\nbuild time \d{4}-\d{2}-\d{2}-\d{2}:\d{2}UTC\n$/,
    );
  });

  test('what follows a word that is no flag is ignored, whatever it is', () => {
    for (const args of [
      ['-version', 'word', '-nope'],
      ['-version', '--', '-nope'],
      ['-quiet', '-version'],
    ]) {
      assert.match(slirpnetstack(...args).stdout, /^slirpnetstack version/);
    }
    assert.equal(slirpnetstack('-quiet', 'true', '-version', '-nope').status, 253);
  });
});

describe('a start that fails says why, each cause with a status of its own', () => {
  const table: [string, string[], number, string[]][] = [
    ['-fd and -netns', ['-fd=3', '-netns=/x'], 252, ['Please specify either -fd or -netns']],
    [
      'an MTU that no link has',
      ['-fd=0', '-mtu=10'],
      251,
      ['[!] Failed to create linkEP: MTU 10 is out of range; accepted: 576 to 65521'],
    ],
    [
      'no such namespace',
      ['-netns', '/nope'],
      253,
      [
        '[.] Joininig netns /nope',
        `[!] Can't join netns /nope: joining net namespace "/nope": open /nope: no such file or directory`,
        'Failed to open TUN/TAP: joining net namespace "/nope": open /nope: no such file or directory',
      ],
    ],
    [
      'a process that is not there',
      ['-netns', '/proc/4194304/ns/net'],
      253,
      [
        '[.] Joininig netns /proc/4194304/ns/net',
        `[!] Can't join netns /proc/4194304/ns/net: joining net namespace "/proc/4194304/ns/net": open /proc/4194304/ns/net: no such file or directory`,
        'Failed to open TUN/TAP: joining net namespace "/proc/4194304/ns/net": open /proc/4194304/ns/net: no such file or directory',
      ],
    ],
    [
      'a file that is no namespace',
      ['-netns', '/etc/passwd'],
      253,
      [
        '[.] Joininig netns /etc/passwd',
        `[!] Can't join netns /etc/passwd: joining net namespace "/etc/passwd": invalid argument`,
        'Failed to open TUN/TAP: joining net namespace "/etc/passwd": invalid argument',
      ],
    ],
    [
      'no such interface',
      ['-interface=nope'],
      253,
      [
        '[.] Opening tun interface nope',
        '[!] GetMTU(nope) = no such device',
        'Failed to open TUN/TAP: no such device',
      ],
    ],
    [
      'an interface that is neither TUN nor TAP',
      ['-interface=lo'],
      253,
      [
        '[.] Opening tun interface lo',
        '[!] open(lo) = invalid argument',
        'Failed to open TUN/TAP: invalid argument',
      ],
    ],
    [
      'metrics over UDP',
      ['-m', 'udp://127.0.0.1:0', '-fd=3', '-netns=/x'],
      254,
      ['[!] Failed to start metrics: listen udp 127.0.0.1:0: address 127.0.0.1:0: unexpected address type'],
    ],
    [
      'metrics at an address that is not ours',
      ['-m', 'tcp://192.0.2.77:80'],
      254,
      ['[!] Failed to start metrics: listen tcp 192.0.2.77:80: bind: cannot assign requested address'],
    ],
    [
      'metrics in no directory',
      ['-m', 'unix:///nope/m.sock'],
      254,
      ['[!] Failed to start metrics: listen unix /nope/m.sock: bind: no such file or directory'],
    ],
  ];
  for (const [name, args, code, lines] of table) {
    test(name, () => {
      const { status, stdout, stderr } = slirpnetstack(...args);
      assert.deepEqual(stderr.split('\n'), [...lines, '']);
      assert.deepEqual([status, stdout], [code, '']);
    });
  }
});
