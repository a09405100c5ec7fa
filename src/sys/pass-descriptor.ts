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

const IOVEC = MSGHDR_SIZE + 8;
const CONTROL = IOVEC + IOVEC_SIZE;
/** One header and one int, padded to 8 bytes. */
const CONTROL_BYTES = CMSGHDR_SIZE + 8;
const PAYLOAD = CONTROL + CONTROL_BYTES;

/** Room that is needed. */
export const PASS_SCRATCH_BYTES = 128;

/** The descriptor that comes next through `socket`, close-on-exec, or `-errno`. */
export function receiveDescriptor(memory: Memory, scratch: number, socket: number): number {
  memory.putIovec(scratch + IOVEC, 0, scratch + PAYLOAD, 1);
  putMsghdr(memory, scratch, 0, 0, scratch + IOVEC, 1, scratch + CONTROL, CONTROL_BYTES);
  const at = scratch + CONTROL;
  memory.putSize(at, 0);
  const received = cRecvmsg(socket, memory.address(scratch, PASS_SCRATCH_BYTES), MSG_CMSG_CLOEXEC);
  if (received < 0) return -errno();
  const { view } = memory;
  const isDescriptor =
    view.getUint32(at, true) === CMSGHDR_SIZE + 4 &&
    view.getUint32(at + 8, true) === SOL_SOCKET &&
    view.getUint32(at + 12, true) === SCM_RIGHTS;
  return received === 1 && isDescriptor ? view.getInt32(at + 16, true) : -EPROTO;
}
