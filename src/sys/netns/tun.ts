/**
 * Telling an open /dev/net/tun what it is to be: which interface, and what we can take over from the kernel. With
 * virtio-net headers in front of every frame the guest hands over (and accepts) super-segments without checksums at any
 * MTU.
 *
 * Read: Linux Documentation/networking/tuntap.rst and include/uapi/linux/if_tun.h; virtio 1.2 §5.1.6 for the header.
 * The ioctl(2) numbers are those of the generic encoding (x86, arm, riscv). Calls return 0 or −errno.
 * The interface is one of the network namespace in which the descriptor was opened, and the rights that count are those
 * over that namespace: the descriptor may come from a process inside while the calls are made here.
 * Left out on purpose: several queues; the data plane is one thread and reads one queue.
 */
import { errno, libcFunction } from '../libc.ts';
import { Memory } from '../memory.ts';

const TUNGETIFF = 0x800454d2;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;

export const IFF_TUN = 0x0001;
export const IFF_TAP = 0x0002;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;

export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;

/** Longest interface name in bytes (IFNAMSIZ without the final NUL). */
const INTERFACE_NAME_MAX = 15;

/** struct virtio_net_hdr without num_buffers (virtio 1.2 §5.1.6), in bytes. */
const VNET_HEADER_BYTES = 10;

const IFREQ_BYTES = 40;
const IFREQ_FLAGS = 16;

/** What is asked of the kernel, richest first. USO needs Linux 6.2, ECN some older than that. */
export const offloadChoices: readonly number[] = [
  TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN | TUN_F_USO4 | TUN_F_USO6,
  TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
  TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
  TUN_F_CSUM,
];

const cIoctl = libcFunction('ioctl', 'int', ['int', 'ulong', 'uintptr_t']);

function call(fd: number, command: number, argument: number): number {
  const result = cIoctl(fd, command, argument);
  return result < 0 ? -errno() : result;
}

/** struct ifreq for TUNSETIFF: attach to `name`, which is created when it does not exist. */
export function attachRequest(name: string, flags: number): Uint8Array {
  if (name.length > INTERFACE_NAME_MAX) throw new RangeError('interface name too long');
  const request = new DataView(new ArrayBuffer(IFREQ_BYTES));
  for (let i = 0; i < name.length; i++) request.setUint8(i, name.charCodeAt(i) & 0x7f);
  request.setUint16(IFREQ_FLAGS, flags, true);
  return new Uint8Array(request.buffer);
}

/** One open /dev/net/tun, which stays the caller's. */
export class TunDevice {
  private readonly fd: number;
  private readonly memory = new Memory(new ArrayBuffer(4096));

  constructor(fd: number) {
    this.fd = fd;
  }

  /** The flags the device really has, or −errno (EBADFD when it is not attached). */
  flags(): number {
    const result = call(this.fd, TUNGETIFF, this.memory.address(0, IFREQ_BYTES));
    return result < 0 ? result : this.memory.view.getUint16(IFREQ_FLAGS, true);
  }

  /** Name of the interface; to be asked after `flags`. */
  get name(): string {
    let name = '';
    for (let i = 0; i < INTERFACE_NAME_MAX; i++) {
      const code = this.memory.view.getUint8(i);
      if (code === 0) break;
      name += String.fromCharCode(code);
    }
    return name;
  }

  /** Declare the offloads we can take. They are ours for as long as we are attached. */
  setOffload(bits: number): number {
    return call(this.fd, TUNSETOFFLOAD, bits);
  }

  /** Fix the header length, which a former owner of a persistent device may have changed. */
  setVnetHeaderSize(): number {
    this.memory.view.setInt32(0, VNET_HEADER_BYTES, true);
    return call(this.fd, TUNSETVNETHDRSZ, this.memory.address(0, 4));
  }
}
