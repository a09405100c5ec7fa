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
 * `mute`: reads, says nothing and does not end. `source`: sends 8 MiB that are the same every time, then reads to the end.
 */
export type Serving = 'echo' | 'digest' | 'greet' | 'reset' | 'mute' | 'source';

function program(): void {
  const net = require('node:net') as typeof import('node:net');
  const { createHash } = require('node:crypto') as typeof import('node:crypto');
  const [serving, host, port, count] = process.argv.slice(1) as [Serving, string, string, string];
  const options = { allowHalfOpen: true };
  const serve = (socket: import('node:net').Socket): void => {
    process.stdout.write(`${socket.remoteAddress} ${socket.remotePort}\n`);
    socket.on('error', (error) => process.stderr.write(`${(error as NodeJS.ErrnoException).code}\n`));
    socket.on('end', () => process.stderr.write('end\n'));
    if (serving === 'mute') socket.resume();
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
  };
  let waiting = Number(count);
  for (let i = 0; i < Number(count); i++) {
    const server = net.createServer(options, serve);
    server.listen({ host, port: Number(port) + i, backlog: 4096 }, () => {
      if (--waiting > 0) return;
      process.stdout.write(`${(server.address() as import('node:net').AddressInfo).port}\n`);
    });
  }
}

/** Serves `count` ports from `port` on. */
export async function guestServer(
  guest: Namespace,
  serving: Serving,
  port = 0,
  host = '::',
  count = 1,
): Promise<GuestServer> {
  const running = guest.start([
    process.execPath,
    '-e',
    `(${program.toString()})()`,
    serving,
    host,
    String(port),
    String(count),
  ]);
  try {
    const bound = Number(await running.firstLine());
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
