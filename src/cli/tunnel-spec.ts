/** A plain tunnel as users write it: `tunnel:udp://ADDRESS:PORT,peer=PREFIX…`. */
import { isIP } from 'node:net';
import { type AddressPlan, defaultAddresses } from '../config.ts';
import type { TunnelTarget } from '../device-spec.ts';
import { type ParsedPrefix, parsePrefix, V4_BITS } from '../firewall/prefix.ts';
import { IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import { endpointOf, type LinkKind, type Options } from './link-options.ts';
import { parseSeconds, UsageError } from './values.ts';

const ALL_BITS = 128;
const SCHEME = 'udp://';

export const tunnelKind: LinkKind<TunnelTarget> = {
  name: 'tunnel',
  form: 'tunnel:udp://ADDRESS:PORT,peer=PREFIX',
  options: ['peer', 'remote', 'learn', 'keepalive', 'address'],
  read: (text, options) => {
    if (options.has('switch')) throw options.error('has switch=', 'Ethernet links there');
    if (!text.startsWith(SCHEME)) throw options.error(`has ${JSON.stringify(text)}`, 'udp://ADDRESS:PORT');
    const prefixes = options.all('peer').map((peer) => prefixOf(peer, 'peer', options));
    if (prefixes.length === 0) throw options.error('has no peer=', "peer=PREFIX, the peer's own addresses");
    const remote = options.get('remote');
    const learns = options.oneOf('learn', ['on']) !== undefined;
    if ((remote === undefined) !== learns)
      throw options.error(
        remote === undefined ? 'does not say who the peer is' : 'has remote= and learn=',
        'remote=ADDRESS:PORT, or learn=on: whoever sends first',
      );
    const ends = {
      local: endpointOf(text.slice(SCHEME.length), options),
      remote: remote === undefined ? null : endpointOf(remote, options),
    };
    return {
      ...{ kind: 'tunnel', ...ends, isExposed: isExposed(ends) },
      prefixes: prefixes.map(({ address, bits }) => ({ address: address.toString(), bits })),
      keepaliveSeconds: parseSeconds('--link keepalive=', options.get('keepalive') ?? '0'),
    };
  },
};

function prefixOf(text: string, key: string, options: Options): ParsedPrefix {
  try {
    return parsePrefix(text);
  } catch {
    throw options.error(`has ${key}=${text}`, 'ADDRESS or ADDRESS/BITS');
  }
}

/**
 * The peer's network. With `address=` we have an address in it, which is gateway and name server; without, it is told of
 * neither.
 */
export function tunnelPlan(
  { prefixes }: TunnelTarget,
  options: Options,
): { addresses: AddressPlan; hasGateway: boolean } {
  const texts = options.all('address');
  const ours = texts.map((text) => ({ text, ...prefixOf(text, 'address', options) }));
  const find = (isV4: boolean) => prefixes.find(({ address }) => !address.includes(':') === isV4);
  const plan = { ...defaultAddresses, ipv6: find(false) !== undefined };
  for (const isV4 of [true, false]) {
    const peer = find(isV4);
    const our = ours.find(({ address }) => address.isV4 === isV4);
    const gateway = our?.text.replace(/\/.*$/, '');
    if (peer === undefined) {
      if (gateway !== undefined)
        throw options.error(`has address=${gateway}`, 'with a peer= of the same family');
      continue;
    }
    const guest = guestOf(peer);
    const bits = our === undefined || our.bits === ALL_BITS ? peer.bits : our.bits;
    if (isV4) {
      Object.assign(plan, { guest4: guest, lease4: guest, prefix4: bits - V4_BITS });
      if (gateway !== undefined) Object.assign(plan, { gateway4: gateway, dns4: gateway });
    } else {
      Object.assign(plan, { guest6: guest, prefix6: bits });
      if (gateway !== undefined) Object.assign(plan, { gateway6: gateway, dns6: gateway });
    }
  }
  return { addresses: plan, hasGateway: texts.length > 0 };
}

/** The address that forwards lead to: the only one, or the first behind the network's own. */
function guestOf({ address, bits }: { address: string; bits: number }): string {
  if (bits === ALL_BITS) return address;
  const { w0, w1, w2, w3 } = parseIpAddress(address);
  return new IpAddress().set(w0, w1, w2, w3 + 1).toString();
}

/** Whether others than programs of this host can send to it, or read what it sends. */
export function isExposed({ local, remote }: Pick<TunnelTarget, 'local' | 'remote'>): boolean {
  const end = local.address === '' && remote !== null ? remote : local;
  // A name leads wherever it leads.
  return isIP(end.address) === 0 || !parseIpAddress(end.address).isLoopback;
}

/** @throws UsageError */
export function checkExposed(target: TunnelTarget, isAccepted: boolean, option: string): void {
  if (isAccepted || !target.isExposed) return;
  throw new UsageError(
    `option ${option}: whoever is on the way can read and forge what a plain tunnel carries; accepted: a loopback address, --insecure-tunnel, or serve --link wireguard:FILE`,
  );
}
