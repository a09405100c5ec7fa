/**
 * A whole guest on a manual clock: the real engine loop, device, stack and flows, above a fake kernel (fake-kernel.ts).
 * The test is both the hostile guest, with frames in and out, and the host's other end.
 *
 * The set-up of the hazard catalogue: guest 10.0.2.100 and fd00::100, MTU 1500, policy "allow 198.51.100.0/24 and
 * 2001:db8:1::/64, everything else as by default (denied)", resolver 203.0.113.53. 198.51.100.1 and 2001:db8:1::1 answer echo on TCP
 * and UDP port 7 and to ping.
 */
import assert from 'node:assert/strict';
import { register } from 'node:module';
import { BlockList } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parseRuleEntry } from '../../../src/cli/rule.ts';
import {
  type AddressPlan,
  defaultAddresses,
  defaultLimits,
  type GuestSpec,
  type Limits,
} from '../../../src/config.ts';
import type { TapProperties } from '../../../src/device/tap-link.ts';
import type { EventLoop } from '../../../src/engine/event-loop.ts';
import type { EngineServices, Guest } from '../../../src/engine/guest.ts';
import { HostRouteTable } from '../../../src/firewall/host-routes.ts';
import { type RuleSpec, toRuleSpec } from '../../../src/firewall/rule.ts';
import type { PolicySpec } from '../../../src/firewall/verdict.ts';
import { DescriptorBudget } from '../../../src/forward/flow/descriptor-budget.ts';
import type {
  FlowEvent,
  FlowInfo,
  ListedFlow,
  Refusal,
  RefusalsLeftOut,
} from '../../../src/forward/flow/info.ts';
import { PagePool } from '../../../src/forward/flow/page-pool.ts';
import { profiles } from '../../../src/profiles.ts';
import { StackScratch } from '../../../src/stack/buffer/scratch.ts';
import { PAGE_SIZE, Slab } from '../../../src/stack/buffer/slab.ts';
import { HalfSipHash } from '../../../src/stack/half-sip-hash.ts';
import { SearchDomains } from '../../../src/stack/wire/search-domains.ts';
import { seededRng } from '../seeded-rng.ts';
import { type Datagram, type DeviceFile, FakeKernel, type StreamFile } from './fake-kernel.ts';
import {
  ACK,
  ALLOWED4,
  ALLOWED6,
  type Decoded,
  decode,
  echo,
  FIN,
  frame,
  GUEST4,
  GUEST6,
  type Ip,
  isV6,
  PSH,
  pattern,
  RST,
  SYN,
  type TcpFields,
  tcp,
  tcpOptions,
  udp,
} from './packets.ts';

// The hook must be there before anything that reaches `sys` is loaded: hence these imports, and none above.
const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
register(`./libc-hooks.${extension}`, import.meta.url, {
  data: { target: new URL(`./libc-switch.${extension}`, import.meta.url).href },
});
const { setSystem } = await import('./libc-switch.ts');
const engine = {
  ...(await import('../../../src/device/frame-io.ts')),
  ...(await import('../../../src/device/tap-link.ts')),
  ...(await import('../../../src/engine/event-loop.ts')),
  ...(await import('../../../src/engine/guest.ts')),
  ...(await import('../../../src/forward/target/name-questions.ts')),
  ...(await import('../../../src/forward/flow/scratch.ts')),
  ...(await import('../../../src/forward/splice/inside-channel.ts')),
  ...(await import('../../../src/forward/target/resolvers.ts')),
  ...(await import('../../../src/sys/memory.ts')),
};

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What fresh memory is filled with; four of them in a row in anything sent is a leak (G-6). */
export const MARKER = 0xa5;
const MARKERS = Buffer.alloc(4, MARKER);
/** Half of what the program has: there is one guest. All of it is touched for each lab, which is most of what one costs. */
const FIXED_BYTES = 8 * 1024 * 1024;
/** Memory for packets in a lab: enough for every test but those about memory. */
const LAB_MEMORY = 16 * 1024 * 1024;
const RESOLVER = '203.0.113.53';
const MAX_TURNS = 1_000_000;

