/** A socket of the guest's that waits for clients, as the kernel tells of it. */
import type { Protocol } from './event.ts';

export interface OpenSocket {
  proto: Protocol;
  /** 4 also for one of IPv6 that is bound to an IPv4 address. */
  family: 4 | 6;
  ip: string;
  port: number;
  /** Not to be seen in /proc: false. */
  v6only: boolean;
  /** Number of the interface that it is bound to; 0: none, or not to be seen. */
  device: number;
  uid: number;
  inode: number;
}

/** What a socket is for its clients: those with the same stand for one service. */
export function socketKey({ proto, family, ip, port }: OpenSocket): string {
  return `${proto}${family} ${ip} ${port}`;
}
