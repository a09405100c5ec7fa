/**
 * The conversations of a rehearsal (rehearsal.ts): a guest at one end of a pair of packet sockets, whose other end our side
 * takes for an attached TAP, sends datagrams, DNS queries and pings to the host's loopback, and opens connections. Nobody
 * else can have a part in it: connections end at a socket pair, in the place of the DNS service over TCP, or are refused by
 * the host, so that no port is listened at. What answers the datagrams is ours as well.
 *
 * Anything that does not go as it should ends it: it is not needed. Pings may be forbidden, and are left out then.
 */
import { defaultAddresses, defaultLimits, type GuestSpec } from '../config.ts';
import { FrameIo } from '../device/frame-io.ts';
import { TapLink } from '../device/tap-link.ts';
import { HostRouteTable } from '../firewall/host-routes.ts';
import { DescriptorBudget } from '../forward/flow/descriptor-budget.ts';
import type { ListedFlow } from '../forward/flow/info.ts';
import { PagePool } from '../forward/flow/page-pool.ts';
import { FlowScratch } from '../forward/flow/scratch.ts';
import { InsideChannel } from '../forward/splice/inside-channel.ts';
import { HostNames } from '../forward/target/name-questions.ts';
import { Resolvers } from '../forward/target/resolvers.ts';
import type { IoHandler } from '../loop.ts';
import { profiles } from '../profiles.ts';
import { StackScratch } from '../stack/buffer/scratch.ts';
import { Slab } from '../stack/buffer/slab.ts';
import { Packet } from '../stack/link/packet.ts';
import { DNS_PORT } from '../stack/wire/dns.ts';
import {
  emitIcmp,
  ICMP_HEADER_LEN,
  ICMP4_ECHO,
  IcmpHeader,
  icmp4Checksum,
  PROTOCOL_ICMP,
  setIcmpChecksum,
} from '../stack/wire/icmp.ts';
import { SearchDomains } from '../stack/wire/search-domains.ts';
import { TCP_ACK, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN } from '../stack/wire/tcp.ts';
import { PROTOCOL_UDP, UDP_HEADER_LEN } from '../stack/wire/udp.ts';
import { close } from '../sys/io.ts';
import { Memory } from '../sys/memory.ts';
import {
  AF_INET,
  AF_UNIX,
  bind,
  getsockname,
  putSockaddr4,
  recv,
  recvmsg,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  send,
  sendto,
  setLingerZero,
  socket,
  socketpair,
} from '../sys/socket.ts';
import { EventLoop } from './event-loop.ts';
import { type EngineServices, Guest } from './guest.ts';
import { MTU, must, RehearsedWire, Unexpected } from './rehearsed-wire.ts';

/** Conversations of each kind: enough for V8 to know all types; machine code of the better kind takes thousands. */
const ROUNDS = 16;
/** Every so many of them move more bytes than a frame has, or are refused. */
const BULK_EVERY = 4;
const REFUSED_EVERY = 8;
const BULK = 16384;
const FIXED_BYTES = 8 * 1024 * 1024;
const PAGES = 256;
const STRUCTURE_BYTES = 65536;
/** These connections end in good order; the others are reset. */
const ORDERLY = 8;
const DESCRIPTORS = 64;
const LOOPBACK_TEXT = '127.0.0.1';
const LOOPBACK = 0x7f000001;
const FIRST_PORT = 40000;
/** Turns that an answer may take. */
const PATIENCE = 8;
/** A question for the address of "a". */
const QUESTION = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1];

const SPEC: Omit<GuestSpec, 'device' | 'limits' | 'tunnel'> = {
  addresses: { ...defaultAddresses, ipv6: false },
  policy: {
    enableRouting: false,
    enableHost: false,
    allow: [{ proto: 'icmp', address: LOOPBACK_TEXT, bits: 128, portMin: 0, portMax: 0 }],
    deny: [],
    guestNetworks: [],
  },
  behavior: { ...profiles.tslirp, gatewayIsLoopback: true },
  congestion: 'auto',
  source4: '',
  source6: '',
  outboundInterface: '',
  dns: true,
  autoconfiguration: false,
  pcapPath: '',
  pcapFormat: 'pcap',
};

/** What it takes from the engine: nothing that has anything to do with other guests. */
export type RehearsalServices = Pick<EngineServices, 'rng' | 'hash' | 'log'>;

/** Each step of the rehearsal is one exchange; it returns whether all of them went well. What is open is closed at the end, also at an early one. */
export function* rehearse(services: RehearsalServices): Generator<void, boolean> {
  const open: number[] = [];
  let stage: Stage | null = null;
  try {
    stage = new Stage(services, open);
    yield;
    stage.resolveGateway();
    for (let round = 0; round < ROUNDS; round++) {
      yield* stage.datagram(round, false);
      yield* stage.datagram(round, true);
      yield* stage.ping(round);
      if (round % REFUSED_EVERY === 0) yield* stage.refusal(round);
      yield* stage.connection(round, round % BULK_EVERY === BULK_EVERY - 1);
    }
    return true;
  } catch (error) {
    if (!(error instanceof Unexpected))
      services.log('debug', 'the rehearsal has failed', { error: String(error) });
    return false;
  } finally {
    stage?.close();
    for (const fd of open) close(fd);
  }
}

