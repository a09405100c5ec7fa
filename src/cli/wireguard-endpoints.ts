/** Where peers are that were given by name. Looked up once, at the start, as wg(8) does. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { Endpoint } from '../config.ts';
import type { WireGuardTarget } from '../device-spec.ts';

/** Names of endpoints become addresses. Rejects with one line. */
export async function resolveEndpoints(targets: readonly WireGuardTarget[]): Promise<void> {
  for (const { peer } of targets) {
    if (peer.endpoint !== null) await resolveEndpoint(peer.endpoint, 'a WireGuard peer');
  }
}

/** `whose`: for the one line with which it rejects. */
export async function resolveEndpoint(endpoint: Endpoint, whose: string): Promise<void> {
  if (isIP(endpoint.address) !== 0) return;
  try {
    endpoint.address = (await lookup(endpoint.address)).address;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`the endpoint ${endpoint.address} of ${whose} cannot be found: ${code}`);
  }
}
