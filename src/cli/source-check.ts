/**
 * Whether host sockets can have a source address. Only the kernel knows (addresses come and go, and whole prefixes may be
 * local by a route), so it is asked.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { isIPv4 } from 'node:net';
import { badValue } from './values.ts';

/** @throws UsageError */
export async function checkSource(option: string, address: string): Promise<void> {
  const socket = createSocket(isIPv4(address) ? 'udp4' : 'udp6');
  try {
    socket.bind({ address, port: 0, exclusive: true });
    await once(socket, 'listening');
  } catch (error) {
    const { code = 'failed' } = error as NodeJS.ErrnoException;
    throw badValue(option, address, `cannot be bound to (${code})`, 'an address of this host');
  } finally {
    socket.close();
  }
}
