/**
 * The two tables of rules at work: what is changed in them, and what rules for `auto` follow, one thing after the other. All
 * on the main thread; looking costs next to nothing where nothing has changed.
 */
import type { PortRule, PortScope } from '../config.ts';
import type { OpenSocket } from './open-socket.ts';
import { withoutRules, withRules } from './port-rule.ts';
import type { PortSets, PortTable } from './port-table.ts';
import type { SocketSource } from './socket-source.ts';

/** Between two looks, ms. */
const LOOK_MS = 500;
/** A twentieth of a core at most. */
const TURN_SHARE = 20;

/** What is done to a table. */
export type RuleChange =
  | { kind: 'clear'; table: 'host' | 'splice' }
  | { kind: 'add' | 'delete'; table: 'host' | 'splice'; rules: PortRule[] };

export interface RuleWatchOptions {
  host: PortTable;
  splice: PortTable;
  scope: PortScope;
  /** Listeners of the guest, and of the host; null: they cannot be seen. */
  guestSockets: SocketSource | null;
  hostSockets: SocketSource | null;
  /** Listeners cannot be seen any more. */
  lost: (error: unknown) => void;
}

type Tables = Record<'host' | 'splice', PortRule[]>;

export class RuleWatch {
  readonly #options: RuleWatchOptions;
  #last: Promise<unknown> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  /** What was seen at the last look, if it was all done then. */
  #seen: readonly (readonly OpenSocket[])[] = [];
  #isOver = false;

  constructor(options: RuleWatchOptions) {
    this.#options = options;
  }

  /** Binds what the rules say. Rejects with RuleRefused of the first that cannot be. */
  async start({ host, splice }: Readonly<Tables>): Promise<void> {
    await this.#inTurn(() => this.#replace({ host: [...host], splice: [...splice] }));
    await this.#inTurn(() => this.#look());
    this.#schedule(0);
  }

  get rules(): Readonly<Tables> {
    const { host, splice } = this.#options;
    return { host: host.rules, splice: splice.rules };
  }

  /** Ports that are not to be had, and need not be. */
  get missing(): number {
    return this.#options.host.missing + this.#options.splice.missing;
  }

  /** All of `changes` or none. Rejects with RuleRefused. What is asked for is bound when it resolves. */
  async change(changes: readonly RuleChange[]): Promise<void> {
    await this.#inTurn(async () => {
      const tables: Tables = { ...this.rules };
      for (const change of changes) {
        const { table } = change;
        if (change.kind === 'clear') tables[table] = [];
        else if (change.kind === 'add')
          tables[table] = withRules(tables[table], change.rules, this.#options.scope);
        else tables[table] = withoutRules(tables[table], change.rules);
      }
      await this.#replace(tables);
      this.#seen = [];
      await this.#look();
    });
  }

  /** Closes every port, for good. */
  async stop(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    const { host, splice, guestSockets, hostSockets } = this.#options;
    await this.#inTurn(() => Promise.all([host.close(), splice.close()]));
    guestSockets?.close();
    hostSockets?.close();
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(task);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #replace(tables: Readonly<Tables>): Promise<void> {
    const { host, splice } = this.#options;
    const before = host.rules;
    await host.replace(tables.host);
    try {
      await splice.replace(tables.splice);
    } catch (error) {
      await host.replace(before).catch(() => undefined);
      throw error;
    }
  }

  #schedule(took: number): void {
    if (this.#isOver) return;
    this.#timer = setTimeout(() => void this.#turn(), Math.max(LOOK_MS, took * TURN_SHARE)).unref();
  }

  async #turn(): Promise<void> {
    const begun = performance.now();
    try {
      await this.#inTurn(() => this.#look());
    } catch (error) {
      this.#options.lost(error);
      return;
    }
    this.#schedule(performance.now() - begun);
  }

  async #look(): Promise<void> {
    const { host, splice, guestSockets, hostSockets } = this.#options;
    if (this.#isOver || ![...host.rules, ...splice.rules].some(({ auto }) => auto)) return;
    const seen = [guestSockets?.look() ?? [], hostSockets?.look() ?? []] as const;
    const [inside, outside] = seen;
    if (inside === this.#seen[0] && outside === this.#seen[1]) return;
    const isWhole = await host.follow(portsOf(inside), splice);
    // Ports of the host that have just been opened are ours.
    this.#seen = (await splice.follow(portsOf(outside), host)) && isWhole ? seen : [];
  }
}

/** Ports that are listened on. */
function portsOf(sockets: readonly OpenSocket[]): PortSets {
  const sets = { tcp: new Set<number>(), udp: new Set<number>() };
  for (const { proto, port } of sockets) sets[proto].add(port);
  return sets;
}
