/** From what the control plane says about a device to a link that carries frames. */
import type { AddressPlan } from '../config.ts';
import { DeviceError } from '../device-error.ts';
import type { DescriptorTarget, DeviceSpec, Greeting, ListenTarget, SocketTarget } from '../device-spec.ts';
import { EINVAL, errnoText } from '../sys/errno.ts';
import { close } from '../sys/io.ts';
import { AF_UNIX, SOCK_STREAM, socketpair } from '../sys/socket.ts';
import { Borrowed } from './borrowed.ts';
import { DatagramPeers } from './datagram-peers.ts';
import type { DeviceLink, FrameLink, LinkServices } from './device-link.ts';
import type { OpenInterface } from './device-opening.ts';
import type { DeviceOpenings } from './device-openings.ts';
import { DialedPeers } from './dialed-peers.ts';
import { lookAtDescriptor } from './found-descriptor.ts';
import { connectGreeting, type GreetingSteps, postGreeting, vpnkitGreeting } from './greetings.ts';
import { ListeningPeers } from './listening-peers.ts';
import { attachedTap } from './open-interface.ts';
import { PeerLink } from './peer-link.ts';
import type { PeerSource } from './peer-source.ts';
import { SocketLink } from './socket-link.ts';
import { placeText } from './socket-place.ts';
import { StreamLink } from './stream-link.ts';
import { TapLink } from './tap-link.ts';
import type { TunnelInterfaces } from './tunnel-interfaces.ts';
import type { WireGuardInterfaces } from './wireguard-interfaces.ts';

/** MTU of a link for which none was given. */
const DEFAULT_MTU = 1500;
/**
 * Packets that the other end may have on their way to us: the kernel's own queue of a TAP that nobody changed, or what fits
 * into a unix socket's default buffer.
 */
const TAP_QUEUE = 500;
const SOCKET_QUEUE = 90;

/** What the link turned out to be. */
export interface LinkInfo {
  /** Name of the interface; empty for a descriptor that has none. */
  name: string;
  medium: 'ethernet' | 'ip';
  /** Bytes of IP packet. */
  mtu: number;
  /** Packets the device queues towards us before it drops. */
  txQueueLen: number;
  /** Of a link that is to be handed to somebody: the descriptor of its other end, which is theirs to close. */
  otherEnd?: number;
}

export interface OpenLink {
  link: DeviceLink;
  info: LinkInfo;
  /** What could not be had, one sentence each. */
  notes: string[];
  /** To be called when the link is closed. */
  giveBack?: () => void;
}

/** Who wants a link. */
export interface LinkOrder {
  /** Its other end is waited for, at `path`. */
  onWaiting(path: string): void;
  /** It is there, and whoever ordered it closes it from now on. */
  onOpen(opened: OpenLink): void;
  onFailure(error: DeviceError): void;
}

/** Those who have what several links of a data plane are opened with. */
export interface LinkOpeners {
  readonly interfaces: DeviceOpenings;
  /** Null where none was expected. */
  readonly wireguard: WireGuardInterfaces | null;
  readonly tunnels: TunnelInterfaces | null;
}

/** What waits for a link to be there. */
export interface PendingLink {
  /** Wait no longer. May be called at any time. */
  close(): void;
}

/** Open what `spec` says. What comes of it is told to `order`, now, or later: then there is something that waits. */
export function openLink(
  spec: DeviceSpec,
  plan: AddressPlan,
  services: LinkServices,
  openers: LinkOpeners,
  order: LinkOrder,
): PendingLink | null {
  if (spec.kind === 'interface') {
    return openers.interfaces.open(spec, plan, (opened) =>
      settle(order, () => {
        if (opened instanceof Error) throw opened;
        return interfaceLink(opened, services);
      }),
    );
  }
  if (spec.kind === 'wireguard') {
    settle(order, () => {
      if (openers.wireguard === null) throw new DeviceError('link', EINVAL, 'WireGuard was not loaded');
      return openers.wireguard.open(spec, services);
    });
    return null;
  }
  if (spec.kind === 'tunnel') {
    settle(order, () => {
      if (openers.tunnels === null) throw new DeviceError('link', EINVAL, 'the tunnel was not loaded');
      return openers.tunnels.open(spec, plan, services);
    });
    return null;
  }
  if (spec.kind === 'handed') {
    settle(order, () => handedLink(mtuOf(spec), services));
    return null;
  }
  if (spec.kind === 'listen' && spec.awaited) return awaitPeer(spec, services, order);
  settle(order, () =>
    spec.kind === 'descriptor' ? descriptorLink(spec, services) : peerLink(spec, services),
  );
  return null;
}

/** The guest comes with its peer, and its socket goes then. */
function awaitPeer(
  spec: ListenTarget & { mtu: number },
  services: LinkServices,
  order: LinkOrder,
): PendingLink | null {
  try {
    const peers = new ListeningPeers(services, spec);
    peers.start((fd) => {
      peers.close();
      settle(order, () => opened(linkOn(fd, spec, services), ''));
    });
    order.onWaiting(placeText(spec.at).replace(/^unix:/, ''));
    return peers;
  } catch (error) {
    order.onFailure(asDeviceError(error));
    return null;
  }
}

function settle(order: LinkOrder, open: () => OpenLink): void {
  let opened: OpenLink;
  try {
    opened = open();
  } catch (error) {
    order.onFailure(asDeviceError(error));
    return;
  }
  order.onOpen(opened);
}

function asDeviceError(error: unknown): DeviceError {
  if (error instanceof DeviceError) return error;
  return new DeviceError('link', 0, error instanceof Error ? error.message : String(error));
}

