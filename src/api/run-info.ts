/** What `info` answers: what this run is, as far as it is settled at the start. */
import type { GuestConfig } from '../config.ts';
import type { LinkInfo } from '../engine/messages.ts';
import { describePolicy, shownPolicy } from '../firewall/verdict.ts';
import { packageVersion } from '../package-root.ts';
import type { RunInfo } from './commands.ts';

export function runInfo(guest: GuestConfig, link: LinkInfo): RunInfo {
  const { addresses, policy, behavior, source4, source6, dns } = guest;
  return {
    program: 'tslirp',
    version: packageVersion(),
    pid: process.pid,
    addresses,
    interface: link.name,
    mtu: link.mtu,
    policy: { ...shownPolicy(policy), description: describePolicy(policy) },
    host_loopback: behavior.gatewayIsLoopback,
    dns,
    outbound_addr: source4,
    outbound_addr6: source6,
  };
}
