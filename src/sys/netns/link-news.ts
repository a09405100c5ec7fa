/**
 * News of one interface over a NETLINK_ROUTE socket of the guest's network namespace: what MTU it has now.
 *
 * Read: rtnetlink(7), netlink(7). Every change of a link is told to the members of the group RTNLGRP_LINK, in a message of
 * its own that describes the link as RTM_GETLINK does. So a question, asked at the start and when news were lost, is
 * answered like news.
 *
 * The sender is not looked at: whoever can send to this socket from inside the namespace can set the MTU as well.
 * A message longer than the region is cut; the MTU is among the first attributes.
 */
import type { Descriptor } from '../descriptor.ts';
import type { Memory } from '../memory.ts';
import {
  attributeLength,
  findAttribute,
  IFINFO_BYTES,
  IFLA_MTU,
  NLM_F_REQUEST,
  NLMSG_HEADER_BYTES,
  putRequest,
  RTM_GETLINK,
  RTM_NEWLINK,
} from '../netlink-message.ts';
import { recv, send, setsockoptInt } from '../socket.ts';

const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const RTNLGRP_LINK = 1;

/** What an interface can have at all, by the protocols: RFC 791, and the length field of IPv4. */
const MTU_MIN = 68;
const MTU_MAX = 65535;

/** The MTU that the RTM_NEWLINK message at `offset` says of link `index`, 68 to 65535; 0: it says nothing of it. */
export function readLinkMtu(view: DataView, offset: number, length: number, index: number): number {
  const attributes = offset + NLMSG_HEADER_BYTES + IFINFO_BYTES;
  const end = offset + Math.min(length, view.byteLength - offset);
  if (attributes > end) return 0;
  if (view.getUint16(offset + 4, true) !== RTM_NEWLINK) return 0;
  if (view.getInt32(offset + NLMSG_HEADER_BYTES + 4, true) !== index) return 0;
  const declared = offset + view.getUint32(offset, true);
  const mtu = findAttribute(view, attributes, Math.min(end, declared), IFLA_MTU);
  if (mtu < 0 || attributeLength(view, mtu) < 4) return 0;
  return Math.max(MTU_MIN, Math.min(MTU_MAX, view.getUint32(mtu, true)));
}

export class LinkNews {
  readonly #descriptor: Descriptor;
  readonly #memory: Memory;
  readonly #region: number;
  readonly #size: number;
  readonly #index: number;

  /** Needs the `size` arena bytes at `region`, aligned to 4, for the length of a call: a few hundred will do. */
  constructor(descriptor: Descriptor, index: number, memory: Memory, region: number, size: number) {
    this.#descriptor = descriptor;
    this.#index = index;
    this.#memory = memory;
    this.#region = region;
    this.#size = size;
  }

  get fd(): number {
    return this.#descriptor.fd;
  }

  close(): void {
    this.#descriptor.close();
  }

  /** From now on there are news. 0 or `-errno`. */
  join(): number {
    const scratch = this.#region;
    return setsockoptInt(this.#memory, this.fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, RTNLGRP_LINK, scratch);
  }

  /** Have the link described. 0 or `-errno`: the answer, which comes as news, needs room in the socket. */
  ask(): number {
    const { view } = this.#memory;
    const at = this.#region;
    const length = putRequest(view, at, RTM_GETLINK, NLM_F_REQUEST, 0, IFINFO_BYTES);
    view.setInt32(at + NLMSG_HEADER_BYTES + 4, this.#index, true);
    return Math.min(send(this.#memory, this.fd, at, length), 0);
  }

  /** Take one message without waiting: the link's MTU, 0 when it was about something else, or `-errno`. */
  receive(): number {
    const length = recv(this.#memory, this.fd, this.#region, this.#size);
    return length < 0 ? length : readLinkMtu(this.#memory.view, this.#region, length, this.#index);
  }
}
