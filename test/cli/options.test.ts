import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Invocation, parseArguments } from '../../src/cli/options.ts';
import { parseCidr, UsageError } from '../../src/cli/values.ts';

function parse(...args: string[]): Invocation {
  const result = parseArguments(args, '0');
  assert.ok('config' in result);
  return result;
}

describe('parseArguments', () => {
  test('run is locked, with both families, unless told otherwise', () => {
    const { config, allow, deny } = parse('run', '--', 'true');
    assert.deepEqual([allow, deny], [[], []]);
    assert.deepEqual(config.guest.target, { kind: 'run', command: ['true'], mapAuto: false });
    assert.deepEqual([config.guest.policy.enableRouting, config.guest.policy.enableHost], [false, false]);
    assert.deepEqual(config.guest.policy.guestNetworks, [
      { address: '10.0.2.0', bits: 120 },
      { address: 'fd00::', bits: 64 },
    ]);
    assert.deepEqual(
      [config.guest.addresses.ipv6, config.guest.dns, config.guest.interface.mtu],
      [true, true, 0],
    );
    assert.deepEqual(
      [config.guest.interface.configure, config.guest.interface.name, config.process.logLevel],
      ['auto', 'tap0', 'info'],
    );
    assert.deepEqual([config.process.readyFd, config.process.exitFd], [-1, -1]);
  });

  test("the command's own options are the command's, with and without --", () => {
    for (const separator of [[], ['--']]) {
      const { config } = parse('run', '--mtu', '1500', ...separator, 'curl', '--mtu', 'x', '-s', '--', 'y');
      assert.deepEqual(config.guest.target, {
        kind: 'run',
        command: ['curl', '--mtu', 'x', '-s', '--', 'y'],
        mapAuto: false,
      });
    }
  });

  test('the sandbox is on where it can be had; --sandbox insists, --no-sandbox turns it off', () => {
    const spec = (...args: string[]): unknown => {
      const { seccomp, required } = parse('run', ...args, 'true').config.process.sandbox;
      return [seccomp, required];
    };
    assert.deepEqual(spec(), [true, false]);
    assert.deepEqual(spec('--sandbox'), [true, true]);
    assert.deepEqual(spec('--no-sandbox'), [false, false]);
  });

  test('rules add up over lists and repeats', () => {
    const { allow, deny } = parse(
      'run',
      '--allow',
      '192.0.2.1,udp://192.0.2.2:53',
      '--allow',
      'a.example',
      '--deny',
      '10.0.0.0/8',
      'true',
    );
    assert.deepEqual(
      allow.map(({ host }) => host.kind),
      ['prefix', 'prefix', 'name'],
    );
    assert.equal(deny.length, 1);
  });

  test('--dns adds up, --no-dns turns the service off', () => {
    const { config } = parse('run', '--dns', '192.0.2.1', '--dns', '2001:db8::1', 'true');
    assert.deepEqual([config.guest.dnsServers, config.guest.dns], [['192.0.2.1', '2001:db8::1'], true]);
    assert.equal(parse('run', '--no-dns', 'true').config.guest.dns, false);
  });

  test('--cidr moves all IPv4 roles and the reserved guest network; --no-ipv6 allows a small MTU', () => {
    const { config } = parse('run', '--cidr', '10.0.135.128/25', '--no-ipv6', '--mtu', '576', 'true');
    const { guest4, gateway4, dns4, prefix4, ipv6 } = config.guest.addresses;
    assert.deepEqual(
      [guest4, gateway4, dns4, prefix4, ipv6],
      ['10.0.135.228', '10.0.135.130', '10.0.135.131', 25, false],
    );
    assert.deepEqual(config.guest.policy.guestNetworks, [{ address: '10.0.135.128', bits: 121 }]);
  });

  test('review OP-15: --cidr6 moves all IPv6 roles and the reserved guest network', () => {
    const { config } = parse('run', '--cidr6', 'fd12:3456:789a:1::/64', 'true');
    const { guest6, gateway6, dns6, prefix6, guest4 } = config.guest.addresses;
    assert.deepEqual(
      [guest6, gateway6, dns6, prefix6, guest4],
      ['fd12:3456:789a:1::100', 'fd12:3456:789a:1::2', 'fd12:3456:789a:1::3', 64, '10.0.2.100'],
    );
    assert.deepEqual(config.guest.policy.guestNetworks[1], { address: 'fd12:3456:789a:1::', bits: 64 });
  });

  test('run without a command runs a shell: $SHELL, or sh where that is none', () => {
    const { SHELL } = process.env;
    try {
      for (const [value, shell] of [
        [process.execPath, process.execPath],
        ['/nonexistent/shell', '/bin/sh'],
        ['bash', '/bin/sh'],
        ['', '/bin/sh'],
      ]) {
        process.env['SHELL'] = value;
        for (const args of [['run'], ['run', '--mtu', '1500', '--']])
          assert.deepEqual(
            parse(...args).config.guest.target,
            { kind: 'run', command: [shell], mapAuto: false },
            value,
          );
      }
      delete process.env['SHELL'];
      assert.deepEqual(parse('run').config.guest.target, {
        kind: 'run',
        command: ['/bin/sh'],
        mapAuto: false,
      });
    } finally {
      if (SHELL !== undefined) process.env['SHELL'] = SHELL;
    }
  });

  test('-q is the log level error', () => {
    assert.equal(parse('run', '-q', 'true').config.process.logLevel, 'error');
    assert.equal(parse('run', '--quiet', 'true').config.process.logLevel, 'error');
  });

  test('review ON-8: a capture may go to what is there, whoever has the directory, and - is standard output', () => {
    const path = (value: string): string => parse('run', '--pcap', value, 'true').config.guest.pcapPath;
    assert.equal(path('/dev/null'), '/dev/null');
    assert.equal(path('/dev/stdout'), '/dev/stdout');
    assert.equal(path('-'), '/dev/stdout');
    const flows = parse('run', '--flow-log', '-', 'true').config.process.flowLog;
    assert.deepEqual(flows, { path: '', fd: 1 });
  });

  test('attach takes a process number or a file, and says whether to configure', () => {
    const byPid = parse('attach', '--configure', '42').config;
    assert.deepEqual(byPid.guest.target, {
      kind: 'attach',
      pid: 42,
      netnsPath: '',
      usernsPath: '',
    });
    assert.equal(byPid.guest.interface.configure, 'yes');
    const byPath = parse(
      'attach',
      '--no-configure',
      '--userns',
      '/proc/self/ns/user',
      '/proc/self/ns/net',
    ).config;
    assert.deepEqual(byPath.guest.target, {
      kind: 'attach',
      pid: 0,
      netnsPath: '/proc/self/ns/net',
      usernsPath: '/proc/self/ns/user',
    });
    assert.equal(byPath.guest.interface.configure, 'no');
  });

  test('forwards come in order, local ones first; sources are literals', () => {
    const { config, forwards } = parse(
      'run',
      ...['-R', '80:127.0.0.1:3000', '-L', '8000-8001', '--local-forward', 'udp://53'],
      ...['--source-ipv4', '192.0.2.1', '--source-ipv6', '2001:db8::1'],
      ...['--outbound-interface', 'lo', 'true'],
    );
    assert.deepEqual(
      forwards.map(({ direction, protocol, bind }) => [direction, protocol, 'port' in bind && bind.port]),
      [
        ['local', 'tcp', 8000],
        ['local', 'tcp', 8001],
        ['local', 'udp', 53],
        ['remote', 'tcp', 80],
      ],
    );
    assert.deepEqual([config.guest.source4, config.guest.source6], ['192.0.2.1', '2001:db8::1']);
    assert.equal(config.guest.outboundInterface, 'lo');
  });

  test('what posts to the data plane is plain data', () => {
    const { config } = parse('run', '--cidr', '172.16.0.0/12', 'true');
    assert.deepEqual(structuredClone(config), config);
  });
});

describe('parseCidr', () => {
  test('takes prefix lengths 1 to 25 on network addresses', () => {
    assert.equal(parseCidr('192.168.255.128/25').guest4, '192.168.255.228');
    for (const text of [
      '10.0.2.0/0',
      '10.0.2.0/26',
      '10.0.2.0',
      '10.0.2.0/24/1',
      '010.0.2.0/24',
      '10.0.2.0/024',
      'x/24',
      '',
    ]) {
      assert.throws(() => parseCidr(text), UsageError, text);
    }
  });
});
