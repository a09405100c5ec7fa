/** `tslirp tunnel`: the end of a plain tunnel that has an interface. What its options make of a guest. */
import { isIP } from 'node:net';
import {
  type AddressPlan,
  type AttachTarget,
  defaultAddresses,
  type Endpoint,
  type GuestConfig,
  type RunTarget,
} from '../config.ts';
import { defaultSetup, type InterfaceSetup, type TunnelDevice } from '../device-spec.ts';
import { type ParsedPrefix, type PrefixSpec, parsePrefix, V4_BITS } from '../firewall/prefix.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import type { TunnelOptions } from './program.ts';
import { checkExposed, isExposed } from './tunnel-spec.ts';
import { badValue, decimal, UsageError } from './values.ts';

const TUNNEL_MTU = 1400;

/** Of a new interface with nothing but what is asked for; packets go on as they are. */
function setupWith(routes: PrefixSpec[]): InterfaceSetup {
  return { ...defaultSetup, medium: 'ip', multicast: false, segmentation: false, offloads: false, routes };
}

function endpoint(text: string): Endpoint {
  const [, bracketed, plain = '', digits = ''] = /^(?:\[([^\]]*)\]|([^:[\]\s]+)):(\d+)$/.exec(text) ?? [];
  const address = bracketed ?? plain;
  const port = decimal(digits);
  const isRight = bracketed === undefined ? address !== '' : isIP(bracketed) === 6;
  if (!isRight || port < 1 || port > 65_535)
    throw badValue('--to', text, 'is no place', 'HOST:PORT, an IPv6 address in brackets, port 1 to 65535');
  return { address, port };
}

function prefix(option: string, text: string): ParsedPrefix {
  try {
    return parsePrefix(text);
  } catch {
    throw badValue(option, text, 'is no prefix', 'ADDRESS/BITS');
  }
}

function specOf({ address, bits }: ParsedPrefix): PrefixSpec {
  return { address: address.toString(), bits };
}

function planFor(texts: readonly string[]): { addresses: AddressPlan; networks: PrefixSpec[] } {
  const found = texts.map((text) => ({ text, ...prefix('--address', text) }));
  const of = (isV4: boolean) => {
    const [one, ...more] = found.filter(({ address }) => address.isV4 === isV4);
    if (more.length > 0)
      throw badValue('--address', more[0]?.text ?? '', 'is one more', 'one for each family');
    return one;
  };
  const [four, six] = [of(true), of(false)];
  if (four === undefined)
    throw new UsageError('option --address: no IPv4 address; accepted: one, and one of IPv6');
  const [guest4, guest6] = [four, six].map((one) => one?.text.replace(/\/.*$/, ''));
  const addresses = {
    ...{ ...defaultAddresses, ipv6: six !== undefined },
    ...{ guest4: guest4 ?? '', lease4: guest4 ?? '', prefix4: four.bits - V4_BITS },
    ...(six !== undefined && { guest6: guest6 ?? '', prefix6: six.bits }),
  };
  return { addresses, networks: found.map(specOf) };
}

/** @throws UsageError */
export function tunnelGuest(
  command: readonly string[],
  options: TunnelOptions,
): Pick<GuestConfig, 'addresses' | 'interface' | 'tunnel' | 'dns' | 'autoconfiguration'> {
  const { addresses, networks } = planFor(options.address);
  const routes = (options.route ?? []).map((text) => specOf(prefix('--route', text)));
  const ends = { local: { address: '', port: 0 }, remote: endpoint(options.to) };
  const mtu = options.mtu ?? TUNNEL_MTU;
  const tunnel: TunnelDevice = {
    ...{ kind: 'tunnel', ...ends, mtu, isExposed: isExposed(ends), keepaliveSeconds: options.keepalive },
    prefixes: [...networks, ...routes],
  };
  checkExposed(tunnel, options.insecureTunnel === true, '--to');
  const remote = isIP(ends.remote.address) === 0 ? null : parseIpAddress(ends.remote.address);
  for (const { address, bits } of command.length > 0 ? [] : tunnel.prefixes)
    if (remote?.isV4 === !address.includes(':') && remote.inPrefix(parseIpAddress(address), bits))
      throw new UsageError(
        `option --to: ${remote} itself would be reached through the tunnel; accepted: other routes, or a COMMAND`,
      );
  return {
    ...{ addresses, tunnel, dns: false, autoconfiguration: false },
    interface: { name: options.tun, mtu, configure: 'yes', setup: setupWith(routes) },
  };
}

/** A namespace of the command's own, or the one that we are in. */
export function tunnelTarget(command: readonly string[]): RunTarget | AttachTarget {
  if (command.length > 0) return { kind: 'run', command: [...command], mapAuto: false };
  return { kind: 'attach', pid: process.pid, netnsPath: '', usernsPath: '' };
}
