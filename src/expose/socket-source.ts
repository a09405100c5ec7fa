/** Where it is looked which sockets of a guest wait for clients. */
import type { OpenSocket } from './open-socket.ts';

/** Sockets of one kind that are read of; what is beyond that is overlooked. */
export const READ_MAX = 8192;

export interface SocketSource {
  readonly method: 'netlink' | 'procfs';
  /**
   * All that there are now; the same array as before if nothing has changed. Throws when there is no looking any more.
   */
  look(): readonly OpenSocket[];
  close(): void;
}
