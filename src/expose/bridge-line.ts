/**
 * A line of an events file as Penguin's VPN plugin writes it, one for each service that is to have a port of the host:
 *
 *     [remove,]PROTO,GUEST:PORT,HOST:PORT[,SOURCE:0[,INTERFACE]]
 *
 * IPv6 addresses are in brackets. The host's port 0 is any. A source that is the guest's own address, or none, stands for
 * what the options say. With `remove` the service is withdrawn.
 */
import { type IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import type { End, Protocol } from './event.ts';

/** Without its end. */
export const BRIDGE_LINE_MAX = 1024;
const PORT_MAX = 65_535;
const COLUMNS = '3 to 5 columns: PROTO,GUEST:PORT,HOST:PORT[,SOURCE:0[,GUEST-NAME]]';

export interface Bridge {
  withdrawn: boolean;
  proto: Protocol;
  guestEnd: End;
  hostEnd: End;
  /** Empty: as the options say. */
  source: string;
}

/** Null: nothing to read; a text: what is wrong. `guest` is the name that may stand in the last column. */
export function readBridge(line: string, guest: string): Bridge | string | null {
  const text = line.trim();
  if (text === '' || text.startsWith('#')) return null;
  if (text.length > BRIDGE_LINE_MAX) return `is longer than ${BRIDGE_LINE_MAX} bytes`;
  const [first = '', ...rest] = text.split(',').map((column) => column.trim());
  const withdrawn = first.toLowerCase() === 'remove';
  const [protoText = '', ...ends] = withdrawn ? rest : [first, ...rest];
  const [guestText = '', hostText = '', sourceText = '', name = ''] = ends;
  if (ends.length < 2 || ends.length > 4) return `has ${ends.length + 1} columns; accepted: ${COLUMNS}`;
  const proto = protoText.toLowerCase();
  if (proto !== 'tcp' && proto !== 'udp') return 'has a protocol that is neither tcp nor udp';
  const guestEnd = readEnd(guestText);
  if (guestEnd === undefined || guestEnd.port === 0) return 'has no address and port of the guest';
  const hostEnd = readEnd(hostText);
  if (hostEnd === undefined) return 'has no address and port of the host';
  const source = sourceText === '' ? guestEnd : readEnd(sourceText);
  if (source === undefined || source.address.isLoopback || source.address.isGroup)
    return 'has a source that nothing can come from';
  if (name !== '' && name !== guest) return `is for a guest of another name; this one is ${guest}`;
  const isOwn = source.address.isUnspecified || source.address.equals(guestEnd.address);
  return {
    ...{ withdrawn, proto, guestEnd: asEnd(guestEnd), hostEnd: asEnd(hostEnd) },
    source: isOwn ? '' : source.address.toString(),
  };
}

interface ReadEnd {
  address: IpAddress;
  port: number;
}

function readEnd(text: string): ReadEnd | undefined {
  const [, bracketed, plain, portText = ''] = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(portText);
  if (portText === '' || port > PORT_MAX) return undefined;
  try {
    return { address: parseIpAddress(bracketed ?? plain ?? ''), port };
  } catch {
    return undefined;
  }
}

function asEnd({ address, port }: ReadEnd): End {
  return { ip: address.toString(), port };
}
