/** Bytes on a unix socket, with descriptors beside them (SCM_RIGHTS). */
import { controlSpace, putControlMessage } from '../../src/sys/control-message.ts';
import { errno, libcFunction } from '../../src/sys/libc.ts';
import { IOVEC_SIZE, Memory } from '../../src/sys/memory.ts';
import { MSGHDR_SIZE, putMsghdr, SOL_SOCKET } from '../../src/sys/socket.ts';

const cSendmsg = libcFunction('sendmsg', 'intptr_t', ['int', 'uintptr_t', 'int']);
const SCM_RIGHTS = 1;

export function sendDescriptors(socket: number, bytes: Uint8Array, fds: readonly number[]): void {
  const control = controlSpace(4 * fds.length);
  const memory = new Memory(new ArrayBuffer(control + bytes.length), MSGHDR_SIZE + IOVEC_SIZE + 16);
  const msghdr = memory.structures.region(MSGHDR_SIZE);
  const iovec = memory.structures.region(IOVEC_SIZE);
  const data = putControlMessage(memory, 0, SOL_SOCKET, SCM_RIGHTS, 4 * fds.length);
  for (const [i, fd] of fds.entries()) memory.view.setInt32(data + 4 * i, fd, true);
  new Uint8Array(memory.view.buffer).set(bytes, control);
  memory.putIovec(iovec, 0, control, bytes.length);
  putMsghdr(memory, msghdr, 0, 0, iovec, 1, 0, control);
  const n = cSendmsg(socket, memory.structures.address(msghdr, MSGHDR_SIZE), 0);
  if (n !== bytes.length) throw new Error(`sendmsg: ${n}, errno ${errno()}`);
}
