/** From what an embedder wants to the configuration of a guest. What is wrong names its field, with dots. */
import { fstatSync } from 'node:fs';
import { isIP, isIPv4 } from 'node:net';
import { guestNetworks } from '../cli/guest-networks.ts';
import { parseLinkSpec } from '../cli/link-spec.ts';
import { linkedGuests } from '../cli/linked-guests.ts';
import { parseRuleList } from '../cli/rule.ts';
import { decimal, MTU_MAX, MTU_MIN, MTU_MIN_IPV6 } from '../cli/values.ts';
import {
  type AddressPlan,
  defaultAddresses,
  defaultGuest,
  defaultLimits,
  type GuestConfig,
  type ProcessLimits,
  processLimits,
} from '../config.ts';
import { isHostName } from '../control/names/host-name.ts';
import { resolveAllow, resolveRules } from '../control/names/rule-names.ts';
import { defaultSetup, type LinkTarget, type SocketPlace } from '../device-spec.ts';
import type { PolicySpec } from '../firewall/verdict.ts';
import { profiles } from '../profiles.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { badConfig, TslirpError } from './errors.ts';
import { Fields } from './fields.ts';
import { readForwards } from './read-forwards.ts';
import type { PolicyConfig, TunnelConfig } from './types.ts';

/** A configuration that can be used. */
export interface ReadConfig {
  guest: GuestConfig & { target: LinkTarget };
  limits: ProcessLimits;
  /** The descriptors that the link is on, which are the embedder's. */
  fds: number[];
  matchDomains: string[];
}

/** Ping and UDP mappings beside that many connections. */
const UDP_SHARE = 4;
const PING_SHARE = 16;
const MEMORY_MIN = 1024 * 1024;

/** Rejects with a `TslirpError`. */
export async function readConfig(config: TunnelConfig): Promise<ReadConfig> {
  const fields = new Fields('', config, [
    ...([
      'link',
      'addresses',
      'mtu',
      'policy',
      'forwards',
      'autoForward',
      'dns',
      'capture',
      'limits',
    ] as const),
  ]);
  const link = readLink(fields);
  const addresses = link.addresses ?? readAddresses(fields);
  const policy = await readPolicy(config.policy, guestNetworks(addresses), 'policy');
  const dns = fields.object('dns', ['upstream', 'search', 'matchDomains']);
  const upstream = dns?.texts('upstream', isAddress, 'an IPv4 or IPv6 address') ?? [];
  const search = dns?.texts('search', isHostName, 'a domain');
  const { guestLimits, limits } = readLimits(fields);
  if (config.autoForward !== undefined && config.autoForward !== false)
    throw badConfig(
      'autoForward',
      'services are found in a network namespace only: want false, and forwards',
    );
  return {
    guest: {
      ...{ ...defaultGuest, target: link.target, addresses, policy, behavior: { ...profiles.tslirp } },
      interface: {
        name: '',
        mtu: readMtu(fields, addresses) || link.mtu,
        configure: 'no',
        setup: defaultSetup,
      },
      limits: guestLimits,
      dnsServers: upstream,
      dnsSearch: search ?? null,
      pcapPath: readCapture(fields),
      ...(link.network === undefined ? {} : { network: link.network }),
      ...(link.addresses === undefined ? {} : { autoconfiguration: false }),
      forwards: await readForwards(config.forwards ?? [], addresses),
    },
    limits,
    fds: descriptorsOf(link.target),
    matchDomains: dns?.texts('matchDomains', isHostName, 'a domain') ?? [],
  };
}

function descriptorsOf(target: LinkTarget): number[] {
  if (target.kind !== 'descriptor') return [];
  return target.output === undefined ? [target.fd] : [target.fd, target.output];
}

type AnyLink = Omit<ReturnType<typeof linkedGuests>[number], 'guest'>;
type ReadLink = AnyLink & { target: LinkTarget };

