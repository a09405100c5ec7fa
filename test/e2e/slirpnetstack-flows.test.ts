/** What passes through slirpnetstack, and what it says of it: firewall, remote and local forwards, names, the link. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { address as record, srv, startNameServer, tableReply } from '../control/names/support/name-server.ts';
import { GATEWAY4, GATEWAY6, HOST4, HOST4_OTHER, HOST6 } from '../support/namespaces.ts';
import * as host from '../support/net-actions.ts';
import { must } from '../support/processes.ts';
import { type SlirpnetstackGuest, slirpnetstackGuest, startSlirpnetstack } from '../support/slirpnetstack.ts';
import { until } from '../support/wait.ts';

const GUEST4 = '10.0.2.100';
const GUEST6 = 'fd00::100';

let guest: SlirpnetstackGuest;
/** Echo servers of the host, on all addresses, and of the guest. */
let tcp: number;
let udp: number;
let guestTcp: number;
let guestUdp: number;
before(async () => {
  guest = await slirpnetstackGuest();
  [tcp, udp, guestTcp, guestUdp] = await Promise.all([
    host.serveTcp(),
    host.serveUdp(),
    guest.agent.call('serveTcp'),
    guest.agent.call('serveUdp'),
  ]);
});
after(async () => {
  await host.stopServer('tcp', tcp);
  await host.stopServer('udp', udp);
  await guest?.end();
});

/** What the guest gets of a TCP server that echoes: the text, or an error. */
async function guestTcpTo(address: string, port: number, text = 'hello'): Promise<string> {
  const reply = await guest.agent.call('talkTcp', address, port, [text]);
  return reply.error === '' ? reply.text : reply.error;
}

async function guestUdpTo(
  address: string,
  port: number,
  payloads: host.Payload[] = ['hello'],
  waitMs = 20_000,
): Promise<host.UdpReply[]> {
  return guest.agent.call('talkUdp', address, port, payloads, { waitMs });
}

/** How many answers to one datagram the guest gets; nothing is waited for that is not there. */
async function guestUdpAnswers(address: string, port: number, waitMs: number): Promise<number> {
  return (await guestUdpTo(address, port, ['hello'], waitMs)).length;
}

async function lastPeer(protocol: 'tcp' | 'udp', port: number): Promise<string | undefined> {
  return (await host.peersOf(protocol, port)).at(-1)?.address;
}

async function lastGuestPeer(protocol: 'tcp' | 'udp', port: number): Promise<host.Peer | undefined> {
  return (await guest.agent.call('peersOf', protocol, port)).at(-1);
}

/** Time for a datagram that is not to come. */
const SILENCE_MS = 300;

