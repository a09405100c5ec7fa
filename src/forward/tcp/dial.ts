/** Connecting to the host's side: the socket calls behind a guest's SYN. */
import type { IpAddress } from '../../stack/wire/address.ts';
import { EINPROGRESS } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  connect,
  getpeername,
  SOCK_STREAM,
  setLingerZero,
  socket,
  socketpair,
} from '../../sys/socket.ts';
import type { FlowContext } from '../flow/context.ts';
import { bindSource } from '../host/bind-source.ts';
import { readSockaddr } from '../host/scratch.ts';

/** A socket that is connecting to (`address`, `port`), or `-errno`; `isOurs` is as for `bindSource`. */
export function dialAddress(
  context: FlowContext,
  address: IpAddress,
  port: number,
  scopeId: number,
  isOurs = false,
): number {
  const { memory, scratch } = context;
  const fd = socket(address.isV4 ? AF_INET : AF_INET6, SOCK_STREAM, 0);
  if (fd < 0) return fd;
  let result = bindSource(context, fd, address, isOurs);
  if (result === 0) {
    scratch.putAddress(address, port, scopeId);
    result = connect(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
  }
  return result < 0 && result !== -EINPROGRESS ? fail(fd, result) : fd;
}

/** A socket connected to the unix socket at `path`, or `-errno`; EAGAIN when its queue is full. */
export function dialUnix(context: FlowContext, path: string): number {
  const { memory, scratch } = context;
  const fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return fd;
  scratch.putUnixPath(path);
  const result = connect(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
  return result < 0 ? fail(fd, result) : fd;
}

/** A socket whose other end has closed already, or `-errno`. */
export function dialNobody({ memory, scratch }: FlowContext): number {
  const result = socketpair(memory, AF_UNIX, SOCK_STREAM, scratch.sockaddr);
  if (result < 0) return result;
  close(memory.view.getInt32(scratch.sockaddr + 4, true));
  return memory.view.getInt32(scratch.sockaddr, true);
}

function fail(fd: number, result: number): number {
  close(fd);
  return result;
}

/** Close the socket of a client so that it gets a reset. */
export function resetClient(context: FlowContext, fd: number): void {
  setLingerZero(context.memory, fd, context.scratch.option);
  close(fd);
}

/** Read the address of a client into `out`; its port, -1 for a unix socket. */
export function readPeer({ memory, scratch }: FlowContext, fd: number, out: IpAddress): number {
  return getpeername(memory, fd, scratch.sockaddr) < 0 ? -1 : readSockaddr(memory, scratch.sockaddr, out);
}
