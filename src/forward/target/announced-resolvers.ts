/**
 * The resolvers that a guest is told of, where it asks them itself: those of the configuration, or the host's as they are. One
 * on the host's loopback is told by the address that stands for that, or not at all.
 */
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import type { AddressMappings } from './address-mappings.ts';
import type { Resolvers } from './resolvers.ts';

/** Of a family (RFC 8106 §5.3.1). */
const MOST = 3;

export class AnnouncedResolvers {
  /** The same lists for ever, with what holds now. */
  readonly v4: number[] = [];
  readonly v6: IpAddress[] = [];

  /** `fixed`: these alone. Throws RangeError for text that is no address. */
  constructor(resolvers: Resolvers, mappings: AddressMappings, fixed: readonly string[] | null) {
    if (fixed !== null) {
      this.#set(fixed.map(parseIpAddress));
      return;
    }
    const follow = (): void => {
      const shown: IpAddress[] = [];
      for (let i = 0; i < resolvers.count; i++) {
        const { address } = resolvers.at(i);
        const known = address.isLoopback ? mappings.loopback(address.isV4) : address;
        if (known !== null) shown.push(known);
      }
      this.#set(shown);
    };
    resolvers.onChanged = follow;
    follow();
  }

  #set(addresses: readonly IpAddress[]): void {
    const of = (isV4: boolean): IpAddress[] =>
      addresses.filter((address) => address.isV4 === isV4).slice(0, MOST);
    this.v4.splice(0, this.v4.length, ...of(true).map(({ w3 }) => w3));
    this.v6.splice(0, this.v6.length, ...of(false));
  }
}
