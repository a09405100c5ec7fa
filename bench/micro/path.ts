/** Whole frames: `Ingress.receive` to a handler that does nothing, `Egress` to a link that does nothing, and the TAP link. */
import { closeSync, openSync } from 'node:fs';
import { defaultAddresses } from '../../src/config.ts';
import { type LinkServices, RxFrame } from '../../src/device/device-link.ts';
import { FrameIo } from '../../src/device/frame-io.ts';
import { TapLink } from '../../src/device/tap-link.ts';
import { EventLoop } from '../../src/engine/event-loop.ts';
import type { IngressHandler } from '../../src/stack/link/ingress-parts.ts';
import { TxFrame } from '../../src/stack/link/link.ts';
import type { Packet } from '../../src/stack/link/packet.ts';
import { type IpAddress, parseIpAddress } from '../../src/stack/wire/address.ts';
import { checksum, pseudoHeaderSum, sumBytes } from '../../src/stack/wire/checksum.ts';
import type { TcpHeader } from '../../src/stack/wire/tcp.ts';
import { emitUdp, PROTOCOL_UDP, UDP_HEADER_LEN, type UdpHeader } from '../../src/stack/wire/udp.ts';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM, VnetHeader } from '../../src/stack/wire/vnet-header.ts';
import { Memory } from '../../src/sys/memory.ts';
import { type Case, type CaseGroup, keep } from './case.ts';
import {
  dataHeader,
  GUEST_PORT,
  guest4,
  guest6,
  MSS,
  MTU,
  putIp,
  putTcpFrame,
  REMOTE_PORT,
  remote4,
  remote6,
  Stack,
} from './fixture.ts';

const SUPER_SEGMENT = 45 * MSS;
const DATAGRAM = 1400;
const PROTOCOL_ICMP = 1;
const ECHO_LENGTH = 64;

class NullHandler implements IngressHandler {
  onTcp(p: Packet, h: TcpHeader): void {
    keep(p.length - h.headerLen);
  }
  onUdp(p: Packet, h: UdpHeader): void {
    keep(p.length - h.length);
  }
  onEcho(p: Packet): void {
    keep(p.length);
  }

  onUnreachable(): boolean {
    return false;
  }
}

