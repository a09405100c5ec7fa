/** The guest's own networks, as the policy has to know them. */
import type { AddressPlan } from '../config.ts';
import { type PrefixSpec, parsePrefix } from '../firewall/prefix.ts';

export function guestNetworks({ guest4, prefix4, ipv6, guest6, prefix6 }: AddressPlan): PrefixSpec[] {
  const texts = [`${guest4}/${prefix4}`, ...(ipv6 ? [`${guest6}/${prefix6}`] : [])];
  return texts.map((text) => {
    const { address, bits } = parsePrefix(text);
    return { address: address.toString(), bits };
  });
}
