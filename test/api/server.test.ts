import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ApiCommands } from '../../src/api/commands.ts';
import { ApiServer } from '../../src/api/server.ts';
import { exposure, published } from '../support/exposed.ts';
import { must } from '../support/processes.ts';
import { until, within } from '../support/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-api-'));
after(() => rmSync(directory, { recursive: true }));

const engine = {
  addForward: () => Promise.reject(new Error('not asked here')),
  removeForward: () => Promise.resolve(false),
  listForwards: () => [],
  listFlows: () => Promise.resolve([]),
  closeFlow: () => Promise.resolve(false),
  snapshot: () => Promise.reject(new Error('broken')),
};
const failures: unknown[] = [];

function serverAt(path: string): ApiServer {
  return new ApiServer({
    spec: { path, requestMax: 4096, echo: false },
    commands: new ApiCommands(engine, { guest4: '10.0.2.100', guest6: '' }, { fine: true }, exposure()),
    onError: (error) => failures.push(error),
  });
}

const path = join(directory, 'api.sock');
const INFO = '{"execute":"info"}';
const FINE = '{"return":{"fine":true}}';

interface Client {
  socket: Socket;
  /** Everything up to the end of the connection. */
  answer: Promise<string>;
}

function connect({ to = path, allowHalfOpen = true } = {}): Client {
  const socket = createConnection({ path: to, allowHalfOpen });
  socket.on('error', () => undefined);
  const answer = new Promise<string>((resolve) => {
    let text = '';
    socket.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    socket.on('end', () => resolve(text));
    socket.on('close', () => resolve(text));
  });
  return { socket, answer };
}

async function ask(text: string | Buffer): Promise<string> {
  const { socket, answer } = connect();
  socket.end(text);
  return within(answer, 'the answer');
}

