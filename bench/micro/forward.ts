/**
 * Flows with real host sockets on the loopback interface, and a turn of the event loop. What the system calls cost is in
 * the times; what they allocate (16 bytes a call: an address does not fit a small integer) is in the bytes.
 */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { parseRuleList } from '../../src/cli/rule.ts';
import { defaultLimits } from '../../src/config.ts';
import { EventLoop } from '../../src/engine/event-loop.ts';
import { HostRouteTable } from '../../src/firewall/host-routes.ts';
import { toRuleSpec } from '../../src/firewall/rule.ts';
import { Policy } from '../../src/firewall/verdict.ts';
import { DnsFlows } from '../../src/forward/dns/flows.ts';
import type { FlowContext } from '../../src/forward/flow/context.ts';
import { Denials } from '../../src/forward/flow/denials.ts';
import { DescriptorBudget } from '../../src/forward/flow/descriptor-budget.ts';
import { PagePool } from '../../src/forward/flow/page-pool.ts';
import { FlowReports } from '../../src/forward/flow/reports.ts';
import { FlowScratch } from '../../src/forward/flow/scratch.ts';
import { InsideChannel } from '../../src/forward/splice/inside-channel.ts';
import { AddressMappings } from '../../src/forward/target/address-mappings.ts';
import { HostNames } from '../../src/forward/target/name-questions.ts';
import { RemoteForwards } from '../../src/forward/target/remote-forwards.ts';
import { Resolvers } from '../../src/forward/target/resolvers.ts';
import { TcpFlows } from '../../src/forward/tcp/flows.ts';
import { UdpFlows } from '../../src/forward/udp/flows.ts';
import type { IoHandler, Poller } from '../../src/loop.ts';
import { profiles } from '../../src/profiles.ts';
import { PAGE_SIZE } from '../../src/stack/buffer/slab.ts';
import type { IngressHandler } from '../../src/stack/link/ingress-parts.ts';
import type { Packet } from '../../src/stack/link/packet.ts';
import { Solicitor } from '../../src/stack/neighbor/solicitor.ts';
import { noCongestionControl } from '../../src/stack/tcp/congestion/none.ts';
import { seqAdd } from '../../src/stack/tcp/seq.ts';
import { type IpAddress, parseIpAddress } from '../../src/stack/wire/address.ts';
import { parseTcp, TCP_ACK, TCP_SYN, TcpHeader } from '../../src/stack/wire/tcp.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN, type UdpHeader } from '../../src/stack/wire/udp.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM, VnetHeader } from '../../src/stack/wire/vnet-header.ts';
import { EPOLLIN, EPOLLOUT } from '../../src/sys/epoll.ts';
import { close as closeDescriptor, eventfd, write } from '../../src/sys/io.ts';
import { Memory } from '../../src/sys/memory.ts';
import { recv, send } from '../../src/sys/socket.ts';
import { type Case, type CaseGroup, keep } from './case.ts';
import { dataHeader, GUEST_PORT, guest4, MSS, putIp, putTcpFrame, Stack } from './fixture.ts';

const BUFFER = 1024 * 1024;
/** Frames of one batch of the device. */
const BATCH = 32;
const DATAGRAM = 1400;
const TCP_OFFSET = 34;

/** Remembers who asked to be told, and tells nobody. */
class ManualPoller implements Poller {
  last: IoHandler | null = null;

  add(_fd: number, _events: number, handler: IoHandler): number {
    this.last = handler;
    return 0;
  }

  modify(): number {
    return 0;
  }

  remove(): void {}

  forget(): void {}

  ready(): void {}
  readClock(): void {}
}

class Flows implements IngressHandler {
  readonly tcp: TcpFlows;
  readonly udp: UdpFlows;

  constructor(context: FlowContext) {
    this.tcp = new TcpFlows(context, BUFFER, null, BUFFER, () => noCongestionControl);
    this.udp = new UdpFlows(context, new DnsFlows(context));
  }

  onTcp(p: Packet, h: TcpHeader): void {
    this.tcp.onTcp(p, h);
  }

