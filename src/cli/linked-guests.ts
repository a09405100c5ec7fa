/** What guests a link of `serve` makes: one, or as many as a WireGuard file has peers; and what they are called. */
import { fstatSync } from 'node:fs';
import type { AddressPlan, GuestConfig, NetworkSpec } from '../config.ts';
import type { LinkTarget, SocketTarget, WebSocketTarget } from '../device-spec.ts';
import { guestNetworks } from './guest-networks.ts';
import type { LinkSpec } from './link-spec.ts';
import type { ServeOptions } from './program.ts';
import { checkExposed } from './tunnel-spec.ts';
import { badValue, UsageError } from './values.ts';
import { readWireGuardFile } from './wireguard-file.ts';
import { wireGuardGuests } from './wireguard-guests.ts';

/** The guest of a link, or one of those of a link that has several. */
export interface LinkedGuest {
  target: LinkTarget | WebSocketTarget;
  /** Its name, or empty. */
  guest: string;
  /** 0: as usual. */
  mtu: number;
  /** As usual where there are none. */
  addresses?: AddressPlan;
  /** Our end is an address at which there is DNS; otherwise as usual. */
  hasGateway?: boolean;
  /** A network that it shares with others. */
  network?: NetworkSpec;
}

/** @throws UsageError */
export function linkedGuests(
  spec: LinkSpec,
  options: Pick<ServeOptions, 'oneOff' | 'insecureKeyFile' | 'insecureTunnel'>,
): LinkedGuest[] {
  const { target, guest, mtu, network } = spec;
  if (target.kind === 'tunnel') {
    checkExposed(target, options.insecureTunnel === true, '--link');
    const { addresses, hasGateway } = spec;
    return [{ ...{ target, guest, mtu }, ...(addresses && { addresses, hasGateway: hasGateway === true }) }];
  }
  if (target.kind === 'webSocket') return [{ target, guest, mtu }];
  if (target.kind !== 'wireguardFile') {
    checkLinkDescriptors(target);
    const link = target.kind === 'descriptor' ? target : { ...target, oneOff: options.oneOff === true };
    return [{ target: link, guest, mtu, ...(network === undefined ? {} : { network }) }];
  }
  const file = readWireGuardFile(target.path, options.insecureKeyFile === true);
  const guests = wireGuardGuests(file, target.path);
  const ofMany = (index: number): string =>
    guest === '' || guests.length === 1 ? guest : `${guest}-${index}`;
  return guests.map((peer, index) => ({ ...peer, guest: ofMany(index) }));
}

export function guestNames(specs: readonly LinkedGuest[]): string[] {
  const names = specs.map(({ guest }, index) => (guest === '' ? `g${index}` : guest));
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined)
    throw badValue('--link', `guest=${twice}`, 'is there twice', 'another name for each');
  return names;
}

/** Which guest a rule is for, by what may stand behind it: `,guest=NAME`. */
export function byGuest(
  rules: readonly string[] | undefined,
  option: string,
  names: readonly string[],
): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const rule of rules ?? []) {
    const [, text = rule, name = names[0] ?? ''] = /^(.*),guest=([^,]*)$/.exec(rule) ?? [];
    if (!names.includes(name)) throw badValue(option, rule, `has guest=${name}`, names.join(', '));
    found.set(name, [...(found.get(name) ?? []), text]);
  }
  return found;
}

/** A peer has its addresses by its configuration, and speaks from those that are allowed it: the link sees to that. */
export function peerNetwork({ policy, behavior }: GuestConfig, addresses: AddressPlan): Partial<GuestConfig> {
  return {
    addresses,
    policy: { ...policy, guestNetworks: guestNetworks(addresses) },
    behavior: { ...behavior, anySource: true },
    autoconfiguration: false,
  };
}

/** Of a command line that names one that is not open nothing is started. */
function checkLinkDescriptors(target: SocketTarget): void {
  if (target.kind !== 'descriptor') return;
  for (const fd of [target.fd, target.output ?? target.fd]) {
    try {
      fstatSync(fd);
    } catch {
      throw new UsageError(`option --link: descriptor ${fd} is not open (EBADF)`);
    }
  }
}
