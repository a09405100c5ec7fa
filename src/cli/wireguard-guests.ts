/** What guests the file of a WireGuard interface makes: one for each peer, whose gateway and name server is the interface. */
import { type AddressPlan, defaultAddresses } from '../config.ts';
import type { WireGuardPeer, WireGuardTarget } from '../device-spec.ts';
import type { ParsedPrefix } from '../firewall/prefix.ts';
import { IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import type { FilePeer, WireGuardFile } from './wireguard-file.ts';

const V4_BITS = 96;
const ALL_BITS = 128;

export interface WireGuardGuest {
  target: WireGuardTarget;
  addresses: AddressPlan;
  mtu: number;
}

/** `name`: of the interface. Endpoints may still have names, see wireguard-endpoints.ts. */
export function wireGuardGuests(file: WireGuardFile, name: string): WireGuardGuest[] {
  const { privateKey, listenPort, mtu } = file;
  return file.peers.map((peer) => ({
    target: { kind: 'wireguard', interface: name, privateKey, listenPort, peer: peerOf(peer) },
    addresses: planFor(file.addresses, peer),
    mtu,
  }));
}

function peerOf({ endpoint, ...peer }: FilePeer): WireGuardPeer {
  return { ...peer, endpoint: endpoint === null ? null : { address: endpoint.host, port: endpoint.port } };
}

/** The peer's network: where our address is, and the first address that is the peer's alone. */
function planFor(addresses: readonly ParsedPrefix[], peer: FilePeer): AddressPlan {
  const our4 = addresses.find(({ address }) => address.isV4);
  const our6 = addresses.find(({ address }) => !address.isV4);
  const plan = { ...defaultAddresses, ipv6: our6 !== undefined };
  if (our4 !== undefined) {
    plan.gateway4 = our4.address.toString();
    plan.dns4 = plan.gateway4;
    plan.guest4 = peerAddress(peer, our4.address, true);
    plan.lease4 = plan.guest4;
    plan.prefix4 = our4.bits - V4_BITS;
  }
  if (our6 !== undefined) {
    plan.gateway6 = our6.address.toString();
    plan.dns6 = plan.gateway6;
    plan.guest6 = peerAddress(peer, our6.address, false);
    plan.prefix6 = our6.bits;
  }
  return plan;
}

/** For a peer that has no single address of the family, the one behind ours: it is one of the network's, at least. */
function peerAddress({ allowedIps }: FilePeer, ours: IpAddress, isV4: boolean): string {
  for (const { address, bits } of allowedIps)
    if (bits === ALL_BITS && parseIpAddress(address).isV4 === isV4) return address;
  const { w0, w1, w2, w3 } = ours;
  return new IpAddress().set(w0, w1, w2, w3 + 1).toString();
}