export interface LabOptions {
  limits?: Partial<Limits>;
  device?: Partial<TapProperties & { txQueueLen: number }>;
  policy?: Partial<PolicySpec>;
  /** Rules in the text form of the command line. */
  allow?: string[];
  deny?: string[];
  guest?: Partial<Omit<GuestSpec, 'device' | 'limits' | 'tunnel'>>;
  addresses?: Partial<AddressPlan>;
  resolvers?: string[];
  descriptors?: number;
  /** Bytes of packet memory. */
  memory?: number;
  seed?: number;
  /** False: G-2 is not checked, which saves some collections. */
  measureHeap?: boolean;
}

const allowed = new BlockList();
allowed.addSubnet('198.51.100.0', 24, 'ipv4');
allowed.addSubnet('2001:db8:1::', 64, 'ipv6');

/** What came back from a flood. */
export interface Flooded {
  answers: number;
  bytes: number;
  sample: Decoded[];
}

/** A drop reason's or counter's name and by how much it went up. */
export type Delta = Record<string, number>;

export class Lab {
  readonly kernel: FakeKernel = new FakeKernel();
  readonly device: DeviceFile;
  readonly guest: Guest;
  readonly services: EngineServices;
  readonly loop: EventLoop;
  readonly slab: Slab;
  /** The most that the program has sent to the guest in one turn. */
  mostFrames = 0;
  /** The most flows that were opened in one turn. */
  mostOpened = 0;
  readonly logs: { level: string; message: string }[] = [];
  readonly errors: unknown[] = [];
  /** What was told of flows; only with `behavior.flowEvents`. */
  readonly flowEvents: FlowEvent[] = [];
  /** Of how many more there was no telling, one number each time it was said. */
  readonly flowsLeftOut: number[] = [];
  readonly refusals: Refusal[] = [];
  readonly refusalsLeftOut: RefusalsLeftOut[] = [];
  /** Names that the program wants resolved. */
  readonly questions: { request: number; label: string; port: number; protocol: string }[] = [];
  linkGone = '';
  readonly isTun: boolean;
  now = 1_000_000;
  /** Frames and bytes that went in, and bytes that came out. */
  framesIn = 0;
  bytesIn = 0;
  bytesOut = 0;
  /** Asks the host for its addresses and routes: whether they are known. */
  askHost: () => boolean = () => true;
  /** What the kernel may be asked for besides the resolver: by default what the policy of the catalogue allows. */
  mayReach: (address: Ip) => boolean = (address) => allowed.check(address, isV6(address) ? 'ipv6' : 'ipv4');
  readonly #heapBefore: number;
  #nextPort = 20_000;
  #flows = 0;

