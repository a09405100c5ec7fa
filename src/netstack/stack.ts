/**
 * The whole stack without any I/O: frames come in by `receive` and go out by `transmit`, and time is what the clock says.
 *
 * Theory of operation. Whatever wakes the stack (frames, a deadline, the program) is worked through in `#run`: frames
 * first, then the connections that they touched, then what is to be told to the program, and what was sent leaves last.
 * Each of these may cause more of the others; at rest there is none. Calls from within only add to what there is to do, so
 * that two stacks may hand their frames to each other directly.
 */
import { StackScratch } from '../stack/buffer/scratch.ts';
import { PAGE_SIZE, Slab } from '../stack/buffer/slab.ts';
import { Counters } from '../stack/counters.ts';
import { HalfSipHash } from '../stack/half-sip-hash.ts';
import { Icmp, Unreachable } from '../stack/icmp/icmp.ts';
import { ErrorLimiter } from '../stack/icmp/limit.ts';
import { OwnAddresses } from '../stack/ip/own-addresses.ts';
import { Reassembler } from '../stack/ip/reassembly.ts';
import { Egress } from '../stack/link/egress.ts';
import { Ingress } from '../stack/link/ingress.ts';
import type { IngressHandler } from '../stack/link/ingress-parts.ts';
import type { Packet } from '../stack/link/packet.ts';
import { NeighborTable } from '../stack/neighbor/cache.ts';
import { Solicitor } from '../stack/neighbor/solicitor.ts';
import { RateLimit } from '../stack/rate-limit.ts';
import { DhcpServer } from '../stack/services/dhcp-server.ts';
import { RouterAdvertiser } from '../stack/services/router-advertiser.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import type { TcpHeader } from '../stack/wire/tcp.ts';
import type { UdpHeader } from '../stack/wire/udp.ts';
import { VnetHeader } from '../stack/wire/vnet-header.ts';
import { TimerHeap } from '../timer-heap.ts';
import { type Datagram, Datagrams } from './datagrams.ts';
import { FrameLink } from './frame-link.ts';
import { addressPlan, inRange, type StackOptions } from './options.ts';
import type { TcpSocket } from './tcp-socket.ts';
import { TcpSockets } from './tcp-sockets.ts';

/** The largest frame: an IP packet with an Ethernet header and a VLAN tag. */
const LARGEST_FRAME = 65535 + 18;
/** Scratch of the stack, a frame and a datagram. */
const FIXED_BYTES = 320 * 1024;
const NEIGHBORS = 256;
/** ICMP errors, and answered echo requests, per second and at once. */
const REPLIES_PER_SECOND = 1000;
const REPLIES_AT_ONCE = 50;
const REASSEMBLY = { fragMaxBytes: 1 << 20, fragMaxDatagrams: 64, fragMaxParts: 64 };
/** setTimeout takes no longer time. */
const LONGEST_TIMER_MS = 0x7fffffff;

export class Stack implements IngressHandler {
  readonly #options: StackOptions;
  readonly #slab: Slab;
  readonly #link: FrameLink;
  readonly #own: OwnAddresses;
  readonly #counters = new Counters();
  readonly #icmp: Icmp;
  readonly #ingress: Ingress;
  readonly #reassembler: Reassembler;
  readonly #ra: RouterAdvertiser | null;
  readonly #datagrams: Datagrams;
  readonly #sockets: TcpSockets;
  readonly #timers = new TimerHeap();
  readonly #now: () => number;
  readonly #clock = { nowMs: 0 };
  readonly #frameAt: number;
  readonly #noOffload = new VnetHeader();
  #inbox: Uint8Array[] = [];
  #calls: (() => void)[] = [];
  #running = false;
  #closed = false;
  /** What the program's own handlers threw. */
  #thrown: unknown[] = [];
  #timer: ReturnType<typeof setTimeout> | null = null;

