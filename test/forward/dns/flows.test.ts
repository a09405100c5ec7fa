/** DNS forwarding with real sockets on loopback, a manual clock, and packets in and out at the guest's side. */
import assert from 'node:assert/strict';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { defaultAddresses, defaultLimits, type Limits } from '../../../src/config.ts';
import { DnsFlows } from '../../../src/forward/dns/flows.ts';
import type { FlowContext } from '../../../src/forward/flow/context.ts';
import { Denials } from '../../../src/forward/flow/denials.ts';
import { DescriptorBudget } from '../../../src/forward/flow/descriptor-budget.ts';
import { FlowScratch } from '../../../src/forward/flow/scratch.ts';
import { Resolvers } from '../../../src/forward/target/resolvers.ts';
import type { IoHandler, TimerNode } from '../../../src/loop.ts';
import { StackScratch } from '../../../src/stack/buffer/scratch.ts';
import { Slab } from '../../../src/stack/buffer/slab.ts';
import { Counter, Counters } from '../../../src/stack/counters.ts';
import { HalfSipHash } from '../../../src/stack/half-sip-hash.ts';
import { OwnAddresses } from '../../../src/stack/ip/own-addresses.ts';
import { Egress } from '../../../src/stack/link/egress.ts';
import type { Link, TxFrame } from '../../../src/stack/link/link.ts';
import { Packet } from '../../../src/stack/link/packet.ts';
import { NeighborTable } from '../../../src/stack/neighbor/cache.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { DropReason } from '../../../src/stack/wire/drop-reason.ts';
import { UdpHeader } from '../../../src/stack/wire/udp.ts';
import { Epoll } from '../../../src/sys/epoll.ts';
import { close } from '../../../src/sys/io.ts';
import { Memory } from '../../../src/sys/memory.ts';
import { naiveSum } from '../../support/naive-sum.ts';
import { seededRng } from '../../support/seeded-rng.ts';
import { PATIENCE_MS } from '../../support/wait.ts';

const MAX_EVENTS = 64;
const GUEST_PORT = 40001;

interface Reply {
  src: string;
  dst: string;
  srcPort: number;
  dstPort: number;
  dns: Buffer;
}

function readReply(ip: Buffer): Reply {
  const isV4 = (ip[0] as number) >> 4 === 4;
  const udp = ip.subarray(isV4 ? 20 : 40);
  assert.equal(isV4 ? ip[9] : ip[6], 17);
  const addresses = isV4 ? ip.subarray(12, 20) : ip.subarray(8, 40);
  const pseudo = Buffer.from([udp.length >> 8, udp.length & 255, 0, 17]);
  assert.equal(udp.readUInt16BE(4), udp.length);
  assert.equal(naiveSum(Buffer.concat([addresses, pseudo, udp])), 0xffff, 'UDP checksum');
  const text = (at: Buffer): string =>
    isV4 ? at.join('.') : (at.toString('hex').match(/..../g) as string[]).join(':');
  const half = addresses.length / 2;
  return {
    src: text(addresses.subarray(0, half)),
    dst: text(addresses.subarray(half)),
    srcPort: udp.readUInt16BE(0),
    dstPort: udp.readUInt16BE(2),
    dns: Buffer.from(udp.subarray(8)),
  };
}

/** The engine's part: a real epoll set, timers on a manual clock, and a link that keeps what it is given. */
class Harness {
  readonly counters = new Counters();
  readonly resolvers = new Resolvers();
  readonly clock = { nowMs: 1000, turn: 0, bytesLeft: 1 << 20, sendLeft: 1 << 20, batchFrames: 64 };
  readonly descriptors = new DescriptorBudget(1000);
  readonly replies: Reply[] = [];
  readonly flows: DnsFlows;
  /** Sockets watched so far. */
  adds = 0;
  readonly #slab = new Slab(3 * 1024 * 1024, 0);
  readonly #epoll: Epoll;
  readonly #handlers = new Map<number, { fd: number; handler: IoHandler }>();
  #ready: IoHandler[] = [];
  readonly #timers = new Set<TimerNode>();
  readonly #frame: number;
  #more = 0;