  constructor(options: LabOptions = {}) {
    setSystem(this.kernel);
    this.isTun = options.device?.medium === 'ip';
    const limits: Limits = { ...defaultLimits, ...options.limits };
    this.slab = new Slab(FIXED_BYTES, Math.floor((options.memory ?? LAB_MEMORY) / PAGE_SIZE));
    this.slab.bytes.fill(MARKER);
    const memory = new engine.Memory(this.slab.buffer as ArrayBuffer);
    this.kernel.attach(memory);
    this.loop = new engine.EventLoop(
      memory,
      this.slab,
      (error) => this.errors.push(error),
      () => this.now,
    );
    const rng = seededRng(options.seed ?? 1);
    const resolvers = new engine.Resolvers();
    resolvers.set(options.resolvers ?? [RESOLVER]);
    const services: EngineServices = {
      slab: this.slab,
      memory,
      scratch: new engine.FlowScratch(this.slab, memory),
      stackScratch: new StackScratch(this.slab),
      frames: new engine.FrameIo(this.slab, memory),
      poller: this.loop,
      timers: this.loop.timers,
      clock: this.loop.clock,
      rng,
      hash: new HalfSipHash(rng.u32(), rng.u32()),
      limits,
      descriptors: new DescriptorBudget(options.descriptors ?? 100_000),
      pages: new PagePool(this.slab).join(
        () => options.memory ?? LAB_MEMORY,
        () => undefined,
      ),
      resolvers,
      search: new SearchDomains(),
      names: new engine.HostNames(
        (request, label, port, protocol) => this.questions.push({ request, label, port, protocol }),
        this.loop.clock,
        this.loop.timers,
        limits.namesMax,
      ),
      inside: new engine.InsideChannel(this.loop, this.loop.timers, this.loop.clock),
      newFlowId: () => ++this.#flows,
      report: (event) => {
        if (event.type === 'flow') this.flowEvents.push(event);
        else if (event.type === 'flowsLeftOut') this.flowsLeftOut.push(event.flows);
        else if (event.type === 'refusal') this.refusals.push(event);
        else this.refusalsLeftOut.push(event);
      },
      hostRoutes: new HostRouteTable(),
      refreshHostRoutes: () => this.askHost(),
      log: (level, message) => this.logs.push({ level, message }),
      onError: (error) => this.errors.push(error),
      touched: () => undefined,
      linkDown: () => undefined,
      linkUp: () => undefined,
      onPeer: () => undefined,
      linkGone: (_, reason) => {
        this.linkGone = reason;
      },
    };
    this.services = services;
    this.device = this.kernel.openDevice();
    const device = {
      medium: 'ethernet' as const,
      mtu: 1500,
      vnetHeader: false,
      checksumOffload: false,
      tso: false,
      uso: false,
      txQueueLen: 1000,
      ...options.device,
    };
    this.guest = new engine.Guest(services, guestSpec(options), {
      link: new engine.TapLink(this.device.fd, device, services),
      info: { name: 'tap0', ...device },
      notes: [],
    });
    this.kernel.onDatagram = (d) => this.#answerDatagram(d);
    this.kernel.onConnect = (to, file) => {
      if (to.port === 7) file.onData = (data) => file.send(data);
      return 'accept';
    };
    this.run();
    this.device.fromProgram.length = 0;
    if (options.measureHeap !== false) {
      collectGarbage();
      collectGarbage();
    }
    this.#heapBefore = heapBytes();
  }