describe('the firewall', () => {
  // Options; TCP to the echo server at HOST4 and HOST6; UDP answered at both. "%" is the TCP port, "$" the UDP port.
  const table: [string, string[], [string, string], boolean][] = [
    ['nothing is open by default', [], ['ECONNREFUSED', 'ECONNREFUSED'], false],
    ['-enable-host opens the host', ['-enable-host'], ['hello', 'hello'], true],
    ['-enable-routing does not', ['-enable-routing'], ['ECONNREFUSED', 'ECONNREFUSED'], false],
    ['-allow by port', [`--allow=${HOST4}:%`], ['hello', 'ECONNREFUSED'], false],
    [
      '-deny is stronger than -allow',
      [
        `--allow=tcp://${HOST4},udp://${HOST4},tcp://[${HOST6}],udp://[${HOST6}]`,
        `--deny=tcp://${HOST4},tcp://[${HOST6}]`,
      ],
      ['ECONNREFUSED', 'ECONNREFUSED'],
      true,
    ],
    [
      '-deny by port is stronger than -enable-host',
      ['--enable-host', `--allow=udp://${HOST4}:100-200`, `--deny=tcp://${HOST4}:%,tcp://[${HOST6}]:%-%`],
      ['ECONNREFUSED', 'ECONNREFUSED'],
      true,
    ],
    [
      'an unknown protocol never matches',
      [`--deny=sctp://${HOST4}`, '-enable-host'],
      ['hello', 'hello'],
      true,
    ],
    ['a prefix', ['-allow=198.51.100.77/24,[2001:db8:1::77/64]'], ['hello', 'hello'], false],
    ['a prefix behind brackets', ['-allow=[2001:db8:1::]/64:0-0'], ['ECONNREFUSED', 'hello'], false],
  ];
  for (const [name, options, [tcp4, tcp6], udpPasses] of table) {
    test(name, async () => {
      const args = options.map((option) => option.replaceAll('%', String(tcp)).replaceAll('$', String(udp)));
      await using program = await startSlirpnetstack(guest, ...args);
      assert.deepEqual([await guestTcpTo(HOST4, tcp), await guestTcpTo(HOST6, tcp)], [tcp4, tcp6]);
      const wait = udpPasses ? 5000 : SILENCE_MS;
      const answers = [await guestUdpAnswers(HOST4, udp, wait), await guestUdpAnswers(HOST6, udp, wait)];
      assert.deepEqual(answers, udpPasses ? [1, 1] : [0, 0]);
      // Blocked flows print nothing.
      const flows = Number(tcp4 === 'hello') + Number(tcp6 === 'hello') + (udpPasses ? 2 : 0);
      await until(() => program.lines(/Routing conn new/).length === flows, 'lines of flows');
      assert.equal(program.lines(/error/).length, 0);
    });
  }

  test('our own addresses are refused without a word', async () => {
    await using program = await startSlirpnetstack(guest, '-enable-host', '-enable-routing');
    for (const address of [GATEWAY4, GATEWAY6, '10.0.2.3', '10.0.2.77']) {
      assert.equal(await guestTcpTo(address, tcp), 'ECONNREFUSED', address);
      assert.equal(await guestUdpAnswers(address, udp, SILENCE_MS), 0, address);
    }
    assert.equal(program.running.stdout, '');
  });

  test('a broad -allow opens no reserved range (the one deliberate difference), an exact one does', async () => {
    await must(['ip', 'address', 'replace', '169.254.7.7/32', 'dev', 'lo']);
    for (const [rule, inside] of [
      ['-allow=0.0.0.0/0', 'ECONNREFUSED'],
      [`-allow=169.254.7.7:${tcp}`, 'hello'],
    ] as const) {
      await using _program = await startSlirpnetstack(guest, rule);
      assert.equal(await guestTcpTo(HOST4, tcp), rule.includes('0.0.0.0') ? 'hello' : 'ECONNREFUSED');
      assert.equal(await guestTcpTo('169.254.7.7', tcp), inside, rule);
    }
  });

  test('echo requests are answered by the stack, whatever the firewall says', async () => {
    await using _program = await startSlirpnetstack(guest);
    for (const address of ['10.0.2.11', '1.1.1.1', '2001:2::2', GATEWAY4, GATEWAY6]) {
      const text = await guest.namespace.must(['ping', '-c1', '-W2', address]);
      assert.match(text, /ttl=64 /, address);
    }
  });
});

