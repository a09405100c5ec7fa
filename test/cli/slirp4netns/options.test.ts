import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { configuration } from '../../../src/cli/slirp4netns/configuration.ts';
import { type Options, parseOptions } from '../../../src/cli/slirp4netns/options.ts';
import { summary, usage } from '../../../src/cli/slirp4netns/texts.ts';
import { networkPlan, wholeNumber } from '../../../src/cli/slirp4netns/values.ts';
import { Policy, Protocol, Verdict } from '../../../src/firewall/verdict.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';

const run = (...args: string[]) => parseOptions(args, 'slirp4netns', '0.0.0');

function options(...args: string[]): Options {
  const parsed = run(...args);
  assert.ok(parsed.options, parsed.stderr);
  return parsed.options;
}

/** What a refused command line says on standard error; the usage must be on standard output. */
function refused(...args: string[]): string {
  const { options: given, status, stdout, stderr } = run(...args);
  assert.equal(given, undefined);
  assert.equal(status, 1);
  assert.ok(stdout.endsWith(usage('slirp4netns')));
  return stderr;
}

describe('the command line of slirp4netns', () => {
  test('help lists what callers search for, and is no error', () => {
    const { stdout, stderr, status } = run('-c', '--help');
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^Usage: slirp4netns \[OPTION\]\.\.\. PID\|PATH\|FD \[TAPNAME\]\n/);
    const wanted = `--configure --exit-fd=FD --ready-fd=FD --mtu=MTU --enable-ipv6 --api-socket=PATH --cidr=CIDR
      --disable-host-loopback --netns-type=TYPE --userns-path=PATH --enable-sandbox --enable-seccomp --outbound-addr=IPv4
      --outbound-addr6=IPv6 --disable-dns --macaddress=MAC --target-type=TYPE --help --version`;
    for (const option of wanted.split(/\s+/)) assert.ok(stdout.includes(option), option);
  });

  test('--print-config is ours alone: in full, and no abbreviation means anything else for it', () => {
    assert.equal(options('--print-config', '42', 'tap0').printConfig, true);
    assert.equal(options('42', 'tap0').printConfig, false);
    assert.equal(refused('--print', '42', 'tap0'), "slirp4netns: unrecognized option '--print'\n");
    assert.equal(refused('--p', '42', 'tap0'), "slirp4netns: unrecognized option '--p'\n");
  });

  test('version lines are those that scripts parse', () => {
    const { stdout, status } = run('--version');
    assert.equal(status, 0);
    assert.match(stdout, /^slirp4netns version \d+\.\d+\.\d+\ncommit: \S+\nlibslirp: \d+\.\d+\.\d+\n/);
    assert.ok(Number(/^SLIRP_CONFIG_VERSION_MAX: (\d+)$/m.exec(stdout)?.[1]) >= 4);
  });

  for (const [args, message] of [
    [[], ''],
    [['42'], ''],
    [['-e', '-1', '42', 'tap0'], 'exit-fd must be a non-negative integer'],
    [['-e', '5x', '42', 'tap0'], 'exit-fd must be a non-negative integer'],
    [['-r', 'x', '42', 'tap0'], 'ready-fd must be a non-negative integer'],
    [['-m', '0', '42', 'tap0'], 'MTU must be a positive integer (< 65522)'],
    [['-m', '65522', '42', 'tap0'], 'MTU must be a positive integer (< 65522)'],
    [['-m', '', '42', 'tap0'], 'MTU must be a positive integer (< 65522)'],
    [['0', 'tap0'], 'PID must be a positive integer'],
    [['abc', 'tap0'], 'PID must be a positive integer'],
    [['--netns-type=tapfd', 'abc'], 'TAPFD must a file descriptor'],
    [['--netns-type=tapfd'], ''],
    [
      ['--netns-type=path', '/nonexistent', 'tap0'],
      'existing path expected when --netns-type=path: No such file or directory',
    ],
    [
      ['--netns-type=other', '/etc/passwd/x', 'tap0'],
      'existing path expected when --netns-type=path: Not a directory',
    ],
    [['--userns-path=/nonexistent', '42', 'tap0'], "userns path doesn't exist: /nonexistent"],
    [
      ['--macaddress=02:00:00:00:00:01', '42', 'tap0'],
      '--macaddr cannot be specified when --configure or -c is not specified',
    ],
    [['--target-type=vm', '42', 'tap0'], '--target-type must be either "netns" or "bess"'],
    [['--target-type=bess', '-c', 'x'], '--configure conflicts with --target-type=bess'],
    [['--target-type=bess', '--netns-type=pid', 'x'], '--netns-type conflicts with --target-type=bess'],
    [
      ['--target-type=bess', '--userns-path=/proc/self/ns/user', 'x'],
      '--userns-path conflicts with --target-type=bess',
    ],
    [['--target-type=bess', 'x', 'y'], 'too many arguments'],
    [['--target-type=bess'], ''],
  ] as const) {
    test(`refuses ${JSON.stringify(args.join(' '))} with the original's words`, () => {
      assert.equal(refused(...args), message === '' ? '' : `${message}\n`);
    });
  }

  test('the first thing that is wrong is told', () => {
    assert.match(refused('-m', '0', '-x'), /^MTU/);
    assert.match(refused('--macaddress=zz', 'abc'), /^--macaddr cannot/);
  });

  test('too many arguments are a warning, too long names are cut', () => {
    const { stdout, options: given } = run('42', 'abcdefghijklmnopqrst', 'more');
    assert.equal(stdout, 'WARNING: too many arguments\n');
    assert.equal(given?.tapName, 'abcdefghijklmno');
  });

  test('what is experimental or deprecated is said in the order of the command line', () => {
    const { stdout, options: given } = run(
      '--create-sandbox',
      '-6',
      '--no-host-loopback',
      '--enable-seccomp',
      '42',
      'tap0',
    );
    assert.deepEqual(
      stdout.split('\n').map((line) => line.replace(/^WARNING: (Support for )?/, '').split(' ')[0]),
      ['--create-sandbox', 'IPv6', '--no-host-loopback', 'seccomp', ''],
    );
    assert.ok(given?.sandbox && given.ipv6 && given.disableHostLoopback && given.seccomp);
  });

  test('targets are read as the type says', () => {
    assert.deepEqual(options('42', 'tap0').target, { kind: 'pid', pid: 42 });
    assert.deepEqual(options('--netns-type', 'path', '/proc/self/ns/net', 'tap0').target, {
      kind: 'path',
      path: '/proc/self/ns/net',
    });
    assert.deepEqual(options('--netns-type=tapfd', '7').target, { kind: 'tapfd', fd: 7 });
    assert.deepEqual(options('--target-type=bess', '/tmp/x').target, { kind: 'bess', path: '/tmp/x' });
  });

  test('numbers are those of strtol(3)', () => {
    assert.deepEqual(['15', ' 15', '+15', '015'].map(wholeNumber), [15, 15, 15, 15]);
    for (const text of ['', 'x', '15x', '1.5', '0x10', '15 '])
      assert.ok(Number.isNaN(wholeNumber(text)), text);
  });
});

