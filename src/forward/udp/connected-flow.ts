/**
 * One UDP flow between a guest's address and port and one destination, with a connected host socket of its own: those
 * of remote forwards, and routed ones where `GuestBehavior.udpMapping` says so. Only the destination can answer, and
 * the guest sees it answer from the address it sent to.
 *
 * Theory of operation:
 *
 *   name → RESOLVING → open          address, unix path → open at once          open → over
 *
 * Datagrams that come while a name is being resolved wait in a bounded queue. So do those that a unix socket has no room
 * for, because it says when there is some; a UDP socket drops, as any router does. An error of the host socket (nobody
 * listens) ends the flow, and so do `idleMs` without a word, and for an `rpc` forward the first answer. The guest's next
 * datagram then makes a new one.
 *
 * Left out on purpose: IP_RECVERR. A connected socket is told what matters to it, and the guest's own path MTU and hop
 * limits end at the forward.
 */
import type { HostEnd } from '../../config.ts';
import { IpAddress, parseIpAddress } from '../../stack/wire/address.ts';
import { DropReason } from '../../stack/wire/drop-reason.ts';
import { EPOLLERR, EPOLLIN, EPOLLOUT } from '../../sys/epoll.ts';
import { EAGAIN, EINTR, EMFILE, EMSGSIZE } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import { AF_UNIX, bind, connect, putSockaddrAutobind, SOCK_DGRAM, socket } from '../../sys/socket.ts';
import { DatagramFlow, type DatagramFlowOwner } from '../flow/datagram-flow.ts';
import type { FlowEnds } from '../flow/info.ts';
import { END_OF_FILE, endpoint, Half, localEnd, remoteEnd, targetEnd } from '../flow/record.ts';
import type { NameWaiter } from '../target/name-questions.ts';
import { type RemoteForward, splitZone } from '../target/remote-forwards.ts';
import type { Target } from '../target/target.ts';
import type { DatagramBatch, ReceiveSlots } from './batch.ts';
import { DatagramQueue, type QueuedTotal } from './datagram-queue.ts';

const IDLE_MS = 125_000;
/** Below this the guest counts hops (traceroute); from it on the system's own value serves. */
const TTL_OF_INTEREST = 32;
const RECEIVES_PER_TURN = 8;

export interface ConnectedUdpOwner extends DatagramFlowOwner {
  readonly slots: ReceiveSlots;
  readonly queued: QueuedTotal;
  /** The policy still lets the destination of this routed flow be reached. */
  mayAnswer(flow: ConnectedUdpFlow): boolean;
  /** The host cannot be reached, or not any more: tell the guest. */
  refused(flow: ConnectedUdpFlow, errno: number): void;
}

export class ConnectedUdpFlow extends DatagramFlow<ConnectedUdpOwner> implements NameWaiter {
  readonly #forward: RemoteForward | null;
  /** What waits for the name, or for room in a unix socket's queue; null when nothing ever has to. */
  #queue: DatagramQueue | null = null;
  /** The question about the target's name, or -1. */
  #request = -1;
  #isUnix = false;
  /** The host's end, where it is an address; unspecified until it is known. */
  readonly #hostAddress = new IpAddress();
  #hostPort = 0;
  #over = false;

  /** `remote` is the destination as the guest knows it. */
  constructor(
    owner: ConnectedUdpOwner,
    guest: IpAddress,
    remote: IpAddress,
    ports: number,
    forward: RemoteForward | null,
  ) {
    super(owner, IDLE_MS, 'udp', guest, remote.clone(), ports, forward);
    this.#forward = forward;
  }

  /** Open the way to `target`, or begin to find it; 0, or `-errno` and the flow is over. */
  open(target: Target): number {
    const end = this.#forward?.target;
    let result: number;
    if (end?.kind === 'name') {
      this.#queue = new DatagramQueue(this.context.slab, this.owner.queued);
      this.#request = this.context.names.resolve(end.label, end.port || this.remotePort, 'udp', this);
      result = this.#request < 0 ? -EMFILE : 0;
    } else {
      result =
        end?.kind === 'unix'
          ? this.#openUnix(end.path)
          : this.#openAddress(target.address, target.port, target.scopeId);
    }
    if (result < 0) this.#fail(-result, '');
    else this.used();
    return result;
  }