  constructor(port: number, limits: Partial<Limits> = {}) {
    const slab = this.#slab;
    const memory = new Memory(slab.buffer);
    this.#epoll = new Epoll(memory.structures, MAX_EVENTS);
    this.#frame = slab.region(70000);
    const rng = seededRng(7);
    const own = new OwnAddresses(defaultAddresses);
    const link: Link = {
      medium: 'ip',
      mtu: 65535,
      checksumOffload: false,
      tso: false,
      uso: false,
      full: false,
      refreshMtu: () => undefined,
      transmit: (frame) => this.#onFrame(frame),
    };
    const timers = { update: () => undefined, cancel: () => undefined };
    const context: Partial<FlowContext> = {
      denials: new Denials({ clock: this.clock, timers, report: () => undefined }, 'never', () => false),
      source4: null,
      source6: null,
      outboundInterface4: '',
      outboundInterface6: '',
      memory,
      slab,
      scratch: new FlowScratch(slab, memory),
      poller: {
        add: (fd, events, handler) => {
          const token = ++this.adds;
          const result = this.#epoll.add(fd, events, token, 0);
          if (result < 0) return result;
          this.#handlers.set(token, { fd, handler });
          return token;
        },
        modify: () => assert.fail('it waits for the same as before'),
        remove: () => assert.fail('the flow closes its descriptor'),
        forget: (token) => {
          const entry = this.#handlers.get(token);
          assert.ok(entry, 'a token is given back once');
          assert.equal(this.#epoll.remove(entry.fd), 0, 'the descriptor is still open');
          this.#handlers.delete(token);
        },
        ready: (handler) => this.#ready.push(handler),
        readClock: () => undefined,
      },
      timers: {
        update: (node) => this.#timers.add(node),
        cancel: (node) => this.#timers.delete(node),
      },
      clock: this.clock,
      rng,
      hash: new HalfSipHash(1, 2),
      limits: { ...defaultLimits, ...limits },
      counters: this.counters,
      descriptors: this.descriptors,
      egress: new Egress(new StackScratch(slab), link, own, new NeighborTable(16, own), this.counters, rng),
      resolvers: this.resolvers,
      link,
    };
    // Policy, ICMP and the rest have no part in this.
    this.flows = new DnsFlows(context as FlowContext, port);
  }

  #onFrame(frame: TxFrame): number {
    const bytes = this.#slab.bytes;
    const pieces = [Buffer.from(bytes.subarray(frame.headOffset, frame.headOffset + frame.headLength))];
    for (let i = 0; i < frame.parts.count; i++) {
      const at = frame.parts.offset[i] as number;
      pieces.push(Buffer.from(bytes.subarray(at, at + (frame.parts.length[i] as number))));
    }
    this.replies.push(readReply(Buffer.concat(pieces)));
    return 0;
  }

  /** A datagram of the guest to the DNS address. */
  query(dns: Buffer, options: { port?: number; v6?: boolean; more?: boolean } = {}): void {
    const p = new Packet();
    p.isV4 = options.v6 !== true;
    p.src.copyFrom(parseIpAddress(p.isV4 ? '10.0.2.100' : 'fd00::100'));
    p.dst.copyFrom(parseIpAddress(p.isV4 ? '10.0.2.3' : 'fd00::3'));
    p.protocol = 17;
    const frame = this.#frame + (options.more === true ? this.#more++ * 4096 : 0);
    p.offset = frame;
    p.length = 8 + dns.length;
    const h = new UdpHeader();
    h.srcPort = options.port ?? GUEST_PORT;
    h.dstPort = 53;
    h.length = 8 + dns.length;
    this.#slab.bytes.set(dns, frame + 8);
    this.flows.onQuery(p, h);
    if (options.more !== true) this.flush();
  }

  /** The end of a batch of frames. */
  flush(): void {
    this.flows.flush();
    this.clock.turn++;
    this.#more = 0;
    // What was borrowed is gone after the call.
    this.#slab.bytes.fill(0xee, this.#frame, this.#frame + 70_000);
  }

  /** One turn of the loop, without waiting. */
  turn(): void {
    this.clock.turn++;
    const ready = this.#ready;
    this.#ready = [];
    for (const handler of ready) handler.onIo(0);
    const n = this.#epoll.wait(0);
    for (let i = 0; i < n; i++) {
      this.#handlers.get(this.#epoll.tokenAt(i))?.handler.onIo(this.#epoll.eventsAt(i));
    }
  }

