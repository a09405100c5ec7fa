/** Guests that come by WebSocket (links.md §13): a stack of our own in the place of the one in their browser. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { WebSocket } from 'ws';
import { Stack, streamsOf } from '../../src/netstack/index.ts';
import { directory, HOST4, ready, tslirpCommand } from '../support/namespaces.ts';
import { type Running, start } from '../support/processes.ts';
import { digest, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

const BODY = sampleBytes(1024 * 1024);
const SUM = sha256(BODY);
const PORT = 8765;
const URL = `ws://127.0.0.1:${PORT}/`;

let source: TestServer;
let sink: TestServer;
let stack: Running | undefined;
const guests: { socket: WebSocket; stack: Stack }[] = [];

before(async () => {
  source = await listen((socket) => socket.end(BODY));
  sink = await listen(digest);
});
after(async () => {
  await source?.close();
  await sink?.close();
});
afterEach(async () => {
  for (const guest of guests.splice(0)) {
    guest.stack.close();
    guest.socket.terminate();
  }
  await stack?.stop('SIGTERM');
  stack = undefined;
});

async function serve(...args: string[]): Promise<Running> {
  const running = start(tslirpCommand('serve', '--ready-fd', '3', '--enable-host', ...args), {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  stack = running;
  await ready(running);
  return running;
}

/** Frames of a stream are behind their lengths. */
function framed(frame: Uint8Array): Buffer {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(frame.length);
  return Buffer.concat([prefix, frame]);
}

/** A guest, as soon as it is let in; its frames in messages, or as a stream cut where no frame ends. */
async function guest(url: string, isStream = false): Promise<Stack> {
  const socket = new WebSocket(url, { perMessageDeflate: false });
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  const guestStack = new Stack({
    ...{ role: 'host', ipv4: '10.0.2.100/24', peer4: '10.0.2.2' },
    transmit: (frame) => {
      if (socket.readyState !== socket.OPEN) return;
      if (!isStream) socket.send(frame);
      else for (const part of [framed(frame).subarray(0, 7), framed(frame).subarray(7)]) socket.send(part);
    },
  });
  let kept = Buffer.alloc(0);
  socket.on('message', (data: Buffer) => {
    if (!isStream) {
      guestStack.receive(new Uint8Array(data));
      return;
    }
    kept = Buffer.concat([kept, data]);
    while (kept.length >= 4 && kept.length >= 4 + kept.readUInt32BE()) {
      guestStack.receive(new Uint8Array(kept.subarray(4, 4 + kept.readUInt32BE())));
      kept = kept.subarray(4 + kept.readUInt32BE());
    }
  });
  guests.push({ socket, stack: guestStack });
  return guestStack;
}

async function fetched(from: Stack): Promise<string> {
  const { readable } = streamsOf(from.connect({ address: HOST4, port: source.port }));
  const hash = createHash('sha256');
  for await (const part of readable) hash.update(part as Uint8Array);
  return hash.digest('hex');
}

async function sent(by: Stack): Promise<string> {
  const { readable, writable } = streamsOf(by.connect({ address: HOST4, port: sink.port }));
  const writer = writable.getWriter();
  await writer.write(new Uint8Array(BODY));
  await writer.close();
  let text = '';
  for await (const part of readable) text += Buffer.from(part as Uint8Array).toString();
  return text;
}

test('links L-62: each client is a guest of its own, with frames in messages or as a stream', async () => {
  const running = await serve('--link', `ws:127.0.0.1:${PORT},guest=page`);
  const first = await guest(URL);
  // Somebody with the same address, as all of them have.
  const second = await guest(`${URL}be32`, true);
  assert.deepEqual(await Promise.all([fetched(first), fetched(second)]), [SUM, SUM]);
  assert.deepEqual(await Promise.all([sent(first), sent(second)]), [SUM, SUM]);
  guests[0]?.socket.close();
  await until(() => /"guest":"page-0".*the guest ends/.test(running.stderr), 'the end of the first');
  assert.equal(await fetched(second), SUM, 'the other goes on');
  const third = await guest(URL);
  assert.equal(await fetched(third), SUM, 'another comes');
  assert.ok(running.running);
});

test('links L-60, L-61: who is let in, and how many', async () => {
  const token = 'a-token-of-the-users';
  const path = join(directory, 'token');
  writeFileSync(path, `${token}\n`, { mode: 0o644 });
  const refused = start(tslirpCommand('serve', '--link', `ws:127.0.0.1:${PORT},token-file=${path}`));
  assert.equal((await refused.ended).status, 2);
  assert.match(refused.stderr, /^tslirp: option --link: .*a file that nobody else may read: chmod 600\n$/);
  await serve('--link', `ws:127.0.0.1:${PORT},clients=1,origin=https://good.example`);
  const status = (origin?: string): Promise<number> =>
    new Promise((resolve) => {
      const socket = new WebSocket(URL, origin === undefined ? {} : { origin });
      socket.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0));
      socket.on('open', () => resolve(101)).on('error', () => undefined);
      guests.push({
        socket,
        stack: new Stack({ ipv4: '10.0.2.2/24', peer4: '10.0.2.3', transmit: () => undefined }),
      });
    });
  assert.equal(await status('https://bad.example'), 403);
  assert.equal(await status('https://good.example'), 101);
  assert.equal(await status(), 503);
  // Whoever asks for nothing of the kind is told so.
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(PORT, '127.0.0.1', () => socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'));
    socket.once('data', (part: Buffer) => {
      resolve(part.toString());
      socket.destroy();
    });
  });
  assert.match(answer, /^HTTP\/1\.1 426 /);
});
