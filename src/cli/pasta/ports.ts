/** `-t`, `-u`, `-T` and `-U` together: the tables of rules that they are. */
import { readFileSync } from 'node:fs';
import { hasIpv6 } from '../../app/publishing.ts';
import type { PortRange, PortRule, PortRulesSpec, PortScope } from '../../config.ts';
import { defaultEphemeral } from '../../expose/judge.ts';
import { RuleRefused } from '../../expose/port-rule.ts';
import type { PastaConfig } from './pasta-config.ts';
import { addPortSpec, type PortOption, PortSpecError, protocolOf } from './port-spec.ts';
import { PastaError } from './values.ts';

const RANGE_FILE = '/proc/sys/net/ipv4/ip_local_port_range';
const OPTIONS: readonly PortOption[] = ['t', 'u', 'T', 'U'];

/** @throws PastaError with the first that is wrong */
export function portRules(
  { ports, network }: Pick<PastaConfig, 'ports' | 'network'>,
  ephemeral: PortRange = hostEphemeral(),
  ipv6: boolean = hasIpv6(),
): PortRulesSpec {
  const { specs, loopbackToLoopback, splice: splices, controlPath } = ports;
  const { ipv4: inet, ipv6: inet6, tcp, udp } = network;
  const scope: PortScope = {
    ...{ ipv4: inet.enabled, ipv6: inet6.enabled && (ipv6 || !inet.enabled) },
    ...{ tcp, udp, ephemeral },
  };
  const tables: Record<'host' | 'splice', PortRule[]> = { host: [], splice: [] };
  const add = (option: PortOption, text: string): void => {
    const table = option === 't' || option === 'u' ? 'host' : 'splice';
    tables[table] = addPortSpec(option, text, tables[table], scope);
  };
  try {
    for (const { option, text } of specs) add(option.slice(1) as PortOption, text);
    for (const option of OPTIONS) {
      const isGiven = specs.some((spec) => spec.option === `-${option}`);
      // Of what is off there is nothing to be followed.
      if (!isGiven && scope[protocolOf(option)]) add(option, 'auto');
    }
  } catch (error) {
    if (error instanceof PortSpecError || error instanceof RuleRefused) throw new PastaError(error.message);
    throw error;
  }
  const loopback = !splices ? null : loopbackToLoopback ? 'same' : 'target';
  return { ...tables, scope, loopback, controlPath };
}

function hostEphemeral(): PortRange {
  try {
    const [first, last] = readFileSync(RANGE_FILE, 'latin1').trim().split(/\s+/).map(Number);
    return first === undefined || last === undefined ? defaultEphemeral : { first, last };
  } catch {
    return defaultEphemeral;
  }
}
