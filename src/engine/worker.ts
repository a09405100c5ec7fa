/**
 * The data-plane thread: sets up memory, the loop and the mailbox, then runs until the stop flag is set.
 *
 * The thread blocks in epoll_wait(2) and so never gets back to Node's own event loop: messages are fetched with
 * `receiveMessageOnPort` when the wake-up eventfd says so, and a thread in a foreign call cannot be terminated from
 * outside, hence the shared stop flag.
 */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { AddressPlan, GuestSpec, ProcessLimits } from '../config.ts';
import { withCapture } from '../device/capture.ts';
import type { DeviceLink } from '../device/device-link.ts';
import { DeviceOpenings } from '../device/device-openings.ts';
import { FrameIo } from '../device/frame-io.ts';
import { changeInterface } from '../device/interface-configuration.ts';
import { type LinkOpeners, type OpenLink, openLink, type PendingLink } from '../device/open-link.ts';
import { PcapBuffer } from '../device/pcap-writer.ts';
import { Switches } from '../device/switch.ts';
import type { TunnelInterfaces } from '../device/tunnel-interfaces.ts';
import type { WireGuardInterfaces } from '../device/wireguard-interfaces.ts';
import { DeviceError } from '../device-error.ts';
import type { TunnelDevice } from '../device-spec.ts';
import { HostRouteTable } from '../firewall/host-routes.ts';
import { type DescriptorBudget, DescriptorPool } from '../forward/flow/descriptor-budget.ts';
import type { ListedFlow } from '../forward/flow/info.ts';
import { type GuestPages, PagePool } from '../forward/flow/page-pool.ts';
import { FlowScratch } from '../forward/flow/scratch.ts';
import { ForwardError } from '../forward/publish/forward-error.ts';
import { InsideChannel } from '../forward/splice/inside-channel.ts';
import { HostNames } from '../forward/target/name-questions.ts';
import { Resolvers } from '../forward/target/resolvers.ts';
import { StackScratch } from '../stack/buffer/scratch.ts';
import { PAGE_SIZE, Slab } from '../stack/buffer/slab.ts';
import { HalfSipHash } from '../stack/half-sip-hash.ts';
import { SearchDomains } from '../stack/wire/search-domains.ts';
import { EPOLLERR, EPOLLHUP, EPOLLIN } from '../sys/epoll.ts';
import { EINVAL, ENETDOWN, EPERM, errnoText } from '../sys/errno.ts';
import { discard, eventfd, read } from '../sys/io.ts';
import { firstPage, Memory } from '../sys/memory.ts';
import { setParentDeathSignal } from '../sys/process.ts';
import { SystemRandom } from '../sys/random.ts';
import { enterSeccomp, SECCOMP_SCRATCH_BYTES } from '../sys/seccomp.ts';
import { openSockDiag, UNIX_PEERS_BYTES, UnixPeers } from '../sys/unix-peers.ts';
import { BrokerLink } from './broker-link.ts';
import { descriptorLimit } from './descriptor-limit.ts';
import { EventLoop } from './event-loop.ts';
import { FlowLister } from './flow-lister.ts';
import { FlowNumbers } from './flow-numbers.ts';
import { type EngineServices, Guest } from './guest.ts';
import { hostView } from './host-view.ts';
import { Housekeeping } from './housekeeping.ts';
import type { Command, EngineOptions, Event } from './messages.ts';
import { Rehearsal } from './rehearsal.ts';
import { rehearse } from './rehearsed-guest.ts';
import type { Relay } from './relay.ts';
import { HostRoutes } from './route-watch.ts';

/** Fixed regions, one set for all guests: receive slots of devices (4.3 MiB) and of UDP (2 MiB), scratch. Untouched parts cost nothing. */
const FIXED_BYTES = 16 * 1024 * 1024;
/** Addresses and events for the kernel: some 16 KiB, the same for any number of guests. */
const STRUCTURE_BYTES = 65536;
/** Descriptors that are not flows': standard streams, epoll, eventfd, netlink, device, Node's own. */
const OWN_DESCRIPTORS = 32;
/** Fewer are told: a browser has more. */
const FEW_DESCRIPTORS = 128;

type LogLevel = Extract<Event, { type: 'log' }>['level'];
/** What is the same for all guests. */
type SharedServices = Omit<
  EngineServices,
  | 'limits'
  | 'descriptors'
  | 'pages'
  | 'resolvers'
  | 'search'
  | 'names'
  | 'inside'
  | 'touched'
  | 'report'
  | 'log'
  | 'onError'
  | 'linkGone'
  | 'linkDown'
  | 'linkUp'
  | 'onPeer'
