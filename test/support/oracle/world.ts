/**
 * Two ends that are asked the same: a TAP behind which the kernel's own TCP answers, and a packet socket behind which the
 * program does, as whoever runs it. Behind both the same kind of server waits for the same things, in this process; that of
 * the kernel listens in a namespace of its own.
 */
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { EINPROGRESS } from '../../../src/sys/errno.ts';
import { close } from '../../../src/sys/io.ts';
import { Memory } from '../../../src/sys/memory.ts';
import * as sys from '../../../src/sys/socket.ts';
import { inNetwork, openTap, packetSockets } from '../bad-link/ends.ts';
import { GUEST_MAC, GUEST4, GUEST6, ipBytes, isV6, OUR_MAC } from '../lab/packets.ts';
import {
  bareNamespace,
  GATEWAY4,
  GATEWAY6,
  HOST4,
  HOST6,
  OPEN,
  ready,
  tslirpCommand,
} from '../namespaces.ts';
import { type Running, start } from '../processes.ts';
import { Peer, type Profile } from './peer.ts';
import { Wire } from './wire.ts';

const TX_QUEUE_FRAMES = 10_000;

/** Forwarded to the peer: a connection to one of them is one that is made to it. */
const FIRST_FORWARD = 18_000;
const FORWARDS = 64;

const memory = new Memory(new ArrayBuffer(4096));

/** The server's end of one connection. */
export class HostEnd {
  readonly port: number;
  readonly #server: Server;
  socket: Socket | null = null;
  received = '';
  ended = false;
  failed = '';

  constructor(server: Server, port: number, reads: boolean) {
    this.#server = server;
    this.port = port;
    server.on('connection', (socket) => {
      this.socket?.destroy();
      this.socket = socket;
      socket.setNoDelay(true).on('error', (error: NodeJS.ErrnoException) => {
        this.failed = error.code ?? error.message;
      });
      if (!reads) return;
      socket.on('data', (part: Buffer) => {
        this.received += part.toString('latin1');
      });
      socket.on('end', () => {
        this.ended = true;
      });
    });
  }

  write(text: string): void {
    this.socket?.write(text);
  }

  /** No more to say; still listening. */
  end(): void {
    this.socket?.end();
  }

  close(): void {
    this.socket?.destroy();
    this.#server.close();
  }
}

/** A connection whose echo tells that everything before has been seen, by the other end and by its server. */
class Fence {
  readonly #peer: Peer;
  #sent = 0;
  readonly #waiting: [number, () => void][] = [];

