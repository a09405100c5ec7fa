/** `tslirp serve`: guests that are no namespaces of ours, each with a TAP behind a bridge of the test's own. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  bridgeCommand,
  connecting,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  streamBridgeCommand,
} from '../support/link-bridge.ts';
import {
  asOwner,
  bareNamespace,
  GATEWAY4,
  HOST4,
  type Namespace,
  OPEN,
  programPath,
  tslirpCommand,
} from '../support/namespaces.ts';
import { type Running, run, start } from '../support/processes.ts';
import { serveLinks, socketDirectory } from '../support/serve-links.ts';
import { digest, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { receive, send } from '../support/transfer.ts';
import { until } from '../support/wait.ts';

const BODY = sampleBytes(8 * 1024 * 1024);

let source: TestServer;
let sink: TestServer;
/** Where whoever runs tslirp may make sockets. */
let sockets = '';
before(async () => {
  source = await listen((socket) => socket.end(BODY));
  sink = await listen(digest);
  sockets = socketDirectory();
});
after(async () => {
  await source?.close();
  await sink?.close();
});

async function configure(namespace: Namespace, host = 100): Promise<void> {
  await until(async () => (await namespace.run(['ip', 'link', 'show', 'tap0'])).status === 0, 'tap0', 20_000);
  await namespace.ip(
    'link set tap0 up',
    `address add 10.0.2.${host}/24 dev tap0`,
    `address add fd00::${host}/64 dev tap0 nodad`,
    `route add default via ${GATEWAY4}`,
  );
}

async function works(namespace: Namespace): Promise<void> {
  const sum = sha256(BODY);
  assert.equal(await namespace.evaluate(receive, [HOST4, source.port]), sum, 'from the host');
  assert.equal(await namespace.evaluate(send, [HOST4, sink.port, BODY.length]), sum, 'to the host');
}

