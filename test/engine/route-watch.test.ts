/**
 * Against the kernel. The test runs itself again in a network namespace of its own, where it may change addresses and
 * routes as it likes; every `ip` command has taken effect when it returns.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HostRoutes } from '../../src/engine/route-watch.ts';
import { HostRouteTable } from '../../src/firewall/host-routes.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { parseIpAddress } from '../../src/stack/wire/address.ts';
import { libcFunction } from '../../src/sys/libc.ts';
import { Memory } from '../../src/sys/memory.ts';
import { PATIENCE_MS } from '../support/wait.ts';

const INSIDE = 'TSLIRP_TEST_INSIDE_NAMESPACE';
function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'inherit'] });
}

function ipBatch(lines: string[]): void {
  execFileSync('ip', ['-batch', '-'], { input: lines.join('\n'), stdio: ['pipe', 'ignore', 'inherit'] });
}

interface World {
  routes: HostRoutes;
  table: HostRouteTable;
  log: string[];
  memory: Memory;
  /** Whether the table has the address after a refresh that must have worked. */
  knows(address: string): boolean;
  /** Refresh until the table no longer has the address: a repair may have to wait for its share. */
  forgets(address: string): boolean;
}

/** A table without `load`. */
function makeWorld(): World {
  const slab = new Slab(65536, 0);
  const memory = new Memory(slab.buffer);
  const table = new HostRouteTable();
  const log: string[] = [];
  const routes = new HostRoutes(memory, slab, table, (line) => log.push(line));
  const knows = (address: string): boolean => {
    assert.equal(routes.refresh(), true);
    return table.contains(parseIpAddress(address));
  };
  const forgets = (address: string): boolean => {
    const deadline = performance.now() + PATIENCE_MS;
    while (knows(address)) if (performance.now() > deadline) return false;
    return true;
  };
  return { routes, table, log, memory, knows, forgets };
}

/** A loaded table beside a veth pair `v0` (up, 192.0.2.1/24) and `v1`, which vanishes afterwards. */
function withWorld(before: readonly string[], body: (world: World) => void): void {
  ip('link', 'add', 'v0', 'type', 'veth', 'peer', 'name', 'v1');
  ip('addr', 'add', '192.0.2.1/24', 'brd', '+', 'dev', 'v0');
  ip('link', 'set', 'v1', 'up');
  ip('link', 'set', 'v0', 'up');
  for (const command of before) ip(...command.split(' '));
  const world = makeWorld();
  try {
    world.routes.load();
    body(world);
    assert.deepEqual(world.log, []);
  } finally {
    world.routes.close();
    ip('link', 'del', 'v0');
    for (const family of ['-4', '-6']) ip(family, 'route', 'flush', 'table', 'main');
  }
}

