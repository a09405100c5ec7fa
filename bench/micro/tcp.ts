/** One connection without I/O, driven as its flow drives it: a segment in, the batch ends, what is to be sent is polled. */
import { Parts } from '../../src/stack/buffer/byte-queue.ts';
import { Counters } from '../../src/stack/counters.ts';
import { ErrorLimiter } from '../../src/stack/icmp/limit.ts';
import { NewReno } from '../../src/stack/tcp/congestion/new-reno.ts';
import { noCongestionControl } from '../../src/stack/tcp/congestion/none.ts';
import { TcpConnection } from '../../src/stack/tcp/connection.ts';
import { EV_DELIVER, type TcpEnvironment, TcpSegmentOut } from '../../src/stack/tcp/owner.ts';
import { seqAdd } from '../../src/stack/tcp/seq.ts';
import { TCP_ACK, TCP_SYN, type TcpHeader } from '../../src/stack/wire/tcp.ts';
import { type Case, type CaseGroup, keep } from './case.ts';
import { dataHeader, MSS, MTU, Stack } from './fixture.ts';

const SUPER_SEGMENT = 45 * MSS;

export function tcpCases(): CaseGroup {
  const stack = new Stack(true);
  const { slab, clock } = stack;
  const frame = slab.region(65536);
  const out = new TcpSegmentOut();
  const parts = new Parts(64);

  const open = (newReno: boolean, timestamps: boolean): [TcpConnection, TcpHeader] => {
    const environment: TcpEnvironment = {
      slab,
      link: { mtu: 65535 },
      receiveLimit: 1024 * 1024,
      sendLimit: 1024 * 1024,
      outOfOrderRanges: 128,
      superSegment4: 65535 - 80,
      superSegment6: 65535 - 60,
      delayedAckMs: 20,
      counters: new Counters(),
      challenges: new ErrorLimiter(1000, 1000, { u32: () => 0 }),
      newCongestionControl: (mss) => (newReno ? new NewReno(mss) : noCongestionControl),
    };
    const c = new TcpConnection(environment, true);
    const h = dataHeader();
    h.flags = TCP_SYN;
    h.mss = 1460;
    h.sackPermitted = true;
    h.windowScale = 7;
    h.hasTimestamps = timestamps;
    c.openPassive(h, MTU, 0xe0000000, 0x90000000, clock.nowMs);
    c.accept(clock.nowMs);
    c.pollTransmit(clock.nowMs, out);
    h.mss = -1;
    h.sackPermitted = false;
    h.windowScale = -1;
    h.flags = TCP_ACK;
    h.seq = seqAdd(h.seq, 1);
    h.ack = c['tcb'].snd.nxt;
    h.tsEcr = out.header.tsVal;
    c.onSegment(h, frame, 0, clock.nowMs);
    if (c.stateName !== 'ESTABLISHED') throw new Error('the handshake failed');
    return [c, h];
  };

  /** Everything the flow does at the end of a batch. */
  const settle = (c: TcpConnection): void => {
    c.acknowledgeBatch();
    while (c.pollTransmit(clock.nowMs, out)) {
      if (out.length > 0) c.snd.queue.slice(out.queueOffset, out.length, parts);
      keep(out.header.ack);
    }
    keep(c.nextTimeout);
  };
  const receive = (c: TcpConnection, h: TcpHeader, taken: number): void => {
    clock.nowMs += 0.01;
    const events = c.onSegment(h, frame, MSS, clock.nowMs);
    if ((events & EV_DELIVER) !== 0) keep(c.takeDelivered(taken));
    settle(c);
  };
  /** `bytes` to the guest, and the guest's acknowledgment. */
  const send = (c: TcpConnection, h: TcpHeader, bytes: number): void => {
    clock.nowMs += 0.01;
    c.snd.queue.commit(c.snd.queue.reserve(bytes, parts));
    settle(c);
    h.ack = c['tcb'].snd.nxt;
    h.tsEcr = out.header.tsVal;
    keep(c.onSegment(h, frame, 0, clock.nowMs));
    settle(c);
  };

  const [reading, readingHeader] = open(false, true);
  const [slow, slowHeader] = open(false, true);
  const [sending, sendingHeader] = open(false, true);
  const [single, singleHeader] = open(false, true);
  const [reno, renoHeader] = open(true, true);
  const [plain, plainHeader] = open(false, false);
  const [asking, askingHeader] = open(false, true);
  const [gappy, gappyHeader] = open(false, true);

  const c = (name: string, run: () => void): Case => ({ group: 'tcp', name, run });
  return {
    cases: [
      c('1,448 bytes in, taken, ACK out', () => {
        receive(reading, readingHeader, MSS);
        readingHeader.seq = seqAdd(readingHeader.seq, MSS);
      }),
      c('1,448 bytes in, kept, read, ACK out', () => {
        receive(slow, slowHeader, 0);
        slowHeader.seq = seqAdd(slowHeader.seq, MSS);
        slow.consume(MSS);
      }),
      c('64 KiB out, ACK in', () => send(sending, sendingHeader, SUPER_SEGMENT)),
      c('1 byte out, ACK in', () => send(single, singleHeader, 1)),
      c('1 byte out, ACK in, no timestamps', () => send(plain, plainHeader, 1)),
      c('10 segments out, ACK in, NewReno', () => send(reno, renoHeader, 10 * MSS)),
      c('request in, answer out, ACK in', () => {
        receive(asking, askingHeader, MSS);
        askingHeader.seq = seqAdd(askingHeader.seq, MSS);
        send(asking, askingHeader, 100);
      }),
      c('2 segments in the wrong order, 2 ACKs out', () => {
        const from = gappyHeader.seq;
        gappyHeader.seq = seqAdd(from, MSS);
        receive(gappy, gappyHeader, MSS);
        gappyHeader.seq = from;
        receive(gappy, gappyHeader, MSS);
        gappy.consume(gappy.rcv.queue.readable);
        gappyHeader.seq = seqAdd(from, 2 * MSS);
      }),
    ],
  };
}
