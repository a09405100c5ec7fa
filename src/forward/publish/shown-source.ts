/**
 * Which address the guest sees as the source of what a host client sends it: the client's own, where the guest can answer
 * to it and cannot mistake it; otherwise the gateway's. What may be shown is foreign and routable: not loopback
 * (CVE-2021-20199: every client looked local), not on the guest's own network, not reserved, and of the target's family.
 */
import type { IpAddress } from '../../stack/wire/address.ts';
import type { FlowContext } from '../flow/context.ts';

/** `client` may be null (a unix socket has no address). The result is borrowed. */
export function shownSource(context: FlowContext, client: IpAddress | null, target: IpAddress): IpAddress {
  const { own, policy } = context;
  if (
    client !== null &&
    client.isV4 === target.isV4 &&
    !client.equals(target) &&
    !client.isUnspecified &&
    !client.isLoopback &&
    !client.isMulticast &&
    !client.isLinkLocal &&
    !own.onLink(client) &&
    !own.answersFor(client) &&
    !policy.isReserved(client)
  ) {
    return client;
  }
  return target.isV4 ? own.gateway4 : own.gateway6;
}
