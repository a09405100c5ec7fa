/**
 * Host sockets: the calls by which the stack speaks for its guest. Everything is non-blocking and close-on-exec;
 * results are values or `-errno`. Socket addresses are written to and read from arena scratch, as plain words, so that
 * no object is made per call.
 */
import { errno, libcFunction } from './libc.ts';
import { IOVEC_SIZE, type Memory } from './memory.ts';

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_VSOCK = 40;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
export const IPPROTO_IP = 0;
export const IPPROTO_ICMP = 1;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_ICMPV6 = 58;

export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_TYPE = 3;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_KEEPALIVE = 9;
export const SO_OOBINLINE = 10;
export const SO_LINGER = 13;
const SO_PEERCRED = 17;
const SO_BINDTODEVICE = 25;
export const SO_ACCEPTCONN = 30;
export const SO_DOMAIN = 39;
export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;
export const TCP_KEEPINTVL = 5;
export const TCP_KEEPCNT = 6;
export const UDP_SEGMENT = 103;
export const IP_TTL = 2;
export const IP_MTU_DISCOVER = 10;
/** Of the way to where a socket is connected. */
export const IP_MTU = 14;
export const IPV6_MTU = 24;
export const IPV6_MTU_DISCOVER = 23;
/** As the system does it by itself: fragments where it knows of a smaller path. */
export const IP_PMTUDISC_WANT = 1;
/** Never fragments. */
export const IP_PMTUDISC_DO = 2;
export const IP_PKTINFO = 8;
export const IP_FREEBIND = 15;
export const IP_RECVERR = 11;
export const IP_RECVTTL = 12;
export const IP_BIND_ADDRESS_NO_PORT = 24;
export const IPV6_UNICAST_HOPS = 16;
export const IPV6_RECVERR = 25;
export const IPV6_V6ONLY = 26;
export const IPV6_RECVPKTINFO = 49;
export const IPV6_PKTINFO = 50;
export const IPV6_RECVHOPLIMIT = 51;
export const IPV6_HOPLIMIT = 52;

export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_ERRQUEUE = 0x2000;
const MSG_PEEK = 0x2;
export const MSG_TRUNC = 0x20;

export const SHUT_WR = 1;

/** Bytes of scratch for one socket address of either family. */
export const SOCKADDR_SIZE = 28;
/** Bytes of a struct sockaddr_un, and what a path in it may have without its final zero. */
export const SOCKADDR_UN_SIZE = 110;
export const UNIX_PATH_MAX = 107;
/** Behind an address that the system is asked for: how many bytes it has. */
const NAME_LENGTH_AT: number = SOCKADDR_UN_SIZE + 2;
/** struct msghdr and struct mmsghdr on 64-bit systems. */
export const MSGHDR_SIZE = 56;
export const MMSGHDR_SIZE = 64;

const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;

