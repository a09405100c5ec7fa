/**
 * The guest's network as pasta has it: per family a copy of the host's (template/), or one of its own where the host has none
 * (local mode), with what the command line says otherwise.
 */
import type { AddressMapping, AddressPlan } from '../../config.ts';
import type { InterfaceAddress, InterfaceNetwork, InterfaceRoute } from '../../device-spec.ts';
import { parseIpAddress } from '../../stack/wire/address.ts';
import type { Family, HostNetwork } from '../../template/host-network.ts';
import { type FamilyTemplate, familyTemplate } from '../../template/template.ts';
import type { PastaFamily, PastaNetwork } from './pasta-config.ts';
import { PastaError } from './values.ts';

const DEFAULT_NAME = 'tap0';
const LOCAL = {
  4: { address: '169.254.2.1', prefixLength: 16, gateway: '169.254.2.2' },
  6: { address: '', prefixLength: 64, gateway: 'fe80::1' },
} as const;
/** RTPROT_BOOT. */
const BY_HAND = 3;
const LOOPBACK = { 4: '127.0.0.1', 6: '::1' } as const;

/** One family of it; addresses empty where there are none. */
interface FamilyNetwork {
  /** Null: local mode. */
  template: FamilyTemplate | null;
  address: string;
  prefixLength: number;
  gateway: string;
  /** Those that are set besides `address`. */
  further: string[];
  addresses: InterfaceAddress[];
  routes: InterfaceRoute[];
  mappings: AddressMapping[];
}

export interface GuestNetwork {
  /** Of the TAP. */
  name: string;
  plan: AddressPlan;
  /** What is set inside, if it is. */
  inside: InterfaceNetwork;
  mappings: AddressMapping[];
  /** Lines for the log. */
  infos: string[];
  /** What it was made of; null: without that family. */
  families: Families;
}

interface Families {
  v4: FamilyNetwork | null;
  v6: FamilyNetwork | null;
}

/**
 * `before`: as it was. What a host loses that has no network just now, its guest keeps until there is another. Throws `PastaError`.
 */
export function guestNetwork(
  wish: PastaNetwork,
  host: HostNetwork,
  before: Families = { v4: null, v6: null },
): GuestNetwork {
  const { ipv4, ipv6 } = wish;
  checkExternal(wish, host);
  const v4 = lasting(familyNetwork(wish, ipv4, host, 4), before.v4);
  const v6 = lasting(familyNetwork(wish, ipv6, host, 6), before.v6);
  const families = [v4, v6].filter((family) => family !== null);
  const linkName = families.find(({ template }) => template !== null)?.template?.link.name;
  return {
    name: wish.name || linkName || DEFAULT_NAME,
    plan: addressPlan(wish, v4, v6, host),
    inside: {
      addresses: families.flatMap(({ addresses }) => addresses),
      routes: families.flatMap(({ routes }) => routes),
    },
    mappings: families.flatMap(({ mappings }) => mappings),
    infos: infoLines(v4, v6),
    families: { v4, v6 },
  };
}

function checkExternal({ template, ipv4, ipv6 }: PastaNetwork, { links, addresses }: HostNetwork): void {
  for (const name of [template, ipv4.outboundInterface, ipv6.outboundInterface])
    if (name !== '' && !links.some((link) => link.name === name))
      throw new PastaError(`Invalid interface name ${name}: No such device`);
  // Not even that of the loopback.
  if (!ipv4.enabled && !addresses.some(({ family }) => family === 6))
    throw new PastaError('IPv6 not available but --ipv6-only given');
}

function lasting(now: FamilyNetwork | null, before: FamilyNetwork | null): FamilyNetwork | null {
  return now?.template === null && before !== null ? before : now;
}

