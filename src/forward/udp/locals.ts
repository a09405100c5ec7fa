/**
 * All flows of a guest's local UDP forwards: opening and evicting them, and finding the one that a datagram of the guest
 * answers, which it does only when all four ends are right (U-05).
 */

import type { LocalForwardSpec, RemoteForwardSpec } from '../../config.ts';
import { LruList } from '../../stack/buffer/lru.ts';
import { Counter } from '../../stack/counters.ts';
import { QuotedSegment } from '../../stack/icmp/quoted-segment.ts';
import type { Packet } from '../../stack/link/packet.ts';
import { RateLimit } from '../../stack/rate-limit.ts';
import { freshPorts } from '../../stack/transport/fresh-ports.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { PROTOCOL_UDP, type UdpHeader } from '../../stack/wire/udp.ts';
import type { FlowContext } from '../flow/context.ts';
import type { ListedFlow } from '../flow/info.ts';
import { endpoint, FlowRecord, Half, NOWHERE } from '../flow/record.ts';
import { MAX_EVICTIONS_PER_SECOND } from '../flow/set.ts';
import { readEndpoint } from '../host/scratch.ts';
import type { Aim } from '../publish/aim.ts';
import type { ForwardError } from '../publish/forward-error.ts';
import type { Listener } from '../publish/forwards.ts';
import { unreachableErrno } from '../publish/unreachable-errno.ts';
import { SplicedDatagrams } from '../splice/datagrams.ts';
import { InsideDatagrams } from '../splice/inside-datagrams.ts';
import { insideError, insidePlace } from '../splice/inside-listener.ts';
import type { ReceiveSlots } from './batch.ts';
import { ClientPorts } from './client-ports.ts';
import type { ClientFlow } from './datagram-listener.ts';
import { type UdpClientTaker, UdpListener } from './listener.ts';
import { UdpLocalFlow, type UdpLocalOwner } from './local-flow.ts';
import { parseSpp, SPP_HEADER_LEN, SppHeader, sppProblemTexts } from './spp.ts';

const NO_HEADER = new Uint8Array(0);

/**
 * Clients that are really there and give way to newcomers in a second. On an address that everybody reaches, newcomers may
 * be one sender under many addresses (OR-25).
 */
const KNOWN_EVICTIONS_PER_SECOND = 32;

export class UdpLocals implements UdpClientTaker, UdpLocalOwner {
  readonly context: FlowContext;
  readonly slots: ReceiveSlots;
  readonly spliced: SplicedDatagrams;
  readonly #byPort = new ClientPorts();
  /** Clients that may not be there at all, and those that are. */
  readonly #strangers = new LruList();
  readonly #known = new LruList();
  readonly #evictions = new RateLimit(MAX_EVICTIONS_PER_SECOND, MAX_EVICTIONS_PER_SECOND);
  readonly #knownEvictions = new RateLimit(KNOWN_EVICTIONS_PER_SECOND, KNOWN_EVICTIONS_PER_SECOND);
  readonly #onEnd: (flow: UdpLocalFlow) => void;
  readonly #spp = new SppHeader();
  readonly #quoted = new QuotedSegment();
  readonly #quotedFrom = new IpAddress();
  readonly #quotedTo = new IpAddress();

  /** `onEnd` hears of every flow that is over. */
  constructor(context: FlowContext, onEnd: (flow: UdpLocalFlow) => void) {
    this.context = context;
    this.slots = context.scratch.localSlots;
    this.spliced = new SplicedDatagrams(context);
    this.#onEnd = onEnd;
  }

  get size(): number {
    return this.#byPort.size;
  }

  /** Open local forward `id`. Throws `ForwardError`. */
  listen(id: number, spec: LocalForwardSpec, aim: Aim): UdpListener {
    return new UdpListener(this, id, spec, aim);
  }

  /** As `TcpLocals.listenInside`. */
  listenInside(id: number, spec: RemoteForwardSpec, done: (opened: Listener | ForwardError) => void): void {
    const { context } = this;
    const listener = new InsideDatagrams(this.spliced, id, spec);
    context.inside.listen(insidePlace(context, spec), (fd) => {
      const result = fd < 0 ? fd : listener.begin(fd);
      done(result < 0 ? insideError(spec, result) : listener);
    });
  }

  /** The flow that this datagram of the guest answers, or null. */
  find(p: Packet, h: UdpHeader): UdpLocalFlow | null {
    return this.#byPort.find(p.src, h.srcPort, p.dst, h.dstPort);
  }

  /** Whether (`dst`, `port`) is where the guest sees a client, so that nothing but an answer can be meant for it. */
  isClient(dst: IpAddress, port: number): boolean {
    return this.#byPort.has(dst, port);
  }