const cSocket = libcFunction('socket', 'int', ['int', 'int', 'int']);
const cSocketpair = libcFunction('socketpair', 'int', ['int', 'int', 'int', 'uintptr_t']);
const cConnect = libcFunction('connect', 'int', ['int', 'uintptr_t', 'uint']);
const cBind = libcFunction('bind', 'int', ['int', 'uintptr_t', 'uint']);
const cGetsockname = libcFunction('getsockname', 'int', ['int', 'uintptr_t', 'uintptr_t']);
const cGetpeername = libcFunction('getpeername', 'int', ['int', 'uintptr_t', 'uintptr_t']);
const cListen = libcFunction('listen', 'int', ['int', 'int']);
const cAccept4 = libcFunction('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']);
const cShutdown = libcFunction('shutdown', 'int', ['int', 'int']);
const cGetsockopt = libcFunction('getsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'uintptr_t']);
const cSetsockopt = libcFunction('setsockopt', 'int', ['int', 'int', 'int', 'uintptr_t', 'uint']);
const cSend = libcFunction('send', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);
const cRecv = libcFunction('recv', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);
const cRecvfrom = libcFunction('recvfrom', 'intptr_t', [
  'int',
  'uintptr_t',
  'size_t',
  'int',
  'uintptr_t',
  'uintptr_t',
]);
const cSendto = libcFunction('sendto', 'intptr_t', [
  'int',
  'uintptr_t',
  'size_t',
  'int',
  'uintptr_t',
  'uint',
]);
const cSendmsg = libcFunction('sendmsg', 'intptr_t', ['int', 'uintptr_t', 'int']);
const cRecvmsg = libcFunction('recvmsg', 'intptr_t', ['int', 'uintptr_t', 'int']);
const cSendmmsg = libcFunction('sendmmsg', 'int', ['int', 'uintptr_t', 'uint', 'int']);
const cRecvmmsg = libcFunction('recvmmsg', 'int', ['int', 'uintptr_t', 'uint', 'int', 'uintptr_t']);

/** A new socket, non-blocking and close-on-exec. */
export function socket(family: number, type: number, protocol: number): number {
  const fd = cSocket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  return fd < 0 ? -errno() : fd;
}

/** Two sockets connected to each other, non-blocking and close-on-exec, as two 32-bit numbers at `at`; 0 or −errno. */
export function socketpair(memory: Memory, family: number, type: number, at: number): number {
  const result = cSocketpair(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, memory.address(at, 8));
  return result < 0 ? -errno() : result;
}

/** Write a struct sockaddr_in at `at`; its length. `address` is the IPv4 address as an unsigned word. */
export function putSockaddr4(memory: Memory, at: number, address: number, port: number): number {
  const view = memory.view;
  view.setUint16(at, AF_INET, true);
  view.setUint16(at + 2, port);
  view.setUint32(at + 4, address);
  view.setUint32(at + 8, 0);
  view.setUint32(at + 12, 0);
  return 16;
}

/** Write a struct sockaddr_in6 at `at`; its length. */
export function putSockaddr6(
  memory: Memory,
  at: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
  port: number,
  scopeId: number,
): number {
  const view = memory.view;
  view.setUint16(at, AF_INET6, true);
  view.setUint16(at + 2, port);
  view.setUint32(at + 4, 0);
  view.setUint32(at + 8, w0);
  view.setUint32(at + 12, w1);
  view.setUint32(at + 16, w2);
  view.setUint32(at + 20, w3);
  view.setUint32(at + 24, scopeId, true);
  return 28;
}

/** Write a struct sockaddr_un at `at`; its length. `path` has at most `UNIX_PATH_MAX` bytes. */
export function putSockaddrUnix(memory: Memory, at: number, path: Uint8Array): number {
  if (path.length > UNIX_PATH_MAX) throw new RangeError(`a socket path of ${path.length} bytes`);
  const { view } = memory;
  view.setUint16(at, AF_UNIX, true);
  for (let i = 0; i < path.length; i++) view.setUint8(at + 2 + i, path[i] as number);
  view.setUint8(at + 2 + path.length, 0);
  return 2 + path.length + 1;
}

/** Write a struct sockaddr_vm (vsock(7)), in host order, at `at`; its length. */
export function putSockaddrVsock(memory: Memory, at: number, cid: number, port: number): number {
  const { view } = memory;
  view.setUint16(at, AF_VSOCK, true);
  view.setUint16(at + 2, 0, true);
  view.setUint32(at + 4, port, true);
  view.setUint32(at + 8, cid, true);
  view.setUint32(at + 12, 0, true);
  return 16;
}

/** Write the socket address with which connect(2) ends what a datagram socket is connected to; its length. */
export function putSockaddrNone(memory: Memory, at: number): number {
  memory.view.setUint16(at, 0, true);
  return 2;
}

/** Write the socket address that lets bind(2) choose an abstract unix name that nobody else has; its length. */
export function putSockaddrAutobind(memory: Memory, at: number): number {
  memory.view.setUint16(at, AF_UNIX, true);
  return 2;
}

/**
 * Our own address of `fd`, or the peer's, at `at`, which has `SOCKADDR_UN_SIZE` bytes and room for a length behind them.
 * How many bytes the address has, or `-errno`.
 */
export function getsockname(memory: Memory, fd: number, at: number): number {
  return nameOf(cGetsockname, memory, fd, at);
}

export function getpeername(memory: Memory, fd: number, at: number): number {
  return nameOf(cGetpeername, memory, fd, at);
}

/** The next client of a listening socket, non-blocking, or `-errno`; its address is put at `at` as `getpeername` does. */
export function accept(memory: Memory, fd: number, at: number): number {
  // A unix client without a name leaves nothing but its family, and an old address must not be taken for its own.
  memory.view.setUint16(at, 0, true);
  const flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const client = cAccept4(fd, memory.address(at, SOCKADDR_UN_SIZE), putNameRoom(memory, at), flags);
  return client < 0 ? -errno() : client;
}

/** What the peer of a unix socket was when it connected, at `at` (16 bytes): process and user, 32 bits each. 0 or `-errno`. */
export function peerCredentials(memory: Memory, fd: number, at: number): number {
  memory.view.setUint32(at + 12, 12, true);
  const result = cGetsockopt(fd, SOL_SOCKET, SO_PEERCRED, memory.address(at, 12), memory.address(at + 12, 4));
  return result < 0 ? -errno() : 0;
}

/** As `peek`, with the sender's address as `getpeername` puts it at `sockaddr`; how many bytes it has, `nameLength` tells. */
export function peekFrom(
  memory: Memory,
  fd: number,
  offset: number,
  length: number,
  sockaddr: number,
): number {
  const n = cRecvfrom(
    fd,
    memory.address(offset, length),
    length,
    MSG_DONTWAIT | MSG_PEEK,
    memory.address(sockaddr, SOCKADDR_UN_SIZE),
    putNameRoom(memory, sockaddr),
  );
  return n < 0 ? -errno() : n;
}

/** Say how much room an address has at `at`, behind that room; the address of where the system then says how much it took. */
function putNameRoom(memory: Memory, at: number): number {
  memory.view.setUint32(at + NAME_LENGTH_AT, SOCKADDR_UN_SIZE, true);
  return memory.address(at + NAME_LENGTH_AT, 4);
}

/** Bytes of the address that was put at `at`. */
export function nameLength(memory: Memory, at: number): number {
  return Math.min(memory.view.getUint32(at + NAME_LENGTH_AT, true), SOCKADDR_UN_SIZE);
}

export function listen(fd: number, backlog: number): number {
  return cListen(fd, backlog) < 0 ? -errno() : 0;
}

function nameOf(call: typeof cGetsockname, memory: Memory, fd: number, at: number): number {
  const result = call(fd, memory.address(at, SOCKADDR_UN_SIZE), putNameRoom(memory, at));
  return result < 0 ? -errno() : nameLength(memory, at);
}

export function connect(memory: Memory, fd: number, sockaddr: number, length: number): number {
  return cConnect(fd, memory.address(sockaddr, length), length) < 0 ? -errno() : 0;
}

export function bind(memory: Memory, fd: number, sockaddr: number, length: number): number {
  return cBind(fd, memory.address(sockaddr, length), length) < 0 ? -errno() : 0;
}

export function shutdown(fd: number, how: number): number {
  return cShutdown(fd, how) < 0 ? -errno() : 0;
}

/** An integer option; the value is left at `scratch` (8 bytes are used). Returns 0 or `-errno`. */
export function getsockoptInt(
  memory: Memory,
  fd: number,
  level: number,
  name: number,
  scratch: number,
): number {
  memory.view.setUint32(scratch, 0, true);
  memory.view.setUint32(scratch + 4, 4, true);
  const result = cGetsockopt(fd, level, name, memory.address(scratch, 4), memory.address(scratch + 4, 4));
  return result < 0 ? -errno() : 0;
}

export function setsockoptInt(
  memory: Memory,
  fd: number,
  level: number,
  name: number,
  value: number,
  scratch: number,
): number {
  memory.view.setInt32(scratch, value, true);
  return cSetsockopt(fd, level, name, memory.address(scratch, 4), 4) < 0 ? -errno() : 0;
}

/** Let the socket send and receive by interface `name` only; `scratch` has room for it. Returns 0 or `-errno`. */
export function bindToDevice(memory: Memory, fd: number, name: string, scratch: number): number {
  for (let i = 0; i < name.length; i++) memory.view.setUint8(scratch + i, name.charCodeAt(i));
  const { length } = name;
  const result = cSetsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, memory.address(scratch, length), length);
  return result < 0 ? -errno() : 0;
}

