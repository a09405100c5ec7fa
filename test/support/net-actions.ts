/**
 * What programs do with sockets in end-to-end tests, on the host (called directly) and in a guest (called through
 * guest-agent.ts). Arguments and results are plain data.
 */
import { createHash } from 'node:crypto';
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** A payload: text, or a number of bytes that look random. */
export type Payload = string | number;

export interface TcpReply {
  /** What was received until the end or error, as latin1. */
  text: string;
  /** Empty when both sides ended in order. */
  error: string;
  /** The client's own end. */
  address: string;
  port: number;
}

export interface UdpReply {
  length: number;
  /** Which of the payloads it is equal to, or -1. */
  payload: number;
  /** As latin1, cut to 200 bytes. */
  text: string;
  address: string;
  port: number;
}

export interface Peer {
  address: string;
  port: number;
}

export interface ServeOptions {
  host?: string;
  port?: number;
  hello?: string;
}

export interface TalkUdpOptions {
  expect?: number;
  waitMs?: number;
  localPort?: number;
  localAddress?: string;
}

interface Served {
  peers: Peer[];
  close: () => void;
}

const TALK_MS = 20_000;

function bytesOf(payload: Payload): Buffer {
  if (typeof payload === 'string') return Buffer.from(payload, 'latin1');
  return payload === 0
    ? Buffer.alloc(0)
    : createHash('shake256', { outputLength: payload }).update('tslirp').digest();
}

const servers = new Map<string, Served>();

function serverKey(protocol: string, port: number): string {
  return `${protocol} ${port}`;
}

/** Serves TCP: greets with `hello`, sends back what comes, ends after the client. */
export async function serveTcp({ host = '::', port = 0, hello = '' }: ServeOptions = {}): Promise<number> {
  const peers: Peer[] = [];
  const server: Server = createServer({ allowHalfOpen: true }, (socket: Socket) => {
    peers.push({ address: socket.remoteAddress ?? '', port: socket.remotePort ?? 0 });
    socket.on('error', () => undefined);
    if (hello !== '') socket.write(hello);
    socket.pipe(socket);
  });
  server.listen(port, host);
  await once(server, 'listening');
  const bound = (server.address() as AddressInfo).port;
  servers.set(serverKey('tcp', bound), { peers, close: () => server.close() });
  return bound;
}

/** Serves UDP: sends back what comes, `copies` times, each preceded by `hello`. */
export async function serveUdp({
  host = '::',
  port = 0,
  hello = '',
  copies = 1,
}: ServeOptions & { copies?: number } = {}): Promise<number> {
  const peers: Peer[] = [];
  const socket: DatagramSocket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (message, { address, port: from }) => {
    peers.push({ address, port: from });
    const reply = Buffer.concat([Buffer.from(hello, 'latin1'), message]);
    for (let i = 0; i < copies; i++) socket.send(reply, from, address);
  });
  socket.bind(port, host);
  await once(socket, 'listening');
  const bound = socket.address().port;
  servers.set(serverKey('udp', bound), { peers, close: () => socket.close() });
  return bound;
}

/** Who has spoken to one of our servers so far, IPv4 addresses in dotted form. */
export async function peersOf(protocol: 'tcp' | 'udp', port: number): Promise<Peer[]> {
  const served = servers.get(serverKey(protocol, port));
  return (served?.peers ?? []).map((peer) => ({ ...peer, address: peer.address.replace(/^::ffff:/, '') }));
}

export async function stopServer(protocol: 'tcp' | 'udp', port: number): Promise<void> {
  servers.get(serverKey(protocol, port))?.close();
  servers.delete(serverKey(protocol, port));
}

/** Connects, sends, ends its half, reads to the end. `parts` are sent one by one, each in its own segment. */
export function talkTcp(
  host: string,
  port: number,
  parts: Payload[],
  options: { localAddress?: string; localPort?: number; reset?: boolean } = {},
): Promise<TcpReply> {
  return new Promise((resolve) => {
    const received: Buffer[] = [];
    let own: Peer = { address: '', port: 0 };
    const { reset, ...from } = options;
    const socket = connect({ host, port, allowHalfOpen: true, ...from });
    const settle = (error: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text: Buffer.concat(received).toString('latin1'), error, ...own });
    };
    const timer = setTimeout(() => settle('TIMEOUT'), TALK_MS);
    socket.setNoDelay(true);
    socket.on('connect', async () => {
      own = { address: socket.localAddress ?? '', port: socket.localPort ?? 0 };
      for (const part of parts) {
        await new Promise((sent) => socket.write(bytesOf(part), sent));
        await new Promise((later) => setTimeout(later, parts.length > 1 ? 20 : 0));
      }
      if (reset === true) {
        socket.resetAndDestroy();
        settle('');
      } else socket.end();
    });
    socket.on('data', (data) => received.push(data));
    socket.on('end', () => settle(''));
    socket.on('error', (error) => settle((error as NodeJS.ErrnoException).code ?? error.message));
  });
}

/** Sends all payloads from one socket and waits for `expect` replies, or for `waitMs`. */
export async function talkUdp(
  host: string,
  port: number,
  payloads: Payload[],
  { expect = payloads.length, waitMs = TALK_MS, localPort = 0, localAddress = '' }: TalkUdpOptions = {},
): Promise<UdpReply[]> {
  const sent = payloads.map(bytesOf);
  const replies: UdpReply[] = [];
  const socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 1 << 20 });
  socket.on('error', () => undefined);
  socket.bind(localPort, localAddress === '' ? undefined : localAddress);
  await once(socket, 'listening');
  try {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, waitMs);
      socket.on('message', (message, { address, port: from }) => {
        replies.push({
          length: message.length,
          payload: sent.findIndex((bytes) => bytes.equals(message)),
          text: message.toString('latin1', 0, 200),
          address,
          port: from,
        });
        if (replies.length < expect) return;
        clearTimeout(timer);
        resolve();
      });
      for (const bytes of sent) socket.send(bytes, port, host);
    });
  } finally {
    socket.close();
  }
  return replies;
}

export interface Actions {
  serveTcp: typeof serveTcp;
  serveUdp: typeof serveUdp;
  peersOf: typeof peersOf;
  stopServer: typeof stopServer;
  talkTcp: typeof talkTcp;
  talkUdp: typeof talkUdp;
}

export const actions: Actions = { serveTcp, serveUdp, peersOf, stopServer, talkTcp, talkUdp };
