/**
 * A TUN or TAP device as a `Link`: one read(2) per frame, one write(2) or writev(2) per frame out.
 *
 * With IFF_VNET_HDR every frame has a virtio-net header in front (`VNET_HEADER_LEN` bytes), by which the kernel leaves
 * checksums and segmentation to us and we to it: a frame may then be a super-segment of 64 KiB at any MTU.
 *
 * Where there is a netlink socket of the interface's namespace, the MTU is followed.
 */
import type { IoHandler } from '../loop.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { emitNoOffload, emitVnet, parseVnet, VNET_HEADER_LEN } from '../stack/wire/vnet-header.ts';
import { Descriptor } from '../sys/descriptor.ts';
import { EPOLLIN } from '../sys/epoll.ts';
import { EAGAIN, EBADFD, EINTR, ENODEV, errnoText } from '../sys/errno.ts';
import { LinkNews } from '../sys/netns/link-news.ts';
import type { DeviceLink, LinkOwner, LinkServices, RxFrame } from './device-link.ts';
import type { FrameIo } from './frame-io.ts';
import { FrameReader } from './frame-reader.ts';
import { LinkWatch } from './link-watch.ts';

/** How a device is to be spoken to. */
export interface TapProperties {
  medium: 'ethernet' | 'ip';
  /** Bytes of IP packet, as the interface says at first. */
  mtu: number;
  /** The device carries a virtio-net header on every frame. */
  vnetHeader: boolean;
  /** What the kernel accepted with TUNSETOFFLOAD. */
  checksumOffload: boolean;
  tso: boolean;
  uso: boolean;
}

export class TapLink implements DeviceLink, IoHandler {
  readonly medium: 'ethernet' | 'ip';
  /** Follows the interface. */
  mtu: number;
  readonly checksumOffload: boolean;
  readonly tso: boolean;
  readonly uso: boolean;
  readonly isLocal = true;
  readonly full = false;
  waiting = false;
  readonly #services: LinkServices;
  readonly #frames: FrameIo;
  readonly #slab: Slab;
  readonly #descriptor: Descriptor;
  readonly #reader: FrameReader;
  readonly #vnet: number;
  readonly #watch: LinkWatch | null;
  #owner: LinkOwner | null = null;
  #token = -1;

  /**
   * Takes over `fd`, which is non-blocking, and `netlink`: a NETLINK_ROUTE socket of the namespace in which the interface
   * is number `index`; -1: its MTU is not followed.
   */
  constructor(fd: number, properties: TapProperties, services: LinkServices, netlink = -1, index = 0) {
    this.#services = services;
    this.#frames = services.frames;
    this.#slab = services.frames.slab;
    this.#descriptor = new Descriptor(fd);
    this.#reader = new FrameReader(services, this.#descriptor);
    this.medium = properties.medium;
    this.mtu = properties.mtu;
    this.#vnet = properties.vnetHeader ? VNET_HEADER_LEN : 0;
    this.checksumOffload = properties.vnetHeader && properties.checksumOffload;
    this.tso = this.checksumOffload && properties.tso;
    this.uso = this.checksumOffload && properties.uso;
    this.#watch = netlink < 0 ? null : this.#follow(new Descriptor(netlink), index);
  }

  open(owner: LinkOwner): number {
    this.#owner = owner;
    this.#token = this.#services.poller.add(this.#descriptor.fd, EPOLLIN, this, true);
    if (this.#token < 0) return this.#token;
    const result = this.#watch === null ? 0 : this.#watch.start();
    if (result < 0)
      this.#services.log('warn', `changes of the interface's MTU are not followed: ${errnoText(result)}`);
    return 0;
  }

  onIo(): void {
    if (this.#owner === null) return;
    const result = this.#reader.run(this.#owner);
    if (result >= 0 || result === -EAGAIN || result === -EINTR) return;
    if (result === -EBADFD || result === -ENODEV) this.#owner?.onGone('error', 'the device was deleted');
    else this.#services.log('debug', `reading the device failed: ${errnoText(result)}`);
  }

  receive(index: number, frame: RxFrame): number {
    const n = this.#reader.read(index);
    if (n === 0) return 0;
    const vnet = this.#vnet;
    const slot = this.#frames.slot(index);
    frame.offset = slot + vnet;
    frame.length = n - vnet;
    if (vnet === 0) {
      frame.offload.flags = 0;
      frame.offload.gsoType = 0;
      return 1;
    }
    if (n < VNET_HEADER_LEN) return DropReason.VnetMalformed;
    const reason = parseVnet(this.#slab.view, slot, n - vnet, frame.offload);
    return reason < 0 ? reason : 1;
  }

  transmit(frame: TxFrame): number {
    const vnet = this.#vnet;
    const head = frame.headOffset - vnet;
    if (vnet > 0) {
      if (frame.offload.flags === 0) emitNoOffload(this.#slab.view, head);
      else this.#putOffload(frame, head);
    }
    return this.#frames.write(this.#descriptor.fd, frame, head, frame.headLength + vnet);
  }

  refreshMtu(): void {
    this.#watch?.onIo();
  }

  /** A device takes everything at once, or not at all. */
  flush(): void {
    return;
  }

  close(): void {
    this.#owner = null;
    this.#watch?.close();
    if (this.#token >= 0) this.#services.poller.remove(this.#token);
    this.#token = -1;
    this.#descriptor.close();
  }

  #follow(netlink: Descriptor, index: number): LinkWatch {
    const { memory, poller } = this.#services;
    return new LinkWatch(
      new LinkNews(netlink, index, memory, this.#frames.scratch, this.#frames.scratchSize),
      poller,
      (mtu) => {
        if (mtu === this.mtu) return;
        this.mtu = mtu;
        this.#owner?.onMtu();
      },
    );
  }

  #putOffload(frame: TxFrame, at: number): void {
    const offload = frame.offload;
    if (offload.gsoType === 0) {
      offload.gsoSize = 0;
      offload.hdrLen = 0;
    }
    emitVnet(this.#slab.view, at, offload);
  }
}
