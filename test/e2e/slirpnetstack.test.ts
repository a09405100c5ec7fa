/** slirpnetstack's life: start-up, exit statuses, signals, metrics, capture. Its traffic is in slirpnetstack-*.test.ts. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { asOwner, directory, GATEWAY4, HOST4, programPath } from '../support/namespaces.ts';
import { talkTcp } from '../support/net-actions.ts';
import { must, run, start } from '../support/processes.ts';
import {
  runSlirpnetstack,
  type SlirpnetstackGuest,
  slirpnetstackCommand,
  slirpnetstackGuest,
  startSlirpnetstack,
  startWith,
} from '../support/slirpnetstack.ts';
import { until, within } from '../support/wait.ts';

let guest: SlirpnetstackGuest;
before(async () => {
  guest = await slirpnetstackGuest();
});
after(() => guest?.end());

/** Options that every start here needs. */
const inGuest = (): string[] => ['-netns', guest.netns];

describe('a start that fails, once there is an interface', () => {
  const table: [string, string[], number, string][] = [
    [
      'an address that is not ours',
      ['-L', '192.0.2.77:18080'],
      247,
      '[!] Failed to listen on tcp://192.0.2.77:18080: listen tcp 192.0.2.77:18080: bind: cannot assign requested address',
    ],
    [
      'a UDP address that is not ours',
      ['-L', 'udp://[2001:db8:77::1]:18080'],
      247,
      '[!] Failed to listen on udp://2001:db8:77::1:18080: listen udp [2001:db8:77::1]:18080: bind: cannot assign requested address',
    ],
    [
      'a name to listen on',
      ['-L', 'tcp.echo.server@srv-1:80::80'],
      247,
      '[!] Failed to listen on tcp://tcp.echo.server@srv-1-failed: DNS lookup failed',
    ],
    [
      'a name to connect to',
      ['-L', '127.0.0.1:0:name.invalid:80'],
      247,
      '[!] Failed to listen on tcp://127.0.0.1:0: DNS lookup failed',
    ],
    [
      'a name on the guest side',
      ['-R=tcp://tcp.echo.server@srv-1:0::2222'],
      246,
      '[!] Failed to resolve bind address. dns lookup error of tcp addr: Failed to lookup SRV "tcp.echo.server" on "127.0.0.1:1"',
    ],
    [
      'a capture in no directory',
      ['-pcap', '/nope/a.pcap'],
      250,
      '[!] Failed to open PCAP file: open /nope/a.pcap: no such file or directory',
    ],
    [
      'a capture that cannot be written',
      ['-pcap', '/dev/full'],
      249,
      '[!]Failed to sniff linkEP: write /dev/full: no space left on device',
    ],
  ];
  for (const [name, args, code, line] of table) {
    test(name, async () => {
      const { status, stdout, stderr } = await runSlirpnetstack([...inGuest(), ...args]);
      assert.deepEqual(stderr.split('\n'), [
        `[.] Joininig netns ${guest.netns}`,
        '[.] Opening tun interface tun0',
        line,
        '',
      ]);
      assert.deepEqual([status, stdout], [code, '']);
    });
  }

  for (const protocol of ['tcp', 'udp']) {
    test(`the same ${protocol} port twice: the first is announced, the second fails`, async () => {
      const args = ['-L', `${protocol}://18181`, '-L', `${protocol}://18181`];
      const { status, stdout, stderr } = await runSlirpnetstack([...inGuest(), ...args]);
      assert.equal(stdout, `[+] local-fwd Local listen ${protocol}://127.0.0.1:18181\n`);
      assert.match(
        stderr,
        new RegExp(
          `\\n\\[!\\] Failed to listen on ${protocol}://127\\.0\\.0\\.1:18181: listen ${protocol} 127\\.0\\.0\\.1:18181: bind: address already in use\\n$`,
        ),
      );
      assert.equal(status, 247);
    });
  }

  test('an interface that is in use', async () => {
    await using _first = await startSlirpnetstack(guest);
    const { status, stderr } = await runSlirpnetstack(inGuest());
    assert.match(
      stderr,
      /\n\[!\] open\(tun0\) = device or resource busy\nFailed to open TUN\/TAP: device or resource busy\n$/,
    );
    assert.equal(status, 253);
  });

  test('a signal during the start does not hide why it fails', async () => {
    const program = start(slirpnetstackCommand(...inGuest(), '-pcap', '/nope/a.pcap'));
    await until(() => program.stderr.includes('Joininig'), 'the first line');
    program.child.kill('SIGTERM');
    program.child.kill('SIGINT');
    assert.equal((await program.end()).status, 250);
  });
});

