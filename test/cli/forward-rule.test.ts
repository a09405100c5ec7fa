import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Direction,
  type ForwardRule,
  ForwardRuleError,
  parseForwardRule,
  parseSlirpnetstackForward,
} from '../../src/cli/forward-rule.ts';
import { toForwardSpec } from '../../src/cli/forward-spec.ts';
import { defaultAddresses, type HostTarget } from '../../src/config.ts';

function strict(text: string, direction: Direction): ForwardRule[] {
  return parseForwardRule(text, direction, { strict: true, addresses: defaultAddresses });
}

function show(end: HostTarget): string {
  if (end.kind === 'unix') return `unix:${end.path}`;
  if (end.kind === 'name') return `<${end.label}>:${end.port}`;
  return `${end.address.includes(':') ? `[${end.address}]` : end.address}:${end.port}`;
}

describe('rules as both programs read them: ends and defaults', () => {
  const table: [Direction, string, string, string][] = [
    ['local', '8080', '127.0.0.1:8080', '10.0.2.100:8080'],
    ['local', '127.1.2.3:1237', '127.1.2.3:1237', '10.0.2.100:1237'],
    ['local', '[::1]:80', '[::1]:80', '[fd00::100]:80'],
    ['local', '0:10.0.2.100:5000', '127.0.0.1:0', '10.0.2.100:5000'],
    ['local', 'udp://:0::5000', '127.0.0.1:0', '10.0.2.100:5000'],
    ['local', 'udp://[::1]:0::5000', '[::1]:0', '[fd00::100]:5000'],
    ['local', 'udp://:0:[fd00::100]:5000', '[::1]:0', '[fd00::100]:5000'],
    ['local', 'udp://[::]:::5000', '[::]:0', '[fd00::100]:5000'],
    ['local', 'udp://0.0.0.0:0::5000', '0.0.0.0:0', '10.0.2.100:5000'],
    ['local', 'localhost:0::5000', '<localhost>:0', '10.0.2.100:5000'],
    ['local', 'tcp://0.0.0.0:0:[fd00::100]:5000', '0.0.0.0:0', '[fd00::100]:5000'],
    ['local', '80:guest.example:81', '127.0.0.1:80', '<guest.example>:81'],
    ['local', '127.0.0.1:80:10.0.2.9:', '127.0.0.1:80', '10.0.2.9:80'],
    ['local', '127.0.0.1:80:10.0.2.9:0', '127.0.0.1:80', '10.0.2.9:0'],
    ['local', 'unix:/run/a.sock:80', 'unix:/run/a.sock', '10.0.2.100:80'],
    ['local', 'unix:/run/a.sock:[fd00::9]:80', 'unix:/run/a.sock', '[fd00::9]:80'],
    ['local', '[unix:/run/a:b]:80', 'unix:/run/a:b', '10.0.2.100:80'],
    ['remote', '1234', '10.0.2.2:1234', '127.0.0.1:1234'],
    ['remote', '80:127.0.0.1:3000', '10.0.2.2:80', '127.0.0.1:3000'],
    ['remote', '1.2.3.4:1235', '1.2.3.4:1235', '127.0.0.1:1235'],
    ['remote', 'udp://[fd00::2]:0::53', '[fd00::2]:0', '[::1]:53'],
    ['remote', '80:[2001:DB8::0:1]:81', '[fd00::2]:80', '[2001:db8::1]:81'],
    ['remote', '80:www.example:81', '10.0.2.2:80', '<www.example>:81'],
    ['remote', ':2222:[tcp.echo.server@srv-[::1]:53]:0', '10.0.2.2:2222', '<tcp.echo.server@srv-[::1]:53>:0'],
    ['remote', ':2222:tcp.echo.server@srv-8600:0', '10.0.2.2:2222', '<tcp.echo.server@srv-8600>:0'],
    ['remote', '80:unix:/run/a.sock', '10.0.2.2:80', 'unix:/run/a.sock'],
    ['remote', '[fd00::2]:80:unix:/run/a.sock', '[fd00::2]:80', 'unix:/run/a.sock'],
  ];
  for (const [direction, text, bind, host] of table) {
    test(`${direction} ${text}`, () => {
      const lenient = parseSlirpnetstackForward(text, direction);
      assert.deepEqual([show(lenient.bind), show(lenient.host)], [bind, host]);
      assert.deepEqual(strict(text, direction), [lenient]);
    });
  }

  test('defaults follow the address plan', () => {
    const addresses = {
      ...defaultAddresses,
      guest4: '192.168.9.100',
      gateway4: '192.168.9.2',
      gateway6: 'fd01::2',
    };
    const read = (text: string, direction: Direction): ForwardRule | undefined =>
      parseForwardRule(text, direction, { strict: true, addresses })[0];
    assert.equal(show(read('80', 'local')!.host), '192.168.9.100:80');
    assert.equal(show(read('80', 'remote')!.bind), '192.168.9.2:80');
    assert.equal(show(read('80:[::1]:81', 'remote')!.bind), '[fd01::2]:80');
  });
});

