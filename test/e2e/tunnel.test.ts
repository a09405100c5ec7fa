/** The plain tunnel (links.md §10), both ends of it, beside the program that it is to speak with. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { LabTunnel, OURS, THEIRS } from '../support/lab-tunnel.ts';
import { HOST4, ready, tslirpCommand } from '../support/namespaces.ts';
import { must, type Running, start } from '../support/processes.ts';
import { digest, listen, sampleBytes, sha256, type TestServer } from '../support/tcp-servers.ts';
import { receive, send } from '../support/transfer.ts';
import { until } from '../support/wait.ts';

const BODY = sampleBytes(4 * 1024 * 1024);
const SUM = sha256(BODY);
const PORT = 9090;
const PEER = '10.1.3.1';

let source: TestServer;
let sink: TestServer;
let lab: LabTunnel | undefined;
let stack: Running | undefined;

before(async () => {
  source = await listen((socket) => socket.end(BODY));
  sink = await listen(digest);
});
after(async () => {
  await source?.close();
  await sink?.close();
});
afterEach(async () => {
  await stack?.stop('SIGTERM');
  await lab?.end();
  stack = undefined;
  lab = undefined;
});

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
