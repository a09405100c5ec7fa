/**
 * A name server for tests and the demo: answers A, AAAA and TXT from a table, over UDP and TCP, and counts what it was asked.
 *
 * UDP answers larger than 512 bytes, or than what the query's OPT record allows (RFC 6891 §6.2.3), are cut with TC set.
 * Left out: everything else a name server does.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, isIPv4, isIPv6 } from 'node:net';

export interface DnsResponder {
  /** Queries received, by either transport. */
  queries: number;
  overTcp: number;
  close: () => void;
}

const TYPE_A = 1;
const TYPE_TXT = 16;
const TYPE_AAAA = 28;
const TYPE_OPT = 41;

function addressBytes6(text: string): Buffer {
  const [head = '', tail] = text.split('::');
  const words = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((word) => parseInt(word, 16));
  const left = words(head);
  const right = tail === undefined ? [] : words(tail);
  const bytes = Buffer.alloc(16);
  left.forEach((word, index) => {
    bytes.writeUInt16BE(word, index * 2);
  });
  right.forEach((word, index) => {
    bytes.writeUInt16BE(word, 16 - (right.length - index) * 2);
  });
  return bytes;
}

function recordData(type: number, values: readonly string[]): Buffer[] {
  if (type === TYPE_A)
    return values.filter((value) => isIPv4(value)).map((value) => Buffer.from(value.split('.').map(Number)));
  if (type === TYPE_AAAA) return values.filter((value) => isIPv6(value)).map(addressBytes6);
  if (type !== TYPE_TXT) return [];
  return values
    .filter((value) => !isIPv4(value) && !isIPv6(value))
    .map((value) => Buffer.concat([Buffer.from([value.length]), Buffer.from(value, 'latin1')]));
}

/** One reply; undefined for what is no query. `limit` in bytes. */
function answer(
  query: Buffer,
  names: ReadonlyMap<string, readonly string[]>,
  overTcp: boolean,
): Buffer | undefined {
  if (query.length < 17 || (query[2]! & 0x80) !== 0) return undefined;
  const labels: string[] = [];
  let at = 12;
  while (at < query.length && query[at] !== 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!));
    at += 1 + query[at]!;
  }
  const end = at + 5;
  if (end > query.length) return undefined;
  const type = query.readUInt16BE(at + 1);
  // The OPT record, if any, comes right behind the question: root name, type, size.
  const hasOpt = end + 5 <= query.length && query[end] === 0 && query.readUInt16BE(end + 1) === TYPE_OPT;
  const limit = overTcp ? 65535 : hasOpt ? Math.max(512, query.readUInt16BE(end + 3)) : 512;

  const values = names.get(labels.join('.').toLowerCase());
  const header = Buffer.from(query.subarray(0, 12));
  header.writeUInt16BE(0x8180 | (values === undefined ? 3 : 0), 2);
  header.writeUInt16BE(0, 8);
  header.writeUInt16BE(0, 10);
  const question = query.subarray(12, end);
  const records = recordData(type, values ?? []).map((data) => {
    const fixed = Buffer.alloc(12);
    fixed.writeUInt16BE(0xc00c, 0);
    fixed.writeUInt16BE(type, 2);
    fixed.writeUInt16BE(1, 4);
    fixed.writeUInt16BE(data.length, 10);
    return Buffer.concat([fixed, data]);
  });
  let reply = Buffer.concat([header, question, ...records]);
  const cut = reply.length > limit;
  if (cut) reply = Buffer.concat([header, question]);
  reply.writeUInt16BE(cut ? 0 : records.length, 6);
  if (cut) reply[2] = reply[2]! | 0x02;
  return reply;
}

/** Starts a responder on port 53 of `address`. Names in lower case without the final dot; values are addresses or text. */
export async function startDnsResponder(
  address: string,
  names: ReadonlyMap<string, readonly string[]>,
): Promise<DnsResponder> {
  const udp = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  const tcp = createServer();
  const responder: DnsResponder = {
    queries: 0,
    overTcp: 0,
    close: () => {
      udp.close();
      tcp.close();
    },
  };
  udp.on('message', (query, peer) => {
    responder.queries++;
    const reply = answer(query, names, false);
    if (reply !== undefined) udp.send(reply, peer.port, peer.address);
  });
  tcp.on('connection', (socket) => {
    let pending = Buffer.alloc(0);
    socket.on('error', () => undefined);
    socket.on('data', (part: Buffer) => {
      pending = Buffer.concat([pending, part]);
      while (pending.length >= 2 && pending.length >= 2 + pending.readUInt16BE(0)) {
        const size = pending.readUInt16BE(0);
        responder.queries++;
        responder.overTcp++;
        const reply = answer(pending.subarray(2, 2 + size), names, true);
        pending = pending.subarray(2 + size);
        if (reply === undefined) continue;
        const length = Buffer.alloc(2);
        length.writeUInt16BE(reply.length);
        socket.write(Buffer.concat([length, reply]));
      }
    });
  });
  udp.bind(53, address);
  tcp.listen(53, address);
  await Promise.all([once(udp, 'listening'), once(tcp, 'listening')]);
  return responder;
}
