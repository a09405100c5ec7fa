/**
 * An agent: a program at one end of a stack, run inside a namespace by the benchmark. Reads requests from stdin, one
 * JSON line each, with blocking calls, and answers on stdout. Ends when stdin does.
 */
import { readSync, writeSync } from 'node:fs';
import { apiCalls } from './api-calls.ts';
import { connects, hold, reach, release, roundTrips } from './clients.ts';
import { greet, meet, openSocket, receiveCounted, sendPaced } from './datagrams.ts';
import { askDns, serveDns } from './dns.ts';
import { firstBytes, firstConnects, firstDatagrams } from './first.ts';
import type { Operation, Operations } from './protocol.ts';
import { serveBytes, serveConnections, serveDatagrams, serveNames, serveStream } from './serve.ts';
import { sparse } from './sparse.ts';

type Handlers = { [O in Operation]: (request: Operations[O]['request']) => Operations[O]['reply'] };

function respond(reply: object): void {
  writeSync(1, `${JSON.stringify(reply)}\n`);
}

const ready = (): void => respond({});

const handlers: Handlers = {
  'serve-connections': ({ port }) => serveConnections(port, ready),
  'serve-stream': ({ port }) => serveStream(port, ready),
  'serve-datagrams': ({ address, port }) => serveDatagrams(address, port, ready),
  'serve-bytes': ({ port }) => serveBytes(port, ready),
  'serve-names': ({ address }) => serveNames(address, ready),
  'serve-dns': ({ address, port }) => serveDns(address, port, ready),
  'dns-ask': askDns,
  reach,
  'round-trips': roundTrips,
  connects,
  'first-connects': firstConnects,
  'first-bytes': firstBytes,
  'first-datagrams': firstDatagrams,
  sparse,
  'api-calls': apiCalls,
  hold,
  release,
  'datagram-open': openSocket,
  'datagram-greet': greet,
  'datagram-meet': meet,
  'datagram-send': sendPaced,
  'datagram-receive': receiveCounted,
};

const chunk = Buffer.alloc(65536);
let pending = '';
for (let length = readSync(0, chunk); length > 0; length = readSync(0, chunk)) {
  pending += chunk.toString('utf8', 0, length);
  for (let end = pending.indexOf('\n'); end >= 0; end = pending.indexOf('\n')) {
    const line = pending.slice(0, end);
    pending = pending.slice(end + 1);
    try {
      const { operation, request } = JSON.parse(line) as { operation: Operation; request: never };
      respond(handlers[operation](request));
    } catch (error) {
      respond({ error: error instanceof Error ? error.message : String(error) });
    }
  }
}
