/**
 * Calls that need rights over a network namespace, made by a process inside that has them (`open_device` in
 * bin/launcher.pl), at the other end of a socket that keeps messages apart. Netlink messages go there and come back as they
 * are, so that the socket stands for a netlink socket; orders begin with a word of zero, which no netlink message does,
 * and are answered by an errno.
 *
 * Start-up code: each call waits for its answer.
 */
import { errno, libcFunction } from '../libc.ts';
import { Memory } from '../memory.ts';

const cSend = libcFunction('send', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);
const cRecv = libcFunction('recv', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);

/** Zero word and letter. */
const PREFIX_BYTES = 5;
const ANSWER_BYTES = 4;
const EPROTO = 71;

function order(socket: number, letter: string, content: Uint8Array): number {
  const length = PREFIX_BYTES + content.length;
  const memory = new Memory(new ArrayBuffer(length + ANSWER_BYTES));
  const bytes = new Uint8Array(memory.view.buffer);
  bytes[PREFIX_BYTES - 1] = letter.charCodeAt(0);
  bytes.set(content, PREFIX_BYTES);
  if (cSend(socket, memory.address(0, length), length, 0) < 0) return -errno();
  const received = cRecv(socket, memory.address(length, ANSWER_BYTES), ANSWER_BYTES, 0);
  if (received < 0) return -errno();
  return received === ANSWER_BYTES ? -memory.view.getInt32(length, true) : -EPROTO;
}

/** TUNSETIFF, on the descriptor that was sent, with a `struct ifreq`. 0 or `-errno`. */
export function orderAttach(socket: number, ifreq: Uint8Array): number {
  return order(socket, 'T', ifreq);
}

/** Write a setting of /proc/sys/net/ipv6/conf. 0 or `-errno`. */
export function orderSetting(socket: number, name: string, setting: string, value: string): number {
  return order(socket, 'S', new TextEncoder().encode(`${name}/${setting} ${value}`));
}