class Stage {
  readonly #open: number[];
  readonly #slab = new Slab(FIXED_BYTES, PAGES);
  readonly #memory = new Memory(this.#slab.buffer, STRUCTURE_BYTES);
  readonly #loop: EventLoop;
  readonly #scratch: FlowScratch;
  readonly #guest: Guest;
  readonly #wire: RehearsedWire;
  readonly #bytes: number;
  /** A TCP port that is bound and not listened at. */
  readonly #closedPort: number;
  readonly #datagrams: number;
  readonly #udpPort: number;
  readonly #packet = new Packet();
  readonly #icmp = new IcmpHeader();
  /** There is always something to do: the loop never waits. */
  readonly #restless: IoHandler = { waiting: false, onIo: () => undefined };
  /** The host's end of the connection that was opened last; -1 = it has been taken. */
  #accepted = -1;

  constructor(services: RehearsalServices, open: number[]) {
    this.#open = open;
    const slab = this.#slab;
    const memory = this.#memory;
    this.#loop = new EventLoop(memory, slab, fail);
    this.#scratch = new FlowScratch(slab, memory);
    this.#bytes = slab.region(BULK);
    [this.#datagrams, this.#udpPort] = this.#serve(SOCK_DGRAM);
    [, this.#closedPort] = this.#serve(SOCK_STREAM);
    const [ours, wire] = this.#pair(SOCK_SEQPACKET);
    open.push(wire);
    this.#wire = new RehearsedWire(wire, slab, memory);
    this.#guest = this.#makeGuest(services, ours);
    this.#guest.flows.tcp.dialDns = () => {
      const [near, far] = this.#pair(SOCK_STREAM);
      this.#accepted = far;
      return near;
    };
  }

  /** The guest's MAC address and ours become known. */
  resolveGateway(): void {
    this.#wire.solicit();
    this.#turn();
    this.#wire.drain();
  }

  /** A datagram there and back, or a query and its answer. */
  *datagram(round: number, isDns: boolean): Generator<void, void> {
    const wire = this.#wire;
    const { gateway4, dns4 } = wire.addresses;
    const { bytes, view } = this.#slab;
    const at = wire.transport + UDP_HEADER_LEN;
    bytes.set(QUESTION, at);
    view.setUint16(at, round);
    if (isDns) wire.datagram(FIRST_PORT + round, dns4, DNS_PORT, QUESTION.length);
    else wire.datagram(FIRST_PORT + (round >> 2), gateway4, this.#udpPort, 1);
    this.#echo(isDns);
    yield;
    this.#await(() => wire.hears(PROTOCOL_UDP));
    yield;
  }

  /** A ping of the gateway, which our side answers, and one of the host's loopback, past what judges frames: none may ask for that. */
  *ping(round: number): Generator<void, void> {
    const wire = this.#wire;
    const { view } = this.#slab;
    const h = this.#icmp;
    const at = wire.transport;
    const length = ICMP_HEADER_LEN + 1;
    h.type = ICMP4_ECHO;
    h.rest = (FIRST_PORT << 16) | round;
    emitIcmp(view, at, h);
    setIcmpChecksum(view, at, icmp4Checksum(view, at, length));
    const { gateway4, guest4 } = wire.addresses;
    wire.send(PROTOCOL_ICMP, gateway4, length, -1);
    this.#await(() => wire.hears(PROTOCOL_ICMP));
    yield;
    const p = this.#packet;
    p.src.copyFrom(guest4);
    p.dst.setV4(LOOPBACK);
    p.ttl = 64;
    p.protocol = PROTOCOL_ICMP;
    p.offset = at;
    p.length = length;
    this.#guest.flows.onEcho(p);
    this.#turn();
    wire.drain();
    yield;
  }

  /** A connection to where nobody listens. */
  *refusal(round: number): Generator<void, void> {
    const wire = this.#wire;
    wire.connection(FIRST_PORT + ROUNDS + round, this.#closedPort, round << 20);
    wire.segment(wire.addresses.gateway4, TCP_SYN, 0);
    this.#await(() => wire.hearsSegment(TCP_RST));
    yield;
  }

  /** Connect, bytes there and back, both ends close. */
  *connection(round: number, isBulk: boolean): Generator<void, void> {
    const memory = this.#memory;
    const wire = this.#wire;
    wire.connection(FIRST_PORT + round, DNS_PORT, round << 20);
    this.#segment(TCP_SYN, 0);
    try {
      this.#await(() => wire.hearsSegment(TCP_SYN));
      yield;
      this.#segment(TCP_ACK, 0);
      const count = isBulk ? BULK : 1;
      this.#segment(TCP_ACK | TCP_PSH, count);
      for (let left = count; left > 0; ) left -= this.#hear();
      yield;
      must(send(memory, this.#accepted, this.#bytes, count));
      for (let got = 0; got < count; ) {
        this.#await(() => wire.hearsSegment(TCP_ACK));
        got += wire.answered;
        if (got > 0 && got < count) this.#segment(TCP_ACK, 0);
      }
      yield;
      this.#segment(TCP_ACK | TCP_FIN, 0);
      this.#turn();
      yield;
      if (round < ORDERLY) this.#hear();
      else setLingerZero(memory, this.#accepted, this.#scratch.option);
    } finally {
      if (this.#accepted >= 0) close(this.#accepted);
      this.#accepted = -1;
    }
    if (round < ORDERLY) {
      this.#await(() => wire.hearsSegment(TCP_FIN));
      this.#segment(TCP_ACK, 0);
    }
    this.#turn();
    wire.drain();
    yield;
  }

  /** Nothing may be left: not of the flows either. */
  close(): void {
    const flows: ListedFlow[] = [];
    this.#guest.flows.list(flows);
    for (const flow of flows) this.#guest.flows.cut(flow.info(0).flow);
    this.#guest.close();
    this.#loop.close();
  }

  #makeGuest(services: RehearsalServices, fd: number): Guest {
    const slab = this.#slab;
    const memory = this.#memory;
    const { timers, clock } = this.#loop;
    const resolvers = new Resolvers();
    resolvers.set([LOOPBACK_TEXT]);
    let flows = 0;
    const own: EngineServices = {
      ...services,
      ...{
        slab,
        memory,
        scratch: this.#scratch,
        poller: this.#loop.share(() => 100),
        timers,
        clock,
        resolvers,
      },
      stackScratch: new StackScratch(slab),
      frames: new FrameIo(slab, memory),
      limits: defaultLimits,
      descriptors: new DescriptorBudget(DESCRIPTORS),
      pages: new PagePool(slab).join(
        () => defaultLimits.memoryMax,
        () => undefined,
      ),
      search: new SearchDomains(),
      names: new HostNames(() => undefined, clock, timers, 0),
      inside: new InsideChannel(this.#loop, timers, clock),
      hostRoutes: new HostRouteTable(),
      dnsServerPort: this.#udpPort,
      refreshHostRoutes: () => true,
      newFlowId: () => ++flows,
      report: () => undefined,
      onPeer: () => undefined,
      log: () => undefined,
      onError: fail,
      touched: () => undefined,
      linkGone: () => undefined,
      linkDown: () => undefined,
      linkUp: () => undefined,
    };
    const interfaceIs = { medium: 'ethernet', mtu: MTU } as const;
    const offloads = { vnetHeader: true, checksumOffload: true, tso: true, uso: true };
    const link = new TapLink(fd, { ...interfaceIs, ...offloads }, own);
    try {
      return new Guest(own, SPEC, { link, info: { ...interfaceIs, name: '', txQueueLen: 500 }, notes: [] });
    } catch (error) {
      link.close();
      throw error;
    }
  }

  #pair(type: number): [number, number] {
    const { sockaddr } = this.#scratch;
    const { view } = this.#memory;
    must(socketpair(this.#memory, AF_UNIX, type, sockaddr));
    return [view.getInt32(sockaddr, true), view.getInt32(sockaddr + 4, true)];
  }

  /** A socket of the host's loopback, and its port. */
  #serve(type: number): [fd: number, port: number] {
    const memory = this.#memory;
    const { sockaddr } = this.#scratch;
    const fd = must(socket(AF_INET, type, 0));
    this.#open.push(fd);
    must(bind(memory, fd, sockaddr, putSockaddr4(memory, sockaddr, LOOPBACK, 0)));
    must(getsockname(memory, fd, sockaddr));
    return [fd, memory.view.getUint16(sockaddr + 2)];
  }

  /** The host's end gets a datagram and sends it back, a DNS message with the mark of an answer. */
  #echo(isDns: boolean): void {
    this.#turn();
    const { memory, sockaddr } = this.#scratch;
    this.#scratch.putReceive(this.#bytes, BULK);
    const length = must(recvmsg(memory, this.#datagrams, this.#scratch.msghdr, 0));
    if (isDns) memory.view.setUint8(this.#bytes + 2, 0x81);
    must(sendto(memory, this.#datagrams, this.#bytes, length, sockaddr, 16));
  }

  /** One turn of everything on our side. */
  #turn(): void {
    this.#loop.ready(this.#restless);
    this.#loop.turn();
    this.#guest.endTurn();
  }

  #segment(flags: number, payload: number): void {
    this.#wire.segment(this.#wire.addresses.dns4, flags, payload);
  }

  /** Let turns pass until the host's end gets something; how many bytes, 0 at the end. */
  #hear(): number {
    let length = -1;
    this.#await(() => {
      length = recv(this.#memory, this.#accepted, this.#bytes, BULK);
      return length >= 0;
    });
    return length;
  }

  /** Let turns pass until `isThere`. */
  #await(isThere: () => boolean): void {
    for (let i = 0; i < PATIENCE; i++) {
      this.#turn();
      if (isThere()) return;
    }
    throw new Unexpected('nothing is heard');
  }
}

function fail(error: unknown): never {
  throw error;
}
