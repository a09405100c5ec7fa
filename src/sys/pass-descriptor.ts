/**
 * Messages of a unix socket that keeps them apart, each with a descriptor of another process or none (SCM_RIGHTS, unix(7),
 * cmsg(3)), in memory of their own.
 */
import { CMSGHDR_SIZE } from './control-message.ts';
import { close } from './io.ts';
import { errno, libcFunction } from './libc.ts';
import { IOVEC_SIZE, Memory } from './memory.ts';
import { MSG_DONTWAIT, MSGHDR_SIZE, putMsghdr, SOL_SOCKET } from './socket.ts';

const cSend = libcFunction('send', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);
const cRecvmsg = libcFunction('recvmsg', 'intptr_t', ['int', 'uintptr_t', 'int']);

const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
const MSG_NOSIGNAL = 0x4000;

/** One header and one int, padded to 8 bytes. */
const CONTROL_BYTES = CMSGHDR_SIZE + 8;
const STRUCTURE_BYTES = MSGHDR_SIZE + IOVEC_SIZE + 16;

export class MessageSocket {
  /** Whose it is, is the caller's business. */
  readonly fd: number;
  readonly #memory: Memory;
  readonly #size: number;
  readonly #msghdr: number;
  readonly #iovec: number;
  /** Close-on-exec, of the last message; -1 = it had none. Whoever takes it has to close it. */
  descriptor = -1;
  /** The last message. */
  content: DataView = new DataView(new ArrayBuffer(0));

  /** @param size bytes of the longest message */
  constructor(fd: number, size: number) {
    this.fd = fd;
    this.#size = size;
    this.#memory = new Memory(new ArrayBuffer(CONTROL_BYTES + size), STRUCTURE_BYTES);
    this.#msghdr = this.#memory.structures.region(MSGHDR_SIZE);
    this.#iovec = this.#memory.structures.region(IOVEC_SIZE);
  }

  get text(): string {
    const { buffer, byteOffset, byteLength } = this.content;
    return Buffer.from(buffer, byteOffset, byteLength).toString('latin1');
  }

  /** Bytes of the next message, 0 at the end of the stream, or `-errno`; where `waits`, there will be one. */
  receive(waits = false): number {
    const memory = this.#memory;
    const { structures, view } = memory;
    memory.putIovec(this.#iovec, 0, CONTROL_BYTES, this.#size);
    putMsghdr(memory, this.#msghdr, 0, 0, this.#iovec, 1, 0, CONTROL_BYTES);
    memory.putSize(0, 0);
    const flags = MSG_CMSG_CLOEXEC | (waits ? 0 : MSG_DONTWAIT);
    const length = cRecvmsg(this.fd, structures.address(this.#msghdr, MSGHDR_SIZE), flags);
    if (length < 0) return -errno();
    const isDescriptor =
      view.getUint32(0, true) === CMSGHDR_SIZE + 4 &&
      view.getUint32(8, true) === SOL_SOCKET &&
      view.getUint32(12, true) === SCM_RIGHTS;
    this.descriptor = isDescriptor ? view.getInt32(16, true) : -1;
    this.content = new DataView(view.buffer, CONTROL_BYTES, length);
    return length;
  }

  /** 0 or `-errno`. */
  send(message: Uint8Array): number {
    const { view } = this.#memory;
    new Uint8Array(view.buffer).set(message, CONTROL_BYTES);
    const address = this.#memory.address(CONTROL_BYTES, message.length);
    return cSend(this.fd, address, message.length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno() : 0;
  }

  /** Takes the descriptor of the last message, which is the caller's then. */
  take(): number {
    const { descriptor } = this;
    this.descriptor = -1;
    return descriptor;
  }

  /** Nobody wants it. */
  drop(): void {
    if (this.descriptor >= 0) close(this.take());
  }
}