describe('a start', () => {
  test('says in order what it does', async () => {
    const args = ['-L', '0:10.0.2.100:5000', '-R', '80:127.0.0.1:3000', '-L', 'udp://[::1]:0::5000'];
    await using program = await startSlirpnetstack(guest, ...args);
    const { pid } = program.running;
    assert.deepEqual(program.running.stderr.split('\n'), [
      `[.] Joininig netns ${guest.netns}`,
      '[.] Opening tun interface tun0',
      `[+] #${pid} Slirpnetstack started`,
      '',
    ]);
    // Local forwards come first, each kind in the order of the command line.
    const lines = program.running.stdout.split('\n');
    assert.match(lines[0] ?? '', /^\[\+\] local-fwd Local listen tcp:\/\/127\.0\.0\.1:[1-9]\d*$/);
    assert.match(lines[1] ?? '', /^\[\+\] local-fwd Local listen udp:\/\/\[::1\]:[1-9]\d*$/);
    assert.equal(lines[2], '[+] Accepting on remote side tcp://10.0.2.2:80');
  });

  test('tells its parent by SIGWINCH, after it has said so', async () => {
    // The parent is a shell of the same user, which may be signalled.
    const script = 'trap "echo winch >&2" WINCH; "$@" & wait; wait';
    const command = [programPath('slirpnetstack'), ...inGuest(), '-exit-with-parent'];
    const shell = start(asOwner('sh', '-c', script, 'sh', ...command));
    try {
      await until(() => shell.stderr.includes('winch'), 'SIGWINCH');
      assert.match(shell.stderr, /Slirpnetstack started\nwinch\n$/);
    } finally {
      await shell.stop();
    }
  });

  test('-quiet says nothing of forwards', async () => {
    await using program = await startSlirpnetstack(guest, '-quiet', '-L', '0::80', '-R', '80');
    assert.equal(program.running.stdout, '');
  });

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    test(`${signal} ends it with 0`, async () => {
      const program = await startSlirpnetstack(guest);
      const { status, stderr } = await program.running.stop(signal);
      assert.equal(status, 0);
      assert.match(stderr, new RegExp(`\\n\\[-\\] #${program.running.pid} Slirpnetstack closing\\n$`));
    });
  }

  test('SIGINT directly followed by SIGTERM ends with 0', async () => {
    for (let i = 0; i < 3; i++) {
      const program = await startSlirpnetstack(guest);
      program.running.child.kill('SIGINT');
      program.running.child.kill('SIGTERM');
      assert.equal((await program.running.end()).status, 0);
    }
  });

  test('a signal during the start ends it once it is up', async () => {
    const program = start(slirpnetstackCommand(...inGuest()));
    await until(() => program.stderr.includes('Joininig'), 'the first line');
    program.child.kill('SIGTERM');
    const { status, stderr } = await program.end();
    assert.equal(status, 0);
    assert.match(stderr, /Slirpnetstack started\n\[-\] #\d+ Slirpnetstack closing\n$/);
  });

  test('-exit-with-parent: it ends with its parent, and not otherwise', async () => {
    for (const [flags, ends] of [
      [['-exit-with-parent'], true],
      [[], false],
    ] as const) {
      const command = slirpnetstackCommand(...inGuest(), ...flags);
      const shell = start(['sh', '-c', '"$@" & echo $!; wait', 'sh', ...command]);
      const pid = Number(await shell.firstLine());
      try {
        await until(() => shell.stderr.includes('started'), 'the start');
        shell.child.kill('SIGKILL');
        await once(shell.child, 'exit');
        if (ends) await until(() => !existsSync(`/proc/${pid}`), 'the end');
        else assert.ok(existsSync(`/proc/${pid}`));
      } finally {
        if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
        await until(() => !existsSync(`/proc/${pid}`), 'the end');
      }
    }
  });

  test('a guest cannot fill our memory or stop us by way of a reader that does not read', async () => {
    // Nobody reads this pipe: standard output is full after 64 KiB.
    const program = start(slirpnetstackCommand(...inGuest(), '-enable-host'), {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    program.child.stdout?.pause();
    program.child.stdout?.removeAllListeners('data');
    program.child.stdout?.pause();
    await until(() => program.stderr.includes('started'), 'the start');
    const port = await guest.agent.call('serveTcp');
    for (let i = 0; i < 400; i++) await guest.agent.call('talkTcp', HOST4, 9, []);
    await guest.agent.call('stopServer', 'tcp', port);
    const { status } = await program.stop('SIGTERM');
    assert.equal(status, 0);
  });
});

/** Status and body of a GET. */
function get(options: {
  port?: number;
  socketPath?: string;
  path: string;
}): Promise<[number, string, string]> {
  return within(
    new Promise((resolve, reject) => {
      const asked = request({ host: '127.0.0.1', ...options }, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          body += part;
        });
        response.on('end', () => resolve([response.statusCode ?? 0, body, response.headers.location ?? '']));
      });
      asked.on('error', reject).end();
    }),
    options.path,
  );
}

