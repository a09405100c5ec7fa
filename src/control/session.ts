/**
 * One guest, as the main thread has it, from its configuration to its end: what it is told at its start, and what it asks
 * later.
 *
 *     setResolvers, addGuest → guestReady → forwards, one by one
 */
import type { GuestConfig, HostEnd } from '../config.ts';
import { DeviceError } from '../device-error.ts';
import type { DeviceSpec } from '../device-spec.ts';
import type { Command, EndReason, Event, FlowReport, LinkInfo, PeerEvent } from '../engine/messages.ts';
import { describePolicy } from '../firewall/verdict.ts';
import { formatEndpoint } from '../stack/wire/address.ts';
import { checkDescriptors } from './descriptor-check.ts';
import { EngineClient, type OpenForward } from './engine-client.ts';
import { type Log, logOf } from './log.ts';
import type { ForwardTargets } from './names/forward-targets.ts';
import type { Numbers } from './numbers.ts';
import { ResolvConfFollower } from './resolv-conf.ts';

export const RESOLV_CONF = '/etc/resolv.conf';

export type GuestReady = Extract<Event, { type: 'guestReady' }>;
/** What the data plane says of one guest. */
export type GuestEvent = Extract<Event, { guest: number }>;

export interface SessionHandlers {
  /** A socket is there for the guest's peer to connect to. */
  waiting?: (path: string) => void;
  /** The interface is gone for good; one line. */
  linkGone: (text: string) => void;
  /** The link's other end has gone, and is waited for; has come. */
  linkDown?: (reason: EndReason) => void;
  linkUp?: (peer: string) => void;
  /** A peer is heard of, is not any more, or has moved. */
  peer?: (event: PeerEvent) => void;
  /** A forward of the configuration is open. */
  forwardOpen?: (forward: OpenForward) => void;
  /** What becomes of flows, as `GuestBehavior.flowEvents` and `denials` say. */
  flows: (event: FlowReport) => void;
}

export class Session {
  readonly config: GuestConfig;
  /** Forwards and flows, for whoever serves requests about them. */
  readonly client: EngineClient;
  private readonly send: (command: Command) => void;
  private readonly log: Log;
  private readonly handlers: SessionHandlers;
  private readonly ready: Promise<GuestReady>;
  private settleReady: { resolve: (ready: GuestReady) => void; reject: (error: Error) => void } | undefined;
  private follower: ResolvConfFollower | undefined;
  private targets: Promise<ForwardTargets> | undefined;

  constructor(
    config: GuestConfig,
    send: (command: Command) => void,
    numbers: Numbers,
    log: Log,
    handlers: SessionHandlers,
  ) {
    this.config = config;
    this.send = send;
    this.client = new EngineClient(send, numbers);
    this.log = logOf(log, config.name);
    this.handlers = handlers;
    this.ready = new Promise((resolve, reject) => {
      this.settleReady = { resolve, reject };
    });
    this.ready.catch(() => undefined);
  }

  /** Follows the host's resolv.conf for the guest; undefined: it has no DNS of ours. */
  get resolvConf(): ResolvConfFollower | undefined {
    return this.follower;
  }

  /** Resolves when the guest's packets flow; rejects with a DeviceError when it is the device's fault. */
  async attach(device: DeviceSpec): Promise<LinkInfo> {
    const {
      interface: _,
      target,
      forwards,
      publish,
      autoForward,
      portRules,
      hasInside,
      changesRoutes,
      targetNames,
      ...rest
    } = this.config;
    const { dnsServers, dnsSearch, name, ...spec } = rest;
    this.followResolvers();
    this.send({ type: 'addGuest', guest: this.client.guest, spec: { ...spec, device } });
    const { link, notes } = await this.ready;
    for (const note of notes) this.log.log('warn', note, { interface: link.name });
    return link;
  }

