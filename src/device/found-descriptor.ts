/**
 * What an inherited descriptor is: found out by looking, and not by asking (compat: links.md §3).
 *
 * An attached TAP or TUN; a packet socket, a frame a packet; a connected stream, frames behind their lengths; a listening
 * one, for one peer at a time; or two descriptors that are no sockets (pipes), one for each way.
 */
import { fstatSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { DeviceError } from '../device-error.ts';
import type { DescriptorTarget, Framing, Medium, SocketPlace } from '../device-spec.ts';
import { EBADF, EINVAL, ENOTCONN } from '../sys/errno.ts';
import { setNonBlocking } from '../sys/io.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  AF_VSOCK,
  getpeername,
  getsockoptInt,
  SO_ACCEPTCONN,
  SO_DOMAIN,
  SO_TYPE,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from '../sys/socket.ts';
import type { LinkServices } from './device-link.ts';
import { enlarge } from './socket-place.ts';

export type FoundDescriptor =
  | { kind: 'tap' }
  | { kind: 'packets'; medium: Medium; endsWithPeer: boolean }
  | { kind: 'stream'; medium: Medium; framing: 'be32' | 'le16' }
  | { kind: 'listening'; type: 'stream' | 'seqpacket'; at: SocketPlace; medium: Medium; framing: Framing };

/** Character device 10:200 as stat(2) packs it. */
const TUN_DEVICE = (10 << 8) | 200;
const ACCEPTED = 'an attached TAP or TUN, or a socket (unix, TCP, UDP, vsock) that is connected or listens';

/** @throws DeviceError */
export function lookAtDescriptor(target: DescriptorTarget, services: LinkServices): FoundDescriptor {
  const { fd, output = fd, medium = 'ethernet', framing } = target;
  for (const each of new Set([fd, output])) {
    const result = setNonBlocking(each);
    if (result === -EBADF)
      throw new DeviceError('descriptor', EBADF, `descriptor ${each} is not open (EBADF)`);
    if (result < 0)
      throw new DeviceError('descriptor', -result, `descriptor ${each}: ${getSystemErrorName(result)}`);
  }
  if (output !== fd) {
    if (framing === undefined || framing === 'bare')
      throw unusable(`descriptors ${fd} and ${output} are a stream`, 'framing=be32 or framing=le16');
    return { kind: 'stream', medium, framing };
  }
  const found = fstatSync(fd);
  if (found.isSocket()) return socketKind(fd, medium, framing, services);
  if (found.isCharacterDevice() && found.rdev === TUN_DEVICE) return { kind: 'tap' };
  if (found.isFIFO())
    throw unusable(`descriptor ${fd} is a pipe`, `fd:R,W,framing=be32 (or le16), or ${ACCEPTED}`);
  const what = found.isFile() ? 'a file' : found.isDirectory() ? 'a directory' : 'something else';
  throw unusable(`descriptor ${fd} is ${what}`, ACCEPTED);
}

function socketKind(
  fd: number,
  medium: Medium,
  framing: Framing | undefined,
  { memory, frames }: LinkServices,
): FoundDescriptor {
  const option = (name: number): number => {
    const failed = getsockoptInt(memory, fd, SOL_SOCKET, name, frames.scratch);
    return failed < 0 ? failed : memory.view.getInt32(frames.scratch, true);
  };
  const domain = option(SO_DOMAIN);
  const type = option(SO_TYPE);
  const isIp = domain === AF_INET || domain === AF_INET6;
  if (!isIp && domain !== AF_UNIX && domain !== AF_VSOCK)
    throw unusable(`descriptor ${fd} is a socket of another family`, ACCEPTED);
  if (option(SO_ACCEPTCONN) !== 0) {
    const isStream = type === SOCK_STREAM;
    if (framing !== undefined && (framing === 'bare') === isStream)
      throw unusable(
        `descriptor ${fd} is a ${isStream ? 'stream' : 'packet socket'}`,
        isStream ? 'framing=be32 or framing=le16' : 'framing=bare',
      );
    const at: SocketPlace = isIp
      ? { family: 'ip', address: 'descriptor', port: fd }
      : domain === AF_UNIX
        ? { family: 'unix', path: `descriptor ${fd}` }
        : { family: 'vsock', cid: 0, port: fd };
    const usual = isStream ? 'be32' : 'bare';
    return {
      ...({ kind: 'listening', type: isStream ? 'stream' : 'seqpacket', at } as const),
      ...{ medium, framing: framing ?? usual },
    };
  }
  if (domain === AF_UNIX) enlarge(memory, frames.scratch, fd);
  // One end of a unix pair has no name to be sent to, and is connected all the same.
  const isConnected = getpeername(memory, fd, frames.scratch) !== -ENOTCONN;
  if (type === SOCK_STREAM) {
    if (!isConnected) throw unusable(`descriptor ${fd} is a stream socket that is not connected`, ACCEPTED);
    if (framing === 'bare') throw unusable(`descriptor ${fd} is a stream`, 'framing=be32 or framing=le16');
    return { kind: 'stream', medium, framing: framing ?? 'be32' };
  }
  if (type !== SOCK_SEQPACKET && type !== SOCK_DGRAM)
    throw unusable(`descriptor ${fd} is a socket of another type`, ACCEPTED);
  if (framing !== undefined && framing !== 'bare')
    throw unusable(`descriptor ${fd} is a packet socket`, 'framing=bare');
  if (isIp && !isConnected)
    throw unusable(`descriptor ${fd} is a datagram socket that is not connected`, ACCEPTED);
  return { kind: 'packets', medium, endsWithPeer: type === SOCK_SEQPACKET };
}

function unusable(what: string, accepted: string): DeviceError {
  return new DeviceError('descriptor', EINVAL, `${what}; accepted: ${accepted}`);
}
