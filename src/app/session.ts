/**
 * Brings one guest up and looks after it: the order in which the data plane, the device and the resolvers come together,
 * for `run` and `attach` alike.
 *
 *     supervisor starts the thread ─────────────┐
 *     the broker's child enters the namespace   ┴─ setResolvers, addGuest → guestReady
 *                                                  → forwards, one by one
 */
import {
  type BessTarget,
  type Config,
  type DescriptorTarget,
  type DeviceSpec,
  type HostEnd,
  processLimits,
} from '../config.ts';
import { checkDescriptors } from '../control/descriptor-check.ts';
import { EngineClient, type OpenForward } from '../control/engine-client.ts';
import type { ForwardTargets } from '../control/names/forward-targets.ts';
import { ResolvConfFollower } from '../control/resolv-conf.ts';
import type { Supervisor } from '../control/supervisor.ts';
import { DeviceError } from '../device-error.ts';
import type { Event, FlowReport, LinkInfo } from '../engine/messages.ts';
import { describePolicy } from '../firewall/verdict.ts';
import { hear, orderDevice } from '../sandbox/broker.ts';
import { Confinement } from '../sandbox/confinement.ts';
import type { NamespaceRef } from '../sandbox/namespace.ts';
import { openDescriptors } from './found.ts';
import type { Logger } from './logger.ts';
import { closeInspector } from './own-process.ts';
import { sayError } from './say.ts';

const RESOLV_CONF = '/etc/resolv.conf';

type GuestReady = Extract<Event, { type: 'guestReady' }>;

export interface SessionHandlers {
  /** A socket is there for the guest's peer to connect to. */
  waiting?: (path: string) => void;
  /** The descriptor given with --exit-fd has closed. */
  exitRequested: () => void;
  /** The interface is gone for good. */
  linkGone: (reason: string) => void;
  /** The data plane cannot go on. */
  failed: (message: string) => void;
  /** A forward of the configuration is open. */
  forwardOpen?: (forward: OpenForward) => void;
  /** What becomes of flows, as `GuestBehavior.flowEvents` and `denials` say. */
  flows: (event: FlowReport) => void;
}

export class Session {
  private readonly config: Config;
  private readonly supervisor: Supervisor;
  private readonly logger: Logger;
  private readonly handlers: SessionHandlers;
  /** Forwards and flows, for whoever serves requests about them. */
  readonly client: EngineClient;
  private readonly confinement: Confinement;
  private resolvConf: ResolvConfFollower | undefined;
  private targets: Promise<ForwardTargets> | undefined;
  private readonly guestReady: Promise<GuestReady>;
  private settleReady: { resolve: (ready: GuestReady) => void; reject: (error: Error) => void } | undefined;

  constructor(config: Config, supervisor: Supervisor, logger: Logger, handlers: SessionHandlers) {
    this.config = config;
    this.supervisor = supervisor;
    this.logger = logger;
    this.handlers = handlers;
    this.client = new EngineClient((command) => supervisor.send(command), supervisor.numbers);
    this.confinement = new Confinement(config, supervisor, logger, openDescriptors);
    this.guestReady = new Promise((resolve, reject) => {
      this.settleReady = { resolve, reject };
    });
    this.guestReady.catch(() => undefined);
    supervisor.listen({
      event: (event) => this.receive(event),
      ended: (error) => {
        if (error !== undefined) logger.log('debug', 'the data plane ended', { stack: error.stack });
        this.fail(`the data plane ended: ${error?.message ?? 'no reason given'}`);
      },
    });
  }

  /** Resolves when the guest's packets flow and every forward is open; rejects with one line, see `attach`. */
  async bringUp(from: NamespaceRef | DescriptorTarget | BessTarget): Promise<LinkInfo> {
    const { config, logger } = this;
    const link = await this.attach(from);
    await this.openForwards();
    const { networks } = await this.guestReady;
    const dns = config.guest.dns ? "; DNS queries go to the host's resolvers (--no-dns)" : '';
    const fields = { interface: link.name, mtu: link.mtu, txQueueLen: link.txQueueLen };
    logger.log('info', `${describePolicy(config.guest.policy, networks)}${dns}`, fields);
    return link;
  }

  /** The first half: resolves when the guest's packets flow; rejects with a DeviceError when it is the device's fault. */
  async attach(from: NamespaceRef | DescriptorTarget | BessTarget): Promise<LinkInfo> {
    const { link, notes } = 'kind' in from ? await this.useDescriptor(from) : await this.openDevice(from);
    closeInspector();
    for (const note of notes) this.logger.log('warn', note, { interface: link.name });
    return link;
  }

  private useDescriptor(from: DescriptorTarget | BessTarget): Promise<GuestReady> {
    return this.addGuest({ ...from, mtu: this.config.mtu });
  }

  private openDevice(namespace: NamespaceRef): Promise<GuestReady> {
    const { interfaceName: name, mtu, configure, setup } = this.config;
    const order = orderDevice(namespace);
    return this.addGuest({ kind: 'interface', order, name, mtu, configure, setup });
  }

