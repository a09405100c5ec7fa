/** TCP servers on the host side of end-to-end tests: in the test's own process, on a free port of the wildcard address. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

export interface TestServer {
  readonly port: number;
  readonly server: Server;
  /** Sockets that are open. */
  readonly sockets: Set<Socket>;
  /** Connections there have been. */
  accepted: number;
  /** Ends the server and what is connected to it. */
  close: () => Promise<void>;
}

/** Serves both families; half-close is left to `serve`. */
export async function listen(serve: (socket: Socket) => void, port = 0): Promise<TestServer> {
  const server = createServer({ allowHalfOpen: true });
  const sockets = new Set<Socket>();
  server.listen({ port, host: '::', backlog: 4096 });
  await once(server, 'listening');
  const result: TestServer = {
    port: (server.address() as AddressInfo).port,
    server,
    sockets,
    accepted: 0,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      if (server.listening) await once(server, 'close');
    },
  };
  server.on('connection', (socket) => {
    result.accepted++;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => undefined);
    serve(socket);
  });
  return result;
}

/** Sends back what comes, and ends when the peer does. */
export function echo(socket: Socket): void {
  socket.pipe(socket);
}

/** Reads to the end, then answers with the SHA-256 in hexadecimal of what came. */
export function digest(socket: Socket): void {
  const hash = createHash('sha256');
  socket.on('data', (part: Buffer) => hash.update(part)).on('end', () => socket.end(hash.digest('hex')));
}

/** Bytes that look random and are the same for the same size, here and wherever else SHAKE256 is at hand. */
export function sampleBytes(size: number): Buffer {
  if (size === 0) return Buffer.alloc(0);
  return createHash('shake256', { outputLength: size }).update('tslirp').digest();
}

export function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
