/**
 * What a label of a forward rule stands for, found on the main thread: a host name, or `query@srv-server`.
 *
 * - A host name goes to the system's own resolution (hosts file first); of several addresses the first IPv4 one is taken,
 *   else the first. Text that cannot be a name never gets there: some resolvers read `1.2.3` as an address.
 * - `query@srv-server` asks that server, over UDP, for the SRV records of `query`: the lowest priority, by weight among
 *   equals (RFC 2782). The record's port, unless 0, replaces the rule's. Its target is looked up in the hosts file, at
 *   the same server, and by the system.
 *
 * What comes out is an address, and that address is what is then connected to: nothing resolves it again. With `floor`,
 * names that the name service lets stand for a reserved address are refused (rebinding), unless the hosts file says so
 * too, for then it is this machine's own word, or the name is `localhost` (RFC 6761 §6.3).
 */
import { randomInt } from 'node:crypto';
import { Resolver as DnsClient, lookup } from 'node:dns/promises';
import type { Endpoint } from '../../config.ts';
import { formatEndpoint, parseIpAddress } from '../../stack/wire/address.ts';
import { isHostName } from './host-name.ts';
import { HOSTS_FILE, hostsAddresses } from './hosts-file.ts';

/** A server is asked three times, within some 3.5 s: c-ares doubles the time, and makes it a little shorter or longer. */
const PATIENCE = { timeout: 500, tries: 3 };

/** A label that does not resolve; the message is one line, in the words of slirpnetstack. */
export class LookupError extends Error {
  override readonly name = 'LookupError';
  readonly code = 'ERR_LOOKUP';
}

export interface ResolverOptions {
  /** Whether an address is reserved: nothing that a name service may lead to. */
  floor?: (address: string) => boolean;
  hostsFile?: string;
  /** The system's resolution; replaced in tests. */
  system?: (name: string) => Promise<string[]>;
}

async function systemAddresses(name: string): Promise<string[]> {
  const results = await lookup(name, { all: true, verbatim: true });
  return results.map(({ address }) => address);
}

export class Resolver {
  readonly #floor: (address: string) => boolean;
  readonly #hostsFile: string;
  readonly #system: (name: string) => Promise<string[]>;

  constructor(options: ResolverOptions = {}) {
    this.#floor = options.floor ?? (() => false);
    this.#hostsFile = options.hostsFile ?? HOSTS_FILE;
    this.#system = options.system ?? systemAddresses;
  }

  /** The address and port that `label` stands for. Rejects with a LookupError. */
  async resolve(label: string, port: number): Promise<Endpoint> {
    const at = label.indexOf('@');
    if (at < 0) return { address: await this.resolveHost(label), port };
    const query = label.slice(0, at);
    const word = label.slice(at + 1);
    const dash = word.indexOf('-');
    const type = dash < 0 ? word : word.slice(0, dash);
    if (type !== 'srv') throw new LookupError(`Unknown dns type "${type}"`);
    return this.#resolveSrv(query, dash < 0 ? '' : word.slice(dash + 1), port);
  }

  /** The address that a host name stands for. Rejects with a LookupError. */
  async resolveHost(name: string): Promise<string> {
    if (!isHostName(name)) throw noSuchHost(name);
    let addresses: string[];
    try {
      addresses = await this.#system(name);
    } catch (error) {
      throw noSuchHost(name, error);
    }
    return this.#accept(name, choose(addresses));
  }

  async #resolveSrv(query: string, serverText: string, port: number): Promise<Endpoint> {
    const shown = serverText.includes(':') ? serverText : `127.0.0.1:${serverText}`;
    const failure = (cause?: unknown): LookupError =>
      new LookupError(`Failed to lookup SRV "${query}" on "${shown}"`, { cause });
    const server = parseServer(shown);
    if (server === undefined || !isHostName(query)) throw failure();
    // One of its own for each label: every question comes from another port.
    const dns = new DnsClient(PATIENCE);
    dns.setServers([formatEndpoint(server)]);
    try {
      const record = chooseSrv(await dns.resolveSrv(query));
      // RFC 2782: a target of "." says that there is no such service.
      if (record === undefined || record.name === '') throw failure();
      const address = await this.#resolveTarget(record.name, dns);
      return { address, port: record.port === 0 ? port : record.port };
    } catch (error) {
      throw error instanceof LookupError && error.cause === FLOOR ? error : failure(error);
    }
  }

  async #resolveTarget(name: string, dns: DnsClient): Promise<string> {
    const literal = asAddress(name);
    if (literal !== undefined) return this.#accept(name, literal);
    if (!isHostName(name)) throw noSuchHost(name);
    const own = choose(hostsAddresses(name, this.#hostsFile));
    if (own !== undefined) return own;
    const none = (): string[] => [];
    const second = dns.resolve6(name).catch(none);
    const found = choose(await dns.resolve4(name).catch(none)) ?? choose(await second);
    return found === undefined ? this.resolveHost(name) : this.#accept(name, found);
  }

  #accept(name: string, address: string | undefined): string {
    if (address === undefined) throw noSuchHost(name);
    if (
      this.#floor(address) &&
      !LOCALHOST.test(name) &&
      !hostsAddresses(name, this.#hostsFile).includes(address)
    ) {
      throw new LookupError(`${name} stands for the reserved address ${address}`, { cause: FLOOR });
    }
    return address;
  }
}

const LOCALHOST = /(^|\.)localhost\.?$/i;
const FLOOR = Symbol('reserved');

function noSuchHost(name: string, cause?: unknown): LookupError {
  return new LookupError(`lookup ${name}: no such host`, { cause });
}

/** The first IPv4 address, else the first that is usable, in canonical text. */
function choose(addresses: readonly string[]): string | undefined {
  const usable = addresses.map(asAddress).filter((address) => address !== undefined);
  return usable.find((address) => !address.includes(':')) ?? usable[0];
}

/** Canonical text of an address; undefined for anything else, zones included. */
function asAddress(text: string): string | undefined {
  try {
    return parseIpAddress(text).toString();
  } catch {
    return undefined;
  }
}

/** `ip:port` or `[ip]:port`. */
function parseServer(text: string): Endpoint | undefined {
  const match = /^(?:\[([^[\]]+)\]|([^[\]:]+)):(\d+)$/.exec(text);
  if (match === null) return undefined;
  const address = asAddress(match[1] ?? match[2] ?? '');
  const port = Number(match[3]);
  return address === undefined || port === 0 || port > 65535 ? undefined : { address, port };
}

/** RFC 2782: the lowest priority, at random by weight among those. */
export function chooseSrv<R extends { priority: number; weight: number }>(
  records: readonly R[],
  random: (below: number) => number = randomInt,
): R | undefined {
  const lowest = Math.min(...records.map(({ priority }) => priority));
  // Those of weight 0 come first, so that they are chosen only by a draw of 0.
  const candidates = records
    .filter(({ priority }) => priority === lowest)
    .sort((a, b) => Math.sign(a.weight) - Math.sign(b.weight));
  const total = candidates.reduce((sum, { weight }) => sum + weight, 0);
  let draw = random(total + 1);
  return candidates.find(({ weight }) => {
    draw -= weight;
    return draw <= 0;
  });
}