  /** Send the guest's datagrams. The target was chosen when the flow was opened. */
  send(batch: DatagramBatch, _target: Target, ttl: number): void {
    this.used();
    this.owner.touch(this);
    this.record.bytesOut += batch.length;
    if (this.#queue !== null) {
      const { count } = batch;
      for (let i = 0; i < count && !this.#over; i++)
        this.#sendOrKeep(this.#queue, batch.offsetAt(i), batch.lengthAt(i));
      return;
    }
    this.socket.setHopLimit(ttl < TTL_OF_INTEREST ? ttl - (this.context.own.isHop ? 1 : 0) : 0);
    this.context.scratch.sockaddrLength = 0;
    this.socket.send(batch);
  }

  onIo(events: number): void {
    if (this.#over || this.socket.fd < 0) return;
    if ((events & EPOLLOUT) !== 0) this.#flush();
    if (!this.#over) this.#receive(events);
  }

  /** The control plane found the target's address, or did not. */
  onResolved(end: HostEnd | null, reason: string): void {
    this.#request = -1;
    if (end === null) {
      this.#fail(0, reason);
      return;
    }
    let result: number;
    if (end.kind === 'unix') {
      result = this.#openUnix(end.path);
    } else {
      const zone = splitZone(end.address);
      result = this.#openAddress(parseIpAddress(zone.address), end.port || this.remotePort, zone.scopeId);
    }
    if (result < 0) {
      this.#fail(-result, '');
      return;
    }
    this.#flush();
    if (!this.#isUnix) this.#queue = null;
  }

  override get isOver(): boolean {
    return this.#over;
  }

  protected override get state(): string {
    return this.#request >= 0 ? 'RESOLVING' : 'OPEN';
  }

  override close(): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#request >= 0) this.context.names.cancel(this.#request);
    this.record.closed(this.context, this);
    this.#release();
  }

  protected onIdle(): void {
    this.#end(Half.GuestRead, END_OF_FILE);
  }

  #openAddress(address: IpAddress, port: number, scopeId: number): number {
    const { scratch } = this.context;
    this.#hostAddress.copyFrom(address);
    this.#hostPort = port;
    let result = this.socket.open(address, 0, this);
    if (result < 0) return result;
    scratch.putAddress(address, port, scopeId);
    result = this.socket.connect();
    if (result === 0) this.record.opened(this.context, this);
    return result;
  }

  #openUnix(path: string): number {
    const { memory, scratch } = this.context;
    const fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (fd < 0) return fd;
    // Without a name of our own the service could not answer.
    let result = bind(memory, fd, scratch.sockaddr, putSockaddrAutobind(memory, scratch.sockaddr));
    if (result === 0) {
      scratch.putUnixPath(path);
      result = connect(memory, fd, scratch.sockaddr, scratch.sockaddrLength);
    }
    if (result < 0) {
      close(fd);
      return result;
    }
    result = this.socket.adopt(fd, AF_UNIX, EPOLLIN | EPOLLOUT, this);
    if (result < 0) return result;
    this.#isUnix = true;
    this.#queue ??= new DatagramQueue(this.context.slab, this.owner.queued);
    this.record.opened(this.context, this);
    return 0;
  }

  #sendOrKeep(queue: DatagramQueue, offset: number, length: number): void {
    if (this.#request < 0 && queue.length === 0) {
      this.context.scratch.sockaddrLength = 0;
      const result = this.socket.sendOne(offset, length);
      if (result !== -EAGAIN) {
        if (result < 0 && result !== -EMSGSIZE) this.#end(Half.HostWrite, -result);
        return;
      }
    }
    if (!queue.add(offset, length)) this.context.counters.drop(DropReason.UdpLimit);
  }

  /** Send what waits, as far as there is room. */
  #flush(): void {
    const queue = this.#queue;
    if (queue === null || this.#request >= 0) return;
    const at = this.owner.slots.payloadAt(0);
    for (let length = queue.peek(at); length >= 0; length = queue.peek(at)) {
      this.context.scratch.sockaddrLength = 0;
      const result = this.socket.sendOne(at, length);
      if (result === -EAGAIN && this.#isUnix) return;
      queue.shift();
      if (result < 0 && this.#isUnix && result !== -EMSGSIZE) {
        this.#end(Half.HostWrite, -result);
        return;
      }
    }
  }

  #receive(events: number): void {
    const { slots } = this.owner;
    let failed = 0;
    for (let turn = 0; turn < RECEIVES_PER_TURN; turn++) {
      const count = this.socket.receive(slots);
      if (count === -EAGAIN) break;
      if (count < 0) {
        // Told before what came in earlier: that is read first.
        if (count !== -EINTR && count !== -EMSGSIZE) failed = -count;
        continue;
      }
      if (!this.#deliver(count)) return;
      if (count < slots.count && failed === 0 && (events & EPOLLERR) === 0) return;
      if (turn === RECEIVES_PER_TURN - 1 && failed === 0) {
        this.context.poller.ready(this);
        return;
      }
    }
    if (failed === 0) return;
    this.owner.refused(this, failed);
    this.#end(Half.HostRead, failed);
  }

  /** Pass `count` answers on; false: the flow is over. */
  #deliver(count: number): boolean {
    const { slots } = this.owner;
    const isRpc = this.#forward?.rpc === true;
    if (this.#forward === null && !this.owner.mayAnswer(this)) return true;
    this.used();
    this.owner.touch(this);
    this.record.bytesIn += slots.pass(
      0,
      isRpc ? 1 : count,
      0,
      this.remote,
      this.remotePort,
      this.guest,
      this.guestPort,
      this.context,
    );
    if (isRpc) this.#end(Half.HostRead, END_OF_FILE);
    return !isRpc;
  }

  /** One half ended, and so the other does. */
  #end(half: Half, code: number): void {
    if (this.#over) return;
    this.record.endedWhole(half, code);
    this.close();
  }

  /** It could not be opened: `errno`, or `reason` where there is none. */
  #fail(errno: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    if (errno !== 0) this.record.ended(Half.HostRead, errno);
    this.owner.refused(this, errno);
    this.record.closed(this.context, this, reason);
    this.#release();
  }

  #release(): void {
    this.#queue?.clear();
    this.socket.close();
    this.context.timers.cancel(this);
    this.owner.ended(this);
  }

  override ends(): FlowEnds {
    const { fd } = this.socket;
    let right = remoteEnd(this.context, fd);
    if (right.address === '') {
      const known = !this.#hostAddress.isUnspecified || this.#forward === null;
      right = known
        ? endpoint(this.#hostAddress, this.#hostPort)
        : targetEnd(this.#forward as RemoteForward, this.remotePort);
    }
    return {
      left: endpoint(this.guest, this.guestPort),
      leftLocal: endpoint(this.remote, this.remotePort),
      right,
      rightLocal: localEnd(this.context, fd),
    };
  }
}
