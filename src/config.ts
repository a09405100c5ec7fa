/**
 * The one validated configuration. Every front end turns its arguments into a `Config`; nothing past this point reads
 * command lines. Plain data throughout: what the data-plane thread needs of it is posted as it is.
 */
import type { DeviceSpec, InterfaceWish, LinkTarget, TunnelDevice, WebSocketTarget } from './device-spec.ts';
import type { PolicySpec } from './firewall/verdict.ts';
import type { GuestBehavior } from './profiles.ts';
import type { AddressPlan } from './stack/ip/own-addresses.ts';
import type { Endpoint } from './stack/wire/address.ts';

export type { AddressPlan } from './stack/ip/own-addresses.ts';
export type { Endpoint } from './stack/wire/address.ts';

/** Bounds on what a data plane may hold for all its guests together. */
export interface ProcessLimits {
  /** Bytes of packet memory. */
  memoryTotal: number;
  /** Descriptors kept back from guest flows, for control. */
  fdReserve: number;
}

export const processLimits: ProcessLimits = { memoryTotal: 512 * 1024 * 1024, fdReserve: 64 };

/** Bounds on what one guest may hold. Each is a number a hostile guest will try to exceed. */
export interface Limits {
  /** TCP flows of all states except TIME-WAIT. Beyond it a SYN is answered with RST. */
  tcpMaxFlows: number;
  /** Host connects in progress, in all and to one destination. Beyond it a SYN is answered with RST. */
  tcpMaxPendingDials: number;
  tcpMaxPendingDialsPerDestination: number;
  /** Handshakes that the guest does not complete; the oldest gives way. */
  tcpMaxHalfOpen: number;
  /**
   * Most bytes one flow buffers in each direction. What the host does not take at once is copied and kept: more would cost
   * memory and gain nothing on a link without delay.
   */
  tcpBufferPerFlow: number;
  /** The same where the link has congestion control: 200 Mbit/s need 5 MB at a round trip of 200 ms. */
  tcpBufferPerFarFlow: number;
  /** Its part of the time when guests compete: 100 = as much as any other. */
  weight: number;
  /** Bytes of packet memory that all flows hold together. */
  memoryMax: number;
  /** Out-of-order ranges kept per flow. */
  tcpOutOfOrderRanges: number;
  /** UDP mappings; the least recently used one gives way. */
  udpMaxFlows: number;
  pingMaxFlows: number;
  fragMaxBytes: number;
  fragMaxDatagrams: number;
  fragMaxParts: number;
  neighborMax: number;
  /** ICMP errors per second and how many may come at once. */
  icmpErrorRate: number;
  icmpErrorBurst: number;
  /** DNS queries that wait for an answer; the oldest gives way. */
  dnsMaxOutstanding: number;
  /** Questions for the address of a forward's target that wait. */
  namesMax: number;
  /** Flows and refusals that are told of in a second, and five times as many at once. */
  toldPerSecond: number;
}

/** For the only guest of a process. */
export const defaultLimits: Limits = {
  tcpMaxFlows: 16384,
  tcpMaxPendingDials: 4096,
  tcpMaxPendingDialsPerDestination: 256,
  tcpMaxHalfOpen: 4096,
  tcpBufferPerFlow: 1024 * 1024,
  tcpBufferPerFarFlow: 8 * 1024 * 1024,
  weight: 100,
  memoryMax: 512 * 1024 * 1024,
  tcpOutOfOrderRanges: 128,
  udpMaxFlows: 4096,
  pingMaxFlows: 1024,
  fragMaxBytes: 4 * 1024 * 1024,
  fragMaxDatagrams: 256,
  // 65,507 bytes at MTU 576 come in 119 parts.
  fragMaxParts: 128,
  neighborMax: 256,
  icmpErrorRate: 100,
  icmpErrorBurst: 50,
  dnsMaxOutstanding: 4096,
  namesMax: 1024,
  toldPerSecond: 1000,
};