/** Make the coming close(2) send RST instead of FIN. */
export function setLingerZero(memory: Memory, fd: number, scratch: number): number {
  memory.view.setInt32(scratch, 1, true);
  memory.view.setInt32(scratch + 4, 0, true);
  return cSetsockopt(fd, SOL_SOCKET, SO_LINGER, memory.address(scratch, 8), 8) < 0 ? -errno() : 0;
}

export function send(memory: Memory, fd: number, offset: number, length: number): number {
  const n = cSend(fd, memory.address(offset, length), length, MSG_NOSIGNAL | MSG_DONTWAIT);
  return n < 0 ? -errno() : n;
}

export function recv(memory: Memory, fd: number, offset: number, length: number): number {
  const n = cRecv(fd, memory.address(offset, length), length, MSG_DONTWAIT);
  return n < 0 ? -errno() : n;
}

/** As `recv`, but the bytes stay in the socket. */
export function peek(memory: Memory, fd: number, offset: number, length: number): number {
  const n = cRecv(fd, memory.address(offset, length), length, MSG_DONTWAIT | MSG_PEEK);
  return n < 0 ? -errno() : n;
}

export function sendto(
  memory: Memory,
  fd: number,
  offset: number,
  length: number,
  sockaddr: number,
  sockaddrLength: number,
): number {
  const n = cSendto(
    fd,
    memory.address(offset, length),
    length,
    MSG_NOSIGNAL | MSG_DONTWAIT,
    memory.address(sockaddr, sockaddrLength),
    sockaddrLength,
  );
  return n < 0 ? -errno() : n;
}

