/**
 * The local TCP forwards of a guest: their listeners, and the clients on their way to becoming flows. Which limits there
 * are on flows and who holds them is their owner's business (flows.ts).
 */
import type { Endpoint, LocalForwardSpec, RemoteForwardSpec } from '../../config.ts';
import { QuotedSegment } from '../../stack/icmp/quoted-segment.ts';
import type { Packet } from '../../stack/link/packet.ts';
import type { TcpEnvironment } from '../../stack/tcp/owner.ts';
import type { Seq } from '../../stack/tcp/seq.ts';
import { freshPorts } from '../../stack/transport/fresh-ports.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { PROTOCOL_TCP } from '../../stack/wire/tcp.ts';
import { EADDRNOTAVAIL, EAGAIN } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import type { Aim } from '../publish/aim.ts';
import type { ForwardError } from '../publish/forward-error.ts';
import { unreachableErrno } from '../publish/unreachable-errno.ts';
import { InsideListener, type InsideTaker, insideError, insidePlace } from '../splice/inside-listener.ts';
import type { HostPlace, SplicedStreams } from '../splice/streams.ts';
import { readPeer, resetClient } from './dial.ts';
import { TcpFlow, type TcpFlowOwner } from './flow.ts';
import { type DialAnswer, GuestDial, type GuestDialer } from './guest-dial.ts';
import { type ClientTaker, TcpListener } from './listener.ts';
import { ProxyClient, type ProxyClientOwner } from './proxy-client.ts';
import type { ProxyHeader } from './proxy-protocol.ts';

/** Clients of one local forward whose PROXY header is not complete. */
const MAX_UNPROXIED = 1024;

export interface TcpLocalsOwner extends TcpFlowOwner {
  readonly environment: TcpEnvironment;
  readonly spliced: SplicedStreams;
  /** For one more flow that connects. */
  hasRoom(): boolean;
  /** Is there a flow, or one in TIME-WAIT, with this tuple? */
  isInUse(guest: IpAddress, remote: IpAddress, ports: number): boolean;
  find(guest: IpAddress, remote: IpAddress, ports: number): TcpFlow | null;
  forEach(visit: (flow: TcpFlow) => void): void;
  /** Take a new flow in, as one that connects. */
  enter(flow: TcpFlow): void;
  initialSeq(flow: TcpFlow): Seq;
}

export class TcpLocals implements ClientTaker, InsideTaker, ProxyClientOwner {
  readonly context: FlowContext;
  readonly #owner: TcpLocalsOwner;
  /** Those with clients that wait for the guest. */
  readonly #dialing = new Set<GuestDialer>();
  readonly #quoted = new QuotedSegment();
  readonly #quotedFrom = new IpAddress();
  readonly #quotedTo = new IpAddress();
  readonly #peer = new IpAddress();
  /** Clients whose header is not complete. */
  readonly #unproxied = new Set<ProxyClient>();
  /** Flows whose guest has not answered; while there are none nobody looks for them. */
  #dials = 0;

  constructor(owner: TcpLocalsOwner) {
    this.#owner = owner;
    this.context = owner.context;
  }

  /** The guest has answered, or nobody waits for it any more. */
  dialEnded(flow: TcpFlow): void {
    this.#dials--;
    const { forward } = flow.record;
    if (!(forward instanceof TcpListener || forward instanceof GuestDial)) return;
    forward.dialEnded(flow);
    if (forward.pending === 0) this.#dialing.delete(forward);
  }

  /** Connect to the guest, for somebody in this process. `id` is the number of a forward. Throws `ForwardError`. */
  dial(id: number, to: Endpoint, answer: DialAnswer): void {
    const dial = new GuestDial(this.context, id, to, answer);
    if (dial.flowFd < 0) {
      dial.fail(dial.flowFd);
      return;
    }
    if (!this.#owner.hasRoom()) {
      resetClient(this.context, dial.flowFd);
      dial.fail(-EAGAIN);
      return;
    }
    const result = this.#openGuest(dial, dial.flowFd, null, -1, to.port);
    if (result < 0) dial.fail(result);
  }

  /** Open a local forward. Throws `ForwardError`. */
  listen(id: number, spec: LocalForwardSpec, aim: Aim): TcpListener {
    return new TcpListener(this, id, spec, aim);
  }

  /** Have remote forward `id` listen inside the guest's namespace; `done` gets it, or why it cannot. Throws `ForwardError`. */
  listenInside(
    id: number,
    spec: RemoteForwardSpec,
    done: (opened: InsideListener | ForwardError) => void,
  ): void {
    const { context } = this;
    const listener = new InsideListener(this, id, spec);
    context.inside.listen(insidePlace(context, spec), (fd) => {
      const result = fd < 0 ? fd : listener.begin(fd);
      done(result < 0 ? insideError(spec, result) : listener);
    });
  }

  closed(listener: TcpListener): void {
    this.#dialing.delete(listener);
  }

  hasRoom(listener: TcpListener | InsideListener): boolean {
    return (
      listener.pending < this.context.limits.tcpMaxPendingDialsPerDestination &&
      (listener.kind === 'inside' || listener.unproxied < MAX_UNPROXIED) &&
      this.#owner.hasRoom()
    );
  }

