/** A guest as tests have it that want nothing special of one: everything is open, and its gateway is our loopback. */
import { defaultGuest, type GuestConfig, sharedLimits } from '../../src/config.ts';
import { defaultSetup } from '../../src/device-spec.ts';
import { profiles } from '../../src/profiles.ts';

export const plainGuest: GuestConfig = {
  ...defaultGuest,
  target: { kind: 'descriptor', fd: -1 },
  interface: { name: 'tap0', mtu: 1500, configure: 'no', setup: defaultSetup },
  limits: sharedLimits,
  policy: {
    enableRouting: true,
    enableHost: true,
    allow: [],
    deny: [],
    guestNetworks: [{ address: '10.0.2.0', bits: 120 }],
  },
  behavior: { ...profiles.tslirp, gatewayIsLoopback: true },
  congestion: 'none',
  dnsServers: ['127.0.0.1'],
};
