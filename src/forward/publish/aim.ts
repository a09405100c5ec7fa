/** Where the clients of a local forward are led. Set-up, and once for each client. */
import type { LocalForwardSpec } from '../../config.ts';
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { EAFNOSUPPORT, EINVAL } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { ForwardError } from './forward-error.ts';
import { listenPlace } from './listen-socket.ts';
import { ShownSource } from './shown-source.ts';

/** What one client is led to. */
export interface Destination {
  /** The guest's service. */
  readonly target: IpAddress;
  /** Whom the service sees. */
  readonly source: ShownSource;
}

/** What of a forward says where it leads. */
type Wish = Pick<
  LocalForwardSpec,
  'protocol' | 'listen' | 'span' | 'target' | 'proxyHeader' | 'source' | 'isIdle'
>;

export class Aim {
  /** The service is not there. */
  readonly isIdle: boolean;
  /** That of all clients, or of those with IPv4. */
  readonly #first: Destination;
  /** That of clients with IPv6, if it is another. */
  readonly #second: Destination | null;
  readonly #port: number;
  /** Of several ports, the one that leads to `#port`; 0: there is but one. */
  readonly #from: number;

  /** Throws `ForwardError`. */
  constructor(context: FlowContext, spec: Wish) {
    const { own } = context;
    const { target, listen } = spec;
    const destination = (to: IpAddress): Destination => ({
      target: to,
      source: new ShownSource(context, spec.source, to),
    });
    this.isIdle = spec.isIdle;
    this.#port = target.port;
    this.#from = spec.span !== undefined && listen.kind === 'ip' ? listen.port : 0;
    if (target.address === '') {
      this.#first = destination(own.guest4);
      this.#second = own.ipv6 ? destination(own.guest6) : null;
      return;
    }
    this.#first = destination(guestTarget(context, spec));
    this.#second = null;
  }

  /** Of a client at this address; null: it has none. */
  for(client: IpAddress | null): Destination {
    return this.#second === null || client === null || client.isV4 ? this.#first : this.#second;
  }

  /** The service's port, for a client that named `contacted`. */
  portFor(contacted: number): number {
    if (this.#port === 0) return contacted;
    return this.#from === 0 ? this.#port : this.#port + contacted - this.#from;
  }

  /** Whether `isTarget` holds for any of the addresses. */
  some(isTarget: (target: IpAddress) => boolean): boolean {
    return isTarget(this.#first.target) || (this.#second !== null && isTarget(this.#second.target));
  }
}

/** The address of the guest's service, which must be one that a packet to the guest can have. */
function guestTarget({ own }: FlowContext, spec: Wish): IpAddress {
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
