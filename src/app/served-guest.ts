/** A guest of this process, from its configuration to its packets and what may be asked of it. */
import {
  defaultPublish,
  type ForwardSpec,
  type GuestConfig,
  isWanted,
  type ProcessConfig,
  type PublishSpec,
} from '../config.ts';
import type { EngineClient } from '../control/engine-client.ts';
import { logOf } from '../control/log.ts';
import type { Server } from '../control/server.ts';
import type { Session, SessionHandlers } from '../control/session.ts';
import type { DeviceSpec, LinkTarget } from '../device-spec.ts';
import type { LinkInfo } from '../engine/messages.ts';
import type { EventSink, GuestEvent } from '../expose/event.ts';
import type { EventHub } from '../expose/event-hub.ts';
import type { Publisher } from '../expose/publisher.ts';
import { RuleForwards } from '../expose/rule-forwards.ts';
import { packageVersion } from '../package-root.ts';
import { type Inside, orderDevice, orderInside } from '../sandbox/broker.ts';
import type { NamespaceRef } from '../sandbox/namespace.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import type { AutoForward } from './auto-forward.ts';
import type { ProcessLog } from './logger.ts';
import { closeInspector } from './own-process.ts';
import type { PortRules } from './port-rules.ts';
import type { Publishing } from './publishing.ts';
import { sayError } from './say.ts';

/** How long the data plane may take to close its listeners. */
const UNPUBLISH_MS = 1000;

export class ServedGuest {
  readonly config: GuestConfig;
  readonly session: Session;
  private readonly process: ProcessConfig;
  private readonly server: Server;
  private readonly logger: ProcessLog;
  private readonly hub: EventHub;
  private readonly events: EventSink;
  private readonly ruleForwards: RuleForwards;
  /** Read while the file is in sight. */
  private readonly version: string = packageVersion();
  private services: AutoForward | undefined;
  private isUp = false;
  private publishing: Publishing | undefined;
  private rules: PortRules | undefined;
  /** On request. */
  private publisherMade: Promise<void> | undefined;

  constructor(
    config: GuestConfig,
    process: ProcessConfig,
    server: Server,
    logger: ProcessLog,
    hub: EventHub,
    handlers: SessionHandlers,
  ) {
    this.config = config;
    this.process = process;
    this.server = server;
    this.logger = logger;
    this.hub = hub;
    this.events = hub.sink(config.name);
    this.ruleForwards = new RuleForwards(this.events);
    this.session = server.add(config, {
      ...handlers,
      flows: (report) => {
        this.publishing?.publisher.heard(report);
        if (report.type === 'flow' && report.kind === 'local' && report.failure === 'guest')
          this.services?.lookNow();
        handlers.flows(report);
      },
      forwardOpen: (forward) => {
        this.ruleForwards.added(forward);
        handlers.forwardOpen?.(forward);
      },
      linkGone: (text) => {
        this.events.emit({ type: 'link.down', reason: text });
        handlers.linkGone(text);
      },
      linkDown: (reason) => this.events.emit({ type: 'link.down', reason }),
      linkUp: () => this.events.emit({ type: 'link.up' }),
      peer: (event) => this.events.emit(event),
    });
  }

  /** Forwards and flows, for whoever serves requests about them. */
  get client(): EngineClient {
    return this.session.client;
  }

  /** Resolves when the guest's packets flow and every forward is open; rejects with one line, see `attach`. */
  async bringUp(from: NamespaceRef | LinkTarget): Promise<LinkInfo> {
    const link = await this.attach(from);
    const inside = 'kind' in from ? null : await this.enter(from);
    await this.session.openForwards(this.process.limits.fdReserve);
    await this.publish();
    await this.readServices();
    await this.openRules(inside);
    await this.session.tellPolicy();
    this.isUp = true;
    this.events.emit({ type: 'guest.up' });
    if (!('kind' in from)) await this.followServices(from, inside);
    return link;
  }

  /** The first half: resolves when the guest's packets flow; rejects with a DeviceError when it is the device's fault. */
  async attach(from: NamespaceRef | LinkTarget): Promise<LinkInfo> {
    const link = await this.session.attach(this.deviceOf(from));
    closeInspector();
    // Others tell when their peer has come.
    if (!hasPeers(from)) this.events.emit({ type: 'link.up' });
    return link;
  }

  /** Whoever started us is told the same now. */
  ready(): void {
    const { guest4, guest6, ipv6 } = this.config.addresses;
    const addresses = ipv6 ? [guest4, guest6] : [guest4];
    const { pid } = process;
    const method = this.services?.method ?? 'none';
    this.events.emit({ type: 'ready', pid, version: this.version, method, addresses });
  }

  /** It will be served no more. */
  gone(reason: string): void {
    if (!this.isUp) return;
    this.isUp = false;
    this.services?.stop();
    this.ruleForwards.end();
    this.events.emit({ type: 'guest.down', reason });
  }

