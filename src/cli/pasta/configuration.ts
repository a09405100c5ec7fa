/**
 * From a well-formed pasta command line to a `Config` with that program's network. What the guest may reach is everything, as
 * with pasta: there, too, nothing stands between a container and what its host can reach.
 */
import {
  type AddressPlan,
  type Config,
  defaultAddresses,
  defaultGuest,
  defaultSetup,
  type GuestConfig,
  noOutput,
  type PortRulesSpec,
  type ProcessConfig,
  processLimits,
} from '../../config.ts';
import { profiles } from '../../profiles.ts';
import { guestNetworks } from '../guest-networks.ts';
import type { PastaConfig, PastaNetwork } from './pasta-config.ts';
import { portRules } from './ports.ts';

const DEFAULT_NAME = 'tap0';

export function configuration(pasta: PastaConfig): Config {
  return { process: processConfig(pasta), guest: guestConfig(pasta) };
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

function guestConfig(pasta: PastaConfig): GuestConfig {
  const { network, pcapPath } = pasta;
  const addresses = addressPlan(network);
  const rules = portRules(pasta);
  const { mtu, configure, guestMac, name, mac, ipv4, ipv6 } = network;
  return {
    ...defaultGuest,
    target: guestTarget(pasta),
    interface: {
      name: name === '' ? DEFAULT_NAME : name,
      mtu,
      configure: configure ? 'yes' : 'no',
      setup: { ...defaultSetup, mac: guestMac },
    },
    addresses,
    portRules: rules,
    hasInside: needsInside(rules),
    policy: {
      enableRouting: true,
      enableHost: true,
      defaultAllow: true,
      allow: [],
      deny: [],
      guestNetworks: guestNetworks(addresses),
    },
    behavior: {
      ...profiles.slirp4netns,
      gatewayIsLoopback: ipv4.mapHostLoopback !== 'none',
      proxyNeighbors: true,
      mac,
    },
    source4: ipv4.outbound,
    source6: ipv6.outbound,
    dns: ipv4.dnsForward !== '' || ipv6.dnsForward !== '',
    pcapPath,
  };
}

function addressPlan({ ipv4, ipv6 }: PastaNetwork): AddressPlan {
  const given = {
    guest4: ipv4.address,
    lease4: ipv4.address,
    gateway4: ipv4.gateway,
    dns4: ipv4.dnsForward,
    guest6: ipv6.address,
    gateway6: ipv6.gateway,
    dns6: ipv6.dnsForward,
  };
  const known = Object.entries(given).filter(([, address]) => address !== '');
  return {
    ...defaultAddresses,
    ...Object.fromEntries(known),
    prefix4: ipv4.prefixLength === 0 ? defaultAddresses.prefix4 : ipv4.prefixLength,
    ipv6: ipv6.enabled,
  };
}

function guestTarget({ target, fd }: PastaConfig): GuestConfig['target'] {
  if (fd >= 0) return { kind: 'descriptor', fd };
  switch (target.kind) {
    case 'command':
      return { kind: 'run', command: target.command, mapAuto: false };
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
