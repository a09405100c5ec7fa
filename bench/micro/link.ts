/**
 * Links that are no interface, 64 frames at a time: what comes of a batch, and what goes in a turn. The other end is in this
 * process, so that its system call is in the figures, one for each batch or turn.
 */
import assert from 'node:assert/strict';
import { BATCH_FRAMES, type DeviceLink, type LinkServices, RxFrame } from '../../src/device/device-link.ts';
import { FrameIo } from '../../src/device/frame-io.ts';
import { putLength } from '../../src/device/framing.ts';
import { PacketBatch } from '../../src/device/packet-batch.ts';
import { SocketLink } from '../../src/device/socket-link.ts';
import { StreamLink } from '../../src/device/stream-link.ts';
import { EventLoop } from '../../src/engine/event-loop.ts';
import type { IoHandler } from '../../src/loop.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { TxFrame } from '../../src/stack/link/link.ts';
import { EPOLLIN } from '../../src/sys/epoll.ts';
import { read, write } from '../../src/sys/io.ts';
import { Memory } from '../../src/sys/memory.ts';
import {
  AF_UNIX,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  setsockoptInt,
  socketpair,
} from '../../src/sys/socket.ts';
import type { Case, CaseGroup } from './case.ts';

const FRAME = 1514;
const PREFIX = 4;
const BUFFER = 1024 * 1024;

interface Ends {
  link: DeviceLink & IoHandler;
  peer: number;
}

export function linkCases(): CaseGroup {
  const slab = new Slab(16 * 1024 * 1024, 256);
  const memory = new Memory(slab.buffer);
  const loop = new EventLoop(memory, slab, (error) => {
    throw error;
  });
  loop.clock.batchFrames = BATCH_FRAMES;
  const services: LinkServices = {
    ...{ memory, poller: loop, timers: loop.timers, clock: loop.clock },
    frames: new FrameIo(slab, memory),
    touched: () => {},
    onPeer: () => {},
    log: () => {},
  };
  const at = slab.region(BUFFER);
  const received = new RxFrame();
  const ends = (type: number): Ends => {
    assert.equal(socketpair(memory, AF_UNIX, type, at), 0);
    const [fd, peer] = [memory.view.getInt32(at, true), memory.view.getInt32(at + 4, true)];
    for (const each of [fd, peer])
      for (const name of [SO_SNDBUF, SO_RCVBUF]) setsockoptInt(memory, each, SOL_SOCKET, name, BUFFER, at);
    const link =
      type === SOCK_STREAM
        ? new StreamLink(
            { input: fd, output: fd },
            { medium: 'ethernet', mtu: 1500, framing: 'be32' },
            services,
          )
        : new SocketLink(fd, { medium: 'ethernet', mtu: 1500, endsWithPeer: true, probe: false }, services);
    link.open({
      onFrames: () => {
        for (let i = 0; i < BATCH_FRAMES && link.receive(i, received) > 0; i++);
      },
      ...{ onMtu: () => {}, onUnsent: () => {}, onGone: () => {}, onDown: () => {}, onUp: () => {} },
    });
    return { link, peer };
  };
  const frames = slab.region(BATCH_FRAMES * (FRAME + PREFIX));
  for (let i = 0; i < BATCH_FRAMES; i++) putLength(slab.bytes, frames + i * (FRAME + PREFIX), FRAME, 'be32');
  const out = new TxFrame();
  out.headOffset = slab.region(256) + 64;
  out.headLength = 66;
  out.parts.add(slab.region(FRAME), FRAME - 66);
  out.payloadLength = FRAME - 66;

  const stream = ends(SOCK_STREAM);
  const packets = ends(SOCK_SEQPACKET);
  const peerPackets = new PacketBatch(slab, memory, at, FRAME);
  for (let i = 0; i < BATCH_FRAMES; i++) peerPackets.push({ sendGathered: () => {} }, out, FRAME);
  const c = (name: string, run: () => void): Case => ({ group: 'link', name, run });
  return {
    cases: [
      c('stream: 64 frames of 1,514 bytes in', () => {
        write(memory, stream.peer, frames, BATCH_FRAMES * (FRAME + PREFIX));
        stream.link.onIo(EPOLLIN);
      }),
      c('packets: 64 frames of 1,514 bytes in', () => {
        peerPackets.send(packets.peer, 0);
        packets.link.onIo(EPOLLIN);
      }),
      c('stream: 64 frames of 1,514 bytes out', () => {
        for (let i = 0; i < BATCH_FRAMES; i++) stream.link.transmit(out);
        stream.link.flush();
        read(memory, stream.peer, at, BUFFER);
      }),
      c('packets: 64 frames of 1,514 bytes out', () => {
        for (let i = 0; i < BATCH_FRAMES; i++) packets.link.transmit(out);
        packets.link.flush();
        peerPackets.receive(packets.peer, BATCH_FRAMES);
      }),
    ],
  };
}