  /** Let time pass, and what is due happen. */
  advance(ms: number): void {
    this.clock.nowMs += ms;
    for (const node of [...this.#timers]) {
      if (node.deadline <= this.clock.nowMs) {
        this.#timers.delete(node);
        node.onTimer(this.clock.nowMs);
      }
    }
  }

  /** Turn until `condition` holds. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const patience = performance.now() + PATIENCE_MS;
    for (;;) {
      this.turn();
      if (condition()) return;
      if (performance.now() > patience) assert.fail(`waited in vain for ${what}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  reply(index: number): Reply {
    const one = this.replies[index];
    assert.ok(one, `answer ${index} for the guest`);
    return one;
  }

  drops(reason: DropReason): number {
    return this.counters.drops[-reason] as number;
  }

  count(counter: Counter): number {
    return this.counters.values[counter] as number;
  }

  end(): void {
    assert.equal(this.flows.size, 0, 'no query left');
    // Sockets that wait for nothing are closed when they are old.
    for (let i = 0; i < 400 && this.#timers.size > 0; i++) this.advance(1000);
    assert.equal(this.descriptors.used, 0, 'no descriptor counted');
    assert.equal(this.#handlers.size, 0, 'nothing watched');
    assert.equal(this.#timers.size, 0, 'no timer left');
    close(this.#epoll.fd);
  }
}

interface Received {
  dns: Buffer;
  from: RemoteInfo;
}

/** A resolver that does nothing by itself. */
class Server {
  readonly received: Received[] = [];
  readonly socket: Socket;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('message', (dns, from) => this.received.push({ dns, from }));
  }

  get port(): number {
    return this.socket.address().port;
  }

  at(index: number): Received {
    const one = this.received[index];
    assert.ok(one, `datagram ${index} at the resolver`);
    return one;
  }

  /** Send to where query `index` came from; done when the kernel has it. */
  async send(dns: Buffer, index = 0): Promise<void> {
    const { from } = this.at(index);
    await new Promise((resolve) => this.socket.send(dns, from.port, from.address, resolve));
  }
}

async function listen(address: string, port: number): Promise<Server> {
  // Unreferenced, so that a failed test ends instead of hanging.
  const socket = createSocket('udp4').unref();
  socket.bind(port, address);
  await once(socket, 'listening');
  return new Server(socket);
}

interface World {
  h: Harness;
  servers: Server[];
}

/** Run `body` with resolvers at 127.0.0.2, .3, … (all at one port), and see that no descriptor outlives it. */
async function withWorld(
  count: number,
  limits: Partial<Limits>,
  body: (world: World) => Promise<void>,
): Promise<void> {
  const before = readdirSync('/proc/self/fd').length;
  const first = await listen('127.0.0.2', 0);
  const servers = [first];
  for (let i = 1; i < count; i++) servers.push(await listen(`127.0.0.${2 + i}`, first.port));
  const h = new Harness(first.port, limits);
  h.resolvers.set(servers.map((server) => server.socket.address().address));
  try {
    await body({ h, servers });
    h.end();
  } finally {
    for (const server of servers) {
      server.socket.close();
      await once(server.socket, 'close');
    }
  }
  assert.equal(readdirSync('/proc/self/fd').length, before, 'open descriptors');
}

const OPT = (size: number): Buffer => Buffer.from([0, 0, 41, size >> 8, size & 255, 0, 0, 0, 0, 0, 0]);

function message(id: number, flags: number, name: string, counts: number[], rest: Buffer, type = 1): Buffer {
  const labels = name
    .split('.')
    .map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  const header = Buffer.alloc(12);
  [id, flags, ...counts].forEach((value, i) => {
    header.writeUInt16BE(value, 2 * i);
  });
  return Buffer.concat([header, ...labels, Buffer.from([0, 0, type, 0, 1]), rest]);
}

function ask(id: number, name = 'host.example', edns = 0): Buffer {
  return message(id, 0x0100, name, [1, 0, 0, edns > 0 ? 1 : 0], edns > 0 ? OPT(edns) : Buffer.alloc(0));
}

/** An answer of one record, filled up to `size` bytes in all. */
function answerOf(query: Buffer, name = 'host.example', size = 0, mark = 1): Buffer {
  const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, mark]);
  const whole = message(query.readUInt16BE(0), 0x8180, name, [1, 1, 0, 0], record);
  return size > whole.length ? Buffer.concat([whole, Buffer.alloc(size - whole.length, 0x55)]) : whole;
}

const rcode = (dns: Buffer): number => dns.readUInt16BE(2) & 15;
const SERVFAIL = 2;

