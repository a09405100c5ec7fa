/**
 * Where clients of a WebSocket come to be guests: who may, how many at a time, and what each is to speak (RFC 6455). What
 * follows is web-socket-client.ts.
 *
 * A page of anybody's can have a browser connect to any address, so that the browser's word for whose page it is counts:
 * `Origin`. Without one it is no browser. A token is looked for in the query (`?token=`) and among the subprotocols; it is
 * compared in constant time.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, STATUS_CODES } from 'node:http';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WebSocket, WebSocketServer } from 'ws';
import { listenOn, type SocketFileError } from '../api/socket-file.ts';
import { errnoTextOf } from '../control/errno-text.ts';
import type { Log } from '../control/log.ts';
import type { SocketPlace, WebSocketTarget } from '../device-spec.ts';
import { formatEndpoint } from '../stack/wire/address.ts';
import { Library } from './library.ts';
import { WebSocketClient } from './web-socket-client.ts';

/** An Ethernet header with a VLAN tag. */
const AROUND_PACKET = 18;
/** Of a stream of frames, a piece. */
const PIECE_BYTES = 1024 * 1024;
/** Connections that have not asked for anything yet, besides clients. */
const SPARE_CONNECTIONS = 16;
const STREAM_PATH = '/be32';

/** A guest for a client: the descriptor that its frames go to and come from. */
export interface DoorGuest {
  fd: number;
}

export interface DoorOptions {
  target: WebSocketTarget;
  mtu: number;
  log: Log;
  /** A guest for one more client; rejects with one line. It ends when the descriptor is closed. */
  guest: () => Promise<DoorGuest>;
  /** Where the library is; tests have other places. */
  directory?: URL;
}

export class WebSocketDoor {
  readonly #options: DoorOptions;
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  readonly #clients = new Set<WebSocketClient>();
  /** Those for whom there is no guest yet. */
  #coming = 0;
  /** Who comes before guests can be made waits. */
  readonly #early: (() => void)[] = [];
  #isOpen = false;

  constructor(options: DoorOptions) {
    this.#options = options;
    const { target, mtu } = options;
    const { WebSocketServer: Made } = new Library<typeof import('ws')>(
      'web-socket',
      options.directory,
    ).load();
    this.#sockets = new Made({
      ...{ noServer: true, perMessageDeflate: false, clientTracking: false },
      maxPayload: Math.max(mtu + AROUND_PACKET, target.framing === 'be32' ? PIECE_BYTES : 0),
      handleProtocols: (offered) => (target.token !== '' && offered.has(target.token) ? target.token : false),
    });
    this.#http = createServer((_request, response) => {
      response.writeHead(426, { Upgrade: 'websocket', Connection: 'close' }).end();
    });
    this.#http.maxConnections = target.clients + SPARE_CONNECTIONS;
    this.#http.on('upgrade', (request, socket, head) => this.#onUpgrade(request, socket, head));
  }

  /** Resolves when clients may come. Rejects with one line. */
  async listen(): Promise<void> {
    const { at } = this.#options.target;
    if (at.family !== 'unix') return this.#listenAt(at);
    try {
      await listenOn(this.#http, at.path);
    } catch (error) {
      throw new Error(`cannot listen at ${at.path}: ${(error as SocketFileError).reason}`);
    }
  }

  #listenAt(at: SocketPlace): Promise<void> {
    if (at.family !== 'ip') return Promise.reject(new Error('a WebSocket is on an address or a path'));
    return new Promise((resolve, reject) => {
      const failed = (error: unknown): void =>
        reject(new Error(`cannot listen at ${formatEndpoint(at)}: ${errnoTextOf(error)}`));
      this.#http.once('error', failed);
      this.#http.listen({ host: at.address, port: at.port, exclusive: true }, () => {
        this.#http.off('error', failed);
        resolve();
      });
    });
  }

  /** Guests can be made from now on. */
  admit(): void {
    this.#isOpen = true;
    for (const go of this.#early.splice(0)) go();
  }

  /** Where it listens, if that is a port. */
  get port(): number {
    const address = this.#http.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  close(): void {
    this.#http.close();
    for (const client of this.#clients) client.end('ending');
    this.#http.closeAllConnections();
  }

  #onUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const { target, log } = this.#options;
    const url = new URL(request.url ?? '/', 'ws://localhost');
    const isStream = isStreamAt(target, url.pathname);
    const status = isStream === undefined ? 404 : this.#judge(request, url);
    if (status !== 0) {
      log.log('warn', `a client was refused: ${STATUS_CODES[status]}`, {
        ...{ status, origin: request.headers.origin ?? null },
      });
      socket.end(
        `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
      );
      return;
    }
    this.#coming++;
    let isUpgraded = false;
    socket.once('close', () => {
      // The library has refused it.
      if (!isUpgraded) this.#coming--;
    });
    const go = (): void =>
      this.#sockets.handleUpgrade(request, socket, head, (client) => {
        isUpgraded = true;
        void this.#admit(client, isStream === true);
      });
    if (this.#isOpen) go();
    else this.#early.push(go);
  }

  /** 0, or the status with which it is refused. */
  #judge(request: IncomingMessage, url: URL): number {
    const { target } = this.#options;
    if (!mayComeFrom(request, target)) return 403;
    if (target.token !== '' && !hasToken(request, url, target.token)) return 401;
    return this.#clients.size + this.#coming >= target.clients ? 503 : 0;
  }

  async #admit(socket: WebSocket, isStream: boolean): Promise<void> {
    const { log } = this.#options;
    // Until there is a guest nothing is read.
    socket.pause();
    socket.on('error', () => undefined);
    try {
      const { fd } = await this.#options.guest();
      const client = new WebSocketClient(socket, new Socket({ fd }), isStream, (why) => {
        this.#clients.delete(client);
        log.log('info', `a client has gone: ${why}`);
      });
      this.#clients.add(client);
      socket.resume();
    } catch (error) {
      log.log('warn', `a client cannot be served: ${(error as Error).message}`);
      socket.terminate();
    } finally {
      this.#coming--;
    }
  }
}

/** Whether messages at `path` are pieces of a stream; undefined: there is nothing. */
function isStreamAt({ path, framing }: WebSocketTarget, asked: string): boolean | undefined {
  if (asked === path) return framing === 'be32';
  return asked === `${path.replace(/\/$/, '')}${STREAM_PATH}` ? true : undefined;
}

function mayComeFrom({ headers }: IncomingMessage, { origins }: WebSocketTarget): boolean {
  const { origin, host } = headers;
  if (origin === undefined) return true;
  if (origins.length > 0) return origins.includes('*') || origins.includes(origin);
  return host !== undefined && (origin === `http://${host}` || origin === `https://${host}`);
}

function hasToken({ headers }: IncomingMessage, url: URL, token: string): boolean {
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((word) => word.trim());
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  const wanted = digest(token);
  return [url.searchParams.get('token') ?? '', ...offered].some((word) =>
    timingSafeEqual(digest(word), wanted),
  );
}