  /** Sockets in the guest's namespace are made by whoever is at the end of `channel`, which is given away. */
  enter(channel: number): void {
    this.send({ type: 'enterGuest', guest: this.client.guest, channel });
  }

  /**
   * Resolves when all are open; rejects with a ForwardRefused for the first that cannot be. `descriptorsKept`: those of the
   * process that are not for guests.
   */
  async openForwards(descriptorsKept: number): Promise<void> {
    const { forwards } = this.config;
    checkDescriptors(forwards, descriptorsKept);
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

  /** Say what the guest may reach. */
  async tellPolicy(): Promise<void> {
    const { link, networks } = await this.ready;
    const remote = this.config.tunnel?.remote ?? null;
    if (remote !== null) {
      this.log.log('info', `packets go to ${formatEndpoint(remote)} and come from there`, {
        ...{ interface: link.name, mtu: link.mtu },
      });
      return;
    }
    const dns = this.config.dns ? "; DNS queries go to the host's resolvers (--no-dns)" : '';
    const fields = { interface: link.name, mtu: link.mtu, txQueueLen: link.txQueueLen };
    this.log.log('info', `${describePolicy(this.config.policy, networks)}${dns}`, fields);
  }

  receive(event: GuestEvent): void {
    switch (event.type) {
      case 'guestReady':
        this.settleReady?.resolve(event);
        break;
      case 'guestWaiting':
        this.handlers.waiting?.(event.path);
        break;
      case 'guestFailed':
        this.settleReady?.reject(new DeviceError(event.step, event.error, event.message));
        this.close();
        break;
      case 'linkGone':
        this.handlers.linkGone(event.text);
        break;
      case 'linkDown':
        this.log.log('warn', `the link is down: ${event.text}`, { event: 'link.down', reason: event.reason });
        this.handlers.linkDown?.(event.reason);
        break;
      case 'linkUp':
        this.log.log('info', 'the link is up', { event: 'link.up', peer: event.peer });
        this.handlers.linkUp?.(event.peer);
        break;
      case 'peer':
        this.log.log('info', peerText(event.event), { event: event.event.type });
        this.handlers.peer?.(event.event);
        break;
      case 'log':
        this.log.log(event.level, event.message, event.fields);
        break;
      case 'report':
        this.handlers.flows(event.report);
        break;
      case 'resolveHost':
        void this.resolve(event);
        break;
      default:
        this.client.receive(event);
    }
  }

  /** Nothing will be answered any more. */
  fail(error: Error): void {
    this.client.fail(error);
    this.settleReady?.reject(error);
    this.close();
  }

  /** Nobody asks for the guest any more. */
  close(): void {
    this.follower?.close();
  }

  private followResolvers(): void {
    const { config, log } = this;
    if (!config.dns) return;
    this.follower = new ResolvConfFollower(
      RESOLV_CONF,
      {
        changed: ({ servers, options, search }) => {
          const { guest } = this.client;
          const domains = config.dnsSearch ?? search;
          this.send({ type: 'setResolvers', guest, servers, options, search: domains });
          log.log('debug', 'DNS servers of the host', { servers, ...options });
        },
        unreadable: (reason) => log.log('warn', `${RESOLV_CONF} cannot be read: ${reason}`),
      },
      config.dnsServers,
    );
  }

  private loadTargets(): Promise<ForwardTargets> {
    this.targets ??= import('./names/forward-targets.ts').then(({ forwardTargets }) =>
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
      const targets = await this.loadTargets();
      target = { kind: 'ip', ...(await targets.resolve(label, port)) };
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    this.send({ type: 'hostResolved', guest, request, target, reason });
  }
}

function peerText(event: PeerEvent): string {
  switch (event.type) {
    case 'peer.up':
      return `the peer is up, at ${event.endpoint}`;
    case 'peer.roamed':
      return `the peer has moved to ${event.endpoint}`;
    case 'peer.down':
      return `the peer is down: ${event.reason}`;
  }
}
