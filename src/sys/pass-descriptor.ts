/** A descriptor from another process, by SCM_RIGHTS (unix(7), cmsg(3)), through a socket that both have. */
import { CMSGHDR_SIZE } from './control-message.ts';
import { EPROTO } from './errno.ts';
import { errno, libcFunction } from './libc.ts';
import { IOVEC_SIZE, type Memory } from './memory.ts';
import { MSGHDR_SIZE, putMsghdr, SOL_SOCKET } from './socket.ts';

// Unlike that of sys/socket this one may block: the other side has begun to send when it is called.
const cRecvmsg = libcFunction('recvmsg', 'intptr_t', ['int', 'uintptr_t', 'int']);

const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** One header and one int, padded to 8 bytes. */
const CONTROL_BYTES = CMSGHDR_SIZE + 8;

/** Room that is needed. */
export const PASS_SCRATCH_BYTES: number = CONTROL_BYTES + 8;

/** The descriptor that comes next through `socket`, close-on-exec, or `-errno`. */
export function receiveDescriptor(memory: Memory, scratch: number, socket: number): number {
  const { structures } = memory;
  const msghdr = structures.region(MSGHDR_SIZE);
  const iovec = structures.region(IOVEC_SIZE);
  memory.putIovec(iovec, 0, scratch + CONTROL_BYTES, 1);
  putMsghdr(memory, msghdr, 0, 0, iovec, 1, scratch, CONTROL_BYTES);
  const at = scratch;
  memory.putSize(at, 0);
  const received = cRecvmsg(socket, structures.address(msghdr, MSGHDR_SIZE), MSG_CMSG_CLOEXEC);
  if (received < 0) return -errno();
  const { view } = memory;
  const isDescriptor =
    view.getUint32(at, true) === CMSGHDR_SIZE + 4 &&
    view.getUint32(at + 8, true) === SOL_SOCKET &&
    view.getUint32(at + 12, true) === SCM_RIGHTS;
  return received === 1 && isDescriptor ? view.getInt32(at + 16, true) : -EPROTO;
}