>;

/** All that is kept of a guest: what it has been told before it is there, and itself when it is. */
interface Tenant {
  readonly number: number;
  readonly resolvers: Resolvers;
  readonly search: SearchDomains;
  readonly inside: InsideChannel;
  /** Its start waits for this. */
  pending: PendingLink | null;
  guest: Guest | null;
  /** In its place, where packets only pass through. */
  relay: Relay | null;
  /** Its parts of what all share. */
  descriptors: DescriptorBudget | null;
  pages: GuestPages | null;
  /** It is among those that have something to settle. */
  isTouched: boolean;
}

const port = parentPort;
if (port === null) throw new Error('the engine runs in a worker thread');
const options = workerData as EngineOptions;
const stop = new Int32Array(options.stop);

function post(event: Event): void {
  port?.postMessage(event);
}

/** `guest` is 0 for what concerns all. */
function log(level: LogLevel, message: string, fields?: Record<string, unknown>, guest = 0): void {
  if (level === 'debug' && !options.debug) return;
  post({ type: 'log', guest, level, message, ...(fields === undefined ? {} : { fields }) });
}

/** What is loaded only where it is asked for; null: it was not. */
interface Rooms {
  wireguard: typeof WireGuardInterfaces | null;
  tunnels: typeof TunnelInterfaces | null;
  relay: typeof Relay | null;
}

class Engine {
  readonly #slab: Slab;
  readonly #memory: Memory;
  readonly #loop: EventLoop;
  readonly #descriptors: DescriptorPool;
  readonly #pages: PagePool;
  readonly #shared: SharedServices;
  readonly #captures: PcapBuffer;
  readonly #switches: Switches;
  /** By number. */
  readonly #tenants = new Map<number, Tenant>();
  /** Those that have something to settle at the end of the turn. Counts instead of lengths, as in the loop. */
  #touched: Tenant[] = [];
  #settling: Tenant[] = [];
  #touchedCount = 0;
  readonly #openers: LinkOpeners;
  readonly #makeRelay: typeof Relay | null;
  readonly #broker: BrokerLink | null;
  readonly #wakeFd: number;
  readonly #wakeBuffer: number;
  readonly #housekeeping: Housekeeping;
  readonly #flowLister: FlowLister;
  readonly #rehearsal: Rehearsal;
  readonly #routes: HostRoutes;
  #peers: UnixPeers | undefined;
  readonly #seenErrors = new Set<string>();

