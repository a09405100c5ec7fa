/** What `pasta` tells of the guest's network before it begins, and what it warns of. */
import { parseIpAddress } from '../../stack/wire/address.ts';
import type { GuestNetwork } from './network.ts';
import type { PastaNetwork } from './pasta-config.ts';

/** As the host's resolv.conf has it. */
export interface HostNames {
  servers: readonly string[];
  search: readonly string[];
}

function block(title: string, ...lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [title, ...lines.map((line) => `    ${line}`)];
}

/** What is told under a name, if there is anything. */
function entry(name: string, value: string): string[] {
  return value === '' ? [] : [`${name}: ${value}`];
}

function dotted(bits: number): string {
  const mask = bits === 0 ? 0 : -1 << (32 - bits);
  return [24, 16, 8, 0].map((shift) => (mask >>> shift) & 255).join('.');
}

function isV4(address: string): boolean {
  return parseIpAddress(address).isV4;
}

/** What the guest knows the loopback address by; empty: nothing. */
function mapped({ mappings }: GuestNetwork, loopback: string): string {
  return mappings.find(({ host }) => host === loopback)?.guest ?? '';
}

/** The resolvers that the guest is told of, if it is. */
function announced(wish: PastaNetwork, network: GuestNetwork, names: HostNames): string[] {
  if (wish.dns !== null) return wish.dns;
  return names.servers
    .map((server) => server.replace(/%.*/, ''))
    .map((server) => {
      const { isLoopback } = parseIpAddress(server);
      return isLoopback ? mapped(network, isV4(server) ? '127.0.0.1' : '::1') : server;
    })
    .filter((server) => server !== '');
}

/** Lines for the log. */
export function networkLines(wish: PastaNetwork, network: GuestNetwork, names: HostNames): string[] {
  const { ipv4, ipv6 } = wish;
  const { plan } = network;
  const { lease4 = '', gateway4, guest6, gateway6 } = plan;
  const servers = announced(wish, network, names);
  const hasDhcp = wish.dhcp && gateway4 !== '' && lease4 !== '';
  const hasV6 = plan.ipv6 && guest6 !== '' && (wish.ndp || wish.dhcpv6);
  return [
    ...network.infos,
    `Namespace interface: ${network.name}`,
    ...entry('Outbound interface (IPv4)', ipv4.outboundInterface),
    ...entry('Outbound interface (IPv6)', ipv6.outboundInterface),
    ...entry('Outbound IPv4 address', ipv4.outbound),
    ...entry('Outbound IPv6 address', ipv6.outbound),
    ...block('MAC:', `host: ${wish.mac}`),
    ...entry('    NAT to host 127.0.0.1', mapped(network, '127.0.0.1')),
    ...(hasDhcp
      ? block('DHCP:', `assign: ${lease4}`, `mask: ${dotted(plan.prefix4)}`, `router: ${gateway4}`)
      : []),
    ...block('DNS:', ...servers),
    ...block('DNS search list:', ...(wish.search ?? names.search)),
    ...entry('    NAT to host ::1', mapped(network, '::1')),
    ...(hasV6
      ? block(
          'NDP/DHCPv6:',
          `assign: ${guest6}`,
          ...entry('router', gateway6),
          ...entry('our link-local', plan.linkLocal6 ?? ''),
        )
      : []),
  ];
}

/** What of it may be a surprise. */
export function networkWarnings(wish: PastaNetwork, network: GuestNetwork, names: HostNames): string[] {
  const warnings: string[] = [];
  const isNamed = wish.dns !== null || wish.ipv4.dnsHost !== '' || wish.ipv6.dnsHost !== '';
  if (!isNamed && names.servers.length === 0) warnings.push("Couldn't get any nameserver address");
  if (!wish.dhcpDns || wish.dns?.length === 0) return warnings;
  const servers = announced(wish, network, names);
  if (network.plan.ipv4 === true && wish.dhcp && !servers.some(isV4))
    warnings.push('No IPv4 nameserver available for DHCP');
  if (network.plan.ipv6 && wish.ndp && servers.every(isV4))
    warnings.push('No IPv6 nameserver available for NDP/DHCPv6');
  return warnings;
}
