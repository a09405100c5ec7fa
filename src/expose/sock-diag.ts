/**
 * Asking for the sockets of a network namespace that wait for clients, and reading the answer: bytes only.
 *
 * Read: sock_diag(7), linux/inet_diag.h. Asking for listening sockets alone does not walk the table of all connections, which
 * is the machine's, as reading /proc/net/tcp does.
 */
import { IpAddress } from '../stack/wire/address.ts';
import {
  align,
  findAttribute,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HEADER_BYTES,
  putRequest,
} from '../sys/netlink-message.ts';
import type { Protocol } from './event.ts';
import type { OpenSocket } from './open-socket.ts';

const SOCK_DIAG_BY_FAMILY = 20;
/** NLM_F_ROOT | NLM_F_MATCH. */
const NLM_F_DUMP = 0x300;
const NLM_F_DUMP_INTR = 0x10;
/** struct inet_diag_req_v2. */
const REQUEST_BODY = 56;
/** struct inet_diag_msg. */
const MESSAGE_BODY = 72;
const INET_DIAG_SKV6ONLY = 11;
const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO = { tcp: 6, udp: 17 } as const;
/** TCP_LISTEN, and TCP_CLOSE for UDP: one that is not connected. */
const STATE = { tcp: 10, udp: 7 } as const;

/** The same for the same question: so two answers are equal if nothing has changed. */
const SEQUENCE = 1;

export function diagRequest(proto: Protocol, family: 4 | 6): Uint8Array {
  const view = new DataView(new ArrayBuffer(NLMSG_HEADER_BYTES + REQUEST_BODY));
  putRequest(view, 0, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, SEQUENCE, REQUEST_BODY);
  view.setUint8(NLMSG_HEADER_BYTES, family === 4 ? AF_INET : AF_INET6);
  view.setUint8(NLMSG_HEADER_BYTES + 1, IPPROTO[proto]);
  view.setUint32(NLMSG_HEADER_BYTES + 4, 1 << STATE[proto], true);
  return new Uint8Array(view.buffer);
}

/** How an answer, or a piece of one, ends. */
export type DiagEnd =
  /** More comes. */
  | 'more'
  | 'done'
  /** Sockets came or went meanwhile: some may be missing. */
  | 'interrupted'
  /** `-errno`. */
  | number;

/** What follows `end` in `view`, a piece as one read(2) gives it. */
export function diagEnd(view: DataView): DiagEnd {
  let isInterrupted = false;
  for (let at = 0; at + NLMSG_HEADER_BYTES <= view.byteLength; ) {
    const length = view.getUint32(at, true);
    const type = view.getUint16(at + 4, true);
    if (length < NLMSG_HEADER_BYTES || at + length > view.byteLength) return 'interrupted';
    isInterrupted ||= (view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0;
    if (type === NLMSG_DONE) return isInterrupted ? 'interrupted' : 'done';
    if (type === NLMSG_ERROR && at + NLMSG_HEADER_BYTES + 4 <= view.byteLength) {
      return view.getInt32(at + NLMSG_HEADER_BYTES, true);
    }
    at += align(length);
  }
  return isInterrupted ? 'interrupted' : 'more';
}

/** The sockets in an answer, `most` of them. */
export function readDiag(view: DataView, proto: Protocol, most: number): OpenSocket[] {
  const sockets: OpenSocket[] = [];
  const address = new IpAddress();
  for (let at = 0; at + NLMSG_HEADER_BYTES <= view.byteLength && sockets.length < most; ) {
    const length = view.getUint32(at, true);
    const body = at + NLMSG_HEADER_BYTES;
    const end = at + length;
    if (length < NLMSG_HEADER_BYTES || end > view.byteLength) break;
    if (view.getUint16(at + 4, true) === SOCK_DIAG_BY_FAMILY && end >= body + MESSAGE_BODY) {
      const isV6 = view.getUint8(body) === AF_INET6;
      if (isV6) address.readV6(view, body + 8);
      else address.readV4(view, body + 8);
      const only = isV6 ? findAttribute(view, body + MESSAGE_BODY, end, INET_DIAG_SKV6ONLY) : -1;
      sockets.push({
        proto,
        family: address.isV4 ? 4 : 6,
        ip: address.toString(),
        port: view.getUint16(body + 4),
        v6only: only >= 0 && view.getUint8(only) !== 0,
        device: view.getUint32(body + 40, true),
        uid: view.getUint32(body + 64, true),
        inode: view.getUint32(body + 68, true),
      });
    }
    at += align(length);
  }
  return sockets;
}