function runTests(): void {
  ip('link', 'set', 'lo', 'up');

  describe('HostRoutes', () => {
    test('load knows addresses, networks and broadcast addresses, not the default route (A-03)', () => {
      withWorld(
        [
          'route add default via 192.0.2.254',
          'addr add 192.0.2.77/24 dev v0',
          'addr add 198.51.100.1/24 brd 203.0.113.99 dev v0',
          '-6 addr add 2001:db8:5::1/64 dev v0',
          '-6 route add default via 2001:db8:5::9 dev v0',
        ],
        ({ table, knows }) => {
          for (const own of ['192.0.2.1', '192.0.2.77', '198.51.100.1', '203.0.113.99', '2001:db8:5::1'])
            assert.equal(table.isLocal(parseIpAddress(own)), true, own);
          for (const near of ['192.0.2.200', '192.0.2.255', '198.51.100.7', '2001:db8:5::77', '127.0.0.1'])
            assert.equal(knows(near), true, near);
          for (const far of ['198.18.0.1', '203.0.113.98', '2001:db8:6::1'])
            assert.equal(knows(far), false, far);
        },
      );
    });

    test('broadcast addresses of the links, those of a moment ago included, are told from hosts (U-06)', () => {
      withWorld([], ({ routes, table, knows, forgets }) => {
        const isBroadcast = (address: string): boolean => table.isBroadcast(parseIpAddress(address));
        assert.equal(isBroadcast('192.0.2.255'), true);
        for (const host of ['192.0.2.1', '192.0.2.254', '198.51.100.255'])
          assert.equal(isBroadcast(host), false);
        ip('addr', 'add', '198.51.100.1/24', 'brd', '+', 'dev', 'v0');
        assert.equal(knows('198.51.100.1'), true);
        assert.equal(isBroadcast('198.51.100.255'), true);
        ip('addr', 'del', '198.51.100.1/24', 'dev', 'v0');
        assert.equal(forgets('198.51.100.1'), true);
        assert.equal(routes.refresh(), true);
        assert.equal(isBroadcast('198.51.100.255'), false);
      });
    });

    test('review §5: what a turn of the loop was told holds for all of it, and the next one asks again', () => {
      withWorld([], ({ routes, table }) => {
        const isKnown = (turn: number): boolean => {
          assert.equal(routes.refreshIn(turn, true), true);
          return table.isLocal(parseIpAddress('192.0.2.9'));
        };
        assert.equal(isKnown(7), false);
        ip('addr', 'add', '192.0.2.9/32', 'dev', 'v0');
        assert.equal(isKnown(7), false);
        assert.equal(isKnown(8), true);
      });
    });

    test('review O-11: a turn without news asks nobody, unless the table is not what it should be', () => {
      withWorld([], ({ routes, table }) => {
        ip('addr', 'add', '192.0.2.9/32', 'dev', 'v0');
        assert.equal(routes.refreshIn(7, false), true);
        assert.equal(table.isLocal(parseIpAddress('192.0.2.9')), false);
        const unread = makeWorld().routes;
        assert.equal(unread.refreshIn(8, false), true);
        assert.equal(unread.reloads, 1);
        unread.close();
      });
    });

    test('an address added a moment ago is known, one deleted is forgotten', () => {
      withWorld([], ({ knows, forgets }) => {
        for (const [address, near] of [
          ['198.51.100.1/24', '198.51.100.200'],
          ['192.0.2.9/32', '192.0.2.9'],
          ['2001:db8:7::1/64', '2001:db8:7::99'],
          ['2001:db8:8::1/128', '2001:db8:8::1'],
        ] as const) {
          assert.equal(knows(near), near.startsWith('192.0.2.'), near);
          ip('addr', 'add', address, 'dev', 'v0');
          assert.equal(knows(near), true, near);
          ip('addr', 'del', address, 'dev', 'v0');
          if (near.startsWith('192.0.2.')) assert.equal(knows(near), true);
          else assert.equal(forgets(near), true, near);
        }
      });
    });

    test('an address of an interface that is down, and the peer of a point-to-point one', () => {
      withWorld(['link set v1 down'], ({ table, knows }) => {
        ip('addr', 'add', '198.51.100.1/32', 'dev', 'v1');
        assert.equal(knows('198.51.100.1'), true);
        ip('addr', 'add', '198.51.100.2', 'peer', '198.51.100.3', 'dev', 'v0');
        assert.equal(knows('198.51.100.3'), true);
        assert.equal(table.isLocal(parseIpAddress('198.51.100.2')), true);
        assert.equal(table.isLocal(parseIpAddress('198.51.100.3')), false);
      });
    });

    test('routes of tables that only policy rules select, before and after load', () => {
      withWorld(
        [
          'rule add from 192.0.2.1 table 100',
          'route add 10.20.0.0/16 via 192.0.2.254 table 100',
          '-6 route add 2001:db8:20::/48 dev v0 table 100000',
        ],
        ({ routes, knows, forgets }) => {
          const { reloads } = routes;
          assert.equal(knows('10.20.1.1'), true);
          assert.equal(knows('2001:db8:20::1'), true);
          assert.equal(knows('10.21.1.1'), false);
          ip('route', 'add', '10.21.0.0/16', 'via', '192.0.2.254', 'table', '100');
          assert.equal(knows('10.21.1.1'), true);
          ip('route', 'add', '10.22.0.0/16', 'via', '192.0.2.254', 'table', '100000');
          assert.equal(knows('10.22.1.1'), true);
          assert.equal(routes.reloads, reloads, 'additions need no dump');
          ip('route', 'add', '10.21.0.0/16', 'via', '192.0.2.254', 'table', '101');
          ip('route', 'del', '10.21.0.0/16', 'table', '100');
          assert.equal(knows('10.21.1.1'), true);
          ip('route', 'flush', 'table', '101');
          assert.equal(forgets('10.21.1.1'), true);
          ip('rule', 'del', 'from', '192.0.2.1', 'table', '100');
          assert.equal(knows('10.20.1.1'), true);
        },
      );
    });

    test('routes without a nexthop count, the halves of everything do not', () => {
      withWorld([], ({ knows, forgets }) => {
        for (const [index, type] of ['blackhole', 'unreachable', 'prohibit', 'throw', 'local'].entries()) {
          const route = [type, `10.${30 + index}.0.0/16`];
          if (type === 'local') route.push('dev', 'lo');
          ip('route', 'add', ...route, 'table', '100');
          assert.equal(knows(`10.${30 + index}.1.1`), true, type);
          ip('route', 'del', ...route, 'table', '100');
          assert.equal(forgets(`10.${30 + index}.1.1`), true, type);
        }
        for (const half of ['0.0.0.0/1', '128.0.0.0/1', '::/1', '8000::/1', '2000::/3'])
          ip('route', 'add', half, 'dev', 'v0');
        ip('-6', 'route', 'add', 'unreachable', '::ffff:10.0.0.0/104');
        for (const far of ['198.18.0.1', '10.1.1.1', '2001:db8:6::1']) assert.equal(knows(far), false, far);
      });
    });

    test('review OP-8: what a VPN routes into its tunnel or to its router is the internet, in however many pieces', () => {
      const pieces = ['1.0.0.0/8', '2.0.0.0/7', '8.0.0.0/7', '64.0.0.0/2', '2001:db8::/32', '2000::/4'];
      const far = ['1.1.1.1', '3.3.3.3', '8.8.8.8', '100.1.1.1', '2001:db8::1', '2400::1'];
      const lan = ['10.9.1.1', '172.16.9.1', 'fd12::1'];
      for (const when of ['before', 'after'] as const) {
        for (const way of ['tunnel', 'router'] as const) {
          const hop = (prefix: string): string =>
            way === 'tunnel' ? 'dev t0' : prefix.includes(':') ? 'via 2001:db8:5::9' : 'via 192.0.2.254';
          const commands = [
            ...[...pieces, '10.9.0.0/16', '172.16.0.0/12', 'fd12::/16'].map(
              (to) => `route add ${to} ${hop(to)}`,
            ),
          ];
          const setUp = [
            '-6 addr add 2001:db8:5::1/64 dev v0 nodad',
            'tuntap add t0 mode tun',
            'addr add 10.8.0.2 peer 10.8.0.1 dev t0',
            'link set t0 up',
          ];
          withWorld(when === 'before' ? [...setUp, ...commands] : [], ({ knows }) => {
            if (when === 'after') for (const command of [...setUp, ...commands]) ip(...command.split(' '));
            for (const address of far) assert.equal(knows(address), false, `${when} ${way} ${address}`);
            for (const address of [...lan, '10.8.0.1', '10.8.0.2', '192.0.2.7', '2001:db8:5::7'])
              assert.equal(knows(address), true, `${when} ${way} ${address}`);
            ip('tuntap', 'del', 't0', 'mode', 'tun');
          });
        }
      }
    });

    test('review OP-8: what is on a link with neighbours is a network of the host, wherever in the world it is', () => {
      withWorld([], ({ knows }) => {
        ip('route', 'add', '203.0.113.0/24', 'dev', 'v0');
        ip('route', 'add', '198.51.100.0/24', 'nexthop', 'dev', 'v0', 'nexthop', 'via', '192.0.2.9');
        ip('route', 'add', '5.5.0.0/16', 'nexthop', 'via', '192.0.2.8', 'nexthop', 'via', '192.0.2.9');
        ip('route', 'add', 'blackhole', '9.9.9.0/24');
        for (const near of ['203.0.113.9', '198.51.100.9', '9.9.9.9']) assert.equal(knows(near), true, near);
        assert.equal(knows('5.5.5.5'), false);
      });
    });

    test('a route replaced and then deleted is gone', () => {
      withWorld([], ({ knows, forgets }) => {
        for (const [route, address] of [
          ['10.40.0.0/16', '10.40.1.1'],
          ['2001:db8:40::/48', '2001:db8:40::1'],
        ] as const) {
          ip('route', 'add', route, 'dev', 'v0');
          ip('route', 'replace', route, 'dev', 'v1');
          ip('route', 'replace', route, 'dev', 'v0');
          assert.equal(knows(address), true);
          ip('route', 'del', route);
          assert.equal(forgets(address), true);
        }
      });
    });

    test('one route of several for a destination deleted leaves it known', () => {
      withWorld(['-6 addr add 2001:db8:5::1/64 dev v0 nodad'], ({ knows, forgets }) => {
        const v6 = 'fd41::/48';
        const hops = ['2001:db8:5::a', '2001:db8:5::b', '2001:db8:5::c'];
        const nexthops = hops.flatMap((hop) => ['nexthop', 'via', hop, 'dev', 'v0']);
        ip('-6', 'route', 'add', v6, ...nexthops);
        assert.equal(knows('fd41::1'), true);
        for (const hop of hops) {
          assert.equal(knows('fd41::1'), true, hop);
          ip('-6', 'route', 'del', v6, 'via', hop, 'dev', 'v0');
        }
        assert.equal(forgets('fd41::1'), true);

        for (const metric of ['10', '20']) ip('route', 'add', '10.41.0.0/16', 'dev', 'v0', 'metric', metric);
        ip('route', 'del', '10.41.0.0/16', 'metric', '10');
        assert.equal(knows('10.41.1.1'), true);
        ip('route', 'del', '10.41.0.0/16', 'metric', '20');
        assert.equal(forgets('10.41.1.1'), true);
      });
    });

    test('routes that the kernel drops without a word are forgotten', () => {
      withWorld([], ({ knows, forgets }) => {
        ip('route', 'add', '10.50.0.0/16', 'via', '192.0.2.254', 'table', '100');
        assert.equal(knows('10.50.1.1'), true);
        ip('link', 'set', 'v0', 'down');
        assert.equal(forgets('10.50.1.1'), true);
        assert.equal(knows('192.0.2.1'), true);

        ip('link', 'set', 'v0', 'up');
        assert.equal(knows('192.0.2.200'), true);
        ip('addr', 'add', '198.51.100.1/32', 'dev', 'v1');
        ip('route', 'add', '10.51.0.0/16', 'dev', 'v0', 'src', '198.51.100.1');
        assert.equal(knows('10.51.1.1'), true);
        ip('addr', 'del', '198.51.100.1/32', 'dev', 'v1');
        assert.equal(forgets('10.51.1.1'), true);

        ip('nexthop', 'add', 'id', '7', 'via', '192.0.2.254', 'dev', 'v0');
        ip('route', 'add', '10.52.0.0/16', 'nhid', '7');
        assert.equal(knows('10.52.1.1'), true);
        ip('nexthop', 'del', 'id', '7');
        assert.equal(forgets('10.52.1.1'), true);
      });
    });

    test('news lost in a full buffer are made up for before the next answer', () => {
      withWorld([], ({ routes, knows }) => {
        const { reloads } = routes;
        const lines: string[] = [];
        for (let i = 0; i < 5000; i++) lines.push(`route add 10.${64 + (i >> 8)}.${i & 255}.0/24 dev v0`);
        ipBatch(lines);
        for (const last of [4999, 2500, 0])
          assert.equal(knows(`10.${64 + (last >> 8)}.${last & 255}.1`), true, `route ${last}`);
        // Additions alone cause no dump, so this shows that the buffer did overflow.
        assert.ok(routes.reloads > reloads);
      });
    });

    test('a stale table denies until its repair, and repairs take a small share of the time', () => {
      withWorld([], ({ routes, knows, forgets }) => {
        // So many that a few readings use up what was saved, on any machine.
        const lines: string[] = [];
        for (let i = 0; i < 20000; i++) lines.push(`route add 10.${64 + (i >> 8)}.${i & 255}.0/24 dev v0`);
        ipBatch(lines);
        assert.equal(knows('10.64.0.1'), true);
        const { reloads } = routes;
        const rounds = 40;
        let denied = false;
        for (let i = 0; i < rounds; i++) {
          ipBatch(['route add 10.60.0.0/16 dev v0', 'route del 10.60.0.0/16 dev v0']);
          denied ||= knows('10.60.1.1');
        }
        assert.ok(
          routes.reloads - reloads < rounds,
          `${routes.reloads - reloads} readings in ${rounds} rounds`,
        );
        assert.equal(denied, true);
        assert.equal(forgets('10.60.1.1'), true);
        assert.equal(knows('10.64.0.1'), true);
      });
    });

    test('when nothing can be read it says so once, and refresh is false', () => {
      const { routes, table, log } = makeWorld();
      routes.load();
      closeSync(routes.fd);
      assert.equal(routes.refresh(), false);
      assert.equal(routes.refresh(), false);
      assert.equal(log.length, 1);
      assert.match(log[0] ?? '', /^the host's routes and addresses cannot be read: Bad file descriptor$/);
      assert.equal(table.contains(parseIpAddress('127.0.0.1')), true);
      routes.close();
      assert.equal(routes.refresh(), false);
    });

    test('without a descriptor to spare it fails at the start with one line', () => {
      const memory = new Memory(new ArrayBuffer(64));
      const RLIMIT_NOFILE = 7;
      const getrlimit = libcFunction('getrlimit', 'int', ['int', 'uintptr_t']);
      const setrlimit = libcFunction('setrlimit', 'int', ['int', 'uintptr_t']);
      assert.equal(getrlimit(RLIMIT_NOFILE, memory.address(0, 16)), 0);
      const soft = memory.view.getUint32(0, true);
      memory.view.setUint32(0, 3, true);
      assert.equal(setrlimit(RLIMIT_NOFILE, memory.address(0, 16)), 0);
      try {
        assert.throws(makeWorld, {
          message: "cannot watch the host's routes and addresses: netlink socket: Too many open files",
        });
      } finally {
        memory.view.setUint32(0, soft, true);
        assert.equal(setrlimit(RLIMIT_NOFILE, memory.address(0, 16)), 0);
      }
      // Nothing stays behind of the attempt, and what was opened once needs no descriptor later.
      const { routes } = makeWorld();
      routes.load();
      routes.close();
    });
  });
}

if (process.env[INSIDE] !== undefined) {
  runTests();
} else {
  test('HostRoutes in a network namespace of its own', () => {
    const kind = process.getuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const { status, stdout, stderr, error } = spawnSync(
      'unshare',
      [...kind, process.execPath, ...process.execArgv, fileURLToPath(import.meta.url)],
      { env: { ...env, [INSIDE]: '1' }, encoding: 'utf8', timeout: 5 * PATIENCE_MS },
    );
    assert.equal(error, undefined);
    assert.equal(status, 0, `${stdout}\n${stderr}`);
    assert.match(stdout, /pass [1-9]/);
  });
}