/** For each of several guests of a data plane. */
export const sharedLimits: Limits = {
  ...defaultLimits,
  tcpMaxFlows: 4096,
  udpMaxFlows: 1024,
  pingMaxFlows: 256,
  tcpMaxPendingDialsPerDestination: 128,
  memoryMax: 64 * 1024 * 1024,
  namesMax: 64,
  toldPerSecond: 100,
};

export const defaultAddresses: AddressPlan = {
  guest4: '10.0.2.100',
  prefix4: 24,
  lease4: '10.0.2.100',
  gateway4: '10.0.2.2',
  dns4: '10.0.2.3',
  ipv6: true,
  guest6: 'fd00::100',
  prefix6: 64,
  gateway6: 'fd00::2',
  dns6: 'fd00::3',
};

/** The host's end of a forward: an address and port, or a unix socket (stream for TCP, datagram for UDP). */
export type HostEnd = ({ kind: 'ip' } & Endpoint) | { kind: 'unix'; path: string };

/** A host end that a remote forward connects to. A name is resolved for each flow, by the control plane. */
export type HostTarget = HostEnd | { kind: 'name'; label: string; port: number };

/**
 * Whom the guest sees as the client of a local forward. `client`: the real one, with the port that it has. An address: that
 * one, whoever it is. Empty: the real client's address with a port of ours. Where a client's own address cannot be shown, the
 * gateway's.
 */
export type ForwardSource = string;

export interface PortSpan {
  ports: number;
  /** Those that cannot be had are left out, as long as there is one that can; otherwise that is an error. */
  leniently: boolean;
}

/** A service of the guest, published on the host. Plain data, checked by the front end. */
export interface LocalForwardSpec {
  protocol: 'tcp' | 'udp';
  /** Port 0 = the kernel chooses. */
  listen: HostEnd;
  /** An IPv6 wildcard `listen` takes IPv4 clients as well. */
  dualStack: boolean;
  /** Interface that clients come by; not given: any. */
  device?: string;
  /** So many ports, each leading as far from the target's as it is from that of `listen`; not given: one. */
  span?: PortSpan;
  /**
   * Port 0 = the port the client contacted, or the destination port of its proxy header. No address: the guest's own, of the
   * client's family.
   */
  target: Endpoint;
  /** Clients begin with a header that names the real client: PROXY protocol v1 or v2 (TCP), SPP (UDP). */
  proxyHeader: boolean;
  /** UDP: the flow ends with the first answer. */
  rpc: boolean;
  source: ForwardSource;
  /** The service is not there yet: clients are reset, datagrams dropped. */
  isIdle: boolean;
  /** Not given: all clients come to the guest through its stack, unless `target` is on its loopback. */
  splice?: Splice;
}

/**
 * Clients on the host's loopback are led past the stack, from socket to socket, the second one made in the guest's namespace
 * (`GuestConfig.hasInside`): to `target`, whose address there may be one of its loopback, or to the loopback address that they
 * contacted (`same`). Where `target` is on loopback nobody else gets there: other clients are reset.
 */
export type Splice = 'target' | 'same';

/** A service of the host, at an address and port on the guest's side. */
export interface RemoteForwardSpec {
  protocol: 'tcp' | 'udp';
  /** Any address the guest routes to us; port 0 is a port like any other for UDP. */
  bind: Endpoint;
  target: HostTarget;
  /** TCP: version of the PROXY protocol header that the host service is sent first; 0 = none. */
  proxyHeader: 0 | 1 | 2;
  rpc: boolean;
  /**
   * Given: `bind` is listened on in the guest's namespace (`GuestConfig.hasInside`), on this interface or, if empty, on any, and
   * its clients are led past the stack. `bind` may be loopback then, or a wildcard. Port 0 = the guest's kernel chooses.
   */
  inside?: { device: string };
}

export type ForwardSpec =
  | ({ direction: 'local' } & LocalForwardSpec)
  | ({ direction: 'remote' } & RemoteForwardSpec);

