/** What `info` answers: what this run is, as far as it is settled at the start. */
import { readFileSync } from 'node:fs';
import type { Config } from '../../config.ts';
import type { LinkInfo } from '../../engine/messages.ts';
import { describePolicy } from '../../firewall/verdict.ts';
import type { RunInfo } from './commands.ts';

export function runInfo(config: Config, link: LinkInfo): RunInfo {
  const { addresses, policy, behavior, source4, source6, dns } = config.guest;
  const manifest = new URL('../../../../package.json', import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
  return {
    program: 'tslirp',
    version,
    pid: process.pid,
    addresses,
    interface: link.name,
    mtu: link.mtu,
    policy: { ...policy, description: describePolicy(policy) },
    host_loopback: behavior.gatewayIsLoopback,
    dns,
    outbound_addr: source4,
    outbound_addr6: source6,
  };
}