function readLink(config: Fields): ReadLink {
  const link = config.object('link', ['fd', 'medium', 'framing', 'spec']);
  if (link === undefined) throw badConfig('link', 'want { fd } or { spec }');
  const spec = link.text('spec');
  if (spec !== undefined) {
    if (link.has('fd')) throw badConfig('link', 'has both fd and spec; want one of them');
    return borrowed(readSpec(spec));
  }
  const fd = link.number('fd', 0, 2 ** 31 - 1);
  if (fd === undefined) throw badConfig('link.fd', 'want the number of a descriptor');
  const medium = link.oneOf('medium', ['auto', 'ip', 'ethernet']) ?? 'auto';
  const framing = link.oneOf('framing', ['auto', 'bare', 'be32', 'le16']) ?? 'auto';
  return borrowed({
    target: {
      ...{ kind: 'descriptor', fd, probe: true },
      ...(medium === 'auto' ? {} : { medium }),
      ...(framing === 'auto' ? {} : { framing }),
    },
    mtu: 0,
  });
}

function readSpec(spec: string): ReadLink {
  let guests: AnyLink[];
  try {
    guests = linkedGuests(parseLinkSpec(spec), {});
  } catch (error) {
    if (/ is not open \(EBADF\)$/.test((error as Error).message))
      throw new TslirpError('FD_INVALID', (error as Error).message.replace('option --link', 'link.spec'));
    throw badConfig('link.spec', (error as Error).message.replace(/^option --link: /, ''), error);
  }
  const [only, ...more] = guests;
  if (only === undefined || more.length > 0)
    throw badConfig('link.spec', `has ${guests.length} guests; a tunnel has one`);
  const { target } = only;
  if (target.kind === 'webSocket')
    throw badConfig('link.spec', 'a WebSocket has a guest for each client; a tunnel has one');
  if ((target.kind === 'listen' || target.kind === 'dial') && !isExact(target.at))
    throw badConfig('link.spec', 'want a path, or a literal address and a port');
  return { ...only, target };
}

function isExact(at: SocketPlace): boolean {
  return at.family === 'unix' ? at.path !== '' : at.family === 'vsock' || isIP(at.address) !== 0;
}

/** A descriptor stays the embedder's own. */
function borrowed(link: ReadLink): ReadLink {
  const { target } = link;
  if (target.kind !== 'descriptor') return link;
  for (const fd of descriptorsOf(target)) {
    try {
      fstatSync(fd);
    } catch {
      const detail = { path: 'link.fd' };
      throw new TslirpError('FD_INVALID', `link.fd: descriptor ${fd} is not open`, { detail });
    }
  }
  return { ...link, target: { ...target, isBorrowed: true } };
}

function isAddress(text: string): boolean {
  return isIP(text) !== 0 && !text.includes('%');
}

interface Cidr {
  address: string;
  bits: number;
}

function readCidr(path: string, text: string): Cidr {
  const [address = '', length, ...more] = text.split('/');
  const most = isIPv4(address) ? 32 : 128;
  const bits = length === undefined ? -1 : decimal(length);
  const isRight =
    isAddress(address) && more.length === 0 && (length === undefined || (bits >= 1 && bits <= most));
  if (!isRight)
    throw badConfig(path, `${JSON.stringify(text)} is no address in CIDR form, like 10.0.2.100/24`);
  return { address: parseIpAddress(address).toString(), bits };
}

