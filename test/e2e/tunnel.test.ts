/** The plain tunnel (links.md §10), both ends of it, beside the program that it is to speak with. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { guestServer } from '../support/guest-server.ts';
import { LabTunnel, OURS, THEIRS } from '../support/lab-tunnel.ts';
import { HOST4, HOST6, Namespace, ready, tslirpCommand } from '../support/namespaces.ts';
import { must, type Running, start } from '../support/processes.ts';
import { digest, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { receive, send } from '../support/transfer.ts';
import { until } from '../support/wait.ts';

const BODY = sampleBytes(1024 * 1024);
const SUM = sha256(BODY);
const PORT = 9090;
const PEER = '10.1.3.1';

let source: TestServer;
let sink: TestServer;
let lab: LabTunnel | undefined;
let stack: Running | undefined;
let client: Running | undefined;

before(async () => {
  source = await listen((socket) => socket.end(BODY));
  sink = await listen(digest);
});
after(async () => {
  await source?.close();
  await sink?.close();
});
afterEach(async () => {
  await client?.stop('SIGTERM');
  await stack?.stop('SIGTERM');
  await lab?.end();
  client = undefined;
  stack = undefined;
  lab = undefined;
});

/** Whose command waits, and where it is. */
async function tunnel(...args: string[]): Promise<[running: Running, inside: Namespace]> {
  const running = start(tslirpCommand('tunnel', ...args, '--', 'sh', '-c', 'echo $$; exec cat'));
  client = running;
  const pid = Number(await running.firstLine());
  return [running, new Namespace(pid, true)];
}

async function serve(...args: string[]): Promise<Running> {
  const running = start(tslirpCommand('serve', '--ready-fd', '3', '--events', 'fd:4', ...args), {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
  });
  stack = running;
  await ready(running);
  return running;
}

test('links L-31, L-37: the plain program reaches what our server lets it, and without root', async () => {
  const refused = start(
    tslirpCommand('serve', '--link', `tunnel:udp://0.0.0.0:${PORT},peer=${PEER},learn=on`),
  );
  assert.equal((await refused.ended).status, 2);
  assert.match(refused.stderr, /^tslirp: option --link: .*--insecure-tunnel.*\n$/);
  const running = await serve(
    ...['--link', `tunnel:udp://0.0.0.0:${PORT},peer=${PEER}/32,learn=on`, '--insecure-tunnel'],
    ...['--allow', `any://${HOST4}`],
  );
  let events = '';
  (running.child.stdio[4] as NodeJS.ReadableStream).on('data', (part: Buffer) => {
    events += part.toString();
  });
  lab = await LabTunnel.make();
  await lab.up(4040, [OURS.outer4, String(PORT)], `${PEER}/24`, `${HOST4}/32`);
  const { namespace } = lab;
  assert.ok(await lab.pings(HOST4));
  assert.equal(await namespace.evaluate(receive, [HOST4, source.port]), SUM, 'from the host');
  assert.equal(await namespace.evaluate(send, [HOST4, sink.port, BODY.length]), SUM, 'to the host');
  await until(() => events.includes('"peer.up"'), 'the event');
  assert.match(events, /"type":"peer\.up","endpoint":"10\.78\.0\.2:4040"/);
  // A path that has less room from now on: what was sent for the wider one is sent again (L-32).
  await must(['ip', 'route', 'add', `${THEIRS.outer4}/32`, 'dev', 'labc0', 'mtu', '1300']);
  assert.equal(await namespace.evaluate(receive, [HOST4, source.port]), SUM, 'by a narrow path');
  await until(() => running.stderr.includes('has room for packets of 1272 bytes'), 'the path followed');
  assert.equal(running.stderr.match(/the tunnel is plain/g)?.length, 1, running.stderr);
});

test('links L-31: our own client and server, a command and nothing that needs root', async () => {
  await serve(
    ...['--link', `tunnel:udp://127.0.0.1:${PORT},peer=${PEER},peer=fd01::1,learn=on`, '--enable-host'],
  );
  const [running, inside] = await tunnel(
    ...['--to', `127.0.0.1:${PORT}`, '--address', `${PEER}/24`, '--address', 'fd01::1/64'],
    ...['--route', `${HOST4}/32`, '--route', `${HOST6}/128`],
  );
  for (const address of [HOST4, HOST6]) {
    assert.equal(await inside.evaluate(receive, [address, source.port]), SUM, `from ${address}`);
    assert.equal(await inside.evaluate(send, [address, sink.port, BODY.length]), SUM, `to ${address}`);
  }
  running.child.stdin?.end();
  assert.equal((await running.ended).status, 0, "the command's own status");
});

test('links L-31, L-32: our client reaches what a plain server has behind it, and follows the path', async () => {
  lab = await LabTunnel.make();
  await lab.up(PORT, [], '10.1.2.1/24', `${PEER}/32`);
  await lab.namespace.ip('address add 10.1.1.1/32 dev lo');
  await using server = await guestServer(lab.namespace, 'source', 8080);
  await using reader = await guestServer(lab.namespace, 'digest', 8081);
  const refused = start(
    tslirpCommand('tunnel', '--to', `${THEIRS.outer4}:${PORT}`, '--address', `${PEER}/24`),
  );
  assert.equal((await refused.ended).status, 2);
  assert.match(refused.stderr, /^tslirp: option --to: .*--insecure-tunnel.*\n$/);
  const [running, inside] = await tunnel(
    ...['--to', `${THEIRS.outer4}:${PORT}`, '--insecure-tunnel', '--address', `${PEER}/24`],
    ...['--route', '10.1.0.0/16', '--mtu', '1400'],
  );
  const ping = (size: number) =>
    inside.run(['ping', '-n', '-c', '1', '-W', '5', '-M', 'do', '-s', String(size), '10.1.1.1']);
  assert.equal((await ping(1372)).status, 0, 'as much as there is room for');
  const sum = await inside.evaluate(receive, ['10.1.1.1', server.port]);
  await must(['ip', 'route', 'add', `${THEIRS.outer4}/32`, 'dev', 'labc0', 'mtu', '1300']);
  // The first one is lost, and shows how much room there is.
  await ping(1372);
  await until(() => running.stderr.includes('has room for packets of 1272 bytes'), 'the path followed');
  assert.match((await ping(1372)).stdout, /(mtu ?= ?|too long.*)1272/);
  assert.equal((await ping(1244)).status, 0, 'as much as there is room for now');
  assert.equal(await inside.evaluate(receive, ['10.1.1.1', server.port]), sum, 'by a narrow path');
  assert.equal(await inside.evaluate(send, ['10.1.1.1', reader.port, BODY.length]), SUM, 'to there');
});
