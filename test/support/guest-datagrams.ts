/** A UDP server inside a guest: a Node program of its own that tells on its output whom it heard. */
import type { Namespace } from './namespaces.ts';
import { until } from './wait.ts';

export interface GuestDatagrams extends AsyncDisposable {
  /** `address port bytes` of each datagram since the last time this was asked, oldest first. */
  heard: () => Promise<string[]>;
}

/** Sends everything back: from `port` at `host`, or from another port when it is told "stray". */
function program(): void {
  const dgram = require('node:dgram') as typeof import('node:dgram');
  const [host, port] = process.argv.slice(1) as [string, string];
  const type = host.includes(':') ? 'udp6' : 'udp4';
  const server = dgram.createSocket({ type, recvBufferSize: 1 << 20 });
  const other = dgram.createSocket(type);
  server.on('message', (message, peer) => {
    process.stdout.write(`${peer.address} ${peer.port} ${message.length}\n`);
    if (message.toString() === 'stray') other.send('from elsewhere', peer.port, peer.address);
    if (message.toString() === 'twice') server.send(message, peer.port, peer.address);
    server.send(message, peer.port, peer.address);
  });
  // Asked on its input, it says that all it heard so far was told.
  process.stdin.on('data', () => process.stdout.write('all\n'));
  server.bind(Number(port), host, () => process.stdout.write('ready\n'));
}

export async function guestDatagrams(guest: Namespace, host: string, port: number): Promise<GuestDatagrams> {
  const running = guest.start([process.execPath, '-e', `(${program.toString()})()`, host, String(port)]);
  try {
    await running.firstLine();
  } catch (error) {
    await running.stop();
    throw error;
  }
  running.stdout = '';
  return {
    heard: async () => {
      running.child.stdin?.write('?');
      await until(() => running.stdout.endsWith('all\n'), 'what the server heard');
      const lines = running.stdout.split('\n').slice(0, -2);
      running.stdout = '';
      return lines;
    },
    [Symbol.asyncDispose]: async () => {
      await running.stop();
    },
  };
}
