/** Which of the guest's sockets become forwards, and why the others do not. */
import type { AutoForwardSpec, PortRange } from '../config.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import type { OpenSocket } from './open-socket.ts';

/**
 * `ignored`: not a service of anybody's, and not worth a word. `unwanted`: a service, but the options do not ask for it.
 * `skipped`: one that they ask for and that cannot be had.
 */
export type Judgement =
  | { kind: 'forward' | 'ignored' | 'unwanted' }
  | { kind: 'skipped'; reason: 'loopback-only' | 'link-local' | 'other-device' };

export interface JudgeOptions {
  spec: AutoForwardSpec;
  /** Services on the guest's loopback can be reached. */
  reachesLoopback: boolean;
  /** Numbers of the ports that the guest gives to sockets that ask for none. */
  ephemeral: PortRange;
  /** Number of the guest's interface; 0: not known. */
  device: number;
}

/** net.ipv4.ip_local_port_range, where it cannot be read. */
export const defaultEphemeral: PortRange = { first: 32768, last: 60999 };

const DHCP_CLIENT = 68;
const DHCP6_CLIENT = 546;
const MULTICAST_DNS = 5353;
const LOOPBACK_DEVICE = 1;

function isAmong(ranges: readonly PortRange[], port: number): boolean {
  return ranges.some(({ first, last }) => port >= first && port <= last);
}

/** UDP has no state of waiting for clients: sockets of clients look the same. */
function isClient(port: number, ephemeral: PortRange): boolean {
  return (
    port === DHCP_CLIENT || port === DHCP6_CLIENT || port === MULTICAST_DNS || isAmong([ephemeral], port)
  );
}

export function judge({ proto, ip, port, device }: OpenSocket, options: JudgeOptions): Judgement {
  const { spec, ephemeral } = options;
  const address = parseIpAddress(ip);
  if (port === 0 || address.isGroup) return { kind: 'ignored' };
  if (proto === 'udp' && isClient(port, ephemeral)) return { kind: 'ignored' };
  const isWanted = spec[proto] && (spec.only.length === 0 || isAmong(spec.only, port));
  if (!isWanted || isAmong(spec.except, port)) return { kind: 'unwanted' };
  if (address.isLinkLocal) return { kind: 'skipped', reason: 'link-local' };
  if (address.isLoopback || device === LOOPBACK_DEVICE) {
    const isReached = options.reachesLoopback && address.isLoopback;
    return isReached ? { kind: 'forward' } : { kind: 'skipped', reason: 'loopback-only' };
  }
  if (device !== 0 && options.device !== 0 && device !== options.device)
    return { kind: 'skipped', reason: 'other-device' };
  return { kind: 'forward' };
}
