/**
 * A table of rules and the forwards that it is: of the host's ports (HOST), or of the guest's loopback (SPLICE). A table is
 * replaced by another as a whole or not at all. Rules that are in both stay as they are, with their connections.
 *
 * What a rule for `auto` has open follows the ports that are listened on where it leads. One of those that cannot be had is
 * tried again at each look, without a word.
 */
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import type { ForwardSpec, PortRange, PortRule } from '../config.ts';
import { type EngineClient, ForwardRefused, type OpenForward } from '../control/engine-client.ts';
import { errnoTextOf } from '../control/errno-text.ts';
import { RuleRefused, ruleText } from './port-rule.ts';

export type TableName = 'HOST' | 'SPLICE';

/** Numbers of ports. */
export type PortSets = Readonly<Record<'tcp' | 'udp', ReadonlySet<number>>>;

/** Who serves a port by TCP often does by UDP, too, and no socket says so yet (iperf3). */
const FOLLOWED = { tcp: ['tcp'], udp: ['udp', 'tcp'] } as const;

export interface PortTableOptions {
  engine: Pick<EngineClient, 'addForward' | 'removeForward'>;
  name: TableName;
  /** The forwards by which ports of a rule lead on: those of `range`. */
  forwardsOf: (rule: PortRule, range: PortRange) => ForwardSpec[];
}

/** A rule, and what is open of it. */
interface Entry {
  readonly rule: PortRule;
  /** By port, of a rule for `auto`; of another, all are under the first port. */
  readonly open: Map<number, readonly OpenForward[]>;
  /** Ports of it that could not be had. */
  missing: number;
}

export class PortTable {
  readonly #options: PortTableOptions;
  #entries: Entry[] = [];

  constructor(options: PortTableOptions) {
    this.#options = options;
  }

  get rules(): PortRule[] {
    return this.#entries.map(({ rule }) => rule);
  }

  /** Ports that are not to be had, and need not be. */
  get missing(): number {
    return this.#entries.reduce((sum, { missing }) => sum + missing, 0);
  }

  /** Rejects with RuleRefused, and the table is what it was. */
  async replace(rules: readonly PortRule[]): Promise<void> {
    const before = this.#entries;
    const known = new Map(before.map((entry) => [ruleText(entry.rule), entry]));
    const after = rules.map(
      (rule): Entry => known.get(ruleText(rule)) ?? { rule, open: new Map(), missing: 0 },
    );
    const gone = before.filter((entry) => !after.includes(entry));
    const fresh = after.filter((entry) => !before.includes(entry));
    // A port may only change where it leads.
    await Promise.all(gone.map((entry) => this.#close(entry)));
    try {
      await this.#openAll(fresh);
      this.#entries = after;
    } catch (error) {
      await Promise.all(fresh.map((entry) => this.#close(entry)));
      // Whoever has taken one of them meanwhile has it.
      await this.#openAll(gone).catch(() => undefined);
      throw error;
    }
  }

  /**
   * Has ports open for those in `listening`, which are the other side's, and no others; `opposite` has ports of ours there.
   * False: some could not be had.
   */
  async follow(listening: PortSets, opposite: Pick<PortTable, 'has'>): Promise<boolean> {
    let isWhole = true;
    for (const entry of this.#entries) {
      const { rule, open } = entry;
      if (!rule.auto) continue;
      const { range, targetPort } = rule;
      const wanted = new Set<number>();
      for (const protocol of FOLLOWED[rule.protocol]) {
        for (const port of listening[protocol]) {
          if (opposite.has(protocol, port)) continue;
          const from = port - targetPort + range.first;
          if (from >= range.first && from <= range.last) wanted.add(from);
        }
      }
      const closing = [...open.keys()].filter((port) => !wanted.has(port));
      await Promise.all(closing.map((port) => this.#closePort(entry, port)));
      for (const port of wanted) {
        if (open.has(port)) continue;
        try {
          await this.#open(entry, { first: port, last: port });
        } catch (error) {
          if (!(error instanceof RuleRefused)) throw error;
          isWhole = false;
        }
      }
    }
    return isWhole;
  }

  /** Whether a port is ours, on the side that is listened on. */
  has(protocol: 'tcp' | 'udp', port: number): boolean {
    return this.#entries.some(({ rule, open }) => {
      if (rule.protocol !== protocol) return false;
      return rule.auto ? open.has(port) : port >= rule.range.first && port <= rule.range.last;
    });
  }

  async close(): Promise<void> {
    const entries = this.#entries;
    this.#entries = [];
    await Promise.all(entries.map((entry) => this.#close(entry)));
  }

  /** Rejects with RuleRefused of the first that cannot be had. */
  async #openAll(entries: readonly Entry[]): Promise<void> {
    const opening = entries
      .filter(({ rule }) => !rule.auto)
      .map((entry) => this.#open(entry, entry.rule.range));
    const settled = await Promise.allSettled(opening);
    for (const result of settled) if (result.status === 'rejected') throw result.reason;
  }

  async #open(entry: Entry, range: PortRange): Promise<void> {
    const { engine, forwardsOf } = this.#options;
    const opening = forwardsOf(entry.rule, range).map((spec) => engine.addForward(spec));
    const settled = await Promise.allSettled(opening);
    const open = settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    const faults = settled.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    // With one of two families it goes without the other.
    const [fault] = open.length > 0 ? faults.filter((error) => !isNoFamily(error)) : faults;
    const isEnough = open.length > 0 || isFull(fault);
    if (fault === undefined || (entry.rule.bestEffort && !entry.rule.auto && isEnough)) {
      entry.open.set(range.first, open);
      const ports = (range.last - range.first + 1) / Math.max(1, settled.length);
      entry.missing =
        open.reduce((sum, { missing = 0 }) => sum + missing, 0) + (settled.length - open.length) * ports;
      return;
    }
    await Promise.all(open.map(({ id }) => engine.removeForward(id)));
    throw fault instanceof ForwardRefused ? this.#explain(entry.rule, range, fault) : fault;
  }

  async #close(entry: Entry): Promise<void> {
    await Promise.all([...entry.open.keys()].map((port) => this.#closePort(entry, port)));
  }

  async #closePort({ open }: Entry, port: number): Promise<void> {
    const forwards = open.get(port) ?? [];
    open.delete(port);
    await Promise.all(forwards.map(({ id }) => this.#options.engine.removeForward(id)));
  }

  #explain(
    { protocol, address, device }: PortRule,
    { first }: PortRange,
    error: ForwardRefused,
  ): RuleRefused {
    const { name } = this.#options;
    const port = error.port || first;
    const code = getSystemErrorName(-error.errno);
    const text = errnoTextOf({ code });
    const by = device === '' ? '' : `%${device}`;
    const lines = [
      `Listen failed for ${name} ${protocol.toUpperCase()} port ${address || '*'}${by}/${port}: ${text}`,
      "Couldn't listen on requested ports",
    ];
    if (code === 'ENODEV') {
      const at = address.includes('.') ? address : `[${address || '::'}]`;
      const listening = `listening ${protocol.toUpperCase()} socket on ${at}:${port}`;
      lines.unshift(`SO_BINDTODEVICE ${device} failed for ${listening}: ${text}`);
    }
    return new RuleRefused(lines.join('\n'), { cause: error });
  }
}

function isNoFamily(error: unknown): boolean {
  return error instanceof ForwardRefused && error.errno === constants.errno.EAFNOSUPPORT;
}

/** Other ports have taken what there was: of those that need not be had, that is no fault. */
function isFull(error: unknown): boolean {
  return error instanceof ForwardRefused && error.errno === constants.errno.EMFILE;
}