  /** The whole device queue through the loop, and everything that follows from it without time passing. */
  run(): void {
    setSystem(this.kernel);
    for (let turn = 0; turn < MAX_TURNS; turn++) {
      const before = this.device.fromProgram.length;
      const flows = this.#flows;
      const events = this.loop.turn();
      this.guest.endTurn();
      this.mostFrames = Math.max(this.mostFrames, this.device.fromProgram.length - before);
      this.mostOpened = Math.max(this.mostOpened, this.#flows - flows);
      if (events === 0 && !this.kernel.hasEdges) return;
    }
    assert.fail('the loop does not come to rest');
  }

  /** Frames from the guest, all in one batch, then the loop until it rests: what came out, decoded. */
  inject(...frames: Buffer[]): Decoded[] {
    for (const f of frames) {
      this.framesIn++;
      this.bytesIn += f.length;
      this.device.toProgram.push(f);
    }
    this.run();
    return this.take();
  }

  /**
   * As many frames as asked without making each of them anew: `templates` in turns, each changed by `change` (with
   * `putWord`, so that checksums stay right) where the program reads it to. One in 1024 answers is decoded, all are counted.
   */
  flood(
    count: number,
    templates: readonly Buffer[],
    change: (frame: Buffer, i: number) => void = () => undefined,
  ): Flooded {
    const result: Flooded = { answers: 0, bytes: 0, sample: [] };
    this.device.sink = (f) => {
      this.bytesOut += f.length;
      result.bytes += f.length;
      if ((result.answers++ & 1023) === 0) result.sample.push(this.#decode(apart(f)));
      else this.#checkMarker(f);
    };
    this.feed(count, templates, change);
    this.device.sink = null;
    return result;
  }

  /** Frames as for `flood`; what comes out is there to be taken. */
  feed(count: number, templates: readonly Buffer[], change: (frame: Buffer, i: number) => void): void {
    let i = 0;
    this.device.source = (target) => {
      if (i === count) return 0;
      const template = templates[i % templates.length] as Buffer;
      template.copy(target);
      change(target, i++);
      this.framesIn++;
      this.bytesIn += template.length;
      return template.length;
    };
    this.run();
  }

  /** IP packets from the guest. */
  send(...packets: Buffer[]): Decoded[] {
    return this.inject(...packets.map((p) => (this.isTun ? p : frame(p))));
  }

  /** What the program has sent to the guest since the last look. */
  take(): Decoded[] {
    const frames = this.device.fromProgram.splice(0);
    return frames.map((f) => {
      this.bytesOut += f.length;
      return this.#decode(f);
    });
  }

  /** Let `ms` pass, deadline by deadline: what came out. */
  advance(ms: number): Decoded[] {
    const end = this.now + ms;
    while (this.loop.timers.next <= end) this.step();
    this.now = end;
    this.run();
    return this.take();
  }

  /** Let time pass until the next deadline. The loop's clock has whole milliseconds. */
  step(): void {
    this.now = Math.max(this.now, Math.ceil(this.loop.timers.next));
    this.run();
  }

  /** Counters that change during `action`. */
  delta(action: () => void): Delta {
    const before = this.guest.counters.snapshot();
    action();
    const after = this.guest.counters.snapshot();
    const changed: Delta = {};
    for (const [name, value] of Object.entries(after)) {
      if (value !== (before[name] ?? 0)) changed[name] = value - (before[name] ?? 0);
    }
    return changed;
  }

  counter(name: string): number {
    return this.guest.counters.snapshot()[name] ?? 0;
  }

  gauge(name: string): number {
    return this.guest.flows.gauges()[name] ?? Number.NaN;
  }

  /** DROP: no reply, no state, no call that names an address, and exactly this counter went up by one. */
  expectDrop(reason: string, what: string, ...frames: Buffer[]): void {
    this.expectDrops({ [reason]: frames.length }, what, ...frames);
  }

  expectDrops(reasons: Delta, what: string, ...frames: Buffer[]): void {
    const reached = this.kernel.reached.length;
    const open = this.kernel.open;
    let out: Decoded[] = [];
    const changed = this.delta(() => {
      out = this.inject(...frames);
    });
    assert.deepEqual(out.map(summary), [], `${what}: a reply`);
    assert.equal(this.kernel.reached.length, reached, `${what}: a call to the host`);
    assert.equal(this.kernel.open, open, `${what}: a descriptor`);
    const drops = Object.fromEntries(
      Object.entries(changed)
        .filter(([name]) => name.startsWith('drop.'))
        .map(([name, n]) => [name.slice(5), n]),
    );
    assert.deepEqual(drops, reasons, what);
  }

  /** Add what there is to tell of each flow to `out`. */
  listFlows(out: FlowInfo[]): void {
    const flows: ListedFlow[] = [];
    this.guest.flows.list(flows);
    for (const flow of flows) out.push(flow.info(this.loop.clock.nowMs));
  }

  /** A port of the guest's that no test used yet. */
  port(): number {
    return this.#nextPort++;
  }

  /** A connection to `dst`, through the handshake. */
  connect(dst: Ip = ALLOWED4, port = 80, options: Partial<PeerOptions> = {}): Peer {
    const peer = new Peer(this, dst, port, options);
    peer.open();
    return peer;
  }

  /**
   * The checks that follow every hazard test (G-1 … G-6). `since` frames were unsolicited: the answers to them may not
   * be larger than they were.
   */
  check(options: { amplification?: number; heapMiB?: number } = {}): void {
    // N-01: nothing threw, anywhere.
    assert.deepEqual(this.errors, []);
    assert.equal(this.counter('drop.bug.exception'), 0);
    this.checkReach();
    this.checkCounters();
    if (options.amplification !== undefined) {
      assert.ok(
        this.bytesOut <= this.bytesIn * options.amplification,
        `G-5: ${this.bytesIn} bytes in, ${this.bytesOut} out`,
      );
    }
    this.checkAlive();
    // What the lab itself recorded is not the program's.
    this.kernel.forget();
    // Twice: the memory behind a Buffer goes when its object has gone.
    collectGarbage();
    collectGarbage();
    const grown = heapBytes() - this.#heapBefore;
    assert.ok(grown < (options.heapMiB ?? 4) * 1024 * 1024, `G-2: the heap grew by ${grown} bytes`);
  }

  /** G-1: TCP, UDP and ping still work, and the control plane's questions are answered. */
  checkAlive(): void {
    this.take();
    const data = pattern(1024, this.#nextPort);
    const peer = this.connect(ALLOWED4, 7);
    assert.equal(peer.sendData(data).equals(data), true, 'G-1: TCP echo');
    peer.close();
    const port = this.port();
    const reply = this.send(udp({ srcPort: port, dstPort: 7 }, data)).find((d) => d.dstPort === port);
    assert.equal(reply?.payload.equals(data), true, 'G-1: UDP echo');
    const ping = this.send(echo(ALLOWED4, port, 1, data)).find((d) => d.icmpType === 0);
    assert.equal(ping?.payload.equals(data), true, 'G-1: ping');
    assert.ok(this.guest.counters.snapshot()['rx.packets'] !== undefined, 'G-1: snapshot');
    assert.ok(this.gauge('tcp.flows') >= 0);
  }

  /** G-3: no call to the host named an address that the guest may not reach. */
  checkReach(): void {
    for (const r of this.kernel.reached) {
      const isResolver = r.address === RESOLVER && r.port === 53;
      assert.ok(
        isResolver || this.mayReach(r.address),
        `G-3: ${r.call} ${r.protocol} ${r.address} ${r.port}`,
      );
    }
  }

  /** G-4: every frame is explained by a counter. */
  checkCounters(): void {
    const c = this.guest.counters.snapshot();
    const get = (name: string): number => c[name] ?? 0;
    const drops = (prefix: string): number =>
      Object.entries(c)
        .filter(([name]) => name.startsWith(`drop.${prefix}`))
        .reduce((sum, [, n]) => sum + n, 0);
    assert.equal(this.framesIn, get('rx.packets') + get('drop.vnet.malformed'), 'G-4: frames counted');
    const fragmentsKept =
      get('rx.fragments') - get('rx.reassembled') - (drops('frag') - get('drop.frag.timeout'));
    assert.ok(fragmentsKept >= 0, 'G-4: fragments');
    assert.equal(
      get('rx.packets'),
      get('rx.arp') +
        get('rx.tcp') +
        get('rx.udp') +
        get('rx.icmp') +
        drops('link.') +
        drops('ip.') +
        drops('ip4.') +
        drops('ip6.') +
        fragmentsKept +
        drops('frag') -
        get('drop.frag.timeout'),
      `G-4: every packet is passed, answered or dropped for a reason: ${JSON.stringify(c)}`,
    );
  }

  #decode(f: Buffer): Decoded {
    this.#checkMarker(f);
    if (!this.isTun) return decode(f);
    const etherType = Buffer.from((f[0] as number) >>> 4 === 6 ? [0x86, 0xdd] : [8, 0]);
    return decode(Buffer.concat([Buffer.alloc(12), etherType, f]));
  }

  #checkMarker(sent: Buffer): void {
    if (sent.includes(MARKERS)) assert.fail(`G-6: memory of ours was sent: ${sent.toString('hex')}`);
  }

  #answerDatagram(d: Datagram): void {
    const from = { address: d.address, port: d.port };
    if (d.protocol === 'udp' && d.port === 7) d.file.deliver(from, Buffer.from(d.payload));
    if (d.protocol !== 'icmp' || (d.address !== ALLOWED4 && d.address !== ALLOWED6)) return;
    const reply = Buffer.from(d.payload);
    reply[0] = isV6(d.address) ? 129 : 0;
    d.file.deliver({ address: d.address, port: 0 }, reply);
  }
}