describe('a query', () => {
  test('is asked with an id and port of our own, and answered with the guest’s id from the address asked', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.query(ask(0x1234));
      await h.until(() => server.received.length === 1, 'the query');
      const { dns, from } = server.at(0);
      assert.notEqual(dns.readUInt16BE(0), 0x1234);
      assert.notEqual(from.port, GUEST_PORT);
      assert.deepEqual(dns.subarray(2), ask(0x1234).subarray(2), 'all but the id is as the guest sent it');
      assert.equal(h.flows.size, 1);
      assert.equal(h.descriptors.used, 1);

      await server.send(answerOf(dns));
      await h.until(() => h.replies.length === 1, 'the answer');
      const reply = h.reply(0);
      assert.deepEqual(reply.dns, answerOf(ask(0x1234)));
      assert.equal(reply.src, '10.0.2.3');
      assert.equal(reply.srcPort, 53);
      assert.equal(reply.dst, '10.0.2.100');
      assert.equal(reply.dstPort, GUEST_PORT);
      assert.equal(h.count(Counter.DnsQueries), 1);
      assert.equal(h.count(Counter.DnsFailures), 0);
    });
  });

  test('over IPv6 is answered from the IPv6 DNS address', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.query(ask(77), { v6: true });
      await h.until(() => server.received.length === 1, 'the query');
      await server.send(answerOf(server.at(0).dns));
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(h.reply(0).src, 'fd00:0000:0000:0000:0000:0000:0000:0003');
      assert.equal(h.reply(0).dst, 'fd00:0000:0000:0000:0000:0000:0000:0100');
      assert.deepEqual(h.reply(0).dns, answerOf(ask(77)));
    });
  });

  test('has an id that nobody can guess, and each turn a random one of several source ports (RFC 5452 §9.2)', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      for (let i = 0; i < 16; i++) h.query(ask(i), { port: 41000 + i });
      await h.until(() => server.received.length === 16, 'the queries');
      const ids = new Set(server.received.map(({ dns }) => dns.readUInt16BE(0)));
      const ports = new Set(server.received.map(({ from }) => from.port));
      assert.ok(ids.size >= 15, `${ids.size} different ids`);
      assert.ok(ports.size >= 5 && ports.size <= 8, `${ports.size} ports`);
      for (let i = 0; i < 16; i++) await server.send(answerOf(server.at(i).dns, 'host.example', 0, i), i);
      await h.until(() => h.replies.length === 16, 'the answers');
      for (const { dns, dstPort } of h.replies) {
        assert.equal(dns.readUInt16BE(0), dstPort - 41000, 'each gets its own id back');
        assert.equal(dns.at(-1), dstPort - 41000, 'each gets its own answer');
      }
    });
  });

  test('review O-10: queries of one batch go by one socket, and no socket takes more than 128 or lives longer than 10 s', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      for (let i = 0; i < 16; i++) h.query(ask(i), { port: 41000, more: true });
      h.flush();
      await h.until(() => server.received.length === 16, 'the batch');
      assert.equal(new Set(server.received.map(({ from }) => from.port)).size, 1);
      for (let i = 0; i < 16; i++) await server.send(answerOf(server.at(i).dns), i);
      await h.until(() => h.replies.length === 16, 'the answers');
      const perPort = new Map<number, number>();
      for (let i = 0; i < 2000; i++) {
        server.received.length = 0;
        h.query(ask(i));
        await h.until(() => server.received.length === 1, 'a query');
        const { port } = server.at(0).from;
        perPort.set(port, (perPort.get(port) ?? 0) + 1);
        await server.send(answerOf(server.at(0).dns));
        await h.until(() => h.replies.length === 17 + i, 'its answer');
      }
      assert.ok(Math.max(...perPort.values()) <= 128, `${Math.max(...perPort.values())} by one port`);
      assert.ok(perPort.size >= 16 && perPort.size <= 40, `${perPort.size} ports for 2000 queries`);
      assert.ok(h.descriptors.used <= 8);
      const before = new Set(perPort.keys());
      for (let i = 0; i < 10; i++) h.advance(1000);
      assert.equal(h.descriptors.used, 0, 'idle sockets are closed');
      server.received.length = 0;
      h.query(ask(1));
      await h.until(() => server.received.length === 1, 'a query later');
      assert.ok(!before.has(server.at(0).from.port), 'by a port of its own');
      await server.send(answerOf(server.at(0).dns));
      await h.until(() => h.replies.length === 2017, 'its answer');
    });
  });

  test('that comes again while the first is outstanding is not sent twice', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.query(ask(5));
      h.query(ask(5));
      h.query(ask(5, 'HOST.example'));
      h.query(ask(6, 'last.example'));
      await h.until(() => server.received.some(({ dns }) => dns.includes('last')), 'the last query');
      assert.equal(server.received.length, 2);
      assert.equal(h.flows.size, 2);
      await server.send(answerOf(server.at(0).dns), 0);
      await server.send(answerOf(server.at(1).dns, 'last.example'), 1);
      await h.until(() => h.replies.length === 2, 'one answer each');
    });
  });

  test('that uses the id of an outstanding one for another question takes its place', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.query(ask(5, 'old.example'));
      h.query(ask(5, 'new.example'));
      assert.equal(h.flows.size, 1);
      await h.until(() => server.received.length === 2, 'both queries');
      const at = server.received.findIndex(({ dns }) => dns.includes('new'));
      await server.send(answerOf(server.at(at).dns, 'new.example'), at);
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.ok(h.reply(0).dns.includes('new'));
    });
  });
});