describe('values of slirp4netns', () => {
  for (const [args, message] of [
    [['--cidr', '24'], 'invalid CIDR: 24\n'],
    [['--cidr', 'foo'], 'invalid CIDR: foo\n'],
    [['--cidr', '10.0.2.0'], 'invalid CIDR: 10.0.2.0\n'],
    [['--cidr', '10.0.2.256/24'], 'invalid network address: 10.0.2.256\n'],
    [['--cidr', '10.0.2.100/26'], 'prefix length needs to be 1-25\n'],
    [
      ['--cidr', '10.0.2.100/24'],
      'CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24\n',
    ],
    [['--outbound-addr', 'nosuchif0'], 'outbound-addr has to be valid ipv4 address or interface name.\n'],
    [['--outbound-addr', '::1'], 'outbound-addr has to be valid ipv4 address or interface name.\n'],
    [['--outbound-addr6', '127.0.0.1'], 'outbound-addr has to be valid ipv4 address or interface name.\n'],
    [
      ['-c', '--macaddress=0e:d4:18:d9:38'],
      '"0e:d4:18:d9:38" is an invalid MAC address.\n' +
        "macaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a ':').\n",
    ],
    [
      ['-c', '--macaddress=0e:d4:18:d9:38:fb:00'],
      '"0e:d4:18:d9:38:fb:00" is an invalid MAC address.  Is it too long?\n' +
        "macaddress has to be a valid MAC address (hex string, 6 bytes, each byte separated by a ':').\n",
    ],
  ] as const) {
    test(`${args.join(' ')} is refused in the original's words`, () => {
      assert.throws(() => configuration(options(...args, '42', 'tap0')), { name: 'ValueError', message });
    });
  }

  test('all IPv4 roles keep their offsets in another network', () => {
    assert.deepEqual(networkPlan('10.0.135.128/25'), {
      guest4: '10.0.135.228',
      prefix4: 25,
      lease4: '10.0.135.143',
      gateway4: '10.0.135.130',
      dns4: '10.0.135.131',
    });
  });

  test('an interface name stands for its first address', () => {
    const { guest } = configuration(options('--outbound-addr=lo', '42', 'tap0'));
    assert.equal(guest.source4, '127.0.0.1');
  });

  test('the summary is the one that the original prints', () => {
    const config = configuration(
      options(
        '-c',
        '-m',
        '1400',
        '--macaddress=0E:d4:18:d9:38:fb',
        '--outbound-addr=127.0.0.1',
        '42',
        'tap0',
      ),
    );
    assert.equal(
      summary(config),
      `Starting slirp
* MTU:             1400
* Network:         10.0.2.0
* Netmask:         255.255.255.0
* Gateway:         10.0.2.2
* DNS:             10.0.2.3
* DHCP begin:      10.0.2.15
* DHCP end:        10.0.2.30
* Recommended IP:  10.0.2.100
* Outbound IPv4:    127.0.0.1
* MAC address:     0e:d4:18:d9:38:fb
WARNING: 127.0.0.1:* on the host is accessible as 10.0.2.2 (set --disable-host-loopback to prohibit connecting to 127.0.0.1:*)
`,
    );
  });
});

