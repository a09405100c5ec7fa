/**
 * The guests of a data plane, as the main thread has them: one session each. What the data plane says goes to the guest that
 * it says it of, and what it says of itself to whoever has the process.
 */
import type { GuestConfig } from '../config.ts';
import type { Event } from '../engine/messages.ts';
import type { Log } from './log.ts';
import { Session, type SessionHandlers } from './session.ts';
import type { Supervisor } from './supervisor.ts';

/** Of names that are fit for a log, a path and a label. */
const GUEST_NAME = /^[a-z0-9][a-z0-9._-]{0,127}$/;

export interface ServerHandlers {
  /** A descriptor that was to be watched has closed, or has data. */
  fdEvent: (fd: number) => void;
  /** What the broker says. */
  broker: (text: string) => void;
  /** Answer to `confine`: 0, or a positive errno. */
  confined: (error: number) => void;
  /** The data plane cannot go on. */
  failed: (message: string) => void;
}

export class Server {
  private readonly supervisor: Supervisor;
  private readonly log: Log;
  private readonly handlers: ServerHandlers;
  /** By the guest's number. */
  private readonly sessions = new Map<number, Session>();
  private readonly judging = new Map<number, (near: boolean) => void>();

  constructor(supervisor: Supervisor, log: Log, handlers: ServerHandlers) {
    this.supervisor = supervisor;
    this.log = log;
    this.handlers = handlers;
    supervisor.listen({
      event: (event) => this.receive(event),
      ended: (error) => {
        if (error !== undefined) log.log('debug', 'the data plane ended', { stack: error.stack });
        this.fail(`the data plane ended: ${error?.message ?? 'no reason given'}`);
      },
    });
  }

  /** A guest that is not there yet: its session brings it up. Throws with one line when it cannot have that name. */
  add(config: GuestConfig, handlers: SessionHandlers): Session {
    const { supervisor } = this;
    const { name } = config;
    if (!GUEST_NAME.test(name))
      throw new Error(
        `guest name ${JSON.stringify(name)}: want a-z, 0-9, '.', '_', '-', at most 128 of them`,
      );
    for (const { config: other } of this.sessions.values())
      if (other.name === name) throw new Error(`there is a guest ${name} already`);
    const send: Supervisor['send'] = (command) => supervisor.send(command);
    const session = new Session(config, send, supervisor.numbers, this.log, handlers);
    this.sessions.set(session.client.guest, session);
    return session;
  }

  /** End a guest: its flows are reset to both sides. */
  async remove(session: Session): Promise<void> {
    session.close();
    await session.client.remove();
    this.sessions.delete(session.client.guest);
  }

  /** Whether a client of a unix socket of ours is in our network namespace; for inode 0, whether that can be told. */
  isNear(inode: number): Promise<boolean> {
    const request = this.supervisor.numbers.nextRequest();
    return new Promise((resolve) => {
      this.judging.set(request, resolve);
      this.supervisor.send({ type: 'judgePeer', request, inode });
    });
  }

  private receive(event: Event): void {
    if ('guest' in event && event.guest !== 0) {
      this.sessions.get(event.guest)?.receive(event);
      if (event.type === 'guestFailed') this.sessions.delete(event.guest);
      return;
    }
    switch (event.type) {
      case 'log':
        this.log.log(event.level, event.message, event.fields);
        break;
      case 'confined':
        this.handlers.confined(event.error);
        break;
      case 'fdEvent':
        this.handlers.fdEvent(event.fd);
        break;
      case 'broker':
        this.handlers.broker(event.text);
        break;
      case 'peerJudged':
        this.judging.get(event.request)?.(event.near);
        this.judging.delete(event.request);
        break;
      case 'failed':
        this.fail(event.message);
        break;
      default:
    }
  }

  private fail(message: string): void {
    for (const judged of this.judging.values()) judged(false);
    this.judging.clear();
    for (const session of this.sessions.values()) session.fail(new Error(message));
    this.handlers.failed(message);
  }
}