describe('an answer', () => {
  test('with another id, another question, without QR, cut short or from elsewhere is waited past (D-02)', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      const stranger = await listen('127.0.0.9', 0);
      h.query(ask(9));
      await h.until(() => server.received.length === 1, 'the query');
      const { dns, from } = server.at(0);
      stranger.received.push({ dns, from });
      await stranger.send(answerOf(dns, 'host.example', 0, 66));
      const wrongId = answerOf(dns, 'host.example', 0, 67);
      wrongId.writeUInt16BE(dns.readUInt16BE(0) ^ 1, 0);
      await server.send(wrongId);
      await server.send(answerOf(dns, 'host.exampla', 0, 68));
      const wrongType = answerOf(dns, 'host.example', 0, 69);
      wrongType.writeUInt8(28, ask(9).length - 3);
      await server.send(wrongType);
      await server.send(dns);
      await server.send(answerOf(dns).subarray(0, 11));
      await server.send(answerOf(dns).subarray(0, 20));
      await server.send(Buffer.alloc(0));
      await server.send(answerOf(dns, 'HOST.eXample', 0, 1));
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(h.reply(0).dns.at(-1), 1);
      assert.equal(h.drops(DropReason.UdpPeer), 4, 'id, name, type, name cut short');
      assert.equal(h.drops(DropReason.DnsMalformed), 3, 'no QR, no whole header, nothing');
      stranger.socket.close();
      await once(stranger.socket, 'close');
    });
  });

  test('is found behind many wrong ones, a share of them per turn', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.query(ask(9));
      await h.until(() => server.received.length === 1, 'the query');
      const wrong = answerOf(server.at(0).dns);
      wrong.writeUInt16BE(wrong.readUInt16BE(0) ^ 0x8000, 0);
      for (let i = 0; i < 30; i++) await server.send(wrong);
      await server.send(answerOf(server.at(0).dns));
      h.turn();
      assert.equal(h.drops(DropReason.UdpPeer), 8);
      assert.equal(h.replies.length, 0);
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(h.drops(DropReason.UdpPeer), 30);
    });
  });

  for (const [size, edns, whole] of [
    [512, 0, true],
    [513, 0, false],
    [600, 100, false],
    [1232, 1232, true],
    [1233, 1232, false],
    [4096, 4096, true],
    [20000, 4096, false],
    [65000, 65535, true],
  ] as const) {
    const limit = edns > 0 ? `EDNS ${edns}` : 'no EDNS';
    test(`of ${size} bytes for a guest with ${limit} is ${whole ? 'passed on' : 'truncated with TC'} (D-03)`, async () => {
      await withWorld(1, {}, async ({ h, servers: [server] }) => {
        assert.ok(server);
        h.query(ask(0xabcd, 'host.example', edns));
        await h.until(() => server.received.length === 1, 'the query');
        await server.send(answerOf(server.at(0).dns, 'host.example', size));
        await h.until(() => h.replies.length === 1, 'the answer');
        const { dns } = h.reply(0);
        assert.equal(dns.readUInt16BE(0), 0xabcd);
        assert.equal((dns.readUInt16BE(2) & 0x0200) !== 0, !whole, 'TC');
        if (whole) assert.deepEqual(dns, answerOf(ask(0xabcd), 'host.example', size));
        else assert.deepEqual(dns, message(0xabcd, 0x8380, 'host.example', [1, 0, 0, 0], Buffer.alloc(0)));
      });
    });
  }

  test('that is an error without a question is not passed on: the next resolver is asked', async () => {
    await withWorld(2, {}, async ({ h, servers: [first, second] }) => {
      assert.ok(first && second);
      h.query(ask(3));
      await h.until(() => first.received.length === 1, 'the query');
      const error = Buffer.alloc(12);
      error.writeUInt16BE(first.at(0).dns.readUInt16BE(0), 0);
      error.writeUInt16BE(0x8001, 2);
      await first.send(error);
      await h.until(() => second.received.length === 1, 'the second try');
      await second.send(answerOf(second.at(0).dns));
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.deepEqual(h.reply(0).dns, answerOf(ask(3)));
    });
  });
});

