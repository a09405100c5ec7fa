/** As an `InsideListener`, for datagrams. */
import type { RemoteForwardSpec } from '../../config.ts';
import type { IpAddress } from '../../stack/wire/address.ts';
import { parseIpAddress } from '../../stack/wire/address.ts';
import { EOPNOTSUPP } from '../../sys/errno.ts';
import { AF_INET, AF_INET6 } from '../../sys/socket.ts';
import { ForwardError } from '../publish/forward-error.ts';
import type { Listener } from '../publish/forwards.ts';
import { type ClientFlow, DatagramListener } from '../udp/datagram-listener.ts';
import type { SplicedDatagrams } from './datagrams.ts';
import { hostPlace } from './inside-listener.ts';

export class InsideDatagrams extends DatagramListener implements Listener {
  readonly kind = 'inside';
  readonly missing = 0;
  readonly id: number;
  readonly #spliced: SplicedDatagrams;
  readonly #target: IpAddress;
  readonly #targetPort: number;

  /** Throws `ForwardError`. */
  constructor(spliced: SplicedDatagrams, id: number, spec: RemoteForwardSpec) {
    super(spliced.context, parseIpAddress(spec.bind.address).isV4 ? AF_INET : AF_INET6);
    this.#spliced = spliced;
    this.id = id;
    const place = hostPlace(spec);
    if (place.kind !== 'ip')
      throw new ForwardError(EOPNOTSUPP, 'datagrams are led to an address of the host');
    this.#target = place.address;
    this.#targetPort = place.port;
  }

  /** Take over `fd`, which is bound; 0, or `-errno` and it is closed. */
  begin(fd: number): number {
    return this.watch(fd);
  }

  /** Inside it stays where it is. */
  aim(): never {
    throw new ForwardError(EOPNOTSUPP, "what listens inside the guest's namespace is not led elsewhere");
  }

  protected get isIdle(): boolean {
    return false;
  }

  protected openFlow(
    i: number,
    _client: IpAddress | null,
    _clientPort: number,
    contacted: IpAddress,
  ): ClientFlow | null {
    return this.#spliced.open(this, i, contacted, this.#target, this.#targetPort);
  }
}
