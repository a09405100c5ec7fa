/**
 * Several guests on one Ethernet: a switch that learns who is where. Each guest has a port, a link around its link, and keeps
 * its own stack behind it: what is for the gateway goes there, what is for a neighbour to the neighbour's link.
 *
 * A link address belongs to the port that it came from first, until that port's link is down or was silent for 300 s; nobody
 * else can claim it, and nobody ours (gvisor-tap-vsock gives it to whoever sends last). Groups are flooded, multicast like
 * broadcast, so that IPv6 finds its neighbours: 1,000 frames a second for each port. An isolated port has no neighbours.
 *
 * What a neighbour cannot take is lost, as with any switch.
 */

import type { GuestSpec } from '../config.ts';
import { DeviceError } from '../device-error.ts';
import type { Slab } from '../stack/buffer/slab.ts';
import { OwnAddresses } from '../stack/ip/own-addresses.ts';
import { TxFrame } from '../stack/link/link.ts';
import { RateLimit } from '../stack/rate-limit.ts';
import { DropReason } from '../stack/wire/drop-reason.ts';
import { ETHERNET_HEADER_LEN } from '../stack/wire/ethernet.ts';
import { EINVAL } from '../sys/errno.ts';
import type { DeviceLink, EndReason, LinkOwner, LinkServices, RxFrame } from './device-link.ts';

const SILENT_MS = 300_000;
const FLOOD_RATE = 1000;
const FLOOD_BURST = 1000;
/** Addresses that a port may have. */
const ADDRESSES_MAX = 64;
/** Frames in a row that were not for the guest's own stack. */
const PASSED_MAX = 64;
const MAC_BYTES = 6;
/** An Ethernet header, and room in front of it for what a link has there. */
const HEAD_BYTES = 64;

/** Where an address is, and when it was last heard. */
interface Station {
  port: SwitchPort;
  heardMs: number;
}

export class Switch {
  readonly #ports = new Set<SwitchPort>();
  /** By link address, as a number of 48 bits. */
  readonly #stations = new Map<number, Station>();
  /** One that is sent on: header and body apart, since the link may write in front. */
  readonly #frame = new TxFrame();
  readonly #head: number;

  /** `head`: offset of `HEAD_BYTES` of the arena. */
  constructor(head: number) {
    this.#head = head + HEAD_BYTES - ETHERNET_HEADER_LEN;
    this.#frame.headOffset = this.#head;
    this.#frame.headLength = ETHERNET_HEADER_LEN;
  }

  /** `link`, as a port of this switch. `ownMac`: that of the guest's gateway. */
  join(link: DeviceLink, services: LinkServices, ownMac: number, isolated: boolean): SwitchPort {
    const port = new SwitchPort(this, link, services, ownMac, isolated);
    this.#ports.add(port);
    return port;
  }

  leave(port: SwitchPort): void {
    this.forget(port);
    this.#ports.delete(port);
  }

