/**
 * Where the client of a unix socket comes from: from our network namespace, or from another.
 *
 * Paths of unix sockets lead to the same socket from every network namespace, credentials are the same for a process inside,
 * and its number may be another's by the time it is looked at. But a socket stays in the namespace in which it was made; the
 * one that accept(2) gives was made by the client's connect(2), in the client's; and sock_diag(7) tells of those in ours
 * only. So it does not matter whether the client is still there. Needs unix_diag in the kernel (CONFIG_UNIX_DIAG, loaded on demand).
 */
import { EINVAL, ENOENT, EPROTO } from './errno.ts';
import { close } from './io.ts';
import type { Memory } from './memory.ts';
import { NLM_F_REQUEST, NLMSG_ERROR, NLMSG_HEADER_BYTES, putRequest } from './netlink-message.ts';
import { AF_NETLINK, AF_UNIX, recv, SOCK_RAW, send, socket } from './socket.ts';

const NETLINK_SOCK_DIAG = 4;
const SOCK_DIAG_BY_FAMILY = 20;
/** struct unix_diag_req (linux/unix_diag.h). */
const REQUEST_BYTES = 24;
const ANY = 0xffffffff;

/** Arena bytes that `UnixPeers` needs. */
export const UNIX_PEERS_BYTES = 512;

/** A socket that tells of the sockets of our network namespace, or `-errno`. */
export function openSockDiag(): number {
  return socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
}

export class UnixPeers {
  readonly #memory: Memory;
  readonly #region: number;
  /** Or `-errno`. */
  readonly #fd: number;

  /** `region`: `UNIX_PEERS_BYTES` of the arena. */
  constructor(memory: Memory, region: number) {
    this.#memory = memory;
    this.#region = region;
    this.#fd = openSockDiag();
  }

  close(): void {
    if (this.#fd >= 0) close(this.#fd);
  }

  /** 0 if `isNear` can be asked, else `-errno`. */
  available(): number {
    // The kernel looks at the number only once it knows what is asked for.
    const result = this.#ask(0);
    return result === -EINVAL ? 0 : result;
  }

  /** Whether the accepted socket with this inode is of our network namespace, and so its client: 1, 0, or `-errno`. */
  isNear(inode: number): number {
    const result = this.#ask(inode);
    return result === -ENOENT ? 0 : result < 0 ? result : 1;
  }

  /** 0 if there is a socket with this inode in our namespace, `-errno`. */
  #ask(inode: number): number {
    const { view } = this.#memory;
    const at = this.#region;
    const length = putRequest(view, at, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, REQUEST_BYTES);
    const request = at + NLMSG_HEADER_BYTES;
    view.setUint8(request, AF_UNIX);
    // In whatever state, with whatever cookie.
    view.setUint32(request + 4, ANY, true);
    view.setUint32(request + 8, inode, true);
    view.setUint32(request + 16, ANY, true);
    view.setUint32(request + 20, ANY, true);
    const sent = this.#fd < 0 ? this.#fd : send(this.#memory, this.#fd, at, length);
    // The answer is there when send(2) returns.
    const received = sent < 0 ? sent : recv(this.#memory, this.#fd, at, UNIX_PEERS_BYTES);
    if (received < NLMSG_HEADER_BYTES + 4) return received < 0 ? received : -EPROTO;
    const type = view.getUint16(at + 4, true);
    if (type === NLMSG_ERROR) return view.getInt32(at + NLMSG_HEADER_BYTES, true);
    return type === SOCK_DIAG_BY_FAMILY ? 0 : -EPROTO;
  }
}