describe('routed flows', () => {
  test('lines of TCP: opened, closed, refused; who closed first', async () => {
    await using program = await startSlirpnetstack(guest, '-enable-host');
    const { port, text } = await guest.agent.call('talkTcp', HOST4, tcp, ['hello']);
    assert.equal(text, 'hello');
    const opened = await program.line(/conn new/);
    const ends = `tcp://${GUEST4}:${port}/${HOST4}:(\\d+)-${HOST4}:${tcp}`;
    assert.match(opened, new RegExp(`^\\[\\+\\] ${ends} Routing conn new$`));
    const closed = await program.line(/done/);
    assert.equal(closed.slice(4), opened.slice(4).replace('new', 'done: l=[EOF]/0 r=EOF/0'));

    assert.equal(await guestTcpTo(HOST6, 9), 'ECONNREFUSED');
    assert.match(
      await program.line(/error/),
      new RegExp(
        `^\\[!\\] tcp://\\[${GUEST6}\\]:\\d+/\\[${HOST6}\\]:9 Routing conn error: l=0/0 r=\\[dial tcp \\[${HOST6}\\]:9: connect: connection refused\\]/0$`,
      ),
    );
  });

  test('reset by the guest', async () => {
    await using program = await startSlirpnetstack(guest, '-enable-host');
    await guest.agent.call('talkTcp', HOST4, tcp, ['x'], { reset: true });
    assert.match(
      await program.line(/done/),
      new RegExp(`done: l=\\[read tcp ${HOST4}:${tcp}: connection reset by peer\\]/0 r=(EOF|0)/0$`),
    );
  });

  test('many in a row: one line each when opened and closed', async () => {
    await using program = await startSlirpnetstack(guest, '-enable-host');
    for (let i = 0; i < 200; i++) assert.equal(await guestTcpTo(HOST4, tcp), 'hello');
    await until(() => program.lines(/done/).length === 200, 'the closing lines');
    assert.equal(program.lines(/conn new/).length, 200);
  });

  test('UDP: sizes up to 65507, order, boundaries; refused on the host', async () => {
    await using program = await startSlirpnetstack(guest, '-enable-host');
    const sizes = [0, 1, 1472, 1473, 9000, 65507];
    for (const address of [HOST4, HOST6]) {
      const replies = await guestUdpTo(address, udp, sizes);
      assert.deepEqual(
        replies.map(({ payload }) => payload),
        [0, 1, 2, 3, 4, 5],
      );
      for (const reply of replies) assert.deepEqual([reply.address, reply.port], [address, udp]);
    }
    await until(() => program.lines(/^\[\+\] udp.*Routing conn new$/).length === 2, 'lines of two flows');
    assert.equal(await guestUdpAnswers(HOST4, 9, SILENCE_MS), 0);
    assert.match(
      await program.line(/done/),
      new RegExp(`r=\\[read udp ${HOST4}:\\d+->${HOST4}:9: read: connection refused\\]/0$`),
    );
  });

  test('-source-ipv4 and -source-ipv6, for TCP and UDP, routed and forwarded', async () => {
    const options = [
      '--enable-host',
      '--source-ipv4=127.4.3.2',
      '-source-ipv6=::1',
      '-R',
      `80:127.0.0.1:${tcp}`,
    ];
    await using _program = await startSlirpnetstack(guest, ...options);
    assert.equal(await guestTcpTo(HOST4, tcp), 'hello');
    assert.equal(await lastPeer('tcp', tcp), '127.4.3.2');
    assert.equal(await guestTcpTo(HOST6, tcp), 'hello');
    assert.equal(await lastPeer('tcp', tcp), '::1');
    // Bound to one address, so that the answer comes from where the question went.
    for (const [address, source] of [
      [HOST4, '127.4.3.2'],
      [HOST6, '::1'],
    ] as const) {
      const port = await host.serveUdp({ host: address });
      assert.equal(await guestUdpAnswers(address, port, 5000), 1);
      assert.equal(await lastPeer('udp', port), source);
      await host.stopServer('udp', port);
    }
    assert.equal(await guestTcpTo(GATEWAY4, 80), 'hello');
    assert.equal(await lastPeer('tcp', tcp), '127.4.3.2');
  });
});

