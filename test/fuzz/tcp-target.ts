/**
 * Whole TCP connections: random segments from the guest and events at the host, in every state, against a model of two
 * byte streams. Two connections run side by side with other bytes, so that one's in the other's would be seen.
 *
 * Invariants: what the host got is the beginning of what the guest's stream is; what came back is where it belongs in
 * the host's stream; nothing is sent beyond the window that the guest offered last or before; no exception; and when
 * all has timed out nothing is left: no flow, descriptor, page or timer.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { StreamFile } from '../support/lab/fake-kernel.ts';
import { Lab, type Peer } from '../support/lab/lab.ts';
import {
  ACK,
  ALLOWED4,
  ALLOWED6,
  type Decoded,
  FIN,
  PSH,
  pattern,
  RST,
  SYN,
  tcpOptions,
  URG,
} from '../support/lab/packets.ts';
import type { Target } from './target.ts';

const STREAM = 200_000;

type Action =
  | { do: 'data'; offset: number; length: number; flags: number; window: number }
  | { do: 'ack'; back: number; window: number; sack: boolean }
  | { do: 'odd'; flags: number; seq: number; ack: number; window: number }
  | { do: 'fin' }
  | { do: 'rst'; off: number }
  | { do: 'host'; bytes: number }
  | { do: 'hostEnd' }
  | { do: 'hostReset' }
  | { do: 'room'; bytes: number }
  | { do: 'wait'; ms: number };

interface TcpCase {
  options: number;
  isV6: boolean;
  window: number;
  actions: Action[];
}

const offset = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, fc.integer({ min: -2000, max: 4000 }));
const window = fc.constantFrom(0, 1, 500, 8000, 65_535);
const number = fc.oneof(
  fc.constantFrom(0, 1, -1, 1000, -1000, 65_535, 0x7fffffff, -0x80000000),
  fc.integer({ min: -100_000, max: 100_000 }),
);

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('data' as const),
      offset,
      length: fc.integer({ min: 1, max: 1400 }),
      flags: fc.constantFrom(ACK, ACK | PSH, ACK | URG),
      window,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('ack' as const), back: fc.nat(5000), window, sack: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('odd' as const),
      flags: fc.nat(255),
      seq: number,
      ack: number,
      window,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fin' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('rst' as const), off: number }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('host' as const), bytes: fc.integer({ min: 1, max: 20_000 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('hostEnd' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('hostReset' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('room' as const), bytes: fc.constantFrom(0, 1, 700, 100_000) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(1, 5, 50, 250, 1000, 10_000),
    }),
  },
);

/** The model of one connection: both streams, and how far they have come. */
class Model {
  readonly peer: Peer;
  readonly stream: StreamFile;
  readonly fromGuest: Buffer;
  readonly fromHost: Buffer;
  readonly start: number;
  readonly hostStart: number;
  /** The highest edge of the window that the guest ever offered. */
  edge = 0;
  hostSent = 0;
  guestNext = 0;
  /** The end of what the guest ever sent. */
  guestMost = 0;
  finAt = -1;
  over = false;

  constructor(peer: Peer, tag: number) {
    this.peer = peer;
    this.stream = peer.stream as StreamFile;
    this.fromGuest = pattern(STREAM, tag);
    this.fromHost = pattern(STREAM, tag + 1);
    this.start = peer.seq;
    this.hostStart = peer.ack;
    this.edge = peer.window;
  }

  /** Everything that came out: where does it belong? */
  see(frames: readonly Decoded[]): void {
    for (const d of frames) {
      if (!this.peer.isMine(d)) continue;
      if ((d.flags & RST) !== 0) this.over = true;
      if (d.payload.length === 0) continue;
      const at = (d.seq - this.hostStart) | 0;
      assert.ok(
        at >= 0 && at + d.payload.length <= this.hostSent,
        `bytes ${at} to ${at + d.payload.length} of ${this.hostSent}`,
      );
      assert.ok(d.payload.equals(this.fromHost.subarray(at, at + d.payload.length)), `other bytes at ${at}`);
      // One byte beyond is a window probe.
      assert.ok(
        at + d.payload.length <= this.edge + 1,
        `${at + d.payload.length} is beyond the window, ${this.edge}`,
      );
      if (at <= this.received && at + d.payload.length > this.received) this.received = at + d.payload.length;
    }
    const { received } = this.stream;
    assert.ok(received.equals(this.fromGuest.subarray(0, received.length)), 'the host got other bytes');
    if (this.finAt >= 0) assert.ok(received.length <= this.finAt, 'bytes behind the end');
    if (this.stream.shutWrite) assert.equal(received.length, this.finAt, 'an end before all bytes');
  }

  received = 0;
}

