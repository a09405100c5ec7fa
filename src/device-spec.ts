/** Where a guest's packets come from, as data: an interface with how it is set up, or a link and its other end. */
import type { PrefixSpec } from './firewall/prefix.ts';
import type { Endpoint } from './stack/wire/address.ts';

/** An address of an interface, usable at once. */
export interface InterfaceAddress {
  address: string;
  prefixLength: number;
  /** The other end of a link with two; else empty. */
  peer: string;
  /** Its network has no route because of it. */
  noPrefixRoute: boolean;
}

export interface NextHop {
  /** Empty: everybody is on the link. Of another family than the route, if need be. */
  gateway: string;
  /** 1 to 256. */
  weight: number;
  /** The gateway is taken to be on the link, whatever the addresses say. */
  onLink: boolean;
}

/** A unicast route by an interface. */
export interface InterfaceRoute {
  /** The unspecified address for a default route. */
  destination: string;
  prefixLength: number;
  nextHops: NextHop[];
  /** 0: the family's own. */
  metric: number;
  /** Numbers of rtnetlink(7). */
  protocol: number;
  scope: number;
  /** Source address for what goes by it; empty: none is named. */
  source: string;
}

export interface InterfaceNetwork {
  addresses: InterfaceAddress[];
  /** In whatever order: one whose router is reached by another comes after that. */
  routes: InterfaceRoute[];
}

/** How an interface is obtained and configured, beyond its addresses. */
export interface InterfaceSetup {
  /** What it is given instead of addresses and default routes of the plan; null: those. */
  network: InterfaceNetwork | null;
  /** Without `configure`, the MAC address is set and lo brought up all the same. */
  prepare: boolean;
  /** Make the interface when it is missing; otherwise that is an error. */
  create: boolean;
  /** What is made: a TAP or a TUN. */
  medium: Medium;
  /** MAC address as text; empty = the kernel's choice. */
  mac: string;
  /** IPv6 address and route come from router advertisements; otherwise we set them and turn advertisements off. */
  ipv6ByAdvertisement: boolean;
  /** The interface keeps the flag MULTICAST. */
  multicast: boolean;
  /** Super-segments are taken over from the kernel; otherwise no frame is longer than the MTU. */
  segmentation: boolean;
  /** Checksums may be left to us; otherwise every packet is whole as it comes. */
  offloads: boolean;
  /** What leads to the interface besides its own networks; null: everything, by the gateways. */
  routes: PrefixSpec[] | null;
  /** Without `configure`, the interface keeps its MTU: `mtu` is then what the stack goes by, whatever the interface says. */
  keepMtu: boolean;
}

export const defaultSetup: InterfaceSetup = {
  network: null,
  prepare: false,
  create: true,
  medium: 'ethernet',
  mac: '',
  ipv6ByAdvertisement: false,
  multicast: true,
  segmentation: true,
  offloads: true,
  routes: null,
  keepMtu: false,
};

/** The interface inside the guest's network namespace. */
export interface InterfaceWish {
  name: string;
  /** MTU to configure; 0 = keep what the interface has (65520 for one that we create). */
  mtu: number;
  /** Create and configure the interface ('auto': only when it is missing). */
  configure: 'yes' | 'no' | 'auto';
  setup: InterfaceSetup;
}

/**
 * An interface of a network namespace that a process with threads cannot enter: another one sends the descriptors and does
 * what needs rights.
 */
export interface InterfaceDevice extends InterfaceWish {
  kind: 'interface';
  /** Number of the order to the broker by which that process is started, and told the namespace. */
  order: number;
}

/** What comes by a link: frames with an Ethernet header, or bare IP packets. */
export type Medium = 'ethernet' | 'ip';

/**
 * How frames are kept apart: one a packet; or on a stream, each behind its length, in 32 bits big-endian or 16 bits
 * little-endian.
 */
export type Framing = 'bare' | 'be32' | 'le16';

/** Where a socket of a link is. */
export type SocketPlace =
  | { family: 'unix'; path: string }
  | ({ family: 'ip' } & Endpoint)
  | { family: 'vsock'; cid: number; port: number };

/** What passes on a stream before the first frame. */
export type Greeting =
  | { kind: 'none' }
  /** Of hyperkit: hello, command, and what the network is like. */
  | { kind: 'vpnkit' }
  /** Of gvisor-tap-vsock: an HTTP request may come first. */
  | { kind: 'post' }
  /** To the port of a guest behind a virtual machine's unix socket. */
  | { kind: 'connect'; port: number };

/** What all links have whose other end comes and goes. */
interface PeerTarget {
  medium: Medium;
  framing: Framing;
  /** The guest ends with the first peer, and no other is waited for. */
  oneOff: boolean;
}