  constructor(limits: ProcessLimits, { wireguard, tunnels, relay }: Rooms) {
    this.#makeRelay = relay;
    this.#slab = new Slab(FIXED_BYTES, Math.floor(limits.memoryTotal / PAGE_SIZE), firstPage);
    this.#memory = new Memory(this.#slab.buffer, STRUCTURE_BYTES);
    this.#loop = new EventLoop(this.#memory, this.#slab, (error) => this.#onError(error));
    const rng = new SystemRandom();
    const hostRoutes = new HostRouteTable();
    const routes = new HostRoutes(this.#memory, this.#slab, hostRoutes, (message) => log('warn', message));
    routes.load();
    this.#routes = routes;
    const routesToken = this.#loop.add(routes.fd, EPOLLIN, { waiting: false, onIo: () => routes.refresh() });
    const files = descriptorLimit(options.isVisitor !== true);
    this.#descriptors = new DescriptorPool(files - limits.fdReserve - OWN_DESCRIPTORS);
    const descriptors = this.#descriptors;
    this.#pages = new PagePool(this.#slab);
    if (descriptors.limit < FEW_DESCRIPTORS) {
      const left = descriptors.limit > 0 ? `only ${descriptors.limit} sockets` : 'no sockets';
      const message = `the hard limit of ${files} open files (ulimit -Hn) leaves ${left} for what the guest connects to`;
      log('warn', message);
    }
    const flowNumbers = new FlowNumbers(options.flowBlocks);
    this.#shared = {
      slab: this.#slab,
      memory: this.#memory,
      scratch: new FlowScratch(this.#slab, this.#memory),
      stackScratch: new StackScratch(this.#slab),
      frames: new FrameIo(this.#slab, this.#memory),
      poller: this.#loop,
      timers: this.#loop.timers,
      clock: this.#loop.clock,
      rng,
      hash: new HalfSipHash(rng.u32(), rng.u32()),
      hostRoutes,
      refreshHostRoutes: () => routes.refreshIn(this.#loop.clock.turn, this.#loop.mayConcern(routesToken)),
      newFlowId: () => flowNumbers.next(),
    };
    this.#captures = new PcapBuffer(this.#slab);
    this.#switches = new Switches(this.#slab);
    this.#openers = {
      interfaces: new DeviceOpenings(this.#shared),
      wireguard: wireguard === null ? null : new wireguard(this.#shared),
      tunnels: tunnels === null ? null : new tunnels(this.#shared),
    };
    const { broker } = options;
    this.#broker =
      broker === null
        ? null
        : new BrokerLink(broker, this.#loop, {
            channel: (id, fd) => this.#openers.interfaces.channel(id, fd),
            said: (text) => post({ type: 'broker', text }),
            gone: () => {
              this.#openers.interfaces.none();
              post({ type: 'broker', text: '' });
            },
          });
    this.#housekeeping = new Housekeeping(
      this.#loop.timers,
      this.#slab,
      () => this.#flowCount(),
      (offset, length) => discard(this.#memory, offset, length),
      (result) => log('warn', `free memory is kept: ${errnoText(result)}`),
    );
    this.#flowLister = new FlowLister(
      this.#loop,
      this.#loop.clock,
      (guest) => this.#listFlows(guest),
      (guest, request, flows, more) => post({ type: 'flows', guest, request, flows, more }),
    );
    this.#rehearsal = new Rehearsal(this.#loop.timers, this.#loop.clock, () =>
      rehearse({ ...this.#shared, log }),
    );
    this.#wakeBuffer = this.#slab.region(8);
    this.#wakeFd = eventfd();
    if (this.#wakeFd < 0) throw new Error(`eventfd: ${errnoText(this.#wakeFd)}`);
    this.#loop.add(this.#wakeFd, EPOLLIN, { waiting: false, onIo: () => this.#readMailbox() });
  }

  run(): void {
    // The main thread may end the process before it reads the message: it finds the descriptor here, plus one.
    Atomics.store(stop, 1, this.#wakeFd + 1);
    post({ type: 'started', wakeFd: this.#wakeFd });
    try {
      this.#readMailbox();
      while (Atomics.load(stop, 0) === 0) {
        const events = this.#loop.turn();
        if (this.#touchedCount > 0) this.#endTurns();
        if (events > 0) this.#housekeeping.arm(this.#loop.clock.nowMs, events);
      }
    } finally {
      this.#close();
    }
  }

  /** The process may go on, so nothing is left open but what the control plane wakes us by, which it closes. */
  #close(): void {
    this.#broker?.dismiss();
    this.#rehearsal.close();
    for (const { guest, relay, pending, inside } of this.#tenants.values()) {
      guest?.close();
      relay?.close();
      pending?.close();
      inside.close();
    }
    this.#openers.interfaces.close();
    this.#broker?.finish();
    this.#peers?.close();
    this.#routes.close();
    this.#loop.close();
  }

  /** Only that, at once. */
  rehearse(): void {
    const steps = rehearse({ ...this.#shared, log });
    while (steps.next().done !== true);
  }

  #endTurns(): void {
    const tenants = this.#touched;
    const count = this.#touchedCount;
    // Two lists in turn: whoever is touched meanwhile has another turn.
    this.#touched = this.#settling;
    this.#settling = tenants;
    this.#touchedCount = 0;
    for (let i = 0; i < count; i++) {
      const tenant = tenants[i] as Tenant;
      tenant.isTouched = false;
      try {
        tenant.guest?.endTurn();
        tenant.relay?.endTurn();
      } catch (error) {
        this.#onError(error, tenant.number);
      }
    }
  }

  #guest(number: number): Guest | null {
    return this.#tenants.get(number)?.guest ?? null;
  }

  #readMailbox(): void {
    read(this.#memory, this.#wakeFd, this.#wakeBuffer, 8);
    for (;;) {
      const received = receiveMessageOnPort(port as NonNullable<typeof port>);
      if (received === undefined) return;
      this.#onCommand(received.message as Command);
    }
  }

  #onCommand(command: Command): void {
    switch (command.type) {
      case 'addGuest':
        this.#addGuest(command);
        return;
      case 'enterGuest':
        this.#tenant(command.guest).inside.open(command.channel);
        return;
      case 'changeInterface':
        this.#changeInterface(command);
        return;
      case 'setResolvers':
        this.#setResolvers(command);
        return;
      case 'updateGuest':
        this.#updateGuest(command);
        return;
      case 'removeGuest':
        this.#removeGuest(command.guest);
        return;
      case 'watchFd':
        this.#watch(command);
        return;
      case 'confine':
        post({
          type: 'confined',
          error: -enterSeccomp(this.#memory, this.#slab.region(SECCOMP_SCRATCH_BYTES), command),
        });
        return;
      case 'snapshot':
        this.#snapshot(command);
        return;
      case 'parentDeathSignal': {
        const result = setParentDeathSignal(command.signal);
        if (result < 0) post({ type: 'failed', message: `parent death signal: ${errnoText(result)}` });
        return;
      }
      case 'addForward':
        this.#addForward(command);
        return;
      case 'removeForward': {
        const { guest, forward } = command;
        const existed = this.#guest(guest)?.flows.forwards.remove(forward) ?? false;
        post({ type: 'forwardRemoved', guest, forward, existed });
        return;
      }
      case 'dialGuest':
        this.#dialGuest(command);
        return;
      case 'wake':
        this.#routes.load();
        return;
      case 'hostResolved':
        this.#guest(command.guest)?.onHostResolved(command.request, command.target, command.reason);
        return;
      case 'listFlows':
        this.#flowLister.ask(command.guest, command.request);
        return;
      case 'judgePeer':
        this.#peers ??= new UnixPeers(this.#memory, this.#slab.region(UNIX_PEERS_BYTES));
        post({
          type: 'peerJudged',
          request: command.request,
          near: command.inode === 0 ? this.#peers.available() === 0 : this.#peers.isNear(command.inode) > 0,
        });
        return;
      case 'openSockets': {
        const { guest, request } = command;
        post({ type: 'socketsOpened', guest, request, fd: openSockDiag() });
        return;
      }
      case 'closeFlow': {
        const { guest, request } = command;
        const existed = this.#guest(guest)?.flows.cut(command.flow) ?? false;
        post({ type: 'flowClosed', guest, request, existed });
        return;
      }
      default:
        command satisfies never;
    }
  }

  #addGuest({ guest: number, spec }: Extract<Command, { type: 'addGuest' }>): void {
    const tenant = this.#tenant(number);
    const services = this.#servicesOf(tenant, spec);
    tenant.pending = openLink(spec.device, spec.addresses, services, this.#openers, {
      onWaiting: (path) => post({ type: 'guestWaiting', guest: number, path }),
      onOpen: (opened) => {
        tenant.pending = null;
        this.#start(tenant, services, spec, opened);
      },
      onFailure: (error) => {
        this.#failed(tenant, error);
      },
    });
  }

  #updateGuest({ guest: number, policy, limits, ...flows }: Extract<Command, { type: 'updateGuest' }>): void {
    const guest = this.#guest(number);
    let reason = guest === null ? `there is no guest ${number}` : '';
    try {
      if (policy !== undefined) guest?.setPolicy(policy);
      if (limits !== undefined) guest?.setLimits(limits);
      if (flows.revoke === true) guest?.flows.revoke();
      if (flows.network !== undefined) guest?.setNetwork(flows.network.addresses, flows.network.mappings);
      if (flows.areTold !== undefined) guest?.tellFlows(flows.areTold);
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    post({ type: 'guestUpdated', guest: number, reason });
  }

  #changeInterface({ guest, name, before, after }: Extract<Command, { type: 'changeInterface' }>): void {
    this.#tenant(guest).inside.carryOut(changeInterface(name, before, after), (notes) => {
      for (const note of notes ?? ['nobody is inside to change the interface'])
        log('warn', note, { interface: name }, guest);
    });
  }

  #removeGuest(number: number): void {
    const tenant = this.#tenants.get(number);
    const { guest = null, relay = null, pending = null } = tenant ?? {};
    pending?.close();
    try {
      guest?.remove();
      relay?.close();
    } catch (error) {
      this.#onError(error, number);
    }
    if (tenant !== undefined) this.#forget(tenant);
    post({ type: 'guestRemoved', guest: number, existed: (guest ?? relay ?? pending) !== null });
  }

  #forget(tenant: Tenant): void {
    tenant.pending = null;
    tenant.inside.close();
    if (tenant.descriptors !== null) this.#loop.leave();
    tenant.descriptors?.leave();
    tenant.pages?.leave();
    this.#tenants.delete(tenant.number);
  }

  #setResolvers({ guest, servers, options, search }: Extract<Command, { type: 'setResolvers' }>): void {
    const tenant = this.#tenant(guest);
    tenant.resolvers.set(servers, options);
    tenant.search.set(search);
  }

  #tenant(number: number): Tenant {
    let tenant = this.#tenants.get(number);
    if (tenant === undefined) {
      tenant = {
        ...{ number, resolvers: new Resolvers(), search: new SearchDomains() },
        inside: new InsideChannel(this.#loop, this.#loop.timers, this.#loop.clock),
        ...{ pending: null, guest: null, relay: null, descriptors: null, pages: null, isTouched: false },
      };
      this.#tenants.set(number, tenant);
    }
    return tenant;
  }

  #failed(tenant: Tenant, error: unknown): void {
    this.#forget(tenant);
    const [step, errno] = error instanceof DeviceError ? [error.step, error.error] : (['link', 0] as const);
    const message = error instanceof Error ? error.message : String(error);
    post({ type: 'guestFailed', guest: tenant.number, step, error: errno, message });
  }

