import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { parseArguments } from '../../src/cli/options.ts';
import type { Config } from '../../src/config.ts';
import { programPath } from '../support/program-path.ts';
import { PATIENCE_MS } from '../support/wait.ts';

const launcher = programPath('tslirp');

function tslirp(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(launcher, args, { encoding: 'utf8', timeout: PATIENCE_MS });
  return { status, stdout, stderr };
}

/** What two options of one command line say against each other. */
const conflicts: [string[], RegExp][] = [
  ...(
    [
      ['--dns', '192.0.2.1', '--no-dns'],
      ['--no-dns', '--dns', '192.0.2.1'],
      ['--no-dns', '--dns-search', 'a.example'],
      ['--sandbox', '--no-sandbox'],
      ['--no-ipv6', '--ipv6'],
      ['-q', '--log-level', 'debug'],
    ] as const
  ).map((options): [string[], RegExp] => [
    ['run', ...options, '--', 'true'],
    /^options --[\w-]+ and --[\w-]+ exclude each other; accepted: one of them$/,
  ]),
  [['attach', '--configure', '--no-configure', '1'], /options --configure and --no-configure exclude/],
  [['attach', '--fd', '0', '--interface', 'tap1'], /options --fd and --interface exclude/],
  [['attach', '--fd', '0', '--configure'], /options --fd and --configure exclude/],
  [['attach', '--fd', '0', '--userns', '/proc/self/ns/user'], /options --fd and --userns exclude/],
  [
    ['run', '--ready-fd', '0', '--exit-fd', '0', '--', 'true'],
    /options --ready-fd and --exit-fd are both given descriptor 0; accepted: another for one/,
  ],
  [
    ['run', '--pcap', '-', '--flow-log', '-', '--', 'true'],
    /options --flow-log and --pcap are both given descriptor 1/,
  ],
  [
    ['run', '--pcap', '/tmp/tslirp-both', '--flow-log', '/tmp/../tmp/tslirp-both', '--', 'true'],
    /options --flow-log and --pcap are both given "\/tmp\/tslirp-both"/,
  ],
];

