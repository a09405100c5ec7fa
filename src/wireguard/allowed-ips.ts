/**
 * Whose an inner address is: the peer that has the longest prefix it is in ("cryptokey routing", the WireGuard paper §2).
 * Looked through from the longest: peers remember who was found last, so that packets of a flow do not come here.
 */
import type { IpAddress } from '../stack/wire/address.ts';

/** `bits` counts in the 128-bit form: an IPv4 /24 is 120. */
export interface AllowedPrefix {
  readonly address: IpAddress;
  readonly bits: number;
}

export class AllowedIps<T> {
  readonly #entries: { prefix: AllowedPrefix; owner: T }[] = [];

  /** @throws RangeError for a prefix that is there already */
  add(prefix: AllowedPrefix, owner: T): void {
    const { address, bits } = prefix;
    for (const { prefix: other } of this.#entries) {
      if (other.bits === bits && address.inPrefix(other.address, bits) && address.isV4 === other.address.isV4)
        throw new RangeError(`${address}: allowed twice`);
    }
    const at = this.#entries.findIndex((entry) => entry.prefix.bits < bits);
    this.#entries.splice(at < 0 ? this.#entries.length : at, 0, { prefix, owner });
  }

  remove(owner: T): void {
    for (let i = this.#entries.length - 1; i >= 0; i--)
      if (this.#entries[i]!.owner === owner) this.#entries.splice(i, 1);
  }

  find(address: IpAddress): T | null {
    for (let i = 0; i < this.#entries.length; i++) {
      const { prefix, owner } = this.#entries[i]!;
      // ::/0 is IPv6's own.
      if (address.inPrefix(prefix.address, prefix.bits) && address.isV4 === prefix.address.isV4) return owner;
    }
    return null;
  }
}
