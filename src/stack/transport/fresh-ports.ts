/** Under which port a connection or flow to the guest begins. */
import type { Rng } from '../rng.ts';
import type { IpAddress } from '../wire/address.ts';

/** RFC 6335 §6 calls 49152 and up dynamic; more of them make a port harder to guess, as Linux does (RFC 6056). */
const FIRST_PORT = 32768;
const PORTS = 28232;
/** Tries to find a free one at random; with 16,384 flows at most that is enough. */
const TRIES = 64;

/** Is there a flow, or one in TIME-WAIT, with this tuple? */
export type InUse = (guest: IpAddress, remote: IpAddress, ports: number) => boolean;

/**
 * Key of a new connection from (`source`, `wanted` or a random port) to (`target`, `port`), which nobody uses: the target's
 * port in the upper 16 bits, ours in the lower. -1: none was found, or there is no source.
 */
export function freshPorts(
  rng: Rng,
  target: IpAddress,
  port: number,
  source: IpAddress,
  wanted: number,
  inUse: InUse,
): number {
  // Nobody there can be answered to, see ShownSource.
  if (source.isUnspecified) return -1;
  for (let i = 0; i < TRIES; i++) {
    const ours = i === 0 && wanted !== 0 ? wanted : FIRST_PORT + (rng.u32() % PORTS);
    const ports = ((port << 16) | ours) >>> 0;
    if (!inUse(target, source, ports)) return ports;
  }
  return -1;
}