export interface PeerOptions {
  srcPort: number;
  options: Buffer;
  window: number;
  src: Ip;
  seq: number;
  /** TSval of every segment; -1 = no timestamps. */
  timestamp: number;
}

/** The guest's end of a TCP connection, as obedient as the test wants it. */
export class Peer {
  readonly lab: Lab;
  readonly dst: Ip;
  readonly dstPort: number;
  readonly src: Ip;
  readonly srcPort: number;
  readonly options: Buffer;
  window: number;
  timestamp: number;
  /** Next number to send, and next expected. */
  seq: number;
  ack = 0;
  /** In-order bytes received. */
  received: Buffer[] = [];
  finReceived = false;
  resetReceived = false;
  synAck: Decoded | null = null;
  /** The program's socket. */
  stream: StreamFile | null = null;

  constructor(lab: Lab, dst: Ip, port: number, o: Partial<PeerOptions>) {
    this.lab = lab;
    this.dst = dst;
    this.dstPort = port;
    this.src = o.src ?? (isV6(dst) ? GUEST6 : GUEST4);
    this.srcPort = o.srcPort ?? lab.port();
    this.timestamp = o.timestamp ?? -1;
    this.options =
      o.options ?? tcpOptions({ mss: 1460, ...(this.timestamp < 0 ? {} : { ts: [this.timestamp, 0] }) });
    this.window = o.window ?? 65535;
    this.seq = o.seq ?? 1000;
  }