  /** Open the control socket, if there is to be one. Rejects with one line. */
  async openApi(link: LinkInfo): Promise<void> {
    const { config, client, logger, hub, ruleForwards } = this;
    const { api } = this.process;
    const { addresses, interface: wish, target } = config;
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
      commands: new ApiCommands(client, defaults, runInfo(config, link), {
        ...{ hub, ruleForwards },
        publisher: () => this.publisher(),
      }),
      onError: (error) => logger.log('error', 'an API request failed', { reason: String(error) }),
      trace: api.echo ? sayError : undefined,
      admits: target.kind === 'run' ? await this.clientJudge() : undefined,
    });
    await server.listen();
  }

  /** Services of the guest have ports of the host from now on. Rejects with one line. */
  private async publish(): Promise<void> {
    const { publish: spec } = this.config;
    if (spec !== null) await this.publishBy(spec);
  }

  /** Whoever publishes services, which may be asked for by requests alone. */
  private async publisher(): Promise<Publisher> {
    if (this.publishing === undefined) {
      this.publisherMade ??= this.publishBy(defaultPublish);
      await this.publisherMade;
    }
    if (this.publishing === undefined) throw new Error('the guest is served no more');
    return this.publishing.publisher;
  }

  private async publishBy(spec: PublishSpec): Promise<void> {
    const { name } = this.config;
    const [{ Publishing: Made }, { publishLog }] = await Promise.all([
      import('./publishing.ts'),
      import('./publish-log.ts'),
    ]);
    const tell = publishLog(logOf(this.logger, name));
    const emit = (event: GuestEvent): void => {
      tell(event);
      this.events.emit(event);
    };
    this.publishing = new Made(this.client, this.config, spec, { emit });
    await this.publishing.publisher.start();
  }

  /** New clients of published services are refused; resolves when those that are there have ended, or had their time. */
  async unpublish(graceMs: number): Promise<void> {
    const { publishing, rules } = this;
    this.publishing = undefined;
    this.rules = undefined;
    await rules?.stop().catch(() => undefined);
    if (publishing === undefined) return;
    const tooLong = new Promise((resolve) => setTimeout(resolve, graceMs + UNPUBLISH_MS).unref());
    // A data plane that has failed closes everything by itself.
    await Promise.race([publishing.stop(graceMs).catch(() => undefined), tooLong]);
  }

  /** Services that an events file names are published. */
  private async readServices(): Promise<void> {
    const { forwardEvents } = this.process;
    const { logger, publishing } = this;
    const { name } = this.config;
    if (!isWanted(forwardEvents) || publishing === undefined) return;
    const { readServices } = await import('./forward-events.ts');
    await readServices(forwardEvents, name, publishing.publisher, logOf(logger, name));
  }

  /**
   * Somebody of ours stays in the guest's namespace, where that is of use: by him its sockets are seen, and sockets are made
   * there. Null: nobody does. Rejects with one line where it does not go without.
   */
  private async enter(from: NamespaceRef): Promise<Inside | null> {
    const { autoForward, forwards, name, portRules } = this.config;
    const hasInside = this.config.hasInside || this.config.changesRoutes === true || forwards.some(isSpliced);
    if (autoForward === null && !hasInside && portRules === undefined) return null;
    try {
      const inside = await orderInside(from, this.config.changesRoutes === true);
      this.session.enter(inside.channel);
      return inside;
    } catch (error) {
      const reason = (error as Error).message;
      if (hasInside)
        throw new Error(`no sockets can be made in the guest's namespace: ${reason}`, { cause: error });
      logOf(this.logger, name).log('debug', 'nobody of ours is in the namespace', { reason });
      return null;
    }
  }

  /** Ports that lead to the other side by rules do so from now on. Rejects with what stands in the way, in pasta's words. */
  private async openRules(inside: Inside | null): Promise<void> {
    const { name, portRules } = this.config;
    if (portRules === undefined) return;
    const { PortRules } = await import('./port-rules.ts');
    this.rules = await PortRules.start(this.client, portRules, inside, logOf(this.logger, name));
  }

  /** Services of the guest are published as they come. */
  private async followServices(from: NamespaceRef, inside: Inside | null): Promise<void> {
    const { autoForward, name } = this.config;
    const { events, logger, publishing } = this;
    if (autoForward === null || publishing === undefined) return;
    const { AutoForward } = await import('./auto-forward.ts');
    const log = logOf(logger, name);
    this.services = AutoForward.start(from, inside, autoForward, events, publishing.publisher, log);
  }

  private deviceOf(from: NamespaceRef | LinkTarget): DeviceSpec {
    const { interface: wish } = this.config;
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

/** The other end comes and goes: the data plane says when. */
function hasPeers(from: NamespaceRef | LinkTarget): boolean {
  if (!('kind' in from)) return false;
  return from.kind === 'dial' || from.kind === 'datagram' || (from.kind === 'listen' && !from.awaited);
}

/** It takes a socket of the guest's namespace. */
function isSpliced(spec: ForwardSpec): boolean {
  if (spec.direction === 'remote') return spec.inside !== undefined;
  const { address } = spec.target;
  return spec.splice !== undefined || (address !== '' && parseIpAddress(address).isLoopback);
}
