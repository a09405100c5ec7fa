/**
 * A process that serves one guest: the order in which the data plane, the device, the forwards, the control socket and the
 * sandbox come together, for `run` and `attach` alike.
 *
 *     supervisor starts the thread ─────────────┐
 *     the broker's child enters the namespace   ┴─ the session: addGuest, forwards
 *                                                  → control socket → sandbox
 */
import type { BessTarget, Config, DescriptorTarget, DeviceSpec } from '../config.ts';
import type { EngineClient } from '../control/engine-client.ts';
import { Server } from '../control/server.ts';
import type { Session, SessionHandlers } from '../control/session.ts';
import type { Supervisor } from '../control/supervisor.ts';
import type { LinkInfo } from '../engine/messages.ts';
import type { EventSink } from '../expose/event.ts';
import type { EventHub } from '../expose/event-hub.ts';
import { RuleForwards } from '../expose/rule-forwards.ts';
import { packageVersion } from '../package-root.ts';
import { hear, orderDevice } from '../sandbox/broker.ts';
import { Confinement } from '../sandbox/confinement.ts';
import type { NamespaceRef } from '../sandbox/namespace.ts';
import { openDescriptors } from './found.ts';
import type { Logger } from './logger.ts';
import { closeInspector } from './own-process.ts';
import { sayError } from './say.ts';

export interface OneGuestHandlers extends SessionHandlers {
  /** The descriptor given with --exit-fd has closed. */
  exitRequested: () => void;
  /** The data plane cannot go on. */
  failed: (message: string) => void;
}

export class OneGuest {
  private readonly config: Config;
  private readonly supervisor: Supervisor;
  private readonly logger: Logger;
  private readonly server: Server;
  private readonly session: Session;
  private readonly confinement: Confinement;
  private readonly hub: EventHub;
  private readonly events: EventSink;
  private readonly ruleForwards: RuleForwards;
  /** Read while the file is in sight. */
  private readonly version: string = packageVersion();
  private isUp = false;

  constructor(
    config: Config,
    supervisor: Supervisor,
    logger: Logger,
    hub: EventHub,
    handlers: OneGuestHandlers,
  ) {
    this.config = config;
    this.supervisor = supervisor;
    this.logger = logger;
    this.hub = hub;
    this.events = hub.sink(config.guest.name);
    this.ruleForwards = new RuleForwards(this.events);
    this.confinement = new Confinement(config, supervisor, logger, openDescriptors);
    this.server = new Server(supervisor, logger, {
      fdEvent: (fd) => {
        if (fd === config.process.exitFd) handlers.exitRequested();
      },
      broker: (text) => {
        hear(text);
        // Nobody watches the namespace, resolv.conf or the files to be removed any more.
        if (text === '') handlers.failed('the broker has ended');
      },
      confined: (error) => this.confinement.confined(error),
      failed: (message) => handlers.failed(message),
    });
    this.session = this.server.add(config.guest, {
      ...handlers,
      forwardOpen: (forward) => {
        this.ruleForwards.added(forward);
        handlers.forwardOpen?.(forward);
      },
      linkGone: (reason) => {
        this.events.emit({ type: 'link.down', reason });
        handlers.linkGone(reason);
      },
    });
  }

  /** Forwards and flows, for whoever serves requests about them. */
  get client(): EngineClient {
    return this.session.client;
  }

  /** Resolves when the guest's packets flow and every forward is open; rejects with one line, see `attach`. */
  async bringUp(from: NamespaceRef | DescriptorTarget | BessTarget): Promise<LinkInfo> {
    const link = await this.attach(from);
    await this.session.openForwards(this.config.process.limits.fdReserve);
    await this.session.tellPolicy();
    this.isUp = true;
    this.events.emit({ type: 'guest.up' });
    return link;
  }

  /** The first half: resolves when the guest's packets flow; rejects with a DeviceError when it is the device's fault. */
  async attach(from: NamespaceRef | DescriptorTarget | BessTarget): Promise<LinkInfo> {
    const device = this.deviceOf(from);
    const { exitFd, exitOnData } = this.config.process;
    if (exitFd >= 0) this.supervisor.send({ type: 'watchFd', fd: exitFd, name: 'exit-fd', data: exitOnData });
    const link = await this.session.attach(device);
    closeInspector();
    this.events.emit({ type: 'link.up' });
    return link;
  }

  /** Whoever started us is told the same now. */
  ready(): void {
    const { guest4, guest6, ipv6 } = this.config.guest.addresses;
    const addresses = ipv6 ? [guest4, guest6] : [guest4];
    const { pid } = process;
    this.events.emit({ type: 'ready', pid, version: this.version, method: 'none', addresses });
  }

  /** Nobody will be served any more. */
  gone(reason: string): void {
    if (!this.isUp) return;
    this.isUp = false;
    this.ruleForwards.end();
    this.events.emit({ type: 'guest.down', reason });
  }

  /**
   * Resolves when what the process can do without is given up; nothing may be opened or started after that.
   */
  confine(): Promise<void> {
    return this.confinement.enter(this.session.resolvConf);
  }

  /** Open the control socket, if there is to be one. Rejects with one line. */
  async openApi(link: LinkInfo): Promise<void> {
    const { config, client, logger, hub, ruleForwards } = this;
    const { api } = config.process;
    const { addresses, interface: wish, target } = config.guest;
    if (api.path === '') return;
    const [{ ApiCommands }, { ApiServer }, { runInfo }] = await Promise.all([
      import('../api/commands.ts'),
      import('../api/server.ts'),
      import('../api/run-info.ts'),
    ]);
    const { guest4, guest6, ipv6 } = addresses;
    // A guest that makes its own IPv6 address is only known by its IPv4 address.
    const planned6 = ipv6 && !wish.setup.ipv6ByAdvertisement;
    const defaults = { guest4, guest6: planned6 ? guest6 : guest4 };
    const server = new ApiServer({
      spec: api,
      commands: new ApiCommands(client, defaults, runInfo(config.guest, link), { hub, ruleForwards }),
      onError: (error) => logger.log('error', 'an API request failed', { reason: String(error) }),
      trace: api.echo ? sayError : undefined,
      admits: target.kind === 'run' ? await this.clientJudge() : undefined,
    });
    await server.listen();
  }

  private deviceOf(from: NamespaceRef | DescriptorTarget | BessTarget): DeviceSpec {
    const { interface: wish } = this.config.guest;
    if ('kind' in from) return { ...from, mtu: wish.mtu };
    return { kind: 'interface', order: orderDevice(from), ...wish };
  }

  /** The command sees the API socket and has our rights to it: its clients are told by their network namespace. */
  private async clientJudge(): Promise<((inode: number) => Promise<boolean>) | undefined> {
    if (await this.server.isNear(0)) return (inode) => this.server.isNear(inode);
    this.logger.log(
      'warn',
      'COMMAND can use the API socket: this kernel has no unix_diag to tell its clients by',
    );
    return undefined;
  }
}
