import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { OPTIONS, parseOptions } from '../../../src/cli/pasta/options.ts';
import type { PastaConfig } from '../../../src/cli/pasta/pasta-config.ts';

const run = (...args: string[]) => parseOptions(args, 'pasta', '0.0.0');

function config(...args: string[]): PastaConfig {
  const parsed = run(...args);
  assert.ok(parsed.kind === 'config', JSON.stringify(parsed));
  return parsed.config;
}

/** What a refused command line says, without the usage. */
function refused(...args: string[]): string {
  const parsed = run(...args);
  assert.equal(parsed.kind, 'refused', JSON.stringify(parsed));
  return parsed.kind === 'refused' ? (parsed.text.split('\n', 1)[0] ?? '') : '';
}

function warnings(...args: string[]): string[] {
  const parsed = run(...args);
  assert.ok(parsed.kind !== 'text');
  return parsed.warnings;
}

describe('pasta §1: ways of calling', () => {
  for (const [args, target] of [
    [[], { kind: 'command', command: [], netnsOnly: false }],
    [['ls', '-f', '--bogus'], { kind: 'command', command: ['ls', '-f', '--bogus'], netnsOnly: false }],
    [['--', '-x'], { kind: 'command', command: ['-x'], netnsOnly: false }],
    [['12', '13'], { kind: 'command', command: ['12', '13'], netnsOnly: false }],
    [['--netns-only', 'ls'], { kind: 'command', command: ['ls'], netnsOnly: true }],
    [['12'], { kind: 'process', pid: 12, usernsPath: '/proc/12/ns/user' }],
    [['--netns-only', '12'], { kind: 'process', pid: 12, usernsPath: '' }],
    [['--userns', '/u', '12'], { kind: 'process', pid: 12, usernsPath: '/u' }],
    [['--netns', 'blue'], { kind: 'path', netnsPath: '/run/netns/blue', usernsPath: '' }],
    [['--netns', './blue'], { kind: 'path', netnsPath: './blue', usernsPath: '' }],
    [['--userns=/u', '--netns=/n'], { kind: 'path', netnsPath: '/n', usernsPath: '/u' }],
  ] as const) {
    test(args.join(' ') || 'nothing', () => assert.deepEqual(config(...args).target, target));
  }

  test('a command implies --foreground, and --quiet unless --debug', () => {
    const implied = ({ foreground, verbosity }: PastaConfig): unknown[] => [foreground, verbosity];
    assert.deepEqual(implied(config('ls')), [true, 'quiet']);
    assert.deepEqual(implied(config('-d', 'ls')), [true, 'debug']);
    assert.deepEqual(implied(config('12')), [false, 'normal']);
  });
});

describe('pasta §3: options are read as getopt_long does', () => {
  test('bundled, attached, abbreviated', () => {
    const { network, verbosity, target } = config('-6q4m1280', '--conf-p=/x', '--ns-if=eth7', '12');
    assert.deepEqual([network.ipv4.enabled, network.ipv6.enabled], [true, false]);
    assert.deepEqual([network.mtu, network.name, verbosity, target.kind], [1280, 'eth7', 'quiet', 'process']);
  });

  test('the last of a repeated option counts, but ports, servers and domains add up', () => {
    const args = ['-a', '192.0.2.1', '-a', '192.0.2.2', '-I', 'a', '-I', 'b', '-d', '-q', '-6', '-4'];
    const more = ['-t', '1', '-u', '2', '-t', '3', '-D', '1.1.1.1', '-D', '::2', '-S', 'a b', '-S', 'c'];
    const { network, ports, verbosity } = config(...args, ...more, '12');
    assert.equal(network.ipv4.address, '192.0.2.2');
    assert.deepEqual([network.name, verbosity, network.ipv6.enabled], ['b', 'quiet', false]);
    assert.deepEqual(
      ports.specs.map(({ option, text }) => `${option} ${text}`),
      ['-t 1', '-u 2', '-t 3'],
    );
    assert.deepEqual(
      [network.dns, network.search],
      [
        ['1.1.1.1', '::2'],
        ['a', 'b', 'c'],
      ],
    );
  });

  test('--version and --help act at once, and what is wrong before them comes first', () => {
    const version = run('--host-lo-to-ns-lo', '--version', '--bogus');
    assert.ok(version.kind === 'text' && /^pasta \d{4}_\d\d_\d\d\S*\n/.test(version.text));
    const help = run('-qh');
    assert.ok(help.kind === 'text' && help.text.startsWith('Usage: pasta [OPTION]... [COMMAND] [ARGS]...\n'));
    assert.equal(refused('--bogus', '--version'), "pasta: unrecognized option '--bogus'");
  });

  test('what getopt refuses comes with the usage, nothing else does', () => {
    for (const args of [['--bogus'], ['-x'], ['--map-gw']]) {
      const parsed = run(...args);
      assert.ok(parsed.kind === 'refused' && parsed.text.includes('\nUsage: pasta '), args.join());
    }
    const parsed = run('-m', 'x');
    assert.ok(parsed.kind === 'refused' && parsed.text === 'Invalid MTU: x\n');
  });

  test('help tells of every option that is for pasta', () => {
    const help = run('--help');
    assert.ok(help.kind === 'text');
    for (const { long, help: lines } of OPTIONS)
      if (lines.length > 0) assert.ok(help.text.includes(`--${long}`), long);
    assert.ok(!help.text.includes('--vhost-user'));
  });
});