  /** @throws RangeError for options that cannot be */
  constructor(options: StackOptions) {
    this.#options = options;
    const { medium = 'ethernet', role = 'gateway', memory = 32 << 20, autoconfigure = false } = options;
    const mtu = inRange('mtu', options.mtu ?? 1500, 576, 65535);
    const pages = Math.ceil(inRange('memory', memory, 1 << 20, 1 << 30) / PAGE_SIZE);
    const random = options.random ?? cryptoRandom;
    const rng = { u32: random };
    this.#now = options.now ?? (() => performance.now());
    this.#clock.nowMs = this.#now();
    this.#slab = new Slab(FIXED_BYTES, pages);
    const scratch = new StackScratch(this.#slab);
    this.#frameAt = this.#slab.region(LARGEST_FRAME);
    this.#link = new FrameLink(this.#slab, medium, mtu);
    const manners = { mac: options.mac ?? '', anySource: role === 'host' };
    this.#own = new OwnAddresses(addressPlan(options), manners);
    const neighbors = new NeighborTable(NEIGHBORS, this.#own);
    const egress = new Egress(scratch, this.#link, this.#own, neighbors, this.#counters, rng);
    const solicitor = new Solicitor(this.#link, this.#own, neighbors, egress, this.#slab.view);
    const errors = new ErrorLimiter(REPLIES_PER_SECOND, REPLIES_AT_ONCE, rng);
    this.#icmp = new Icmp(this.#slab, egress, this.#own, errors, this.#counters);
    this.#datagrams = new Datagrams(this.#slab, egress, neighbors, solicitor, medium);
    this.#sockets = new TcpSockets(
      {
        slab: this.#slab,
        link: this.#link,
        own: this.#own,
        egress,
        solicitor,
        counters: this.#counters,
        rng,
        hash: new HalfSipHash(random(), random()),
        timers: this.#timers,
        clock: this.#clock,
        wake: () => this.#run(),
        later: (call) => this.#calls.push(call),
      },
      options,
    );
    neighbors.onLearned = () => {
      this.#sockets.onNeighbor();
      this.#datagrams.onLearned();
    };
    const nameservers = (options.nameservers ?? []).map(parseIpAddress);
    const of4 = nameservers.filter((address) => address.isV4).map((address) => address.w3);
    const of6 = nameservers.filter((address) => !address.isV4);
    const dhcp = autoconfigure && medium === 'ethernet' ? new DhcpServer(this.#own, mtu, of4) : null;
    this.#ra = autoconfigure && this.#own.ipv6 ? new RouterAdvertiser(this.#own, mtu, of6, rng) : null;
    this.#reassembler = new Reassembler(scratch, REASSEMBLY);
    this.#ingress = new Ingress({
      slab: this.#slab,
      link: this.#link,
      own: this.#own,
      neighbors,
      reassembler: this.#reassembler,
      icmp: this.#icmp,
      egress,
      dhcp,
      ra: this.#ra,
      echoLimit: role === 'gateway' ? new RateLimit(REPLIES_PER_SECOND, REPLIES_AT_ONCE) : null,
      handler: this,
      counters: this.#counters,
      sharedMac: false,
    });
    this.#schedule();
  }

  /** Frames from the link, in their order. Longer ones than there can be are dropped, as all that is malformed. */
  receive(...frames: readonly Uint8Array[]): void {
    if (this.#closed) return;
    this.#inbox.push(...frames);
    this.#run();
  }

  /** When `onTimeout` is next due, on the stack's clock; Infinity: never. */
  get nextTimeout(): number {
    return Math.min(
      this.#timers.next,
      this.#reassembler.nextTimeoutMs(),
      this.#ra?.nextTimeoutMs() ?? Number.POSITIVE_INFINITY,
    );
  }

  /** A deadline has passed. Only a program that has given the stack a clock need call it. */
  onTimeout(): void {
    if (this.#closed || this.#running) return;
    this.#clock.nowMs = this.#now();
    this.#running = true;
    this.#guard(() => this.#ingress.onTimeout(this.#clock.nowMs));
    this.#timers.run(this.#clock.nowMs, (error) => this.#thrown.push(error));
    this.#running = false;
    this.#run();
  }

  /**
   * Connect to the other end, or to whom it leads. `from` is the local end: by default our address and a port that is free.
   * @throws RangeError for an address or port that is none, or one in use
   */
  connect(to: { address: string; port: number }, from: { address?: string; port?: number } = {}): TcpSocket {
    if (this.#closed) throw new RangeError('the stack is closed');
    return this.#sockets.connect(to, from);
  }

  /** @throws RangeError for a datagram that cannot be sent */
  send(datagram: Datagram): void {
    if (this.#closed) return;
    this.#datagrams.send(datagram);
    this.#run();
  }

  /** Connections that are not over. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Bytes of packet memory in use. */
  get memoryUsed(): number {
    return this.#slab.pagesUsed * PAGE_SIZE;
  }

  /** What has happened so far, by name: packets, bytes, and drops with their reasons. */
  counters(): Record<string, number> {
    return this.#counters.snapshot();
  }

  /** Reset every connection, and do nothing any more. */
  close(): void {
    if (this.#closed) return;
    this.#sockets.abortAll();
    this.#run();
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  /** @internal */
  onTcp(p: Packet, h: TcpHeader): void {
    if (this.#isFor(p)) this.#sockets.onTcp(p, h, this.#options.onConnection ?? null);
  }

  /** @internal */
  onUdp(p: Packet, h: UdpHeader): void {
    if (!this.#isFor(p)) return;
    const { onDatagram } = this.#options;
    // Only while the packet is at hand can it be quoted, so the program is asked at once.
    if (onDatagram?.(this.#datagrams.received(p, h)) ?? onDatagram !== undefined) return;
    this.#icmp.unreachable(p, Unreachable.Port, this.#clock.nowMs);
  }

  /** @internal */
  onEcho(): void {}

  /** @internal */
  onUnreachable(p: Packet): boolean {
    return this.#sockets.onUnreachable(p);
  }

  /** A gateway speaks for everybody. */
  #isFor(p: Packet): boolean {
    return this.#options.role !== 'host' || this.#own.owns(p.dst);
  }

  #run(): void {
    if (this.#running) return;
    this.#running = true;
    for (;;) {
      this.#clock.nowMs = this.#now();
      const frames = this.#inbox;
      if (frames.length > 0) this.#inbox = [];
      for (const frame of frames) this.#guard(() => this.#take(frame));
      this.#guard(() => this.#sockets.settle());
      const calls = this.#calls;
      if (calls.length > 0) this.#calls = [];
      for (const call of calls) this.#guard(call);
      const sent = this.#link.take();
      for (const frame of sent) this.#guard(() => this.#options.transmit(frame));
      if (this.#inbox.length + this.#calls.length + sent.length === 0 && !this.#sockets.isTouched) break;
    }
    this.#running = false;
    this.#schedule();
    // The stack is at rest and whole: now the program may hear of its faults.
    if (this.#thrown.length > 0) throw this.#thrown.splice(0)[0];
  }

  #take(frame: Uint8Array): void {
    if (frame.length > LARGEST_FRAME) return;
    this.#slab.bytes.set(frame, this.#frameAt);
    this.#ingress.receive(this.#frameAt, frame.length, this.#noOffload, this.#clock.nowMs);
  }

  #guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#thrown.push(error);
    }
  }

  /** Without a clock of the program's, timers run by themselves. They hold no process. */
  #schedule(): void {
    if (this.#options.now !== undefined) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const next = this.nextTimeout;
    if (this.#closed || next === Number.POSITIVE_INFINITY) return;
    const inMs = Math.min(Math.max(0, Math.ceil(next - this.#now())), LONGEST_TIMER_MS);
    this.#timer = setTimeout(() => this.onTimeout(), inMs);
    if (typeof this.#timer === 'object') this.#timer.unref();
  }
}

function cryptoRandom(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] as number;
}
