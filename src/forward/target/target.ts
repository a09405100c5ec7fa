/**
 * What a destination that the guest names means on the host: a remote forward, one of our own addresses, the outside.
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
const LOOPBACK_4 = 0x7f000001;

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
  if (own.owns(dst) && !isForeign(context, dst)) {
    out.kind = ownTarget(context, protocol, dst, port, out);
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

/** Without a DNS service, the DNS addresses may be the host's business. */
function isForeign(context: FlowContext, dst: IpAddress): boolean {
  const { own, behavior, dnsEnabled } = context;
  if (dnsEnabled || behavior.dnsAddressesWithoutDns === 'own') return false;
  return dst.equals(own.dns4) || dst.equals(own.dns6);
}

/** What a port of our own addresses means. */
function ownTarget(
  context: FlowContext,
  protocol: Protocol,
  dst: IpAddress,
  port: number,
  out: Target,
): TargetKind {
  const { own, behavior } = context;
  if (protocol === Protocol.Icmp) return TargetKind.Nothing;
  if (dst.equals(own.dns4) || dst.equals(own.dns6)) {
    if (port === DNS_PORT && context.dnsEnabled) return TargetKind.Dns;
  } else if (behavior.gatewayIsLoopback && (dst.equals(own.gateway4) || dst.equals(own.gateway6))) {
    // Configured, like a forward: the reserved ranges, which loopback is one of, do not count.
    if (dst.isV4) out.address.setV4(LOOPBACK_4);
    else out.address.set(0, 0, 0, 1);
    return TargetKind.Outside;
  }
  if (behavior.ownPorts === 'closed') return TargetKind.Nothing;
  if (behavior.ownPorts === 'unreachable') return TargetKind.Unreachable;
  out.verdict = Verdict.DenyReserved;
  return TargetKind.Denied;
}
