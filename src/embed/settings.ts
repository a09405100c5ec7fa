/** What the guest's system is to be told: made of the configuration, and changed group by group. */
import { isDeepStrictEqual } from 'node:util';
import type { AddressPlan } from '../config.ts';
import { badConfig } from './errors.ts';
import type { NetworkSettings } from './types.ts';

const GROUPS = ['mtu', 'remote', 'dns', 'ipv4', 'ipv6'] as const;

export interface SettingsSource {
  addresses: AddressPlan;
  dns: boolean;
  search: readonly string[];
  matchDomains: readonly string[];
}

export function firstSettings(source: SettingsSource, mtu: number): NetworkSettings {
  const { addresses: plan, dns, search, matchDomains } = source;
  const servers = plan.ipv6 ? [plan.dns4, plan.dns6] : [plan.dns4];
  return {
    mtu,
    ...(dns ? { dns: { servers, search: [...search], matchDomains: [...matchDomains] } } : {}),
    ipv4: {
      addresses: [`${plan.guest4}/${plan.prefix4}`],
      router: plan.gateway4,
      included: ['0.0.0.0/0'],
      excluded: [],
    },
    ...(plan.ipv6
      ? {
          ipv6: {
            addresses: [`${plan.guest6}/${plan.prefix6}`],
            router: plan.gateway6,
            included: ['::/0'],
            excluded: [],
          },
        }
      : {}),
  };
}

/** What of `diff` is otherwise than in `full`. An MTU of 0 says nothing. @throws TslirpError */
export function realDiff(full: NetworkSettings, diff: NetworkSettings): NetworkSettings {
  for (const key of Object.keys(diff))
    if (!(GROUPS as readonly string[]).includes(key))
      throw badConfig(key, `want one of ${GROUPS.join(', ')}`);
  const { mtu } = diff;
  if (mtu !== undefined && (!Number.isInteger(mtu) || mtu < 0 || mtu > 65535))
    throw badConfig('mtu', 'want bytes, or 0');
  const real: NetworkSettings = {};
  for (const group of GROUPS) {
    const value = diff[group];
    if (value === undefined || value === 0 || isDeepStrictEqual(value, full[group])) continue;
    Object.assign(real, { [group]: structuredClone(value) });
  }
  return real;
}
