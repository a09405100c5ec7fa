/**
 * The metrics and health endpoint: HTTP on a TCP address or a unix socket.
 *
 *   /health          200 `ok`
 *   /debug/pprof/    the index page that Go programs have there; this one has no profiles
 *   /metrics         the data plane's counters and gauges, for Prometheus
 *
 * Limits: 64 connections, a request within 5 s, an answer within 35 s. Every method is answered as GET is.
 */
import { existsSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname } from 'node:path';
import type { Endpoint } from '../config.ts';
import { formatEndpoint } from '../stack/wire/address.ts';

export type MetricsListen = Endpoint | { path: string };

/** The page that `/metrics` answers with, and its type. */
export interface MetricsPage {
  type: string;
  text: string;
}

const CONNECTIONS_MAX = 64;
const ENOENT = 2;
const READ_MS = 5000;
const WRITE_MS = 35_000;

const INDEX = `<html>
<head>
<title>/debug/pprof/</title>
</head>
<body>
/debug/pprof/<br>
<p>Types of profiles available:</p>
<table>
<tr><td>none: this program is not written in Go</td></tr>
</table>
<p>Counters are at <a href="/metrics">/metrics</a>.</p>
</body>
</html>
`;

export class MetricsServer {
  readonly #server: Server;
  readonly #page: () => Promise<MetricsPage>;
  #path = '';

  constructor(page: () => Promise<MetricsPage>) {
    this.#page = page;
    this.#server = createServer(
      {
        headersTimeout: READ_MS,
        requestTimeout: READ_MS,
        keepAliveTimeout: READ_MS,
        connectionsCheckingInterval: 1000,
      },
      (request, response) => void this.#answer(request, response),
    );
    this.#server.maxConnections = CONNECTIONS_MAX;
    this.#server.on('clientError', (_error, socket) => socket.destroy());
  }

  /** Resolves to the address really bound, as text; rejects with the system's error. */
  listen(at: MetricsListen): Promise<string> {
    return new Promise((resolve, reject) => {
      // libuv tells of a directory that does not exist as of one that may not be written.
      const refused = (error: NodeJS.ErrnoException): void => {
        const missing = 'path' in at && !existsSync(dirname(at.path));
        reject(missing ? Object.assign(error, { code: 'ENOENT', errno: -ENOENT }) : error);
      };
      this.#server.once('error', refused);
      const bound = (): void => {
        this.#server.removeListener('error', refused);
        // From now on errors are of single connections (no descriptors left), and only cost those.
        this.#server.on('error', () => undefined);
        if ('path' in at) this.#path = at.path;
        resolve(this.#text());
      };
      if ('path' in at) this.#server.listen(at.path, bound);
      else this.#server.listen({ host: at.address, port: at.port }, bound);
    });
  }

  /** Ends at once; the socket's file goes with it. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
    if (this.#path === '') return;
    try {
      unlinkSync(this.#path);
    } catch {
      // Removed by somebody else.
    }
  }

  #text(): string {
    if (this.#path !== '') return this.#path;
    return formatEndpoint(this.#server.address() as AddressInfo);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.setTimeout(WRITE_MS, () => response.destroy());
    request.resume();
    const path = (request.url ?? '').split('?', 1)[0];
    const send = (status: number, type: string, body: string): void => {
      response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
      response.end(body);
    };
    switch (path) {
      case '/health':
        send(200, 'text/plain; charset=utf-8', 'ok');
        return;
      case '/debug/pprof':
        response.setHeader('location', '/debug/pprof/');
        send(301, 'text/html; charset=utf-8', '<a href="/debug/pprof/">Moved Permanently</a>.\n\n');
        return;
      case '/debug/pprof/':
        send(200, 'text/html; charset=utf-8', INDEX);
        return;
      case '/metrics':
        try {
          const { type, text } = await this.#page();
          send(200, type, text);
        } catch {
          send(503, 'text/plain; charset=utf-8', 'the data plane does not answer\n');
        }
        return;
      default:
        send(404, 'text/plain; charset=utf-8', '404 page not found\n');
    }
  }
}