describe('review ON-14: as Docker writes them', () => {
  const table: [Direction, string, string, string][] = [
    ['local', '8080:80', 'tcp 127.0.0.1:8080', '10.0.2.100:80'],
    ['local', '0.0.0.0:8080:80', 'tcp 0.0.0.0:8080', '10.0.2.100:80'],
    ['local', '127.0.0.1::80', 'tcp 127.0.0.1:0', '10.0.2.100:80'],
    ['local', '[::1]:8080:80', 'tcp [::1]:8080', '[fd00::100]:80'],
    ['local', '53:5353/udp', 'udp 127.0.0.1:53', '10.0.2.100:5353'],
    ['local', '53/udp', 'udp 127.0.0.1:53', '10.0.2.100:53'],
    ['local', '127.0.0.1:80:81/tcp', 'tcp 127.0.0.1:80', '10.0.2.100:81'],
    ['local', 'udp://8080:80', 'udp 127.0.0.1:8080', '10.0.2.100:80'],
    ['local', 'host.example:8080:80', 'tcp <host.example>:8080', '10.0.2.100:80'],
    ['remote', '80:3000', 'tcp 10.0.2.2:80', '127.0.0.1:3000'],
    ['remote', '10.0.2.9:80:3000', 'tcp 10.0.2.9:80', '127.0.0.1:3000'],
    // As ever.
    ['remote', '80:app:3000', 'tcp 10.0.2.2:80', '<app>:3000'],
    ['local', 'unix:/run/80/udp:80', 'tcp unix:/run/80/udp', '10.0.2.100:80'],
  ];
  for (const [direction, text, bind, host] of table) {
    test(`${direction} ${text}`, () => {
      const [rule] = strict(text, direction);
      assert.deepEqual([`${rule?.protocol} ${show(rule!.bind)}`, show(rule!.host)], [bind, host]);
    });
  }

  test('ranges of both ends match', () => {
    const rules = strict('8000-8002:9000-9002/udp', 'local');
    assert.deepEqual(
      rules.map(({ bind, host }) => `${show(bind)} ${show(host)}`),
      [0, 1, 2].map((i) => `127.0.0.1:800${i} 10.0.2.100:900${i}`),
    );
    assert.throws(() => strict('8000-8002:9000', 'local'), /ranges of ports that do not match/);
    assert.throws(() => strict('80:81/sctp', 'local'), /the port "81\/sctp"/);
  });
});

describe('slirpnetstack reads what only it accepts', () => {
  const table: [Direction, string, string, string][] = [
    ['remote', 'tcp://tcp.echo.server@srv-1:0::2222', '<tcp.echo.server@srv-1>:0', '127.0.0.1:2222'],
    ['local', '0080', '127.0.0.1:80', '10.0.2.100:80'],
    ['local', '[::ffff:127.0.0.1]:80', '127.0.0.1:80', '10.0.2.100:80'],
    ['local', '[fe80::1%lo]:80', '<fe80::1%lo>:80', '10.0.2.100:80'],
    ['local', '', '127.0.0.1:0', '10.0.2.100:0'],
    ['remote', '80:notahostó:81', '10.0.2.2:80', '<notahostó>:81'],
  ];
  for (const [direction, text, bind, host] of table) {
    test(`${direction} "${text}"`, () => {
      const rule = parseSlirpnetstackForward(text, direction);
      assert.deepEqual([show(rule.bind), show(rule.host)], [bind, host]);
    });
  }

  test('schemes', () => {
    const facts = (text: string, direction: Direction): unknown[] => {
      const { protocol, proxyIn, proxyOut, rpc } = parseSlirpnetstackForward(text, direction);
      return [protocol, proxyIn, proxyOut, rpc];
    };
    assert.deepEqual(facts('tcp://80', 'local'), ['tcp', false, 0, false]);
    assert.deepEqual(facts('udprpc://80', 'local'), ['udp', false, 0, true]);
    assert.deepEqual(facts('udprpc://80', 'remote'), ['udp', false, 0, true]);
    assert.deepEqual(facts('tcppp://80', 'local'), ['tcp', true, 0, false]);
    assert.deepEqual(facts('udpspp://80', 'local'), ['udp', true, 0, false]);
    assert.deepEqual(facts('tcppp://80', 'remote'), ['tcp', false, 0, false]);
    assert.deepEqual(facts('udpspp://80', 'remote'), ['udp', false, 0, false]);
  });

  for (const [text, message] of [
    ['foo://80', 'unknown network type "foo"'],
    ['tcp+proxy://80', 'unknown network type "tcp+proxy"'],
    ['70000', 'strconv.ParseUint: parsing "70000": value out of range'],
    ['x', 'strconv.ParseUint: parsing "x": invalid syntax'],
    ['-1', 'strconv.ParseUint: parsing "-1": invalid syntax'],
    [
      '80:10.0.2.100:99999999999999999999',
      'strconv.ParseUint: parsing "99999999999999999999": value out of range',
    ],
    ['8000-8001', 'strconv.ParseUint: parsing "8000-8001": invalid syntax'],
  ] as const) {
    test(`error: ${text}`, () => {
      assert.throws(() => parseSlirpnetstackForward(text, 'local'), { message });
    });
  }

  test('five fields and unpaired brackets are errors, not an empty rule', () => {
    for (const text of ['1:2:3:4:5', '[::1:80']) {
      assert.throws(() => parseSlirpnetstackForward(text, 'local'), ForwardRuleError);
    }
  });
});

