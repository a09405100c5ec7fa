/**
 * The host as a hostile-guest test sees it: sockets, epoll and the device, in plain memory and on nobody's clock. It
 * stands under the real program (libc-hooks.ts), so what it records is what the program asked the kernel for, and a
 * destination that was never to be reached is looked for here and nowhere else (G-3).
 *
 * Modelled: stream, datagram and ping sockets, non-blocking; edge-triggered epoll (and level-triggered for the device);
 * partial reads and writes; error queues; which address of ours a datagram was sent to; a descriptor number is given out
 * again as soon as it is free. A unix socket's address is `unix:PATH`, `unix:` for one without a name. Everything the
 * tests do not need answers 0. Structures are those of 64-bit Linux.
 */
import type { Memory } from '../../../src/sys/memory.ts';
import type { Structures } from '../../../src/sys/structures.ts';
import { ipBytes, ipText } from './packets.ts';

export const EPERM = 1;
export const EINTR = 4;
export const EBADF = 9;
export const EAGAIN = 11;
export const EACCES = 13;
export const EEXIST = 17;
export const EMFILE = 24;
export const EPIPE = 32;
export const EBADFD = 77;
export const EMSGSIZE = 90;
export const ENETUNREACH = 101;
export const ECONNRESET = 104;
export const ENOBUFS = 105;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;
const EINPROGRESS = 115;
const ENOTCONN = 107;

const IN = 1;
const PRI = 2;
const OUT = 4;
const ERR = 8;
const HUP = 16;
const RDHUP = 0x2000;

const STREAM = 1;
const MSG_PEEK = 2;
const MSG_ERRQUEUE = 0x2000;
const SO_ERROR = 4;
const SO_RCVBUF = 8;
const SO_LINGER = 13;
const SO_BINDTODEVICE = 25;
const UDP_SEGMENT = 103;
const IP_PKTINFO = 8;
const IPV6_RECVPKTINFO = 49;
const IPV6_PKTINFO = 50;
const UNIX = 'unix:';
const FIRST_FD = 100;

/** How a connect ends: at once, later by the test, or with an errno. */
export type ConnectOutcome = 'accept' | 'pending' | number;

export interface Endpoint {
  address: string;
  port: number;
}

/** One call that names an address: what G-3 looks at. */
export interface Reach extends Endpoint {
  call: string;
  protocol: 'tcp' | 'udp' | 'icmp';
}

export interface QueuedIcmp {
  errno: number;
  /** 1 = our own kernel, 2 = ICMP, 3 = ICMPv6. */
  origin: number;
  type: number;
  code: number;
  info: number;
  offender: string;
  destination: Endpoint;
  payload: Buffer;
}

abstract class File {
  readonly fd: number;
  readonly kernel: FakeKernel;
  closed = false;
  constructor(kernel: FakeKernel, fd: number) {
    this.kernel = kernel;
    this.fd = fd;
  }
  abstract readiness(): number;
}

/** The device: frames in a queue towards the program, and what the program sent. */
export class DeviceFile extends File {
  readonly toProgram: Buffer[] = [];
  readonly fromProgram: Buffer[] = [];
  /** What the next reads and writes return instead, in order; 0 = nothing special. */
  readonly readErrors: number[] = [];
  readonly writeErrors: number[] = [];
  /** For floods: makes the next frame where it is read to, and returns its length; 0 = no more. After `toProgram`. */
  source: ((target: Buffer) => number) | null = null;
  /** Gets what the program sends instead of `fromProgram`. */
  sink: ((frame: Buffer) => void) | null = null;
  readiness(): number {
    return this.toProgram.length > 0 || this.readErrors.length > 0 || this.source !== null ? IN | OUT : OUT;
  }
}

/** A TCP socket of the program, and the handle on it that the host's other end has. */
export class StreamFile extends File {
  state: 'new' | 'connecting' | 'connected' | 'failed' = 'new';
  remote: Endpoint = { address: '', port: 0 };
  local: Endpoint = { address: '198.51.100.200', port: 0 };
  pendingError = 0;
  #inbox: Buffer[] = [];
  #inboxBytes = 0;
  /** Unread bytes in front of the urgent one; -1 = there is none. A read stops there (tcp(7)). */
  #urgentAt = -1;
  /** Options that the program has set, as `level:name`. */
  readonly options: Map<string, number> = new Map();
  peerEnded = false;
  peerReset = false;
  /** Everything the program wrote. */
  readonly written: Buffer[] = [];
  writtenBytes = 0;
  /** How much the host still takes before EAGAIN. */
  room: number = Number.POSITIVE_INFINITY;
  /** Nothing is kept of what is written: for floods. */
  forget = false;
  shutWrite = false;
  /** Closed with SO_LINGER 0: the host's other end gets RST. */
  lingerReset = false;
  /** The other end of a pair, which is the program's too. */
  pair: StreamFile | null = null;
  /** Called with every piece that the program writes. */
  onData: ((data: Buffer) => void) | null = null;