export function pathCases(): CaseGroup {
  const group = 'path';
  const stack = new Stack(true);
  const { slab, clock } = stack;
  const { view } = slab;
  const ingress = stack.ingress(new NullHandler());
  const place = (): number => slab.region(2048);
  const plain = new VnetHeader();
  const offloaded = new VnetHeader();
  offloaded.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;

  const h = dataHeader();
  const tcp4 = place();
  const tcp4Length = putTcpFrame(stack, tcp4, guest4, remote4, h, MSS);
  const tcp6 = place();
  const tcp6Length = putTcpFrame(stack, tcp6, guest6, remote6, h, 1428);
  const ack = place();
  const ackLength = putTcpFrame(stack, ack, guest4, remote4, h, 0);
  const spoofed = place();
  const spoofedLength = putTcpFrame(stack, spoofed, parseIpAddress('192.0.2.1'), remote4, h, 0);

  const udp = place();
  const udpTotal = UDP_HEADER_LEN + DATAGRAM;
  const udpAt = putIp(stack, udp, guest4, remote4, PROTOCOL_UDP, udpTotal);
  emitUdp(view, udpAt, GUEST_PORT, REMOTE_PORT, udpTotal, 0);
  const udpSum = sumBytes(view, udpAt, udpTotal, pseudoHeaderSum(guest4, remote4, PROTOCOL_UDP, udpTotal));
  view.setUint16(udpAt + 6, checksum(udpSum));
  const udpLength = udpAt + udpTotal - udp;

  const echo = place();
  const echoAt = putIp(
    stack,
    echo,
    guest4,
    parseIpAddress(defaultAddresses.gateway4),
    PROTOCOL_ICMP,
    ECHO_LENGTH,
  );
  view.setUint32(echoAt, 0x08000000);
  view.setUint32(echoAt + 4, 0xfedc0001);
  view.setUint16(echoAt + 2, checksum(sumBytes(view, echoAt, ECHO_LENGTH, 0)));
  const echoLength = echoAt + ECHO_LENGTH - echo;

  const receive = (at: number, length: number, offload: VnetHeader): void => {
    clock.nowMs += 0.01;
    ingress.receive(at, length, offload, clock.nowMs);
  };
  const input = (name: string, at: number, length: number, offload: VnetHeader): Case => ({
    group,
    name: `Ingress: ${name}`,
    run: () => receive(at, length, offload),
  });

  // Egress, with and without checksum offload.
  const payload = slab.region(65536);
  const bare = new Stack(false);
  const barePayload = bare.slab.region(65536);
  const output = (
    name: string,
    from: Stack,
    at: number,
    src: IpAddress,
    dst: IpAddress,
    length: number,
    pieces: number,
  ): Case => ({
    group,
    name: `Egress, TCP: ${name}`,
    run: () => {
      const out = from.egress.beginTcp(src, dst, h);
      for (let i = 0; i < pieces; i++) out.parts.add(at + (i * length) / pieces, length / pieces);
      out.payloadLength = length;
      if (length > MSS) out.segmentSize = MSS;
      keep(from.egress.send());
    },
  });

  // The device: /dev/null takes everything, and gives nothing.
  const fd = openSync('/dev/null', 'r+');
  const memory = new Memory(slab.buffer);
  const loop = new EventLoop(memory, slab, (error) => {
    throw error;
  });
  const services: LinkServices = {
    memory,
    poller: loop,
    timers: loop.timers,
    clock,
    frames: new FrameIo(slab, memory),
    touched: () => {},
    onPeer: () => {},
    log: () => {},
  };
  const received = new RxFrame();
  const tap = new TapLink(
    fd,
    {
      medium: 'ethernet',
      mtu: MTU,
      vnetHeader: true,
      checksumOffload: true,
      tso: true,
      uso: true,
    },
    services,
  );
  const frame = (length: number, pieces: number): TxFrame => {
    const f = new TxFrame();
    f.headOffset = slab.region(256) + 64;
    f.headLength = 66;
    for (let i = 0; i < pieces; i++) f.parts.add(payload + (i * length) / pieces, length / pieces);
    f.payloadLength = length;
    f.offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    f.offload.gsoType = length > MSS ? 1 : 0;
    f.offload.gsoSize = MSS;
    return f;
  };
  const ackFrame = frame(0, 0);
  const smallFrame = frame(100, 1);
  const superFrame = frame(SUPER_SEGMENT, 5);

  const c = (name: string, run: () => void): Case => ({ group, name, run });
  return {
    cases: [
      input('1,448 bytes of TCP, offloaded', tcp4, tcp4Length, offloaded),
      input('1,448 bytes of TCP, checksum to verify', tcp4, tcp4Length, plain),
      input('TCP ACK, offloaded', ack, ackLength, offloaded),
      input('1,428 bytes of TCP over IPv6, offloaded', tcp6, tcp6Length, offloaded),
      input('1,400 bytes of UDP, offloaded', udp, udpLength, offloaded),
      input('1,400 bytes of UDP, checksum to verify', udp, udpLength, plain),
      input('echo request to the gateway, answered', echo, echoLength, plain),
      input('spoofed source, dropped', spoofed, spoofedLength, plain),
      output('64 KiB in 5 pieces', stack, payload, guest4, remote4, SUPER_SEGMENT, 5),
      output('64 KiB in 5 pieces, IPv6', stack, payload, remote6, guest6, SUPER_SEGMENT, 5),
      output('ACK', stack, payload, remote4, guest4, 0, 0),
      output('1,448 bytes, checksum computed', bare, barePayload, remote4, guest4, MSS, 1),
      c('Egress, UDP: 1,400 bytes', () => {
        stack.egress.beginUdp(remote4, REMOTE_PORT, guest4, GUEST_PORT).add(payload, DATAGRAM);
        keep(stack.egress.send());
      }),
      c('Egress, UDP: 32 × 1,400 bytes', () => {
        const out = stack.egress.beginUdp(remote4, REMOTE_PORT, guest4, GUEST_PORT);
        for (let i = 0; i < 32; i++) out.add(payload + i * DATAGRAM, DATAGRAM);
        out.segmentSize = DATAGRAM;
        keep(stack.egress.send());
      }),
      c('TapLink.transmit: ACK', () => keep(tap.transmit(ackFrame))),
      c('TapLink.transmit: 100 bytes', () => keep(tap.transmit(smallFrame))),
      c('TapLink.transmit: 64 KiB in 5 pieces', () => keep(tap.transmit(superFrame))),
      c('TapLink.receive: nothing there', () => keep(tap.receive(0, received))),
    ],
    close: () => closeSync(fd),
  };
}
