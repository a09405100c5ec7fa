/**
 * From a well-formed pasta command line to a `Config` with that program's network. What the guest may reach is everything, as
 * with pasta: there, too, nothing stands between a container and what its host can reach.
 */
import {
  type AttachTarget,
  type Config,
  defaultGuest,
  type GuestConfig,
  noOutput,
  type PortRulesSpec,
  type ProcessConfig,
  processLimits,
} from '../../config.ts';
import { defaultSetup } from '../../device-spec.ts';
import { profiles } from '../../profiles.ts';
import { openRules } from '../open-world.ts';
import type { GuestNetwork } from './network.ts';
import type { PastaConfig, PastaTarget } from './pasta-config.ts';
import { portRules } from './ports.ts';

/** Throws `PastaError`. */
export function configuration(pasta: PastaConfig, guest: GuestNetwork): Config {
  return { process: processConfig(pasta), guest: guestConfig(pasta, guest) };
}

const LOG_LEVELS = { quiet: 'warn', normal: 'info', debug: 'debug', trace: 'trace' } as const;

function processConfig({ verbosity }: PastaConfig): ProcessConfig {
  return {
    limits: processLimits,
    readyFd: -1,
    exitFd: -1,
    exitOnData: false,
    logLevel: LOG_LEVELS[verbosity],
    api: { path: '', requestMax: 0, echo: false },
    flowLog: noOutput,
    events: noOutput,
    forwardEvents: noOutput,
    outDirectory: '',
    sandbox: { mountTree: true, minimal: false, seccomp: true, required: false },
  };
}

function guestConfig(pasta: PastaConfig, guest: GuestNetwork): GuestConfig {
  const { network, pcapPath } = pasta;
  const { mtu, configure, guestMac, mac, ipv4, ipv6, dns, search } = network;
  const { name, plan, inside, mappings } = guest;
  const rules = portRules(pasta);
  return {
    ...defaultGuest,
    target: guestTarget(pasta),
    interface: {
      name,
      mtu,
      configure: configure ? 'yes' : 'no',
      setup: { ...defaultSetup, mac: guestMac, network: inside, prepare: true, keepMtu: mtu === 0 },
    },
    addresses: plan,
    mappings,
    portRules: rules,
    hasInside: needsInside(rules),
    changesRoutes: configure && pasta.fd < 0,
    policy: {
      ...{ enableRouting: true, enableHost: true, defaultAllow: true },
      ...{ allow: openRules(), deny: [], guestNetworks: [] },
    },
    behavior: { ...profiles.pasta, mac },
    source4: ipv4.outbound,
    source6: ipv6.outbound,
    outboundInterface: ipv4.outboundInterface,
    outboundInterface6: ipv6.outboundInterface,
    // `-D none`: nothing about DNS at all.
    dns: dns === null || dns.length > 0,
    dnsServers: [ipv4.dnsHost, ipv6.dnsHost].filter((server) => server !== ''),
    dnsSearch: search,
    announcements: {
      dhcp: network.dhcp,
      dhcpv6: network.dhcpv6,
      // Addresses and routes that are set by us need no advertisement.
      ra: network.ra && !configure,
      oneLease: true,
      dns: network.dhcpDns ? dns : [],
      search: network.dhcpSearch,
      hostname: network.hostname,
      fqdn: network.fqdn,
    },
    silent: { tcp: !network.tcp, udp: !network.udp, icmp: !network.icmp, ndp: !network.ndp },
    pcapPath,
  };
}

function guestTarget({ target, fd }: PastaConfig): GuestConfig['target'] {
  if (fd >= 0) return { kind: 'descriptor', fd };
  return attachTarget(target) ?? { kind: 'run', command: [], mapAuto: false };
}

/** The namespaces that are named; null: there will be some. */
export function attachTarget(target: PastaTarget): AttachTarget | null {
  switch (target.kind) {
    case 'command':
      return null;
    case 'process':
      return { kind: 'attach', pid: target.pid, netnsPath: '', usernsPath: target.usernsPath };
    case 'path':
      return { kind: 'attach', pid: 0, netnsPath: target.netnsPath, usernsPath: target.usernsPath };
  }
}

/** Sockets are made inside only for ports; a guest without any does without whoever makes them. */
function needsInside({ host, splice, controlPath }: PortRulesSpec): boolean {
  return host.length > 0 || splice.length > 0 || controlPath !== '';
}