describe('the API socket', () => {
  before(() => serverAt(path).listen());

  test('belongs to its owner alone', () => {
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  test('answers a client that closes its side, and one that only ends its line', async () => {
    assert.equal(await ask(INFO), FINE);
    const { socket, answer } = connect();
    socket.write(`${INFO}\n`);
    assert.equal(await within(answer, 'the answer'), FINE);
    socket.end();
  });

  test('answers a client that sends byte by byte', async () => {
    const { socket, answer } = connect();
    for (const letter of INFO) {
      socket.write(letter);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(await within(answer, 'the answer'), FINE);
  });

  for (const [name, text, desc] of [
    ['nothing at all', '', 'cannot parse JSON'],
    ['half a request', '{"execute":', 'cannot parse JSON'],
    ['nonsense', 'foo', 'cannot parse JSON'],
    ['deep nesting', '['.repeat(4000), 'cannot parse JSON'],
    ['too many bytes', Buffer.alloc(4096), 'too large message'],
    ['a number', '1e400', 'json_object() failed'],
  ] as const) {
    test(`answers ${name} with an error`, async () => {
      assert.equal(await ask(text), `{"error":{"desc":"bad request: ${desc}"}}`);
    });
  }

  test('answers nonsense and beginnings also when the client waits without closing its side', async () => {
    const nonsense = connect();
    nonsense.socket.write('foo');
    const half = connect();
    half.socket.write('{"execute":');
    const expected = '{"error":{"desc":"bad request: cannot parse JSON"}}';
    assert.equal(await within(nonsense.answer, 'the answer to nonsense', 1000), expected);
    assert.equal(await within(half.answer, 'the answer to half a request'), expected);
  });

  test('answers an endless stream, which then ends', async () => {
    const { socket, answer } = connect();
    const block = Buffer.alloc(65536);
    const pump = (): void => {
      while (!socket.destroyed && socket.write(block));
    };
    socket.on('drain', pump);
    pump();
    assert.match(await within(answer, 'the answer'), /too large message/);
    await until(() => socket.destroyed, 'the connection closed');
  });

  test('a failure of ours is an error for the client, and noted', async () => {
    assert.match(await ask('{"execute":"stats"}'), /^\{"error":/);
    assert.match(String(failures.pop()), /broken/);
  });

  test('clients that leave before the answer do no harm', async () => {
    for (let i = 0; i < 50; i++) {
      const { socket } = connect({ allowHalfOpen: false });
      socket.on('connect', () => socket.write(INFO, () => socket.destroy()));
      await within(new Promise((resolve) => socket.on('close', resolve)), 'the end of the client');
    }
    assert.equal(await ask(INFO), FINE);
    assert.deepEqual(failures, []);
  });

  test('a thousand silent clients do not keep others out, and few are kept (X-02)', async () => {
    const silent = Array.from({ length: 1000 }, () => connect());
    assert.equal(await ask(INFO), FINE);
    await until(
      () => silent.filter(({ socket }) => socket.readyState === 'open').length <= 32,
      'all but 32 clients told to go',
    );
    const first = (await (silent[0] as Client).answer) as string;
    assert.equal(first, '{"error":{"desc":"bad request: too many clients"}}');
    for (const { socket } of silent) socket.destroy();
  });

  test('two hundred clients at the same moment are all answered', async () => {
    const clients = Array.from({ length: 200 }, () => connect());
    await until(() => clients.every(({ socket }) => !socket.connecting), 'all connected');
    for (const { socket } of clients) socket.end(INFO);
    const answers = await Promise.all(clients.map(({ answer }) => within(answer, 'an answer')));
    assert.deepEqual(answers, Array<string>(200).fill(FINE));
  });

  test('two thousand requests, 64 at a time, are all answered', async () => {
    let left = 2000;
    const worker = async (): Promise<void> => {
      while (left-- > 0) assert.equal(await ask(INFO), FINE);
    };
    await Promise.all(Array.from({ length: 64 }, worker));
  });
});

describe('the place of the API socket (X-04)', () => {
  const refusal = async (place: string): Promise<string> => {
    try {
      await serverAt(place).listen();
      return '';
    } catch (error) {
      assert.equal((error as Error).name, 'SocketFileError');
      return (error as { reason: string }).reason;
    }
  };

  test('107 bytes will do, 108 will not', async () => {
    const place = `${directory}/`.padEnd(107, 'x');
    assert.equal(await refusal(place), '');
    await assert.rejects(serverAt(`${place}x`).listen(), /too long/);
  });

  test('a socket that nobody listens on is replaced', async () => {
    const place = join(directory, 'stale');
    await must([
      process.execPath,
      '-e',
      `require('net').createServer().listen(${JSON.stringify(place)}, () => process.kill(process.pid, 9))`,
    ]).catch(() => undefined);
    assert.ok(lstatSync(place).isSocket());
    assert.equal(await refusal(place), '');
    const { socket, answer } = connect({ to: place });
    socket.end(INFO);
    assert.equal(await answer, FINE);
  });

  test('a socket in use, a file, a directory and a link are left alone', async () => {
    const used = join(directory, 'used');
    const server = createServer(() => undefined);
    await new Promise<void>((resolve) => server.listen(used, resolve));
    const file = join(directory, 'file');
    writeFileSync(file, 'text');
    const folder = join(directory, 'folder');
    mkdirSync(folder);
    const link = join(directory, 'link');
    symlinkSync(join(directory, 'nowhere'), link);
    for (const place of [used, file, folder, link])
      assert.equal(await refusal(place), 'Address already in use', place);
    assert.ok(existsSync(used) && existsSync(file) && existsSync(folder) && lstatSync(link).isSymbolicLink());
    server.close();
  });

  test('a socket whose owner is just ending is waited for', async () => {
    const place = join(directory, 'ending');
    const server = createServer(() => server.close());
    await new Promise<void>((resolve) => server.listen(place, resolve));
    // The look whether anybody listens is the connection that ends the server.
    assert.equal(await refusal(place), '');
  });

  test('a directory that does not exist is an error', async () => {
    assert.equal(await refusal(join(directory, 'missing', 'x')), 'No such file or directory');
  });
});

describe('a subscriber', () => {
  const SUBSCRIBE = '{"execute":"subscribe"}';
  let exposed: ReturnType<typeof exposure>;
  let at: string;
  before(async () => {
    at = join(directory, 'events.sock');
    exposed = exposure();
    const api = { path: at, requestMax: 4096, echo: false };
    const commands = new ApiCommands(engine, { guest4: '10.0.2.100', guest6: '' }, {}, exposed);
    await new ApiServer({ spec: api, commands, onError: (error) => failures.push(error) }).listen();
  });

  /** Types of the lines that have come so far. */
  function types(socket: Socket): string[] {
    const seen: string[] = [];
    let text = '';
    socket.setEncoding('utf8').on('data', (part: string) => {
      text += part;
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) seen.push((JSON.parse(line) as { type: string }).type);
    });
    return seen;
  }

  test('gets what is there, and then what comes, until it leaves', async () => {
    exposed.hub.sink('g0').emit({ type: 'forward.added', ...published() });
    const { socket, answer } = connect({ to: at });
    const seen = types(socket);
    socket.write(SUBSCRIBE);
    await until(() => seen.length === 1, 'the snapshot');
    exposed.hub.sink('g0').emit({ type: 'guest.up' });
    await until(() => seen.length === 2, 'an event');
    assert.deepEqual(seen, ['snapshot', 'guest.up']);
    socket.end();
    await answer;
    exposed.hub.sink('g0').emit({ type: 'guest.up' });
    assert.equal(seen.length, 2);
  });

  test('that closes its side at once gets what is there', async () => {
    const { socket, answer } = connect({ to: at });
    socket.end(SUBSCRIBE);
    assert.match(await answer, /^\{"v":1,"seq":1,.*"type":"snapshot",.*"more":false\}\n$/);
  });

  test('beyond the sixteenth is refused, until one of them has gone', async () => {
    const clients = Array.from({ length: 16 }, () => connect({ to: at }).socket);
    const seen = clients.map(types);
    for (const socket of clients) socket.write(SUBSCRIBE);
    await until(() => seen.every(({ length }) => length > 0), 'sixteen snapshots');
    const { socket, answer } = connect({ to: at });
    socket.end(SUBSCRIBE);
    assert.equal(
      await answer,
      '{"error":{"desc":"bad request: subscribe: there are 16 subscribers, which is all"}}',
    );
    for (const client of clients) client.destroy();
    await until(async () => {
      const next = connect({ to: at });
      next.socket.end(SUBSCRIBE);
      return (await next.answer).includes('snapshot');
    }, 'room for another');
  });
});