  packet(f: TcpFields, payload: Buffer = Buffer.alloc(0)): Buffer {
    return tcp(
      {
        src: this.src,
        dst: this.dst,
        srcPort: this.srcPort,
        dstPort: this.dstPort,
        seq: this.seq,
        ack: this.ack,
        flags: ACK,
        window: this.window,
        options: this.timestamp < 0 ? Buffer.alloc(0) : tcpOptions({ ts: [this.timestamp, 0] }),
        ...f,
      },
      payload,
    );
  }

  get syn(): Buffer {
    return this.packet({ flags: SYN, ack: 0, options: this.options });
  }

  /** Send a segment as it is: what came back for this connection, no more is done about it. */
  raw(f: TcpFields, payload: Buffer = Buffer.alloc(0)): Decoded[] {
    return this.lab.send(this.packet(f, payload)).filter((d) => this.isMine(d));
  }

  isMine(d: Decoded): boolean {
    return d.protocol === 6 && d.dstPort === this.srcPort && d.src === this.dst;
  }

  /** SYN, SYN-ACK, ACK. */
  open(): void {
    const before = this.lab.kernel.streams.length;
    const [reply] = this.lab.send(this.syn).filter((d) => this.isMine(d));
    assert.ok(reply !== undefined, `no answer to SYN ${this.dst}:${this.dstPort}`);
    assert.equal(reply.flags, SYN | ACK, `answer to SYN ${this.dst}:${this.dstPort}`);
    this.accept(reply);
    this.stream = this.lab.kernel.streams[before] ?? null;
  }

  /** Take the SYN-ACK and acknowledge it. */
  accept(reply: Decoded): void {
    this.synAck = reply;
    this.seq = (this.seq + 1) >>> 0;
    this.ack = (reply.seq + 1) >>> 0;
    this.absorb(this.lab.send(this.packet({})));
  }