describe('remote forwards', () => {
  test('TCP at the gateway, at any address, over IPv6; no firewall', async () => {
    const rules = [`80:127.0.0.1:${tcp}`, `192.0.2.5:81:127.0.0.1:${tcp}`, `[fd00::2]:82::${tcp}`];
    await using program = await startSlirpnetstack(
      guest,
      '-deny=0.0.0.0/0',
      ...rules.flatMap((rule) => ['-R', rule]),
    );
    for (const [address, port] of [
      [GATEWAY4, 80],
      ['192.0.2.5', 81],
      [GATEWAY6, 82],
    ] as const) {
      assert.equal(await guestTcpTo(address, port), 'hello', address);
    }
    await until(() => program.lines(/done/).length === 3, 'the closing lines');
    assert.match(
      program.lines(/new/)[1] ?? '',
      new RegExp(
        `^\\[\\+\\] tcp://${GUEST4}:\\d+-192\\.0\\.2\\.5:81/127\\.0\\.0\\.1:\\d+-127\\.0\\.0\\.1:${tcp} remote-fwd conn new$`,
      ),
    );
    assert.match(
      program.lines(/new/)[2] ?? '',
      /^\[\+\] tcp:\/\/\[fd00::100\]:\d+-\[fd00::2\]:82\/\[::1\]:\d+-\[::1\]:/,
    );
    assert.match(program.lines(/done/)[0] ?? '', /remote-fwd conn done: l=\[EOF\]\/0 r=EOF\/0$/);
    // Only this port, only this protocol.
    assert.equal(await guestTcpTo(GATEWAY4, 81), 'ECONNREFUSED');
    assert.equal(await guestUdpAnswers(GATEWAY4, 80, SILENCE_MS), 0);
  });

  test('a target that refuses', async () => {
    await using program = await startSlirpnetstack(guest, '-R', '80:127.0.0.1:9');
    assert.match(await guestTcpTo(GATEWAY4, 80), /^(ECONNREFUSED|ECONNRESET|)$/);
    assert.match(
      await program.line(/error/),
      /-10\.0\.2\.2:80\/127\.0\.0\.1:9 remote-fwd conn error: l=0\/0 r=\[dial tcp 127\.0\.0\.1:9: connect: connection refused\]\/0$/,
    );
  });

  test('UDP: three in a row keep order and size; port 0; one answer for udprpc', async () => {
    const rules = [
      `udp://192.0.2.5:80:127.0.0.1:${udp}`,
      `udprpc://:81::${udp}`,
      `udp://[fd00::2]:83::${udp}`,
    ];
    await using program = await startSlirpnetstack(guest, ...rules.map((rule) => `-R=${rule}`));
    const replies = await guestUdpTo('192.0.2.5', 80, ['a', 'bb', 'ccc']);
    assert.deepEqual(
      replies.map(({ text }) => text),
      ['a', 'bb', 'ccc'],
    );
    assert.match(
      await program.line(/remote-fwd conn new/),
      new RegExp(
        `^\\[\\+\\] udp://${GUEST4}:\\d+-192\\.0\\.2\\.5:80/127\\.0\\.0\\.1:\\d+-127\\.0\\.0\\.1:${udp} `,
      ),
    );
    assert.equal(await guestUdpAnswers(GATEWAY6, 83, 5000), 1);
    for (let i = 1; i <= 2; i++) {
      assert.equal(await guestUdpAnswers(GATEWAY4, 81, 5000), 1);
      await until(() => program.lines(/:81\/.* remote-fwd conn done/).length === i, 'the end of an exchange');
    }
    assert.equal(program.lines(/:81\/.* remote-fwd conn new/).length, 2);
  });
});

