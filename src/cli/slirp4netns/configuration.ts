/**
 * From a well-formed slirp4netns command line to a `Config` with that program's network.
 *
 * What the guest may reach: everything, as is. Only two things are not "as is": addresses of the host's loopback are
 * reached through the gateway address alone (`0.0.0.0` and `::` mean loopback as well), and group addresses are not
 * reached at all. So the reserved ranges that stand for other machines are opened, cloud metadata among them: containers
 * of a cloud machine find their credentials there, and slirp4netns has never stood in between. Link-local IPv6 stays
 * closed, because without an interface it is no destination (the original's connect fails as well).
 */
import {
  type AddressPlan,
  type Config,
  defaultAddresses,
  defaultGuest,
  defaultSetup,
  type GuestConfig,
  noOutput,
  processLimits,
} from '../../config.ts';
import { type RuleSpec, toRuleSpec } from '../../firewall/rule.ts';
import { profiles } from '../../profiles.ts';
import { guestNetworks } from '../guest-networks.ts';
import { parseRuleList } from '../rule.ts';
import type { Options } from './options.ts';
import { macAddress, networkPlan, outboundAddress } from './values.ts';

/** A request of this many bytes is refused, as it fills the original's buffer. */
const API_REQUEST_MAX = 4096;

const OPEN: readonly string[] = [
  '169.254.0.0/16',
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '100.100.100.200',
  '168.63.129.16',
  '192.0.0.192',
  '240.0.0.0/4',
  '[fd00:ec2::254]',
  '[fd00:ec2::23]',
  '[fd20:ce::254]',
  '[64:ff9b:1::/48]',
];

function openRules(hosts: readonly string[]): RuleSpec[] {
  const text = hosts.map((host) => `any://${host}`).join(',');
  return parseRuleList(text, { strict: true }).map((rule) => toRuleSpec(rule));
}

/** Looks at the values that are still text, in the original's order. Throws `ValueError`. */
export function configuration(options: Options): Config {
  const link = networkPlan(options.cidr === '' ? '10.0.2.0/24' : options.cidr);
  const addresses: AddressPlan = { ...defaultAddresses, ...link, ipv6: options.ipv6 };
  const source4 = options.outbound4 === '' ? '' : outboundAddress(options.outbound4, 4);
  const source6 = options.outbound6 === '' ? '' : outboundAddress(options.outbound6, 6);
  const mac = options.mac === '' ? '' : macAddress(options.mac);

  const open = [...OPEN];
  if (options.disableDns) open.push(addresses.dns4, ...(addresses.ipv6 ? [`[${addresses.dns6}]`] : []));

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
        allow: openRules(open),
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