  /** Take what came for this connection, acknowledging until nothing comes any more. */
  absorb(frames: Decoded[]): void {
    let todo = frames;
    for (let round = 0; round < 10_000; round++) {
      let moved = false;
      for (const d of todo) if (this.isMine(d)) moved = this.#take(d) || moved;
      if (!moved || this.resetReceived) return;
      todo = this.lab.send(this.packet({}));
    }
    assert.fail('an endless exchange');
  }

  #take(d: Decoded): boolean {
    if ((d.flags & RST) !== 0) {
      this.resetReceived = true;
      return false;
    }
    if (d.seq !== this.ack) return false;
    this.ack = (this.ack + d.payload.length) >>> 0;
    if (d.payload.length > 0) this.received.push(d.payload);
    if ((d.flags & FIN) === 0) return d.payload.length > 0;
    this.finReceived = true;
    this.ack = (this.ack + 1) >>> 0;
    return true;
  }

  /** Send data in segments of `mss`; returns what came back as data meanwhile. */
  sendData(data: Buffer, mss = 1400): Buffer {
    const from = this.received.length;
    const packets: Buffer[] = [];
    for (let at = 0; at < data.length; at += mss) {
      const piece = data.subarray(at, at + mss);
      packets.push(this.packet({ flags: ACK | PSH }, piece));
      this.seq = (this.seq + piece.length) >>> 0;
    }
    this.absorb(this.lab.send(...packets));
    return Buffer.concat(this.received.slice(from));
  }

  fin(): void {
    const p = this.packet({ flags: FIN | ACK });
    this.seq = (this.seq + 1) >>> 0;
    this.absorb(this.lab.send(p));
  }

  /** An orderly end from both sides. */
  close(): void {
    this.fin();
    this.stream?.end();
    this.lab.run();
    this.absorb(this.lab.take());
  }

  reset(): void {
    this.lab.send(this.packet({ flags: RST | ACK }));
  }

  get data(): Buffer {
    return Buffer.concat(this.received);
  }
}

export function summary(d: Decoded): string {
  if (d.protocol === 6) return `TCP ${d.src}:${d.srcPort} flags ${d.flags} seq ${d.seq} ack ${d.ack}`;
  if (d.icmpType >= 0) return `ICMP ${d.src} ${d.icmpType}/${d.icmpCode}`;
  if (d.protocol === 17) return `UDP ${d.src}:${d.srcPort} → ${d.dst}:${d.dstPort} ${d.payload.length}`;
  return `type ${d.etherType.toString(16)} ${d.raw.length} bytes`;
}

/** A copy with memory of its own: one out of Node's pool (64 KiB since version 24) would keep all of that alive. */
function apart(bytes: Buffer): Buffer {
  const copy = Buffer.allocUnsafeSlow(bytes.length);
  bytes.copy(copy);
  return copy;
}

export function heapBytes(): number {
  const m = process.memoryUsage();
  return m.heapUsed + m.external;
}

function guestSpec(options: LabOptions): Omit<GuestSpec, 'device' | 'limits' | 'tunnel'> {
  const rules = (texts: readonly string[] = []): RuleSpec[] =>
    texts.map((text) => toRuleSpec(parseRuleEntry(text)));
  return {
    addresses: { ...defaultAddresses, ...options.addresses },
    policy: {
      enableRouting: false,
      enableHost: false,
      allow: rules(options.allow ?? ['any://198.51.100.0/24', 'any://[2001:db8:1::/64]']),
      deny: rules(options.deny),
      guestNetworks: [
        { address: '10.0.2.0', bits: 120 },
        { address: 'fd00::', bits: 64 },
      ],
      ...options.policy,
    } as PolicySpec,
    behavior: { ...profiles.tslirp },
    congestion: 'none',
    source4: '',
    source6: '',
    outboundInterface: '',
    dns: true,
    autoconfiguration: true,
    pcapPath: '',
    pcapFormat: 'pcap',
    ...options.guest,
  };
}