describe('names', () => {
  test('an SRV target is found for every flow with -dns-ttl=0, and an error when the server is gone', async () => {
    const server = await startNameServer(
      tableReply({
        'SRV tcp.echo.server': [srv('tcp.echo.server', 'host.echo.server', tcp)],
        'A host.echo.server': [record('host.echo.server', '127.0.0.1')],
      }),
    );
    const label = `tcp.echo.server@srv-${server.port}`;
    await using program = await startSlirpnetstack(guest, '-dns-ttl=0', `-R=tcp://:2222:${label}:0`);
    for (let i = 0; i < 2; i++) assert.equal(await guestTcpTo(GATEWAY4, 2222), 'hello');
    assert.equal(server.asked.filter(({ type }) => type === 'SRV').length, 2);
    assert.match(await program.line(/new/), new RegExp(`-127\\.0\\.0\\.1:${tcp} remote-fwd conn new$`));
    await server[Symbol.asyncDispose]();
    // As with the original, the guest has its connection by then; nothing comes through it, and it ends.
    assert.equal(await guest.namespace.must(['socat', '-u', `TCP4:${GATEWAY4}:2222`, '-']), '');
    assert.match(
      await program.line(/lookup/),
      new RegExp(
        `^\\[!\\] tcp://${GUEST4}:\\d+-10\\.0\\.2\\.2:2222/${label}-failed remote-fwd dns lookup error of tcp addr: Failed to lookup SRV "tcp\\.echo\\.server" on "127\\.0\\.0\\.1:${server.port}"$`,
      ),
    );
    const sent = await guest.agent.call('talkTcp', GATEWAY4, 2222, ['hello']);
    assert.equal(sent.text, '');
    // Each failure is one line, and none is of a flow that opened.
    await until(() => program.lines(/lookup/).length === 2, 'the second failure');
    assert.equal(program.lines(/remote-fwd conn/).length, 4);
  });

  test('with a time to live the last good answer outlives the server; a quiet program still tells of failures', async () => {
    const server = await startNameServer(
      tableReply({ 'SRV a.example': [srv('a.example', '127.0.0.1', tcp)] }),
    );
    const rules = [`-R=:1:a.example@srv-${server.port}:0`, '-R=udp://:2:name.invalid:53'];
    await using program = await startSlirpnetstack(guest, '-quiet', '-dns-ttl', '10ms', ...rules);
    assert.equal(await guestTcpTo(GATEWAY4, 1), 'hello');
    await server[Symbol.asyncDispose]();
    assert.equal(await guestTcpTo(GATEWAY4, 1), 'hello');
    assert.equal(await guestUdpAnswers(GATEWAY4, 2, SILENCE_MS), 0);
    assert.match(
      await program.line(/lookup/),
      /\/name\.invalid-failed remote-fwd dns lookup error of udp addr: lookup name\.invalid: no such host$/,
    );
    assert.equal(program.running.stdout.trim().split('\n').length, 1);
  });

  test('names to listen on and to connect to', async () => {
    await using program = await startSlirpnetstack(
      guest,
      '-L',
      `localhost:0::${guestTcp}`,
      '-R',
      `80:localhost:${tcp}`,
    );
    assert.match(program.lines(/listen/)[0] ?? '', /tcp:\/\/127\.0\.0\.1:\d+$/);
    assert.equal((await host.talkTcp('127.0.0.1', program.port(), ['hi'])).text, 'hi');
    assert.equal(await guestTcpTo(GATEWAY4, 80), 'hello');
  });
});

