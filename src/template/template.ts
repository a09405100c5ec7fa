/**
 * Which of the host's interfaces a guest's network is a copy of, per family, and what there is to copy: its addresses, the
 * routes by it, its gateway. A host with none leaves the family with a network of its own (local mode).
 */
import { parseIpAddress } from '../stack/wire/address.ts';
import type { Family, HostAddress, HostLink, HostNetwork, HostNextHop, HostRoute } from './host-network.ts';

export interface FamilyTemplate {
  link: HostLink;
  /** Those that a host elsewhere cannot have; the first is the one for whoever wants only one. */
  addresses: HostAddress[];
  /** By this link alone, in the kernel's order. */
  routes: HostRoute[];
  /** Of the default route; empty: there is none. */
  gateway: string;
}

/** Names of interfaces, the first that is given counts. Null: there is none that could serve; no such interface. */
export function familyTemplate(
  network: HostNetwork,
  family: Family,
  ...names: readonly string[]
): FamilyTemplate | null {
  const name = names.find((given) => given !== '');
  const routes = network.routes.filter((route) => route.family === family);
  const link =
    name === undefined
      ? linkByRoutes(network, routes)
      : network.links.find((candidate) => candidate.name === name);
  if (link === undefined) return null;
  const own = routes.map((route) => throughLink(route, link.index)).filter((route) => route !== null);
  const addresses = network.addresses.filter(
    (address) => address.link === link.index && address.family === family && !address.isLinkLocal,
  );
  return { link, addresses: preferredFirst(addresses), routes: own, gateway: gatewayOf(own) };
}

/** Of the first default route; else of the first route that leads anywhere. */
function linkByRoutes({ links }: HostNetwork, routes: readonly HostRoute[]): HostLink | undefined {
  const usable = (route: HostRoute): HostLink | undefined =>
    links.find(({ index, isLoopback }) => !isLoopback && index === heaviest(route.nextHops)?.link);
  const candidates = [
    ...routes.filter((route) => route.prefixLength === 0),
    ...routes.filter(({ destination }) => !isLinkLocal(destination)),
  ];
  for (const route of candidates) {
    const link = usable(route);
    if (link !== undefined) return link;
  }
  return undefined;
}

function isLinkLocal(address: string): boolean {
  return parseIpAddress(address).isLinkLocal;
}

/** The first of those with the greatest weight. */
function heaviest(hops: readonly HostNextHop[]): HostNextHop | undefined {
  let best: HostNextHop | undefined;
  for (const hop of hops) if (best === undefined || hop.weight > best.weight) best = hop;
  return best;
}

/** The route as it is on this link; null: it leads elsewhere. */
function throughLink(route: HostRoute, link: number): HostRoute | null {
  const nextHops = route.nextHops.filter((hop) => hop.link === link);
  return nextHops.length === 0 ? null : { ...route, nextHops };
}

function gatewayOf(routes: readonly HostRoute[]): string {
  const route = routes.find(({ prefixLength, nextHops, family }) => {
    const gateway = heaviest(nextHops)?.gateway ?? '';
    return prefixLength === 0 && gateway.includes(':') === (family === 6) && gateway !== '';
  });
  return route === undefined ? '' : (heaviest(route.nextHops)?.gateway ?? '');
}

/** Whoever speaks for all: not one that is on its way out, and of the others the most particular. */
function preferredFirst(addresses: readonly HostAddress[]): HostAddress[] {
  const rank = ({ isDeprecated, prefixLength }: HostAddress): number => (isDeprecated ? 0 : 1 + prefixLength);
  const best = addresses.reduce<HostAddress | undefined>(
    (found, address) => (found === undefined || rank(address) > rank(found) ? address : found),
    undefined,
  );
  return best === undefined ? [] : [best, ...addresses.filter((address) => address !== best)];
}
