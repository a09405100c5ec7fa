/**
 * A program of its own, started by bin/launcher.pl before we give up our rights: opens the device of a namespace, for
 * which they are needed, and sends it. Descriptor 0 is a socket that keeps messages apart.
 *
 *     → { namespace, interface, addresses }     ← { opened } or { step, error, message }; then the descriptors, one
 *                                                 of the TUN and one of the netlink socket that tells of changes
 *
 * The end of the socket is our end.
 */
import { readSync, writeSync } from 'node:fs';
import type { AddressPlan, InterfaceDevice, SentDevice } from '../config.ts';
import { DeviceError, type DeviceStep } from '../device-error.ts';
import { prepareDevice } from '../engine/send-device.ts';
import type { NamespaceRef } from './namespace.ts';
import { openInNamespace } from './namespace-opener.ts';

export interface OpenRequest {
  namespace: NamespaceRef;
  interface: Omit<InterfaceDevice, 'descriptors'>;
  addresses: AddressPlan;
}

export type OpenAnswer =
  | { opened: Omit<SentDevice, 'kind' | 'socket'> & { notes: string[] } }
  | { step: DeviceStep; error: number; message: string };

const SOCKET = 0;
const MESSAGE_MAX = 65536;

function answer(message: OpenAnswer): void {
  writeSync(SOCKET, JSON.stringify(message));
}

async function serve({ namespace, interface: spec, addresses }: OpenRequest): Promise<void> {
  const { descriptors, release } = await openInNamespace(namespace);
  try {
    const { opened, send } = prepareDevice({ ...spec, descriptors }, addresses);
    answer({ opened });
    send(SOCKET);
  } finally {
    await release();
  }
}

const buffer = Buffer.allocUnsafe(MESSAGE_MAX);
const length = readSync(SOCKET, buffer);
if (length > 0) {
  try {
    await serve(JSON.parse(buffer.toString('utf8', 0, length)) as OpenRequest);
  } catch (error) {
    const { step, error: number } =
      error instanceof DeviceError ? error : { step: 'namespace' as const, error: 0 };
    answer({ step, error: number, message: error instanceof Error ? error.message : String(error) });
  }
}