/** An interface that was opened for us. */
function interfaceLink(opened: OpenInterface, services: LinkServices): OpenLink {
  const { name, index, mtu, txQueueLen, notes, tun, netlink, ...properties } = opened;
  if (index === 0) close(netlink);
  const link = new TapLink(tun, { mtu, ...properties }, services, index === 0 ? -1 : netlink, index);
  return { link, info: { name, medium: link.medium, mtu, txQueueLen }, notes };
}

/** @throws DeviceError */
function handedLink(mtu: number, services: LinkServices): OpenLink {
  const { memory, frames } = services;
  const { scratch } = frames;
  const result = socketpair(memory, AF_UNIX, SOCK_STREAM, scratch);
  if (result < 0) throw new DeviceError('link', -result, `no pair of sockets: ${errnoText(result)}`);
  const [fd, otherEnd] = [memory.view.getInt32(scratch, true), memory.view.getInt32(scratch + 4, true)];
  const shape = { medium: 'ethernet', mtu, framing: 'be32' } as const;
  const { info, ...rest } = opened(new StreamLink({ input: fd, output: fd }, shape, services), '');
  return { ...rest, info: { ...info, otherEnd } };
}

type PeerDevice = Exclude<SocketTarget, DescriptorTarget> & { mtu: number };

function mtuOf({ mtu }: { mtu: number }): number {
  return mtu === 0 ? DEFAULT_MTU : mtu;
}

function opened(link: DeviceLink, name: string): OpenLink {
  return { link, info: { name, medium: link.medium, mtu: link.mtu, txQueueLen: SOCKET_QUEUE }, notes: [] };
}

/** What a socket that a peer is connected to makes. */
function linkOn(fd: number, spec: PeerDevice, services: LinkServices): FrameLink {
  const { medium, framing } = spec;
  const mtu = mtuOf(spec);
  if (framing !== 'bare')
    return new StreamLink({ input: fd, output: fd }, { medium, mtu, framing }, services);
  const isDatagram = spec.kind === 'datagram';
  return new SocketLink(fd, { medium, mtu, endsWithPeer: !isDatagram, probe: isDatagram }, services);
}

/** @throws DeviceError */
function peerLink(spec: PeerDevice, services: LinkServices): OpenLink {
  return peerLinkOf(sourceOf(spec, services), spec, services);
}

function peerLinkOf(source: PeerSource, spec: PeerDevice, services: LinkServices): OpenLink {
  const mtu = mtuOf(spec);
  const name = placeText(spec.kind === 'datagram' ? spec.local : spec.at);
  const link = new PeerLink(services, source, {
    ...{ name, mtu, medium: spec.medium, oneOff: spec.oneOff },
    greeting: spec.kind === 'datagram' ? null : greetingOf(spec.greeting, mtu),
    connect: (fd) => linkOn(fd, spec, services),
  });
  return opened(link, name);
}

function sourceOf(spec: PeerDevice, services: LinkServices): PeerSource {
  if (spec.kind === 'datagram') return new DatagramPeers(services, spec);
  return spec.kind === 'dial' ? new DialedPeers(services, spec) : new ListeningPeers(services, spec);
}

function greetingOf(greeting: Greeting, mtu: number): (() => GreetingSteps) | null {
  switch (greeting.kind) {
    case 'none':
      return null;
    case 'vpnkit':
      return () => vpnkitGreeting(mtu);
    case 'post':
      return postGreeting;
    case 'connect':
      return () => connectGreeting(greeting.port);
  }
}

/** @throws DeviceError */
function descriptorLink(spec: DescriptorTarget & { mtu: number }, services: LinkServices): OpenLink {
  if (spec.isBorrowed !== true) return takenLink(spec, services);
  const { fd, output = fd } = spec;
  const borrowed = new Borrowed([fd, output]);
  try {
    const own = { ...spec, fd: borrowed.of(fd), output: borrowed.of(output) };
    return { ...takenLink(own, services), giveBack: () => borrowed.giveBack() };
  } catch (error) {
    borrowed.drop();
    throw error;
  }
}

/** Look what the descriptor is, and take it. @throws DeviceError */
function takenLink(spec: DescriptorTarget & { mtu: number }, services: LinkServices): OpenLink {
  const { fd, output = fd, probe = false } = spec;
  const mtu = mtuOf(spec);
  const found = lookAtDescriptor(spec, services);
  switch (found.kind) {
    case 'tap': {
      const { notes, name, ...properties } = attachedTap(fd, mtu);
      const link = new TapLink(fd, properties, services);
      return { link, info: { name, medium: link.medium, mtu: link.mtu, txQueueLen: TAP_QUEUE }, notes };
    }
    case 'packets': {
      const { medium, endsWithPeer } = found;
      return opened(
        new SocketLink(fd, { medium, mtu, endsWithPeer, probe: probe && !endsWithPeer }, services),
        '',
      );
    }
    case 'listening': {
      const { multi = false, allowUids = [] } = spec;
      const { kind: _, ...shape } = found;
      const device = { ...shape, allowUids, oneOff: !multi, mtu };
      const peers = new ListeningPeers(services, { ...device, fd });
      return peerLinkOf(
        peers,
        { ...device, kind: 'listen', greeting: { kind: 'none' }, awaited: false },
        services,
      );
    }
    case 'stream': {
      const { medium, framing } = found;
      return opened(new StreamLink({ input: fd, output }, { medium, mtu, framing }, services), '');
    }
  }
}
