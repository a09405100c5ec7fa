import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, existsSync, statSync } from 'node:fs';
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type GuestServer, guestServer } from '../support/guest-server.ts';
import {
  asOwner,
  directory,
  GATEWAY4,
  GATEWAY6,
  type Guest,
  HOST4,
  HOST6,
  mode,
  startGuest,
  tslirpCommand,
} from '../support/namespaces.ts';
import { run } from '../support/processes.ts';
import { digest, echo, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { until, within } from '../support/wait.ts';

const LIMIT_MS = 15_000;

/** Sends `data`, ends, and reads to the end. Rejects with the error's code. */
async function exchange(to: NetConnectOpts, data: Buffer | string = ''): Promise<Buffer> {
  const socket = connect({ ...to, allowHalfOpen: true } as NetConnectOpts);
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.end(data);
  const outcome = new Promise<void>((resolve, reject) => {
    socket.once('end', resolve);
    socket.once('error', (error) => reject(new Error((error as NodeJS.ErrnoException).code)));
  });
  try {
    await within(outcome, `an answer from ${JSON.stringify(to)}`, LIMIT_MS);
  } finally {
    socket.destroy();
  }
  return Buffer.concat(parts);
}

const text = async (to: NetConnectOpts, data: Buffer | string = ''): Promise<string> =>
  (await exchange(to, data)).toString('latin1');

/** Guest program: sends `data` as it is in base64, ends, and gives what came back, or the code of the error. */
async function guestExchange(host: string, port: number, data: string): Promise<string> {
  const net = await import('node:net');
  return new Promise((resolve) => {
    let answer = '';
    const socket = net.connect({ host, port, allowHalfOpen: true }, () =>
      socket.end(Buffer.from(data, 'base64')),
    );
    socket.on('data', (part: Buffer) => {
      answer += part.toString('latin1');
    });
    socket
      .on('end', () => resolve(answer))
      .on('error', (error) => resolve((error as NodeJS.ErrnoException).code ?? ''));
  });
}

const PROXY_V2 = Buffer.from(
  '\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xcb\0\x71\x07\x01\x02\x03\x04\x10\x92\0\x50\x04\0\0',
  'latin1',
);

describe('local TCP forwards', () => {
  let guest: Guest;
  let greeter: GuestServer;
  const path = join(directory, 'published.sock');
  /** Option, host, port, and what the guest sees as the client: the gateway, by the family of the target. */
  const forms: [string, string, number, string][] = [
    ['5000', '127.0.0.1', 5000, GATEWAY4],
    ['127.1.2.3:7001:10.0.2.100:5000', '127.1.2.3', 7001, GATEWAY4],
    ['7002:10.0.2.100:5000', '127.0.0.1', 7002, GATEWAY4],
    [':7003::5000', '127.0.0.1', 7003, GATEWAY4],
    ['[::1]:7004::5000', '::1', 7004, GATEWAY6],
    [':7005:[fd00::100]:5000', '::1', 7005, GATEWAY6],
    ['[::]:7006::5000', '::1', 7006, GATEWAY6],
    ['0.0.0.0:7007::5000', '127.0.0.1', 7007, GATEWAY4],
    ['localhost:7008::5000', '127.0.0.1', 7008, GATEWAY4],
    ['tcp://0.0.0.0:7009:[fd00::100]:5000', '127.0.0.1', 7009, GATEWAY6],
    ['[::]:7010:10.0.2.100:5000', '::1', 7010, GATEWAY4],
  ];
  const more = [
    '7020:10.0.2.100:5020',
    '7021:10.0.2.100:5021',
    '7022:10.0.2.100:5022',
    '7024:10.0.2.77:5000',
    '7030-7229:10.0.2.100:6030-6229',
    'tcp+proxy://7300:10.0.2.100:5000',
    'tcp+proxy://0.0.0.0:7301:[fd00::100]:5000',
    'tcp+proxy://7302:10.0.2.100:0',
    `unix:${path}:10.0.2.100:5000`,
  ];

  before(async () => {
    guest = await startGuest(...[...forms.map(([rule]) => rule), ...more].flatMap((rule) => ['-L', rule]));
    greeter = await guestServer(guest.namespace, 'greet', 5000);
  });
  after(async () => {
    await greeter[Symbol.asyncDispose]();
    await guest[Symbol.asyncDispose]();
  });

  /** What the guest's server saw of the client that `connecting` made. */
  async function seen(connecting: Promise<string>): Promise<{ address: string; port: number }> {
    const count = greeter.clients().length;
    assert.equal(await connecting, 'hello');
    await until(() => greeter.clients().length > count, 'the server tells of its client');
    const [address = '', port] = greeter.clients()[count]?.split(' ') ?? [];
    return { address: address.replace('::ffff:', ''), port: Number(port) };
  }

  for (const [rule, host, port, source] of forms) {
    test(`${rule} leads to the guest, where a loopback client is the gateway`, async () => {
      assert.equal((await seen(text({ host, port }))).address, source);
    });
  }

  test('show a client its own address where that can be, never its own port (A-09)', async () => {
    const cases: [string, number, string][] = [
      [HOST4, 7007, HOST4],
      [HOST6, 7006, HOST6],
      [HOST4, 7009, GATEWAY6],
      [HOST6, 7010, GATEWAY4],
    ];
    for (const [host, port, source] of cases) {
      const localPort = 40_000 + port;
      const client = await seen(text({ host, port, localAddress: host, localPort }));
      assert.equal(client.address, source, `${host} to port ${port}`);
      assert.notEqual(client.port, localPort);
    }
  });

  test('listen where they were told, and nowhere else (A-10)', async () => {
    await assert.rejects(exchange({ host: HOST4, port: 5000 }), /ECONNREFUSED/);
    await assert.rejects(exchange({ host: '::1', port: 7007 }), /ECONNREFUSED/);
    await assert.rejects(exchange({ host: '127.0.0.1', port: 7006 }), /ECONNREFUSED/);
  });

  test('reset the client while the guest refuses, and serve the next one as soon as it does not (P-04)', async () => {
    await assert.rejects(exchange({ host: '127.0.0.1', port: 7020 }), /ECONNRESET/);
    await using server = await guestServer(guest.namespace, 'echo', 5020);
    assert.equal(await text({ host: '127.0.0.1', port: 7020 }, 'now'), 'now');
    await server.process.stop();
    await assert.rejects(exchange({ host: '127.0.0.1', port: 7020 }), /ECONNRESET/);
  });

  test('never reach what the guest keeps to its own loopback (A-10)', async () => {
    await using _server = await guestServer(guest.namespace, 'greet', 5021, '127.0.0.1');
    await assert.rejects(exchange({ host: '127.0.0.1', port: 7021 }), /ECONNRESET/);
  });

  test('let the client wait for a guest that is silent', async () => {
    const socket = connect({ host: '127.0.0.1', port: 7024 });
    await once(socket, 'connect');
    let ended = false;
    socket.on('close', () => {
      ended = true;
    });
    socket.on('error', () => undefined);
    // Others are served meanwhile.
    for (let i = 0; i < 20; i++) assert.equal(await text({ host: '127.0.0.1', port: 7002 }), 'hello');
    assert.equal(ended, false);
    socket.resetAndDestroy();
  });

  test('keep halves apart: what comes after the end of the other direction arrives (P-02)', async () => {
    await using up = await guestServer(guest.namespace, 'digest', 5020);
    const body = sampleBytes(8 << 20);
    assert.equal(await text({ host: '127.0.0.1', port: 7020 }, body), sha256(body));
    await up.process.stop();
    await using _down = await guestServer(guest.namespace, 'source', 5020);
    const socket = connect({ host: '127.0.0.1', port: 7020, allowHalfOpen: true });
    let size = 0;
    socket.on('data', (part: Buffer) => {
      size += part.length;
    });
    await once(socket, 'end');
    assert.equal(size, 8 << 20);
    // The guest has ended long ago, and still gets what we say.
    socket.end('over');
    await until(() => _down.process.stderr.includes('end'), 'the end reaches the guest');
  });

  test('pass on a reset, either way (P-03)', async () => {
    await using server = await guestServer(guest.namespace, 'reset', 5022);
    await assert.rejects(exchange({ host: '127.0.0.1', port: 7022 }, 'x'), /ECONNRESET/);
    await server.process.stop();
    await using other = await guestServer(guest.namespace, 'echo', 5022);
    const socket = connect({ host: '127.0.0.1', port: 7022 });
    socket.write('x');
    await once(socket, 'data');
    socket.resetAndDestroy();
    await until(() => other.process.stderr.includes('ECONNRESET'), 'the reset reaches the guest');
    await other.process.stop();
    // Behind an end too, where nobody writes or reads any more.
    await using third = await guestServer(guest.namespace, 'mute', 5022);
    const ended = connect({ host: '127.0.0.1', port: 7022, allowHalfOpen: true });
    await new Promise<void>((resolve) => ended.end('x', resolve));
    await until(() => third.clients().length === 1, 'the guest has the client');
    await until(() => third.process.stderr.includes('end'), 'the end reaches the guest');
    ended.resetAndDestroy();
    // A server that has read the end looks for nothing more: ask its kernel.
    const connections = (): Promise<string> =>
      guest.namespace.must(['ss', '--tcp', '--no-header', 'sport', '=', ':5022']);
    await until(async () => (await connections()) === '', 'the reset reaches the guest');
  });

  test('are as many as one likes: 200 at once', async () => {
    const ports = Array.from({ length: 200 }, (_, i) => i);
    // One server a port is what would be many; the guest redirects them to one address each.
    await using _servers = await guestServer(guest.namespace, 'greet', 6030, '::', 200);
    const answers = await Promise.all(ports.map((i) => text({ host: '127.0.0.1', port: 7030 + i })));
    assert.deepEqual(new Set(answers), new Set(['hello']));
  });

  test('carry 1,000 connections at a time, each with its own bytes', async () => {
    await using _server = await guestServer(guest.namespace, 'echo', 5020);
    const open = async (): Promise<{ socket: Socket; sent: Buffer }> => {
      const socket = connect({ host: '127.0.0.1', port: 7020, allowHalfOpen: true });
      const sent = randomBytes(1 + Math.floor(Math.random() * 30_000));
      socket.write(sent);
      await once(socket, 'connect');
      return { socket, sent };
    };
    const all = await Promise.all(Array.from({ length: 1000 }, open));
    const check = async ({ socket, sent }: { socket: Socket; sent: Buffer }): Promise<boolean> => {
      const parts: Buffer[] = [];
      socket.on('data', (part: Buffer) => parts.push(part)).end();
      await once(socket, 'end');
      return Buffer.concat(parts).equals(sent);
    };
    const equal = await within(Promise.all(all.map(check)), 'all 1,000', 40_000);
    assert.equal(equal.filter(Boolean).length, 1000);
  });

  test('may be a unix socket, whose clients are the gateway', async () => {
    assert.equal((await seen(text({ path }))).address, GATEWAY4);
    assert.ok(statSync(path).isSocket());
  });

  describe('with a PROXY header', () => {
    test('show the guest the client that it names, and deliver what follows it', async () => {
      const port = 7300;
      const v1 = 'PROXY TCP4 203.0.113.7 4.3.2.1 4242 1\r\n';
      const client = await seen(text({ host: '127.0.0.1', port }, v1));
      assert.equal(client.address, '203.0.113.7');
      assert.notEqual(client.port, 4242);
      assert.equal((await seen(text({ host: '127.0.0.1', port }, PROXY_V2))).address, '203.0.113.7');
      assert.equal((await seen(text({ host: '127.0.0.1', port }, 'PROXY UNKNOWN\r\n'))).address, GATEWAY4);
      // Addresses that cannot be shown.
      for (const address of [
        '127.0.0.1',
        '10.0.2.100',
        '10.0.2.7',
        '0.0.0.0',
        '169.254.1.1',
        '224.0.0.1',
        '2001:db8::1',
      ]) {
        const header = `PROXY TCP4 ${address} 4.3.2.1 1 2\r\n`;
        assert.equal((await seen(text({ host: '127.0.0.1', port }, header))).address, GATEWAY4, address);
      }
      const v6 = 'PROXY TCP6 2001:db8::1 ::1 1 2\r\n';
      assert.equal((await seen(text({ host: '127.0.0.1', port: 7301 }, v6))).address, '2001:db8::1');
      assert.equal((await seen(text({ host: '127.0.0.1', port: 7301 }, v1))).address, GATEWAY6);
    });

    test('take the port from it where the rule has none, and the bytes behind it', async () => {
      await using _server = await guestServer(guest.namespace, 'echo', 5020);
      const header = 'PROXY TCP4 203.0.113.7 4.3.2.1 4242 5020\r\n';
      assert.equal(await text({ host: '127.0.0.1', port: 7302 }, `${header}and more`), 'and more');
    });

    test('open the guest connection as soon as it is complete, however it comes', async () => {
      const socket = connect({ host: '127.0.0.1', port: 7300, noDelay: true });
      await once(socket, 'connect');
      for (const byte of 'PROXY TCP4 203.0.113.7 4.3.2.1 1 2\r\n') {
        socket.write(byte);
        await new Promise(setImmediate);
      }
      // It is the guest that speaks first.
      const [first] = (await within(once(socket, 'data'), 'the greeting', LIMIT_MS)) as [Buffer];
      assert.equal(first.toString(), 'hello');
      socket.destroy();
    });

    test('reset who begins with anything else (P-06)', async () => {
      const clients = greeter.clients().length;
      const to = { host: '127.0.0.1', port: 7300 };
      for (const bad of [
        'GET / HTTP/1.1\r\n',
        'PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n',
        'x',
        `PROXY ${'x'.repeat(200)}`,
      ]) {
        await assert.rejects(exchange(to, bad), /ECONNRESET/, bad);
      }
      assert.equal(greeter.clients().length, clients);
    });
  });
});

test('a forward that cannot be opened is one line, and nothing is started', async () => {
  const taken = createServer().listen(7000, '127.0.0.1');
  await once(taken, 'listening');
  try {
    const { status, stdout, stderr } = await run(
      tslirpCommand('run', '--log-level', 'warn', '-L', '7001', '-L', '7000', '--', 'echo', 'started'),
    );
    assert.equal(status, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /^tslirp: [^\n]*127\.0\.0\.1:7000[^\n]*in use[^\n]*\n$/);
  } finally {
    taken.close();
  }
});

test('a port can be forwarded again at once, with connections of before still about (P-04)', async () => {
  let guest = await startGuest('-L', '7000:10.0.2.100:80');
  const server = await guestServer(guest.namespace, 'greet', 80);
  const open = connect({ host: '127.0.0.1', port: 7000, allowHalfOpen: true });
  await once(open, 'data');
  assert.equal(await text({ host: '127.0.0.1', port: 7000 }), 'hello');
  open.on('error', () => undefined);
  await server[Symbol.asyncDispose]();
  await guest[Symbol.asyncDispose]();
  guest = await startGuest('-L', '7000:10.0.2.100:80');
  const again = await guestServer(guest.namespace, 'greet', 80);
  assert.equal(await text({ host: '127.0.0.1', port: 7000 }), 'hello');
  open.destroy();
  await again[Symbol.asyncDispose]();
  await guest[Symbol.asyncDispose]();
});

test('of unix socket files only a stale one is replaced, and ours is gone at the end', async () => {
  const path = join(directory, 'again.sock');
  const rule = `unix:${path}:10.0.2.100:80`;
  const owner = createServer().listen(path);
  await once(owner, 'listening');
  const refused = await run(tslirpCommand('run', '-L', rule, '--', 'true'));
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /in use/);
  // Left behind by a process that is gone: killed before it could remove it.
  await new Promise((resolve) => owner.close(resolve));
  const listenAndDie = `require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  await run(asOwner(process.execPath, '-e', listenAndDie, path));
  assert.ok(existsSync(path));
  const guest = await startGuest('-L', rule);
  await using _server = await guestServer(guest.namespace, 'greet', 80);
  assert.equal(await text({ path }), 'hello');
  await _server.process.stop();
  await guest[Symbol.asyncDispose]();
  assert.equal(existsSync(path), false);
});

describe('remote TCP forwards', () => {
  let guest: Guest;
  let digester: TestServer;
  let echoing: TestServer;
  let unix: Server;
  const path = join(directory, 'service.sock');

  before(async () => {
    digester = await listen(digest);
    echoing = await listen(echo);
    unix = createServer({ allowHalfOpen: true }, echo).listen(path);
    await once(unix, 'listening');
    // tslirp may be somebody else.
    chmodSync(path, 0o666);
    const { port } = echoing;
    guest = await startGuest(
      ...[
        `80:127.0.0.1:${digester.port}`,
        `[fd00::2]:80:[::1]:${digester.port}`,
        `192.0.2.5:80:127.0.0.1:${port}`,
        `10.0.2.77:81:${HOST4}:${port}`,
        `[fd00::77]:81:${HOST4}:${port}`,
        `82:localhost:${port}`,
        '83:no-such-name.invalid:80',
        '84:127.0.0.1:9',
        `85:unix:${path}`,
        `86:unix:${path}.none`,
        `tcp+proxy1://87:127.0.0.1:${port}`,
        `tcp+proxy2://[fd00::2]:88:127.0.0.1:${port}`,
        `tcp+proxy1://89:unix:${path}`,
      ].flatMap((rule) => ['-R', rule]),
    );
  });
  after(async () => {
    await guest[Symbol.asyncDispose]();
    await Promise.all([digester.close(), echoing.close()]);
    unix.close();
  });

  const ask = (host: string, port: number, data: Buffer | string = ''): Promise<string> =>
    guest.namespace.evaluate(guestExchange, [host, port, Buffer.from(data).toString('base64')]);

  test('bring services of the host, of either family, to any address on the guest’s side', async () => {
    const body = sampleBytes(50_000);
    assert.equal(await ask(GATEWAY4, 80, body), sha256(body));
    assert.equal(await ask(GATEWAY6, 80, body), sha256(body));
    assert.equal(await ask('192.0.2.5', 80, 'one'), 'one');
    assert.equal(await ask('10.0.2.77', 81, 'two'), 'two');
    assert.equal(await ask('fd00::77', 81, 'three'), 'three');
    assert.equal(await ask(GATEWAY4, 82, 'by name'), 'by name');
    assert.equal(await ask(GATEWAY4, 85, 'unix'), 'unix');
  });

  test('open exactly the address and port that was named (A-08)', async () => {
    assert.equal(await ask(GATEWAY4, digester.port, ''), 'ECONNREFUSED');
    assert.equal(await ask('192.0.2.5', 81, ''), 'ECONNREFUSED');
    assert.equal(await ask(HOST4, echoing.port, ''), 'ECONNREFUSED');
  });

  test('are refused when the host refuses, is not there, or has no such name (P-01)', async () => {
    assert.equal(await ask(GATEWAY4, 84, 'x'), 'ECONNREFUSED');
    assert.equal(await ask(GATEWAY4, 86, 'x'), 'ECONNREFUSED');
    assert.equal(await ask(GATEWAY4, 83, 'x'), 'ECONNREFUSED');
  });

  test('tell the host’s service who the guest is, when asked to', async () => {
    const guest4 = String.raw`PROXY TCP4 10\.0\.2\.100 10\.0\.2\.2 \d+ `;
    assert.match(await ask(GATEWAY4, 87, 'body'), new RegExp(`^${guest4}87\\r\\nbody$`));
    assert.match(await ask(GATEWAY4, 89, 'body'), new RegExp(`^${guest4}89\\r\\nbody$`));
    const answer = Buffer.from(await ask(GATEWAY6, 88, 'body'), 'latin1');
    assert.equal(answer.subarray(0, 16).toString('latin1'), '\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24');
    assert.equal(answer.subarray(32, 48).toString('hex'), 'fd000000000000000000000000000002');
    assert.equal(answer.readUInt16BE(50), 88);
    assert.equal(answer.subarray(52).toString(), 'body');
  });

  test('carry 1,000 connections at a time, each with its own bytes', async () => {
    const result = await guest.namespace.evaluate(
      async (host: string, port: number) => {
        const net = await import('node:net');
        const { randomBytes: random } = await import('node:crypto');
        const open = async () => {
          const socket = net.connect({ host, port, allowHalfOpen: true });
          const sent = random(1 + Math.floor(Math.random() * 30_000));
          socket.write(sent);
          await new Promise((resolve, reject) => socket.on('connect', resolve).on('error', reject));
          return { socket, sent };
        };
        const all = await Promise.all(Array.from({ length: 1000 }, open));
        let equal = 0;
        await Promise.all(
          all.map(async ({ socket, sent }) => {
            const parts: Buffer[] = [];
            socket.on('data', (part: Buffer) => parts.push(part)).end();
            await new Promise((resolve) => socket.on('end', resolve));
            if (Buffer.concat(parts).equals(sent)) equal++;
          }),
        );
        return equal;
      },
      ['192.0.2.5', 80],
      40_000,
    );
    assert.equal(result, 1000);
  });
});

test('a port below 1024 is refused in plain words to who may not have it', async () => {
  const { status, stderr } = await run(tslirpCommand('run', '--log-level', 'warn', '-L', '80', '--', 'true'));
  assert.equal(status, mode === 'user' ? 1 : 0);
  const line = /^tslirp: [^\n]*127\.0\.0\.1:80[^\n]*denied[^\n]*privilege[^\n]*\n$/;
  assert.match(stderr, mode === 'user' ? line : /^$/);
});
