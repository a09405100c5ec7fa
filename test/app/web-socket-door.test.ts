/** Real clients of the library at a door on the loopback interface; the guest's end is a socket of ours. */
import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { afterEach, describe, test } from 'node:test';
import { type ClientOptions, WebSocket } from 'ws';
import { lengthPrefix } from '../../src/app/frame-cutter.ts';
import { WebSocketDoor } from '../../src/app/web-socket-door.ts';
import type { WebSocketTarget } from '../../src/device-spec.ts';
import { Memory } from '../../src/sys/memory.ts';
import { AF_UNIX, SOCK_STREAM, socketpair } from '../../src/sys/socket.ts';
import { until } from '../support/wait.ts';

const memory = new Memory(new ArrayBuffer(65_536));
const AT = 64;
const MTU = 1500;

let door: WebSocketDoor | undefined;
const clients: WebSocket[] = [];
/** What came to the guests' ends, and those. */
const ends: { socket: Socket; bytes: Buffer[] }[] = [];
const logs: string[] = [];

afterEach(() => {
  for (const client of clients.splice(0)) client.terminate();
  door?.close();
  for (const { socket } of ends.splice(0)) socket.destroy();
  logs.length = 0;
});

async function open(target: Partial<WebSocketTarget> = {}, fails = false): Promise<WebSocketDoor> {
  const made = new WebSocketDoor({
    target: {
      ...{ kind: 'webSocket', at: { family: 'ip', address: '127.0.0.1', port: 0 }, path: '/' },
      ...{ framing: 'bare', origins: [], token: '', clients: 2 },
      ...target,
    },
    mtu: MTU,
    log: { enabled: () => true, log: (_, message) => logs.push(message) },
    guest: () => {
      if (fails) return Promise.reject(new Error('no memory'));
      assert.equal(socketpair(memory, AF_UNIX, SOCK_STREAM, AT), 0);
      const [fd, other] = [memory.view.getInt32(AT, true), memory.view.getInt32(AT + 4, true)];
      const socket = new Socket({ fd: other });
      const bytes: Buffer[] = [];
      socket.on('data', (part) => bytes.push(part)).on('error', () => undefined);
      ends.push({ socket, bytes });
      return Promise.resolve({ fd });
    },
  });
  door = made;
  await made.listen();
  made.admit();
  return made;
}

/** The status with which a client is answered: 101 is in. */
function status(path = '/', options: ClientOptions = {}, protocols: string[] = []): Promise<number> {
  const client = new WebSocket(`ws://127.0.0.1:${door?.port}${path}`, protocols, options);
  clients.push(client);
  return new Promise((resolve) => {
    client.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0));
    client.on('open', () => resolve(101)).on('error', () => undefined);
  });
}

async function client(
  path = '/',
): Promise<{ socket: WebSocket; messages: Buffer[]; closed: Promise<number> }> {
  const before = ends.length;
  assert.equal(await status(path), 101);
  const socket = clients.at(-1) as WebSocket;
  const messages: Buffer[] = [];
  socket.on('message', (data: Buffer) => messages.push(data));
  const closed = new Promise<number>((resolve) => {
    socket.on('close', resolve);
  });
  await until(() => ends.length > before, 'the guest');
  return { socket, messages, closed };
}

function end(index = 0): { socket: Socket; bytes: Buffer[] } {
  const found = ends[index];
  assert.ok(found);
  return found;
}

const came = (index = 0): Buffer => Buffer.concat(end(index).bytes);