describe('tslirp', () => {
  test('schemes belong to a direction', () => {
    const facts = (text: string, direction: Direction): unknown[] => {
      const [{ protocol, proxyIn, proxyOut, rpc } = assert.fail()] = strict(text, direction);
      return [protocol, proxyIn, proxyOut, rpc];
    };
    assert.deepEqual(facts('tcp+proxy://80', 'local'), ['tcp', true, 0, false]);
    assert.deepEqual(facts('udp+spp://80', 'local'), ['udp', true, 0, false]);
    assert.deepEqual(facts('udp+rpc://80', 'local'), ['udp', false, 0, true]);
    assert.deepEqual(facts('tcp+proxy1://80', 'remote'), ['tcp', false, 1, false]);
    assert.deepEqual(facts('tcp+proxy2://80', 'remote'), ['tcp', false, 2, false]);
    assert.throws(
      () => strict('tcp+proxy1://80', 'local'),
      /accepted: tcp, udp, udp\+rpc, tcp\+proxy, udp\+spp/,
    );
    assert.throws(() => strict('tcp+proxy://80', 'remote'), /unknown scheme "tcp\+proxy"/);
    assert.throws(() => strict('constructor://80', 'remote'), /unknown scheme/);
  });

  test('ranges of ports make one rule each', () => {
    const rules = strict('127.0.0.1:8000-8002:10.0.2.100:9000-9002', 'local');
    assert.deepEqual(
      rules.map(({ bind, host }) => `${show(bind)} ${show(host)}`),
      ['127.0.0.1:8000 10.0.2.100:9000', '127.0.0.1:8001 10.0.2.100:9001', '127.0.0.1:8002 10.0.2.100:9002'],
    );
    assert.equal(strict('10000-29999', 'remote').length, 20000);
    assert.equal(show(strict('1-65535', 'local')[65534]!.host), '10.0.2.100:65535');
  });

  for (const [direction, text, fault] of [
    ['local', '', /has nothing in it/],
    ['local', '70000', /"70000", which is not a number from 0 to 65535/],
    ['local', '0080', /"0080"/],
    ['local', 'tcp://', /has nothing in it/],
    ['local', ' 80', /blank/],
    ['local', '80-79', /not a range/],
    ['local', '0-5', /not a range/],
    ['local', '8000-8001:10.0.2.100:90-92', /do not match/],
    ['local', '8000-8001:10.0.2.100:90', /do not match/],
    ['local', '1:2:3:4:5', /more than four fields/],
    ['local', 'fd00::1:80:x:1:2', /more than four fields/],
    ['local', '[::1:80', /brackets/],
    ['local', '010.0.0.1:80', /"010\.0\.0\.1", which is neither an address nor a name/],
    ['local', '1.2.3:80', /neither an address nor a name/],
    ['local', '[fe80::1%eth0]:80', /neither an address nor a name/],
    ['local', 'notahostó:80', /neither an address nor a name/],
    ['local', 'a/b:80', /neither an address nor a name/],
    ['local', 'a@b:80', /neither an address nor a name/],
    ['local', '[::ffff:127.0.0.1]:80', /write 127\.0\.0\.1/],
    ['local', '80:unix:/run/a', /unix socket where the guest's side is/],
    ['remote', 'unix:/run/a:80', /unix socket where the guest's side is/],
    ['local', 'unix:/run/a', /no port on the guest's side/],
    ['local', 'unix:/run/a:0', /no guest port/],
    ['local', `unix:/${'a'.repeat(107)}:80`, /too long for a unix socket/],
    ['local', 'unix:/run/a:80-81', /do not match/],
    ['remote', '0', /no port to listen on/],
    ['remote', '80:127.0.0.1:0', /no port to connect to/],
    ['remote', '80:www.example:0', /no port to connect to/],
    ['local', '0.0.0.0:80:127.0.0.1:80', /others than programs of this host/],
    ['local', 'udp+rpc://80:127.0.0.1:80', /takes plain tcp or udp/],
    ['local', 'tcp+proxy://80:127.0.0.1:80', /takes plain tcp or udp/],
    ['remote', 'udp://127.0.0.1:53:unix:/run/a', /has no address/],
    ['remote', 'tcp+proxy1://127.0.0.1:80:127.0.0.1:80', /takes plain tcp or udp/],
    ['remote', '127.0.0.1:80:www.example:80', /has no address/],
  ] as const) {
    test(`refuses ${direction} "${text.slice(0, 40)}" with one line that says what is accepted`, () => {
      assert.throws(
        () => strict(text, direction),
        (error: Error) => {
          assert.ok(error instanceof ForwardRuleError);
          assert.match(error.message, fault);
          assert.match(error.message, /^[^\n]*; accepted: [^\n]+$/);
          return true;
        },
      );
    });
  }

  test('no IPv6 address on the side of a guest without IPv6', () => {
    const dialect = { strict: true, addresses: { ...defaultAddresses, ipv6: false } };
    assert.throws(() => parseForwardRule('[::1]:80', 'local', dialect), /without IPv6/);
    assert.equal(parseForwardRule('[::1]:80:10.0.2.100:80', 'local', dialect).length, 1);
  });
});

describe('toForwardSpec', () => {
  test('issue 15: from the loopback of the guest, where the front end has that', async () => {
    const [rule = assert.fail()] = strict('[::1]:5432:127.0.0.1:5432', 'remote');
    const nobody = (): never => assert.fail('nothing to resolve');
    for (const splicesLoopback of [true, false]) {
      const options = { dualStackWildcards: false, source: '', splicesLoopback };
      const spec = await toForwardSpec(rule, nobody, options);
      assert.deepEqual(
        spec.direction === 'remote' && spec.inside,
        splicesLoopback ? { device: '' } : undefined,
      );
    }
    const [other = assert.fail()] = strict('10.0.2.2:5432:127.0.0.1:5432', 'remote');
    const options = { dualStackWildcards: false, source: '', splicesLoopback: true };
    assert.ok(!('inside' in (await toForwardSpec(other, nobody, options))));
  });

  const resolve = (label: string, port: number): Promise<{ address: string; port: number }> =>
    label === 'srv'
      ? Promise.resolve({ address: '192.0.2.9', port: 999 })
      : Promise.resolve({ address: '192.0.2.1', port });

  test('resolves both ends of a local forward and the guest side of a remote one, not its target', async () => {
    const local = parseSlirpnetstackForward('a.example:80:srv:81', 'local');
    assert.deepEqual(
      await toForwardSpec(local, resolve, { dualStackWildcards: true, source: '', splicesLoopback: true }),
      {
        direction: 'local',
        protocol: 'tcp',
        listen: { kind: 'ip', address: '192.0.2.1', port: 80 },
        dualStack: false,
        target: { address: '192.0.2.9', port: 999 },
        proxyHeader: false,
        rpc: false,
        source: '',
        isIdle: false,
      },
    );
    const remote = parseSlirpnetstackForward('a.example:80:b.example:81', 'remote');
    assert.deepEqual(
      await toForwardSpec(remote, resolve, { dualStackWildcards: true, source: '', splicesLoopback: true }),
      {
        direction: 'remote',
        protocol: 'tcp',
        bind: { address: '192.0.2.1', port: 80 },
        target: { kind: 'name', label: 'b.example', port: 81 },
        proxyHeader: 0,
        rpc: false,
      },
    );
  });

  test('a wildcard listener takes the family asked for, or both where the program does', async () => {
    const rule = parseSlirpnetstackForward('0.0.0.0:80', 'local');
    const listen = async (dualStackWildcards: boolean): Promise<unknown> => {
      const spec = await toForwardSpec(rule, resolve, {
        dualStackWildcards,
        source: '',
        splicesLoopback: true,
      });
      return spec.direction === 'local' ? [spec.listen, spec.dualStack] : null;
    };
    assert.deepEqual(await listen(true), [{ kind: 'ip', address: '::', port: 80 }, true]);
    assert.deepEqual(await listen(false), [{ kind: 'ip', address: '0.0.0.0', port: 80 }, false]);
  });
});
