/** What the user is told at the start of the host's networks: which there are, and what is the matter with them. */
import type { HostRouteTable } from '../firewall/host-routes.ts';
import { compilePrefix, formatPrefix, type Prefix, type PrefixSpec } from '../firewall/prefix.ts';
import { isWithin } from '../firewall/private.ts';

export interface HostView {
  /** As text, sorted. */
  networks: string[];
  /** One sentence for each network of the guest that is one of the host's as well. */
  notes: string[];
}

function text({ address, bits }: Prefix): string {
  return formatPrefix({ address: address.toString(), bits });
}

function overlaps(a: Prefix, b: Prefix): boolean {
  return a.address.isV4 === b.address.isV4 && isWithin(a.address, b.address, Math.min(a.bits, b.bits));
}

export function hostView(table: HostRouteTable, guestNetworks: readonly PrefixSpec[]): HostView {
  const networks = table.networks();
  const notes: string[] = [];
  for (const guest of guestNetworks.map(compilePrefix)) {
    const both = networks.filter((network) => overlaps(network, guest));
    if (both.length === 0) continue;
    const option = guest.address.isV4 ? '--cidr' : '--cidr6';
    notes.push(
      `the guest's network ${text(guest)} overlaps ${both.map(text).join(', ')} of the host: what is there on the host's side is out of the guest's reach; ${option} chooses another network for the guest`,
    );
  }
  return { networks: networks.map(text), notes };
}
