/** Hazards T, second half: windows, timers, floods; connections over their whole life. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cpuOf } from '../support/cpu-time.ts';
import { EAGAIN, ECONNREFUSED, ENOBUFS, type StreamFile } from '../support/lab/fake-kernel.ts';
import { Lab, type Peer, summary } from '../support/lab/lab.ts';
import {
  ACK,
  ALLOWED4,
  ALLOWED6,
  AT_IP4_DST,
  AT_IP4_SUM,
  AT_TRANSPORT4,
  type Decoded,
  FIN,
  frame,
  PSH,
  pattern,
  putWord,
  RST,
  SYN,
  TCP_SUM,
  tcp,
  tcpOptions,
} from '../support/lab/packets.ts';
import { seededRng } from '../support/seeded-rng.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;

function mine(peer: Peer, frames: Decoded[]): Decoded[] {
  return frames.filter((d) => peer.isMine(d));
}

function seqOff(a: number, b: number): number {
  return (a - b) | 0;
}

/** What nobody holds any more once a connection is over. */
function nothingLeft(lab: Lab): void {
  assert.equal(lab.gauge('tcp.flows'), 0);
  assert.equal(lab.gauge('tcp.dialing'), 0);
  assert.equal(lab.gauge('tcp.half_open'), 0);
  assert.equal(lab.services.descriptors.used, 0);
  assert.equal(lab.slab.pagesUsed, 0);
}

