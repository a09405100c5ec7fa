/** Where the other end of a link comes from, and comes from again when it has gone: whoever connects to us, or we to it. */
import type { LinkServices } from './device-link.ts';

/** Gets a socket that is a peer's, non-blocking, which is then its own. `who` is for people. */
export type PeerFound = (fd: number, who: string) => void;

export interface PeerSource {
  /** Look for a peer from now on; `found` is told by the loop. Called once. */
  start(found: PeerFound): void;
  /** The one that was found is no more: look for another. */
  again(): void;
  /** May be called at any time. */
  close(): void;
}

export type PeerServices = Pick<LinkServices, 'memory' | 'poller' | 'timers' | 'clock' | 'frames' | 'log'>;
