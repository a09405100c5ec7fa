/**
 * The demo's host side: an HTTP server, a DNS responder and two plain TCP servers; then `tslirp run` with the client in it.
 *
 * Runs inside a network namespace that scripts/demo.sh has prepared. The exit status is 0 only if every check of the guest
 * held and the host side saw what it should have seen, and nothing else.
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server } from 'node:net';
import { fileURLToPath } from 'node:url';
import { startDnsResponder } from '../support/dns-responder.ts';
import {
  BLOCKED,
  DEMO_NAME,
  HTTP_PORT,
  hostInUrl,
  SERVER4,
  SERVER6,
  SINK_PORT,
  SIZES,
  SOURCE_PORT,
} from './plan.ts';

const TIME_LIMIT_MS = 60_000;
const launcher = fileURLToPath(new URL('../../../bin/tslirp', import.meta.url));
const client = fileURLToPath(new URL('./guest.js', import.meta.url));

const bodies = new Map(SIZES.map((size) => [size, randomBytes(size)]));
const sums = Object.fromEntries(
  [...bodies].map(([size, body]) => [size, createHash('sha256').update(body).digest('hex')]),
);
let blockedSeen = 0;

function serveFiles(address: string): Server {
  return createHttpServer((request, response) => {
    const body = bodies.get(Number(request.url?.slice(1)));
    if (request.method === 'GET' && body !== undefined) {
      response.end(body);
      return;
    }
    const hash = createHash('sha256');
    request.on('data', (part: Buffer) => hash.update(part)).on('end', () => response.end(hash.digest('hex')));
  }).listen(HTTP_PORT, address);
}

const block = Buffer.alloc(1024 * 1024);
const servers: Server[] = [
  serveFiles(SERVER4),
  serveFiles(SERVER6),
  createServer((socket) => {
    const fill = (): void => {
      while (socket.writable && socket.write(block));
    };
    socket.on('drain', fill).on('error', () => undefined);
    fill();
  }).listen(SOURCE_PORT, SERVER4),
  createServer((socket) => {
    socket.resume().on('error', () => undefined);
  }).listen(SINK_PORT, SERVER4),
  createServer((socket) => {
    blockedSeen++;
    socket.destroy();
  }).listen(HTTP_PORT, BLOCKED),
];
await Promise.all(servers.map((server) => server.listening || once(server, 'listening')));
const dns = await startDnsResponder(SERVER4, new Map([[DEMO_NAME, [SERVER4, SERVER6]]]));

const [four, six] = [SERVER4, `[${SERVER6}]`];
const allowed = [
  `tcp://${four}:${HTTP_PORT}-${SINK_PORT}`,
  `tcp://${hostInUrl(SERVER6)}:${HTTP_PORT}`,
  `icmp://${four}`,
  `icmp://${six}`,
].join(',');
const { DEMO_USER: user = 'root', ...env } = process.env;
const args = ['run', '--log-level', 'warn', '--dns', SERVER4, '--allow', allowed];
console.log(`host:  servers on ${SERVER4}, ${SERVER6} and ${BLOCKED}, as ${user}`);
console.log(`$ tslirp ${args.join(' ')} -- node guest.js\n`);
const child = spawn(launcher, [...args, '--', process.execPath, client], {
  stdio: 'inherit',
  env: { ...env, DEMO_SUMS: JSON.stringify(sums) },
});
const timer = setTimeout(() => {
  console.error(`not finished after ${TIME_LIMIT_MS / 1000} s`);
  child.kill('SIGKILL');
}, TIME_LIMIT_MS);
const [status] = (await once(child, 'exit')) as [number | null];
clearTimeout(timer);

console.log(
  `\nhost:  ${dns.queries} DNS queries answered; ${blockedSeen} connections reached the blocked address`,
);
const good = status === 0 && blockedSeen === 0 && dns.queries > 0;
console.log(good ? 'demo: everything held' : `demo: FAILED (guest ended with ${status})`);
process.exit(good ? 0 : 1);