  private addGuest(device: DeviceSpec): Promise<GuestReady> {
    const { config, supervisor } = this;
    this.startResolvers();
    if (config.exitFd >= 0)
      supervisor.send({ type: 'watchFd', fd: config.exitFd, name: 'exit-fd', data: config.exitOnData });
    supervisor.send({ type: 'addGuest', guest: this.client.guest, spec: { ...config.guest, device } });
    return this.guestReady;
  }

  /**
   * Resolves when what the process can do without is given up; nothing may be opened or started after that.
   */
  confine(): Promise<void> {
    return this.confinement.enter(this.resolvConf);
  }

  /** Open the control socket, if there is to be one. Rejects with one line. */
  async openApi(link: LinkInfo): Promise<void> {
    const { config, client, logger } = this;
    if (config.api.path === '') return;
    const [{ ApiCommands }, { ApiServer }, { runInfo }] = await Promise.all([
      import('../api/commands.ts'),
      import('../api/server.ts'),
      import('../api/run-info.ts'),
    ]);
    const { guest4, guest6, ipv6 } = config.guest.addresses;
    // A guest that makes its own IPv6 address is only known by its IPv4 address.
    const planned6 = ipv6 && !config.setup.ipv6ByAdvertisement;
    const defaults = { guest4, guest6: planned6 ? guest6 : guest4 };
    const server = new ApiServer({
      spec: config.api,
      commands: new ApiCommands(client, defaults, runInfo(config, link)),
      onError: (error) => logger.log('error', 'an API request failed', { reason: String(error) }),
      trace: config.api.echo ? sayError : undefined,
      admits: config.target.kind === 'run' ? await this.clientJudge() : undefined,
    });
    await server.listen();
  }

  /** The command sees the API socket and has our rights to it: its clients are told by their network namespace. */
  private async clientJudge(): Promise<((inode: number) => Promise<boolean>) | undefined> {
    if (await this.client.isNear(0)) return (inode) => this.client.isNear(inode);
    this.logger.log(
      'warn',
      'COMMAND can use the API socket: this kernel has no unix_diag to tell its clients by',
    );
    return undefined;
  }

  private startResolvers(): void {
    const { config, supervisor, logger } = this;
    if (!config.guest.dns) return;
    this.resolvConf = new ResolvConfFollower(
      RESOLV_CONF,
      {
        changed: ({ servers, options, search }) => {
          const { guest } = this.client;
          const domains = config.dnsSearch ?? search;
          supervisor.send({ type: 'setResolvers', guest, servers, options, search: domains });
          logger.log('debug', 'DNS servers of the host', { servers, ...options });
        },
        unreadable: (reason) => logger.log('warn', `${RESOLV_CONF} cannot be read: ${reason}`),
      },
      config.dnsServers,
    );
  }

  private receive(event: Event): void {
    switch (event.type) {
      case 'guestReady':
        this.settleReady?.resolve(event);
        break;
      case 'guestWaiting':
        this.handlers.waiting?.(event.path);
        break;
      case 'guestFailed':
        this.settleReady?.reject(new DeviceError(event.step, event.error, event.message));
        break;
      case 'linkGone':
        this.handlers.linkGone(event.reason);
        break;
      case 'confined':
        this.confinement.confined(event.error);
        break;
      case 'fdEvent':
        if (event.fd === this.config.exitFd) this.handlers.exitRequested();
        break;
      case 'broker':
        hear(event.text);
        break;
      case 'log':
        this.logger.log(event.level, event.message, event.fields);
        break;
      case 'failed':
        this.fail(event.message);
        break;
      case 'report':
        this.handlers.flows(event.report);
        break;
      case 'resolveHost':
        void this.resolve(event);
        break;
      case 'started':
        break;
      default:
        this.client.receive(event);
    }
  }

  /** The second half. Rejects with a ForwardRefused for the first that cannot be opened. */
  async openForwards(): Promise<void> {
    const { forwards } = this.config;
    checkDescriptors(forwards, processLimits.fdReserve);
    // Now, because a confined process may not be able to.
    if (forwards.some((spec) => spec.direction === 'remote' && spec.target.kind === 'name')) {
      await this.loadTargets();
    }
    // All are asked for at once and waited for in order: the first that fails is the one that is told.
    const opening = forwards.map((spec) => this.client.addForward(spec));
    for (const promise of opening) promise.catch(() => undefined);
    for (const promise of opening) {
      const open = await promise;
      this.handlers.forwardOpen?.(open);
    }
  }

  private loadTargets(): Promise<ForwardTargets> {
    this.targets ??= import('../control/names/forward-targets.ts').then(({ forwardTargets }) =>
      forwardTargets(this.config),
    );
    return this.targets;
  }

  private async resolve({
    guest,
    request,
    label,
    port,
  }: Extract<Event, { type: 'resolveHost' }>): Promise<void> {
    let target: HostEnd | null = null;
    let reason = '';
    try {
      this.targets ??= import('../control/names/forward-targets.ts').then(({ forwardTargets }) =>
        forwardTargets(this.config),
      );
      const targets = await this.loadTargets();
      target = { kind: 'ip', ...(await targets.resolve(label, port)) };
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    this.supervisor.send({ type: 'hostResolved', guest, request, target, reason });
  }

  private fail(message: string): void {
    this.client.fail(new Error(message));
    this.settleReady?.reject(new Error(message));
    this.handlers.failed(message);
  }
}
