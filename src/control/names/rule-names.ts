/**
 * Host names in `--allow` and `--deny`: resolved once, at start, with the system's own resolution (hosts file included).
 *
 * A name stands for all its addresses at that moment. It is never looked up again: a rule that follows DNS would let
 * whoever answers for the name choose what the guest may reach (rebinding). The policy judges addresses only.
 */
import { lookup } from 'node:dns/promises';
import { type ParsedRule, type RuleSpec, toRuleSpec } from '../../firewall/rule.ts';
import { Policy, type PolicySpec, Protocol, Verdict } from '../../firewall/verdict.ts';
import { parseIpAddress } from '../../stack/wire/address.ts';

/** All addresses of `name`; replaced in tests. */
export type Resolve = (name: string) => Promise<string[]>;

/** A name that cannot be used in a rule; the message is one line. */
export class NameError extends Error {
  override readonly name = 'NameError';
  readonly code = 'ERR_NAME';
}

async function systemResolve(name: string): Promise<string[]> {
  const results = await lookup(name, { all: true });
  return results.map(({ address }) => address);
}

/** The rules with every name replaced by its addresses; rejects with one line that names the host. */
export async function resolveRules(
  rules: readonly ParsedRule[],
  resolve: Resolve = systemResolve,
): Promise<RuleSpec[]> {
  const lists = await Promise.all(
    rules.map(async (rule) => {
      if (rule.host.kind === 'prefix') return [toRuleSpec(rule)];
      const { name } = rule.host;
      let addresses: string[];
      try {
        addresses = await resolve(name);
      } catch (error) {
        if (error instanceof NameError) throw error;
        const code = (error as NodeJS.ErrnoException).code ?? 'failed';
        throw new NameError(`the host name "${name}" cannot be resolved (${code})`, { cause: error });
      }
      if (addresses.length === 0) throw new NameError(`the host name "${name}" has no addresses`);
      return [...new Set(addresses)].map((address) => toRuleSpec(rule, address));
    }),
  );
  return lists.flat();
}

/**
 * The same for --allow. A rule that lies inside a reserved range opens it, which is for rules that say so: a name that
 * turns out to stand for 127.0.0.1 or a metadata service is refused.
 */
export async function resolveAllow(
  rules: readonly ParsedRule[],
  resolve: Resolve = systemResolve,
): Promise<RuleSpec[]> {
  const isReserved = reservedFloor([]);
  return resolveRules(rules, async (name) => {
    const addresses = await resolve(name);
    for (const address of addresses) {
      if (!isReserved(address)) continue;
      throw new NameError(
        `the host name "${name}" stands for the reserved address ${address}; write the address to allow it`,
      );
    }
    return addresses;
  });
}

/** Whether an address (as text) is in a reserved range, so that no name may lead to it. */
export function reservedFloor(guestNetworks: PolicySpec['guestNetworks']): (address: string) => boolean {
  const floor = new Policy({ enableRouting: true, enableHost: true, allow: [], deny: [], guestNetworks });
  return (address) => floor.verdict(Protocol.Tcp, parseIpAddress(address), 1) !== Verdict.Permit;
}