describe('pasta §13: errors', () => {
  for (const [args, message] of [
    [['--map-gw', '12'], "pasta: unrecognized option '--map-gw'"],
    [['-x'], "pasta: invalid option -- 'x'"],
    [['-m'], "pasta: option requires an argument -- 'm'"],
    [['--netns', '/x', '12'], 'Both --netns and PID or command given'],
    [['--netns', '/x', 'ls'], 'Both --netns and PID or command given'],
    [['99999999999'], 'Invalid PID 99999999999'],
    [['0'], 'Invalid PID 0'],
    [['-a', 'x'], 'Invalid guest address: x'],
    [['-a', '0.0.0.0'], 'Invalid guest address: 0.0.0.0'],
    [['-a', '127.0.0.1'], 'Invalid guest address: 127.0.0.1'],
    [['-a', '::1'], 'Invalid guest address: ::1'],
    [['-a', '::ffff:1.2.3.4'], 'Invalid guest address: ::ffff:1.2.3.4'],
    [['-a', '192.0.2.1/33'], 'Invalid guest address: 192.0.2.1/33'],
    [['-a', '192.0.2.1/'], 'Invalid guest address: 192.0.2.1/'],
    [['-n', '33'], 'Invalid prefix length: 33'],
    [['-n', '255.0.255.0'], 'Invalid prefix length: 255.0.255.0'],
    [['-n', '0.0.0.0'], 'Invalid prefix length: 0.0.0.0'],
    [['-a', '192.0.2.1/24', '-n', '24'], 'Redundant prefix length specification'],
    [['-n', '24', '-a', '192.0.2.1/24'], 'Redundant prefix length specification'],
    [['-g', 'x'], 'Invalid gateway address: x'],
    [['-o', 'x'], 'Invalid or redundant outbound address: x'],
    [['-o', '192.0.2.1', '-o', '192.0.2.2'], 'Invalid or redundant outbound address: 192.0.2.2'],
    [['-m', 'abc'], 'Invalid MTU: abc'],
    [['-m', ''], 'Invalid MTU: '],
    [['-m', '65522'], 'MTU 65522 too large (max 65521)'],
    [['-i', 'nosuch'], 'Invalid interface name nosuch: No such device'],
    [['--outbound-if4', 'nosuch'], 'Invalid interface name nosuch: No such device'],
    [['--outbound-if6', ''], 'Invalid interface name : No such device'],
    [['-I', 'abcdefghijklmnop'], 'Invalid interface name: abcdefghijklmnop'],
    [['-D', 'x'], 'Cannot use DNS address x'],
    [['--dns-forward', '127.0.0.1'], 'Invalid DNS forwarding address: 127.0.0.1'],
    [['--dns-forward', 'x'], 'Invalid DNS forwarding address: x'],
    [['--dns-host', 'x'], 'Invalid host nameserver address: x'],
    [['-S', 'a'.repeat(256)], `Cannot use DNS search domain ${'a'.repeat(256)}`],
    [['--map-host-loopback', '127.0.0.1'], 'Invalid address to remap to host: 127.0.0.1'],
    [['--map-guest-addr', '224.0.0.1'], 'Invalid address to remap to host: 224.0.0.1'],
    [['--map-guest-addr', '::'], 'Invalid address to remap to host: ::'],
    [['-M', 'zz:zz'], 'Invalid MAC address: zz:zz'],
    [['--ns-mac-addr', '01:00:00:00:00:00'], 'Invalid MAC address: 01:00:00:00:00:00'],
    [['--runas', ''], 'Invalid --runas option: '],
    [['--runas', '1:2:3'], 'Invalid --runas option: 1:2:3'],
    [['--log-size', '40959'], 'Invalid --log-size: 40959'],
    [['--log-size', '1M'], 'Invalid --log-size: 1M'],
    [['--stats', '1', '-f'], "Can't display statistics if not running in foreground"],
    [['-f', '--stats', 'x'], 'Invalid --stats: x'],
    [['-F', '2'], 'Invalid --fd: 2'],
    [['--no-copy-routes', '12'], '--no-copy-routes needs --config-net'],
    [['--no-copy-addrs', '12'], '--no-copy-addrs needs --config-net'],
    [['--host-lo-to-ns-lo', '--no-splice', '12'], '--host-lo-to-ns-lo is incompatible with --no-splice'],
    [['--userns', '/x', '--netns-only', '12'], 'Both --userns and --netns-only given'],
    [['--netns-only', '--userns', '/x', '12'], 'Both --userns and --netns-only given'],
    [['--no-dhcp-dns'], '--no-dhcp-dns is for passt mode only'],
    [['-s', '/x'], '-s is for passt mode only'],
    [['-1'], '-1 is for passt mode only'],
  ] as const) {
    test(args.join(' '), () => assert.equal(refused(...args), message));
  }

  test('warnings are no errors', () => {
    assert.deepEqual(warnings('-m', '10', '12'), [
      'MTU 10 is too small for IPv4 (minimum 68)',
      'MTU 10 is too small for IPv6 (minimum 1280)',
    ]);
    assert.deepEqual(warnings('-m', '1000', '-4', '12'), []);
    assert.deepEqual(warnings('-m', '0', '12'), []);
    assert.deepEqual(warnings('-e', '12'), ['--stderr will be dropped soon']);
    assert.deepEqual(warnings('--config-net', '--no-copy-routes', '12'), [
      '--no-copy-routes will be dropped soon',
    ]);
  });
});

