/**
 * Memory for the arguments of system calls: socket addresses in the arena, message headers and I/O vectors among the
 * structures. One set for all flows, because nothing in it outlives the call it was filled for.
 */
import type { Endpoint } from '../../config.ts';
import type { Parts } from '../../stack/buffer/byte-queue.ts';
import type { Slab } from '../../stack/buffer/slab.ts';
import { IpAddress } from '../../stack/wire/address.ts';
import { IOVEC_SIZE, type Memory } from '../../sys/memory.ts';
import {
  AF_INET,
  AF_INET6,
  MSGHDR_SIZE,
  msghdrControlLength,
  putMsghdr,
  putSockaddr4,
  putSockaddr6,
  putSockaddrUnix,
  SOCKADDR_SIZE,
  SOCKADDR_UN_SIZE,
} from '../../sys/socket.ts';

export const MAX_IOVECS = 128;

export class HostScratch {
  readonly memory: Memory;
  /** A socket address, and room for the length behind it. */
  readonly sockaddr: number;
  readonly option: number;
  /** These two are offsets into `memory.structures`. */
  readonly msghdr: number;
  readonly iovec: number;
  readonly control: number;
  readonly controlSize = 256;
  /** Bytes for small messages built by hand (headers to quote, DNS answers). */
  readonly message: number;
  readonly messageSize = 4096;
  sockaddrLength = 0;

  constructor(slab: Slab, memory: Memory) {
    this.memory = memory;
    this.sockaddr = slab.region(SOCKADDR_UN_SIZE + 10);
    this.option = slab.region(16);
    this.msghdr = memory.structures.region(MSGHDR_SIZE);
    this.iovec = memory.structures.region(IOVEC_SIZE * MAX_IOVECS);
    this.control = slab.region(this.controlSize);
    this.message = slab.region(this.messageSize);
  }

  /** Write the socket address of (`address`, `port`); `sockaddrLength` tells its size. */
  putAddress(address: IpAddress, port: number, scopeId: number): void {
    this.sockaddrLength = address.isV4
      ? putSockaddr4(this.memory, this.sockaddr, address.w3, port)
      : putSockaddr6(
          this.memory,
          this.sockaddr,
          address.w0,
          address.w1,
          address.w2,
          address.w3,
          port,
          scopeId,
        );
  }

  /** As `putAddress`, for the unix socket at `path` (at most `UNIX_PATH_MAX` bytes). */
  putUnixPath(path: string): void {
    this.sockaddrLength = putSockaddrUnix(this.memory, this.sockaddr, Buffer.from(path));
  }

  /** Write the message header for one datagram into `size` bytes at `buffer`: its sender to `sockaddr`, the rest to `control`. */
  putReceive(buffer: number, size: number): void {
    this.memory.putIovec(this.iovec, 0, buffer, size);
    putMsghdr(
      this.memory,
      this.msghdr,
      this.sockaddr,
      SOCKADDR_SIZE,
      this.iovec,
      1,
      this.control,
      this.controlSize,
    );
  }

  /** Bytes of ancillary data that came with it. */
  get receivedControl(): number {
    return Math.min(msghdrControlLength(this.memory, this.msghdr), this.controlSize);
  }

  /** Write the I/O vector of `parts`. */
  putParts(parts: Parts): void {
    for (let i = 0; i < parts.count; i++) {
      this.memory.putIovec(this.iovec, i, parts.offset[i] as number, parts.length[i] as number);
    }
  }
}

/** Read the socket address at `at` into `out`; its port, or -1 for another family. */
export function readSockaddr(memory: Memory, at: number, out: IpAddress): number {
  const view = memory.view;
  const family = view.getUint16(at, true);
  if (family === AF_INET) {
    out.setV4(view.getUint32(at + 4));
    return view.getUint16(at + 2);
  }
  if (family === AF_INET6) {
    out.readV6(view, at + 8);
    return view.getUint16(at + 2);
  }
  return -1;
}

/** The socket address of `length` bytes at `at` as plain data; unnamed unix sockets are the empty string. */
export function readEndpoint(memory: Memory, at: number, length: number): Endpoint {
  const address = new IpAddress();
  const port = readSockaddr(memory, at, address);
  if (port >= 0) return { address: address.toString(), port };
  const bytes = new Uint8Array(memory.view.buffer, at + 2, Math.max(0, length - 2));
  const end = bytes.indexOf(0);
  return { address: Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString(), port: 0 };
}
