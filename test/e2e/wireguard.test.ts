/** Our end of WireGuard against wireguard-go, in both roles (L-50). */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { guestServer } from '../support/guest-server.ts';
import { asOwner, directory, HOST4, HOST6, OPEN, ready, tslirpCommand } from '../support/namespaces.ts';
import { must, type Running, start } from '../support/processes.ts';
import { digest, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { receive, send } from '../support/transfer.ts';
import { until } from '../support/wait.ts';
import { type Keys, newKeys, OURS, THEIRS, WireGuardGo } from '../support/wireguard-go.ts';

const BODY = sampleBytes(8 * 1024 * 1024);
const PORT = 51820;
const PATH = join(directory, 'wg0.conf');
const PRESHARED = Buffer.alloc(32, 7).toString('base64');
/** How long whoever was not killed may take to find the other again: by its own timers. */
const OWN_TIMERS_MS = 30_000;

let source: TestServer;
let sink: TestServer;
let ours: Keys;
let theirs: Keys;
let other: WireGuardGo | undefined;
let stack: Running | undefined;

before(async () => {
  source = await listen((socket) => socket.end(BODY));
  sink = await listen(digest);
  [ours, theirs] = await Promise.all([newKeys(), newKeys()]);
});
after(async () => {
  await source?.close();
  await sink?.close();
});
afterEach(async () => {
  await stack?.stop('SIGTERM');
  await other?.end();
  stack = undefined;
  other = undefined;
});

async function serve(more: { peer?: string; ours?: string } = {}, ...options: string[]): Promise<Running> {
  const file = `[Interface]
PrivateKey = ${ours.privateKey}
Address = ${OURS.inner4}/24, ${OURS.inner6}/64
${more.ours ?? ''}
[Peer]
PublicKey = ${theirs.publicKey}
AllowedIPs = ${THEIRS.inner4}/32, ${THEIRS.inner6}/128
${more.peer ?? ''}
`;
  await must(asOwner('sh', '-c', `umask 077; cat >"${PATH}"`), { input: file });
  const running = start(
    tslirpCommand(
      'serve',
      '--log-level',
      'debug',
      '--ready-fd',
      '3',
      '--link',
      `wireguard:${PATH}`,
      ...OPEN,
      ...options,
    ),
    { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] },
  );
  stack = running;
  await ready(running);
  return running;
}

function theirConfig(more: { peer?: string; theirs?: string }): string {
  return `[Interface]
PrivateKey = ${theirs.privateKey}
${more.theirs ?? ''}
[Peer]
PublicKey = ${ours.publicKey}
AllowedIPs = 0.0.0.0/0, ::/0
${more.peer ?? ''}
`;
}

const ROUTES = [`${HOST4}/32`, `${HOST6}/128`];

async function bulk(machine: WireGuardGo, address: string): Promise<void> {
  const sum = sha256(BODY);
  const { namespace } = machine;
  assert.equal(await namespace.evaluate(receive, [address, source.port]), sum, 'from the host');
  assert.equal(await namespace.evaluate(send, [address, sink.port, BODY.length]), sum, 'to the host');
}

test('links L-50: wireguard-go comes to us over IPv4, with a preshared key', async () => {
  const running = await serve({ ours: `ListenPort = ${PORT}`, peer: `PresharedKey = ${PRESHARED}` });
  other = await WireGuardGo.make();
  const peer = `PresharedKey = ${PRESHARED}\nEndpoint = ${OURS.outer4}:${PORT}`;
  await other.up(theirConfig({ peer }), ...ROUTES);
  assert.ok(await other.pings(OURS.inner4));
  assert.ok(await other.pings(OURS.inner6));
  await bulk(other, HOST4);
  await bulk(other, HOST6);
  // MTU 1420 whole, and not in pieces.
  await other.namespace.must(['ping', '-n', '-c', '1', '-W', '5', '-M', 'do', '-s', '1392', OURS.inner4]);
  // Nobody has that address: told at once, not waited for (L-49).
  const { stdout } = await other.namespace.run(['ping', '-n', '-c', '1', '-W', '5', '10.9.0.77']);
  assert.match(stdout, /[Uu]nreachable|[Pp]rohibited|[Ff]iltered/);
  const { stderr } = running;
  for (const { privateKey } of [ours, theirs]) assert.ok(!stderr.includes(privateKey), stderr);
});

test('links L-50: without a preshared key, with our restart and theirs, and another port of theirs', async () => {
  await serve({ ours: `ListenPort = ${PORT}` });
  other = await WireGuardGo.make();
  await other.up(theirConfig({ peer: `Endpoint = [${OURS.outer6}]:${PORT}` }), ...ROUTES);
  const machine = other;
  assert.ok(await machine.pings(OURS.inner4));
  // A NAT that binds anew: the next packet goes through, and so does its answer.
  await machine.namespace.must(['wg', 'set', 'wg0', 'listen-port', '40404']);
  assert.ok(await machine.pings(OURS.inner4));
  await machine.restart();
  await until(() => machine.pings(OURS.inner4), 'after their restart', 10_000);
  await stack?.stop('SIGKILL');
  await serve({ ours: `ListenPort = ${PORT}` });
  await until(() => machine.pings(OURS.inner4), 'after our restart', OWN_TIMERS_MS);
  await bulk(machine, HOST4);
});

test('links L-50: we go to wireguard-go over IPv6, and publish a port of its end', async () => {
  other = await WireGuardGo.make();
  await other.up(theirConfig({ theirs: `ListenPort = ${PORT}` }), ...ROUTES);
  const machine = other;
  await using server = await guestServer(machine.namespace, 'greet', 8080);
  const peer = `Endpoint = [${THEIRS.outer6}]:${PORT}`;
  await serve({ peer }, '-L', `18080:${server.port}`);
  const hello = (): Promise<string> =>
    new Promise((resolve) => {
      let text = '';
      const socket = connect({ host: '127.0.0.1', port: 18080 });
      // Somebody who asks again: the first packets may go where the keys are no longer known.
      socket.setTimeout(1000, () => socket.destroy());
      socket.on('data', (part: Buffer) => {
        text += part.toString();
      });
      socket.on('error', () => resolve('')).on('close', () => resolve(text));
    });
  assert.equal(await hello(), 'hello');
  await bulk(machine, HOST4);
  // Whoever was killed is found again, since we know where it is.
  await machine.restart();
  await until(async () => (await hello()) === 'hello', 'after their restart', OWN_TIMERS_MS);
});

test('links L-50: a key that is not ours is not answered', async () => {
  const running = await serve({ ours: `ListenPort = ${PORT}` });
  other = await WireGuardGo.make();
  theirs = await newKeys();
  await other.up(theirConfig({ peer: `Endpoint = ${OURS.outer4}:${PORT}` }), ...ROUTES);
  assert.equal(await other.pings(OURS.inner4), false);
  const transfer = await other.namespace.must(['wg', 'show', 'wg0', 'transfer']);
  assert.match(transfer, /\t0\t\d+\n$/, 'nothing came back');
  assert.ok(running.running);
});