  openFlow(
    listener: UdpListener,
    i: number,
    client: IpAddress | null,
    clientPort: number,
    contacted: IpAddress,
  ): ClientFlow | null {
    const { context, slots } = this;
    const { aimed } = listener;
    const passage = aimed.passage(client);
    if (passage === 'none') {
      context.counters.drop(DropReason.UdpPeer);
      return null;
    }
    if (passage !== 'stack') {
      const to = passage === 'same' ? contacted : aimed.for(client).target;
      return this.spliced.open(listener, i, contacted, to, aimed.portFor(listener.port));
    }
    const { counters, limits, memory, slab } = context;
    let real = client;
    let realPort = clientPort;
    let targetPort = listener.aimed.portFor(listener.port);
    let header = NO_HEADER;
    if (listener.proxyHeader) {
      const at = slots.payloadAt(i);
      const problem = parseSpp(memory.view, at, slots.lengthAt(i), this.#spp);
      if (problem < 0) {
        counters.drop(DropReason.UdpMalformed);
        this.#tellBadHeader(listener, i, contacted, sppProblemTexts[-problem] as string);
        return null;
      }
      real = this.#spp.client;
      realPort = this.#spp.clientPort;
      targetPort = listener.aimed.portFor(this.#spp.proxyPort);
      header = slab.bytes.slice(at, at + SPP_HEADER_LEN);
    }
    if (this.#byPort.size >= limits.udpMaxFlows && !this.#makeRoom()) {
      counters.drop(DropReason.UdpLimit);
      return null;
    }
    const { target, source } = listener.aimed.for(real);
    const shown = source.of(real);
    const wanted = source.portOf(shown, real, realPort);
    const ports = freshPorts(
      context.rng,
      target,
      targetPort,
      shown,
      wanted,
      (guest, remote, key) => this.#byPort.find(guest, key >>> 16, remote, key & 0xffff) !== null,
    );
    if (ports < 0) {
      counters.drop(DropReason.UdpLimit);
      return null;
    }
    context.solicitor.solicit(target);
    const nameAt = slots.nameAt(i);
    const nameLength = slots.nameLengthAt(i);
    const name = nameLength <= 2 ? NO_HEADER : slab.bytes.slice(nameAt, nameAt + nameLength);
    const flow = new UdpLocalFlow(
      this,
      listener,
      name,
      contacted,
      target,
      targetPort,
      shown,
      ports & 0xffff,
      header,
    );
    counters.add(Counter.UdpOpened, 1);
    this.#byPort.add(flow);
    this.#strangers.add(flow);
    listener.clients.add(flow, memory.view, nameAt);
    flow.opened();
    return flow;
  }

  /** The guest says that nobody listens: true when `p` quotes a datagram of a flow, which then is over. */
  onUnreachable(p: Packet, code: number): boolean {
    if (this.#byPort.size === 0) return false;
    const quoted = this.#quoted;
    const from = this.#quotedFrom;
    const to = this.#quotedTo;
    if (!quoted.read(this.context.memory.view, p, PROTOCOL_UDP, from, to)) return false;
    const flow = this.#byPort.find(to, quoted.ports >>> 16, from, quoted.ports & 0xffff);
    if (flow === null || !flow.target.equals(p.src)) return false;
    flow.end(Half.GuestRead, unreachableErrno(p.isV4, code));
    return true;
  }

  listFlows(out: ListedFlow[]): void {
    this.spliced.listFlows(out);
    this.#byPort.forEach((flow) => {
      out.push(flow);
    });
  }

  closeFlow(id: number): boolean {
    let found = this.spliced.closeFlow(id);
    this.#byPort.forEach((flow) => {
      if (flow.record.id !== id) return;
      flow.close();
      found = true;
    });
    return found;
  }

  touch(flow: UdpLocalFlow): void {
    this.#listOf(flow).touch(flow);
  }

  converses(flow: UdpLocalFlow): void {
    this.#strangers.remove(flow);
    flow.isConversing = true;
    this.#known.add(flow);
  }

  ended(flow: UdpLocalFlow): void {
    this.#byPort.remove(flow);
    this.#listOf(flow).remove(flow);
    this.#onEnd(flow);
  }

  /** One gives way to a newcomer: of those that never went on after an answer, while there are any. False: not now. */
  #makeRoom(): boolean {
    const { counters, clock } = this.context;
    const stranger = this.#strangers.oldest as UdpLocalFlow | null;
    const evictions = stranger === null ? this.#knownEvictions : this.#evictions;
    if (!evictions.allow(clock.nowMs)) return false;
    counters.add(Counter.UdpEvicted, 1);
    (stranger ?? (this.#known.oldest as UdpLocalFlow)).close();
    return true;
  }

  #listOf(flow: UdpLocalFlow): LruList {
    return flow.isConversing ? this.#known : this.#strangers;
  }

  /** Datagram `i` should have begun a flow. */
  #tellBadHeader(listener: UdpListener, i: number, contacted: IpAddress, reason: string): void {
    const { context, slots } = this;
    new FlowRecord(context, 'udp', listener).closed(
      context,
      {
        ends: () => ({
          left: readEndpoint(context.memory, slots.nameAt(i), slots.nameLengthAt(i)),
          leftLocal: endpoint(contacted, listener.port),
          right: endpoint(listener.aimed.for(null).target, listener.aimed.portFor(listener.port)),
          rightLocal: NOWHERE,
        }),
      },
      reason,
    );
  }
}