/**
 * How TCP towards the guest deals with the network in between. `none` where there is none: a TAP or TUN on this machine.
 * Everything else also gets windows for a long way. `auto`: none on a TAP or TUN, cubic on a packet socket, of which
 * nobody knows where it leads.
 */
export type Congestion = 'auto' | 'none' | 'newReno' | 'cubic';

/** As every tool expects it, or as slirpnetstack writes it. */
export type CaptureFormat = 'pcap' | 'slirpnetstack';

/** An Ethernet that several guests share. */
export interface NetworkSpec {
  name: string;
  /** The guest has no neighbours there, only its gateway. */
  isolated: boolean;
}

/** `host`, an address of the host's, is known to the guest as `guest`. Both of one family. */
export interface AddressMapping {
  guest: string;
  host: string;
}

/** What a guest that configures itself is told, besides addresses. */
export interface Announcements {
  dhcp: boolean;
  dhcpv6: boolean;
  ra: boolean;
  /** One address for whoever asks, for ever; otherwise one for each, for a day. */
  oneLease: boolean;
  /** Resolvers; null: those of the host. */
  dns: string[] | null;
  search: boolean;
  /** The guest's; empty: nothing is said of it. */
  hostname: string;
  fqdn: string;
}

export interface Silence {
  tcp: boolean;
  udp: boolean;
  /** Echo requests. */
  icmp: boolean;
  /** Neighbour solicitations. */
  ndp: boolean;
}

export interface GuestSpec {
  device: DeviceSpec;
  /** Its packets are for somebody at the other end of this: nothing else here is looked at. Null: they end with us. */
  tunnel: TunnelDevice | null;
  /** Not given: its link is its own. */
  network?: NetworkSpec;
  limits: Limits;
  addresses: AddressPlan;
  /** Addresses that stand for the host's, besides what `behavior` has of them; the first counts. */
  mappings?: readonly AddressMapping[];
  policy: PolicySpec;
  behavior: GuestBehavior;
  congestion: Congestion;
  /** Source addresses of host sockets towards the outside, as literals; empty = the kernel chooses. */
  source4: string;
  source6: string;
  /** Interface that host sockets towards the outside are bound to; empty = where routes lead. */
  outboundInterface: string;
  /** Another for IPv6. */
  outboundInterface6?: string;
  /** Answer DNS at the DNS addresses. */
  dns: boolean;
  /** Answer DHCP and router solicitations. */
  autoconfiguration: boolean;
  /** How, where it is otherwise than usual. */
  announcements?: Announcements;
  /** What of the guest's is dropped without a word. */
  silent?: Silence;
  /** Capture file, or empty. */
  pcapPath: string;
  pcapFormat: CaptureFormat;
}

/** How resolv.conf(5) wants servers asked. */
export interface ResolverOptions {
  /** Of one server, and how often each is asked. */
  timeoutMs: number;
  attempts: number;
  /** Queries begin with another server each time. */
  rotate: boolean;
  /** Queries go by TCP, whatever the guest asks by. */
  useTcp: boolean;
}

export const defaultResolverOptions: ResolverOptions = {
  timeoutMs: 5000,
  attempts: 2,
  rotate: false,
  useTcp: false,
};

export interface NameOptions {
  /** How long an answer is used, ms; 0 = for one flow. */
  ttlMs: number;
  /** A name may lead to a reserved address (loopback, link-local) although the hosts file does not say so. */
  allowReserved: boolean;
}

export const defaultNames: NameOptions = { ttlMs: 5000, allowReserved: false };

/** A port of the host that is kept for a service of the guest. */
export interface PortMap {
  protocol: 'tcp' | 'udp';
  /** Where the host listens; empty: everywhere. */
  host: string;
  /** 0: chosen. */
  hostPort: number;
  /** Where the service listens, or `*`: anywhere. */
  guest: string;
  guestPort: number;
  source: ForwardSource;
  /** As it was written. */
  text: string;
}

