/**
 * Addresses that the guest knows other addresses of the host's by: what it sends to the one leads to the other, and what
 * comes from there is shown as from it. They are the user's own word, like forwards, so the policy is not asked.
 */
import type { AddressMapping } from '../../config.ts';
import type { OwnAddresses } from '../../stack/ip/own-addresses.ts';
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';

export class AddressMappings {
  /** Another number after every change. */
  version = 0;
  readonly #own: OwnAddresses;
  #guest: readonly IpAddress[] = [];
  #host: readonly IpAddress[] = [];

  /** Throws RangeError for text that is no address. */
  constructor(own: OwnAddresses, mappings: readonly AddressMapping[]) {
    this.#own = own;
    this.set(mappings);
  }

  /** These, and no others from now on. Throws RangeError for text that is no address, and nothing has changed. */
  set(mappings: readonly AddressMapping[]): void {
    const guest = mappings.map((mapping) => parseIpAddress(mapping.guest));
    const host = mappings.map((mapping) => parseIpAddress(mapping.host));
    this.#guest = guest;
    this.#host = host;
    this.#own.setStandIns(guest);
    this.version++;
  }

  /** What `address` of the guest's side stands for; null: for itself. Borrowed. */
  toHost(address: IpAddress): IpAddress | null {
    return counterpart(address, this.#guest, this.#host);
  }

  /** What stands for the host's loopback; null: nothing. Borrowed. */
  loopback(isV4: boolean): IpAddress | null {
    const index = this.#host.findIndex((address) => address.isLoopback && address.isV4 === isV4);
    return this.#guest[index] ?? null;
  }

  /** What the guest knows `address` of the host's by; null: by itself. Borrowed. */
  toGuest(address: IpAddress): IpAddress | null {
    return counterpart(address, this.#host, this.#guest);
  }
}

/** The first counts: several may stand for one. */
function counterpart(
  address: IpAddress,
  from: readonly IpAddress[],
  to: readonly IpAddress[],
): IpAddress | null {
  for (let i = 0; i < from.length; i++) if (address.equals(from[i] as IpAddress)) return to[i] as IpAddress;
  return null;
}
