/** A TCP server inside a guest: a Node program of its own that tells on its output who connected. */
import type { Namespace } from './namespaces.ts';
import type { Running } from './processes.ts';

export interface GuestServer extends AsyncDisposable {
  readonly port: number;
  /** `address port` of each client, as the server sees it, oldest first. */
  clients: () => string[];
  process: Running;
}

/**
 * What it does with a client. `echo`: sends back what comes and ends when the client does. `digest`: answers with the
 * SHA-256 of all that came, at its end. `greet`: says "hello" at once and ends. `reset`: resets after the first bytes.
 * `stuck`: never reads. `source`: sends 8 MiB that are the same every time, then reads to the end.
 */
export type Serving = 'echo' | 'digest' | 'greet' | 'reset' | 'stuck' | 'source';

function program(): void {
  const net = require('node:net') as typeof import('node:net');
  const { createHash } = require('node:crypto') as typeof import('node:crypto');
  const [serving, host, port] = process.argv.slice(1) as [Serving, string, string];
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: serving === 'stuck' }, (socket) => {
    process.stdout.write(`${socket.remoteAddress} ${socket.remotePort}\n`);
    socket.on('error', (error) => process.stderr.write(`${(error as NodeJS.ErrnoException).code}\n`));
    socket.on('end', () => process.stderr.write('end\n'));
    if (serving === 'echo') socket.pipe(socket);
    if (serving === 'greet') socket.end('hello');
    if (serving === 'reset') socket.once('data', () => socket.resetAndDestroy());
    if (serving === 'source') {
      socket.resume().end(
        createHash('shake256', { outputLength: 8 << 20 })
          .update('tslirp')
          .digest(),
      );
    }
    if (serving === 'digest') {
      const hash = createHash('sha256');
      socket.on('data', (part) => hash.update(part)).on('end', () => socket.end(hash.digest('hex')));
    }
  });
  server.listen({ host, port: Number(port), backlog: 4096 }, () => {
    process.stdout.write(`${(server.address() as import('node:net').AddressInfo).port}\n`);
  });
}

export async function guestServer(
  guest: Namespace,
  serving: Serving,
  port = 0,
  host = '::',
): Promise<GuestServer> {
  const running = guest.start([
    process.execPath,
    '-e',
    `(${program.toString()})()`,
    serving,
    host,
    String(port),
  ]);
  try {
    const bound = Number(await running.firstLine(10_000));
    return {
      port: bound,
      process: running,
      clients: () => running.stdout.split('\n').slice(1, -1),
      [Symbol.asyncDispose]: async () => {
        await running.stop();
      },
    };
  } catch (error) {
    await running.stop();
    throw error;
  }
}