describe('a command line that cannot be used: one line that names the argument, and status 2', () => {
  const table: [string, string[], RegExp][] = [
    ['nothing', [], /no command; accepted: run, attach, /],
    ['an unknown subcommand', ['walk'], /'walk'/],
    ['an unknown option', ['run', '--walk', '--', 'true'], /'--walk'/],
    ['an option without its value', ['run', '--mtu'], /--mtu/],
    ['attach without a target', ['attach'], /target/],
    ['attach with two targets', ['attach', '1', '2'], /too many arguments/],
    [
      'attach to a missing file',
      ['attach', '/nonexistent/netns'],
      /"\/nonexistent\/netns" does not exist; accepted:/,
    ],
    ['attach to process 0', ['attach', '0'], /"0" is not a process number/],
    [
      'an MTU in words',
      ['run', '--mtu', 'big', '--', 'true'],
      /option --mtu: "big" is not a number; accepted: 576/,
    ],
    [
      'an MTU too small',
      ['run', '--mtu', '575', '--', 'true'],
      /option --mtu: "575".*accepted: 576 to 65521/,
    ],
    ['an MTU too large', ['run', '--mtu', '65522', '--', 'true'], /option --mtu: "65522"/],
    ['an MTU too small for IPv6', ['run', '--mtu', '1279', '--', 'true'], /"1279" is too small for IPv6/],
    [
      'a network with host bits',
      ['run', '--cidr', '10.0.2.100/24', '--', 'true'],
      /option --cidr: "10\.0\.2\.100\/24"/,
    ],
    [
      'a network too small',
      ['run', '--cidr', '10.0.2.0/26', '--', 'true'],
      /option --cidr: "10\.0\.2\.0\/26"/,
    ],
    ...(
      [
        ['fd00:1::', 'is not a network'],
        ['10.0.3.0/24', 'is not a network'],
        ['fd00::%eth0/64', 'is not a network'],
        ['fd00::/48', 'has another prefix length'],
        ['fd00::1/64', 'has bits set beyond the prefix'],
        ['fe80::/64', 'is a reserved range'],
        ['ff02::/64', 'is a reserved range'],
        ['::/64', 'is a reserved range'],
      ] as const
    ).map(
      ([value, fault]) =>
        [
          `review OP-15: --cidr6 ${value}`,
          ['run', '--cidr6', value, '--', 'true'],
          new RegExp(`option --cidr6: .*${fault}`),
        ] as [string, string[], RegExp],
    ),
    [
      'review OP-15: --cidr6 without IPv6',
      ['run', '--cidr6', 'fd01::/64', '--no-ipv6', '--', 'true'],
      /option --cidr6: .*--no-ipv6/,
    ],
    ['a loopback network', ['run', '--cidr', '127.0.0.0/8', '--', 'true'], /option --cidr: .*reserved/],
    [
      'a network that is none',
      ['run', '--cidr', '10.0.2/24', '--', 'true'],
      /option --cidr: .*not a network/,
    ],
    [
      'a bad rule',
      ['run', '--allow', 'tcp://10.0.0.0/33', '--', 'true'],
      /option --allow: .*10\.0\.0\.0\/33/,
    ],
    ['a bad rule in a list', ['run', '--deny', '192.0.2.1,,192.0.2.2', '--', 'true'], /option --deny:/],
    ['a bad forward', ['run', '-L', '70000', '--', 'true'], /option --local-forward: "70000" .*accepted:/],
    [
      'a forward with a bad scheme',
      ['run', '-R', 'tcppp://80', '--', 'true'],
      /option --remote-forward: .*"tcppp".*accepted: tcp, udp/,
    ],
    [
      'a source of the wrong family',
      ['run', '--source-ipv4', '::1', '--', 'true'],
      /option --source-ipv4: "::1" is not an IPv4 address/,
    ],
    ['a DNS server by name', ['run', '--dns', 'dns.example', '--', 'true'], /option --dns: "dns\.example"/],
    [
      'a descriptor that is not open',
      ['run', '--ready-fd', '99', '--', 'true'],
      /option --ready-fd: "99" is not open/,
    ],
    ['a descriptor that is none', ['run', '--exit-fd', '-1', '--', 'true'], /option --exit-fd: "-1"/],
    ['a bad interface name', ['run', '--interface', 'a/b', '--', 'true'], /option --interface: "a\/b"/],
    [
      'a long interface name',
      ['run', '--interface', 'abcdefghijklmnop', '--', 'true'],
      /option --interface:/,
    ],
    [
      'a bad log level',
      ['run', '--log-level', 'loud', '--', 'true'],
      /option --log-level: "loud".*accepted: trace/,
    ],
    ['a capture in no directory', ['run', '--pcap', '/nonexistent/a.pcap', '--', 'true'], /option --pcap:/],
    [
      'a missing user namespace',
      ['attach', '--userns', '/nonexistent', '1'],
      /option --userns: "\/nonexistent"/,
    ],
    ...conflicts.map(
      ([given, message]) => [`review ON-9: ${given.join(' ')}`, given, message] as [string, string[], RegExp],
    ),
    [
      'review ON-8: --pcap without a name',
      ['run', '--pcap', '', '--', 'true'],
      /option --pcap: "" is empty; accepted:/,
    ],
    [
      'a flow log into a descriptor that is not open',
      ['run', '--flow-log', 'fd:99', '--', 'true'],
      /option --flow-log: "fd:99" is not open; accepted:/,
    ],
    [
      'events into a descriptor that is none',
      ['run', '--events', 'fd:x', '--', 'true'],
      /option --events: "fd:x" is not a descriptor number; accepted:/,
    ],
    [
      'a capture without a file',
      ['run', '--pcap', '--', 'true'],
      /option --pcap: no file; accepted: .*--out-dir/,
    ],
    ['help about nothing', ['help', 'nope'], /there is no command "nope"; accepted: run, attach/],
    [
      'review ON-8: a flow log in no directory',
      ['run', '--flow-log', '/nonexistent/a', '--', 'true'],
      /option --flow-log: .* is in a directory that does not exist; accepted:/,
    ],
    ...['127.0.0.1', '224.0.0.1', '255.255.255.255'].map(
      (address) =>
        [
          `review ON-14: source ${address}`,
          ['run', '--source-ipv4', address, '--', 'true'],
          /option --source-ipv4: .* is no address that others could answer to; accepted:/,
        ] as [string, string[], RegExp],
    ),
    [
      'review ON-14: a value for an option that takes none',
      ['run', '--enable-routing=yes', '--', 'true'],
      /option --enable-routing takes no value \(see tslirp run --help\)/,
    ],
    [
      'review ON-14: loopback as interface',
      ['attach', '--interface', 'lo', '1'],
      /option --interface: "lo" is the loopback interface; accepted:/,
    ],
    [
      'a misspelt option',
      ['attach', '--log-levle', 'info', '1'],
      /unknown option '--log-levle'; did you mean --log-level\? \(see tslirp attach --help\)/,
    ],
    [
      'a misspelt command',
      ['atach', '1'],
      /unknown command 'atach'; did you mean attach\? \(see tslirp --help\)/,
    ],
    ['a command that is not complete', ['flow'], /no command; accepted: ls, kill \(see tslirp flow --help\)/],
    [
      'a number that is none',
      ['flow', 'kill', 'x', '--api-socket', '/x'],
      /"x" is not a number; accepted: 1/,
    ],
  ];
  for (const [name, args, message] of table) {
    test(name, () => {
      assert.throws(
        () => parseArguments(args, '0'),
        (error: NodeJS.ErrnoException) => {
          assert.equal(error.code, 'ERR_USAGE', error.stack);
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /\n/);
          return true;
        },
      );
    });
  }

  /** What only the program itself can tell, and two of the others. */
  const told: [string, string[], RegExp][] = [
    ['nothing', [], /no command; accepted: run, attach, /],
    ['an unknown option', ['run', '--walk', '--', 'true'], /'--walk'/],
    [
      'a name for loopback',
      ['run', '--allow', 'localhost:80', '--', 'true'],
      /"localhost" stands for the reserved/,
    ],
    [
      'a forward of a name that does not exist',
      ['run', '-L', 'name.invalid:80', '--', 'true'],
      /lookup name\.invalid: no such host/,
    ],
    [
      'review ON-14: a source that the host does not have',
      ['run', '--source-ipv4', '192.0.2.77', '--', 'true'],
      /option --source-ipv4: "192\.0\.2\.77" cannot be bound to \(EADDRNOTAVAIL\); accepted: an address of/,
    ],
    [
      'review ON-14: IPv6 likewise',
      ['run', '--source-ipv6', '2001:db8:77::1', '--', 'true'],
      /option --source-ipv6: "2001:db8:77::1" cannot be bound to/,
    ],
    [
      'nobody to ask',
      ['flow', 'ls'],
      /no socket to ask at; accepted: --api-socket PATH, or \$TSLIRP_API_SOCKET/,
    ],
    [
      'a forward that only -L can make',
      ['forward', 'add', 'unix:/run/x:80', '--api-socket', '/x'],
      /"unix:\/run\/x:80" listens at no address; accepted: a rule of literal addresses/,
    ],
  ];
  for (const [name, args, message] of told) {
    test(`by the program: ${name}`, () => {
      const { status, stdout, stderr } = tslirp(...args);
      assert.match(stderr, message);
      assert.match(stderr, /^tslirp: [^\n]+\n$/);
      assert.deepEqual([status, stdout], [2, '']);
    });
  }
});

