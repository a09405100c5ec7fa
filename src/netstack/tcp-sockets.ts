/** The connections of a stack: whose a segment is, who may open one, and what is left of those that are over. */
import type { Slab } from '../stack/buffer/slab.ts';
import { Counter, type Counters } from '../stack/counters.ts';
import { HalfSipHash } from '../stack/half-sip-hash.ts';
import { ErrorLimiter } from '../stack/icmp/limit.ts';
import { QuotedSegment } from '../stack/icmp/quoted-segment.ts';
import type { OwnAddresses } from '../stack/ip/own-addresses.ts';
import type { Egress } from '../stack/link/egress.ts';
import type { Link } from '../stack/link/link.ts';
import type { Packet } from '../stack/link/packet.ts';
import type { Solicitor } from '../stack/neighbor/solicitor.ts';
import type { Rng } from '../stack/rng.ts';
import { Cubic } from '../stack/tcp/congestion/cubic.ts';
import { NewReno } from '../stack/tcp/congestion/new-reno.ts';
import { noCongestionControl } from '../stack/tcp/congestion/none.ts';
import { EV_BAD_ACK, type TcpEnvironment, type TcpSegmentOut } from '../stack/tcp/owner.ts';
import { fillReset } from '../stack/tcp/reset.ts';
import { seqAdd } from '../stack/tcp/seq.ts';
import { FlowTable } from '../stack/transport/flow-table.ts';
import { freshPorts } from '../stack/transport/fresh-ports.ts';
import { TimeWaitTable } from '../stack/transport/time-wait-table.ts';
import { IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { PROTOCOL_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, TcpHeader } from '../stack/wire/tcp.ts';
import type { TimerHeap } from '../timer-heap.ts';
import { inRange, type StackOptions } from './options.ts';
import { type ConnectionRequest, type SocketOwner, TcpSocket } from './tcp-socket.ts';

/** As in Linux: data may carry an acknowledgment that is so late. */
const DELAYED_ACK_MS = 5;
const CHALLENGES_PER_SECOND = 1000;
const OUT_OF_ORDER_RANGES = 128;

/** The parts of a stack that connections use. */
export interface SocketServices {
  readonly slab: Slab;
  readonly link: Link;
  readonly own: OwnAddresses;
  readonly egress: Egress;
  readonly solicitor: Solicitor;
  readonly counters: Counters;
  readonly rng: Rng;
  readonly hash: HalfSipHash;
  readonly timers: TimerHeap;
  readonly clock: { readonly nowMs: number };
  wake(): void;
  later(call: () => void): void;
}

export class TcpSockets implements SocketOwner {
  readonly slab: Slab;
  readonly environment: TcpEnvironment;
  readonly #services: SocketServices;
  readonly #most: number;
  readonly #table: FlowTable<TcpSocket>;
  readonly #timeWait: TimeWaitTable;
  /** Of a key of its own: initial sequence numbers are shown, places in tables never. */
  readonly #sequenceHash: HalfSipHash;
  readonly #header = new TcpHeader();
  readonly #quoted = new QuotedSegment();
  readonly #quotedFrom = new IpAddress();
  readonly #quotedTo = new IpAddress();
  #touched: TcpSocket[] = [];

  constructor(services: SocketServices, options: StackOptions) {
    this.#services = services;
    this.slab = services.slab;
    const { counters, link, rng, slab, hash } = services;
    const { congestion = 'cubic' } = options;
    const window = inRange('window', options.window ?? 1 << 20, 4096, 1 << 28);
    this.#most = inRange('connections', options.connections ?? 4096, 1, 1 << 20);
    this.environment = {
      slab,
      link,
      receiveLimit: window,
      sendLimit: window,
      outOfOrderRanges: OUT_OF_ORDER_RANGES,
      superSegment4: 0,
      superSegment6: 0,
      delayedAckMs: DELAYED_ACK_MS,
      counters,
      challenges: new ErrorLimiter(CHALLENGES_PER_SECOND, CHALLENGES_PER_SECOND, rng),
      newCongestionControl: (mss) => {
        if (congestion === 'none') return noCongestionControl;
        return congestion === 'cubic' ? new Cubic(mss) : new NewReno(mss);
      },
    };
    this.#table = new FlowTable(hash, PROTOCOL_TCP);
    this.#timeWait = new TimeWaitTable(services);
    this.#sequenceHash = new HalfSipHash(rng.u32(), rng.u32());
  }

  get size(): number {
    return this.#table.size;
  }

  get isTouched(): boolean {
    return this.#touched.length > 0;
  }

  get nowMs(): number {
    return this.#services.clock.nowMs;
  }

  onTcp(p: Packet, h: TcpHeader, onConnection: ((request: ConnectionRequest) => void) | null): void {
    const { counters } = this.#services;
    if ((h.flags & TCP_SYN) !== 0 && (h.flags & (TCP_FIN | TCP_RST)) !== 0) {
      counters.drop(DropReason.TcpFlags);
      return;
    }
    const ports = ((h.srcPort << 16) | h.dstPort) >>> 0;
    const length = p.length - h.headerLen;
    const socket = this.#table.find(p.src, p.dst, ports);
    if (socket !== null) {
      if (socket.connection.isPending) this.#onPending(socket, p, h, onConnection);
      else if ((socket.onSegment(h, p.offset + h.headerLen, length) & EV_BAD_ACK) !== 0)
        this.#reset(p, h, length);
      return;
    }
    if (this.#timeWait.onSegment(p.src, p.dst, ports, h)) return;
    const opens = (h.flags & (TCP_SYN | TCP_ACK)) === TCP_SYN && h.srcPort !== 0 && h.dstPort !== 0;
    if (!opens || onConnection === null) {
      if (!opens) counters.drop(DropReason.TcpNoFlow);
      this.#reset(p, h, length);
    } else if (this.#table.size >= this.#most) {
      counters.drop(DropReason.TcpLimit);
    } else {
      this.#open(p, h, ports, length, onConnection);
    }
  }

  /** @throws RangeError */
  connect(to: { address: string; port: number }, from: { address?: string; port?: number }): TcpSocket {
    const { own, rng, solicitor, counters } = this.#services;
    const peer = parseIpAddress(to.address);
    const local = from.address === undefined ? this.#address(peer) : parseIpAddress(from.address);
    if (peer.isV4 !== local.isV4 || peer.isUnspecified || peer.isGroup || (!peer.isV4 && !own.ipv6))
      throw new RangeError(`no connection can be made from ${local.toString()} to ${to.address}`);
    const port = inRange('port', to.port, 1, 65535);
    const wanted = inRange('local port', from.port ?? 0, 0, 65535);
    if (this.#table.size >= this.#most) throw new RangeError(`there are ${this.#most} connections`);
    const ports = freshPorts(rng, peer, port, local, wanted, (guest, remote, key) =>
      this.#isInUse(guest, remote, key),
    );
    if (ports < 0 || (wanted !== 0 && (ports & 0xffff) !== wanted))
      throw new RangeError(`port ${wanted} is in use towards ${to.address}`);
    own.speakFrom(local);
    const socket = new TcpSocket(this, peer, local, ports);
    this.#table.add(socket);
    counters.add(Counter.TcpOpened, 1);
    socket.connection.openActive(this.#services.link.mtu, this.#initialSeq(socket), rng.u32(), this.nowMs);
    solicitor.solicit(peer);
    this.touch(socket);
    this.wake();
    return socket;
  }

  /** Whoever is asked for on the link has answered: do not wait for a SYN's next turn. */
  onNeighbor(): void {
    this.#table.forEach((socket) => {
      if (!socket.connection.isOpening) return;
      socket.connection.repeatSyn();
      this.touch(socket);
    });
  }

  /** RFC 9293 §3.9.2.2, for a connection that is only being opened: as good as a RST. Needs its number (RFC 5927). */
  onUnreachable(p: Packet): boolean {
    const quoted = this.#quoted;
    if (!quoted.read(this.slab.view, p, PROTOCOL_TCP, this.#quotedFrom, this.#quotedTo)) return false;
    const socket = this.#table.find(this.#quotedTo, this.#quotedFrom, quoted.ports);
    if (socket === null || !socket.connection.isOpening || quoted.seq !== socket.connection.snd.iss)
      return false;
    socket.close('unreachable');
    return true;
  }

  abortAll(): void {
    const all: TcpSocket[] = [];
    this.#table.forEach((socket) => {
      all.push(socket);
    });
    for (const socket of all) socket.abort();
    this.#timeWait.clear();
  }

  /** Settle what was touched so far; what is touched by that is for the next time. */
  settle(): void {
    const touched = this.#touched;
    if (touched.length === 0) return;
    this.#touched = [];
    for (const socket of touched) socket.settle();
  }

  touch(socket: TcpSocket): void {
    if (socket.touched) return;
    socket.touched = true;
    this.#touched.push(socket);
  }

  wake(): void {
    this.#services.wake();
  }

  later(call: () => void): void {
    this.#services.later(call);
  }

  reschedule(socket: TcpSocket): void {
    this.#services.timers.update(socket);
  }

  transmit(socket: TcpSocket, segment: TcpSegmentOut): void {
    const { egress } = this.#services;
    const { header, length, queueOffset } = segment;
    header.srcPort = socket.localPort;
    header.dstPort = socket.remotePort;
    const out = egress.beginTcp(socket.remote, socket.guest, header);
    if (length > 0) socket.connection.snd.queue.slice(queueOffset, length, out.parts);
    out.payloadLength = length;
    egress.send();
  }

  ended(socket: TcpSocket): void {
    this.#services.timers.cancel(socket);
    this.#table.remove(socket);
    const { timeWait } = socket.connection;
    if (timeWait !== null) this.#timeWait.add(socket, timeWait);
  }

  /** The other end repeats itself while the program has not answered. */
  #onPending(
    socket: TcpSocket,
    p: Packet,
    h: TcpHeader,
    onConnection: ((request: ConnectionRequest) => void) | null,
  ): void {
    const c = socket.connection;
    const { irs, nxt } = c.rcv;
    if ((h.flags & TCP_RST) !== 0) {
      // RFC 5961 in spirit: only the one who knows the number of the SYN.
      if (h.seq === irs || h.seq === nxt) socket.close('reset');
      return;
    }
    if ((h.flags & (TCP_SYN | TCP_ACK)) !== TCP_SYN || h.seq === irs || onConnection === null) return;
    socket.close('reset');
    this.#open(p, h, socket.ports, p.length - h.headerLen, onConnection);
  }

  #open(
    p: Packet,
    h: TcpHeader,
    ports: number,
    length: number,
    onConnection: (request: ConnectionRequest) => void,
  ): void {
    const { counters, link, rng, egress, later } = this.#services;
    const socket = new TcpSocket(this, p.src, p.dst, ports);
    socket.connection.openPassive(h, link.mtu, this.#initialSeq(socket), rng.u32(), this.nowMs);
    this.#table.add(socket);
    const { irs } = socket.connection.rcv;
    const { localAddress, localPort, remoteAddress, remotePort } = socket;
    const request: ConnectionRequest = {
      localAddress,
      localPort,
      remoteAddress,
      remotePort,
      accept: () => {
        // It may be over by now: then the socket says so.
        if (!socket.connection.isPending || socket.isOver) return socket;
        counters.add(Counter.TcpAccepted, 1);
        socket.connection.accept(this.nowMs);
        this.touch(socket);
        this.wake();
        return socket;
      },
      refuse: () => {
        if (!socket.connection.isPending || socket.isOver) return;
        counters.add(Counter.TcpRefused, 1);
        const answer = this.#header;
        answer.srcPort = localPort;
        answer.dstPort = remotePort;
        answer.seq = 0;
        answer.ack = seqAdd(irs, 1 + length);
        answer.flags = TCP_RST | TCP_ACK;
        answer.window = 0;
        answer.hasTimestamps = false;
        egress.beginTcp(socket.remote, socket.guest, answer);
        egress.send();
        socket.close('aborted');
        this.wake();
      },
    };
    later(() => onConnection(request));
  }

  /** Nobody is there. */
  #reset(p: Packet, h: TcpHeader, length: number): void {
    const { counters, egress } = this.#services;
    if (!fillReset(this.#header, h, length)) return;
    counters.add(Counter.TcpResetSent, 1);
    egress.beginTcp(p.dst, p.src, this.#header);
    egress.send();
  }

  #isInUse(peer: IpAddress, local: IpAddress, ports: number): boolean {
    return this.#table.find(peer, local, ports) !== null || this.#timeWait.has(peer, local, ports);
  }

  /** RFC 6528: a clock of 4 microseconds plus a keyed hash of the tuple. */
  #initialSeq({ guest, remote, ports }: TcpSocket): number {
    return seqAdd(
      this.#sequenceHash.tuple(guest, remote, ports, PROTOCOL_TCP),
      Math.floor(this.nowMs * 250) >>> 0,
    );
  }

  #address(peer: IpAddress): IpAddress {
    const { own } = this.#services;
    if (peer.isV4) return own.gateway4;
    return peer.isLinkLocal ? own.linkLocal6 : own.gateway6;
  }
}