  toHost(listener: InsideListener, fd: number, place: HostPlace): void {
    this.#owner.spliced.toHost(listener, fd, place);
  }

  accepted(listener: TcpListener, fd: number, address: IpAddress | null, port: number): void {
    const { aimed } = listener;
    const passage = aimed.passage(address);
    if (aimed.isIdle || passage === 'none') {
      resetClient(this.context, fd);
      return;
    }
    if (passage !== 'stack') {
      const target = passage === 'same' ? null : aimed.for(address).target;
      this.#owner.spliced.toGuest(listener, fd, target, aimed.portFor(listener.port));
      return;
    }
    if (!listener.proxyHeader) {
      this.#openGuest(listener, fd, address, port, listener.aimed.portFor(listener.port));
      return;
    }
    const waiting = new ProxyClient(this, listener);
    if (waiting.attach(fd) < 0) return;
    listener.unproxied++;
    this.#unproxied.add(waiting);
  }

  proxied(proxyClient: ProxyClient, fd: number, header: ProxyHeader): void {
    const { listener } = proxyClient;
    this.#headerEnded(proxyClient);
    // A header that names nobody is the proxy's own connection, a health check for one.
    if (header.hasAddresses) {
      const { src, srcPort, dstPort } = header;
      this.#openGuest(listener, fd, src, srcPort, listener.aimed.portFor(dstPort));
      return;
    }
    const peer = this.#peer;
    const port = readPeer(this.context, fd, peer);
    this.#openGuest(listener, fd, port < 0 ? null : peer, port, listener.aimed.portFor(listener.port));
  }

  proxyFailed(proxyClient: ProxyClient): void {
    this.#headerEnded(proxyClient);
  }

  /** The guest is gone, and its listeners with it: nobody waits for a header any more. */
  close(): void {
    for (const waiting of this.#unproxied) waiting.close();
  }

  /** The guest has an address at which it can be reached now: do not wait for the SYN's next turn. */
  onNeighbor(address: IpAddress): void {
    if (!this.#isDialing(address)) return;
    this.#owner.forEach((flow) => {
      if (flow.connection.isOpening && this.#reaches(address, flow.guest)) flow.repeatSyn();
    });
  }

  /** RFC 9293 §3.9.2.2, for a connection that is only being opened: as good as a RST. Needs its number (RFC 5927). */
  onUnreachable(p: Packet, code: number): boolean {
    if (this.#dials === 0) return false;
    const quoted = this.#quoted;
    if (!quoted.read(this.context.memory.view, p, PROTOCOL_TCP, this.#quotedFrom, this.#quotedTo))
      return false;
    const flow = this.#owner.find(this.#quotedTo, this.#quotedFrom, quoted.ports);
    if (flow === null || !flow.connection.isOpening || quoted.seq !== flow.connection.snd.iss) {
      return false;
    }
    flow.dialFailed(unreachableErrno(p.isV4, code));
    return true;
  }

  /** Open the connection to the guest for the client `fd` of `dialer`; takes over `fd`. 0 or `-errno`. */
  #openGuest(
    dialer: GuestDialer,
    fd: number,
    client: IpAddress | null,
    clientPort: number,
    port: number,
  ): number {
    const { context } = this;
    const { clock, link, rng } = context;
    const { target, source: sources } = dialer.aimed.for(client);
    const source = sources.of(client);
    const wanted = sources.portOf(source, client, clientPort);
    const ports = freshPorts(rng, target, port, source, wanted, (guest, remote, key) =>
      this.#owner.isInUse(guest, remote, key),
    );
    if (port === 0 || ports < 0) {
      context.counters.drop(DropReason.TcpLimit);
      resetClient(context, fd);
      return -EADDRNOTAVAIL;
    }
    const flow = new TcpFlow(this.#owner, this.#owner.environment, target, source, ports, dialer);
    const attached = flow.attach(fd);
    if (attached < 0) return attached;
    this.#owner.enter(flow);
    this.#dials++;
    dialer.pending++;
    this.#dialing.add(dialer);
    flow.connection.openActive(link.mtu, this.#owner.initialSeq(flow), rng.u32(), clock.nowMs);
    context.solicitor.solicit(target);
    flow.flush();
    return 0;
  }

  #headerEnded(proxyClient: ProxyClient): void {
    this.#unproxied.delete(proxyClient);
    proxyClient.listener.headerEnded();
  }

  /** Does anybody wait for the guest at this address? */
  #isDialing(address: IpAddress): boolean {
    if (this.#dials === 0) return false;
    for (const { aimed } of this.#dialing) {
      if (aimed.some((target) => this.#reaches(address, target))) return true;
    }
    return false;
  }

  /** Is what was waited for, to reach `target`, the link address of `neighbor`? */
  #reaches(neighbor: IpAddress, target: IpAddress): boolean {
    const { own } = this.context;
    if (neighbor.equals(target)) return true;
    return !own.onLink(target) && (neighbor.equals(own.guestFor(target)) || neighbor.equals(own.guest4));
  }
}
