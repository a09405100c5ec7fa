/**
 * What a destination that the guest names means on the host. The only place that decides it, for every protocol; the
 * firewall then judges the address found here, and the socket call gets the same one.
 */
import { Protocol, Verdict } from '../firewall/verdict.ts';
import { IpAddress } from '../stack/wire/address.ts';
import type { FlowContext } from './context.ts';

export const TargetKind = {
  /** One of our own addresses, where nobody listens. */
  Nothing: 0,
  /** The DNS service at its own address. */
  Dns: 1,
  /** A host socket to `address`. */
  Outside: 2,
  /** The policy says no. */
  Denied: 3,
} as const;
export type TargetKind = (typeof TargetKind)[keyof typeof TargetKind];

const DNS_PORT = 53;

/** Borrowed: filled again by the next call. */
export class Target {
  kind: TargetKind = TargetKind.Nothing;
  /** The address the socket call gets. */
  readonly address: IpAddress = new IpAddress();
  port = 0;
  scopeId = 0;
  verdict: Verdict = Verdict.Permit;
}

export { Protocol };

/**
 * Find out what (`dst`, `port`) means, with the policy's verdict at this moment. For a `fresh` flow the host's
 * addresses are read anew; for one that exists already it is enough to have heard of changes by the event loop, which
 * saves a system call for every datagram.
 */
export function findTarget(
  context: FlowContext,
  protocol: Protocol,
  dst: IpAddress,
  port: number,
  fresh: boolean,
  out: Target,
): TargetKind {
  const own = context.own;
  out.address.copyFrom(dst);
  out.port = port;
  out.scopeId = 0;
  if (own.owns(dst)) {
    const isDns = dst.equals(own.dns4) || dst.equals(own.dns6);
    out.kind =
      isDns && port === DNS_PORT && context.dnsEnabled && protocol !== Protocol.Icmp
        ? TargetKind.Dns
        : TargetKind.Nothing;
    return out.kind;
  }
  if (fresh && !context.refreshHostRoutes()) {
    out.verdict = Verdict.Deny;
    out.kind = TargetKind.Denied;
    return out.kind;
  }
  out.verdict = context.policy.verdict(protocol, dst, port);
  out.kind = out.verdict === Verdict.Permit ? TargetKind.Outside : TargetKind.Denied;
  return out.kind;
}
