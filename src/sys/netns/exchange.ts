/**
 * Calls that need rights over a network namespace, made by a process inside that has them (`open_device` in
 * bin/broker.pl), at the other end of a socket that keeps messages apart. Netlink messages go there and come back as they
 * are, so that the socket stands for a netlink socket; orders begin with a word of zero, which no netlink message does,
 * and are answered by an errno.
 *
 * Nobody waits here: what is to be done is a generator that yields a message and is given the answer; `null` asks for one
 * more answer to the last. How the messages travel is for whoever runs it (device/device-opening.ts).
 */

import { EPROTO } from '../errno.ts';

export type Exchange<T> = Generator<Uint8Array | null, T, DataView>;

/** Zero word and letter. */
const PREFIX_BYTES = 5;
const ANSWER_BYTES = 4;

function* order(letter: string, content: Uint8Array): Exchange<number> {
  const bytes = new Uint8Array(PREFIX_BYTES + content.length);
  bytes[PREFIX_BYTES - 1] = letter.charCodeAt(0);
  bytes.set(content, PREFIX_BYTES);
  const answer = yield bytes;
  return answer.byteLength === ANSWER_BYTES ? -answer.getInt32(0, true) : -EPROTO;
}

/** TUNSETIFF, on the descriptor that was sent, with a `struct ifreq`. 0 or `-errno`. */
export function orderAttach(ifreq: Uint8Array): Exchange<number> {
  return order('T', ifreq);
}

/** Write a setting of /proc/sys/net/ipv6/conf. 0 or `-errno`. */
export function orderSetting(name: string, setting: string, value: string): Exchange<number> {
  return order('S', new TextEncoder().encode(`${name}/${setting} ${value}`));
}
