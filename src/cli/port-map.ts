/**
 * Port maps as Penguin writes them, each a port of the host for a service of the guest wherever that listens:
 *
 *     maps  = map { "," map }
 *     map   = proto ":" [ host "/" ] port ":" guest ":" port [ ",source=" source ]
 *     proto = "tcp" | "udp"        host  = IPv4 | "[" IPv6 "]"
 *     guest = IPv4 | IPv6 | "[" IPv6 "]" | "*"
 *
 * Blanks around the pieces do not matter, nor do capitals in the protocol. Host port 0 is any. Penguin finds this anywhere
 * in a text and takes what is around it; here that is a mistake, and told.
 */
import type { AddressPlan, ForwardSource, PortMap } from '../config.ts';
import { type IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import { decimal, UsageError } from './values.ts';

/** Each holds a port of the host, on up to two addresses. */
const MAPS_MAX = 1024;
/** More of a text would not fit a line. */
const SHOWN_MAX = 120;
const PORT_MAX = 65535;
const SHAPE = 'PROTO:[HOST/]PORT:GUEST:PORT';
const SOURCE = /^source\s*=\s*/i;

function wrong(text: string, what: string): UsageError {
  const shown = text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}…` : text;
  return new UsageError(`port map ${JSON.stringify(shown)}: ${what}`);
}

/** Reads a list of maps. @throws UsageError */
export function parsePortMaps(text: string, plan: AddressPlan): PortMap[] {
  const pieces = text.split(',').map((piece) => piece.trim());
  const maps: PortMap[] = [];
  for (const piece of pieces) {
    const last = maps.at(-1);
    if (SOURCE.test(piece)) {
      if (last === undefined) throw wrong(piece, 'stands before the map that it belongs to');
      if (last.source !== '') throw wrong(`${last.text},${piece}`, 'has two sources');
      const source = readSource(piece.replace(SOURCE, ''), plan);
      if (source === undefined) throw wrong(`${last.text},${piece}`, `has no usable source; ${SOURCES}`);
      maps[maps.length - 1] = { ...last, source, text: `${last.text},${piece}` };
    } else {
      maps.push(parsePortMap(piece, plan));
    }
    if (maps.length > MAPS_MAX) throw wrong(text, `${pieces.length} maps; accepted: up to ${MAPS_MAX}`);
  }
  return withoutConflicts(maps);
}

const SOURCES = 'accepted: gateway, client, or an address that the guest can answer to and has not itself';

/** `--forward-source`. @throws UsageError */
export function parseForwardSource(text: string, plan: AddressPlan): ForwardSource {
  const source = readSource(text, plan);
  if (source !== undefined) return source;
  throw new UsageError(`option --forward-source: ${JSON.stringify(text)} is no usable source; ${SOURCES}`);
}

function readSource(text: string, plan: AddressPlan): ForwardSource | undefined {
  if (text === 'gateway' || text === 'client') return text;
  const address = readAddress(text);
  if (address === undefined || address.isLoopback || address.isUnspecified || address.isGroup)
    return undefined;
  if (!address.isV4 && !plan.ipv6) return undefined;
  const isGuest = [plan.guest4, plan.guest6].some((own) => parseIpAddress(own).equals(address));
  return isGuest ? undefined : address.toString();
}

function readAddress(text: string): IpAddress | undefined {
  try {
    return parseIpAddress(text);
  } catch {
    return undefined;
  }
}

function parsePortMap(text: string, plan: AddressPlan): PortMap {
  if (text === '') throw wrong(text, `is empty; accepted: ${SHAPE}`);
  const [protocolText = '', ...rest] = text.split(':');
  const protocol = protocolText.trim().toLowerCase();
  if (protocol !== 'tcp' && protocol !== 'udp')
    throw wrong(text, `has no protocol ${JSON.stringify(protocolText)}; accepted: tcp, udp`);
  const parts = /^(?:([^/]*)\/)?([^:/]*):(.*):([^:]*)$/s.exec(rest.join(':'));
  if (parts === null) throw wrong(text, `has too few fields; accepted: ${SHAPE}`);
  const [, hostText, hostPort = '', guestText = '', guestPort = ''] = parts;
  return {
    protocol,
    host: hostText === undefined ? '' : hostAddress(text, hostText.trim()),
    hostPort: port(text, hostPort.trim(), 0),
    guest: guestAddress(text, guestText.trim(), plan),
    guestPort: port(text, guestPort.trim(), 1),
    source: '',
    text: text.replace(/\s+/g, ''),
  };
}

function port(text: string, given: string, least: 0 | 1): number {
  const number = decimal(given);
  if (number >= least && number <= PORT_MAX) return number;
  throw wrong(
    text,
    `has no ${least === 0 ? 'host' : 'guest'} port ${JSON.stringify(given)}; accepted: ${least} to ${PORT_MAX}`,
  );
}

function hostAddress(text: string, given: string): string {
  const isBracketed = given.startsWith('[') && given.endsWith(']');
  const address = readAddress(isBracketed ? given.slice(1, -1) : given);
  if (address !== undefined && !address.isMulticast && isBracketed === given.includes(':'))
    return address.toString();
  throw wrong(
    text,
    `has no host address ${JSON.stringify(given)}; accepted: an IPv4 address, or an IPv6 one in brackets`,
  );
}

function guestAddress(text: string, given: string, plan: AddressPlan): string {
  if (given === '*') return given;
  const bare = /^\[(.*:.*)\]$/.exec(given)?.[1] ?? given;
  const address = readAddress(bare);
  if (address === undefined)
    throw wrong(text, `has no guest address ${JSON.stringify(given)}; accepted: an address, or * for any`);
  if (address.isLoopback || address.isGroup)
    throw wrong(text, `has the guest address ${given}, which is not reached from outside`);
  if (!address.isV4 && !plan.ipv6) throw wrong(text, 'has an IPv6 address of a guest without IPv6');
  return address.toString();
}

/** Whether two maps listen at one place. */
function collide(one: PortMap, other: PortMap): boolean {
  if (one.protocol !== other.protocol || one.hostPort !== other.hostPort || one.hostPort === 0) return false;
  return one.host === '' || other.host === '' || one.host === other.host;
}

/** Those that say the same once. @throws UsageError */
function withoutConflicts(maps: readonly PortMap[]): PortMap[] {
  const kept: PortMap[] = [];
  for (const map of maps) {
    let isKnown = false;
    for (const other of kept) {
      const isSameEnd =
        map.protocol === other.protocol && map.guest === other.guest && map.guestPort === other.guestPort;
      if (isSameEnd && map.hostPort !== other.hostPort)
        throw wrong(map.text, `has another host port by ${JSON.stringify(other.text)}`);
      if (isSameEnd && map.host === other.host && map.source === other.source) isKnown = true;
      else if (collide(map, other))
        throw wrong(map.text, `has the host port of ${JSON.stringify(other.text)}`);
    }
    if (!isKnown) kept.push(map);
  }
  return kept;
}