/**
 * How the services of a guest get ports of the host. Plain data, checked by the front end.
 */
export interface PublishSpec {
  /** Bound from the start. */
  maps: PortMap[];
  /** What they were read from; empty: there are none. */
  mapsFrom: string;
  /** A port of a map that is in use is waited for; otherwise that is an error. */
  waitsForMaps: boolean;
  /** Somebody finds services, and a map leads nowhere until its service is there; otherwise that counts as there. */
  findsServices: boolean;
  source: ForwardSource;
  /** Where chosen ports are bound, on all of these or on none: literals. */
  bind: string[];
  /** The guest's port number or none. */
  exact: boolean;
  /** Services that have a port at a time, besides those of maps. */
  max: number;
  /** A wildcard service gets a port for each address of the guest's that is known, as with Penguin. */
  perAddress: boolean;
  /** File that keeps which port a service had; empty: none. */
  statePath: string;
}

export const defaultPublish: PublishSpec = {
  maps: [],
  mapsFrom: '',
  waitsForMaps: false,
  findsServices: false,
  source: '',
  bind: ['127.0.0.1', '::1'],
  exact: false,
  max: 256,
  perAddress: false,
  statePath: '',
};

/** Both ends belong to it. */
export interface PortRange {
  first: number;
  last: number;
}

/** A rule of pasta's: ports that lead to the other side, one by one. Addresses are literals as `IpAddress` writes them. */
export interface PortRule {
  protocol: 'tcp' | 'udp';
  /** Where it is listened; empty: on all addresses of both families, by one socket. */
  address: string;
  /** Interface that clients come by; empty: any. */
  device: string;
  range: PortRange;
  /** Empty: whoever is on the other side, at an address of the client's family. */
  targetAddress: string;
  /** Where the first port leads; the others lead as far from there. */
  targetPort: number;
  /** Ports that cannot be had are left out; otherwise that is an error. */
  bestEffort: boolean;
  /** A port is listened on for as long as somebody listens on what it leads to. */
  auto: boolean;
}

/** What rules of ports can be about. */
export interface PortScope {
  ipv4: boolean;
  ipv6: boolean;
  tcp: boolean;
  udp: boolean;
  /** Numbers that the system gives to sockets that ask for none. */
  ephemeral: PortRange;
}

/** Ports of each side that lead to the other. */
export interface PortRulesSpec {
  /** Of the host. */
  host: PortRule[];
  /** Of the guest's loopback, to that of the host. */
  splice: PortRule[];
  scope: PortScope;
  /** Where clients on the host's loopback are led past the stack; null: they come by the stack like others. */
  loopback: Splice | null;
  /** Socket at which rules are changed; empty: none. */
  controlPath: string;
}

/** Which services of a guest become forwards by themselves. */
export interface AutoForwardSpec {
  tcp: boolean;
  udp: boolean;
  /** Ports of the guest's that are meant; none: all. */
  only: PortRange[];
  except: PortRange[];
  /** Services on the guest's loopback are meant, too. */
  loopback: boolean;
  /** Between two looks, ms. */
  intervalMs: number;
}

/** A guest as whoever wants one describes it. */
export interface GuestConfig extends Omit<GuestSpec, 'device'> {
  /** What it is called in the log, the flow log and events: `[a-z0-9][a-z0-9._-]{0,127}`. */
  name: string;
  /** Where it is. */
  target: RunTarget | AttachTarget | LinkTarget | WebSocketTarget;
  interface: InterfaceWish;
  /** In the order of the command line, which is the order in which they are opened and announced. */
  forwards: ForwardSpec[];
  /** Ports of the host for services as they come; null: none. */
  publish: PublishSpec | null;
  /** Services are looked for in the guest's namespace, and published; null: they are not. */
  autoForward: AutoForwardSpec | null;
  /** Not given: no port leads anywhere by rules. */
  portRules?: PortRulesSpec;
  /** Somebody of ours stays in the guest's namespace and makes sockets there, for forwards that are spliced. */
  hasInside: boolean;
  /** He changes addresses and routes there when the host's change. */
  changesRoutes?: boolean;
  /** How remote forwards find targets that are given by name. */
  targetNames: NameOptions;
  /** DNS servers by configuration; empty = follow the host's resolv.conf. */
  dnsServers: string[];
  /** Domains for short names, by DHCP and router advertisements; null = follow the host's resolv.conf. */
  dnsSearch: string[] | null;
}