/**
 * Fill a struct msghdr at `at`, with the I/O vector at `iov`, both in the structures; name and ancillary data are in the
 * arena. Offsets and lengths are checked here; a length of 0 stores a null pointer for that part.
 */
export function putMsghdr(
  memory: Memory,
  at: number,
  name: number,
  nameLength: number,
  iov: number,
  iovCount: number,
  control: number,
  controlLength: number,
): void {
  const { structures } = memory;
  structures.putPointer(at, nameLength > 0 ? memory.address(name, nameLength) : 0);
  structures.putSize(at + 8, nameLength);
  structures.putPointer(at + 16, structures.address(iov, iovCount * IOVEC_SIZE));
  structures.putSize(at + 24, iovCount);
  structures.putPointer(at + 32, controlLength > 0 ? memory.address(control, controlLength) : 0);
  structures.putSize(at + 40, controlLength);
  structures.putSize(at + 48, 0);
}

/** Bytes of ancillary data that recvmsg(2) left for the struct msghdr at `at`. */
export function msghdrControlLength(memory: Memory, at: number): number {
  return memory.structures.view.getUint32(at + 40, true);
}

export function sendmsg(memory: Memory, fd: number, msghdr: number): number {
  const n = cSendmsg(fd, memory.structures.address(msghdr, MSGHDR_SIZE), MSG_NOSIGNAL | MSG_DONTWAIT);
  return n < 0 ? -errno() : n;
}

export function recvmsg(memory: Memory, fd: number, msghdr: number, flags: number): number {
  const n = cRecvmsg(fd, memory.structures.address(msghdr, MSGHDR_SIZE), flags | MSG_DONTWAIT);
  return n < 0 ? -errno() : n;
}

/** How many of the `count` datagrams at `mmsghdrs` were sent, or `-errno` of the first. */
export function sendmmsg(memory: Memory, fd: number, mmsghdrs: number, count: number): number {
  const n = cSendmmsg(
    fd,
    memory.structures.address(mmsghdrs, count * MMSGHDR_SIZE),
    count,
    MSG_NOSIGNAL | MSG_DONTWAIT,
  );
  return n < 0 ? -errno() : n;
}

/** How many of the `count` headers at `mmsghdrs` were filled, or `-errno`. */
export function recvmmsg(memory: Memory, fd: number, mmsghdrs: number, count: number): number {
  const n = cRecvmmsg(fd, memory.structures.address(mmsghdrs, count * MMSGHDR_SIZE), count, MSG_DONTWAIT, 0);
  return n < 0 ? -errno() : n;
}
