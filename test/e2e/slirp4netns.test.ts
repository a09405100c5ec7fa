/** The drop-in `slirp4netns`, run as its callers run it. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  asOwner,
  type Bare,
  bareNamespace,
  directory,
  GATEWAY4,
  GATEWAY6,
  HOST4,
  HOST4_OTHER,
  HOST6,
  HOST6_OTHER,
  type Namespace,
  programPath,
  ready,
} from '../support/namespaces.ts';
import { takeDescriptor } from '../support/pidfd.ts';
import { must, run, start } from '../support/processes.ts';
import {
  addForward,
  ask,
  askText,
  type Service,
  slirp4netns,
  socketPath,
  startSlirp4netns,
} from '../support/slirp4netns.ts';
import { echo, listen } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

/** In the guest: connect, and say `ok`, or the name of the error, or `silence`. */
function reach(guest: Namespace, host: string, port: number, waitMs = 20_000): Promise<string> {
  return guest.evaluate(
    async (to: string, at: number, limit: number): Promise<string> => {
      const { connect } = await import('node:net');
      return new Promise((resolve) => {
        const socket = connect({ host: to, port: at });
        const done = (word: string): void => {
          socket.destroy();
          resolve(word);
        };
        setTimeout(() => done('silence'), limit).unref();
        socket.on('connect', () => done('ok'));
        socket.on('error', (error: NodeJS.ErrnoException) => done(error.code ?? 'failed'));
      });
    },
    [host, port, waitMs],
  );
}

/** A server that says who has connected. */
async function whoServer(host: string): Promise<{ port: number; server: Server }> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(`${socket.remoteAddress}\n`);
  });
  server.listen(0, host);
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, server };
}

/** In the guest: what a TCP server sends. */
function fetchText(guest: Namespace, host: string, port: number): Promise<string> {
  const target = host.includes(':') ? `TCP6:[${host}]:${port}` : `TCP4:${host}:${port}`;
  return guest.must(['socat', '-T3', '-u', target, '-']);
}

/** Links of the guest's device as ip(8) shows them in JSON. */
interface LinkView {
  flags: string[];
  mtu: number;
  address: string;
  operstate: string;
  addr_info: { local: string; prefixlen: number; broadcast?: string; dynamic?: boolean }[];
}

async function link(guest: Namespace, name: string): Promise<LinkView | undefined> {
  const { status, stdout } = await guest.run(['ip', '-j', 'address', 'show', 'dev', name]);
  return status === 0 ? (JSON.parse(stdout) as LinkView[])[0] : undefined;
}

/** Until duplicate address detection is over, the guest speaks from its link-local address. */
async function ipv6Usable(guest: Namespace): Promise<void> {
  await until(
    async () => (await guest.run(['ip', '-6', 'route', 'get', HOST6])).stdout.includes('src fd00::'),
    'IPv6 in the guest',
  );
}

async function serve(bare: Bare, ...args: string[]): Promise<Service> {
  return startSlirp4netns([...args, String(bare.namespace.pid), 'tap0']);
}