  onUdp(p: Packet, h: UdpHeader): void {
    this.udp.onUdp(p, h);
  }

  onEcho(): void {}

  onUnreachable(): boolean {
    return false;
  }
}

/** The host's end of the flow: descriptors that we read and write ourselves. */
interface HostEnds {
  readonly server: Server;
  readonly datagrams: DatagramSocket;
  readonly tcpPort: number;
  readonly udpPort: number;
}

async function hostEnds(): Promise<HostEnds> {
  const server = createServer({ pauseOnConnect: true, noDelay: true });
  server.listen(0, '127.0.0.1');
  const datagrams = createSocket('udp4');
  datagrams.bind(0, '127.0.0.1');
  await Promise.all([once(server, 'listening'), once(datagrams, 'listening')]);
  const tcpPort = (server.address() as AddressInfo).port;
  return { server, datagrams, tcpPort, udpPort: datagrams.address().port };
}

/** libuv's descriptor of a socket: Node has no public name for it. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

export async function forwardCases(): Promise<CaseGroup> {
  const stack = new Stack(true);
  const { slab, clock } = stack;
  const { view } = slab;
  const memory = new Memory(slab.buffer);
  const loop = new EventLoop(memory, slab, (error) => {
    throw error;
  });
  const poller = new ManualPoller();
  const spec = {
    enableRouting: true,
    enableHost: false,
    allow: parseRuleList('tcp://127.0.0.1,udp://127.0.0.1').map((rule) => toRuleSpec(rule)),
    deny: [],
    guestNetworks: [{ address: '10.0.2.0', bits: 120 }],
  };
  const { own, counters, rng, hash, egress, icmp, link, neighbors } = stack;
  const context: FlowContext = {
    memory,
    slab,
    scratch: new FlowScratch(slab, memory),
    poller,
    timers: loop.timers,
    clock,
    rng,
    hash,
    limits: defaultLimits,
    counters,
    descriptors: new DescriptorBudget(1000),
    pages: new PagePool(slab).join(
      () => slab.pageCount * PAGE_SIZE,
      () => undefined,
    ),
    link,
    own,
    mappings: new AddressMappings(own, []),
    egress,
    icmp,
    solicitor: new Solicitor(link, own, neighbors, egress, slab.view),
    policy: new Policy(spec, new HostRouteTable()),
    resolvers: new Resolvers(),
    names: new HostNames(() => {}, clock, loop.timers, 0),
    inside: new InsideChannel(poller, loop.timers, clock),
    remoteForwards: new RemoteForwards(own),
    behavior: profiles.tslirp,
    source4: null,
    source6: null,
    outboundInterface4: '',
    outboundInterface6: '',
    dnsEnabled: false,
    refreshHostRoutes: () => true,
    newFlowId: () => 0,
    reports: new FlowReports({ clock, timers: loop.timers, report: () => {} }, counters, 0),
    denials: new Denials({ clock, timers: loop.timers, report: () => {} }, 'sampled', () => false),
    onError: () => {},
    touched: () => {},
    log: () => {},
  };
  const flows = new Flows(context);
  const ingress = stack.ingress(flows);
  const host = await hostEnds();
  const remote: IpAddress = parseIpAddress('127.0.0.1');
  const offload = new VnetHeader();
  offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;

  // A connection from the guest, up to its first byte.
  const h = dataHeader();
  h.dstPort = host.tcpPort;
  h.flags = TCP_SYN;
  h.mss = 1460;
  h.sackPermitted = true;
  h.windowScale = 7;
  const frame = slab.region(4096);
  const connection = once(host.server, 'connection');
  ingress.receive(frame, putTcpFrame(stack, frame, guest4, remote, h, 0), offload, clock.nowMs);
  const [accepted] = (await connection) as [Socket];
  const hostFd = descriptorOf(accepted);
  const flow = poller.last as IoHandler;
  const answer = new TcpHeader();
  const readAnswer = (): void => {
    parseTcp(view, link.headOffset + TCP_OFFSET, 60, answer);
  };
  flow.onIo(EPOLLOUT);
  readAnswer();
  h.flags = TCP_ACK;
  h.mss = -1;
  h.sackPermitted = false;
  h.windowScale = -1;
  h.seq = seqAdd(h.seq, 1);
  h.ack = seqAdd(answer.seq, 1);
  h.tsEcr = answer.tsVal;
  const ackLength = putTcpFrame(stack, frame, guest4, remote, h, 0);
  ingress.receive(frame, ackLength, offload, clock.nowMs);
  flows.tcp.settle();

  const data = slab.region(4096);
  const dataLength = putTcpFrame(stack, data, guest4, remote, h, MSS);
  const buffer = slab.region(65536);
  const seqAt = TCP_OFFSET + 4;
  let seq = h.seq;

  /** `count` segments with data in one batch of frames; how many bytes the host read. */
  const upload = (count: number): number => {
    clock.nowMs += 0.01;
    clock.turn++;
    for (let i = 0; i < count; i++) {
      view.setUint32(data + seqAt, seq);
      seq = seqAdd(seq, MSS);
      ingress.receive(data, dataLength, offload, clock.nowMs);
    }
    flows.tcp.settle();
    let total = 0;
    for (let n = 1; n > 0; total += Math.max(n, 0)) n = recv(memory, hostFd, buffer, 65536);
    return total;
  };
  /** The host sends, the guest acknowledges. */
  const download = (bytes: number): void => {
    clock.nowMs += 0.01;
    clock.turn++;
    send(memory, hostFd, buffer, bytes);
    flow.onIo(EPOLLIN | EPOLLOUT);
    readAnswer();
    view.setUint32(frame + seqAt, seq);
    view.setUint32(frame + seqAt + 4, seqAdd(answer.seq, link.payloadLength));
    ingress.receive(frame, ackLength, offload, clock.nowMs);
    flows.tcp.settle();
  };

  // Datagrams to a socket that nobody reads: what does not fit is dropped by the kernel.
  const udp = slab.region(4096);
  const total = UDP_HEADER_LEN + DATAGRAM;
  const udpAt = putIp(stack, udp, guest4, remote, PROTOCOL_UDP, total);
  emitUdp(view, udpAt, GUEST_PORT, host.udpPort, total, 0);
  const sendDatagrams = (count: number): void => {
    clock.nowMs += 0.01;
    clock.turn++;
    for (let i = 0; i < count; i++) ingress.receive(udp, udpAt + total - udp, offload, clock.nowMs);
    flows.udp.flush();
  };

  // What is measured must be what is meant.
  if (upload(2) !== 2 * MSS) throw new Error('upload: the host did not get the bytes');
  download(100);
  if (answer.ack !== seq) throw new Error('download: the guest did not get the bytes');
  sendDatagrams(1);
  if (flows.udp.size !== 1) throw new Error('no datagram left');

  // An event that is always there: a turn without any would wait.
  const again: IoHandler = { waiting: false, onIo: () => {} };
  const event = eventfd();
  view.setUint32(buffer, 1, true);
  view.setUint32(buffer + 4, 0, true);
  write(memory, event, buffer, 8);
  loop.add(event, EPOLLIN, again);
  const c = (name: string, calls: number, run: () => void): Case => ({ group: 'forward', name, calls, run });
  return {
    cases: [
      c('TCP: 1 segment up, written, ACK out', 1, () => keep(upload(1))),
      c('TCP: 32 segments up in one batch, per segment', BATCH, () => keep(upload(BATCH))),
      c('TCP: 100 bytes down, ACK in', 1, () => download(100)),
      c('TCP: 64 KiB down, ACK in', 1, () => download(45 * MSS)),
      c('UDP: 1 datagram up', 1, () => sendDatagrams(1)),
      c('UDP: 32 datagrams up in one batch, per datagram', BATCH, () => sendDatagrams(BATCH)),
      c('EventLoop.turn: one event', 1, () => keep(loop.turn())),
      c('EventLoop.turn: one event, one handler left over', 1, () => {
        loop.ready(again);
        keep(loop.turn());
      }),
    ],
    close: () => {
      host.server.close();
      host.datagrams.close();
      closeDescriptor(event);
      accepted.destroy();
    },
  };
}