  constructor(peer: Peer) {
    this.#peer = peer;
    peer.onReceived = () => {
      const echoed = peer.received.length;
      if (peer.nxt > peer.una) peer.una = peer.nxt;
      while ((this.#waiting[0]?.[0] ?? Number.POSITIVE_INFINITY) <= echoed) this.#waiting.shift()?.[1]();
    };
  }

  async pass(): Promise<void> {
    const mark = ++this.#sent;
    const passed = new Promise<void>((resolve) => {
      this.#waiting.push([mark, resolve]);
    });
    this.#peer.send({ flags: 'PA', seq: mark, data: '|' });
    await passed;
  }
}

export class World {
  readonly name: string;
  readonly wire: Wire;
  readonly #enter: <T>(body: () => T) => T;
  /** Where to connect to, so that a connection to the peer comes of it. */
  readonly #peerIs: string;
  #fence: Fence | null = null;
  #closeFence: () => void = () => undefined;
  #nextPort = 20_000;
  #nextForward = FIRST_FORWARD;

  constructor(name: string, fd: number, peerIs: string, enter: <T>(body: () => T) => T) {
    this.name = name;
    this.wire = new Wire(fd);
    this.#peerIs = peerIs;
    this.#enter = enter;
  }

  /** Before anything else, and while frames are moving. */
  async openFence(): Promise<void> {
    const port = this.#nextPort++;
    const host = await this.listen(port, HOST4);
    const peer = new Peer(this.wire, port, HOST4, port, 'full');
    peer.syn();
    await peer.until(() => peer.opened, `${this.name} answers`);
    peer.send({ flags: 'A' });
    await peer.until(() => host.socket !== null, `${this.name} accepts`);
    host.socket?.on('data', (part: Buffer) => host.socket?.write(part));
    this.#fence = new Fence(peer);
    this.#closeFence = () => host.close();
  }

  close(): void {
    this.#closeFence();
    close(this.wire.fd);
  }

  /** Wait until everything that was sent before has been dealt with, and been answered if it is answered at once. */
  async fence(): Promise<void> {
    await this.#fence?.pass();
    // What the servers of other connections got before may be later in the same turn.
    await new Promise(setImmediate);
  }

  /** One that nobody has used; for a connection to the peer, one that can be connected to. */
  nextPort(connects: boolean): number {
    if (!connects) return this.#nextPort++;
    if (this.#nextForward === FIRST_FORWARD + FORWARDS) throw new RangeError('no forward left');
    return this.#nextForward++;
  }

  peer(port: number, address: string, profile: Profile): Peer {
    return new Peer(this.wire, port, address, port, profile);
  }

  /** Let the other end connect to this port of the peer; returns what ends that. */
  connect(port: number): () => void {
    const fd = this.#enter(() => {
      const socket = openSocket(this.#peerIs);
      const result = sys.connect(memory, socket, 0, putAddress(this.#peerIs, port));
      if (result < 0 && result !== -EINPROGRESS) throw new Error(`connect: ${result}`);
      return socket;
    });
    return () => close(fd);
  }

  async listen(port: number, address: string, reads = true): Promise<HostEnd> {
    const fd = this.#enter(() => listenAt(address, port));
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: !reads });
    const host = new HostEnd(server, port, reads);
    server.listen({ fd });
    await once(server, 'listening');
    return host;
  }
}

export interface Worlds extends AsyncDisposable {
  linux: World;
  ours: World;
}

export async function openWorlds(mtu: number): Promise<Worlds> {
  const running: Running[] = [];
  const worlds: World[] = [];
  const dispose = async (): Promise<void> => {
    for (const world of worlds) world.close();
    for (const one of running.reverse()) await one.stop();
  };
  try {
    const { namespace, anchor } = await bareNamespace({ plain: true });
    running.push(anchor);
    const tap = openTap(namespace.pid, 'tap0');
    await namespace.ip(
      `link set tap0 address ${OUR_MAC} mtu ${mtu} txqueuelen ${TX_QUEUE_FRAMES} up`,
      `address add ${GATEWAY4}/24 dev tap0`,
      `address add ${HOST4}/32 dev lo`,
      `neighbor add ${GUEST4} lladdr ${GUEST_MAC} dev tap0`,
      `address add ${GATEWAY6}/64 dev tap0 nodad`,
      `address add ${HOST6}/128 dev lo nodad`,
      `neighbor add ${GUEST6} lladdr ${GUEST_MAC} dev tap0`,
    );
    // Every answer is to be seen, not one in half a second.
    await namespace.sysctl('net.ipv4.tcp_invalid_ratelimit=0', 'net.ipv4.tcp_challenge_ack_limit=2147483647');
    const linux = new World('Linux', tap, GUEST4, (body) => inNetwork(namespace.pid, body));

    const [ours, theirs] = packetSockets();
    const forwards = `${FIRST_FORWARD}-${FIRST_FORWARD + FORWARDS - 1}`;
    const options = ['--log-level', 'warn', '--mtu', String(mtu), '--ready-fd', '4', '--fd', '3'];
    const stack = start(tslirpCommand('attach', ...OPEN, '-L', forwards, ...options), {
      stdio: ['ignore', 'pipe', 'pipe', theirs, 'pipe'],
    });
    running.push(stack);
    await ready(stack, 4);
    const tslirp = new World('tslirp', ours, '127.0.0.1', (body) => body());
    worlds.push(linux, tslirp);
    return { linux, ours: tslirp, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

function openSocket(address: string): number {
  const fd = sys.socket(isV6(address) ? sys.AF_INET6 : sys.AF_INET, sys.SOCK_STREAM, 0);
  if (fd < 0) throw new Error(`socket: ${fd}`);
  return fd;
}

/** At offset 0; its length. */
function putAddress(address: string, port: number): number {
  const bytes = ipBytes(address);
  const w = (i: number): number => bytes.readUInt32BE(4 * i);
  if (!isV6(address)) return sys.putSockaddr4(memory, 0, w(0), port);
  return sys.putSockaddr6(memory, 0, w(0), w(1), w(2), w(3), port, 0);
}

function listenAt(address: string, port: number): number {
  const fd = openSocket(address);
  sys.setsockoptInt(memory, fd, sys.SOL_SOCKET, sys.SO_REUSEADDR, 1, 64);
  const bound = sys.bind(memory, fd, 0, putAddress(address, port));
  const result = bound < 0 ? bound : sys.listen(fd, 16);
  if (result < 0) throw new Error(`listen on ${address} port ${port}: ${result}`);
  return fd;
}