describe('slirp4netns -c', () => {
  let bare: Bare;
  let guest: Namespace;
  let service: Service;
  let loopback: { port: number; server: Server };
  let loopback6: { port: number; server: Server };

  before(async () => {
    bare = await bareNamespace();
    guest = bare.namespace;
    service = await serve(bare, '-c6', '--mtu=1400', '--macaddress', '0e:d4:18:d9:38:fb');
    loopback = await whoServer('127.0.0.1');
    loopback6 = await whoServer('::1');
  });
  after(async () => {
    loopback.server.close();
    loopback6.server.close();
    await service[Symbol.asyncDispose]();
    await bare.anchor.stop();
  });

  test('configures lo, flags, MTU, MAC, address and route', async () => {
    const lo = await link(guest, 'lo');
    assert.ok(lo?.flags.includes('UP'));
    const tap = await link(guest, 'tap0');
    assert.deepEqual(tap?.flags, ['BROADCAST', 'UP', 'LOWER_UP']);
    assert.deepEqual([tap.mtu, tap.address], [1400, '0e:d4:18:d9:38:fb']);
    const [v4] = tap.addr_info.filter(({ local }) => local.includes('.'));
    assert.deepEqual([v4?.local, v4?.prefixlen, v4?.broadcast], ['10.0.2.100', 24, '10.0.2.255']);
    assert.match(await guest.must(['ip', 'route']), /^default via 10\.0\.2\.2 dev tap0/);
    assert.match(await guest.must(['ip', '-a', 'netconf']), /tap0/);
  });

  test('IPv6 comes from router advertisements of fe80::2', async () => {
    await until(async () => {
      const tap = await link(guest, 'tap0');
      return (
        tap?.addr_info.some((entry) => entry.local.startsWith('fd00::') && entry.dynamic === true) === true
      );
    }, 'an address from the advertised prefix');
    assert.match(await guest.must(['ip', '-6', 'route']), /^default via fe80::2 dev tap0/m);
    await ipv6Usable(guest);
  });

  test('says what the original says', () => {
    assert.match(
      service.process.stdout,
      /^WARNING: Support for IPv6 is experimental\nStarting slirp\n\* MTU: {13}1400\n[\s\S]*WARNING: 127\.0\.0\.1:\*/,
    );
  });

  test('the gateway is the loopback of the host, in both families', async () => {
    assert.equal(await fetchText(guest, GATEWAY4, loopback.port), '127.0.0.1\n');
    assert.equal(await fetchText(guest, GATEWAY6, loopback6.port), '::1\n');
    assert.equal(await reach(guest, GATEWAY4, 9), 'ECONNREFUSED');
  });

  test('other ports of the DNS address are unreachable, other addresses of the network silent', async () => {
    assert.equal(await reach(guest, '10.0.2.3', loopback.port), 'ENETUNREACH');
    assert.equal(await reach(guest, '10.0.2.77', loopback.port), 'EHOSTUNREACH');
    await guest.must(['ping', '-c1', '-W2', '10.0.2.3']);
  });

  test('everything else is connected as is, the host included, but never its loopback', async () => {
    const server = await whoServer('::');
    try {
      assert.match(await fetchText(guest, HOST4, server.port), new RegExp(HOST4.replaceAll('.', '\\.')));
      assert.match(await fetchText(guest, HOST6, server.port), /^2001:db8:1::1/);
      assert.equal(await reach(guest, '192.0.2.70', 80), 'EHOSTUNREACH');
      await guest
        .must(['ip', 'route', 'add', '127.9.9.9/32', 'via', GATEWAY4, 'table', 'local'])
        .catch(() => '');
    } finally {
      server.server.close();
    }
  });

  test('the API answers as documented and as implemented', async () => {
    const { api } = service;
    assert.equal(statSync(api).mode & 0o777, 0o600);
    const desc = async (request: unknown): Promise<string> =>
      ((await ask(api, request))['error'] as { desc: string }).desc;
    assert.equal(await desc('foo'), 'bad request: cannot parse JSON');
    assert.equal(await desc({}), 'bad request: no execute found');
    assert.equal(await desc({ execute: 'x' }), 'bad request: unknown execute');
    assert.equal(await desc(`${' '.repeat(4096)}`), 'bad request: too large message');
    assert.equal(
      await desc({ execute: 'add_hostfwd', arguments: { proto: 'bad' } }),
      'bad request: add_hostfwd: bad arguments.proto',
    );
    assert.equal(await askText(api, '{"execute":"list_hostfwd"}'), '{"return":{"entries":[]},"entries":[]}');
    assert.match(service.process.stderr, /^apifd event\napi_handler: got request: foo$/m);
  });

  test('a forwarded TCP port shows the guest who has connected; the port is taken then', async () => {
    const { api } = service;
    const inside = guest.start(['socat', 'TCP4-LISTEN:80,fork,reuseaddr', 'SYSTEM:"echo $SOCAT_PEERADDR"']);
    try {
      await until(async () => (await reach(guest, '127.0.0.1', 80)) === 'ok', 'the server in the guest');
      const { id, host_port: port = 0 } = await addForward(api, {
        proto: 'tcp',
        host_port: 0,
        guest_port: 80,
      });
      const text = async (from: string, to: string): Promise<string> =>
        (await must(['socat', '-T3', '-u', `TCP:${to}:${port},bind=${from}`, '-'])).trim();
      assert.match(await text(HOST4_OTHER, HOST4), /^198\.51\.100\.2$/);
      assert.match(await text('127.0.0.1', '127.0.0.1'), /^10\.0\.2\.2$/);

      const again = await ask(api, {
        execute: 'add_hostfwd',
        arguments: { proto: 'tcp', host_port: port, guest_port: 81 },
      });
      assert.deepEqual(again, { error: { desc: 'bad request: add_hostfwd: slirp_add_hostfwd failed' } });
      const { entries } = (await ask(api, { execute: 'list_hostfwd' }))['return'] as { entries: object[] };
      assert.deepEqual(entries, [
        {
          id,
          proto: 'tcp',
          host_addr: '0.0.0.0',
          host_port: port,
          guest_addr: '10.0.2.100',
          guest_port: 80,
        },
      ]);
      assert.deepEqual(await ask(api, { execute: 'remove_hostfwd', arguments: { id } }), { return: {} });
      const gone = await run(['socat', '-u', `TCP:127.0.0.1:${port}`, '-']);
      assert.match(gone.stderr, /Connection refused/);
    } finally {
      await inside.stop();
    }
  });

  test('an IPv6 port leads to an address of the guest in either family', async () => {
    const { api } = service;
    const inside = guest.start(['socat', 'TCP6-LISTEN:81,fork,reuseaddr', 'SYSTEM:"echo hello"']);
    try {
      await until(async () => (await reach(guest, '127.0.0.1', 81)) === 'ok', 'the server in the guest');
      const tap = await link(guest, 'tap0');
      const own = tap?.addr_info.find(({ local }) => local.startsWith('fd00::'))?.local ?? '';
      for (const guest_addr of ['', own]) {
        const { host_port: port } = await addForward(api, {
          proto: 'tcp6',
          host_addr: HOST6,
          host_port: 0,
          guest_addr,
          guest_port: 81,
        });
        assert.equal(
          await must(['socat', '-T3', '-u', `TCP6:[${HOST6}]:${port}`, '-']),
          'hello\n',
          guest_addr,
        );
      }
    } finally {
      await inside.stop();
    }
  });

  test('a forwarded UDP port brings answers back', async () => {
    const { api } = service;
    const inside = guest.start(['socat', 'UDP4-RECVFROM:90,fork', 'SYSTEM:"echo $SOCAT_PEERADDR"']);
    try {
      const { host_port: port } = await addForward(api, { proto: 'udp', host_port: 0, guest_port: 90 });
      await until(async () => {
        const { stdout } = await run(
          ['socat', '-T0.3', '-t0.3', '-', `UDP4:${HOST4}:${port},bind=${HOST4_OTHER}`],
          {
            input: 'x',
          },
        );
        return stdout === `${HOST4_OTHER}\n`;
      }, 'an answer that names the client');
    } finally {
      await inside.stop();
    }
  });

  test('flows are listed and can be cut; counters and the run itself are told', async () => {
    const { api } = service;
    const server = await listen(echo);
    const client = guest.start(['socat', '-', `TCP:${HOST4}:${server.port}`]);
    try {
      await until(() => server.sockets.size === 1, 'the connection');
      interface Flow {
        flow: number;
        protocol: string;
        state: string;
        right: { address: string; port: number };
      }
      const { flows } = (await ask(api, { execute: 'list_flows' }))['return'] as { flows: Flow[] };
      const mine = flows.find(({ right }) => right.port === server.port);
      assert.deepEqual([mine?.protocol, mine?.state, mine?.right.address], ['tcp', 'ESTABLISHED', HOST4]);
      const closed = await ask(api, { execute: 'close_flow', arguments: { id: mine?.flow } });
      assert.deepEqual(closed, { return: {} });
      await client.end();
      await until(() => server.sockets.size === 0, 'the host side closed');
    } finally {
      await client.stop();
      await server.close();
    }
    const { counters } = (await ask(api, { execute: 'stats' }))['return'] as {
      counters: Record<string, number>;
    };
    assert.ok((counters['rx.packets'] ?? 0) > 0);
    const info = (await ask(api, { execute: 'info' }))['return'] as { program: string; mtu: number };
    assert.deepEqual([info.program, info.mtu], ['tslirp', 1400]);
  });

  test('a silent client of the API does not delay the network', async () => {
    const server = await listen(echo);
    const silent = start(['socat', '-', `UNIX-CONNECT:${service.api}`]);
    try {
      silent.child.stdin?.write('{"execute":');
      assert.equal(await reach(guest, HOST4, server.port), 'ok');
      assert.deepEqual(await ask(service.api, { execute: 'list_hostfwd' }).then(Object.keys), [
        'return',
        'entries',
      ]);
    } finally {
      await silent.stop();
      await server.close();
    }
  });

  test('data on the exit descriptor is nothing, its closing is the end: status 0, socket and device gone', async () => {
    (service.process.child.stdio[4] as NodeJS.WritableStream).write('x');
    await ask(service.api, { execute: 'list_hostfwd' });
    service.closeExitFd();
    const ended = await service.process.end();
    assert.deepEqual([ended.status, ended.signal], [0, null], ended.stderr);
    assert.match(ended.stderr, /exitfd event\n/);
    assert.ok(!existsSync(service.api));
    await until(async () => (await link(guest, 'tap0')) === undefined, 'the device gone');
  });
});

