/** What comes by a unix stream socket, with descriptors of other processes (SCM_RIGHTS, unix(7), cmsg(3)). */
import { CMSGHDR_SIZE } from './control-message.ts';
import { errno, libcFunction } from './libc.ts';
import { IOVEC_SIZE, Memory } from './memory.ts';
import { MSG_DONTWAIT, MSGHDR_SIZE, putMsghdr, SOL_SOCKET } from './socket.ts';

const cRecvmsg = libcFunction('recvmsg', 'intptr_t', ['int', 'uintptr_t', 'int']);

const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
const DATA_BYTES = 65536;
/** What comes beyond that with one message, the kernel closes. */
export const PASSED_MAX = 16;
const CONTROL_BYTES = CMSGHDR_SIZE + 4 * PASSED_MAX;
const STRUCTURE_BYTES = MSGHDR_SIZE + IOVEC_SIZE + 16;

export class PassingSocket {
  readonly fd: number;
  readonly #memory = new Memory(new ArrayBuffer(CONTROL_BYTES + DATA_BYTES), STRUCTURE_BYTES);
  readonly #msghdr: number = this.#memory.structures.region(MSGHDR_SIZE);
  readonly #iovec: number = this.#memory.structures.region(IOVEC_SIZE);
  /** Of the last message, close-on-exec; whoever receives has to close them. */
  passed: number[] = [];
  /** The last bytes, until the next `receive`. */
  content: Buffer = Buffer.alloc(0);

  /** Whose it is, is the caller's business. */
  constructor(fd: number) {
    this.fd = fd;
  }

  /** Bytes that have come, 0 at the end of the stream, or `-errno`. Never waits. */
  receive(): number {
    const memory = this.#memory;
    const { structures, view } = memory;
    memory.putIovec(this.#iovec, 0, CONTROL_BYTES, DATA_BYTES);
    putMsghdr(memory, this.#msghdr, 0, 0, this.#iovec, 1, 0, CONTROL_BYTES);
    memory.putSize(0, 0);
    const address = structures.address(this.#msghdr, MSGHDR_SIZE);
    const length = cRecvmsg(this.fd, address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0) return -errno();
    this.passed = [];
    const isPassing = view.getUint32(8, true) === SOL_SOCKET && view.getUint32(12, true) === SCM_RIGHTS;
    const end = isPassing ? Math.min(view.getUint32(0, true), CONTROL_BYTES) : 0;
    for (let at = CMSGHDR_SIZE; at + 4 <= end; at += 4) this.passed.push(view.getInt32(at, true));
    this.content = Buffer.from(view.buffer, CONTROL_BYTES, length);
    return length;
  }
}
