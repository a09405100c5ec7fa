/**
 * A command line of `pasta` that is well-formed. What takes a look at the host (interfaces, routes, resolv.conf) or has a
 * grammar of its own (ports) is still text here.
 */

/** Whose network it is. */
export type PastaTarget =
  /** In namespaces that are made for it. Empty: the user's shell. `netnsOnly`: without a user namespace. */
  | { kind: 'command'; command: string[]; netnsOnly: boolean }
  /** `usernsPath` empty: without one. */
  | { kind: 'process'; pid: number; usernsPath: string }
  | { kind: 'path'; netnsPath: string; usernsPath: string };

/** An address that is copied from the host (`''`), is not wanted (`none`), or is this one. */
export type MappedAddress = string;

/** What is to be had of one family; addresses as literals, empty = not given. */
export interface PastaFamily {
  enabled: boolean;
  /** `-a`. */
  address: string;
  /** `-a ADDR/LEN` or `-n`; 0 = as the host has it. */
  prefixLength: number;
  gateway: string;
  /** Source of outbound sockets, and the interface that they are bound to. */
  outbound: string;
  outboundInterface: string;
  dnsForward: string;
  dnsHost: string;
  /** Empty: the gateway. */
  mapHostLoopback: MappedAddress;
  /** Empty: none. */
  mapGuestAddress: MappedAddress;
}

/** The guest's network. */
export interface PastaNetwork {
  ipv4: PastaFamily;
  ipv6: PastaFamily;
  /** `-i`: the interface whose addresses and routes are copied; empty = by the routes. */
  template: string;
  /** `-I`: what the TAP is called; empty = as the template, else `tap0`. */
  name: string;
  /** 0 = is neither set nor announced. */
  mtu: number;
  /** Ours. */
  mac: string;
  /** The guest's; empty = the kernel's choice. */
  guestMac: string;
  /** Addresses and routes are set inside; otherwise the TAP is made and left as it is. */
  configure: boolean;
  copyRoutes: boolean;
  copyAddresses: boolean;
  tcp: boolean;
  udp: boolean;
  icmp: boolean;
  dhcp: boolean;
  dhcpv6: boolean;
  ndp: boolean;
  ra: boolean;
  /** `-D`: null = as resolv.conf says; none in it = nothing about DNS at all. */
  dns: string[] | null;
  /** `-S`: null = as resolv.conf says. */
  search: string[] | null;
  dhcpDns: boolean;
  dhcpSearch: boolean;
  hostname: string;
  fqdn: string;
}

export type PortOption = '-t' | '-u' | '-T' | '-U';

/** Ports: specifications as they were given, in the order of the command line. */
export interface PastaPorts {
  specs: { option: PortOption; text: string }[];
  freebind: boolean;
  /** `--host-lo-to-ns-lo`. */
  loopbackToLoopback: boolean;
  /** Loopback connections go from socket to socket. */
  splice: boolean;
  /** `-c`; empty: none. */
  controlPath: string;
}

export interface PastaConfig {
  target: PastaTarget;
  /** The end of the namespace's file or process ends us. */
  quitsWithNamespace: boolean;
  verbosity: 'quiet' | 'normal' | 'debug' | 'trace';
  foreground: boolean;
  /** Seconds between lines of statistics at least; 0 = none. */
  statsSeconds: number;
  /** Empty: none. */
  logFile: string;
  logSize: number;
  pidFile: string;
  pcapPath: string;
  /** As it was given; empty: nobody, when root has started us. */
  runAs: string;
  /** An attached TAP of the caller's, or -1. */
  fd: number;
  /** No TAP: loopback connections alone. */
  spliceOnly: boolean;
  network: PastaNetwork;
  ports: PastaPorts;
}

const noFamily: PastaFamily = {
  enabled: true,
  address: '',
  prefixLength: 0,
  gateway: '',
  outbound: '',
  outboundInterface: '',
  dnsForward: '',
  dnsHost: '',
  mapHostLoopback: '',
  mapGuestAddress: '',
};

/** 2^16 - 1 less an Ethernet header, rounded down to what a TAP takes. */
export const DEFAULT_MTU = 65520;
export const DEFAULT_MAC = '9a:55:9a:55:9a:55';
const LOG_SIZE = 1024 * 1024;

/** Of a command line without options. */
export function plainConfig(): PastaConfig {
  return {
    target: { kind: 'command', command: [], netnsOnly: false },
    quitsWithNamespace: true,
    verbosity: 'normal',
    foreground: false,
    statsSeconds: 0,
    logFile: '',
    logSize: LOG_SIZE,
    pidFile: '',
    pcapPath: '',
    runAs: '',
    fd: -1,
    spliceOnly: false,
    network: {
      ipv4: { ...noFamily },
      ipv6: { ...noFamily },
      template: '',
      name: '',
      mtu: DEFAULT_MTU,
      mac: DEFAULT_MAC,
      guestMac: '',
      configure: false,
      copyRoutes: true,
      copyAddresses: true,
      tcp: true,
      udp: true,
      icmp: true,
      dhcp: true,
      dhcpv6: true,
      ndp: true,
      ra: true,
      dns: null,
      search: null,
      dhcpDns: false,
      dhcpSearch: false,
      hostname: '',
      fqdn: '',
    },
    ports: {
      specs: [],
      freebind: false,
      loopbackToLoopback: false,
      splice: true,
      controlPath: '',
    },
  };
}