describe('the door of a WebSocket', () => {
  test('links L-60: pages of others are refused, no page and our own are not', async () => {
    await open({ clients: 9 });
    assert.equal(await status('/', { origin: 'https://evil.example' }), 403);
    assert.equal(await status('/', { origin: 'null' }), 403);
    assert.equal(await status('/', { origin: `http://127.0.0.1:${door?.port}` }), 101);
    assert.equal(await status('/', { origin: `http://127.0.0.1:${(door?.port ?? 0) + 1}` }), 403);
    assert.equal(await status(), 101);
  });

  test('links L-60: with origin= those are let in, and no others', async () => {
    await open({ clients: 9, origins: ['https://a.example', 'https://b.example'] });
    assert.equal(await status('/', { origin: 'https://b.example' }), 101);
    assert.equal(await status('/', { origin: 'https://b.example.evil' }), 403);
    assert.equal(await status('/', { origin: `http://127.0.0.1:${door?.port}` }), 403);
  });

  test('links L-60: a token by query or subprotocol', async () => {
    const token = 'a-good-token';
    await open({ clients: 9, token, origins: ['*'] });
    assert.equal(await status(), 401);
    assert.equal(await status('/?token=a-bad-token'), 401);
    assert.equal(await status('/', {}, ['a-good-token-']), 401);
    assert.equal(await status(`/?token=${token}`, { origin: 'https://any.example' }), 101);
    assert.equal(await status('/', {}, ['binary', token]), 101);
    assert.equal(clients.at(-1)?.protocol, token);
  });

  test('another path is nothing; nothing is compressed', async () => {
    await open({ path: '/net' });
    assert.equal(await status('/'), 404);
    assert.equal(await status('/net/'), 404);
    assert.equal(await status('/net', { perMessageDeflate: true }), 101);
    assert.equal(clients.at(-1)?.extensions, '');
    assert.equal(await status('/net/be32'), 101);
  });

  test('links L-61: no more than so many at a time', async () => {
    await open({ clients: 2 });
    const first = await client();
    await client();
    assert.equal(await status(), 503);
    first.socket.close();
    await until(() => logs.some((line) => line.startsWith('a client has gone')), 'its end');
    assert.equal(await status(), 101);
  });

  test('a message is a frame, both ways', async () => {
    await open();
    const { socket, messages } = await client();
    const frame = Buffer.alloc(60, 7);
    socket.send(frame);
    socket.send(Buffer.alloc(13), { binary: true });
    socket.send(frame);
    const both = Buffer.concat([lengthPrefix(60), frame, lengthPrefix(60), frame]);
    await until(() => came().length >= both.length, 'frames');
    assert.deepEqual(came(), both, 'what is too short for a frame is none');
    end().socket.write(both.subarray(0, 70));
    end().socket.write(both.subarray(70));
    await until(() => messages.length === 2, 'messages');
    assert.deepEqual(messages, [frame, frame]);
  });

  test('links L-62: at /be32 messages are pieces of a stream', async () => {
    await open();
    const { socket, messages } = await client('/be32');
    socket.send(Buffer.from([0, 0]));
    socket.send(Buffer.from([0, 20, 1, 2, 3]));
    await until(() => came().length === 7, 'the stream');
    assert.deepEqual([...came()], [0, 0, 0, 20, 1, 2, 3]);
    end().socket.write(Buffer.from([9, 8]));
    await until(() => messages.length > 0, 'an answer');
    assert.deepEqual([...Buffer.concat(messages)], [9, 8]);
  });

  test('links L-60: a message longer than a frame can be, and one of text, are the end', async () => {
    await open();
    const long = await client();
    long.socket.send(Buffer.alloc(MTU + 18, 1));
    await until(() => came().length === MTU + 22, 'the longest');
    long.socket.send(Buffer.alloc(MTU + 19, 1));
    assert.equal(await long.closed, 1009);
    const text = await client();
    text.socket.send('hello');
    assert.equal(await text.closed, 1003);
  });

  test('the end of the guest is that of the client, and the other way round', async () => {
    await open();
    const first = await client();
    end().socket.destroy();
    assert.equal(await first.closed, 1001);
    const second = await client();
    let closed = false;
    end(1).socket.on('close', () => {
      closed = true;
    });
    second.socket.terminate();
    await until(() => closed, 'the guest told');
  });

  test('a guest that cannot be had: the client is closed, and others may try', async () => {
    await open({ clients: 1 }, true);
    for (let i = 0; i < 2; i++) {
      assert.equal(await status(), 101);
      await until(() => logs.length === i + 1, 'the reason');
    }
    assert.deepEqual(logs, ['a client cannot be served: no memory', 'a client cannot be served: no memory']);
  });

  test('who comes before guests can be made waits', async () => {
    const made = await open();
    made.close();
    door = new WebSocketDoor({
      target: {
        ...{ kind: 'webSocket', at: { family: 'ip', address: '127.0.0.1', port: 0 }, path: '/' },
        ...{ framing: 'bare', origins: [], token: '', clients: 1 },
      },
      mtu: MTU,
      log: { enabled: () => false, log: () => undefined },
      guest: () => Promise.reject(new Error('none')),
    });
    await door.listen();
    const first = status();
    // Of two that wait there is room for one.
    const second = await Promise.race([first, status()]);
    assert.equal(second, 503);
    door.admit();
    assert.equal(await first, 101);
  });
});