describe('information', () => {
  test('--version and -V', () => {
    for (const option of ['--version', '-V']) {
      const { status, stdout, stderr } = tslirp(option);
      assert.deepEqual([status, stderr], [0, '']);
      assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
    }
  });

  test('help COMMAND is COMMAND --help', () => {
    assert.equal(tslirp('help', 'attach').stdout, tslirp('attach', '--help').stdout);
    assert.equal(tslirp('help').stdout, tslirp('--help').stdout);
  });

  test('review ON-15: help tells congestion controls and log levels, and no empty defaults', () => {
    const { stdout } = tslirp('run', '--help');
    assert.doesNotMatch(stdout, /default: \[\]/);
    const text = stdout.replace(/\s+/g, ' ');
    assert.match(text, /--congestion <name> .*"auto", "none", "newReno", "cubic"/);
  });

  test('review ON-14: help that nobody reads is no failure of ours to tell of', () => {
    for (const redirection of ['>&-', '>/dev/full']) {
      const { stdout, stderr } = spawnSync('sh', ['-c', `"${launcher}" --help ${redirection}`], {
        encoding: 'utf8',
      });
      assert.deepEqual([stdout, stderr], ['', ''], redirection);
    }
  });

  test('--print-config: what the options make, names resolved, and nothing is started', () => {
    const options = ['--no-ipv6', '--allow', '192.0.2.1:80', '-L', '8080:80', '--log-level', 'debug'];
    const { status, stdout, stderr } = tslirp('run', ...options, '--print-config', '--', '/nonexistent');
    assert.deepEqual([status, stderr], [0, '']);
    const config = JSON.parse(stdout) as Config;
    assert.deepEqual(config.guest.target, { kind: 'run', command: ['/nonexistent'], mapAuto: false });
    assert.equal(config.process.logLevel, 'debug');
    // review ON-14: as it was written, and not as ours count them.
    assert.deepEqual(
      [...config.guest.policy.allow, ...config.guest.policy.guestNetworks].map(({ address, bits }) => [
        address,
        bits,
      ]),
      [
        ['192.0.2.1', 32],
        ['10.0.2.0', 24],
      ],
    );
    const [forward] = config.guest.forwards;
    assert.deepEqual(forward?.direction === 'local' && [forward.listen, forward.target], [
      { kind: 'ip', address: '127.0.0.1', port: 8080 },
      { address: '10.0.2.100', port: 80 },
    ]);
    const refused = tslirp('run', '--allow', 'name.invalid', '--print-config');
    assert.deepEqual([refused.status, refused.stdout], [2, '']);
  });

  test('attach NAME is a namespace that `ip netns` has named, before a file of that name here', () => {
    // In a /run of our own.
    const script = `mount -t tmpfs own /run && mkdir /run/netns && : >/run/netns/blue && : >/run/blue && cd /run && exec "$@"`;
    const target = (name: string): unknown => {
      const words = ['sh', '-c', script, 'sh', launcher, 'attach', '--print-config', name];
      const { stdout, stderr } = spawnSync('unshare', ['--user', '--map-root-user', '--mount', ...words], {
        encoding: 'utf8',
      });
      assert.equal(stderr, '');
      const { guest } = JSON.parse(stdout) as Config;
      return guest.target.kind === 'attach' && guest.target.netnsPath;
    };
    assert.equal(target('blue'), '/run/netns/blue');
    assert.equal(target('./blue'), './blue');
  });

  test('a command that is asked for, when nobody is there', () => {
    const { status, stdout, stderr } = tslirp('stats', '--api-socket', '/nonexistent/socket');
    assert.deepEqual([status, stdout], [3, '']);
    assert.equal(stderr, 'tslirp: nobody answers at /nonexistent/socket: No such file or directory\n');
  });

  test('--help, of the program and of both subcommands', () => {
    for (const args of [['--help'], ['run', '--help'], ['attach', '--help']]) {
      const { status, stdout, stderr } = tslirp(...args);
      assert.deepEqual([status, stderr], [0, '']);
      assert.match(stdout, /^Usage: tslirp/);
    }
  });
});
