/** Where peers of WireGuard are that were given by name. Looked up once, at the start, as wg(8) does. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { WireGuardTarget } from '../config.ts';

/** Names of endpoints become addresses. Rejects with one line. */
export async function resolveEndpoints(targets: readonly WireGuardTarget[]): Promise<void> {
  for (const { peer } of targets) {
    const { endpoint } = peer;
    if (endpoint === null || isIP(endpoint.address) !== 0) continue;
    try {
      endpoint.address = (await lookup(endpoint.address)).address;
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new Error(`the endpoint ${endpoint.address} of a WireGuard peer cannot be found: ${code}`);
    }
  }
}
