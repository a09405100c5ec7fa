/** Where the clients of a local forward are led. Set-up, and once for each client. */
import type { LocalForwardSpec, Splice } from '../../config.ts';
import { type IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { EAFNOSUPPORT, EINVAL, EOPNOTSUPP } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import type { InsideSockets } from '../splice/inside-sockets.ts';
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
  'protocol' | 'listen' | 'span' | 'target' | 'proxyHeader' | 'source' | 'isIdle' | 'splice'
>;

/** How a client comes to the guest: through its stack, past it, or not at all. */
export type Passage = 'stack' | 'none' | Splice;

export class Aim {
  /** The service is not there. */
  readonly isIdle: boolean;
  /** That of all clients, or of those with IPv4. */
  readonly #first: Destination;
  /** That of clients with IPv6, if it is another. */
  readonly #second: Destination | null;
  readonly #splice: Splice | undefined;
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
    this.#splice = spec.splice;
    this.#port = target.port;
    this.#from = spec.span !== undefined && listen.kind === 'ip' ? listen.port : 0;
    if (spec.splice !== undefined) checkSplice(context.inside, spec);
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

  /** The passage of a client at this address; null: that of a unix socket, who has a right to the file. */
  passage(client: IpAddress | null): Passage {
    const isNear = client === null || client.isLoopback;
    if (this.for(client).target.isLoopback) return isNear ? 'target' : 'none';
    return isNear && client !== null && this.#splice !== undefined ? this.#splice : 'stack';
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
function guestTarget({ own, inside }: FlowContext, spec: Wish): IpAddress {
  const target = parseIpAddress(spec.target.address);
  if (target.isLoopback) {
    checkSplice(inside, spec);
    return target;
  }
  if (target.isUnspecified || target.isMulticast || own.owns(target)) {
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

/** Throws `ForwardError` where clients cannot be led past the stack. */
function checkSplice({ isOpen }: InsideSockets, { target, proxyHeader }: Wish): void {
  if (!isOpen) {
    const what = target.address === '' ? 'the guest' : target.address;
    throw new ForwardError(
      EINVAL,
      `${what} is reached only inside the guest's namespace, where nobody of ours is`,
    );
  }
  if (proxyHeader)
    throw new ForwardError(EOPNOTSUPP, 'clients with a header that names another go through the stack');
}