  get received(): Buffer {
    return Buffer.concat(this.written);
  }

  get unread(): number {
    return this.#inboxBytes;
  }

  readiness(): number {
    if (this.state === 'connecting') return 0;
    if (this.state === 'new') return OUT | HUP;
    let ready = 0;
    if (this.pendingError !== 0) ready |= ERR | IN | OUT | HUP;
    if (this.state === 'failed') return ready | HUP | OUT | IN;
    if (this.#inboxBytes > 0 || this.peerEnded || this.peerReset) ready |= IN;
    if (this.#urgentAt >= 0) ready |= PRI;
    if (this.peerEnded || this.peerReset) ready |= RDHUP;
    if (this.peerReset || (this.peerEnded && this.shutWrite)) ready |= HUP;
    if (this.room > 0 || this.peerReset) ready |= OUT;
    return ready;
  }

  /** The connect that was pending succeeds. */
  accept(): void {
    this.kernel.dialing--;
    this.state = 'connected';
    this.kernel.edge(this);
  }

  fail(errno: number): void {
    this.kernel.dialing--;
    this.state = 'failed';
    this.pendingError = errno;
    this.kernel.edge(this);
  }

  send(data: Buffer | string): void {
    const bytes = typeof data === 'string' ? Buffer.from(data) : data;
    this.#inbox.push(bytes);
    this.#inboxBytes += bytes.length;
    this.kernel.edge(this);
  }

  /** The last byte of `data` is urgent (MSG_OOB). */
  sendUrgent(data: string): void {
    this.#urgentAt = this.#inboxBytes + data.length - 1;
    this.send(data);
  }

  end(): void {
    this.peerEnded = true;
    this.kernel.edge(this);
  }

  reset(): void {
    this.peerReset = true;
    this.pendingError = ECONNRESET;
    this.#inbox = [];
    this.#inboxBytes = 0;
    this.kernel.edge(this);
  }

  setRoom(bytes: number): void {
    const was = this.room;
    this.room = bytes;
    if (was <= 0 && bytes > 0) this.kernel.edge(this);
  }

  peek(target: Buffer): number {
    if (this.pendingError !== 0 || this.#inboxBytes === 0) return this.read([target]);
    return Buffer.concat(this.#inbox).copy(target);
  }

  read(targets: readonly Buffer[]): number {
    if (this.pendingError !== 0) {
      const error = this.pendingError;
      this.pendingError = 0;
      return -error;
    }
    if (this.#inboxBytes === 0) return this.peerEnded || this.peerReset ? 0 : -EAGAIN;
    let total = 0;
    const most = this.#urgentAt > 0 ? this.#urgentAt : this.#inboxBytes;
    for (const target of targets) {
      let at = 0;
      while (at < target.length && total + at < most) {
        const first = this.#inbox[0] as Buffer;
        const n = first.copy(target, at, 0, most - total - at);
        at += n;
        if (n === first.length) this.#inbox.shift();
        else this.#inbox[0] = first.subarray(n);
      }
      total += at;
    }
    this.#inboxBytes -= total;
    if (this.#urgentAt >= 0) this.#urgentAt = this.#urgentAt === 0 ? -1 : this.#urgentAt - total;
    return total;
  }

  write(pieces: readonly Buffer[]): number {
    if (this.state !== 'connected') return -ENOTCONN;
    if (this.peerReset) return -(this.pendingError === 0 ? EPIPE : this.pendingError);
    if (this.shutWrite) return -EPIPE;
    let total = 0;
    for (const piece of pieces) {
      const n = Math.min(piece.length, this.room - total);
      if (n <= 0) break;
      const copy = Buffer.from(piece.subarray(0, n));
      if (!this.forget) this.written.push(copy);
      this.onData?.(copy);
      total += n;
    }
    if (total === 0 && pieces.some((p) => p.length > 0)) return -EAGAIN;
    this.room -= total;
    this.writtenBytes += total;
    return total;
  }
}

/** A listening socket of the program. */
export class ListenFile extends File {
  readonly local: Endpoint;
  /** Clients that were not accepted yet, with what they have sent. */
  readonly queue: { from: Endpoint; data: Buffer | string }[] = [];
  /** The program's sockets of those that were. */
  readonly accepted: StreamFile[] = [];

  constructor(kernel: FakeKernel, fd: number, local: Endpoint) {
    super(kernel, fd);
    this.local = local;
  }

  readiness(): number {
    return this.queue.length > 0 ? IN : 0;
  }

  /** A client connects. */
  arrive(from: Endpoint, data: Buffer | string = ''): void {
    this.queue.push({ from, data });
    this.kernel.edge(this);
  }
}

/** A UDP or ping socket of the program. */
export class DatagramFile extends File {
  readonly protocol: 'udp' | 'icmp';
  readonly v6: boolean;
  connected: Endpoint | null = null;
  /** Bound to; null = not yet. */
  local: Endpoint | null = null;
  readonly inbox: { from: Endpoint; payload: Buffer; contacted: string }[] = [];
  /** Told with each datagram: which address of ours was contacted. */
  /** SO_RCVBUF as the program set it; 0 = it did not. */
  receiveBytes = 0;
  wantsContacted = false;
  readonly errors: QueuedIcmp[] = [];
  pendingError = 0;
  /** Datagrams that left. */
  sent = 0;

  constructor(kernel: FakeKernel, fd: number, protocol: 'udp' | 'icmp', v6: boolean) {
    super(kernel, fd);
    this.protocol = protocol;
    this.v6 = v6;
  }

  readiness(): number {
    let ready = OUT;
    if (this.inbox.length > 0) ready |= IN;
    if (this.errors.length > 0 || this.pendingError !== 0) ready |= ERR;
    return ready;
  }

  /** A datagram arrives from `from`, for our address `contacted`. */
  deliver(from: Endpoint, payload: Buffer, contacted = ''): void {
    if (this.closed) return;
    if (
      this.connected !== null &&
      (from.address !== this.connected.address || from.port !== this.connected.port)
    )
      return;
    this.inbox.push({ from, payload, contacted });
    this.kernel.edge(this);
  }

  queueError(error: QueuedIcmp): void {
    this.errors.push(error);
    this.pendingError = error.errno;
    this.kernel.edge(this);
  }
}

interface Watch {
  events: number;
  low: number;
  high: number;
}

class EpollFile extends File {
  readonly watched: Map<number, Watch> = new Map();
  readiness(): number {
    return 0;
  }
}

export interface Datagram extends Endpoint {
  protocol: 'udp' | 'icmp';
  payload: Buffer;
  file: DatagramFile;
  /** The address of ours that it was to leave from; empty = the kernel's choice. */
  source: string;
}

export class FakeKernel {
  readonly files: Map<number, File> = new Map();
  /** Datagram sockets that were bound, in order. */
  readonly boundDatagrams: DatagramFile[] = [];
  /** Every call that named an address. */
  readonly reached: Reach[] = [];
  /** Every datagram that left; not kept when `keepDatagrams` is off. */
  readonly datagrams: Datagram[] = [];
  keepDatagrams = true;
  /** Stream sockets that were connected, in order. */
  readonly streams: StreamFile[] = [];
  /** Listening sockets, in order. */
  readonly listeners: ListenFile[] = [];
  /** Every address that a socket was bound to. */
  readonly bound: Endpoint[] = [];
  /** Every interface that a socket was bound to. */
  readonly boundDevices: string[] = [];
  /** How connects end: by default as the host at that address would. */
  onConnect: (to: Endpoint, file: StreamFile) => ConnectOutcome = () => 'accept';
  onDatagram: (datagram: Datagram) => void = () => {};
  /** Consulted before every call: a negative number is the call's result. */
  fault: ((name: string, args: readonly number[]) => number | undefined) | null = null;
  /** How often each call was made. */
  readonly calls: Map<string, number> = new Map();
  maxOpen = 100_000;
  /** Most dials in progress at the same time, and now. */
  dialing = 0;
  mostDialing = 0;
  device: DeviceFile | null = null;
  #memory: { base: number; bytes: Buffer; view: DataView } | null = null;
  #structures: Structures | null = null;
  #freeFds: number[] = [];
  #nextFd = FIRST_FD;
  readonly #edges = new Set<number>();

  /** The program's arena, and its structures. */
  attach(memory: Memory): void {
    const { view } = memory;
    this.#memory = { base: memory.address(0, 0), bytes: Buffer.from(view.buffer), view };
    this.#structures = memory.structures;
  }

  openDevice(): DeviceFile {
    this.device = this.#install((fd) => new DeviceFile(this, fd));
    return this.device;
  }

  /** Drop what was recorded. */
  forget(): void {
    this.reached.length = 0;
    this.datagrams.length = 0;
    this.streams.length = 0;
    this.bound.length = 0;
    this.boundDevices.length = 0;
  }

  /** Descriptors that are open, epoll and device included. */
  get open(): number {
    return this.files.size;
  }

  /** The state of `file` changed: an edge for those that watch it. */
  edge(file: File): void {
    if (!file.closed) this.#edges.add(file.fd);
  }

  get hasEdges(): boolean {
    return this.#edges.size > 0 || (this.device !== null && this.device.readiness() !== OUT);
  }

  call(name: string, args: readonly number[], real: () => number): number {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
    const fault = this.fault?.(name, args);
    if (fault !== undefined) return fault;
    const a = args as number[];
    switch (name) {
      case 'epoll_create1':
        return this.#install((fd) => new EpollFile(this, fd)).fd;
      case 'epoll_ctl':
        return this.#epollCtl(a[0]!, a[1]!, a[2]!, a[3]!);
      case 'epoll_wait':
        return this.#epollWait(a[0]!, a[1]!, a[2]!);
      case 'socket':
        return this.#socket(a[0]!, a[1]!, a[2]!);
      case 'socketpair':
        return this.#socketpair(a[3]!);
      case 'connect':
        return this.#connect(a[0]!, a[1]!);
      case 'bind':
        return this.#bind(a[0]!, a[1]!, a[2]!);
      case 'listen':
        return this.#listen(a[0]!);
      case 'accept4':
        return this.#accept(a[0]!, a[1]!, a[2]!);
      case 'getsockname':
      case 'getpeername':
        return this.#name(a[0]!, name === 'getpeername', a[1]!, a[2]!);
      case 'close':
        return this.#close(a[0]!);
      case 'shutdown':
        return this.#shutdown(a[0]!);
      case 'getsockopt':
        return this.#getsockopt(a);
      case 'setsockopt':
        return this.#setsockopt(a);
      case 'read':
        return this.#read(a[0]!, [this.#slice(a[1]!, a[2]!)]);
      case 'readv':
        return this.#read(a[0]!, this.#iovec(a[1]!, a[2]!));
      case 'recv':
        return this.#recv(a[0]!, this.#slice(a[1]!, a[2]!), (a[3]! & MSG_PEEK) !== 0);
      case 'write':
        return this.#write(a[0]!, [this.#slice(a[1]!, a[2]!)]);
      case 'writev':
        return this.#write(a[0]!, this.#iovec(a[1]!, a[2]!));
      case 'send':
        return this.#send(a[0]!, [this.#slice(a[1]!, a[2]!)], null);
      case 'sendto':
        return this.#send(a[0]!, [this.#slice(a[1]!, a[2]!)], this.#sockaddr(a[4]!));
      case 'sendmsg':
        return this.#sendmsg(a[0]!, a[1]!);
      case 'sendmmsg':
        return this.#sendmmsg(a[0]!, a[1]!, a[2]!);
      case 'recvmsg':
        return this.#recvmsg(a[0]!, a[1]!, a[2]!);
      case 'recvmmsg':
        return this.#recvmmsg(a[0]!, a[1]!, a[2]!);
      case 'madvise':
        return real();
      default:
        return 0;
    }
  }

  #install<F extends File>(make: (fd: number) => F): F {
    // A number is used again at once, as the kernel does (N-03).
    const fd = this.#freeFds.pop() ?? this.#nextFd++;
    const file = make(fd);
    this.files.set(fd, file);
    return file;
  }

  #socket(family: number, type: number, protocol: number): number {
    if (this.files.size >= this.maxOpen) return -EMFILE;
    const v6 = family === 10;
    if ((type & 0xf) === STREAM) {
      const file = this.#install((fd) => new StreamFile(this, fd));
      return file.fd;
    }
    const icmp = protocol === 1 || protocol === 58;
    return this.#install((fd) => new DatagramFile(this, fd, icmp ? 'icmp' : 'udp', v6)).fd;
  }

  #socketpair(address: number): number {
    if (this.files.size + 2 > this.maxOpen) return -EMFILE;
    const ends = [0, 1].map(() => this.#install((fd) => new StreamFile(this, fd))) as [
      StreamFile,
      StreamFile,
    ];
    ends.forEach((end, i) => {
      const other = ends[1 - i] as StreamFile;
      end.state = 'connected';
      end.pair = other;
      end.forget = true;
      end.onData = (data) => other.send(data);
      this.#memory!.view.setInt32(this.#offset(address) + 4 * i, end.fd, true);
    });
    return 0;
  }

  #connect(fd: number, address: number): number {
    const file = this.files.get(fd);
    const to = this.#sockaddr(address);
    if (file instanceof DatagramFile) {
      this.reached.push({ call: 'connect', protocol: file.protocol, ...to });
      file.connected = to;
      return 0;
    }
    if (!(file instanceof StreamFile)) return -EBADF;
    this.reached.push({ call: 'connect', protocol: 'tcp', ...to });
    file.remote = to;
    this.streams.push(file);
    file.state = 'connecting';
    const outcome = this.onConnect(to, file);
    if (typeof outcome === 'number' && outcome < 0) {
      file.state = 'new';
      return outcome;
    }
    this.mostDialing = Math.max(this.mostDialing, ++this.dialing);
    if (to.address.startsWith(UNIX)) {
      file.accept();
      return 0;
    }
    if (outcome === 'accept') file.accept();
    else if (outcome !== 'pending') file.fail(outcome);
    return -EINPROGRESS;
  }

  #bind(fd: number, address: number, length: number): number {
    const file = this.files.get(fd);
    // A unix socket that leaves its name to the kernel (autobind) gets an abstract one.
    const local = length === 2 ? { address: `${UNIX}\0${fd}`, port: 0 } : this.#sockaddr(address);
    this.bound.push(local);
    if (file instanceof StreamFile || file instanceof DatagramFile) {
      file.local = { ...local };
      if (file.local.port === 0 && !local.address.startsWith(UNIX)) file.local.port = 40_000 + fd;
    }
    if (file instanceof DatagramFile) this.boundDatagrams.push(file);
    return 0;
  }

  #listen(fd: number): number {
    const socket = this.files.get(fd);
    if (!(socket instanceof StreamFile)) return -EBADF;
    const file = new ListenFile(this, fd, socket.local);
    this.files.set(fd, file);
    this.listeners.push(file);
    return 0;
  }