describe('-m', () => {
  test('serves health, the index of profiles and counters, and says where', async () => {
    const program = await startSlirpnetstack(guest, '-m', 'tcp://127.0.0.1:0');
    const { pid } = program.running;
    const [first = '', second] = program.running.stderr.split('\n');
    assert.match(first, new RegExp(`^\\[ \\] #${pid} Running metrics on 127\\.0\\.0\\.1:[1-9]\\d*$`));
    assert.equal(second, `[.] Joininig netns ${guest.netns}`);
    const port = Number(first.slice(first.lastIndexOf(':') + 1));

    assert.deepEqual(await get({ port, path: '/health' }), [200, 'ok', '']);
    assert.deepEqual((await get({ port, path: '/debug/pprof' })).toSpliced(1, 1), [301, '/debug/pprof/']);
    const [status, index] = await get({ port, path: '/debug/pprof/' });
    assert.equal(status, 200);
    assert.ok(index.slice(0, 300).includes('Types of profiles available:'));
    for (const path of ['/', '/nope', '/healthy']) {
      const [code, body] = await get({ port, path });
      assert.deepEqual([code, body.trimEnd()], [404, '404 page not found']);
    }
    await guest.namespace.must(['ping', '-c1', '-W2', GATEWAY4]);
    const [, metrics] = await get({ port, path: '/metrics' });
    const [, packets = '0'] = /^tslirp_rx_packets_total (\d+)$/m.exec(metrics) ?? [];
    assert.ok(Number(packets) > 0, metrics.slice(0, 300));
    assert.match(metrics, /^tslirp_tcp_flows 0$/m);

    const { status: end, stderr } = await program.running.stop('SIGINT');
    assert.equal(end, 0);
    assert.match(stderr, new RegExp(`closing\\n\\[ \\] #${pid} Stopping metrics\\n$`));
  });

  test('on a unix socket, whose file goes with it', async () => {
    const path = join(directory, 'metrics.sock');
    const program = await startSlirpnetstack(guest, '-m', `unix://${path}`);
    assert.match(program.running.stderr, new RegExp(`^\\[ \\] #\\d+ Running metrics on ${path}\\n`));
    await must(['curl', '-sS', '--unix-socket', path, 'http://x/health']);
    assert.equal((await program.running.stop('SIGTERM')).status, 0);
    assert.equal(existsSync(path), false);
  });

  test('an address in use', async () => {
    const taken = createServer();
    taken.listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as { port: number };
    try {
      const { status, stderr } = await runSlirpnetstack(['-m', `tcp://127.0.0.1:${port}`]);
      assert.equal(
        stderr,
        `[!] Failed to start metrics: listen tcp 127.0.0.1:${port}: bind: address already in use\n`,
      );
      assert.equal(status, 254);
    } finally {
      taken.close();
    }
  });
});

interface Record {
  header: { timestampSeconds: number; capturedLength: number; originalLength: number };
  data: Buffer;
}