  /** Whoever was behind that port may be anywhere now. */
  forget(port: SwitchPort): void {
    for (const [mac, station] of this.#stations) if (station.port === port) this.#stations.delete(mac);
  }

  /** Whether `mac` is at `port`, from now on if nobody else has it. */
  learn(port: SwitchPort, mac: number, nowMs: number): boolean {
    const station = this.#stations.get(mac);
    if (station === undefined) {
      if (port.addresses >= ADDRESSES_MAX) return false;
      port.addresses++;
      this.#stations.set(mac, { port, heardMs: nowMs });
      return true;
    }
    if (station.port !== port) {
      if (nowMs - station.heardMs < SILENT_MS) return false;
      station.port.addresses--;
      port.addresses++;
      station.port = port;
    }
    station.heardMs = nowMs;
    return true;
  }

  /** The neighbour of `port` that has `mac`. */
  find(port: SwitchPort, mac: number): SwitchPort | null {
    const station = this.#stations.get(mac);
    return station === undefined || station.port === port || station.port.isolated ? null : station.port;
  }

  flood(from: SwitchPort, offset: number, length: number): void {
    for (const port of this.#ports)
      if (port !== from && !port.isolated) this.pass(port, offset, length, from.bytes);
  }

  pass(to: SwitchPort, offset: number, length: number, bytes: Uint8Array): void {
    const frame = this.#frame;
    bytes.copyWithin(this.#head, offset, offset + ETHERNET_HEADER_LEN);
    frame.parts.count = 0;
    frame.payloadLength = length - ETHERNET_HEADER_LEN;
    if (frame.payloadLength > 0) frame.parts.add(offset + ETHERNET_HEADER_LEN, frame.payloadLength);
    to.deliver(frame);
  }
}

/** The switches of a data plane, by name. */
export class Switches {
  readonly #slab: Slab;
  readonly #byName = new Map<string, Switch>();

  constructor(slab: Slab) {
    this.#slab = slab;
  }

  /** `link`, at the switch that `spec` names, if any. @throws DeviceError */
  join(
    link: DeviceLink,
    { network, addresses, behavior }: Pick<GuestSpec, 'network' | 'addresses' | 'behavior'>,
    services: LinkServices,
  ): DeviceLink {
    if (network === undefined) return link;
    if (link.medium !== 'ethernet')
      throw new DeviceError('link', EINVAL, `what is at switch ${network.name} has to be Ethernet`);
    const found = this.#byName.get(network.name) ?? new Switch(this.#slab.region(HEAD_BYTES));
    this.#byName.set(network.name, found);
    const { macHi, macLo } = new OwnAddresses(addresses, behavior);
    return found.join(link, services, macHi * 0x1_0000_0000 + macLo, network.isolated);
  }
}

export class SwitchPort implements DeviceLink, LinkOwner {
  /** How many the switch knows here. */
  addresses = 0;
  readonly isolated: boolean;
  readonly bytes: Uint8Array;
  readonly #switch: Switch;
  readonly #link: DeviceLink;
  readonly #services: LinkServices;
  readonly #ownMac: number;
  readonly #floods = new RateLimit(FLOOD_RATE, FLOOD_BURST);
  #owner: LinkOwner | null = null;

  constructor(network: Switch, link: DeviceLink, services: LinkServices, ownMac: number, isolated: boolean) {
    this.#switch = network;
    this.#link = link;
    this.#services = services;
    this.#ownMac = ownMac;
    this.isolated = isolated;
    this.bytes = services.frames.slab.bytes;
  }

  get medium(): 'ethernet' | 'ip' {
    return this.#link.medium;
  }

  get mtu(): number {
    return this.#link.mtu;
  }

  get checksumOffload(): boolean {
    return false;
  }

  get tso(): boolean {
    return false;
  }

  get uso(): boolean {
    return false;
  }

  get full(): boolean {
    return this.#link.full;
  }

  get isLocal(): boolean {
    return this.#link.isLocal;
  }

  open(owner: LinkOwner): number {
    this.#owner = owner;
    return this.#link.open(this);
  }

  receive(index: number, frame: RxFrame): number {
    for (let i = 0; i < PASSED_MAX; i++) {
      const result = this.#link.receive(index, frame);
      if (result <= 0) return result;
      const verdict = this.#judge(frame);
      if (verdict !== 0) return verdict;
    }
    return 0;
  }

  transmit(frame: TxFrame): number {
    return this.#link.transmit(frame);
  }

  /** From a neighbour. */
  deliver(frame: TxFrame): void {
    if (frame.payloadLength > this.mtu || this.#link.full) return;
    this.#link.transmit(frame);
    this.#services.touched();
  }

  refreshMtu(): void {
    this.#link.refreshMtu();
  }

  flush(): void {
    this.#link.flush();
  }

  close(): void {
    this.#owner = null;
    this.#switch.leave(this);
    this.#link.close();
  }

  onFrames(): void {
    this.#owner?.onFrames();
  }

  onMtu(): void {
    this.#owner?.onMtu();
  }

  onUnsent(frames: number): void {
    this.#owner?.onUnsent(frames);
  }

  onGone(reason: EndReason, text: string): void {
    this.#switch.leave(this);
    this.#owner?.onGone(reason, text);
  }

  onDown(reason: EndReason, text: string): void {
    this.#switch.forget(this);
    this.addresses = 0;
    this.#owner?.onDown(reason, text);
  }

  onUp(peer: string): void {
    this.#owner?.onUp(peer);
  }

  /** Pass on what is for neighbours. 1: the guest's own stack has it too; 0: not; or a reason why nobody has. */
  #judge({ offset, length }: RxFrame): number {
    // What is no frame is counted by the stack, and so is what claims to be the gateway's.
    if (length < ETHERNET_HEADER_LEN || this.isolated) return 1;
    const { nowMs } = this.#services.clock;
    const to = this.#address(offset);
    const from = this.#address(offset + MAC_BYTES);
    if (from === this.#ownMac || isGroup(from)) return 1;
    if (!this.#switch.learn(this, from, nowMs)) return DropReason.LinkMac;
    if (isGroup(to)) {
      if (this.#floods.allow(nowMs)) this.#switch.flood(this, offset, length);
      return 1;
    }
    const neighbor = to === this.#ownMac ? null : this.#switch.find(this, to);
    if (neighbor === null) return 1;
    this.#switch.pass(neighbor, offset, length, this.bytes);
    return 0;
  }

  #address(at: number): number {
    const { view } = this.#services.frames.slab;
    return view.getUint16(at) * 0x1_0000_0000 + view.getUint32(at + 2);
  }
}

/** The lowest bit of the first byte. */
function isGroup(mac: number): boolean {
  return Math.floor(mac / 0x100_0000_0000) % 2 === 1;
}
