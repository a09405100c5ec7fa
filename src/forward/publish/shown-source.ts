/**
 * Which address the guest sees as the source of what a host client sends it: the client's own, where the guest can answer
 * to it and cannot mistake it; otherwise the gateway's. What may be shown is foreign and routable: not loopback
 * (CVE-2021-20199: every client looked local), not on the guest's own network, not reserved, and of the target's family.
 * The forward may say that it is always the gateway's, or another address. An address of the host's that the guest knows by
 * another is shown as that.
 */
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { EINVAL } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { ForwardError } from './forward-error.ts';

export class ShownSource {
  readonly #context: FlowContext;
  readonly #target: IpAddress;
  /** Whoever the client is; null: himself. */
  readonly #always: IpAddress | null;
  readonly #keepsPort: boolean;

  /** `text`: see `ForwardSource`. Throws `ForwardError`. */
  constructor(context: FlowContext, text: string, target: IpAddress) {
    const { own } = context;
    this.#context = context;
    this.#target = target;
    this.#keepsPort = text === 'client';
    if (text === '' || text === 'client') {
      this.#always = null;
      return;
    }
    this.#always = own.speaker(target.isV4);
    if (text === 'gateway') return;
    const address = parseIpAddress(text);
    if (address.isLoopback || address.isUnspecified || address.isGroup || address.equals(target)) {
      throw new ForwardError(EINVAL, `${text} is no address that the guest could answer to`);
    }
    if (address.isV4 !== target.isV4) return;
    own.speakFrom(address);
    this.#always = address;
  }

  /** The address to show for `client`, which may be null (a unix socket has no address). The result is borrowed. */
  of(client: IpAddress | null): IpAddress {
    const target = this.#target;
    const { own, policy, mappings } = this.#context;
    if (this.#always !== null) return this.#always;
    const known = client === null ? null : mappings.toGuest(client);
    if (known !== null && known.isV4 === target.isV4) return known;
    if (
      client !== null &&
      client.isV4 === target.isV4 &&
      !client.equals(target) &&
      !client.isUnspecified &&
      !client.isLoopback &&
      !client.isMulticast &&
      !client.isLinkLocal &&
      !own.isInside(client) &&
      !own.answersFor(client) &&
      !policy.isReserved(client)
    ) {
      return client;
    }
    return own.speaker(target.isV4);
  }

  /** The port to show with `shown` for a client at `clientPort`, if it is free; 0 = any. */
  portOf(shown: IpAddress, client: IpAddress | null, clientPort: number): number {
    return this.#keepsPort && shown === client ? clientPort : 0;
  }
}