  #accept(fd: number, address: number, length: number): number {
    const file = this.files.get(fd);
    if (!(file instanceof ListenFile)) return -EBADF;
    if (file.queue.length === 0) return -EAGAIN;
    if (this.files.size >= this.maxOpen) return -EMFILE;
    const { from, data } = file.queue.shift()!;
    const client = this.#install((n) => new StreamFile(this, n));
    client.state = 'connected';
    client.remote = from;
    client.local = file.local;
    if (data.length > 0) client.send(data);
    file.accepted.push(client);
    const size = this.#putSockaddr(this.#offset(address), from);
    this.#memory!.view.setUint32(this.#offset(length), size, true);
    return client.fd;
  }

  #name(fd: number, peer: boolean, address: number, length: number): number {
    const file = this.files.get(fd);
    if (file instanceof DatagramFile) {
      const end = peer ? file.connected : file.local;
      if (end === null) return -ENOTCONN;
      this.#memory!.view.setUint32(this.#offset(length), this.#putSockaddr(this.#offset(address), end), true);
      return 0;
    }
    if (!(file instanceof StreamFile || file instanceof ListenFile)) return -EBADF;
    if (peer && (file instanceof ListenFile || file.state !== 'connected' || file.peerReset))
      return -ENOTCONN;
    const end = peer ? (file as StreamFile).remote : file.local;
    const size = this.#putSockaddr(this.#offset(address), end);
    this.#memory!.view.setUint32(this.#offset(length), size, true);
    return 0;
  }

  #close(fd: number): number {
    const file = this.files.get(fd);
    if (file === undefined) return -EBADF;
    file.closed = true;
    if (file instanceof StreamFile && file.state === 'connecting') this.dialing--;
    if (file instanceof StreamFile) file.pair?.end();
    this.files.delete(fd);
    this.#edges.delete(fd);
    this.#freeFds.push(fd);
    for (const other of this.files.values()) if (other instanceof EpollFile) other.watched.delete(fd);
    return 0;
  }

  #shutdown(fd: number): number {
    const file = this.files.get(fd);
    if (!(file instanceof StreamFile)) return -EBADF;
    file.shutWrite = true;
    file.pair?.end();
    return 0;
  }

  #getsockopt(a: number[]): number {
    const file = this.files.get(a[0]!);
    if (a[2] !== SO_ERROR || a[1] !== 1) return 0;
    const at = this.#offset(a[3]!);
    const holder = file as StreamFile | DatagramFile;
    this.#memory!.view.setInt32(at, holder.pendingError, true);
    holder.pendingError = 0;
    return 0;
  }

  #setsockopt(a: number[]): number {
    const file = this.files.get(a[0]!);
    if (file === undefined) return -EBADF;
    if (a[1] === 1 && a[2] === SO_BINDTODEVICE) this.boundDevices.push(this.#slice(a[3]!, a[4]!).toString());
    if (a[1] === 1 && a[2] === SO_LINGER && file instanceof StreamFile) file.lingerReset = true;
    if (file instanceof StreamFile)
      file.options.set(`${a[1]}:${a[2]}`, this.#memory!.view.getInt32(this.#offset(a[3]!), true));
    if (file instanceof DatagramFile && a[1] === 1 && a[2] === SO_RCVBUF)
      file.receiveBytes = this.#memory!.view.getInt32(this.#offset(a[3]!), true);
    if (file instanceof DatagramFile && a[2] === (file.v6 ? IPV6_RECVPKTINFO : IP_PKTINFO))
      file.wantsContacted = true;
    return 0;
  }

  #read(fd: number, targets: Buffer[]): number {
    const file = this.files.get(fd);
    if (file instanceof StreamFile) return file.read(targets);
    if (!(file instanceof DeviceFile)) return -EBADF;
    const error = file.readErrors.shift();
    if (error !== undefined && error !== 0) return error;
    const frame = file.toProgram.shift();
    if (frame !== undefined) return frame.copy(targets[0] as Buffer);
    const made = file.source?.(targets[0] as Buffer) ?? 0;
    if (made > 0) return made;
    file.source = null;
    return -EAGAIN;
  }

  #recv(fd: number, target: Buffer, peek: boolean): number {
    const file = this.files.get(fd);
    if (file instanceof StreamFile) return peek ? file.peek(target) : file.read([target]);
    if (!(file instanceof DatagramFile)) return -EBADF;
    if (file.pendingError !== 0) {
      const error = file.pendingError;
      file.pendingError = 0;
      return -error;
    }
    const next = file.inbox.shift();
    return next === undefined ? -EAGAIN : next.payload.copy(target);
  }

  #write(fd: number, pieces: Buffer[]): number {
    const file = this.files.get(fd);
    if (file instanceof StreamFile) return file.write(pieces);
    if (!(file instanceof DeviceFile)) return -EBADF;
    const error = file.writeErrors.shift();
    if (error !== undefined && error !== 0) return error;
    const frame = Buffer.concat(pieces);
    if (file.sink === null) file.fromProgram.push(frame);
    else file.sink(frame);
    return frame.length;
  }

  #send(fd: number, pieces: Buffer[], to: Endpoint | null, segment = 0, source = ''): number {
    const file = this.files.get(fd);
    if (file instanceof StreamFile) return file.write(pieces);
    if (!(file instanceof DatagramFile)) return -EBADF;
    const target = to ?? file.connected;
    if (target === null) return -89;
    if (to !== null) this.reached.push({ call: 'send', protocol: file.protocol, ...to });
    if (file.pendingError !== 0) {
      const error = file.pendingError;
      file.pendingError = 0;
      return -error;
    }
    const all = Buffer.concat(pieces);
    const size = segment > 0 ? segment : Math.max(all.length, 1);
    for (let at = 0; at < all.length || at === 0; at += size) {
      const datagram: Datagram = {
        ...target,
        protocol: file.protocol,
        payload: all.subarray(at, at + size),
        file,
        source,
      };
      file.sent++;
      if (this.keepDatagrams) this.datagrams.push(datagram);
      this.onDatagram(datagram);
    }
    return all.length;
  }

  #sendmsg(fd: number, address: number): number {
    const m = this.#msghdr(address);
    const { view, bytes } = this.#memory!;
    let segment = 0;
    let source = '';
    const end = m.control + m.controlLength;
    for (let at = m.control; at < end; at += (view.getUint32(at, true) + 7) & ~7) {
      const type = view.getUint32(at + 12, true);
      const data = at + 16;
      if (type === UDP_SEGMENT) segment = view.getUint16(data, true);
      else if (type === IP_PKTINFO) source = ipText(bytes.subarray(data + 4, data + 8));
      else if (type === IPV6_PKTINFO) source = ipText(bytes.subarray(data, data + 16));
    }
    return this.#send(fd, m.pieces, m.nameLength > 0 ? this.#sockaddr(m.name) : null, segment, source);
  }

  #sendmmsg(fd: number, address: number, count: number): number {
    for (let i = 0; i < count; i++) {
      const n = this.#sendmsg(fd, address + i * 64);
      if (n < 0) return i > 0 ? i : n;
    }
    return count;
  }

  #recvmsg(fd: number, address: number, flags: number): number {
    const file = this.files.get(fd);
    if (!(file instanceof DatagramFile)) return -EBADF;
    if ((flags & MSG_ERRQUEUE) !== 0) return this.#recvError(file, address);
    return this.#recvInto(file, address);
  }

  #recvInto(file: DatagramFile, address: number): number {
    if (file.pendingError !== 0) {
      const error = file.pendingError;
      file.pendingError = 0;
      return -error;
    }
    const next = file.inbox.shift();
    if (next === undefined) return -EAGAIN;
    const m = this.#msghdr(address);
    const { view } = this.#structures!;
    const header = this.#structure(address);
    if (m.nameLength > 0)
      view.setUint32(header + 8, this.#putSockaddr(this.#offset(m.name), next.from), true);
    const told =
      file.wantsContacted && next.contacted !== '' ? this.#putContacted(m.control, next.contacted) : 0;
    view.setUint32(header + 40, told, true);
    return next.payload.copy(m.pieces[0] as Buffer);
  }

  /** Ancillary data that tell which address of ours was contacted; how many bytes they are. */
  #putContacted(at: number, contacted: string): number {
    const { view, bytes } = this.#memory!;
    const address = ipBytes(contacted);
    const isV4 = address.length === 4;
    const size = 16 + (isV4 ? 12 : 20);
    bytes.fill(0, at, at + size);
    view.setUint32(at, size, true);
    view.setUint32(at + 8, isV4 ? 0 : 41, true);
    view.setUint32(at + 12, isV4 ? IP_PKTINFO : IPV6_PKTINFO, true);
    address.copy(bytes, at + (isV4 ? 20 : 16));
    return size;
  }

  #recvmmsg(fd: number, address: number, count: number): number {
    const file = this.files.get(fd);
    if (!(file instanceof DatagramFile)) return -EBADF;
    for (let i = 0; i < count; i++) {
      const n = this.#recvInto(file, address + i * 64);
      if (n < 0) return i > 0 ? i : n;
      this.#structures!.view.setUint32(this.#structure(address) + i * 64 + 56, n, true);
    }
    return count;
  }

  #recvError(file: DatagramFile, address: number): number {
    const next = file.errors.shift();
    if (next === undefined) return -EAGAIN;
    const m = this.#msghdr(address);
    const view = this.#memory!.view;
    const headers = this.#structures!.view;
    const header = this.#structure(address);
    headers.setUint32(header + 8, this.#putSockaddr(this.#offset(m.name), next.destination), true);
    const at = m.control;
    const offender = next.offender === '' ? 0 : 28;
    view.setUint32(at, 16 + 16 + offender, true);
    view.setUint32(at + 4, 0, true);
    view.setUint32(at + 8, file.v6 ? 41 : 0, true);
    view.setUint32(at + 12, file.v6 ? 25 : 11, true);
    view.setUint32(at + 16, next.errno, true);
    view.setUint8(at + 20, next.origin);
    view.setUint8(at + 21, next.type);
    view.setUint8(at + 22, next.code);
    view.setUint8(at + 23, 0);
    view.setUint32(at + 24, next.info, true);
    view.setUint32(at + 28, 0, true);
    if (offender > 0) this.#putSockaddr(at + 32, { address: next.offender, port: 0 });
    headers.setUint32(header + 40, 32 + offender, true);
    return next.payload.copy(m.pieces[0] as Buffer);
  }

  #epollCtl(epfd: number, operation: number, fd: number, address: number): number {
    const epoll = this.files.get(epfd) as EpollFile;
    if (operation === 2) {
      epoll.watched.delete(fd);
      return 0;
    }
    const file = this.files.get(fd);
    if (file === undefined) return -EBADF;
    if (operation === 1 && epoll.watched.has(fd)) return -EEXIST;
    const { view } = this.#structures!;
    const at = this.#structure(address);
    const events = view.getUint32(at, true);
    const data = process.arch === 'x64' ? 4 : 8;
    epoll.watched.set(fd, {
      events,
      low: view.getUint32(at + data, true),
      high: view.getUint32(at + data + 4, true),
    });
    this.#edges.add(fd);
    return 0;
  }

  #epollWait(epfd: number, address: number, max: number): number {
    const epoll = this.files.get(epfd) as EpollFile;
    const { view } = this.#structures!;
    const size = process.arch === 'x64' ? 12 : 16;
    const data = process.arch === 'x64' ? 4 : 8;
    let n = 0;
    const report = (fd: number): void => {
      const watch = epoll.watched.get(fd);
      const file = this.files.get(fd);
      if (watch === undefined || file === undefined) return;
      const ready = file.readiness() & (watch.events | ERR | HUP);
      if (ready === 0) return;
      const at = this.#structure(address) + n * size;
      view.setUint32(at, ready, true);
      view.setUint32(at + data, watch.low, true);
      view.setUint32(at + data + 4, watch.high, true);
      n++;
    };
    if (this.device !== null && n < max && epoll.watched.has(this.device.fd)) {
      this.#edges.delete(this.device.fd);
      report(this.device.fd);
    }
    for (const fd of this.#edges) {
      if (n === max) break;
      this.#edges.delete(fd);
      report(fd);
    }
    return n;
  }

  #offset(address: number): number {
    const at = address - this.#memory!.base;
    if (at < 0 || at > this.#memory!.bytes.length) throw new Error(`a pointer outside the arena: ${address}`);
    return at;
  }

  #slice(address: number, length: number): Buffer {
    const at = this.#offset(address);
    return this.#memory!.bytes.subarray(at, at + length);
  }

  /** Where `address` is among the structures. */
  #structure(address: number): number {
    const at = address - this.#structures!.address(0, 0);
    if (at < 0 || at > this.#structures!.view.byteLength) throw new Error(`no structure: ${address}`);
    return at;
  }

  /** The pointer at `at` of the structures. */
  #pointer(at: number): number {
    const { view } = this.#structures!;
    return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
  }

  #iovec(address: number, count: number): Buffer[] {
    const at = this.#structure(address);
    return Array.from({ length: count }, (_, i) =>
      this.#slice(this.#pointer(at + 16 * i), this.#structures!.view.getUint32(at + 16 * i + 8, true)),
    );
  }

  #msghdr(address: number): {
    name: number;
    nameLength: number;
    pieces: Buffer[];
    control: number;
    controlLength: number;
  } {
    const at = this.#structure(address);
    const { view } = this.#structures!;
    const control = this.#pointer(at + 32);
    return {
      name: this.#pointer(at),
      nameLength: view.getUint32(at + 8, true),
      pieces: this.#iovec(this.#pointer(at + 16), view.getUint32(at + 24, true)),
      control: control === 0 ? 0 : this.#offset(control),
      controlLength: view.getUint32(at + 40, true),
    };
  }

  #sockaddr(address: number): Endpoint {
    const at = this.#offset(address);
    const { view, bytes } = this.#memory!;
    if (view.getUint16(at, true) === 1) {
      const path = bytes.subarray(at + 2, bytes.indexOf(0, at + 2));
      return { address: UNIX + path.toString(), port: 0 };
    }
    const v4 = view.getUint16(at, true) === 2;
    return {
      address: ipText(v4 ? bytes.subarray(at + 4, at + 8) : bytes.subarray(at + 8, at + 24)),
      port: view.getUint16(at + 2),
    };
  }

  #putSockaddr(at: number, from: Endpoint): number {
    const { view, bytes } = this.#memory!;
    if (from.address.startsWith(UNIX)) {
      const path = Buffer.from(from.address.slice(UNIX.length));
      view.setUint16(at, 1, true);
      path.copy(bytes, at + 2);
      bytes[at + 2 + path.length] = 0;
      return path.length === 0 ? 2 : 3 + path.length;
    }
    const address = ipBytes(from.address);
    view.setUint16(at, address.length === 4 ? 2 : 10, true);
    view.setUint16(at + 2, from.port);
    view.setUint32(at + 4, 0);
    address.copy(bytes, at + (address.length === 4 ? 4 : 8));
    return address.length === 4 ? 16 : 28;
  }
}
