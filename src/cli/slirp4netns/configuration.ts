/**
 * From a well-formed slirp4netns command line to a `Config` with that program's network. What the guest may reach: everything
 * (open-world.ts).
 */
import {
  type AddressPlan,
  type Config,
  defaultAddresses,
  defaultGuest,
  type GuestConfig,
  noOutput,
  processLimits,
} from '../../config.ts';
import { defaultSetup } from '../../device-spec.ts';
import { profiles } from '../../profiles.ts';
import { guestNetworks } from '../guest-networks.ts';
import { openRules } from '../open-world.ts';
import type { Options } from './options.ts';
import { macAddress, networkPlan, outboundAddress } from './values.ts';

/** A request of this many bytes is refused, as it fills the original's buffer. */
const API_REQUEST_MAX = 4096;

/** Looks at the values that are still text, in the original's order. Throws `ValueError`. */
export function configuration(options: Options): Config {
  const link = networkPlan(options.cidr === '' ? '10.0.2.0/24' : options.cidr);
  const addresses: AddressPlan = { ...defaultAddresses, ...link, ipv6: options.ipv6 };
  const source4 = options.outbound4 === '' ? '' : outboundAddress(options.outbound4, 4);
  const source6 = options.outbound6 === '' ? '' : outboundAddress(options.outbound6, 6);
  const mac = options.mac === '' ? '' : macAddress(options.mac);

  const dns = [addresses.dns4, ...(addresses.ipv6 ? [`[${addresses.dns6}]`] : [])];

  return {
    process: {
      limits: processLimits,
      readyFd: options.readyFd,
      exitFd: options.exitFd,
      exitOnData: false,
      logLevel: 'warn',
      api: { path: options.apiSocket, requestMax: API_REQUEST_MAX, echo: true },
      flowLog: noOutput,
      events: noOutput,
      forwardEvents: noOutput,
      outDirectory: '',
      sandbox: {
        mountTree: options.sandbox,
        minimal: true,
        seccomp: options.seccomp,
        required: options.sandbox || options.seccomp,
      },
    },
    guest: {
      ...defaultGuest,
      target: target(options),
      interface: {
        name: options.tapName,
        mtu: options.mtu,
        configure: options.configure ? 'yes' : 'no',
        setup: { ...defaultSetup, mac, ipv6ByAdvertisement: true, multicast: false, keepMtu: true },
      },
      addresses,
      policy: {
        enableRouting: true,
        enableHost: true,
        defaultAllow: true,
        allow: openRules(options.disableDns ? dns : []),
        deny: [],
        guestNetworks: guestNetworks(addresses),
      },
      behavior: {
        ...profiles.slirp4netns,
        gatewayIsLoopback: !options.disableHostLoopback,
      },
      source4,
      source6,
      dns: !options.disableDns,
    },
  };
}

function target({ target: given, usernsPath }: Options): GuestConfig['target'] {
  switch (given.kind) {
    case 'pid':
      return { kind: 'attach', pid: given.pid, netnsPath: '', usernsPath };
    case 'path':
      return { kind: 'attach', pid: 0, netnsPath: given.path, usernsPath };
    case 'tapfd':
      return { kind: 'descriptor', fd: given.fd };
    case 'bess':
      return {
        ...{ kind: 'listen', type: 'seqpacket', at: { family: 'unix', path: given.path } },
        ...{ medium: 'ethernet', framing: 'bare', greeting: { kind: 'none' } },
        ...{ allowUids: [], oneOff: true, awaited: true },
      };
  }
}