/** The only guest of a process. */
export const ONLY_GUEST = 'g0';

/** What a guest is without a word about it; a front end says what there is to it, and what of this is otherwise. */
export const defaultGuest: Omit<GuestConfig, 'target' | 'interface' | 'policy' | 'behavior'> = {
  name: ONLY_GUEST,
  limits: defaultLimits,
  addresses: defaultAddresses,
  tunnel: null,
  congestion: 'auto',
  source4: '',
  source6: '',
  outboundInterface: '',
  dns: true,
  dnsServers: [],
  dnsSearch: [],
  autoconfiguration: true,
  pcapPath: '',
  pcapFormat: 'pcap',
  forwards: [],
  publish: null,
  autoForward: null,
  hasInside: false,
  targetNames: defaultNames,
};

/** What is the same for all guests. */
export interface ProcessConfig {
  limits: ProcessLimits;
  /** -1 = none. */
  readyFd: number;
  exitFd: number;
  /** Data on `exitFd` is an end as well as its closing. */
  exitOnData: boolean;
  logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
  api: ApiSpec;
  /** Every flow and refusal. */
  flowLog: OutputSpec;
  /** What appears in the guest and on the host because of it; the path may be that of a unix socket, too. */
  events: OutputSpec;
  /** Services that are to be published, from a file or a pipe (expose/bridge-line.ts). */
  forwardEvents: OutputSpec;
  /** Directory for the files of expose/out-files.ts; empty = none. */
  outDirectory: string;
  sandbox: SandboxSpec;
}

export interface Config {
  process: ProcessConfig;
  guest: GuestConfig;
}

/** Descriptors that the process was given for purposes of its own. */
export function ownDescriptors(config: ProcessConfig): number[] {
  const { readyFd, exitFd, flowLog, events, forwardEvents } = config;
  return [readyFd, exitFd, flowLog.fd, events.fd, forwardEvents.fd].filter((fd) => fd >= 0);
}

/** Where lines go, or come from: a file, or an inherited descriptor. Neither: nowhere. */
export interface OutputSpec {
  path: string;
  fd: number;
}

export const noOutput: OutputSpec = { path: '', fd: -1 };

export function isWanted({ path, fd }: OutputSpec): boolean {
  return path !== '' || fd >= 0;
}

/** The control socket. */
export interface ApiSpec {
  /** Empty = none. */
  path: string;
  /** A request of this many bytes is refused. */
  requestMax: number;
  /** Note every request on stderr, as slirp4netns does. */
  echo: boolean;
}

/** What the process gives up before it says that it is ready. */
export interface SandboxSpec {
  /** A mount tree of its own with next to nothing in it, and no capability that is not needed. */
  mountTree: boolean;
  /** Nothing is loaded late: neither our modules nor the system's libraries stay in the tree. */
  minimal: boolean;
  /** A system call filter for all threads. */
  seccomp: boolean;
  /** What cannot be had is an error; otherwise it is left out. */
  required: boolean;
}

export interface RunTarget {
  kind: 'run';
  command: string[];
  /** Its user namespace has the sub-ids of our user too, not only him. */
  mapAuto: boolean;
}

export interface AttachTarget {
  kind: 'attach';
  /** Process whose namespaces are meant, or 0 when a path was given. */
  pid: number;
  netnsPath: string;
  /** User namespace beside it, or empty: the one that the network belongs to is found without. */
  usernsPath: string;
}