describe('hazards T: windows and loss', () => {
  test('T-12: a shut window is probed, first after one RTO, then at doubling distances, and kept while answered', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4);
    peer.raw({ window: 0 });
    peer.stream?.send(pattern(5000));
    lab.run();
    assert.deepEqual(mine(peer, lab.take()), [], 'nothing into a shut window');
    const times: number[] = [];
    const from = lab.now;
    // Ten minutes, and every probe answered.
    while (lab.now - from < 10 * MINUTE) {
      lab.step();
      for (const d of mine(peer, lab.take())) {
        assert.ok(d.payload.length <= 1, 'a probe has one byte');
        times.push(lab.now - from);
        peer.raw({ window: 0 });
      }
    }
    const gaps = times.map((t, i) => t - (times[i - 1] ?? 0));
    assert.ok((gaps[0] as number) <= 1000, `first probe after ${gaps[0]} ms`);
    for (let i = 1; i < gaps.length; i++)
      assert.ok((gaps[i] as number) >= (gaps[i - 1] as number) * 0.99, `${gaps}`);
    assert.ok(Math.max(...gaps) <= 61 * SECOND, `${gaps}`);
    assert.ok(times.length >= 12 && times.length < 40, `${times.length} probes`);
    // Open again, and the ACK that said so was lost: the next probe finds out.
    peer.window = 65535;
    peer.absorb(lab.advance(61 * SECOND));
    peer.absorb(lab.advance(SECOND));
    assert.ok(peer.data.equals(pattern(5000)));
    lab.check();
  });

  test('T-12: probes of our shut window are acknowledged, their byte is not taken, and two shut windows do not argue', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4);
    peer.stream?.setRoom(0);
    for (let i = 0; i < 400; i++) {
      peer.raw({}, pattern(1400, i));
      peer.seq += 1400;
    }
    const [full] = peer.raw({ seq: peer.seq - 1 }, Buffer.alloc(1));
    assert.equal(full?.window, 0);
    const edge = (full as Decoded).ack;
    for (const f of [
      { seq: edge, data: 'x', flags: ACK },
      { seq: edge, data: '', flags: ACK | FIN },
    ]) {
      const out = peer.raw({ seq: f.seq, flags: f.flags }, Buffer.from(f.data));
      assert.equal(out.length, 1, JSON.stringify(f));
      assert.equal(out[0]?.ack, edge, 'not taken');
    }
    // An old number with nothing in it is answered, but never without limit; one inside the window never.
    let answers = 0;
    for (let i = 0; i < 100; i++) answers += peer.raw({ seq: edge - 1 }).length;
    assert.ok(answers >= 1 && answers <= 10, `${answers}`);
    assert.deepEqual(peer.raw({ seq: edge }), []);
    // Now both are shut.
    peer.stream?.send(pattern(100));
    peer.raw({ window: 0, seq: edge });
    const out = mine(peer, lab.advance(10 * MINUTE));
    assert.ok(out.length < 60, `${out.length} segments in ten minutes`);
    lab.checkReach();
    assert.deepEqual(lab.errors, []);
  });

  test('T-13: a reader that takes a byte at a time opens the window in useful steps', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4);
    const stream = peer.stream as NonNullable<Peer['stream']>;
    stream.setRoom(0);
    for (let i = 0; i < 400; i++) {
      peer.raw({}, pattern(1400, i));
      peer.seq += 1400;
    }
    lab.advance(SECOND);
    const windows: number[] = [];
    for (let i = 0; i < 20_000; i++) {
      stream.setRoom(1);
      lab.run();
      for (const d of mine(peer, lab.take())) windows.push(d.window);
    }
    assert.ok(windows.length > 0 && windows.length <= 6, `${windows}`);
    for (const window of windows) assert.ok(window >= 1460, `${windows}`);
    lab.checkReach();
  });

  test('T-13: a host that sends a byte at a time, and a head segment larger than the window', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 80, { window: 500 });
    const data = pattern(4000);
    peer.stream?.send(data);
    lab.run();
    peer.absorb(lab.take());
    for (let i = 0; i < 30 && peer.data.length < 4000; i++) peer.absorb(lab.advance(SECOND));
    assert.ok(peer.data.equals(data), 'split for a window below a segment');
    for (let i = 0; i < 500; i++) peer.stream?.send(Buffer.from([i]));
    lab.run();
    const out = mine(peer, lab.take());
    assert.ok(out.length < 20, `${out.length} segments for 500 bytes`);
    lab.check();
  });

  test('T-15: one-byte segments at every second offset, shuffled, then filled; and a gap that is never filled', () => {
    const lab = new Lab();
    const size = 200_000;
    const data = pattern(size, 15);
    const rng = seededRng(15);
    const order = Array.from({ length: size / 2 }, (_, i) => 2 * i + 1);
    for (let i = order.length - 1; i > 0; i--) {
      const j = rng.u32() % (i + 1);
      [order[i], order[j]] = [order[j] as number, order[i] as number];
    }
    const peer = lab.connect(ALLOWED4, 80, { options: tcpOptions({ mss: 1400, sack: true, scale: 7 }) });
    const at = peer.seq;
    const packets = order.map((o) => frame(peer.packet({ seq: (at + o) >>> 0 }, data.subarray(o, o + 1))));
    const shuffled = cpuOf(() => {
      for (let i = 0; i < packets.length; i += 500) lab.inject(...packets.slice(i, i + 500));
    });
    assert.ok(lab.counter('tcp.not_kept') > 0, 'ranges beyond the limit are not kept');
    assert.ok(lab.slab.pagesUsed <= 20, `${lab.slab.pagesUsed} pages for 200 KB`);
    const control = lab.connect(ALLOWED4);
    const plain = Array.from({ length: packets.length }, (_, i) =>
      frame(control.packet({ seq: (control.seq + i) >>> 0 }, data.subarray(i, i + 1))),
    );
    const inOrder = cpuOf(() => {
      for (let i = 0; i < plain.length; i += 500) lab.inject(...plain.slice(i, i + 500));
    });
    assert.ok(shuffled < 5 * inOrder + 300, `${shuffled} ms beside ${inOrder} ms in order`);
    // The whole once more, in order: everything arrives.
    peer.sendData(data);
    assert.ok(peer.stream?.received.equals(data));
    // A gap that nobody fills costs the buffer at most and ends nothing.
    const gap = lab.connect(ALLOWED4);
    for (let i = 0; i < 400; i++) gap.raw({ seq: gap.seq + 1 + i * 1400 }, pattern(1400, i));
    lab.advance(10 * MINUTE);
    assert.ok(lab.slab.pagesUsed * 16384 < 1024 * 1024);
    gap.raw({}, Buffer.alloc(1));
    assert.ok((gap.stream?.writtenBytes as number) > 60_000);
    // What the test holds is not the program's.
    packets.length = 0;
    plain.length = 0;
    lab.check({ heapMiB: 16 });
  });

  test('T-24: the advertised window fits the device queue several times over, and the guest never overruns it', () => {
    for (const [mtu, txQueueLen] of [
      [1500, 1000],
      [1500, 500],
      [9000, 1000],
      [65520, 1000],
    ] as const) {
      const lab = new Lab({ device: { mtu, txQueueLen } });
      const peer = lab.connect(ALLOWED4, 80, { options: tcpOptions({ mss: mtu - 40, scale: 7 }) });
      const [d] = peer.raw({ flags: ACK | PSH }, pattern(1000));
      const ack = d ?? (lab.advance(100).find((x) => peer.isMine(x)) as Decoded);
      const window = ack.window * 128;
      // Less than a unit of the window field is rounding.
      assert.ok(
        (window - 127) / mtu <= txQueueLen / 4 || window <= 65536,
        `${window} bytes, ${txQueueLen} packets of ${mtu}`,
      );
      assert.ok(window >= 64_000);
    }
  });

  test('T-24: writes to the device that fail cost a retransmission at most, and no data', () => {
    for (const errno of [ENOBUFS, EAGAIN]) {
      const lab = new Lab();
      const peer = lab.connect(ALLOWED4, 80, { options: tcpOptions({ mss: 1460, sack: true }) });
      const data = pattern(200_000, errno);
      // Three in ten fail, so some of them are last.
      const rng = seededRng(errno);
      for (let i = 0; i < 100; i++) lab.device.writeErrors.push(rng.u32() % 10 < 3 ? -errno : 0);
      peer.stream?.send(data);
      lab.run();
      peer.absorb(lab.take());
      let waited = 0;
      while (peer.data.length < data.length && waited < 20_000) {
        peer.absorb(lab.advance(50));
        waited += 50;
      }
      assert.ok(peer.data.equals(data), `${peer.data.length} bytes after ${waited} ms`);
      assert.ok(lab.counter('tx.errors') > 10);
      assert.ok(waited < 3000, `${waited} ms`);
      lab.device.writeErrors.length = 0;
      lab.check();
    }
  });
});

