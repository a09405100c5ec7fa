/**
 * This program's own ends of the guest's connections. Into the guest: the data plane hands over a connected socket. Out of it:
 * forwards whose other end is a socket of ours, a unix socket in a directory that nobody else can look into, or, for
 * datagrams, which the runtime has no unix sockets for, a port of the loopback.
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, isIPv6, type Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Duplex, Readable } from 'node:stream';
import { getSystemErrorMap } from 'node:util';
import type { AddressPlan, ForwardSpec } from '../config.ts';
import { type EngineClient, ForwardRefused, type OpenForward } from '../control/engine-client.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { badConfig } from './errors.ts';
import type { GuestListener } from './tunnel.ts';
import type { GuestPlace, ListenPlace } from './types.ts';

const LOOPBACK = '127.0.0.1';
/** Connections that were accepted and not taken yet. */
const ACCEPTED_MAX = 128;

/** What of the data plane is needed for that. */
export type SocketsEngine = Pick<EngineClient, 'dial' | 'addForward' | 'removeForward'>;

/** What is open on behalf of a tunnel, and ends with it. */
export class GuestSockets {
  readonly #client: SocketsEngine;
  readonly #plan: Pick<AddressPlan, 'gateway4'>;
  readonly #open = new Set<() => void>();

  constructor(client: SocketsEngine, plan: Pick<AddressPlan, 'gateway4'>) {
    this.#client = client;
    this.#plan = plan;
  }

  async dial({ host, port }: GuestPlace): Promise<Duplex> {
    const target = place(host, port);
    let fd: number;
    try {
      fd = await this.#client.dial(target);
    } catch (error) {
      throw error instanceof ForwardRefused ? socketError('connect', error.errno, host, port) : error;
    }
    const socket = new Socket({ fd, allowHalfOpen: true, readable: true, writable: true });
    this.#keep(socket, () => socket.destroy());
    return socket;
  }

  /** Sockets that the guest has opened to `at`. */
  async listen({ host, port }: ListenPlace): Promise<GuestListener> {
    const bind = place(host ?? this.#plan.gateway4, port);
    const directory = mkdtempSync(join(tmpdir(), 'tslirp-'));
    const path = join(directory, 's');
    const server = createServer({ allowHalfOpen: true });
    let forward: OpenForward;
    try {
      server.listen(path);
      await once(server, 'listening');
      forward = await this.#remote('tcp', bind, { kind: 'unix', path });
    } catch (error) {
      server.close();
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
    const listener = new Listener(server, bind.address, bind.port, async () => {
      this.#open.delete(end);
      rmSync(directory, { recursive: true, force: true });
      await this.#client.removeForward(forward.id).catch(() => undefined);
    });
    const end = (): void => void listener.close();
    this.#open.add(end);
    return listener;
  }

  async dialDatagrams({ host, port }: GuestPlace): Promise<DatagramSocket> {
    const target = place(host, port);
    const forward = await this.#client.addForward({
      ...{ direction: 'local', protocol: 'udp', target, proxyHeader: false, rpc: false, source: 'gateway' },
      ...{ listen: { kind: 'ip', address: LOOPBACK, port: 0 }, dualStack: false, isIdle: false },
    });
    const socket = createSocket('udp4');
    const { listen } = forward;
    socket.connect(listen.kind === 'ip' ? listen.port : 0, LOOPBACK);
    await once(socket, 'connect');
    this.#keepForward(socket, forward);
    return socket;
  }

  async listenDatagrams({ host, port }: ListenPlace): Promise<DatagramSocket> {
    const bind = place(host ?? this.#plan.gateway4, port);
    const socket = createSocket('udp4');
    socket.bind(0, LOOPBACK);
    await once(socket, 'listening');
    try {
      const end = { kind: 'ip' as const, address: LOOPBACK, port: socket.address().port };
      this.#keepForward(socket, await this.#remote('udp', bind, end));
    } catch (error) {
      socket.close();
      throw error;
    }
    return socket;
  }

  /** The tunnel is over. */
  end(): void {
    for (const end of [...this.#open]) end();
    this.#open.clear();
  }

  #remote(
    protocol: 'tcp' | 'udp',
    bind: { address: string; port: number },
    target: Extract<ForwardSpec, { direction: 'remote' }>['target'],
  ): Promise<OpenForward> {
    return this.#client.addForward({
      direction: 'remote',
      protocol,
      bind,
      target,
      proxyHeader: 0,
      rpc: false,
    });
  }

  #keepForward(socket: DatagramSocket, { id }: OpenForward): void {
    this.#keep(socket, () => socket.close());
    socket.once('close', () => void this.#client.removeForward(id).catch(() => undefined));
  }

  #keep(socket: Socket | DatagramSocket, end: () => void): void {
    this.#open.add(end);
    socket.once('close', () => this.#open.delete(end));
  }
}

class Listener implements GuestListener {
  readonly at: { host: string; port: number };
  readonly #server: Server;
  readonly #accepted: Readable;
  readonly #closed: () => Promise<void>;
  #closing: Promise<void> | undefined;

  constructor(server: Server, host: string, port: number, closed: () => Promise<void>) {
    this.at = { host, port };
    this.#server = server;
    this.#closed = closed;
    server.maxConnections = Number.POSITIVE_INFINITY;
    this.#accepted = new Readable({ objectMode: true, highWaterMark: ACCEPTED_MAX, read: () => undefined });
    server.on('connection', (socket) => {
      // Whoever takes it says what becomes of it; until then nobody listens for its errors.
      socket.once('error', () => socket.destroy());
      if (this.#accepted.destroyed || this.#accepted.readableLength >= ACCEPTED_MAX) socket.destroy();
      else this.#accepted.push(socket);
    });
  }

  [Symbol.asyncIterator](): AsyncIterator<Duplex> {
    return this.#accepted.iterator({ destroyOnReturn: false });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#server.close();
    // Nobody will take them any more.
    for (;;) {
      const waiting = this.#accepted.read() as Socket | null;
      if (waiting === null) break;
      waiting.destroy();
    }
    this.#accepted.push(null);
    await this.#closed();
  }
}

/** A literal address, canonically written. @throws TslirpError */
function place(host: string, port: number): { address: string; port: number } {
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw badConfig('port', 'want 1 to 65535');
  try {
    return { address: parseIpAddress(host).toString(), port };
  } catch {
    throw badConfig('host', `${JSON.stringify(host)} is no address`);
  }
}

/** As node:net has it. */
function socketError(syscall: string, errno: number, address: string, port: number): Error {
  const [code = 'UNKNOWN'] = getSystemErrorMap().get(-errno) ?? [];
  const to = isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
  return Object.assign(new Error(`${syscall} ${code} ${to}`), {
    errno: -errno,
    code,
    syscall,
    address,
    port,
  });
}
