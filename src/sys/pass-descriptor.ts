/**
 * Messages of a unix socket that keeps them apart, each with descriptors of another process or none (SCM_RIGHTS, unix(7),
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

const STRUCTURE_BYTES = MSGHDR_SIZE + IOVEC_SIZE + 16;

export class MessageSocket {
  /** Whose it is, is the caller's business. */
  readonly fd: number;
  readonly #memory: Memory;
  readonly #size: number;
  /** Of a header and the descriptors, padded to 8 bytes. */
  readonly #controlSize: number;
  readonly #msghdr: number;
  readonly #iovec: number;
  /** Close-on-exec, of the last message. Whoever takes one has to close it. */
  #descriptors: number[] = [];
  /** The last message. */
  content: DataView = new DataView(new ArrayBuffer(0));

  /**
   * @param size bytes of the longest message
   * @param most descriptors that may come with one
   */
  constructor(fd: number, size: number, most = 1) {
    this.fd = fd;
    this.#size = size;
    this.#controlSize = CMSGHDR_SIZE + ((most * 4 + 7) & ~7);
    this.#memory = new Memory(new ArrayBuffer(this.#controlSize + size), STRUCTURE_BYTES);
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
    const controlSize = this.#controlSize;
    memory.putIovec(this.#iovec, 0, controlSize, this.#size);
    putMsghdr(memory, this.#msghdr, 0, 0, this.#iovec, 1, 0, controlSize);
    memory.putSize(0, 0);
    const flags = MSG_CMSG_CLOEXEC | (waits ? 0 : MSG_DONTWAIT);
    const length = cRecvmsg(this.fd, structures.address(this.#msghdr, MSGHDR_SIZE), flags);
    if (length < 0) return -errno();
    const areDescriptors = view.getUint32(8, true) === SOL_SOCKET && view.getUint32(12, true) === SCM_RIGHTS;
    const end = areDescriptors ? Math.min(view.getUint32(0, true), controlSize) : 0;
    this.#descriptors = [];
    for (let at = CMSGHDR_SIZE; at + 4 <= end; at += 4) this.#descriptors.push(view.getInt32(at, true));
    this.content = new DataView(view.buffer, controlSize, length);
    return length;
  }

  /** 0 or `-errno`. */
  send(message: Uint8Array): number {
    const { view } = this.#memory;
    new Uint8Array(view.buffer).set(message, this.#controlSize);
    const address = this.#memory.address(this.#controlSize, message.length);
    return cSend(this.fd, address, message.length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno() : 0;
  }

  /** Takes the next descriptor of the last message, which is the caller's then; -1: there is none. */
  take(): number {
    return this.#descriptors.shift() ?? -1;
  }

  /** Nobody wants those that are left. */
  drop(): void {
    for (let fd = this.take(); fd >= 0; fd = this.take()) close(fd);
  }
}