describe('pasta §3: what options stand for', () => {
  test('addresses go to their family, networks are taken as they are', () => {
    const { ipv4, ipv6 } = config(
      '-a',
      '10.0.2.0',
      '-n',
      '255.255.255.0',
      '-g',
      'fe80::1',
      '-o',
      '::5',
      '12',
    ).network;
    assert.deepEqual([ipv4.address, ipv4.prefixLength, ipv4.gateway], ['10.0.2.0', 24, '']);
    assert.deepEqual([ipv6.address, ipv6.gateway, ipv6.outbound], ['', 'fe80::1', '::5']);
  });

  test('no mapping of the gateway, by either option', () => {
    for (const args of [['--no-map-gw'], ['--map-host-loopback', 'none']]) {
      const { ipv4, ipv6 } = config(...args, '12').network;
      assert.deepEqual([ipv4.mapHostLoopback, ipv6.mapHostLoopback], ['none', 'none']);
    }
    const { ipv4, ipv6 } = config('--no-map-gw', '--map-host-loopback', '192.0.2.9', '12').network;
    assert.deepEqual([ipv4.mapHostLoopback, ipv6.mapHostLoopback], ['192.0.2.9', 'none']);
  });

  test('pasta §16: -D none takes --dns-forward away too', () => {
    const args = ['--dns-forward', '169.254.1.1', '-D'];
    assert.equal(config(...args, '1.1.1.1', '12').network.ipv4.dnsForward, '169.254.1.1');
    assert.equal(config(...args, 'none', '12').network.ipv4.dnsForward, '');
  });

  test('what implies what', () => {
    assert.equal(config('--config-net', '12').network.ra, false);
    assert.equal(config('--no-icmp', '12').network.ndp, false);
    assert.equal(config('--splice-only', '12').ports.loopbackToLoopback, true);
  });
});

describe('pasta §11: the lines of its callers', () => {
  test('podman', () => {
    const line =
      '--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet --netns /run/user/1000/netns/netns-1 --map-guest-addr 169.254.1.2';
    const { network, ports, target, verbosity } = config(...line.split(' '));
    assert.deepEqual(target, { kind: 'path', netnsPath: '/run/user/1000/netns/netns-1', usernsPath: '' });
    assert.deepEqual([verbosity, network.configure, ports.specs.length], ['quiet', true, 4]);
    assert.equal(network.ipv4.mapGuestAddress, '169.254.1.2');
  });

  test('RootlessKit', () => {
    const line =
      '--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 --dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=auto --host-lo-to-ns-lo 12';
    const { network, target } = config(...line.split(' '));
    assert.deepEqual(target, { kind: 'process', pid: 12, usernsPath: '/proc/12/ns/user' });
    const { address, prefixLength, gateway, dnsForward } = network.ipv4;
    assert.deepEqual(
      [address, prefixLength, gateway, dnsForward],
      ['10.0.2.100', 24, '10.0.2.2', '10.0.2.3'],
    );
  });
});
