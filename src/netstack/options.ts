/** What a stack is made from, as its user writes it. */
import type { AddressPlan } from '../stack/ip/own-addresses.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import type { Datagram } from './datagrams.ts';
import type { ConnectionRequest } from './tcp-socket.ts';

export interface StackOptions {
  /** Whether frames have an Ethernet header or are bare IP packets. Default: `ethernet`. */
  medium?: 'ethernet' | 'ip';
  /** Bytes of the largest IP packet, 576 to 65535. Default: 1500. */
  mtu?: number;
  /** Our MAC address. Default: made from `ipv4`. */
  mac?: string;
  /** Our address and its network, as `10.0.2.2/24`. */
  ipv4: string;
  /** As `fd00::2/64`. Default: no IPv6. */
  ipv6?: string;
  /** The station at the other end. Whatever is not on the link is behind it. */
  peer4: string;
  peer6?: string;
  /**
   * A `gateway` speaks for all the world: connections and datagrams to any address come to its handlers, and packets are
   * taken from the link's network only. A `host` has its own addresses, and hears from any. Default: `gateway`.
   */
  role?: 'gateway' | 'host';
  /** Configure the other end by DHCP (RFC 2131) and router advertisements (RFC 4861). Default: false. */
  autoconfigure?: boolean;
  /** Resolvers that are announced then. */
  nameservers?: readonly string[];
  /** Default: CUBIC (RFC 9438). Without a network in between, `none` is faster. */
  congestion?: 'cubic' | 'newReno' | 'none';
  /** Bytes of packet memory for all connections. Default: 32 MiB. */
  memory?: number;
  /** Bytes that one connection keeps in each direction at most. Default: 1 MiB. */
  window?: number;
  /** Connections at a time, besides those in TIME-WAIT; more are not answered. Default: 4096. */
  connections?: number;
  /** Milliseconds of a clock that never goes back. Default: `performance.now`, and timers run by themselves. */
  now?: () => number;
  /** A whole number below 2³² that nobody can guess: initial sequence numbers come from it. Default: Web Crypto. */
  random?: () => number;
  /** Takes a frame to the link. It is the taker's to keep. */
  transmit: (frame: Uint8Array) => void;
  /** Somebody wants to connect to us. Without a handler, all are refused. */
  onConnection?: (request: ConnectionRequest) => void;
  /** A datagram has come. `false`: nobody is there, and the sender is told so. Without a handler, all are told so. */
  onDatagram?: (datagram: Datagram) => boolean | undefined;
}

/** Where `text` = `ADDRESS/BITS` is. @throws RangeError */
function network(name: string, text: string): { address: string; bits: number } {
  const slash = text.indexOf('/');
  const address = slash < 0 ? text : text.slice(0, slash);
  const most = parseIpAddress(address).isV4 ? 32 : 128;
  const bits = slash < 0 ? Number.NaN : Number(text.slice(slash + 1) || 'none');
  if (!Number.isInteger(bits) || bits < 1 || bits > most)
    throw new RangeError(`${name}: ${text} is not ADDRESS/BITS, with 1 to ${most} bits`);
  return { address, bits };
}

/** Who is who on the link. @throws RangeError */
export function addressPlan(options: StackOptions): AddressPlan {
  const { ipv4, ipv6, peer4, peer6 } = options;
  const own4 = network('ipv4', ipv4);
  if ((ipv6 === undefined) !== (peer6 === undefined)) throw new RangeError('ipv6 and peer6 go together');
  const own6 = ipv6 === undefined ? { address: '::', bits: 64 } : network('ipv6', ipv6);
  return {
    guest4: peer4,
    prefix4: own4.bits,
    lease4: peer4,
    gateway4: own4.address,
    dns4: own4.address,
    ipv6: ipv6 !== undefined,
    guest6: peer6 ?? '::',
    prefix6: own6.bits,
    gateway6: own6.address,
    dns6: own6.address,
  };
}

/** `value`, if it is a whole number from `least` to `most`. @throws RangeError */
export function inRange(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most)
    throw new RangeError(`${name}: ${value} is not a whole number from ${least} to ${most}`);
  return value;
}