describe('silence', () => {
  test('of the first resolver for 1.5 s makes it the turn of the second, with another id', async () => {
    await withWorld(2, {}, async ({ h, servers: [first, second] }) => {
      assert.ok(first && second);
      h.query(ask(8));
      await h.until(() => first.received.length === 1, 'the first try');
      h.advance(1499);
      assert.equal(h.adds, 1, 'not a millisecond too early');
      h.advance(1);
      assert.equal(h.adds, 2);
      await h.until(() => second.received.length === 1, 'the second try');
      assert.notEqual(second.at(0).dns.readUInt16BE(0), first.at(0).dns.readUInt16BE(0));
      // An id counts on its own socket only.
      const stray = answerOf(first.at(0).dns, 'host.example', 0, 1);
      await second.send(stray);
      await second.send(answerOf(second.at(0).dns, 'host.example', 0, 2));
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(h.reply(0).dns.at(-1), 2);
      assert.equal(h.count(Counter.DnsFailures), 0);
    });
  });

  test('review OP-3: of two resolvers that take 2 s each is no silence: the first one’s late answer counts', async () => {
    await withWorld(2, {}, async ({ h, servers: [first, second] }) => {
      assert.ok(first && second);
      h.query(ask(8));
      await h.until(() => first.received.length === 1, 'the first try');
      h.advance(1500);
      await h.until(() => second.received.length === 1, 'the second try');
      h.advance(500);
      await first.send(answerOf(first.at(0).dns, 'host.example', 0, 1));
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(h.reply(0).dns.at(-1), 1);
      await second.send(answerOf(second.at(0).dns, 'host.example', 0, 2));
      await h.until(() => h.drops(DropReason.UdpPeer) === 1, 'the second answer');
      assert.equal(h.replies.length, 1);
    });
  });

  test('review OP-3: for longer than the guest is made to wait: who asks again gets the answer to the first question', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.query(ask(8));
      await h.until(() => server.received.length === 1, 'the query');
      for (let i = 0; i < 3; i++) h.advance(1500);
      assert.equal(rcode(h.reply(0).dns), SERVFAIL);
      assert.equal(h.flows.size, 0);
      // Another socket, another id, the same question; and one that is not.
      h.query(ask(99), { port: 50000 });
      h.query(ask(99, 'other.example'), { port: 50001 });
      h.advance(500);
      await server.send(answerOf(server.at(0).dns, 'host.example', 0, 7));
      await h.until(() => h.replies.length === 2, 'the answer after 5 s');
      assert.equal(h.reply(1).dstPort, 50000);
      assert.deepEqual(h.reply(1).dns, answerOf(ask(99), 'host.example', 0, 7));
      for (let i = 0; i < 4; i++) h.advance(1500);
      assert.equal(h.replies.length, 3, 'the other one failed');
      await h.until(() => server.received.length > 3, 'all tries');
    });
  });

  for (const [options, servers, steps] of [
    [{ timeoutMs: 1000, attempts: 1 }, 1, [1000]],
    [{ timeoutMs: 1000, attempts: 1 }, 2, [500]],
    [{ timeoutMs: 1000, attempts: 2 }, 3, [333, 333]],
    [{ timeoutMs: 30_000, attempts: 5 }, 2, [1500]],
  ] as const) {
    test(`review OP-3: with timeout ${options.timeoutMs} and attempts ${options.attempts}, each of ${servers} is asked in time`, async () => {
      await withWorld(servers, {}, async ({ h, servers: all }) => {
        h.resolvers.set(
          all.map((server) => server.socket.address().address),
          { ...options, rotate: false, useTcp: false },
        );
        h.query(ask(8));
        await h.until(() => all[0]?.received.length === 1, 'the first try');
        for (const [i, ms] of steps.entries()) {
          h.advance(ms);
          if (servers > 1) await h.until(() => all[i + 1]?.received.length === 1, `resolver ${i + 2}`);
        }
        for (let i = 0; i < 30; i++) h.advance(250);
        assert.equal(h.replies.length, 1);
        h.turn();
        if (options.attempts === 1)
          assert.ok(
            all.every(({ received }) => received.length <= 1),
            'asked once',
          );
      });
    });
  }

  test('review OP-3: rotate begins with another resolver each time', async () => {
    await withWorld(3, {}, async ({ h, servers }) => {
      h.resolvers.set(
        servers.map((server) => server.socket.address().address),
        { timeoutMs: 5000, attempts: 2, rotate: true, useTcp: false },
      );
      for (let i = 0; i < 6; i++) h.query(ask(i));
      await h.until(() => servers.every(({ received }) => received.length === 2), 'two queries each');
      for (const server of servers)
        for (let i = 0; i < 2; i++) await server.send(answerOf(server.at(i).dns), i);
      await h.until(() => h.replies.length === 6, 'the answers');
    });
  });

  test('of the only resolver makes us repeat the datagram, and a late answer to the first is good', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.query(ask(8));
      h.advance(1500);
      await h.until(() => server.received.length === 2, 'the second try');
      assert.deepEqual(server.at(1).dns, server.at(0).dns);
      assert.equal(server.at(1).from.port, server.at(0).from.port);
      await server.send(answerOf(server.at(0).dns));
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(rcode(h.reply(0).dns), 0);
    });
  });

  test('of all resolvers is SERVFAIL within 5 s after three tries (D-04)', async () => {
    await withWorld(4, {}, async ({ h, servers }) => {
      h.query(ask(0x0800));
      const start = h.clock.nowMs;
      for (let i = 0; i < 5000 && h.replies.length === 0; i++) h.advance(1);
      assert.equal(h.clock.nowMs - start, 4500);
      assert.deepEqual(
        h.replies.map(({ dns }) => dns),
        [message(0x0800, 0x8182, 'host.example', [1, 0, 0, 0], Buffer.alloc(0))],
      );
      await h.until(() => servers.slice(0, 3).every(({ received }) => received.length === 1), 'three tries');
      assert.equal(servers[3]?.received.length, 0);
      assert.equal(h.count(Counter.DnsFailures), 1);
    });
  });
});

