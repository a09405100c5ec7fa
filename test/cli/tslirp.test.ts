import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

/** The launcher, from test/cli as well as from dist/test/cli. */
function findLauncher(): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(directory, 'bin', 'tslirp'))) directory = dirname(directory);
  return join(directory, 'bin', 'tslirp');
}
const launcher = findLauncher();

function tslirp(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(launcher, args, { encoding: 'utf8', timeout: 20_000 });
  return { status, stdout, stderr };
}

describe('the launcher', () => {
  test('knows which options stand alone, or it would take values for options', () => {
    const help = tslirp('run', '--help').stdout + tslirp('attach', '--help').stdout;
    const alone = [...help.matchAll(/^ {2}(?:(-\w), )?(--[\w-]+)(?! <)(?=\s)/gm)].flatMap(
      ([, short, long]) => (short === undefined ? [long] : [short, long]),
    );
    const list = /my %alone = .*?qw\(([^)]*)\)/s.exec(readFileSync(launcher, 'utf8'))?.[1] ?? '';
    assert.deepEqual(new Set(list.trim().split(/\s+/)), new Set(alone));
  });
});

describe('a command line that cannot be used: one line that names the argument, and status 2', () => {
  const table: [string, string[], RegExp][] = [
    ['nothing', [], /no subcommand; accepted: run, attach/],
    ['an unknown subcommand', ['walk'], /'walk'/],
    ['an unknown option', ['run', '--walk', '--', 'true'], /'--walk'/],
    ['an option without its value', ['run', '--mtu'], /--mtu/],
    ['run without a command', ['run'], /command/],
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
    [
      'a name for loopback',
      ['run', '--allow', 'localhost:80', '--', 'true'],
      /"localhost" stands for the reserved/,
    ],
    ['a bad forward', ['run', '-L', '70000', '--', 'true'], /option --local-forward: "70000" .*accepted:/],
    [
      'a forward with a bad scheme',
      ['run', '-R', 'tcppp://80', '--', 'true'],
      /option --remote-forward: .*"tcppp".*accepted: tcp, udp/,
    ],
    [
      'a forward of a name that does not exist',
      ['run', '-L', 'name.invalid:80', '--', 'true'],
      /lookup name\.invalid: no such host/,
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
  ];
  for (const [name, args, message] of table) {
    test(name, () => {
      const { status, stdout, stderr } = tslirp(...args);
      assert.match(stderr, message);
      assert.match(stderr, /^tslirp: [^\n]+\n$/);
      assert.deepEqual([status, stdout], [2, '']);
    });
  }
});

describe('information', () => {
  test('--version', () => {
    const { status, stdout, stderr } = tslirp('--version');
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/);
  });

  test('--help, of the program and of both subcommands', () => {
    for (const args of [['--help'], ['run', '--help'], ['attach', '--help']]) {
      const { status, stdout, stderr } = tslirp(...args);
      assert.deepEqual([status, stderr], [0, '']);
      assert.match(stdout, /^Usage: tslirp/);
    }
  });
});
