/** What a guest that configures itself is answered by: DHCP, DHCPv6 and router advertisements, if it is. */
import type { GuestSpec } from '../config.ts';
import type { FlowContext } from '../forward/flow/context.ts';
import { AnnouncedResolvers } from '../forward/target/announced-resolvers.ts';
import { DhcpServer } from '../stack/services/dhcp-server.ts';
import { Dhcpv6Server } from '../stack/services/dhcpv6-server.ts';
import { RouterAdvertiser } from '../stack/services/router-advertiser.ts';
import type { IpAddress } from '../stack/wire/address.ts';
import type { SearchDomains } from '../stack/wire/search-domains.ts';

export interface GuestServices {
  dhcp: DhcpServer | null;
  dhcpv6: Dhcpv6Server | null;
  ra: RouterAdvertiser | null;
}

type Context = Pick<FlowContext, 'own' | 'link' | 'rng' | 'resolvers' | 'mappings'>;

interface Told {
  v4: readonly number[];
  v6: readonly IpAddress[];
  search: SearchDomains | null;
}

export function guestServices(
  context: Context,
  { autoconfiguration, announcements, dns }: Pick<GuestSpec, 'autoconfiguration' | 'announcements' | 'dns'>,
  search: SearchDomains,
): GuestServices {
  const { own, link, rng } = context;
  const { dhcp, dhcpv6, ra, oneLease, hostname, fqdn } = announcements ?? {
    ...{ dhcp: autoconfiguration, dhcpv6: false, ra: autoconfiguration, oneLease: false, hostname: '' },
    fqdn: '',
  };
  const told = toldOf(context, announcements, dns, search);
  const hasDhcp = dhcp && link.medium === 'ethernet' && own.ipv4;
  const hasDhcpv6 = dhcpv6 && link.medium === 'ethernet' && own.ipv6;
  const hasRa = ra && own.ipv6;
  return {
    dhcp: hasDhcp ? new DhcpServer(own, link.mtu, told.v4, told.search, { oneLease, hostname, fqdn }) : null,
    dhcpv6: hasDhcpv6 ? new Dhcpv6Server(own, told.v6, told.search, fqdn) : null,
    ra: hasRa ? new RouterAdvertiser(own, link.mtu, told.v6, rng, told.search, hasDhcpv6) : null,
  };
}

/** Our own addresses for DNS, or, where those are not for the guest to ask, resolvers. */
function toldOf(
  { own, resolvers, mappings }: Context,
  announcements: GuestSpec['announcements'],
  dns: boolean,
  search: SearchDomains,
): Told {
  if (announcements === undefined)
    return dns ? { v4: [own.dns4.w3], v6: [own.dns6], search } : { v4: [], v6: [], search: null };
  const { v4, v6 } = new AnnouncedResolvers(resolvers, mappings, announcements.dns);
  return { v4, v6, search: announcements.search ? search : null };
}
