/**
 * A name server on loopback for tests of the resolver: each question is answered by a function, which may also answer
 * wrongly, twice or not at all.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { type Answer, type DecodedPacket, decode, encode, type Packet } from 'dns-packet';

export interface Asked {
  name: string;
  type: string;
  id: number;
  from: RemoteInfo;
}

export interface NameServer extends AsyncDisposable {
  port: number;
  asked: Asked[];
  socket: Socket;
}

export type Reply = (asked: Asked, query: DecodedPacket) => (Packet | Buffer)[];

export async function startNameServer(reply: Reply, port = 0): Promise<NameServer> {
  const socket = createSocket('udp4');
  const asked: Asked[] = [];
  socket.on('message', (message, from) => {
    const query = decode(message);
    const [question = { name: '', type: '' }] = query.questions ?? [];
    const entry = { name: question.name, type: question.type, id: query.id ?? 0, from };
    asked.push(entry);
    for (const packet of reply(entry, query)) {
      socket.send(Buffer.isBuffer(packet) ? packet : encode(packet), from.port, from.address);
    }
  });
  socket.bind(port, '127.0.0.1');
  await once(socket, 'listening');
  return {
    port: socket.address().port,
    asked,
    socket,
    [Symbol.asyncDispose]: async () => {
      socket.close();
      await once(socket, 'close');
    },
  };
}

/** The right answer to a query, with these records. */
export function answerTo(query: DecodedPacket, answers: Answer[], change: Partial<Packet> = {}): Packet {
  return {
    type: 'response',
    id: query.id ?? 0,
    ...(query.questions === undefined ? {} : { questions: query.questions }),
    answers,
    ...change,
  };
}

/** A server of a table: `type name` → records. What is not in it does not exist. */
export function tableReply(table: Record<string, Answer[]>): Reply {
  return ({ name, type }, query) => {
    const records = table[`${type} ${name}`];
    // 3 is NXDOMAIN.
    return [answerTo(query, records ?? [], records === undefined ? { flags: 3 } : {})];
  };
}

export function srv(name: string, target: string, port: number, priority = 0, weight = 0): Answer {
  return { type: 'SRV', name, data: { target, port, priority, weight } };
}

export function address(name: string, data: string): Answer {
  return { type: data.includes(':') ? 'AAAA' : 'A', name, data };
}
