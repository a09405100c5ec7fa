/** Where a local forward leads. Set-up only. */
import type { LocalForwardSpec } from '../../config.ts';
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { EAFNOSUPPORT, EINVAL } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { ForwardError } from './forward-error.ts';
import { listenPlace } from './listen-socket.ts';
import { ShownSource } from './shown-source.ts';

export interface Aim {
  /** The guest's service; port 0 = the port contacted. */
  readonly target: IpAddress;
  readonly targetPort: number;
  /** Whom the service sees. */
  readonly source: ShownSource;
  /** The service is not there. */
  readonly isIdle: boolean;
}

/** Throws `ForwardError`. */
export function aimOf(context: FlowContext, spec: LocalForwardSpec): Aim {
  const target = guestTarget(context, spec);
  const source = new ShownSource(context, spec.source, target);
  return { target, targetPort: spec.target.port, source, isIdle: spec.isIdle };
}

/** The address of the guest's service, which must be one that a packet to the guest can have. */
function guestTarget({ own }: FlowContext, spec: LocalForwardSpec): IpAddress {
  const target = parseIpAddress(spec.target.address);
  if (target.isLoopback || target.isUnspecified || target.isMulticast || own.owns(target)) {
    throw new ForwardError(EINVAL, `${spec.target.address} is no address of the guest`);
  }
  if (!target.isV4 && !own.ipv6) {
    throw new ForwardError(EAFNOSUPPORT, `${spec.target.address}: the guest has no IPv6`);
  }
  if (spec.target.port === 0 && spec.listen.kind === 'unix' && !spec.proxyHeader) {
    throw new ForwardError(
      EINVAL,
      `${listenPlace(spec)}: a unix socket has no port that could be the guest's`,
    );
  }
  own.expect(target);
  return target;
}
