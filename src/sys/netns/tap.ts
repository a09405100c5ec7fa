/**
 * Opening a TAP or TUN device and telling it what we can take over: virtio-net headers in front of every frame, so that
 * the guest hands over (and accepts) super-segments without checksums at any MTU.
 *
 * Read: Linux Documentation/networking/tuntap.rst and include/uapi/linux/if_tun.h; virtio 1.2 §5.1.6 for the header.
 * The ioctl(2) numbers are those of the generic encoding (x86, arm, riscv). Runs only in the short-lived helper.
 * Left out on purpose: several queues; the data plane is one thread and reads one queue.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { addressOf, errno, libcFunction } from '../libc.ts';

const TUNSETIFF = 0x400454ca;
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
export const INTERFACE_NAME_MAX = 15;

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

/** One opened /dev/net/tun. Calls return 0 or −errno; the descriptor stays open until `close`. */
export class TapDevice {
  readonly fd: number;
  // Larger than 64 bytes, so V8 keeps it off its moving heap and the address stays valid.
  private readonly request = new Uint8Array(new ArrayBuffer(4096));
  private readonly view = new DataView(this.request.buffer);
  private readonly address = addressOf(this.request.buffer);
  private readonly ioctl = libcFunction('ioctl', 'int', ['int', 'ulong', 'uintptr_t']);

  /** Throws the system error of open(2). */
  constructor(path = '/dev/net/tun') {
    this.fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  }

  /** Attach to `name`, which is created when it does not exist. */
  attach(name: string, flags: number): number {
    if (name.length > INTERFACE_NAME_MAX) throw new RangeError('interface name too long');
    this.request.fill(0, 0, IFREQ_BYTES);
    for (let i = 0; i < name.length; i++) this.request[i] = name.charCodeAt(i) & 0x7f;
    this.view.setUint16(IFREQ_FLAGS, flags, true);
    return this.call(TUNSETIFF, this.address);
  }

  /** The flags the device really has, or −errno. */
  flags(): number {
    this.request.fill(0, 0, IFREQ_BYTES);
    const result = this.call(TUNGETIFF, this.address);
    return result < 0 ? result : this.view.getUint16(IFREQ_FLAGS, true);
  }

  /** Declare the offloads we can take. They are ours for as long as we are attached. */
  setOffload(bits: number): number {
    return this.call(TUNSETOFFLOAD, bits);
  }

  /** Fix the header length, which a former owner of a persistent device may have changed. */
  setVnetHeaderSize(): number {
    this.view.setInt32(0, VNET_HEADER_BYTES, true);
    return this.call(TUNSETVNETHDRSZ, this.address);
  }

  close(): void {
    closeSync(this.fd);
  }

  private call(command: number, argument: number): number {
    const result = this.ioctl(this.fd, command, argument);
    return result < 0 ? -errno() : result;
  }
}
