import type { AddressPlanText } from '../../src/stack/own-addresses.ts';

/** The addresses that tests use unless they say otherwise. */
export const plan: AddressPlanText = {
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
