/**
 * Between those who find services (the guest's listening sockets, an events file, a request) and the one who publishes them
 * on the host.
 */
import type { End, Protocol } from './event.ts';

/** A service of the guest that is to have a port of the host. */
export interface Service {
  readonly proto: Protocol;
  /** As it listens: a wildcard is one service. */
  readonly guestEnd: End;
  /** `::` that IPv4 clients reach as well. */
  readonly dualStack: boolean;
  readonly process: string | null;
  /** The port of the host that it has to be, or 0: chosen. */
  readonly hostPort: number;
  /** Where the host listens instead of where the options say, or empty. */
  readonly hostAddress: string;
  /** `gateway`, `client`, an address, or empty: as the options say. */
  readonly source: string;
}

/** Publishes. A service is told of by the same object at both ends of its life. */
export interface ServiceSink {
  appear(service: Service): void;
  vanish(service: Service, cause: 'closed' | 'policy'): void;
}