  #start(tenant: Tenant, services: EngineServices, spec: GuestSpec, opened: OpenLink): void {
    const { number } = tenant;
    let { link } = opened;
    try {
      link = this.#switches.join(link, spec, services);
      link = withCapture(link, spec, this.#captures, services);
      if (spec.tunnel === null) tenant.guest = new Guest(services, spec, { ...opened, link });
      else {
        const outer = this.#outer(spec.tunnel, spec.addresses, services);
        opened.notes.push(...outer.notes);
        tenant.relay = this.#relay(services, link, outer.link);
      }
    } catch (error) {
      link.close();
      opened.giveBack?.();
      this.#failed(tenant, error);
      return;
    }
    const { networks, notes } = hostView(this.#shared.hostRoutes, spec.policy.guestNetworks);
    post({
      ...{ type: 'guestReady', guest: number, link: opened.info },
      ...{ notes: [...opened.notes, ...notes], networks },
    });
    this.#rehearsal.start(this.#loop.clock.nowMs);
  }

  /** The way to the other end of a tunnel. @throws DeviceError, RangeError */
  #outer(tunnel: TunnelDevice, plan: AddressPlan, services: EngineServices): OpenLink {
    const { tunnels } = this.#openers;
    if (tunnels === null) throw new DeviceError('link', EINVAL, 'the tunnel was not loaded');
    return tunnels.open(tunnel, plan, services);
  }