describe('local forwards', () => {
  // Rule; where the host's client connects; what is announced; what the guest sees as source.
  const table: [rule: string, client: string, announced: string, source: string][] = [
    ['0:10.0.2.100:%', '127.0.0.1', '127.0.0.1', GATEWAY4],
    ['127.1.2.3:0::%', '127.1.2.3', '127.1.2.3', GATEWAY4],
    ['[::1]:0::%', '::1', '[::1]', GATEWAY6],
    [':0:[fd00::100]:%', '::1', '[::1]', GATEWAY6],
    ['0.0.0.0:0::%', HOST4, '[::]', HOST4],
    ['0.0.0.0:0::%', HOST6, '[::]', GATEWAY4],
    ['[::]:::%', HOST6, '[::]', HOST6],
    ['[::]:::%', HOST4, '[::]', GATEWAY6],
    ['0.0.0.0:0:[fd00::100]:%', HOST4, '[::]', GATEWAY6],
    [`${HOST4_OTHER}:0:10.0.2.100:%`, HOST4_OTHER, HOST4_OTHER, HOST4_OTHER],
  ];
  for (const protocol of ['tcp', 'udp'] as const) {
    test(`${protocol}: every address form, and the source that the guest sees`, async () => {
      const target = String(protocol === 'tcp' ? guestTcp : guestUdp);
      const rules = table.map(([rule]) => `-L=${protocol}://${rule.replace('%', target)}`);
      await using program = await startSlirpnetstack(guest, ...rules);
      for (const [index, [rule, client, announced, source]] of table.entries()) {
        const line = program.lines(/listen/)[index] ?? '';
        const port = program.port(index);
        assert.equal(line, `[+] local-fwd Local listen ${protocol}://${announced}:${port}`, rule);
        assert.notEqual(port, 0);
        let own: host.Peer;
        if (protocol === 'tcp') {
          const reply = await host.talkTcp(client, port, ['hi'], { localAddress: client });
          assert.deepEqual([reply.text, reply.error], ['hi', ''], rule);
          own = reply;
        } else {
          const [reply] = await host.talkUdp(client, port, ['hi'], { localAddress: client });
          assert.deepEqual([reply?.text, reply?.address, reply?.port], ['hi', client, port], rule);
          own = { address: client, port: 0 };
        }
        const seen = await lastGuestPeer(protocol, Number(target));
        assert.equal(seen?.address, source, rule);
        assert.notEqual(seen?.port, own.port, 'a fresh port');
      }
      const first = await program.line(/local-fwd conn/);
      assert.match(
        first,
        new RegExp(
          `^\\[\\+\\] ${protocol}://127\\.0\\.0\\.1:\\d+-127\\.0\\.0\\.1:\\d+/10\\.0\\.2\\.2:\\d+-10\\.0\\.2\\.100:${target} local-fwd conn$`,
        ),
      );
      if (protocol === 'tcp') {
        await until(() => program.lines(/local-fwd done/).length === table.length, 'the closing lines');
        assert.match(program.lines(/done/)[0] ?? '', /local-fwd done: l=\[EOF\]\/0 r=EOF\/0$/);
      }
    });
  }

  test('a guest that refuses resets the client; the next attempt works once it listens', async () => {
    const port = await guest.agent.call('serveTcp');
    await guest.agent.call('stopServer', 'tcp', port);
    await using program = await startSlirpnetstack(guest, '-L', `0::${port}`);
    assert.equal((await host.talkTcp('127.0.0.1', program.port(), ['x'])).error, 'ECONNRESET');
    assert.match(
      await program.line(/error/),
      new RegExp(`/10\\.0\\.2\\.100:${port} local-fwd error: l=0/0 r=\\[connection was refused\\]/0$`),
    );
    await guest.agent.call('serveTcp', { port });
    assert.equal((await host.talkTcp('127.0.0.1', program.port(), ['x'])).text, 'x');
    await guest.agent.call('stopServer', 'tcp', port);
  });

  test('target port 0 is the port that the client contacted', async () => {
    await using program = await startSlirpnetstack(guest, '-L', `127.0.0.1:${guestTcp}:10.0.2.100:0`);
    assert.equal((await host.talkTcp('127.0.0.1', program.port(), ['x'])).text, 'x');
  });

  test('UDP: sizes, order; udprpc ends with the first answer', async () => {
    await using program = await startSlirpnetstack(
      guest,
      ...['-L', `udp://0::${guestUdp}`, '-L', `udprpc://0::${guestUdp}`],
    );
    const sizes = [0, 1, 1472, 1473, 9000, 65507];
    const replies = await host.talkUdp('127.0.0.1', program.port(0), sizes);
    assert.deepEqual(
      replies.map(({ payload }) => payload),
      [0, 1, 2, 3, 4, 5],
    );
    for (let i = 1; i <= 2; i++) {
      assert.equal((await host.talkUdp('127.0.0.1', program.port(1), ['q'])).length, 1);
      await until(() => program.lines(/local-fwd done/).length === i, 'the end of an exchange');
    }
  });

  test('a unix socket on the host, which the original does not have', async () => {
    const { directory } = await import('../support/namespaces.ts');
    const path = `${directory}/forward.sock`;
    await using program = await startSlirpnetstack(guest, '-L', `unix:${path}:${guestTcp}`);
    assert.equal(program.lines(/listen/)[0], `[+] local-fwd Local listen tcp://unix:${path}`);
    const { connect } = await import('node:net');
    const socket = connect(path);
    socket.end('through a file');
    const text = await new Promise<string>((resolve, reject) => {
      let all = '';
      socket.setEncoding('latin1').on('data', (part) => {
        all += part;
      });
      socket.on('end', () => resolve(all)).on('error', reject);
    });
    assert.equal(text, 'through a file');
  });
});

