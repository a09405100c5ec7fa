/** Sockets that are made in the guest's own network namespace, which they keep wherever they are used. */
import { AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM } from '../../sys/socket.ts';

/** What there is in stock. */
export const SocketKind = { Tcp4: 0, Tcp6: 1, Udp4: 2, Udp6: 3 } as const;
export type SocketKind = (typeof SocketKind)[keyof typeof SocketKind];

export function familyOf(kind: SocketKind): number {
  return kind === SocketKind.Tcp4 || kind === SocketKind.Udp4 ? AF_INET : AF_INET6;
}

export function typeOf(kind: SocketKind): number {
  return kind === SocketKind.Tcp4 || kind === SocketKind.Tcp6 ? SOCK_STREAM : SOCK_DGRAM;
}

/** Who wants a socket. */
export interface SocketTaker {
  /** `fd` is the taker's, unbound, non-blocking and close-on-exec; or `-errno`. */
  onSocket(fd: number): void;
}

/** Where a socket is to listen. */
export interface InsidePlace {
  kind: SocketKind;
  /** An IPv6 wildcard takes IPv4 clients as well. */
  dualStack: boolean;
  /** Interface that it is bound to; empty = none. */
  device: string;
  /** Its struct sockaddr. */
  sockaddr: Uint8Array;
}

export interface InsideSockets {
  /** There is somebody to make them. */
  readonly isOpen: boolean;
  /** A socket for `taker`: at once where there is one in stock, else when it is made. */
  take(kind: SocketKind, taker: SocketTaker): void;
  /** Nobody waits any more; `onSocket` is not called. */
  cancel(taker: SocketTaker): void;
  /** A socket that is bound there, and listening if it is for streams; `done` gets it, to own, or `-errno`. */
  listen(place: InsidePlace, done: (fd: number) => void): void;
}