describe('slirp4netns without -c', () => {
  let bare: Bare;
  before(async () => {
    bare = await bareNamespace();
  });
  after(() => bare.anchor.stop());

  test('makes the device and nothing else; DHCP gives 10.0.2.15, and the network works', async () => {
    const guest = bare.namespace;
    await guest.ip('link set lo down');
    await using _ = await serve(bare);
    const tap = await link(guest, 'tap0');
    assert.ok(tap !== undefined && !tap.flags.includes('UP'));
    assert.deepEqual([tap.addr_info.length, tap.mtu], [0, 1500]);
    assert.ok(!(await link(guest, 'lo'))?.flags.includes('UP'));

    await guest.ip('link set tap0 up');
    const script = join(directory, 'udhcpc.sh');
    writeFileSync(
      script,
      '#!/bin/sh\n[ "$1" = bound ] || exit 0\nip address add $ip/24 dev tap0; ip route add default via $router\n' +
        'echo "$ip $router $dns $serverid"\n',
      { mode: 0o755 },
    );
    const out = await guest.must(['udhcpc', '-i', 'tap0', '-n', '-q', '-f', '-s', script]);
    assert.match(out, /^10\.0\.2\.15 10\.0\.2\.2 10\.0\.2\.3 10\.0\.2\.2$/m);
    const server = await listen(echo);
    assert.equal(await reach(guest, HOST4, server.port), 'ok');
    await server.close();
  });

  test('the device does not wait for Node, because scripts do not wait for the device', async () => {
    const guest = bare.namespace;
    const place = join(directory, 'no-node');
    mkdirSync(place);
    writeFileSync(join(place, 'node'), '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 });
    const path = `PATH=${place}:${process.env['PATH']}`;
    const program = programPath('slirp4netns');
    const stack = start(asOwner('env', path, program, '-m', '1400', String(guest.pid), 'tap5'));
    try {
      await until(async () => (await link(guest, 'tap5')) !== undefined, 'the device');
    } finally {
      await stack.stop('SIGKILL');
    }
    await until(async () => (await link(guest, 'tap5')) === undefined, 'the device gone');
  });

  test('a device that was there before Node is the one that is served', async () => {
    const guest = bare.namespace;
    const argv = [programPath('slirp4netns'), '-6', '-r3', '--exit-fd=4', String(guest.pid), 'tap6'];
    const stack = start(asOwner(...argv), { stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'] });
    try {
      await ready(stack);
      assert.equal((await link(guest, 'tap6'))?.flags.includes('UP'), false);
      await guest.ip('address add 10.0.2.100/24 dev tap6', 'link set tap6 up');
      await guest.must(['ping', '-c1', '-W2', GATEWAY4]);
    } finally {
      (stack.child.stdio[4] as NodeJS.WritableStream & { destroy: () => void }).destroy();
    }
    const { status, stderr } = await stack.end();
    assert.deepEqual([status, stderr], [0, 'exitfd event\ndo_slirp is exiting\n']);
    assert.equal(await link(guest, 'tap6'), undefined);
  });

  test('a device that others made and set up (RootlessKit) is taken as it is, and stays', async () => {
    const guest = bare.namespace;
    await guest.ip(
      'tuntap add name tap7 mode tap',
      'link set tap7 up',
      'link set lo up',
      'link set tap7 mtu 4000',
      'address add 10.0.2.100/24 dev tap7',
      'route add default via 10.0.2.2 dev tap7',
    );
    const server = await listen(echo);
    {
      const args = ['--mtu', '65520', '--disable-host-loopback', '--enable-ipv6', String(guest.pid), 'tap7'];
      await using _ = await startSlirp4netns(args);
      assert.equal((await link(guest, 'tap7'))?.mtu, 4000);
      // As RootlessKit does it: after we were started.
      await guest.ip('link set tap7 mtu 65520');
      assert.equal(await reach(guest, HOST4, server.port), 'ok');
      await ipv6Usable(guest);
      assert.equal(await reach(guest, HOST6, server.port), 'ok');
    }
    assert.equal((await link(guest, 'tap7'))?.mtu, 65520);
    await guest.ip('link delete tap7');
    await server.close();
  });

  test('--netns-type=tapfd takes an open device, whatever -c says', async () => {
    const guest = bare.namespace;
    // TUNSETIFF with IFF_TAP | IFF_NO_PI
    const program = `$| = 1; open T, "+<", "/dev/net/tun" or die; $ifr = pack("a16 s x22", "tap9", 0x1002);
      ioctl(T, 0x400454ca, $ifr) or die; print fileno(T), "\\n"; <STDIN>`;
    const holder = guest.start(['perl', '-e', program]);
    const number = Number(await holder.firstLine());
    const fd = takeDescriptor(holder.pid, number);
    assert.ok(fd >= 0, `pidfd_getfd: ${fd}`);
    await guest.ip(
      'address add 10.0.2.100/24 dev tap9',
      'link set tap9 up',
      'route add default via 10.0.2.2',
    );
    const argv = asOwner(programPath('slirp4netns'), '-c', '-r3', '--mtu=1400', '--netns-type=tapfd', '5');
    const stack = start(argv, { stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'ignore', fd] });
    closeSync(fd);
    await holder.stop();
    const server = await listen(echo);
    try {
      await ready(stack);
      assert.equal(await reach(guest, HOST4, server.port), 'ok');
      assert.match(stack.stdout, /^Starting slirp\n\* MTU: {13}1400\n/);
    } finally {
      await server.close();
      assert.equal((await stack.stop('SIGTERM')).status, 0);
    }
  });

  test('--userns-path and --netns-type=path name both namespaces', async () => {
    const { pid } = bare.namespace;
    const paths = [`--userns-path=/proc/${pid}/ns/user`, '--netns-type=path', `/proc/${pid}/ns/net`];
    await using _ = await startSlirp4netns([...paths, 'tap11']);
    const tap = await link(bare.namespace, 'tap11');
    assert.deepEqual(tap?.addr_info, []);
  });

  test('--netns-type=path alone, from inside the user namespace (Podman)', async () => {
    const { pid } = bare.namespace;
    const inside = ['nsenter', '--target', String(pid), '--user', '--preserve-credentials', '--'];
    const argv = [
      programPath('slirp4netns'),
      '-c',
      '-r',
      '3',
      '--netns-type=path',
      `/proc/${pid}/ns/net`,
      'tap12',
    ];
    const stack = start(asOwner(...inside, ...argv), { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
    try {
      await ready(stack);
      assert.equal((await link(bare.namespace, 'tap12'))?.addr_info[0]?.local, '10.0.2.100');
    } finally {
      await stack.stop('SIGTERM');
    }
  });
});

describe('options of slirp4netns', () => {
  let bare: Bare;
  let guest: Namespace;
  let loopback: { port: number; server: Server };
  before(async () => {
    bare = await bareNamespace();
    guest = bare.namespace;
    loopback = await whoServer('0.0.0.0');
  });
  after(async () => {
    loopback.server.close();
    await bare.anchor.stop();
  });

  test('--disable-host-loopback: ping answers, open and closed ports are unreachable; DNS goes on', async () => {
    await using service = await serve(bare, '-c', '--disable-host-loopback');
    await guest.must(['ping', '-c1', '-W2', GATEWAY4]);
    assert.equal(await reach(guest, GATEWAY4, loopback.port), 'ENETUNREACH');
    assert.equal(await reach(guest, GATEWAY4, 9), 'ENETUNREACH');
    assert.doesNotMatch(service.process.stdout, /WARNING/);
  });

  test('--cidr moves all addresses', async () => {
    await using _ = await serve(bare, '-c', '--cidr=10.0.135.128/25');
    const tap = await link(guest, 'tap0');
    assert.deepEqual([tap?.addr_info[0]?.local, tap?.addr_info[0]?.prefixlen], ['10.0.135.228', 25]);
    assert.equal(await fetchText(guest, '10.0.135.130', loopback.port), '127.0.0.1\n');
  });

  test('--disable-dns: the DNS address is a destination like any other', async () => {
    await using _ = await serve(bare, '-c', '--disable-dns');
    await guest.must(['ping', '-c1', '-W2', GATEWAY4]);
    // The host's route to it leads nowhere.
    await must(['ip', 'route', 'add', '10.0.2.3/32', 'dev', 'void0']);
    try {
      assert.equal(await reach(guest, '10.0.2.3', 53, 1500), 'silence');
    } finally {
      await must(['ip', 'route', 'del', '10.0.2.3/32', 'dev', 'void0']);
    }
  });

  for (const [given, source] of [
    ['127.0.0.1', '127.0.0.1'],
    [HOST4_OTHER, HOST4_OTHER],
    ['srv0', HOST4],
  ] as const) {
    test(`--outbound-addr=${given}: a service of the host sees ${source}`, async () => {
      await using _ = await serve(bare, '-c', `--outbound-addr=${given}`);
      assert.equal(await fetchText(guest, GATEWAY4, loopback.port), `${source}\n`);
      if (given !== '127.0.0.1') assert.equal(await fetchText(guest, HOST4, loopback.port), `${source}\n`);
    });
  }

  test('--outbound-addr is the source of UDP and DNS as well', async () => {
    const seen: string[] = [];
    const sockets = await Promise.all(
      [53, 5300].map(async (port) => {
        const socket = createSocket('udp4');
        socket.on('message', (_, { address }) => seen.push(`${port} ${address}`));
        socket.bind(port, HOST4);
        await once(socket, 'listening');
        return socket;
      }),
    );
    await using _ = await serve(bare, '-c', `--outbound-addr=${HOST4_OTHER}`);
    try {
      await guest.run(['dig', '+tries=1', '+time=1', '@10.0.2.3', 'name.test']);
      await guest.run(['socat', '-u', '-', `UDP4:${HOST4}:5300`], { input: 'x' });
      const wanted = [`53 ${HOST4_OTHER}`, `5300 ${HOST4_OTHER}`];
      await until(() => wanted.every((entry) => seen.includes(entry)), 'a query and a datagram');
      assert.deepEqual([...new Set(seen)].sort(), wanted.sort());
    } finally {
      for (const socket of sockets) socket.close();
    }
  });

  test('--outbound-addr6 is for IPv6', async () => {
    const server = await whoServer(HOST6);
    await using _ = await serve(bare, '-c6', `--outbound-addr6=${HOST6_OTHER}`);
    try {
      await ipv6Usable(guest);
      assert.equal(await fetchText(guest, HOST6, server.port), `${HOST6_OTHER}\n`);
    } finally {
      server.server.close();
    }
  });

  test('arguments in any order, too many of them, long names', async () => {
    const argv = ['-c', String(guest.pid), '--mtu', '1280', 'abcdefghijklmnopqrst', 'superfluous'];
    await using service = await startSlirp4netns(argv);
    assert.equal((await link(guest, 'abcdefghijklmno'))?.mtu, 1280);
    assert.match(service.process.stdout, /^WARNING: too many arguments\n/);
  });
});

describe('beginning and end of slirp4netns', () => {
  let bare: Bare;
  before(async () => {
    bare = await bareNamespace();
  });
  after(() => bare.anchor.stop());

  test('the ready descriptor may be a file', async () => {
    const file = join(directory, `ready-${process.pid}`);
    const fd = openSync(file, 'w');
    const argv = [programPath('slirp4netns'), '-c', '-r', '10', String(bare.namespace.pid), 'tap0'];
    const stdio: ('ignore' | 'pipe' | number)[] = ['ignore', 'pipe', 'pipe'];
    while (stdio.length < 10) stdio.push('ignore');
    stdio.push(fd);
    const stack = start(asOwner(...argv), { stdio });
    closeSync(fd);
    try {
      await until(() => readFileSync(file, 'utf8') === '1', 'the byte in the file');
    } finally {
      await stack.stop('SIGTERM');
    }
  });

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    test(`${signal} is a clean end`, async () => {
      const service = await serve(bare, '-c');
      const ended = await service.process.stop(signal);
      assert.deepEqual([ended.status, ended.signal], [0, null]);
      assert.ok(!existsSync(service.api));
    });
  }

  test('an exit descriptor that is not open counts as closed: ready, then the end', async () => {
    const argv = [
      programPath('slirp4netns'),
      '-c',
      '-r',
      '3',
      '-e',
      '10',
      String(bare.namespace.pid),
      'tap0',
    ];
    const stack = start(asOwner(...argv), { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
    await ready(stack);
    const ended = await stack.end();
    assert.equal(ended.status, 0, ended.stderr);
    assert.match(ended.stderr, /exitfd event/);
  });

  test('a standard stream may be the ready descriptor, and stays open', async () => {
    const argv = ['-c', '-r', '2', '-e', '77', String(bare.namespace.pid), 'tap0'];
    const ended = await slirp4netns(argv);
    assert.deepEqual([ended.status, ended.stderr], [0, '1exitfd event\ndo_slirp is exiting\n']);
  });

  test('readers of our output that have gone are no trouble', async () => {
    const service = await serve(bare, '-c');
    service.process.child.stdout?.destroy();
    service.process.child.stderr?.destroy();
    for (let i = 0; i < 3; i++) await ask(service.api, { execute: 'list_hostfwd' });
    service.closeExitFd();
    assert.equal((await service.process.end()).status, 0);
  });

  test('the namespace going away is the end', async () => {
    const other = await bareNamespace();
    const service = await startSlirp4netns(['-c', String(other.namespace.pid), 'tap0']);
    await other.anchor.stop();
    assert.equal((await service.process.end()).status, 0);
    assert.ok(!existsSync(service.api));
  });

  test('a namespace that is not there', async () => {
    const ended = await slirp4netns(['-c', '99999999', 'tap0']);
    assert.deepEqual(
      [ended.status, ended.stderr],
      [1, '/proc/99999999/ns/net: No such file or directory\nchild failed(1)\n'],
    );
  });

  const after4 = 'do_slirp is exiting\ndo_slirp failed\nparent failed\n';

  test('an API socket that cannot be had is an error, and nobody is told that we are ready', async () => {
    const file = socketPath();
    writeFileSync(file, 'mine');
    for (const [path, line] of [
      ['x'.repeat(108), 'the specified API socket path is too long (>= 108)'],
      [file, 'api_bindlisten: bind: Address already in use'],
      ['/nonexistent/x', 'api_bindlisten: bind: No such file or directory'],
    ]) {
      const argv = ['-c', '-r', '1', '-a', path as string, String(bare.namespace.pid), 'tap0'];
      const ended = await slirp4netns(argv);
      assert.deepEqual([ended.status, ended.stderr], [1, `${line}\n${after4}`]);
      assert.doesNotMatch(ended.stdout, /1$/);
    }
    assert.equal(readFileSync(file, 'utf8'), 'mine');
  });

  test('help and errors come from the installed program', async () => {
    const help = await slirp4netns(['--help']);
    assert.deepEqual([help.status, help.stderr], [0, '']);
    assert.match(help.stdout, /^Usage: slirp4netns /);
    const bad = await slirp4netns(['--foo']);
    assert.deepEqual([bad.status, bad.stderr], [1, "slirp4netns: unrecognized option '--foo'\n"]);
    assert.match(bad.stdout, /^Usage: slirp4netns /);
  });
});
