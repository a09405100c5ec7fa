/** A UDP socket of the host that keeps what comes. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { PATIENCE_MS, until } from './wait.ts';

export interface Received {
  data: Buffer;
  /** `address port`. */
  from: string;
}

export class DatagramClient implements AsyncDisposable {
  readonly socket: Socket;
  readonly received: Received[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('message', (data, peer) => {
      this.received.push({ data, from: `${peer.address} ${peer.port}` });
    });
  }

  /** A socket bound to `host`. */
  static async at(host: string): Promise<DatagramClient> {
    const type = host.includes(':') ? 'udp6' : 'udp4';
    const socket = createSocket({ type, recvBufferSize: 1 << 20 });
    socket.bind(0, host);
    await once(socket, 'listening');
    return new DatagramClient(socket);
  }

  send(data: Buffer | string, port: number, host: string): void {
    this.socket.send(data, port, host);
  }

  /** Wait until `count` datagrams have come in all; their payloads and senders. */
  async have(count: number, limitMs: number = PATIENCE_MS): Promise<Received[]> {
    await until(() => this.received.length >= count, `datagram ${count}`, limitMs);
    return this.received;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.close();
    await once(this.socket, 'close');
  }
}

/** Of a forward on `port` of a wildcard, a client at `from` asks `to`, and its own address: each answers for itself. */
export async function assertAnswersFromContacted(port: number, from: string, to: string): Promise<void> {
  await using client = await DatagramClient.at(from);
  client.send('one', port, to);
  client.send('two', port, from);
  const answers = await client.have(2);
  assert.deepEqual(
    answers.map(({ data, from: sender }) => `${data.toString()} ${sender}`),
    [`one ${to} ${port}`, `two ${from} ${port}`],
  );
}