describe('a resolver that is not there', () => {
  test('(port unreachable) is passed over at once', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.resolvers.set(['127.0.0.50', '127.0.0.2']);
      h.query(ask(1));
      await h.until(() => server.received.length === 1, 'the second try');
      await server.send(answerOf(server.at(0).dns));
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(rcode(h.reply(0).dns), 0);
    });
  });

  test('or cannot be reached from here is passed over at once', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      // The kernel refuses to connect to the broadcast address without SO_BROADCAST.
      h.resolvers.set(['255.255.255.255', '127.0.0.2']);
      h.query(ask(1));
      await h.until(() => server.received.length === 1, 'the second try');
      await server.send(answerOf(server.at(0).dns));
      await h.until(() => h.replies.length === 1, 'the answer');
    });
  });

  for (const list of [['127.0.0.50'], ['127.0.0.50', '127.0.0.51', '127.0.0.52', '127.0.0.53']]) {
    test(`means SERVFAIL without waiting when no other is (${list.length} in the list)`, async () => {
      await withWorld(1, {}, async ({ h }) => {
        h.resolvers.set(list);
        h.query(ask(1));
        await h.until(() => h.replies.length === 1, 'SERVFAIL');
        assert.equal(rcode(h.reply(0).dns), SERVFAIL);
      });
    });
  }

  test('because the list is empty means SERVFAIL at once', async () => {
    await withWorld(1, {}, async ({ h }) => {
      h.resolvers.set([]);
      h.query(ask(0x77, 'a.b'));
      assert.equal(h.replies.length, 1);
      assert.equal(rcode(h.reply(0).dns), SERVFAIL);
      assert.equal(h.reply(0).dns.readUInt16BE(0), 0x77);
      assert.equal(h.adds, 0);
    });
  });
});

describe('a change of the resolvers while a query is in flight', () => {
  test('is heeded by the next try', async () => {
    await withWorld(2, {}, async ({ h, servers: [first, second] }) => {
      assert.ok(first && second);
      h.resolvers.set(['127.0.0.2']);
      h.query(ask(1));
      await h.until(() => first.received.length === 1, 'the first try');
      h.resolvers.set(['127.0.0.3']);
      h.advance(1500);
      await h.until(() => second.received.length === 1, 'the try at the new one');
      await second.send(answerOf(second.at(0).dns));
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(first.received.length, 1);
    });
  });

  test('to none at all means SERVFAIL at the next try', async () => {
    await withWorld(1, {}, async ({ h }) => {
      h.query(ask(1));
      h.resolvers.set([]);
      h.advance(1500);
      assert.equal(rcode(h.reply(0).dns), SERVFAIL);
    });
  });
});

describe('a resolver that says', () => {
  for (const [word, code] of [
    ['SERVFAIL', 2],
    ['NOTIMP', 4],
    ['REFUSED', 5],
  ] as const) {
    const no = (dns: Buffer, mark: number): Buffer => {
      const out = answerOf(dns, 'host.example', 0, mark);
      out.writeUInt16BE(0x8180 | code, 2);
      return out;
    };

    test(`review OP-3: ${word} gives way to the next, at once`, async () => {
      await withWorld(2, {}, async ({ h, servers: [first, second] }) => {
        assert.ok(first && second);
        h.query(ask(3));
        await h.until(() => first.received.length === 1, 'the query');
        await first.send(no(first.at(0).dns, 1));
        await h.until(() => second.received.length === 1, 'the second try');
        await second.send(answerOf(second.at(0).dns, 'host.example', 0, 2));
        await h.until(() => h.replies.length === 1, 'the answer');
        assert.deepEqual(h.reply(0).dns, answerOf(ask(3), 'host.example', 0, 2));
      });
    });

    test(`review OP-3: ${word} is passed on when all say so`, async () => {
      await withWorld(2, {}, async ({ h, servers: [first, second] }) => {
        assert.ok(first && second);
        h.query(ask(3));
        await h.until(() => first.received.length === 1, 'the query');
        await first.send(no(first.at(0).dns, 1));
        await h.until(() => second.received.length === 1, 'the second try');
        await second.send(no(second.at(0).dns, 2));
        await h.until(() => h.replies.length === 1, 'the answer');
        assert.deepEqual(h.reply(0).dns, no(ask(3), 2));
      });
    });
  }

  test('NXDOMAIN is believed', async () => {
    await withWorld(2, {}, async ({ h, servers: [first, second] }) => {
      assert.ok(first && second);
      h.query(ask(3));
      await h.until(() => first.received.length === 1, 'the query');
      const none = message(
        first.at(0).dns.readUInt16BE(0),
        0x8183,
        'host.example',
        [1, 0, 0, 0],
        Buffer.alloc(0),
      );
      await first.send(none);
      await h.until(() => h.replies.length === 1, 'the answer');
      assert.equal(rcode(h.reply(0).dns), 3);
      assert.equal(second.received.length, 0);
    });
  });
});

describe('limits', () => {
  test('review O-10: beyond dnsMaxOutstanding the oldest query gives way without a word', async () => {
    await withWorld(1, { dnsMaxOutstanding: 2 }, async ({ h, servers: [server] }) => {
      assert.ok(server);
      for (let id = 1; id <= 3; id++) h.query(ask(id));
      assert.equal(h.flows.size, 2);
      assert.equal(h.replies.length, 0, 'nobody is refused');
      assert.equal(h.drops(DropReason.DnsLimit), 1);
      await h.until(() => server.received.length === 3, 'the queries');
      for (let i = 0; i < 3; i++) await server.send(answerOf(server.at(i).dns), i);
      await h.until(() => h.drops(DropReason.UdpPeer) === 1 && h.replies.length === 2, 'the answers');
      assert.deepEqual(h.replies.map(({ dns }) => dns.readUInt16BE(0)).sort(), [2, 3]);
    });
  });

  test('without descriptors to spare a query gets SERVFAIL', async () => {
    await withWorld(1, {}, async ({ h }) => {
      h.descriptors.limit = 0;
      h.query(ask(1));
      assert.equal(rcode(h.reply(0).dns), SERVFAIL);
      assert.equal(h.adds, 0);
      assert.equal(h.drops(DropReason.DnsLimit), 1);
    });
  });

  test('without descriptors for another socket the old one goes on', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      h.descriptors.limit = 1;
      for (let i = 0; i < 300; i++) {
        h.query(ask(i));
        await h.until(() => server.received.length === i + 1, 'the query');
        await server.send(answerOf(server.at(i).dns), i);
        await h.until(() => h.replies.length === i + 1, 'the answer');
        assert.equal(rcode(h.reply(i).dns), 0);
      }
    });
  });
});