/** A descriptor of this process, found out what it is: an attached TAP or TUN, or a socket. */
export interface DescriptorTarget {
  kind: 'descriptor';
  fd: number;
  /** Where frames for the guest are written to, if elsewhere (pipes). */
  output?: number;
  /** If not as is usual for what it is. */
  medium?: Medium;
  framing?: Framing;
  /** The other end of a datagram socket is asked now and then whether it is there. */
  probe?: boolean;
  /** Of a listening socket: the guest outlives its first peer, and the next one is waited for. */
  multi?: boolean;
  /** Whose programs may connect to a listening unix socket, besides ours and root's. */
  allowUids?: number[];
  /** It stays somebody else's: the link has a duplicate. */
  isBorrowed?: boolean;
}

/** A socket that we listen on, for one peer at a time. */
export interface ListenTarget extends PeerTarget {
  kind: 'listen';
  type: 'stream' | 'seqpacket';
  at: SocketPlace;
  greeting: Greeting;
  /** Whose programs may connect to a unix socket, besides ours and root's. */
  allowUids: number[];
  /** The guest is not there before its first peer is. */
  awaited: boolean;
}

/** A socket that we connect to, until it is there. */
export interface DialTarget extends PeerTarget {
  kind: 'dial';
  type: 'stream' | 'seqpacket';
  at: SocketPlace;
  greeting: Greeting;
}

/** A datagram socket. `remote`: its peer; null: whoever sends first. */
export interface DatagramTarget extends PeerTarget {
  kind: 'datagram';
  local: SocketPlace;
  remote: SocketPlace | null;
}

/** A stream of frames behind 32-bit lengths that the data plane makes; its other end is `LinkInfo.otherEnd`. */
export interface HandedTarget {
  kind: 'handed';
}

/** A WebSocket that we listen on. Each client is a guest of its own, made after the one that this is the target of. */
export interface WebSocketTarget {
  kind: 'webSocket';
  at: SocketPlace;
  /** What clients ask for; with `/be32` behind it frames are a stream. */
  path: string;
  /** A message is a frame; or messages are pieces of a stream of frames, each behind its length. */
  framing: 'bare' | 'be32';
  /** Pages that may come besides those of the listener's own address; `*`: all. */
  origins: string[];
  /** What clients have to know; empty: nothing. */
  token: string;
  /** At a time. */
  clients: number;
}

/** A peer of WireGuard. Keys are 32 bytes. */
export interface WireGuardPeer {
  publicKey: Uint8Array<ArrayBuffer>;
  presharedKey: Uint8Array<ArrayBuffer> | null;
  /** Inner addresses that are its own; `bits` counts in the 128-bit form. */
  allowedIps: PrefixSpec[];
  /** Where it is to be found; null: it comes to us. */
  endpoint: Endpoint | null;
  /** 0 = none. */
  keepaliveSeconds: number;
}

/** One peer of a WireGuard interface; the others are guests too. */
export interface WireGuardTarget {
  kind: 'wireguard';
  /** What the interface is known by: guests with the same share it. */
  interface: string;
  privateKey: Uint8Array<ArrayBuffer>;
  /** 0 = the system's choice. */
  listenPort: number;
  peer: WireGuardPeer;
}

export type WireGuardDevice = WireGuardTarget & { mtu: number };

/** A peer of a tunnel whose datagrams are bare IP packets, without any proof of who has sent them. */
export interface TunnelTarget {
  kind: 'tunnel';
  /** Our end, which guests with the same share; port 0 = the system's choice, an empty address = all. */
  local: Endpoint;
  /** Where the peer is; null: whoever speaks for its addresses first, until it was silent for a while. */
  remote: Endpoint | null;
  /** Inner addresses that are its own; `bits` counts in the 128-bit form. */
  prefixes: PrefixSpec[];
  /** Seconds without a datagram of ours after which it is sent an empty one; 0 = never. */
  keepaliveSeconds: number;
  /** Others than programs of this host can send to it. */
  isExposed: boolean;
}

export type TunnelDevice = TunnelTarget & { mtu: number };

/** A descriptor that is there, or a socket whose other end comes and goes. */
export type SocketTarget = DescriptorTarget | ListenTarget | DialTarget | DatagramTarget;

/** All but interfaces. */
export type LinkTarget = SocketTarget | WireGuardTarget | TunnelTarget | HandedTarget;

/** `mtu` in bytes of IP packet; 0: as usual. */
export type LinkDevice = LinkTarget & { mtu: number };

/** Where the data plane gets the guest's packets. */
export type DeviceSpec = InterfaceDevice | LinkDevice;