function familyNetwork(
  network: PastaNetwork,
  wish: PastaFamily,
  host: HostNetwork,
  family: Family,
): FamilyNetwork | null {
  if (!wish.enabled) return null;
  const found = familyTemplate(host, family, network.template, wish.outboundInterface);
  // One without an address cannot be a host's.
  const template = found !== null && found.addresses.length > 0 ? found : null;
  if (template === null && wish.outboundInterface !== '')
    throw new PastaError('External interface not usable');
  const [first] = template?.addresses ?? [];
  const local = LOCAL[family];
  const address = wish.address || (first?.address ?? local.address);
  const prefixLength = prefixOf(wish, address, template, local.prefixLength, family);
  const gateway = wish.gateway || (template === null ? local.gateway : template.gateway);
  const isCopied = template !== null && wish.address === '' && network.copyAddresses;
  const own = address === '' ? [] : [{ address, prefixLength, peer: '', noPrefixRoute: false }];
  const addresses = isCopied ? template.addresses : own;
  const routes =
    template !== null && wish.gateway === '' && network.copyRoutes
      ? copiedRoutes(template.routes, addresses)
      : defaultRoutes(gateway);
  const mappings: AddressMapping[] = [];
  const loopback = wish.mapHostLoopback === '' ? gateway : wish.mapHostLoopback;
  if (loopback !== '' && loopback !== 'none') mappings.push({ guest: loopback, host: LOOPBACK[family] });
  const further = network.configure
    ? addresses.map((set) => set.address).filter((other) => other !== address)
    : [];
  // It leads to the first; the host is known by it whichever of them it speaks from, as the guest has them too.
  if (wish.mapGuestAddress !== '' && address !== '')
    mappings.push(...[address, ...further].map((host) => ({ guest: wish.mapGuestAddress, host })));
  return { template, address, prefixLength, gateway, further, addresses, routes, mappings };
}

/** As given, as the host's own address has it, by class (RFC 791 §3.2); IPv6 by RFC 4291. */
function prefixOf(
  wish: PastaFamily,
  address: string,
  template: FamilyTemplate | null,
  local: number,
  family: Family,
): number {
  if (wish.prefixLength !== 0) return wish.prefixLength;
  const same = template?.addresses.find((candidate) => candidate.address === address);
  if (same !== undefined) return same.prefixLength;
  if (wish.address === '' || family === 6) return local;
  const { w3 } = parseIpAddress(address);
  const first = w3 >>> 24;
  return first < 128 ? 8 : first < 192 ? 16 : first < 224 ? 24 : 32;
}

/** A source that the guest does not have cannot be named. */
function copiedRoutes(
  routes: readonly InterfaceRoute[],
  addresses: readonly InterfaceAddress[],
): InterfaceRoute[] {
  return routes.map((route) => ({
    ...route,
    source: addresses.some(({ address }) => address === route.source) ? route.source : '',
  }));
}

function defaultRoutes(gateway: string): InterfaceRoute[] {
  if (gateway === '') return [];
  return [
    {
      ...{ destination: gateway.includes(':') ? '::' : '0.0.0.0', prefixLength: 0 },
      nextHops: [{ gateway, weight: 1, onLink: false }],
      ...{ metric: 0, protocol: BY_HAND, scope: 0, source: '' },
    },
  ];
}

function addressPlan(
  { ipv4, ipv6 }: PastaNetwork,
  v4: FamilyNetwork | null,
  v6: FamilyNetwork | null,
  host: HostNetwork,
): AddressPlan {
  return {
    ipv4: v4 !== null,
    guest4: v4?.address ?? '',
    prefix4: v4?.prefixLength ?? 0,
    lease4: v4?.address ?? '',
    gateway4: v4?.gateway ?? '',
    dns4: ipv4.dnsForward,
    ipv6: v6 !== null,
    guest6: v6?.address ?? '',
    prefix6: v6?.prefixLength ?? 0,
    gateway6: v6?.gateway ?? '',
    dns6: ipv6.dnsForward,
    linkLocal6: v6 === null ? LOCAL[6].gateway : ourLinkLocal(v6, host),
    further: [v4, v6].flatMap((family) => family?.further ?? []),
  };
}

/** The router's, if it has such an address; else that of the host, where it is the guest's neighbour. */
function ourLinkLocal({ gateway, template }: FamilyNetwork, host: HostNetwork): string {
  if (gateway !== '' && parseIpAddress(gateway).isLinkLocal) return gateway;
  const own = host.addresses.find(
    ({ link, family, isLinkLocal }) => family === 6 && isLinkLocal && link === template?.link.index,
  );
  return own?.address ?? LOCAL[6].gateway;
}

function infoLines(v4: FamilyNetwork | null, v6: FamilyNetwork | null): string[] {
  const named = [
    { label: 'IPv4', network: v4 },
    { label: 'IPv6', network: v6 },
  ];
  const lines = named
    .filter(({ network }) => network?.template === null)
    .map(({ label }) => `${label}: no external interface as template, use local mode`);
  const templates = named
    .filter(({ network }) => (network?.template ?? null) !== null)
    .map(({ label, network }) => `${network?.template?.link.name} (${label})`);
  if (templates.length > 0) lines.push(`Template interface: ${templates.join(', ')}`);
  return lines;
}