describe('what is no query', () => {
  interface Outcome {
    h: Harness;
    reply: Reply | undefined;
  }

  async function refused(dns: Buffer): Promise<Outcome> {
    const outcomes: Outcome[] = [];
    await withWorld(1, {}, async ({ h }) => {
      h.query(dns);
      assert.equal(h.adds, 0, 'nothing is asked');
      assert.ok(h.replies.length <= 1);
      outcomes.push({ h, reply: h.replies[0] });
    });
    return outcomes[0] as Outcome;
  }

  test('a response gets no answer (U-06)', async () => {
    const { h, reply } = await refused(answerOf(ask(1)));
    assert.equal(reply, undefined);
    assert.equal(h.drops(DropReason.DnsResponse), 1);
  });

  test('less than a header gets no answer', async () => {
    for (const length of [0, 1, 11]) {
      const { h, reply } = await refused(ask(1).subarray(0, length));
      assert.equal(reply, undefined);
      assert.equal(h.drops(DropReason.DnsMalformed), 1);
    }
  });

  test('an UPDATE (opcode 5) gets NOTIMP', async () => {
    const { reply } = await refused(message(1, 5 << 11, 'a.example', [1, 0, 1, 0], Buffer.alloc(0), 6));
    assert.equal(rcode(reply?.dns as Buffer), 4);
    assert.equal(reply?.dns.readUInt16BE(2), 0x8000 | (5 << 11) | 0x80 | 4);
  });

  const pointer = Buffer.concat([ask(1).subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]);
  const noQuestion = ask(1);
  noQuestion.writeUInt16BE(0, 4);
  const twoQuestions = ask(1);
  twoQuestions.writeUInt16BE(2, 4);
  for (const [what, dns] of [
    ['a question count of 0', noQuestion],
    ['a question count of 2', twoQuestions],
    ['a name that points at itself', pointer],
    ['a name without an end', ask(1).subarray(0, 20)],
    ['a query of 4097 bytes', Buffer.concat([ask(1), Buffer.alloc(4097 - ask(1).length)])],
  ] as const) {
    test(`${what} gets FORMERR (D-01)`, async () => {
      const { h, reply } = await refused(dns);
      assert.equal(rcode(reply?.dns as Buffer), 1);
      assert.equal(reply?.dns.readUInt16BE(0), 1);
      assert.equal(h.drops(DropReason.DnsMalformed), 1);
    });
  }

  test('a query of 4096 bytes is one', async () => {
    await withWorld(1, {}, async ({ h, servers: [server] }) => {
      assert.ok(server);
      const long = Buffer.concat([ask(1), Buffer.alloc(4096 - ask(1).length, 7)]);
      h.query(long);
      await h.until(() => server.received.length === 1, 'the query');
      assert.deepEqual(server.at(0).dns.subarray(2), long.subarray(2));
      await server.send(answerOf(server.at(0).dns));
      await h.until(() => h.replies.length === 1, 'the answer');
    });
  });

  test('any bytes at all are an answer or a counted drop', async () => {
    await withWorld(1, {}, async ({ h }) => {
      h.resolvers.set([]);
      const mutated = fc.tuple(fc.nat(40), fc.nat(255)).map(([at, value]) => {
        const dns = ask(1, 'host.example', 1232);
        dns[at] = value;
        return dns;
      });
      const bytes = fc.uint8Array({ maxLength: 600 }).map((raw) => Buffer.from(raw));
      fc.assert(
        fc.property(fc.oneof(bytes, mutated), (dns) => {
          const replies = h.replies.length;
          const drops = h.drops(DropReason.DnsMalformed) + h.drops(DropReason.DnsResponse);
          h.query(dns);
          const answered = h.replies.length - replies;
          const dropped = h.drops(DropReason.DnsMalformed) + h.drops(DropReason.DnsResponse) - drops;
          assert.ok(answered + dropped >= 1);
          if (answered > 0) assert.equal(h.replies.at(-1)?.dns.readUInt16BE(0), dns.readUInt16BE(0));
        }),
        { numRuns: 2000, seed: 20 },
      );
    });
  });
});
