/** A program in a guest that listens as it is told, and says back whatever a client says. */
import { createInterface } from 'node:readline';
import type { Namespace } from './namespaces.ts';
import type { Running } from './processes.ts';
import { within } from './wait.ts';

/** What it calls itself. */
export const LISTENER_NAME = 'nginx';

const PROGRAM = `
const { createServer } = require('node:net');
const { createSocket } = require('node:dgram');
process.title = '${LISTENER_NAME}';
const open = new Map();
const opened = {
  tcp: (ip, port, done) => {
    const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
    server.listen({ host: ip, port, ipv6Only: false }, done);
    return server;
  },
  udp: (ip, port, done) => {
    const socket = createSocket({ type: ip.includes(':') ? 'udp6' : 'udp4' });
    socket.on('message', (message, from) => socket.send(message, from.port, from.address));
    socket.bind(port, ip, done);
    return socket;
  },
};
require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const [word, proto, ip, port] = line.split(' ');
  const key = proto + ip + port;
  const done = () => console.log(line);
  if (word === 'churn') {
    // At once, and gone again.
    const servers = Array.from({ length: Number(proto) }, (_, i) => opened.tcp(ip, Number(port) + i, () => undefined));
    setTimeout(() => {
      for (const server of servers.slice(1)) server.close();
      servers[0].close(done);
    }, 100);
  } else if (word === 'many') {
    let left = Number(proto);
    for (let i = 0; i < Number(proto); i++)
      opened.tcp(ip, Number(port) + i, () => --left === 0 && done());
  } else if (word === 'open') open.set(key, opened[proto](ip, Number(port), done));
  else open.get(key).close(done);
});
`;

export class GuestListeners {
  readonly #running: Running;
  readonly #waiting = new Map<string, () => void>();

  constructor(namespace: Pick<Namespace, 'start'>) {
    this.#running = namespace.start([process.execPath, '-e', PROGRAM]);
    createInterface({ input: this.#running.child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      this.#waiting.get(line)?.();
    });
  }

  open(proto: 'tcp' | 'udp', ip: string, port: number): Promise<void> {
    return this.#tell(`open ${proto} ${ip} ${port}`);
  }

  close(proto: 'tcp' | 'udp', ip: string, port: number): Promise<void> {
    return this.#tell(`close ${proto} ${ip} ${port}`);
  }

  /** `count` TCP listeners come, and stay. */
  openMany(ip: string, port: number, count: number): Promise<void> {
    return this.#tell(`many ${count} ${ip} ${port}`);
  }

  /** `count` TCP listeners come and go within a moment. */
  churn(ip: string, port: number, count: number): Promise<void> {
    return this.#tell(`churn ${count} ${ip} ${port}`);
  }

  async stop(): Promise<void> {
    await this.#running.stop();
  }

  #tell(line: string): Promise<void> {
    const done = new Promise<void>((resolve) => this.#waiting.set(line, resolve));
    this.#running.child.stdin?.write(`${line}\n`);
    return within(done, `${line} (${this.#running.stderr})`);
  }
}