describe('tslirp serve', () => {
  test('links L-6, L-14, L-16: two guests in one process; one comes back, and goes on where it was', async () => {
    const [stream, packets] = [join(sockets, 'stream'), join(sockets, 'packets')];
    const silent = join(sockets, 'silent');
    const stack = await serveLinks(
      ...['--link', `passt:${stream},guest=a`, '--link', `bess:${packets},guest=b`],
      ...['--link', `qemu:unix:${silent}`],
    );
    // links L-14: an unfinished frame holds nobody up.
    const unfinished = createConnection(silent);
    unfinished.write(Buffer.from([0, 0, 5]));
    const one = await bareNamespace();
    const two = await bareNamespace();
    const stop: Running[] = [one.anchor, two.anchor];
    try {
      let bridge = start(connecting(SOCK_STREAM, stream, streamBridgeCommand(one.namespace, 'LINK')));
      stop.push(bridge, start(connecting(SOCK_SEQPACKET, packets, bridgeCommand(two.namespace, 'LINK'))));
      await configure(one.namespace);
      await configure(two.namespace);
      await Promise.all([works(one.namespace), works(two.namespace)]);
      await bridge.stop();
      await until(() => /"guest":"a","event":"link.down"/.test(stack.stderr), 'the link down', 10_000);
      await two.namespace.must(['ping', '-n', '-c', '1', '-W', '2', GATEWAY4]);
      bridge = start(connecting(SOCK_STREAM, stream, streamBridgeCommand(one.namespace, 'LINK')));
      stop.push(bridge);
      await configure(one.namespace);
      await works(one.namespace);
      assert.equal((await stack.stop('SIGTERM')).status, 0);
      assert.equal(existsSync(stream) || existsSync(packets), false, 'the sockets go with us');
    } finally {
      unfinished.destroy();
      for (const running of stop) await running.stop();
      await stack.stop();
    }
  });

  test('links L-21: standard input and output carry frames and nothing else, whatever is logged', async () => {
    const path = join(sockets, 'stdio');
    // Blanks and colons mean something to socat.
    const link = join(sockets, 'tslirp');
    symlinkSync(programPath('tslirp'), link);
    const program = `${link} serve ${OPEN.join(' ')} --log-level debug --link stdio\\:`;
    const socat = start(asOwner('socat', `UNIX-LISTEN:${path}`, `EXEC:${program}`));
    const { namespace, anchor } = await bareNamespace();
    const stop = [anchor, socat];
    try {
      await until(() => existsSync(path), 'the socket', 20_000);
      stop.push(start(connecting(SOCK_STREAM, path, streamBridgeCommand(namespace, 'LINK', 'v'))));
      await configure(namespace);
      await works(namespace);
      assert.match(socat.stderr, /"level":20/, 'there was something logged at debug level');
    } finally {
      for (const running of stop.reverse()) await running.stop();
    }
  });

  test('links L-21: the end of standard input is the end, with status 0', async () => {
    const { status, stdout } = await run(tslirpCommand('serve', '--link', 'stdio:'));
    assert.deepEqual([status, stdout], [0, '']);
  });

  test('links L-27, L-28, L-30: neighbours on a switch find each other, and one that is isolated finds nobody', async () => {
    const paths = ['s0', 's1', 's2'].map((name) => join(sockets, name));
    const specs = paths.map((path, i) => `passt:${path},switch=lan${i === 2 ? ',isolate' : ''}`);
    const stack = await serveLinks(...specs.flatMap((spec) => ['--link', spec]));
    const guests = [await bareNamespace(), await bareNamespace(), await bareNamespace()];
    const stop = guests.map(({ anchor }) => anchor);
    try {
      for (const [i, { namespace }] of guests.entries()) {
        stop.push(start(connecting(SOCK_STREAM, paths[i] as string, streamBridgeCommand(namespace, 'LINK'))));
        await configure(namespace, 100 + i);
      }
      const [first, , alone] = guests.map(({ namespace }) => namespace) as [Namespace, Namespace, Namespace];
      const ping = async (from: Namespace, to: string): Promise<boolean> =>
        (await from.run(['ping', '-n', '-c', '1', '-W', '2', to])).status === 0;
      for (const { namespace } of guests) assert.ok(await ping(namespace, GATEWAY4), 'the gateway');
      assert.ok(await ping(first, '10.0.2.101'), 'a neighbour');
      assert.ok(await ping(first, 'fd00::101'), 'a neighbour, by multicast');
      assert.equal(await ping(first, '10.0.2.102'), false, 'an isolated one');
      assert.equal(await ping(alone, '10.0.2.100'), false, 'from there');
      await works(first);
    } finally {
      for (const running of stop) await running.stop();
      await stack.stop();
    }
  });

  test('links L-6: with --one-off it ends with the peer, and so do its ports', async () => {
    const path = join(sockets, 'once');
    const events = join(sockets, 'once.jsonl');
    const published = ['--port-map', 'tcp:127.0.0.1/0:*:80', '--events', events];
    const stack = await serveLinks('--link', `qemu:unix:${path}`, '--one-off', ...published);
    assert.equal((await run(asOwner('socat', '-u', '/dev/null', `UNIX-CONNECT:${path}`))).status, 0);
    const { status, stderr } = await stack.end(10_000);
    assert.equal(status, 0, stderr);
    assert.equal(existsSync(path), false);
    const told = readFileSync(events, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      told.map(({ type }) => type),
      ['forward.added', 'guest.up', 'ready', 'link.up', 'link.down', 'forward.removed', 'guest.down'],
    );
    const [added, removed] = [told[0], told[5]];
    assert.deepEqual([removed.hostEnd, removed.cause], [added.hostEnd, 'stop']);
  });

  test('what cannot be: one line, 2 for the words and 1 for what is found', async () => {
    const path = join(sockets, 'taken');
    const stack = await serveLinks('--link', `qemu:unix:${path}`);
    for (const [status, options, message] of [
      [1, ['--link', `qemu:unix:${path}`], /cannot listen on unix:.*taken: EADDRINUSE/],
      [2, ['--link', 'qemu:/p'], /has neither unix: nor tcp:/],
      [2, [], /serve needs --link SPEC/],
      [2, ['--link', 'fd:77'], /descriptor 77 is not open \(EBADF\)/],
      [2, ['--link', 'bess:/a', '--link', 'bess:/b,guest=g0'], /is there twice/],
      [2, ['--link', 'bess:/a', '-L', '8080:80,guest=x'], /has guest=x; accepted: g0/],
      [2, ['--link', 'bess:/a', '--link', 'bess:/b', '--pcap', '/dev/null'], /is for one guest/],
    ] as const) {
      const ended = await run(tslirpCommand('serve', '--log-level', 'error', ...options));
      assert.match(ended.stderr, message);
      assert.match(ended.stderr, /^tslirp: [^\n]+\n$/);
      assert.equal(ended.status, status, ended.stderr);
    }
    await stack.stop();
  });
});