/** Do `a` to the connection of `m`. */
function act(lab: Lab, m: Model, a: Action): Decoded[] {
  const { peer } = m;
  const offer = (ack: number, win: number): number => {
    m.edge = Math.max(m.edge, ack + win);
    return win;
  };
  switch (a.do) {
    case 'data': {
      const at = Math.max(0, m.guestNext + a.offset);
      const end = Math.min(at + a.length, m.finAt >= 0 ? m.finAt : STREAM);
      if (end <= at) return [];
      m.guestMost = Math.max(m.guestMost, end);
      m.guestNext = Math.max(m.guestNext, a.offset <= 0 ? end : m.guestNext);
      const ack = m.hostStart + m.received;
      return lab.send(
        peer.packet(
          {
            seq: (m.start + at) >>> 0,
            ack: ack >>> 0,
            flags: a.flags,
            urgent: a.length,
            window: offer(m.received, a.window),
          },
          m.fromGuest.subarray(at, end),
        ),
      );
    }
    case 'ack': {
      const ack = Math.max(0, m.received - a.back);
      const options = a.sack
        ? sackOption(m.hostStart + ack + 1000, m.hostStart + ack + 2000)
        : Buffer.alloc(0);
      return lab.send(
        peer.packet({
          seq: (m.start + m.guestNext) >>> 0,
          ack: (m.hostStart + ack) >>> 0,
          options,
          window: offer(ack, a.window),
        }),
      );
    }
    case 'odd': {
      // A SYN that is taken for a new connection is another story, and a FIN ends the guest's stream where it stands.
      const flags = a.flags & ~(SYN | FIN);
      return lab.send(
        peer.packet({
          flags,
          seq: (m.start + m.guestNext + a.seq) >>> 0,
          ack: (m.hostStart + m.received + a.ack) >>> 0,
          window: offer(m.received + Math.max(0, a.ack), a.window),
        }),
      );
    }
    case 'fin':
      if (m.finAt < 0) m.finAt = m.guestMost;
      return lab.send(
        peer.packet({
          flags: FIN | ACK,
          seq: (m.start + m.finAt) >>> 0,
          ack: (m.hostStart + m.received) >>> 0,
          window: offer(m.received, peer.window),
        }),
      );
    case 'rst':
      return lab.send(peer.packet({ flags: RST, seq: (m.start + m.guestNext + a.off) >>> 0 }));
    case 'host': {
      const n = Math.min(a.bytes, STREAM - m.hostSent);
      if (n === 0 || m.stream.peerEnded || m.stream.peerReset) return [];
      m.stream.send(m.fromHost.subarray(m.hostSent, m.hostSent + n));
      m.hostSent += n;
      break;
    }
    case 'hostEnd':
      m.stream.end();
      break;
    case 'hostReset':
      m.stream.reset();
      break;
    case 'room':
      m.stream.setRoom(a.bytes);
      break;
    case 'wait':
      return lab.advance(a.ms);
    default:
      a satisfies never;
  }
  lab.run();
  return lab.take();
}

function sackOption(left: number, right: number): Buffer {
  const b = Buffer.alloc(12);
  b.set([1, 1, 5, 10]);
  b.writeUInt32BE(left >>> 0, 4);
  b.writeUInt32BE(right >>> 0, 8);
  return b;
}

const optionSets = [
  tcpOptions({ mss: 1460 }),
  tcpOptions({ mss: 1460, sack: true }),
  tcpOptions({ mss: 300, sack: true, scale: 0 }),
  tcpOptions({ mss: 536, scale: 0 }),
];

export const tcpTarget: Target<TcpCase> = {
  name: 'tcp',
  arbitrary: fc.record({
    options: fc.nat(optionSets.length - 1),
    isV6: fc.boolean(),
    window: fc.constantFrom(500, 8000, 65_535),
    actions: fc.array(action, { minLength: 1, maxLength: 60 }),
  }),
  run(input) {
    const lab = new Lab({ memory: 4 * 1024 * 1024, measureHeap: false });
    const options = optionSets[input.options] as Buffer;
    const models = [0, 1].map((i) => {
      const peer = lab.connect(input.isV6 ? ALLOWED6 : ALLOWED4, 80, {
        options,
        window: input.window,
        seq: i === 0 ? 1000 : 0xffffff00,
      });
      return new Model(peer, 2 * i + 10);
    });
    input.actions.forEach((a, i) => {
      const out = act(lab, models[i % 2] as Model, a);
      for (const m of models) m.see(out);
    });
    assert.deepEqual(lab.errors, []);
    assert.ok(lab.slab.pagesUsed <= lab.slab.pageCount);
    // The guest is never heard of again, and the host goes away.
    for (const m of models) {
      m.stream.setRoom(Number.POSITIVE_INFINITY);
      m.stream.end();
    }
    lab.run();
    for (const m of models) m.see(lab.take());
    const late = lab.advance(10_000_000);
    for (const m of models) m.see(late);
    assert.equal(lab.gauge('tcp.flows'), 0, 'a flow is left');
    assert.equal(lab.services.descriptors.used, 0, 'a descriptor is left');
    assert.equal(lab.slab.pagesUsed, 0, 'a page is left');
    assert.equal(lab.loop.timers.size, 0, 'a timer is left');
    lab.checkCounters();
  },
};
