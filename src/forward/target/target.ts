/**
 * What a destination that the guest names means on the host: a remote forward, DNS, an address that stands for another, one
 * of our own, the outside.
 * The only place that decides it, for every protocol; the firewall then judges the address found here, and the socket
 * call gets the same one. It may be another than the guest named: answers must come from the one the guest knows.
 */
import { Protocol, Verdict } from '../../firewall/verdict.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import type { FlowContext } from '../flow/context.ts';
import type { RemoteForward } from './remote-forwards.ts';

export const TargetKind = {
  /** One of our own addresses, where nobody listens: a closed port. */
  Nothing: 0,
  /** The DNS service at its own address. */
  Dns: 1,
  /** A host socket to `address`. */
  Outside: 2,
  /** The policy says no. */
  Denied: 3,
  /** A remote forward, `Target.forward`. `address` and `port` are its target, where that is an address. */
  Forward: 4,
  /** As `Nothing`, but the guest is told that the network is unreachable. */
  Unreachable: 5,
} as const;
export type TargetKind = (typeof TargetKind)[keyof typeof TargetKind];

const DNS_PORT = 53;
const DNS_TLS_PORT = 853;

/** Borrowed: filled again by the next call. */
export class Target {
  kind: TargetKind = TargetKind.Nothing;
  /** The address the socket call gets. */
  readonly address: IpAddress = new IpAddress();
  port = 0;
  scopeId = 0;
  verdict: Verdict = Verdict.Permit;
  forward: RemoteForward | null = null;
}

export { Protocol };

/**
 * Find out what (`dst`, `port`) means, with the policy's verdict at this moment: what there is to hear of the host's
 * addresses is heard first.
 */
export function findTarget(
  context: FlowContext,
  protocol: Protocol,
  dst: IpAddress,
  port: number,
  out: Target,
): TargetKind {
  const own = context.own;
  out.address.copyFrom(dst);
  out.port = port;
  out.scopeId = 0;
  out.forward = null;
  if (protocol !== Protocol.Icmp) {
    const forward = context.remoteForwards.match(protocol === Protocol.Tcp ? 'tcp' : 'udp', dst, port);
    if (forward !== null) {
      out.forward = forward;
      out.address.copyFrom(forward.address);
      // Target port 0 = the port contacted.
      if (forward.target.kind === 'ip' && forward.target.port !== 0) out.port = forward.target.port;
      out.scopeId = forward.scopeId;
      out.kind = TargetKind.Forward;
      return out.kind;
    }
  }
  if (protocol !== Protocol.Icmp) {
    if ((port === DNS_PORT || port === DNS_TLS_PORT) && isDns(context, dst)) {
      out.kind = port === DNS_PORT ? TargetKind.Dns : resolverTarget(context, protocol, out);
      if (out.kind !== TargetKind.Nothing) return out.kind;
    }
    const host = context.mappings.toHost(dst);
    if (host !== null) {
      // Configured, like a forward: the reserved ranges, which loopback is one of, do not count.
      out.address.copyFrom(host);
      out.kind = TargetKind.Outside;
      return out.kind;
    }
  }
  if (own.owns(dst) && !isForeign(context, dst)) {
    out.kind = ownTarget(context, protocol, out);
    return out.kind;
  }
  if (!context.refreshHostRoutes()) {
    out.verdict = Verdict.DenyUnsure;
    out.kind = TargetKind.Denied;
    return out.kind;
  }
  out.verdict = context.policy.verdict(protocol, dst, port);
  out.kind = out.verdict === Verdict.Permit ? TargetKind.Outside : TargetKind.Denied;
  return out.kind;
}

/**
 * Is DNS answered at this address? Where no address is for that, it is the one that stands for the host's loopback, if a
 * guest with the host's resolv.conf asks there.
 */
function isDns({ own, dnsEnabled, mappings, resolvers }: FlowContext, dst: IpAddress): boolean {
  if (!dnsEnabled || dst.isUnspecified) return false;
  if (dst.equals(own.dns4) || dst.equals(own.dns6)) return true;
  const isOpen = (dst.isV4 ? own.dns4 : own.dns6).isUnspecified;
  return isOpen && mappings.toHost(dst)?.isLoopback === true && resolvers.isReachedAt(dst);
}

/** DNS over TLS is between the guest and the resolver (RFC 7858), where our addresses are not the guest's whole world. */
function resolverTarget({ behavior, resolvers }: FlowContext, protocol: Protocol, out: Target): TargetKind {
  if (!behavior.sharedNetwork || protocol !== Protocol.Tcp || resolvers.count === 0)
    return TargetKind.Nothing;
  const { address, scopeId } = resolvers.at(0);
  out.address.copyFrom(address);
  out.scopeId = scopeId;
  return TargetKind.Outside;
}

/** Without a DNS service, the DNS addresses may be the host's business. */
function isForeign(context: FlowContext, dst: IpAddress): boolean {
  const { own, behavior, dnsEnabled } = context;
  if (dnsEnabled || behavior.dnsAddressesWithoutDns === 'own') return false;
  return dst.equals(own.dns4) || dst.equals(own.dns6);
}

/** What a port of our own addresses means. */
function ownTarget({ behavior }: FlowContext, protocol: Protocol, out: Target): TargetKind {
  if (protocol === Protocol.Icmp) return TargetKind.Nothing;
  if (behavior.ownPorts === 'closed') return TargetKind.Nothing;
  if (behavior.ownPorts === 'unreachable') return TargetKind.Unreachable;
  out.verdict = Verdict.DenyReserved;
  return TargetKind.Denied;
}