function readAddresses(config: Fields): AddressPlan {
  const given = config.object('addresses', ['guest', 'gateway', 'dns']);
  if (given === undefined) return defaultAddresses;
  const read = (key: string): { v4: Cidr | undefined; v6: Cidr | undefined } => {
    const texts = given.texts(key, () => true, '');
    if (texts === undefined) throw badConfig(`addresses.${key}`, 'want a list of addresses');
    const all = texts.map((text, index) => readCidr(`addresses.${key}.${index}`, text));
    const v4 = all.filter(({ address }) => isIPv4(address));
    const v6 = all.filter(({ address }) => !isIPv4(address));
    if (v4.length > 1 || v6.length > 1)
      throw badConfig(`addresses.${key}`, 'has two of one family; want one');
    return { v4: v4[0], v6: v6[0] };
  };
  const guest = read('guest');
  const gateway = read('gateway');
  const dns = read('dns');
  if (guest.v4 === undefined || gateway.v4 === undefined || dns.v4 === undefined)
    throw badConfig('addresses', 'want an IPv4 address of guest, gateway and dns');
  const ipv6 = guest.v6 !== undefined;
  if (ipv6 && (gateway.v6 === undefined || dns.v6 === undefined))
    throw badConfig('addresses', 'want an IPv6 address of gateway and dns beside of the guest');
  const plan: AddressPlan = {
    guest4: guest.v4.address,
    prefix4: guest.v4.bits < 0 ? 24 : guest.v4.bits,
    lease4: guest.v4.address,
    gateway4: gateway.v4.address,
    dns4: dns.v4.address,
    ipv6,
    guest6: guest.v6?.address ?? defaultAddresses.guest6,
    prefix6: guest.v6 === undefined || guest.v6.bits < 0 ? 64 : guest.v6.bits,
    gateway6: gateway.v6?.address ?? defaultAddresses.gateway6,
    dns6: dns.v6?.address ?? defaultAddresses.dns6,
  };
  for (const other of [plan.gateway4, plan.dns4, plan.gateway6, plan.dns6])
    if (other === plan.guest4 || other === plan.guest6)
      throw badConfig('addresses.guest', `${other} is another's too`);
  return plan;
}

function readMtu(config: Fields, { ipv6 }: AddressPlan): number {
  const least = ipv6 ? MTU_MIN_IPV6 : MTU_MIN;
  return config.number('mtu', least, MTU_MAX) ?? 0;
}

/** Rejects with a `TslirpError` whose path begins with `path`. */
export async function readPolicy(
  policy: PolicyConfig | undefined,
  networks: PolicySpec['guestNetworks'],
  path: string,
): Promise<PolicySpec> {
  const fields = new Fields(path, policy ?? {}, ['routing', 'host', 'allow', 'deny']);
  const rules = async (key: 'allow' | 'deny', resolve: typeof resolveRules): Promise<PolicySpec['allow']> => {
    const texts = fields.texts(key, () => true, '') ?? [];
    const lists = texts.map(async (text, index) => {
      try {
        return await resolve(parseRuleList(text));
      } catch (error) {
        throw badConfig(`${path}.${key}.${index}`, (error as Error).message, error);
      }
    });
    return (await Promise.all(lists)).flat();
  };
  return {
    enableRouting: fields.flag('routing') === true,
    enableHost: fields.flag('host') === true,
    allow: await rules('allow', resolveAllow),
    deny: await rules('deny', resolveRules),
    guestNetworks: networks,
  };
}

function readCapture(config: Fields): string {
  const capture = config.object('capture', ['path', 'fd']);
  if (capture === undefined) return '';
  const path = capture.text('path');
  const fd = capture.number('fd', 0, 2 ** 31 - 1);
  if ((path === undefined) === (fd === undefined)) throw badConfig('capture.path', 'want { path } or { fd }');
  if (path === '') throw badConfig('capture.path', 'is empty');
  return path ?? `/proc/self/fd/${fd}`;
}

function readLimits(config: Fields): { guestLimits: GuestConfig['limits']; limits: ProcessLimits } {
  const given = config.object('limits', ['flows', 'memoryBytes']);
  const flows = given?.number('flows', 1, 1_000_000);
  const memoryBytes = given?.number('memoryBytes', MEMORY_MIN, processLimits.memoryTotal);
  const most = flows === undefined ? {} : { tcpMaxFlows: flows, udpMaxFlows: share(flows, UDP_SHARE) };
  return {
    guestLimits: {
      ...{ ...defaultLimits, ...most },
      ...(flows === undefined ? {} : { pingMaxFlows: share(flows, PING_SHARE) }),
      ...(memoryBytes === undefined ? {} : { memoryMax: memoryBytes }),
    },
    limits: { ...processLimits, ...(memoryBytes === undefined ? {} : { memoryTotal: memoryBytes }) },
  };
}

function share(flows: number, part: number): number {
  return Math.max(1, Math.floor(flows / part));
}