  /** @throws DeviceError */
  #relay(services: EngineServices, inner: DeviceLink, outer: DeviceLink): Relay {
    try {
      if (this.#makeRelay === null) throw new DeviceError('link', EINVAL, 'the relay was not loaded');
      return new this.#makeRelay(services, inner, outer);
    } catch (error) {
      outer.close();
      throw error;
    }
  }

  /** What is the guest's own, and what says of it whose it is, beside what all share. */
  #servicesOf(tenant: Tenant, spec: GuestSpec): EngineServices {
    const { clock, timers } = this.#shared;
    const { number: guest, resolvers, search, inside } = tenant;
    const descriptors = this.#descriptors.join();
    const touched = (): void => {
      if (tenant.isTouched) return;
      tenant.isTouched = true;
      this.#touched[this.#touchedCount++] = tenant;
    };
    const limits = { ...spec.limits };
    const pages = this.#pages.join(() => limits.memoryMax, touched);
    Object.assign(tenant, { descriptors, pages });
    return {
      ...this.#shared,
      ...{ limits, resolvers, search, inside, descriptors, pages, touched },
      poller: this.#loop.share(() => limits.weight),
      names: new HostNames(
        (request, label, hostPort, protocol) =>
          post({ type: 'resolveHost', guest, request, label, port: hostPort, protocol }),
        clock,
        timers,
        spec.limits.namesMax,
      ),
      report: (report) => post({ type: 'report', guest, report }),
      log: (level, message, fields) => log(level, message, fields, guest),
      onError: (error) => this.#onError(error, guest),
      linkGone: (reason, text) => post({ type: 'linkGone', guest, reason, text }),
      linkDown: (reason, text) => post({ type: 'linkDown', guest, reason, text }),
      linkUp: (peer) => post({ type: 'linkUp', guest, peer }),
      onPeer: (event) => post({ type: 'peer', guest, event }),
    };
  }

  #addForward({ guest, forward, spec }: Extract<Command, { type: 'addForward' }>): void {
    const failed = (error: unknown): void => {
      if (!(error instanceof ForwardError)) this.#onError(error, guest);
      const message = error instanceof Error ? error.message : String(error);
      const { errno, port: at } = error instanceof ForwardError ? error : { errno: EINVAL, port: 0 };
      post({ type: 'forwardFailed', guest, forward, error: errno, port: at, message });
    };
    try {
      const owner = this.#guest(guest);
      if (owner === null) throw new ForwardError(EINVAL, `there is no guest ${guest}`);
      owner.flows.forwards.open(forward, spec, (result) => {
        if (result instanceof ForwardError) failed(result);
        else post({ type: 'forwardAdded', guest, forward, ...result });
      });
    } catch (error) {
      failed(error);
    }
  }

  #dialGuest({ guest, forward, target }: Extract<Command, { type: 'dialGuest' }>): void {
    const answer = (fd: number): void =>
      post({ type: 'guestDialed', guest, forward, fd: Math.max(fd, -1), error: Math.max(-fd, 0) });
    const owner = this.#guest(guest);
    if (owner === null) {
      answer(-ENETDOWN);
      return;
    }
    try {
      owner.flows.tcp.locals.dial(forward, target, answer);
    } catch (error) {
      if (!(error instanceof ForwardError)) this.#onError(error, guest);
      answer(error instanceof ForwardError ? -error.errno : -EINVAL);
    }
  }

  #watch({ fd, name, data }: Extract<Command, { type: 'watchFd' }>): void {
    const token = this.#loop.add(fd, (data ? EPOLLIN : 0) | EPOLLHUP | EPOLLERR, {
      waiting: false,
      onIo: () => {
        this.#loop.remove(token);
        post({ type: 'fdEvent', fd, name });
      },
    });
    // Plain files have neither data to wait for nor another end.
    if (token === -EPERM && !data) return;
    if (token < 0) post({ type: 'failed', message: `${name} ${fd}: ${errnoText(token)}` });
  }

  #flowCount(): number {
    let count = 0;
    for (const { guest } of this.#tenants.values()) count += guest?.flows.count ?? 0;
    return count;
  }

  #listFlows(guest: number): ListedFlow[] {
    const flows: ListedFlow[] = [];
    this.#guest(guest)?.flows.list(flows);
    return flows;
  }

  #snapshot({ guest, request }: Extract<Command, { type: 'snapshot' }>): void {
    const gauges: Record<string, number> = {
      'memory.pages_used': this.#slab.pagesUsed,
      'descriptors.used': this.#descriptors.used,
      timers: this.#loop.timers.size,
      'loop.turn_max_ms': this.#loop.meter.longestMs,
      'loop.turn_cpu_max_ms': this.#loop.meter.longestCpuMs,
    };
    const owner = this.#guest(guest);
    const counters = owner?.counters.snapshot() ?? {};
    const own = owner?.gauges() ?? this.#tenants.get(guest)?.relay?.gauges();
    post({ type: 'snapshot', guest, request, counters, gauges: { ...gauges, ...own } });
  }

  /** An exception is our bug: it costs the packet or the flow that met it, and is told once per place (N-01). */
  #onError(error: unknown, guest = 0): void {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const site = stack.split('\n').slice(0, 2).join(' ');
    if (this.#seenErrors.has(site) || this.#seenErrors.size > 100) return;
    this.#seenErrors.add(site);
    log('error', 'bug: an exception in the data plane', { stack }, guest);
  }
}

function start(rooms: Rooms): void {
  const engine = new Engine(options.limits, rooms);
  if (options.rehearseOnly === true) engine.rehearse();
  else engine.run();
}

function fail(error: unknown): void {
  post({ type: 'failed', message: error instanceof Error ? (error.stack ?? error.message) : String(error) });
}

async function load(): Promise<Rooms> {
  const wireguard =
    options.wireguard === true
      ? (await import('../device/wireguard-interfaces.ts')).WireGuardInterfaces
      : null;
  if (options.tunnel !== true) return { wireguard, tunnels: null, relay: null };
  const [{ TunnelInterfaces: tunnels }, { Relay: relay }] = await Promise.all([
    import('../device/tunnel-interfaces.ts'),
    import('./relay.ts'),
  ]);
  return { wireguard, tunnels, relay };
}

if (options.wireguard === true || options.tunnel === true) {
  load().then(start).catch(fail);
} else {
  try {
    start({ wireguard: null, tunnels: null, relay: null });
  } catch (error) {
    fail(error);
  }
}