/** As pcap-parser, which is not ours, reads it. */
async function readCapture(path: string): Promise<{ link: number; snapshot: number; records: Record[] }> {
  const pcapParser = createRequire(import.meta.url)('pcap-parser') as {
    parse(path: string): { on(event: string, listener: (value: never) => void): void };
  };
  const result = { link: 0, snapshot: 0, records: [] as Record[] };
  const parser = pcapParser.parse(path);
  parser.on('globalHeader', (header: { linkLayerType: number; snapshotLength: number }) => {
    result.link = header.linkLayerType;
    result.snapshot = header.snapshotLength;
  });
  parser.on('packet', (packet: Record) => result.records.push(packet));
  await once(parser as unknown as NodeJS.EventEmitter, 'end');
  return result;
}

describe('-pcap', () => {
  test('has both directions as raw IP, the start-up ARP request first, and is on disk as it happens', async () => {
    const path = join(directory, 'guest.pcap');
    writeFileSync(path, Buffer.alloc(100_000));
    chmodSync(path, 0o666);
    await using program = await startSlirpnetstack(guest, '-enable-host', '-pcap', path);
    const file = readFileSync(path);
    assert.equal(file.subarray(0, 8).toString('hex'), 'a1b2c3d400020004');
    // The first record: big-endian lengths of 28, an ARP request for the guest, who answers.
    assert.deepEqual([file.readUInt32BE(32), file.readUInt32BE(36)], [28, 28]);
    assert.equal(
      file.subarray(40, 68).toString('hex'),
      `000108000604000170 71aa4b29aa 0a000202 000000000000 0a000264`.replaceAll(' ', ''),
    );
    await guest.namespace.must(['ping', '-c2', '-i0.2', '-W2', GATEWAY4]);
    const talked = await guest.agent.call('talkTcp', HOST4, 9, []);
    assert.equal(talked.error, 'ECONNREFUSED');
    await until(async () => (await readCapture(path)).records.length >= 8, 'the records, while it runs');
    assert.ok(program.running.running);
    const { link, snapshot, records } = await readCapture(path);
    assert.deepEqual([link, snapshot], [101, 1500]);
    const text = await must([
      'tshark',
      '-r',
      path,
      '-T',
      'fields',
      '-e',
      'icmp.type',
      '-e',
      'tcp.flags.reset',
    ]);
    assert.equal(text.match(/^8\t/gm)?.length, 2);
    assert.equal(text.match(/^0\t/gm)?.length, 2);
    assert.match(text, /^\t(1|True)$/m);
    for (const { header, data } of records) {
      assert.equal(header.capturedLength, data.length);
      assert.ok(data.length === 28 || data[0]! >> 4 === 4 || data[0]! >> 4 === 6, data.toString('hex'));
    }
  });

  test('holds packets no longer than the MTU, whatever the kernel would hand over', async () => {
    const path = join(directory, 'bulk.pcap');
    const port = await guest.agent.call('serveTcp');
    await using program = await startSlirpnetstack(guest, '-pcap', path, '-L', `0::${port}`);
    assert.equal(statSync(path).mode & 0o777, 0o644 & ~process.umask());
    const { text } = await talkTcp('127.0.0.1', program.port(), [500_000]);
    assert.equal(text.length, 500_000);
    await guest.agent.call('stopServer', 'tcp', port);
    await program.running.stop('SIGTERM');
    const { records } = await readCapture(path);
    const bytes = records.reduce((sum, { data }) => sum + data.length, 0);
    assert.ok(bytes > 1_000_000, `${bytes} bytes`);
    assert.ok(records.every(({ data }) => data.length <= 1500));
  });
});

describe('-interface', () => {
  test('a TUN device carries bare packets', async () => {
    const tun = await slirpnetstackGuest({ medium: 'tun' });
    try {
      await using _program = await startWith(slirpnetstackCommand('-netns', tun.netns));
      for (const address of ['1.1.1.1', '2001:2::2']) {
        await tun.namespace.must(['ping', '-c1', '-W2', address]);
      }
    } finally {
      await tun.end();
    }
  });
});