describe('what a guest of slirp4netns may reach', () => {
  const verdictOf = (policy: Policy, address: string): Verdict =>
    policy.verdict(Protocol.Tcp, parseIpAddress(address), 80);

  test('everything but loopback, groups, its own network and link-local IPv6', () => {
    const policy = new Policy(configuration(options('-6', '42', 'tap0')).guest.policy);
    for (const address of [
      ...['192.0.2.1', '10.1.2.3', '192.168.1.1', '169.254.1.1', '169.254.169.254', '100.100.100.200'],
      ...['240.0.0.1', '2001:db8::1', 'fd12::1', 'fd00:ec2::254', '64:ff9b::c000:201'],
    ])
      assert.equal(verdictOf(policy, address), Verdict.Permit, address);
    for (const address of [
      ...['127.0.0.1', '127.1.2.3', '0.0.0.0', '10.0.2.3', '10.0.2.77', '224.0.0.1', '255.255.255.255'],
      ...['::1', '::', 'fd00::3', 'fe80::1', 'ff02::1', '64:ff9b::7f00:1', '::ffff:0:127.0.0.1'],
    ])
      assert.notEqual(verdictOf(policy, address), Verdict.Permit, address);
  });

  test('with --disable-dns the DNS address is a destination like any other', () => {
    const policy = new Policy(configuration(options('--disable-dns', '42', 'tap0')).guest.policy);
    assert.equal(verdictOf(policy, '10.0.2.3'), Verdict.Permit);
    assert.notEqual(verdictOf(policy, '10.0.2.4'), Verdict.Permit);
  });
});
