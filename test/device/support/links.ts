/** Links made of what a SPEC says, as the data plane makes them. */
import assert from 'node:assert/strict';
import { parseLinkSpec } from '../../../src/cli/link-spec.ts';
import { defaultAddresses } from '../../../src/config.ts';
import type { DeviceLink } from '../../../src/device/device-link.ts';
import { type LinkOpeners, openLink } from '../../../src/device/open-link.ts';
import type { DeviceError } from '../../../src/device-error.ts';
import type { SocketTarget } from '../../../src/device-spec.ts';
import type { Bench } from './bench.ts';

type SocketDevice = SocketTarget & { mtu: number };

/** The link, not open yet; or why there is none. */
export function linkOrError(b: Bench, spec: SocketDevice): DeviceLink | DeviceError {
  let result: DeviceLink | DeviceError | undefined;
  openLink(spec, defaultAddresses, b.services, {} as LinkOpeners, {
    onWaiting: () => assert.fail('it is not to be waited for'),
    onOpen: ({ link }) => {
      result = link;
    },
    onFailure: (error) => {
      result = error;
    },
  });
  assert.ok(result);
  return result;
}

export function deviceOf(text: string, oneOff = false): SocketDevice {
  const { target, mtu } = parseLinkSpec(text);
  assert.ok(target.kind !== 'wireguardFile' && target.kind !== 'tunnel' && target.kind !== 'webSocket');
  return target.kind === 'descriptor' ? { ...target, mtu } : { ...target, mtu, oneOff };
}

export function openSpec(b: Bench, text: string, oneOff = false): DeviceLink {
  const link = linkOrError(b, deviceOf(text, oneOff));
  if (link instanceof Error) throw link;
  return b.use(link);
}