describe('-fd', () => {
  /**
   * The peer of a unix datagram socket, as a program: starts the rest of its command line with FD as the other end, prints
   * the frames it gets in hexadecimal, and sends those that it is given in hexadecimal; "close" closes its end.
   */
  const PEER = `
    $^F = 255; $| = 1;
    socketpair(OURS, THEIRS, 1, 2, 0) or die "socketpair: $!";
    my $pid = fork;
    if ($pid == 0) { close OURS; open STDOUT, ">/dev/null"; exec map { $_ eq "FD" ? fileno THEIRS : $_ } @ARGV or die }
    close THEIRS;
    my ($frame, $open) = ("", 1);
    while (1) {
      my $in = ""; vec($in, 0, 1) = 1; vec($in, fileno(OURS), 1) = 1 if $open;
      select($in, undef, undef, undef);
      if ($open && vec($in, fileno(OURS), 1)) { recv(OURS, $frame, 70000, 0); print unpack("H*", $frame), "\\n" }
      next unless vec($in, 0, 1);
      last unless sysread(STDIN, my $line, 4096);
      if ($line eq "close\\n") { close OURS; $open = 0; print "closed\\n" } else { send(OURS, pack("H*", $line =~ s/\\s//gr), 0) }
    }
    kill 15, $pid; waitpid $pid, 0; exit $? >> 8;
  `;

  test('carries one frame per datagram: our ARP request first, answers to the peer, whatever MAC addresses it uses', async () => {
    const command = [programPath('slirpnetstack'), '-fd', 'FD', '-mtu', '1400'];
    const peer = start(asOwner('perl', '-e', PEER, '--', ...command));
    try {
      const arp = await peer.firstLine();
      assert.equal(
        arp,
        'ffffffffffff7071aa4b29aa0806' + '0001080006040001' + '7071aa4b29aa0a000202' + '0000000000000a000264',
      );
      // Who has 10.0.2.10? Asked with the MAC address that we have ourselves.
      const asker = '7071aa4b29aa0a000264';
      peer.child.stdin?.write(
        `ffffffffffff7071aa4b29aa0806${'0001080006040001'}${asker}0000000000000a00020a\n`,
      );
      await until(() => peer.stdout.split('\n').length > 2, 'the ARP reply');
      assert.equal(
        peer.stdout.split('\n')[1],
        `7071aa4b29aa7071aa4b29aa0806${'0001080006040002'}7071aa4b29aa0a00020a${asker}`,
      );
      // An echo request to a router with the MAC address that libslirp has, from an address that never asked for anything.
      peer.child.stdin?.write(
        '52550a0002027071aa4b29aa0800' + '4500001c00004000400122d10a00020f0a000202' + '0800f7fe00000001\n',
      );
      await until(() => peer.stdout.split('\n').length > 3, 'the echo reply');
      const reply = peer.stdout.split('\n')[2] ?? '';
      assert.match(reply, /^7071aa4b29aa7071aa4b29aa0800.{24}0a0002020a00020f0000fffe00000001/);
      await until(() => peer.stderr.includes('started'), 'the start');
      assert.match(peer.stderr, /^\[\+\] #\d+ Slirpnetstack started\n$/);
      // The peer going away ends nothing.
      peer.child.stdin?.write('close\n');
      await until(() => peer.stdout.includes('closed'), 'the close');
      peer.child.stdin?.end();
      const { status, stderr } = await peer.end();
      assert.match(stderr, /closing\n$/);
      assert.equal(status, 0);
    } finally {
      await peer.stop();
    }
  });

  test('a descriptor that is not open, or no link', async () => {
    const { status, stderr } = await runSlirpnetstack(['-fd', '77']);
    assert.equal(
      stderr,
      '[!] Failed to create linkEP: syscall.SetNonblock(77) failed: bad file descriptor\n',
    );
    assert.equal(status, 251);
    // The pipes that Node makes are sockets, which are links.
    const withNull = ['sh', '-c', 'exec "$0" "$@" </dev/null'];
    const file = await run([...withNull, ...slirpnetstackCommand('-fd', '0')]);
    assert.match(file.stderr, /^\[!\] Failed to create linkEP: [^\n]+\n$/);
    assert.equal(file.status, 251);
  });
});
