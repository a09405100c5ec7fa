/**
 * A process that serves guests: the order in which the data plane, devices, forwards, control socket and sandbox come
 * together, for all front ends and any number of guests alike.
 *
 *     supervisor starts the thread ─────────────┐
 *     the broker's child enters the namespace   ┴─ each guest's session: addGuest, forwards
 *                                                  → control socket → sandbox
 */
import type { GuestConfig, ProcessConfig } from '../config.ts';
import { Server } from '../control/server.ts';
import type { SessionHandlers } from '../control/session.ts';
import type { Supervisor } from '../control/supervisor.ts';
import type { LinkTarget } from '../device-spec.ts';
import type { LinkInfo } from '../engine/messages.ts';
import type { EventHub } from '../expose/event-hub.ts';
import { hear } from '../sandbox/broker.ts';
import { Confinement } from '../sandbox/confinement.ts';
import { openDescriptors } from './found.ts';
import type { ProcessLog } from './logger.ts';
import { ServedGuest } from './served-guest.ts';

export interface ServingHandlers {
  /** The descriptor given with --exit-fd has closed. */
  exitRequested: () => void;
  /** The data plane cannot go on. */
  failed: (message: string) => void;
}

export class Serving {
  private readonly config: ProcessConfig;
  private readonly logger: ProcessLog;
  private readonly server: Server;
  private readonly confinement: Confinement;
  private readonly hub: EventHub;
  private readonly guests = new Set<ServedGuest>();
  /** Of those that have come late: what ends their hearing of resolv.conf. */
  private readonly lateFollowers = new Map<ServedGuest, () => void>();

  constructor(
    config: ProcessConfig,
    supervisor: Supervisor,
    logger: ProcessLog,
    hub: EventHub,
    handlers: ServingHandlers,
  ) {
    this.config = config;
    this.logger = logger;
    this.hub = hub;
    this.confinement = new Confinement(config, supervisor, logger, openDescriptors);
    const { exitFd, exitOnData } = config;
    this.server = new Server(supervisor, logger, {
      fdEvent: (fd) => {
        if (fd === exitFd) handlers.exitRequested();
      },
      broker: (text) => {
        hear(text);
        // Nobody watches the namespace, resolv.conf or the files to be removed any more.
        if (text === '') handlers.failed('the broker has ended');
      },
      confined: (error) => this.confinement.confined(error),
      failed: (message) => handlers.failed(message),
    });
    if (exitFd >= 0) supervisor.send({ type: 'watchFd', fd: exitFd, name: 'exit-fd', data: exitOnData });
  }

  /** A guest that is not there yet. */
  add(config: GuestConfig, handlers: SessionHandlers): ServedGuest {
    const { server, logger, hub } = this;
    const guest = new ServedGuest(config, this.config, server, logger, hub, handlers);
    this.guests.add(guest);
    return guest;
  }

  /** Resolves when the data plane has all that it is to load: it has answered something. */
  async loaded(): Promise<void> {
    await this.server.isNear(0);
  }

  /** Bring up one that has come since `confine`. Rejects with one line, and then it is gone. */
  async bringUpLate(guest: ServedGuest, from: LinkTarget): Promise<LinkInfo> {
    try {
      const bringingUp = guest.bringUp(from);
      const { resolvConf } = guest.session;
      if (resolvConf !== undefined) this.lateFollowers.set(guest, this.confinement.follow(resolvConf));
      const link = await bringingUp;
      guest.ready();
      return link;
    } catch (error) {
      this.lateFollowers.get(guest)?.();
      this.guests.delete(guest);
      throw error;
    }
  }

  /** End a guest; how many are left. */
  async remove(guest: ServedGuest): Promise<number> {
    this.lateFollowers.get(guest)?.();
    this.lateFollowers.delete(guest);
    await guest.unpublish(0);
    guest.gone('link');
    await this.server.remove(guest.session);
    this.guests.delete(guest);
    return this.guests.size;
  }

  /** Whoever started us is told the same now. */
  ready(): void {
    for (const guest of this.guests) guest.ready();
  }

  /** New clients of published services are refused, those that are there have so many ms. */
  async unpublish(graceMs: number): Promise<void> {
    await Promise.all([...this.guests].map((guest) => guest.unpublish(graceMs)));
  }

  /** Nobody will be served any more. */
  gone(reason: string): void {
    for (const guest of this.guests) guest.gone(reason);
  }

  /**
   * Resolves when what the process can do without is given up; nothing may be opened or started after that.
   */
  confine(doors: readonly GuestConfig[] = []): Promise<void> {
    const guests = [...this.guests];
    return this.confinement.enter(
      guests.map(({ config }) => config),
      guests.flatMap(({ session }) => session.resolvConf ?? []),
      doors,
    );
  }
}