describe('hazards T: every connection ends', () => {
  /** A connection in each state whose guest is never heard of again: how long the flow lives. */
  const states: [string, (lab: Lab) => void, number, number][] = [
    ['SYN-RECEIVED', (lab) => void lab.send(tcp({ srcPort: 1 })), 50 * SECOND, 61 * SECOND],
    [
      'ESTABLISHED with data',
      (lab) => {
        lab.connect(ALLOWED4).stream?.send(pattern(1000));
        lab.run();
      },
      100 * SECOND,
      300 * SECOND,
    ],
    ['ESTABLISHED, idle', (lab) => void lab.connect(ALLOWED4), 7200 * SECOND, 8000 * SECOND],
    [
      'FIN-WAIT-1',
      (lab) => {
        lab.connect(ALLOWED4).stream?.end();
        lab.run();
      },
      100 * SECOND,
      300 * SECOND,
    ],
    [
      'LAST-ACK',
      (lab) => {
        const peer = lab.connect(ALLOWED4);
        peer.fin();
        peer.stream?.end();
        lab.run();
      },
      100 * SECOND,
      300 * SECOND,
    ],
    [
      'CLOSING',
      (lab) => {
        const peer = lab.connect(ALLOWED4);
        peer.stream?.end();
        lab.run();
        lab.take();
        peer.raw({ flags: FIN | ACK });
      },
      100 * SECOND,
      300 * SECOND,
    ],
    [
      'FIN-WAIT-2',
      (lab) => {
        const peer = lab.connect(ALLOWED4);
        peer.stream?.end();
        lab.run();
        peer.absorb(lab.take());
      },
      7200 * SECOND,
      8000 * SECOND,
    ],
    ['CLOSE-WAIT', (lab) => lab.connect(ALLOWED4).fin(), 7200 * SECOND, 8000 * SECOND],
  ];
  for (const [state, make, least, most] of states) {
    test(`T-20: ${state}: the guest is never heard of again`, () => {
      const lab = new Lab();
      make(lab);
      assert.equal(lab.gauge('tcp.flows'), 1);
      const out = lab.advance(least - SECOND);
      assert.ok(out.length < 40, `${out.length} segments`);
      if (state !== 'SYN-RECEIVED') assert.equal(lab.gauge('tcp.flows'), 1, 'not too early');
      lab.advance(most - least);
      nothingLeft(lab);
      assert.ok(lab.kernel.streams.every((s) => s.closed));
      lab.check();
    });
  }

  test('T-20: TIME-WAIT ends after a minute', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4);
    peer.stream?.end();
    lab.run();
    peer.absorb(lab.take());
    peer.fin();
    assert.equal(lab.gauge('tcp.time_wait'), 1);
    lab.advance(59 * SECOND);
    assert.equal(lab.gauge('tcp.time_wait'), 1);
    lab.advance(3 * SECOND);
    assert.equal(lab.gauge('tcp.time_wait'), 0);
    assert.equal(lab.loop.timers.size, 0, 'a timer is left');
  });

  test('T-20, P-02, RQ-23 (RFC 9293 §3.6): a half-closed flow whose other half moves data is never cut, in either direction', () => {
    const lab = new Lab();
    const up = lab.connect(ALLOWED4);
    up.stream?.end();
    lab.run();
    up.absorb(lab.take());
    const down = lab.connect(ALLOWED4);
    down.fin();
    for (let minutes = 0; minutes < 180; minutes += 10) {
      up.sendData(pattern(500, minutes));
      down.stream?.send(pattern(700, minutes));
      lab.run();
      down.absorb(lab.take());
      lab.advance(10 * MINUTE);
    }
    assert.equal(up.stream?.writtenBytes, 18 * 500);
    assert.equal(down.data.length, 18 * 700);
    down.stream?.end();
    lab.run();
    down.absorb(lab.take());
    assert.ok(down.finReceived);
    up.fin();
    assert.equal(lab.gauge('tcp.flows'), 0);
    lab.check();
  });

  test('P-02: ten minutes of silence behind a half-close, then ten mebibytes the other way, exactly', () => {
    const lab = new Lab();
    const total = 10 * 1024 * 1024;
    const down = lab.connect(ALLOWED4);
    down.fin();
    assert.equal(down.stream?.shutWrite, true);
    lab.advance(10 * MINUTE);
    let sent = 0;
    while (sent < total) {
      down.stream?.send(pattern(64 * 1024, sent));
      sent += 64 * 1024;
      lab.run();
      down.absorb(lab.take());
    }
    down.stream?.end();
    lab.run();
    down.absorb(lab.take());
    assert.equal(down.data.length, total);
    assert.ok(down.data.subarray(-64 * 1024).equals(pattern(64 * 1024, total - 64 * 1024)));
    assert.ok(down.finReceived);
    down.received.length = 0;

    const up = lab.connect(ALLOWED4);
    (up.stream as { forget: boolean }).forget = true;
    up.stream?.end();
    lab.run();
    up.absorb(lab.take());
    lab.advance(10 * MINUTE);
    for (let i = 0; i < 160; i++) up.sendData(pattern(64 * 1024, i));
    up.fin();
    assert.equal(up.stream?.writtenBytes, total);
    assert.equal(up.stream?.closed, true);
    assert.equal(up.stream?.lingerReset, false);
    lab.check({ heapMiB: 24 });
  });

  test('P-03: a guest that has forgotten its closed connection takes nothing back from a slow host (RFC 1337)', () => {
    const lab = new Lab();
    // Less than the window: the peer here does not look at it.
    const total = 256 * 1024;
    const data = pattern(total);
    for (const hostEndsFirst of [true, false]) {
      const peer = lab.connect(ALLOWED4);
      const { stream } = peer;
      assert.ok(stream);
      if (hostEndsFirst) {
        stream.end();
        lab.run();
        peer.absorb(lab.take());
      }
      stream.setRoom(64 * 1024);
      peer.sendData(data);
      peer.fin();
      lab.send(peer.packet({ flags: RST, seq: peer.seq }));
      assert.equal(stream.closed, false, 'the host has not read everything');
      while (stream.writtenBytes < total) {
        const before = stream.writtenBytes;
        stream.setRoom(64 * 1024);
        lab.run();
        assert.ok(stream.writtenBytes > before, 'the rest is passed on as the host reads');
      }
      assert.ok(stream.received.equals(data));
      assert.equal(stream.closed, true);
      assert.equal(stream.lingerReset, false);
    }
    lab.check({ heapMiB: 24 });
  });

  test('P-03: a sender that closes at once, or is reset: what came before an orderly end is delivered, then FIN', () => {
    for (const size of [500 * 1024, 16385, 1]) {
      const lab = new Lab();
      const data = pattern(size, size);
      const peer = lab.connect(ALLOWED4);
      peer.stream?.send(data);
      peer.stream?.end();
      lab.run();
      peer.absorb(lab.take());
      assert.ok(peer.data.equals(data));
      assert.ok(peer.finReceived);
      // The other way round.
      const up = lab.connect(ALLOWED4);
      up.stream?.setRoom(size >> 1);
      for (let at = 0; at < data.length; at += 1400) {
        up.raw({ flags: ACK | PSH }, data.subarray(at, at + 1400));
        up.seq += Math.min(1400, data.length - at);
        up.stream?.setRoom((up.stream?.room as number) + 700);
        lab.run();
      }
      up.fin();
      up.stream?.setRoom(Number.POSITIVE_INFINITY);
      lab.run();
      assert.ok(up.stream?.received.equals(data), `${up.stream?.received.length} of ${size}`);
      assert.equal(up.stream?.shutWrite, true);
      lab.check({ heapMiB: 8 });
    }
    const lab = new Lab();
    const cut = lab.connect(ALLOWED4);
    cut.stream?.send(pattern(100_000));
    lab.run();
    lab.take();
    cut.stream?.reset();
    lab.run();
    assert.ok(
      mine(cut, lab.take()).some((d) => (d.flags & RST) !== 0),
      'RST is passed on as RST',
    );
    nothingLeft(lab);
  });

  test('review OR-20: what a gone guest has left is given up when the host takes none of it for five minutes', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 80);
    const stream = peer.stream as StreamFile;
    stream.setRoom(0);
    peer.sendData(pattern(5000));
    peer.fin();
    peer.reset();
    lab.advance(290 * SECOND);
    stream.setRoom(1000);
    lab.run();
    assert.equal(stream.received.length, 1000, 'a slow host gets it');
    lab.advance(290 * SECOND);
    assert.equal(stream.closed, false);
    lab.advance(20 * SECOND);
    assert.equal(stream.closed, true);
    assert.equal(stream.lingerReset, true, 'it does not look complete');
    nothingLeft(lab);
    lab.check();
  });

  test('review OR-20: a host that vanishes is noticed', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 80);
    const stream = peer.stream as StreamFile;
    assert.equal(stream.options.get('1:9'), 1, 'SO_KEEPALIVE');
    assert.equal(stream.options.has('6:4'), false, "with the host's own times");
    lab.advance(20 * SECOND);
    peer.sendData(pattern(100));
    peer.raw({ seq: (peer.seq - 1) >>> 0 });
    lab.advance(60 * SECOND);
    // The kernel of a guest whose program has asked for it (tcp(7)): nothing, or one byte that is old.
    peer.raw({ seq: (peer.seq - 1) >>> 0 }, Buffer.alloc(1));
    const times = ['6:4', '6:5', '6:6'].map((name) => stream.options.get(name));
    assert.deepEqual(times, [60, 15, 4], 'review OP-6: as early as the guest asks');
    stream.pendingError = 110;
    lab.kernel.edge(stream);
    lab.run();
    assert.ok(lab.take().some((d) => d.dstPort === peer.srcPort && (d.flags & RST) !== 0));
    lab.check();
  });

  test('review OR-10: bytes around an urgent one arrive, all of them and at once', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 80);
    const stream = peer.stream as StreamFile;
    stream.sendUrgent('before!');
    stream.send('behind');
    lab.run();
    peer.absorb(lab.take());
    assert.equal(peer.data.toString(), 'before!behind');
    assert.equal(stream.options.get('1:10'), 1, 'SO_OOBINLINE: or the urgent byte would be missing');
    stream.send('later');
    lab.run();
    const reads = (): number => (lab.kernel.calls.get('readv') ?? 0) + (lab.kernel.calls.get('recv') ?? 0);
    const before = reads();
    peer.absorb(lab.take());
    stream.send('last');
    lab.run();
    assert.equal(reads() - before, 1, 'no read that only says EAGAIN');
    lab.check();
  });

  test('T-23: ten thousand half-open scans leave nothing', () => {
    const lab = new Lab();
    for (let i = 0; i < 10_000; i++) {
      const srcPort = 1024 + i;
      const [reply] = lab.send(tcp({ srcPort, seq: 1 }));
      assert.equal(reply?.flags, SYN | ACK);
      lab.send(tcp({ srcPort, seq: 2, flags: RST }));
      // A thousand a second, which no limit minds.
      lab.now += 1;
    }
    nothingLeft(lab);
    lab.check({ heapMiB: 8 });
  });

  test('T-06, T-22: copies of a SYN are answered twice a second, however many there are', () => {
    const lab = new Lab();
    const syn = tcp({ srcPort: 5000, seq: 1 });
    const answers = (count: number): number => {
      const all: Decoded[] = [];
      for (let i = 0; i < count; i++) all.push(...lab.send(syn));
      return all.filter((d) => d.flags === (SYN | ACK)).length;
    };
    assert.equal(answers(1), 1);
    assert.equal(answers(100), 1, 'the first copy: the answer was lost');
    lab.now += 500;
    assert.equal(answers(100), 1);
    lab.check();
  });

  test('RQ-37: beyond a network, what waited for a processor in a turn is not taken for shorter round trips', () => {
    const lab = new Lab({ guest: { congestion: 'cubic' } });
    const peer = lab.connect(ALLOWED4, 7, { timestamp: 1 });
    // Ahead of a gap: acknowledged at once, with the time of the acknowledgment (NOP, NOP, 8, 10, TSval).
    const beyondGap = (): number =>
      peer
        .raw({ seq: (peer.seq + 5000) >>> 0 }, pattern(100))
        .at(-1)
        ?.options.readUInt32BE(4) ?? -1;
    const before = beyondGap();
    lab.kernel.fault = (name, args) => {
      if (name === 'read' && args[0] === lab.device.fd) lab.now += 30;
      return undefined;
    };
    const after = beyondGap();
    lab.kernel.fault = null;
    assert.ok(after - before >= 30, `${after - before} ms`);
    lab.check();
  });

  test('review O-4, T-22: SYNs beyond the limit of flows are not answered', () => {
    const lab = new Lab({ limits: { tcpMaxFlows: 1 } });
    const peer = lab.connect(ALLOWED4, 7);
    for (let i = 0; i < 20_000; i++) assert.deepEqual(lab.send(tcp({ srcPort: 1024 + i, seq: 1 })), []);
    assert.equal(lab.counter('drop.tcp.limit'), 20_000);
    peer.close();
    assert.equal(lab.send(tcp({ srcPort: 70, seq: 1 }))[0]?.flags, SYN | ACK);
  });

  test('review O-4, T-22: what a flood of SYNs to silence leaves behind does not keep the guest from the others', () => {
    const lab = new Lab();
    const { onConnect } = lab.kernel;
    lab.kernel.onConnect = (to, file) => (to.port === 7 ? onConnect(to, file) : 'pending');
    const flood = (count: number, from = 1024): void => {
      const { answers } = lab.flood(count, [frame(tcp({}))], (f, i) => {
        const sum = AT_TRANSPORT4 + TCP_SUM;
        putWord(f, AT_TRANSPORT4, from + i, sum);
        putWord(f, AT_TRANSPORT4 + 2, 100 + (i % 1000), sum);
      });
      assert.equal(answers, 0);
    };
    flood(20_000);
    // The rest is for destinations that have answered.
    const most = 4096 - 4096 / 8;
    assert.equal(lab.gauge('tcp.dialing'), most);
    const first = tcp({ srcPort: 70, dstPort: 7 });
    assert.deepEqual(lab.send(first), [], 'nobody has waited long enough to give way, and nobody is told');
    lab.now += 400;
    assert.deepEqual(lab.send(first), [], 'a program does not repeat itself that soon');
    for (const from of [30_000, 31_000, 32_000]) {
      lab.now += 500;
      flood(2000, from);
    }
    lab.now += 1000;
    const gone = lab.kernel.streams.filter((s) => s.closed).length;
    const out = lab.send(first);
    assert.deepEqual(
      out.map((d) => [d.dstPort, d.flags]),
      [[70, SYN | ACK]],
      'its repetition has room',
    );
    assert.equal(lab.kernel.streams.filter((s) => s.closed).length, gone + 1, 'the oldest gave way');
    lab.send(
      tcp({ srcPort: 70, dstPort: 7, seq: 1001, ack: ((out[0] as Decoded).seq + 1) >>> 0, flags: ACK }),
    );
    flood(10_000, 40_000);
    lab.connect(ALLOWED4, 7);
    assert.ok(lab.gauge('tcp.dialing') <= 4096);
    for (const s of lab.kernel.streams) if (s.state === 'connecting') s.fail(110);
    lab.run();
    assert.equal(lab.gauge('tcp.dialing'), 0);
    lab.now += 1;
    lab.check({ heapMiB: 16 });
  });

  test('review O-4, T-22: connections that come to nothing, too many in a second: not answered, and the host not asked', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 7);
    const { onConnect } = lab.kernel;
    lab.kernel.onConnect = (to, file) => (to.port === 7 ? onConnect(to, file) : ECONNREFUSED);
    const scan = (count: number): void => {
      // Closed ports, each another one, and handshakes that are reset.
      lab.flood(count, [frame(tcp({}))], (f, i) => {
        putWord(f, AT_TRANSPORT4, 1024 + (i % 60_000), AT_TRANSPORT4 + TCP_SUM);
        putWord(f, AT_TRANSPORT4 + 2, 100 + (i % 50_000), AT_TRANSPORT4 + TCP_SUM);
      });
    };
    scan(50_000);
    // What is under way in a batch has not failed yet.
    const asked = lab.kernel.streams.length - 1;
    assert.ok(asked >= 2048 && asked < 2048 + 128, `${asked}`);
    assert.equal(lab.counter('drop.tcp.limit'), 50_000 - asked);
    assert.ok(peer.sendData(pattern(1000)).equals(pattern(1000)), 'what is open goes on');
    lab.connect(ALLOWED4, 7).close();
    const before = lab.kernel.streams.length;
    lab.now += 2000;
    for (let i = 0; i < 5000; i++) {
      const srcPort = 1024 + i;
      lab.send(tcp({ srcPort, seq: 1, dstPort: 7 }));
      lab.send(tcp({ srcPort, seq: 2, dstPort: 7, flags: RST }));
    }
    assert.equal(lab.kernel.streams.length - before, 2048);
    // As soon as it ends there is room again.
    lab.now += 1;
    lab.kernel.onConnect = onConnect;
    lab.check({ heapMiB: 8 });
  });

  test('T-23: a hundred dead destinations do not keep a live one waiting', () => {
    const lab = new Lab();
    const { onConnect } = lab.kernel;
    lab.kernel.onConnect = (to, file) => (to.address === '198.51.100.66' ? 'pending' : onConnect(to, file));
    lab.send(
      ...Array.from({ length: 100 }, (_, i) =>
        tcp({ dst: '198.51.100.66', srcPort: 2000 + i, dstPort: 80 + i }),
      ),
    );
    assert.equal(lab.gauge('tcp.dialing'), 100);
    const before = lab.now;
    lab.connect(ALLOWED4, 7);
    assert.equal(lab.now, before, 'at once');
    for (const s of lab.kernel.streams) if (s.state === 'connecting') s.fail(110);
    lab.run();
    assert.equal(lab.gauge('tcp.dialing'), 0);
    lab.check();
  });

  test('T-22: floods of SYNs: denied ones cost nothing, pending dials stay within their limits, live flows live', () => {
    const lab = new Lab();
    const { onConnect } = lab.kernel;
    const peer = lab.connect(ALLOWED4, 7);
    lab.kernel.onConnect = (to, file) => (to.port === 7 ? onConnect(to, file) : 'pending');
    const open = lab.kernel.open;
    const denied = lab.delta(() => {
      const flood = lab.flood(500_000, [frame(tcp({ dst: '192.0.2.0' }))], (f, i) => {
        const sum = AT_TRANSPORT4 + TCP_SUM;
        putWord(f, AT_IP4_DST + 2, 0x0200 + (i & 255), AT_IP4_SUM, sum);
        putWord(f, AT_TRANSPORT4, 1024 + (i % 60_000), sum);
        putWord(f, AT_TRANSPORT4 + 2, 1 + ((i >> 8) % 60_000), sum);
      });
      assert.equal(flood.answers, 500_000);
      assert.ok(flood.sample.every((d) => d.flags === (RST | ACK)));
    });
    assert.equal(denied['drop.policy.deny'], 500_000);
    assert.equal(lab.kernel.open, open, 'no state');

    // One destination: at most 256 at a time, the others wait.
    for (let i = 0; i < 20_000; i += 1000)
      lab.send(
        ...Array.from({ length: 1000 }, (_, j) => tcp({ dst: ALLOWED4, srcPort: 1024 + i + j, dstPort: 81 })),
      );
    assert.equal(lab.gauge('tcp.dialing'), 256);
    // All destinations: 4096, an eighth of them for those that have answered.
    lab.flood(500_000, [frame(tcp({}))], (f, i) => {
      const sum = AT_TRANSPORT4 + TCP_SUM;
      putWord(f, AT_IP4_DST + 2, 0x6401 + (i % 200), AT_IP4_SUM, sum);
      putWord(f, AT_TRANSPORT4, 1024 + (i % 60_000), sum);
      putWord(f, AT_TRANSPORT4 + 2, 100 + ((i >> 8) % 1000), sum);
    });
    assert.equal(lab.kernel.mostDialing, 3584);
    assert.equal(lab.gauge('tcp.dialing'), 3584);
    // G-7: a batch of them is 5 ms of a fast processor, and 17 of one that others use as well.
    assert.ok(lab.mostOpened <= 16, `${lab.mostOpened} flows in a turn`);
    assert.ok(lab.logs.filter((l) => /TCP limit/.test(l.message)).length <= 2, 'one line a second');
    assert.ok(peer.sendData(pattern(10_000)).equals(pattern(10_000)));
    // The host gives up on all of them.
    for (const s of lab.kernel.streams) if (s.state === 'connecting') s.fail(110);
    lab.run();
    lab.take();
    assert.equal(lab.gauge('tcp.flows'), 1);
    lab.kernel.onConnect = onConnect;
    lab.now += 1;
    lab.check({ heapMiB: 16 });
  });

  test('T-22: a hundred thousand SYNs to a closed port of an allowed host', () => {
    const lab = new Lab();
    const { onConnect } = lab.kernel;
    lab.kernel.onConnect = (to, file) => (to.port === 7 ? onConnect(to, file) : 111);
    for (let i = 0; i < 100_000; i += 2000) {
      const flood = lab.flood(2000, [frame(tcp({ dstPort: 81 }))], (f, j) =>
        putWord(f, AT_TRANSPORT4, 1024 + ((i + j) % 60_000), AT_TRANSPORT4 + TCP_SUM),
      );
      assert.equal(flood.answers, 2000);
      assert.ok(flood.sample.every((d) => (d.flags & RST) !== 0));
      lab.kernel.forget();
    }
    nothingLeft(lab);
    lab.check({ amplification: 1.1, heapMiB: 16 });
  });

  test('T-22: handshakes that the guest does not complete: the oldest give way', () => {
    const lab = new Lab({ limits: { tcpMaxHalfOpen: 100 } });
    for (let i = 0; i < 1000; i++) {
      const [reply] = lab.send(tcp({ srcPort: 1024 + i })).filter((d) => d.dstPort === 1024 + i);
      assert.equal(reply?.flags, SYN | ACK);
    }
    assert.equal(lab.gauge('tcp.half_open'), 100);
    assert.equal(lab.gauge('tcp.flows'), 100);
    assert.equal(lab.counter('tcp.half_open_dropped'), 900);
    lab.advance(61 * SECOND);
    nothingLeft(lab);
    lab.check();
  });

  test('T-21, RQ-05, RQ-44 (RFC 9293 §3.4.1, RFC 6528 §3): initial sequence numbers: keyed by the tuple, moved by the clock, other ones in the next run', () => {
    const numbers = (seed: number, step: number): number[] => {
      const lab = new Lab({ seed, limits: { tcpMaxHalfOpen: 20_000 } });
      const list: number[] = [];
      for (let i = 0; i < 10_000; i++) {
        const [reply] = lab.send(tcp({ srcPort: 1024 + i, dst: i % 2 === 0 ? ALLOWED4 : ALLOWED6 }));
        list.push((reply as Decoded).seq);
        lab.now += step;
      }
      return list;
    };
    const first = numbers(1, 0);
    const second = numbers(2, 0);
    assert.ok(first.filter((n, i) => n === second[i]).length <= 1, 'another secret');
    // Of ten thousand numbers of 32 bits one in a hundred runs has a pair.
    assert.ok(new Set(first).size >= first.length - 1);
    // No trend: signed differences of neighbours average to nothing, and each bit is one half of the time.
    for (const list of [first, numbers(3, 10)]) {
      let mean = 0;
      for (let i = 1; i < list.length; i++)
        mean += seqOff(list[i] as number, list[i - 1] as number) / list.length;
      assert.ok(Math.abs(mean) < 2 ** 31 / 15, `mean difference ${mean}`);
      for (let bit = 0; bit < 32; bit++) {
        const ones = list.filter((n) => ((n >>> bit) & 1) === 1).length;
        assert.ok(ones > 0.44 * list.length && ones < 0.56 * list.length, `bit ${bit}: ${ones}`);
      }
    }
    // The same tuple later has a higher one (RFC 6528 §3: 4 µs a step).
    const lab = new Lab();
    const [a] = lab.send(tcp({ srcPort: 9 }));
    lab.send(tcp({ srcPort: 9, flags: RST, seq: 1001 }));
    lab.now += 100;
    const [b] = lab.send(tcp({ srcPort: 9 }));
    assert.equal(seqOff((b as Decoded).seq, (a as Decoded).seq), 25_000, `${summary(a as Decoded)}`);
  });
});