describe('proxy headers', () => {
  // Rule; header; source that the guest sees; null = refused.
  const table: [rule: string, header: string, source: string | null][] = [
    ['tcppp://0:10.0.2.100:0', 'PROXY TCP4 1.2.3.4 4.3.2.1 1 %\r\n', '1.2.3.4'],
    ['tcppp://0:10.0.2.100:%', 'PROXY TCP4 1.2.3.4 4.3.2.1 1 9\r\n', '1.2.3.4'],
    ['tcppp://0:[fd00::100]:%', 'PROXY TCP6 2001:db8::7 2001:db8::8 1 2\r\n', '2001:db8::7'],
    ['tcppp://0:10.0.2.100:%', 'PROXY TCP6 2001:db8::7 2001:db8::8 1 2\r\n', GATEWAY4],
    ['tcppp://0.0.0.0:0:[fd00::100]:%', 'PROXY TCP4 1.2.3.4 4.3.2.1 1 2\r\n', GATEWAY6],
    ['tcppp://0:10.0.2.100:%', 'PROXY TCP4 127.0.0.9 4.3.2.1 1 2\r\n', GATEWAY4],
    ['tcppp://0:10.0.2.100:%', 'NONSENSE 1.2.3.4\r\n', null],
  ];
  test('tcppp', async () => {
    const target = String(guestTcp);
    const rules = table.map(([rule]) => `-L=${rule.replace('%', target)}`);
    await using program = await startSlirpnetstack(guest, ...rules);
    for (const [index, [rule, header, source]] of table.entries()) {
      const line = program.lines(/listen/)[index] ?? '';
      assert.match(line, /^\[\+\] local-fwd Local PP listen tcp:\/\//);
      const port = program.port(index);
      const client = line.includes('[::1]') ? '::1' : '127.0.0.1';
      const reply = await host.talkTcp(client, port, [`${header.replace('%', target)}body`]);
      if (source === null) {
        assert.match(
          await program.line(/error/),
          /\/10\.0\.2\.100:\d+ local-fwd PP error: spp: bad magic number$/,
        );
        continue;
      }
      assert.deepEqual([reply.text, reply.error], ['body', ''], rule);
      assert.equal((await lastGuestPeer('tcp', guestTcp))?.address, source, rule);
    }
    await until(
      () => program.lines(/local-fwd PP done: l=/).length === table.length - 1,
      'the closing lines',
    );
    assert.equal(program.lines(/local-fwd PP conn$/).length, table.length - 1);
  });

  test('udpspp: the header names the client, and comes back before each answer', async () => {
    await using program = await startSlirpnetstack(guest, '-L', `udpspp://0:10.0.2.100:0`);
    assert.match(program.lines(/listen/)[0] ?? '', /^\[\+\] local-fwd Local PP listen udp:\/\/127\.0\.0\.1:/);
    const header = Buffer.alloc(38);
    header.writeUInt16BE(0x56ec, 0);
    header.set([0xff, 0xff, 1, 2, 3, 4], 12);
    header.set([0xff, 0xff, 4, 3, 2, 1], 28);
    header.writeUInt16BE(999, 34);
    header.writeUInt16BE(guestUdp, 36);
    const first = header.toString('latin1');
    const replies = await host.talkUdp('127.0.0.1', program.port(), [`${first}one`, `${'x'.repeat(38)}two`], {
      expect: 2,
    });
    assert.deepEqual(
      replies.map(({ text }) => text),
      [`${first}one`, `${first}two`],
    );
    assert.equal((await lastGuestPeer('udp', guestUdp))?.address, '1.2.3.4');
    await program.line(/local-fwd PP conn$/);
    for (const [datagram, reason] of [
      ['short', 'unexpected EOF'],
      ['y'.repeat(40), 'spp: bad magic number'],
    ] as const) {
      await host.talkUdp('127.0.0.1', program.port(), [datagram], { expect: 1, waitMs: SILENCE_MS });
      await program.line(new RegExp(`local-fwd PP error: ${reason}$`));
    }
  });
});

describe('the link', () => {
  test('the MAC address of the original answers for every address but the guest’s own', async () => {
    await using _program = await startSlirpnetstack(guest);
    await guest.namespace.must(['ping', '-c1', '-W2', '10.0.2.11']);
    await guest.namespace.must(['ping', '-c1', '-W2', 'fd00::77']);
    const neighbors = await guest.namespace.must(['ip', 'neigh', 'show', 'dev', 'tun0']);
    for (const address of ['10.0.2.11', 'fd00::77']) {
      assert.match(neighbors, new RegExp(`^${address} lladdr 70:71:aa:4b:29:aa`, 'm'));
    }
    // Duplicate address detection of the guest's own addresses is not disturbed.
    await guest.namespace.ip('link set tun0 addrgenmode eui64', 'address add fd00::99/64 dev tun0');
    await until(async () => {
      const text = await guest.namespace.must(['ip', '-6', 'address', 'show', 'dev', 'tun0']);
      assert.doesNotMatch(text, /dadfailed/);
      return !text.includes('tentative');
    }, 'the end of duplicate address detection');
    await guest.namespace.ip('address del fd00::99/64 dev tun0');
  });

  test('a guest with addresses of its own choice is served and reached', async () => {
    const own4 = '192.168.77.7';
    const own6 = '2001:db8:77::7';
    await guest.namespace.ip(`address add ${own4}/24 dev tun0`, `address add ${own6}/32 dev tun0 nodad`);
    const rules = ['-L', `0:${own4}:${guestTcp}`, '-L', `0:[${own6}]:${guestTcp}`];
    try {
      await using program = await startSlirpnetstack(guest, '-enable-host', ...rules);
      for (const [own, to, near] of [
        [own4, HOST4, '192.168.77.1'],
        [own6, `[${HOST6}]`, '2001:db8:77::1'],
      ] as const) {
        await guest.namespace.must(['ping', '-c1', '-W2', '-I', own, near]);
        const from = own.includes(':') ? `[${own}]` : own;
        const text = await guest.namespace.must(['socat', '-t3', '-', `TCP:${to}:${tcp},bind=${from}`], {
          input: 'hello',
        });
        assert.equal(text, 'hello');
        await program.line(new RegExp(`tcp://${from.replace(/[[\]]/g, '\\$&')}:\\d+/.* Routing conn new`));
      }
      for (const line of program.lines(/Local listen/)) {
        const [bind = '', port = ''] = /tcp:\/\/(.*):(\d+)$/.exec(line)?.slice(1) ?? [];
        const reply = await host.talkTcp(bind.replace(/[[\]]/g, ''), Number(port), ['hi']);
        assert.equal(reply.text, 'hi', line);
      }
    } finally {
      await guest.namespace.ip(`address del ${own4}/24 dev tun0`, `address del ${own6}/32 dev tun0`);
    }
  });
});
