/**
 * From slirpnetstack's options to a `Config` with that program's network: its addresses, its MAC address, no DHCP, router
 * advertisements or DNS, echo requests answered by the stack, a connected host socket for every UDP flow.
 *
 * One difference is on purpose: an -allow entry opens a reserved range only when it lies inside that range (see
 * firewall/verdict). There, `-allow=0.0.0.0/0` would open the host's loopback.
 */
import { type Config, defaultAddresses, defaultGuest, noOutput, processLimits } from '../../config.ts';
import { defaultSetup } from '../../device-spec.ts';
import { profiles } from '../../profiles.ts';
import { guestNetworks } from '../guest-networks.ts';
import type { Options } from './options.ts';

/** Without forwards: their names are resolved and they are opened one after the other. */
export function configuration(options: Options): Config {
  const namedTarget = options.remote.some(({ host }) => host.kind === 'name');
  return {
    process: {
      limits: processLimits,
      readyFd: -1,
      exitFd: -1,
      exitOnData: true,
      logLevel: 'error',
      api: { path: '', requestMax: 0, echo: false },
      flowLog: noOutput,
      events: noOutput,
      forwardEvents: noOutput,
      outDirectory: '',
      sandbox: { mountTree: false, minimal: false, seccomp: false, required: false },
    },
    guest: {
      ...defaultGuest,
      target: { kind: 'attach', pid: 0, netnsPath: options.netns, usernsPath: '' },
      interface: {
        name: options.interface,
        mtu: options.fd >= 0 ? options.mtu : 0,
        configure: 'no',
        setup: { ...defaultSetup, create: false, segmentation: options.pcap === '' },
      },
      policy: {
        enableRouting: options.enableRouting,
        enableHost: options.enableHost,
        allow: options.allow,
        deny: options.deny,
        guestNetworks: guestNetworks(defaultAddresses),
        // The original's list has the NAT64 prefix.
        closed: [{ address: '64:ff9b::', bits: 96 }],
      },
      behavior: {
        ...profiles.slirpnetstack,
        // Even a quiet program tells of names that cannot be found.
        flowEvents: !options.quiet || namedTarget,
      },
      source4: options.source4,
      source6: options.source6,
      dns: false,
      autoconfiguration: false,
      pcapPath: options.pcap,
      pcapFormat: 'slirpnetstack',
      targetNames: { ttlMs: options.dnsTtlMs, allowReserved: true },
    },
  };
}
