/** Hazards T, first half: TCP segments one at a time. Names say the row; test/stack/tcp has the connection by itself. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { cpuMs } from '../support/cpu-time.ts';
import { ECONNREFUSED } from '../support/lab/fake-kernel.ts';
import { Lab, Peer, summary } from '../support/lab/lab.ts';
import {
  ACK,
  ALLOWED4,
  ALLOWED6,
  AT_TRANSPORT4,
  AT_TRANSPORT6,
  type Decoded,
  FIN,
  frame,
  GUEST4,
  type Ip,
  ipv4,
  isV6,
  PSH,
  pattern,
  putLong,
  RST,
  SYN,
  TCP,
  TCP_SUM,
  tcp,
  tcpOptions,
  tcpSegment,
  URG,
} from '../support/lab/packets.ts';

const families: [string, Ip][] = [
  ['IPv4', ALLOWED4],
  ['IPv6', ALLOWED6],
];

function flagsOf(frames: readonly Decoded[]): number[] {
  return frames.map((d) => d.flags);
}

/** The option `kind` of a segment, without kind and length; undefined = not there. */
function optionOf(d: Decoded, kind: number): Buffer | undefined {
  let at = 0;
  while (at < d.options.length) {
    const k = d.options[at] as number;
    if (k === 0) return undefined;
    if (k === 1) {
      at++;
      continue;
    }
    const length = d.options[at + 1] as number;
    assert.ok(length >= 2 && at + length <= d.options.length, 'our own options are well formed');
    if (k === kind) return d.options.subarray(at + 2, at + length);
    at += length;
  }
  return undefined;
}

/** Both directions still carry bytes, exactly. */
function works(peer: Peer, tag = 9): void {
  const data = pattern(3000, tag);
  const before = peer.stream?.writtenBytes ?? 0;
  peer.sendData(data);
  assert.ok(peer.stream?.received.subarray(before).equals(data), 'guest to host');
  const from = peer.received.length;
  peer.stream?.send(data);
  peer.lab.run();
  peer.absorb(peer.lab.take());
  assert.ok(Buffer.concat(peer.received.slice(from)).equals(data), 'host to guest');
}

describe('hazards T: TCP segments', () => {
  for (const [family, dst] of families) {
    test(`T-01, RQ-02 (RFC 9293 §3.1, ${family}): data offsets and lengths that cannot be, checksums, ports 0`, () => {
      const lab = new Lab();
      const peer = lab.connect(dst);
      for (let dataOffset = 0; dataOffset < 5; dataOffset++)
        lab.expectDrop('tcp.malformed', `offset ${dataOffset}`, frame(peer.packet({ dataOffset })));
      for (const dataOffset of [6, 10, 15])
        lab.expectDrop(
          'tcp.malformed',
          `offset ${dataOffset} in 20 bytes`,
          frame(peer.packet({ dataOffset })),
        );
      for (const flags of [SYN, ACK, RST, FIN | ACK])
        for (const checksum of [0, 1, 0xffff])
          lab.expectDrop(
            'tcp.csum',
            `flags ${flags}`,
            frame(peer.packet({ flags, checksum }, Buffer.from('x'))),
          );
      const right = frame(peer.packet({ flags: RST | ACK }, Buffer.from('x')));
      const at = (isV6(dst) ? AT_TRANSPORT6 : AT_TRANSPORT4) + TCP_SUM;
      const sum = right.readUInt16BE(at);
      const drops = lab.delta(() => {
        const flood = lab.flood(65_535, [right], (f, i) => f.writeUInt16BE(sum ^ (i + 1), at));
        assert.equal(flood.answers, 0);
      });
      assert.equal(drops['drop.tcp.csum'], 65_535, 'every sum but the right one');
      for (const ports of [{ srcPort: 0 }, { dstPort: 0 }, { srcPort: 0, dstPort: 0 }]) {
        const reached = lab.kernel.reached.length;
        const out = lab.send(tcp({ dst, ...ports }));
        assert.deepEqual(flagsOf(out), [RST | ACK]);
        assert.equal(lab.kernel.reached.length, reached);
      }
      works(peer);
      lab.check();
    });

    test(`T-02 (${family}): options with any length, on SYN and on data, never kill a connection or hang`, () => {
      const lists = [
        [2, 0],
        [2, 1],
        [1, 2, 0, 0],
        [3, 1],
        [5, 0xff],
        [8, 0],
        [0xff, 0],
        [1, 1, 1, 2],
        new Array<number>(40).fill(1),
        [2, 4, 5, 0xb4, 2, 4, 2, 0],
        [0, 0xff, 0xff, 0xff],
        [4, 2, 0, 8, 0, 0, 0, 0],
        [34, 0],
        [2, 3, 9, 9],
        [3, 4, 7, 0],
        [8, 9, 0, 0, 0, 0, 0, 0],
        [254, 40, ...new Array<number>(38).fill(7)],
      ];
      const lab = new Lab();
      for (const list of lists) {
        const options = Buffer.from(list);
        const peer = lab.connect(dst, 80, { options });
        works(peer);
        // On data: the segment counts all the same.
        const data = Buffer.from(`data with ${list.length}`);
        const before = peer.stream?.writtenBytes ?? 0;
        peer.raw({ flags: ACK | PSH, options }, data);
        peer.seq += data.length;
        assert.ok(peer.stream?.received.subarray(before).equals(data), `${list}`);
        works(peer, 10);
        peer.close();
      }
      lab.check();
    });

    test(`T-03 (${family}): every MSS, small and large, gives segments between 216 bytes and the link's`, () => {
      const lab = new Lab();
      const link = 1500 - (isV6(dst) ? 60 : 40);
      for (const mss of [0, 1, 7, 48, 88, 216, 535, 1460, 65535, -1]) {
        const peer = lab.connect(dst, 80, { options: mss < 0 ? Buffer.alloc(0) : tcpOptions({ mss }) });
        const none = isV6(dst) ? 1220 : 536;
        const expected = mss < 0 ? none : Math.min(Math.max(mss, 216), link);
        peer.stream?.send(pattern(60_000));
        lab.run();
        const out = lab.take().filter((d) => peer.isMine(d));
        assert.equal(Math.max(...out.map((d) => d.payload.length)), expected, `MSS ${mss}`);
        peer.absorb(out);
        assert.equal(peer.data.length, 60_000);
        peer.reset();
      }
      lab.check();
    });

    test(`T-04 (${family}): odd flags to no flow, to a pending and to an established one`, () => {
      const lab = new Lab();
      const closed = (flags: number): Decoded[] =>
        lab.send(tcp({ dst, srcPort: lab.port(), flags, ack: 77, seq: 5 }));
      for (const flags of [0, FIN, URG, PSH, FIN | PSH | URG])
        assert.deepEqual(flagsOf(closed(flags)), [RST | ACK], `${flags}`);
      assert.deepEqual(flagsOf(closed(ACK)), [RST]);
      for (const flags of [SYN | FIN, SYN | RST, SYN | FIN | RST, 0xff & ~ACK, 0xff])
        lab.expectDrop('tcp.flags', `${flags}`, frame(tcp({ dst, srcPort: lab.port(), flags })));
      for (const flags of [RST, RST | ACK, FIN | RST])
        lab.expectDrop('tcp.noflow', `${flags}`, frame(tcp({ dst, srcPort: lab.port(), flags })));
      assert.deepEqual(lab.kernel.reached, []);

      lab.kernel.onConnect = () => 'pending';
      const srcPort = lab.port();
      lab.send(tcp({ dst, srcPort, seq: 100 }));
      for (const flags of [0, FIN, URG, PSH, ACK, FIN | ACK])
        assert.deepEqual(lab.send(tcp({ dst, srcPort, seq: 101, flags })), []);
      for (const flags of [SYN | FIN, SYN | RST, 0xff])
        lab.expectDrop('tcp.flags', `pending ${flags}`, frame(tcp({ dst, srcPort, seq: 101, flags })));
      lab.kernel.streams.at(-1)?.accept();
      lab.run();
      assert.deepEqual(flagsOf(lab.take()), [SYN | ACK]);

      lab.kernel.onConnect = (to, file) => {
        if (to.port === 7) file.onData = (data) => file.send(data);
        return 'accept';
      };
      const peer = lab.connect(dst);
      for (const flags of [0, URG, PSH, FIN, FIN | PSH | URG])
        lab.expectDrop('tcp.flags', `established ${flags}`, frame(peer.packet({ flags })));
      for (const flags of [SYN | FIN, SYN | RST, 0xff])
        lab.expectDrop('tcp.flags', `established ${flags}`, frame(peer.packet({ flags })));
      works(peer);
      // FIN-WAIT: the host has ended, the guest has not.
      peer.stream?.end();
      lab.run();
      peer.absorb(lab.take());
      for (const flags of [0, URG, PSH, FIN])
        lab.expectDrop('tcp.flags', `FIN-WAIT ${flags}`, frame(peer.packet({ flags })));
      peer.fin();
      assert.equal(lab.gauge('tcp.time_wait'), 1);
      // TIME-WAIT: silence or its own last ACK, never a new flow.
      const reached = lab.kernel.reached.length;
      for (const flags of [0, URG, PSH, FIN, SYN | FIN, SYN | RST, 0xff]) lab.send(peer.packet({ flags }));
      assert.equal(lab.kernel.reached.length, reached);
      lab.check();
    });

    test(`T-04 (${family}): all 256 flag bytes, in every state: no new flow but by a clean SYN, and never an exception`, () => {
      const lab = new Lab();
      const { onConnect } = lab.kernel;
      const states: [string, () => Peer][] = [
        ['closed', () => new Peer(lab, dst, 80, {})],
        [
          'pending',
          () => {
            lab.kernel.onConnect = () => 'pending';
            const peer = new Peer(lab, dst, 80, {});
            lab.send(peer.syn);
            lab.kernel.onConnect = onConnect;
            peer.seq++;
            return peer;
          },
        ],
        ['established', () => lab.connect(dst)],
        [
          'FIN-WAIT-2',
          () => {
            const peer = lab.connect(dst);
            peer.stream?.end();
            lab.run();
            peer.absorb(lab.take());
            return peer;
          },
        ],
        [
          'TIME-WAIT',
          () => {
            const peer = lab.connect(dst);
            peer.stream?.end();
            lab.run();
            peer.absorb(lab.take());
            peer.fin();
            return peer;
          },
        ],
      ];
      for (const [state, make] of states) {
        for (let flags = 0; flags < 256; flags++) {
          const peer = make();
          lab.advance(20);
          const reached = lab.kernel.reached.length;
          const drops = lab.delta(() => {
            const out = lab.send(peer.packet({ flags }));
            assert.ok(out.length <= 2, `${state}, flags ${flags}: ${out.map(summary)}`);
            if ((flags & RST) !== 0)
              assert.deepEqual(out, [], `${state}, flags ${flags}: RST is not answered`);
          });
          const what = `${state}, flags ${flags}`;
          const isOdd = (flags & SYN) !== 0 && (flags & (FIN | RST)) !== 0;
          if (isOdd) assert.equal(drops['drop.tcp.flags'], 1, what);
          const isClean = (flags & SYN) !== 0 && (flags & (FIN | RST | ACK)) === 0;
          if (!isClean) assert.equal(lab.kernel.reached.length, reached, `${what}: a new flow`);
          assert.ok(lab.kernel.reached.length - reached <= 1, what);
          // Whatever is left of it goes.
          for (const stream of lab.kernel.streams) if (!stream.closed) stream.reset();
          for (const stream of lab.kernel.streams) if (stream.state === 'connecting') stream.fail(111);
          lab.run();
          lab.take();
          lab.kernel.streams.length = 0;
        }
        assert.deepEqual(lab.errors, [], state);
      }
      assert.equal(lab.gauge('tcp.dialing'), 0);
      lab.check({ heapMiB: 8 });
    });

    test(`T-05, RQ-46 (RFC 3168 §6.1.1, ${family}): SYN with ECN and reserved bits, with data, with Fast Open: a plain SYN, and no byte is lost`, () => {
      const lab = new Lab();
      for (const ecn of [0, 0x40, 0x80, 0xc0]) {
        for (let reserved = 0; reserved < 16; reserved++) {
          const [reply] = lab.send(tcp({ dst, srcPort: lab.port(), flags: SYN | ecn, reserved }));
          assert.equal(reply?.flags, SYN | ACK, 'no ECE: we do not do ECN');
        }
      }
      for (const options of [Buffer.from([34, 2]), Buffer.from([34, 18, ...pattern(16)])]) {
        const peer = lab.connect(dst, 80, { options });
        works(peer);
      }
      const most = isV6(dst) ? 1440 : 1460;
      for (let size = 1; size <= most; size++) {
        const data = pattern(size, size);
        const srcPort = lab.port();
        const [reply] = lab.send(tcp({ dst, srcPort, seq: 1000 }, data));
        assert.equal(reply?.flags, SYN | ACK);
        assert.equal(reply?.ack, 1001, 'the data is not acknowledged: it comes again');
        const next = { dst, srcPort, ack: (reply?.seq as number) + 1 };
        lab.send(
          tcp({ ...next, seq: 1001, flags: ACK }),
          tcp({ ...next, seq: 1001, flags: ACK | PSH }, data),
        );
        assert.ok(lab.kernel.streams.at(-1)?.received.equals(data));
        lab.send(tcp({ ...next, seq: 1001 + size, flags: RST }));
      }
      // A refusal counts them (RFC 9293 §3.10.7.1).
      const { onConnect } = lab.kernel;
      lab.kernel.onConnect = () => ECONNREFUSED;
      const [refusal] = lab.send(tcp({ dst, srcPort: lab.port(), seq: 1000 }, pattern(100)));
      assert.deepEqual([refusal?.flags, refusal?.ack], [RST | ACK, 1101]);
      lab.kernel.onConnect = onConnect;
      lab.check({ heapMiB: 8 });
    });

    test(`T-06 (${family}): one host connect for repeated SYNs; a new ISN replaces it; RST cancels it; silence ends it`, () => {
      const lab = new Lab();
      const { onConnect } = lab.kernel;
      lab.kernel.onConnect = () => 'pending';
      const open = lab.kernel.open;
      const srcPort = lab.port();
      const syn = (seq: number): Buffer => tcp({ dst, srcPort, seq });
      for (let i = 0; i < 3; i++) assert.deepEqual(lab.send(syn(1)), []);
      assert.equal(lab.kernel.streams.length, 1);
      lab.send(syn(5000));
      assert.equal(lab.kernel.streams.length, 2, 'dialled anew');
      assert.equal(lab.kernel.open, open + 1, 'the old descriptor is closed');
      assert.equal(lab.gauge('tcp.dialing'), 1);
      assert.deepEqual(lab.send(tcp({ dst, srcPort, seq: 9999, flags: RST })), []);
      assert.equal(lab.gauge('tcp.dialing'), 1, 'a blind RST does nothing');
      lab.send(tcp({ dst, srcPort, seq: 5001, flags: RST }));
      assert.equal(lab.kernel.open, open);
      assert.equal(lab.gauge('tcp.flows'), 0);
      // SYN then nothing: the host's connect ends in time, and the guest hears of it.
      lab.send(syn(7));
      lab.kernel.streams.at(-1)?.fail(110);
      lab.run();
      const [error] = lab.take();
      assert.equal(error?.icmpType, isV6(dst) ? 1 : 3);
      assert.equal(lab.kernel.open, open);
      // Once it was answered: the SYN-ACK again, not another connect.
      lab.kernel.onConnect = onConnect;
      const first = lab.send(syn(20));
      const again = lab.send(syn(20));
      assert.deepEqual(again.map(summary), first.map(summary));
      assert.equal(lab.kernel.streams.length, 4);
      lab.check();
    });

    test(`T-07, RQ-08, RQ-45 (RFC 9293 §3.10.7.4, RFC 6191, ${family}): SYN in synchronised states is challenged; TIME-WAIT takes a newer one`, () => {
      const lab = new Lab();
      const peer = lab.connect(dst, 80, { timestamp: 1000 });
      const ts = (value: number): Buffer => tcpOptions({ ts: [value, 0] });
      const challenged = (state: string, seqs: number[]): void => {
        for (const seq of seqs) {
          lab.advance(1000);
          const out = peer.raw({ flags: SYN, seq: (peer.seq + seq) >>> 0, options: ts(1001) });
          assert.deepEqual(flagsOf(out), [ACK], `${state}, ${seq}`);
          assert.equal(out[0]?.ack, peer.seq);
        }
      };
      challenged('ESTABLISHED', [0, 100, -5000, 1_000_000_000]);
      peer.stream?.end();
      lab.run();
      const [fin] = lab.take().filter((d) => peer.isMine(d));
      peer.ack = ((fin as Decoded).seq + 1) >>> 0;
      challenged('FIN-WAIT-1', [0, 77_777_777]);
      peer.raw({ options: ts(1002) });
      challenged('FIN-WAIT-2', [0, 77_777_777]);
      peer.raw({ flags: FIN | ACK, options: ts(1003) });
      assert.equal(lab.gauge('tcp.time_wait'), 1);
      const reached = lab.kernel.reached.length;
      peer.raw({ flags: SYN, seq: 5, options: ts(900) });
      assert.equal(lab.kernel.reached.length, reached, 'older timestamp: no new flow');
      const [again] = peer.raw({ flags: SYN, seq: 6, options: ts(2000), ack: 0 });
      assert.equal(again?.flags, SYN | ACK, 'newer timestamp, lower number');
      // Higher and lower number × newer, equal and older timestamp, and without timestamps.
      for (const step of [100_000, -100_000]) {
        for (const age of [1000, 0, -1000, Number.NaN]) {
          const has = !Number.isNaN(age);
          const old = lab.connect(dst, 80, has ? { timestamp: 5000, seq: 1_000_000 } : { seq: 1_000_000 });
          old.stream?.end();
          lab.run();
          old.absorb(lab.take());
          old.fin();
          const f = { flags: SYN, seq: old.seq + step, ack: 0 };
          const [reply] = old.raw(has ? { ...f, options: ts(5000 + age) } : f);
          const isNew = has && age !== 0 ? age > 0 : step > 0;
          const what = `number ${step}, timestamp ${age}`;
          if (isNew) assert.equal(reply?.flags, SYN | ACK, what);
          else assert.notEqual(reply?.flags, SYN | ACK, what);
          lab.send(old.packet({ flags: RST, seq: old.seq + step + 1 }));
        }
      }
      lab.check();
    });

    test(`T-08 (${family}): RST: exact resets both sides, in the window is challenged, outside is dropped`, () => {
      const lab = new Lab();
      const peer = lab.connect(dst);
      for (const off of [1, 1000, 60_000])
        assert.deepEqual(flagsOf(peer.raw({ flags: RST, seq: peer.seq + off })), [ACK], `${off}`);
      assert.ok(lab.counter('tcp.challenge') >= 3);
      for (const off of [-1, -5000, 5_000_000, 0x80000000])
        lab.expectDrop(
          'tcp.window',
          `${off}`,
          frame(peer.packet({ flags: RST, seq: (peer.seq + off) >>> 0 })),
        );
      works(peer);
      peer.raw({ flags: RST | ACK }, Buffer.from('reason'));
      assert.equal(lab.gauge('tcp.flows'), 0);
      assert.equal(peer.stream?.lingerReset, true, 'the host is reset too');
      // A hundred thousand more of it to what is closed.
      const packet = frame(peer.packet({ flags: RST }));
      assert.equal(lab.flood(100_000, [packet]).answers, 0);
      // With our window shut.
      const shut = lab.connect(dst);
      shut.stream?.setRoom(0);
      for (let i = 0; i < 400; i++) {
        const data = pattern(1400, i);
        shut.raw({ flags: ACK }, data);
        shut.seq += data.length;
      }
      const [probe] = shut.raw({ flags: ACK, seq: shut.seq - 1 });
      const next = probe?.ack as number;
      assert.equal(probe?.window, 0);
      lab.send(shut.packet({ flags: RST, seq: next }));
      assert.equal(shut.stream?.lingerReset, true);
      lab.check();
    });

    test(`T-10 (${family}): data outside, across and twice in the window: the first copy wins, FIN waits for all before it`, () => {
      const lab = new Lab();
      const peer = lab.connect(dst);
      const stream = peer.stream as NonNullable<Peer['stream']>;
      const at = peer.seq;
      const send = (offset: number, data: Buffer, flags = ACK): Decoded[] =>
        peer.raw({ seq: (at + offset) >>> 0, flags }, data);
      const data = pattern(1000, 4);
      // Ahead first, then the same with other bytes, then the beginning across both.
      send(100, data.subarray(100, 200));
      send(100, Buffer.alloc(100, 0x11));
      send(150, Buffer.alloc(100, 0x22));
      send(0, data.subarray(0, 130));
      assert.equal(stream.received.length, 250);
      assert.ok(stream.received.subarray(0, 200).equals(data.subarray(0, 200)), 'first copies');
      assert.ok(stream.received.subarray(200).equals(Buffer.alloc(50, 0x22)));
      // Left of the window, and straddling its left edge.
      assert.deepEqual(flagsOf(send(-100, Buffer.alloc(50, 0x33))), [ACK]);
      send(240, Buffer.concat([Buffer.alloc(10, 0x44), data.subarray(250, 300)]));
      assert.ok(stream.received.subarray(250).equals(data.subarray(250, 300)));
      // One byte, and half a space, beyond the right edge.
      const [ack] = send(-1, Buffer.alloc(1));
      const edge = seqOff((ack as Decoded).ack, at) + ((ack as Decoded).window << 0);
      const before = stream.received.length;
      for (const off of [edge, edge + 1, 0x80000000])
        assert.deepEqual(flagsOf(send(off, Buffer.alloc(1, 0x55))), [ACK], `${off}`);
      // Straddling the right edge: only what is inside.
      send(edge - 2, Buffer.alloc(4, 0x66));
      assert.equal(stream.received.length, before);
      // FIN behind a gap does not count yet.
      send(400, Buffer.from('end'), ACK | FIN);
      assert.equal(stream.shutWrite, false);
      send(300, data.subarray(300, 400));
      assert.equal(stream.shutWrite, true);
      assert.equal(stream.received.length, 403);
      lab.check();
    });

    test(`T-18, RQ-13 (RFC 9293 §3.8.5, ${family}): urgent pointers are never used: all bytes in order, with the host reading or not`, () => {
      for (const room of [Number.POSITIVE_INFINITY, 0, 10]) {
        const lab = new Lab();
        const peer = lab.connect(dst);
        const stream = peer.stream as NonNullable<Peer['stream']>;
        stream.setRoom(room);
        const sent: Buffer[] = [];
        const pointers = [0, 1, 99, 100, 101, 65535, 50, 20, 10, 5, 1];
        for (const urgent of pointers) {
          const data = pattern(100, urgent + 1);
          sent.push(data);
          peer.raw({ flags: ACK | URG | PSH, urgent }, data);
          peer.seq += data.length;
        }
        for (const f of [{ urgent: 65535 }, { urgent: 1 }]) {
          peer.raw({ flags: ACK | URG, ...f });
          lab.expectDrop(
            'tcp.flags',
            'URG without ACK',
            frame(peer.packet({ flags: URG, ...f }, Buffer.from('no'))),
          );
        }
        stream.setRoom(Number.POSITIVE_INFINITY);
        lab.run();
        lab.take();
        assert.ok(stream.received.equals(Buffer.concat(sent)));
        assert.equal(lab.counter('tcp.urg'), pointers.length + 4);
        lab.check();
      }
    });

    test(`T-18 (${family}): urgent data against a shut window`, () => {
      const lab = new Lab();
      const peer = lab.connect(dst);
      peer.stream?.setRoom(0);
      const sent: Buffer[] = [];
      for (let i = 0; i < 500; i++) {
        const data = pattern(1000, i);
        peer.raw({ flags: ACK | URG, urgent: 65535 - i }, data);
        sent.push(data);
        peer.seq += data.length;
      }
      const [last] = peer.raw({ flags: ACK | URG, urgent: 1, seq: peer.seq - 1 }, Buffer.alloc(1));
      assert.equal(last?.window, 0);
      const taken = seqOff((last as Decoded).ack, 1001);
      peer.stream?.setRoom(Number.POSITIVE_INFINITY);
      lab.run();
      lab.take();
      const all = peer.stream?.received as Buffer;
      assert.equal(all.length, taken);
      assert.ok(Buffer.concat(sent).subarray(0, taken).equals(all));
      lab.check();
    });

    test(`T-19 (${family}): FIN in every place`, () => {
      const lab = new Lab();
      // FIN with data, repeated, then data behind it.
      const peer = lab.connect(dst);
      const seq = peer.seq;
      const last = Buffer.from('last words');
      peer.raw({ flags: ACK | FIN }, last);
      peer.raw({ flags: ACK | FIN }, last);
      peer.raw({ flags: ACK, seq: seq + last.length + 1 }, Buffer.from('behind the end'));
      assert.ok(peer.stream?.received.equals(last));
      assert.equal(peer.stream?.shutWrite, true);
      peer.seq = seq + last.length + 1;
      // The other half is open as long as it likes.
      peer.stream?.send(pattern(50_000));
      lab.run();
      peer.absorb(lab.take());
      assert.equal(peer.data.length, 50_000);
      peer.stream?.end();
      lab.run();
      peer.absorb(lab.take());
      assert.equal(peer.finReceived, true);
      assert.equal(lab.gauge('tcp.flows'), 0);

      // Both at once: CLOSING, then TIME-WAIT; a lost ACK of it is asked for again.
      const cross = lab.connect(dst);
      cross.stream?.end();
      lab.run();
      const [fin] = lab.take().filter((d) => cross.isMine(d));
      const [ackOfFin] = cross.raw({ flags: FIN | ACK });
      assert.equal(ackOfFin?.ack, cross.seq + 1);
      const [again] = lab.advance(2000).filter((d) => cross.isMine(d));
      assert.equal(again?.flags, FIN | ACK, 'retransmitted in CLOSING');
      assert.equal(again?.seq, fin?.seq);
      assert.equal(cross.stream?.shutWrite, true, 'the host need not wait for the guest to acknowledge');
      cross.raw({ seq: cross.seq + 1, ack: ((fin as Decoded).seq + 1) >>> 0 });
      assert.equal(lab.gauge('tcp.time_wait'), 1);
      assert.equal(lab.gauge('tcp.flows'), 0);

      // What fills the gap before it ends the connection: that is acknowledged all the same.
      const late = lab.connect(dst);
      late.stream?.end();
      lab.run();
      late.absorb(lab.take());
      late.raw({ flags: FIN | ACK, seq: late.seq + 5 }, Buffer.from('world'));
      const [whole] = late.raw({}, Buffer.from('hello'));
      assert.equal(whole?.ack, (late.seq + 11) >>> 0);
      assert.equal(late.stream?.received.toString(), 'helloworld');

      // FIN in SYN-RECEIVED.
      const srcPort = lab.port();
      const [synAck] = lab.send(tcp({ dst, srcPort, seq: 1 }));
      lab.send(tcp({ dst, srcPort, seq: 2, ack: ((synAck as Decoded).seq + 1) >>> 0, flags: FIN | ACK }));
      assert.equal(lab.kernel.streams.at(-1)?.shutWrite, true);

      // FIN, then RST, in one burst.
      const both = lab.connect(dst);
      lab.send(both.packet({ flags: FIN | ACK }), both.packet({ flags: RST, seq: both.seq + 1 }));
      assert.equal(both.stream?.lingerReset, true);
      lab.check();
    });
  }

  test('T-01: segments of 0 to 19 bytes', () => {
    const lab = new Lab();
    const segment = tcpSegment({});
    for (let n = 0; n < 20; n++)
      lab.expectDrop(
        'tcp.malformed',
        `${n} bytes`,
        frame(ipv4({ protocol: TCP, src: GUEST4 }, segment.subarray(0, n))),
      );
    lab.check();
  });

  test('T-07: fifty ports used again a thousand times a second: none fails', () => {
    const lab = new Lab();
    let seq = 1;
    for (let i = 0; i < 2000; i++) {
      const srcPort = 50_000 + (i % 50);
      seq = (seq + 64_000) >>> 0;
      const peer = lab.connect(ALLOWED4, 80, { srcPort, seq });
      // Whoever ends first keeps the TIME-WAIT: half of them each.
      if (i % 2 === 0) {
        peer.stream?.end();
        lab.run();
        peer.absorb(lab.take());
        peer.fin();
      } else {
        peer.close();
      }
      lab.now += 1;
    }
    assert.equal(lab.gauge('tcp.flows'), 0);
    lab.check({ heapMiB: 16 });
  });

  test('T-08: RST+ACK in SYN-SENT needs the right number (a local forward); RST to nobody is dropped', () => {
    const lab = new Lab();
    lab.expectDrop('tcp.noflow', 'RST', frame(tcp({ flags: RST })));
    lab.expectDrop('tcp.noflow', 'RST+ACK', frame(tcp({ flags: RST | ACK, ack: 5 })));
    lab.check();
  });

  test('T-09: acknowledgments of what was never sent or of long ago', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4);
    for (const off of [1, 1000, 0x7fffffff, -70_000, -100_000_000]) {
      lab.advance(1000);
      const drops = lab.delta(() => {
        assert.deepEqual(
          flagsOf(peer.raw({ ack: (peer.ack + off) >>> 0 }, Buffer.from('not taken'))),
          [ACK],
          `${off}`,
        );
      });
      assert.equal(drops['drop.tcp.ack'], 1);
    }
    assert.equal(peer.stream?.received.length, 0);
    works(peer);
    lab.check();
  });

  test('T-09: challenges are limited for each connection, and for all together by a random number', () => {
    const counts = new Set<number>();
    for (const seed of [1, 2, 3]) {
      const lab = new Lab({ seed });
      const one = lab.connect(ALLOWED4);
      let sent = 0;
      for (let i = 0; i < 100; i++) sent += one.raw({ flags: RST, seq: one.seq + 10 }).length;
      assert.equal(sent, 10, 'of one connection in one second');
      const many = Array.from({ length: 200 }, () => lab.connect(ALLOWED4));
      let all = 0;
      for (const peer of many)
        for (let i = 0; i < 10; i++) all += peer.raw({ flags: RST, seq: peer.seq + 10 }).length;
      assert.ok(all <= 1000, `${all} of 2000`);
      counts.add(all);
      assert.equal(lab.counter('tcp.challenge'), all + 10);
      assert.equal(lab.counter('tcp.challenge_suppressed'), 90 + 2000 - all);
      lab.check({ heapMiB: 8 });
    }
    assert.ok(counts.size > 1, 'no exact number for one flow to count another by');
  });

  for (const congestion of ['none', 'newReno', 'cubic'] as const) {
    test(`T-09 (${congestion}): a mebibyte acknowledged in steps of a byte costs no extra segment, and opens no window by itself`, () => {
      const total = 1024 * 1024;
      const lab = new Lab({ guest: { congestion } });
      const peer = lab.connect(ALLOWED4, 80, { options: tcpOptions({ mss: 1460, scale: 7 }) });
      const data = pattern(total, 9);
      peer.stream?.send(data);
      lab.run();
      let most = 0;
      const received: Buffer[] = [];
      for (let arrived = 0; arrived < total; ) {
        const out = lab.take().filter((d) => peer.isMine(d));
        let bytes = 0;
        for (const d of out) {
          assert.equal(seqOff(d.seq, peer.ack), bytes, 'in order, and once');
          received.push(d.payload);
          bytes += d.payload.length;
        }
        assert.ok(bytes > 0, `${arrived} bytes and no more`);
        // Bytes acknowledged, not acknowledgments, open the congestion window: it doubles at most.
        if (congestion !== 'none') assert.ok(bytes <= Math.max(2 * most + 3000, 15_000), `${most}, ${bytes}`);
        most = Math.max(most, bytes);
        const start = peer.ack;
        lab.feed(bytes, [frame(peer.packet({}))], (f, i) =>
          putLong(f, AT_TRANSPORT4 + 8, (start + i + 1) >>> 0, AT_TRANSPORT4 + TCP_SUM),
        );
        peer.ack = (start + bytes) >>> 0;
        arrived += bytes;
      }
      assert.ok(Buffer.concat(received).equals(data));
      works(peer);
      lab.check({ heapMiB: 16 });
    });
  }

  test('T-11: the right edge moved left, to nothing; scales of 15 and 255; a scale where none belongs', () => {
    const lab = new Lab();
    for (const scale of [0, 7, 14, 15, 255]) {
      const peer = lab.connect(ALLOWED4, 80, { options: tcpOptions({ mss: 1460, scale }), window: 100 });
      assert.ok(optionOf(peer.synAck as Decoded, 3) !== undefined);
      works(peer);
      const data = pattern(30_000, scale);
      peer.window = 65535;
      peer.stream?.send(data);
      lab.run();
      const inFlight = lab.take().filter((d) => peer.isMine(d));
      // Shrink to less than is in flight, then to nothing; nothing new may come.
      const [first] = inFlight as [Decoded];
      const highest = inFlight.at(-1) as Decoded;
      for (const window of [1, 0]) {
        const out = peer.raw({ window, ack: first.seq });
        for (const d of out)
          assert.ok(seqOff(d.seq + d.payload.length, highest.seq + highest.payload.length) <= 0);
      }
      peer.window = 65535;
      peer.absorb(inFlight);
      lab.advance(5000);
      peer.absorb(lab.take());
      assert.ok(peer.data.subarray(-30_000).equals(data), `scale ${scale}`);
      peer.reset();
    }
    // Offered by nobody or by one side only: no scaling. A scale outside a SYN means nothing.
    const plain = lab.connect(ALLOWED4, 80, { options: tcpOptions({ mss: 1460 }) });
    assert.equal(optionOf(plain.synAck as Decoded, 3), undefined);
    plain.raw({ options: Buffer.from([3, 3, 14, 0]), window: 10 });
    plain.stream?.send(pattern(5000));
    lab.run();
    assert.ok(lab.take().every((d) => d.payload.length <= 10));
    lab.check();
  });

  test('T-14: SACK options with any block: bad ones are ignored, and the data arrives', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 80, { options: tcpOptions({ mss: 1000, sack: true }) });
    const data = pattern(60_000, 14);
    peer.stream?.send(data);
    lab.run();
    const out = lab.take().filter((d) => peer.isMine(d));
    const una = peer.ack;
    const block = (...edges: number[]): Buffer => {
      const b = Buffer.alloc(4 + 4 * edges.length);
      b.set([1, 1, 5, 2 + 4 * edges.length]);
      edges.forEach((e, i) => {
        b.writeUInt32BE((una + e) >>> 0, 4 + 4 * i);
      });
      return b;
    };
    const bad = [
      block(5000, 4000),
      block(5000, 5000),
      block(-5000, -1000),
      block(-1000, 1000),
      block(50_000, 5_000_000),
      block(0x7fffffff, 0x7fffffff + 100),
      Buffer.from([1, 1, 5, 9, 0, 0, 0, 0, 0, 0, 0, 0]),
      Buffer.from([1, 1, 5, 2]),
      Buffer.from([5, 3, 0, 0]),
      block(1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000),
    ];
    for (let round = 0; round < 3; round++)
      for (const options of bad) lab.send(peer.packet({ ack: una, options }));
    for (let i = 0; i < 2000; i++)
      lab.send(peer.packet({ ack: una, options: block((i * 1000) % 50_000, ((i * 1000) % 50_000) + 500) }));
    lab.take();
    peer.absorb(out);
    for (let i = 0; i < 20 && peer.data.length < data.length; i++) peer.absorb(lab.advance(2000));
    assert.ok(peer.data.equals(data));
    // Blocks from a guest that never said it would send any.
    const plain = lab.connect(ALLOWED4, 80, { options: tcpOptions({ mss: 1000 }) });
    plain.stream?.send(data);
    lab.run();
    const sent = lab.take().filter((d) => plain.isMine(d));
    let again = 0;
    for (const options of bad) again += plain.raw({ options }).filter((d) => d.payload.length > 0).length;
    assert.ok(again <= bad.length, `${again} segments for duplicates that say nothing`);
    plain.absorb(sent);
    for (let i = 0; i < 20 && plain.data.length < data.length; i++) plain.absorb(lab.advance(2000));
    assert.ok(plain.data.equals(data));
    lab.check();
  });

  test('T-14: alternate holes over a large window at MSS 48: bounded work, data intact', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 80, {
      options: tcpOptions({ mss: 48, sack: true, scale: 7 }),
      window: 65535,
    });
    const data = pattern(4 * 1024 * 1024, 15);
    peer.stream?.send(data);
    lab.run();
    let out = lab.take().filter((d) => peer.isMine(d));
    // A window of them: what is queued for a guest at most, in segments of the smallest size there is.
    assert.ok(out.length > 4000, `${out.length}`);
    // G-7: a thousand system calls in a row are 5 ms of a fast processor, and 20 of code that is new.
    assert.ok(lab.mostFrames < 400, `${lab.mostFrames} frames in a turn`);
    const una = peer.ack;
    const from = cpuMs();
    for (let i = 0; i < out.length; i += 2) {
      const edges: number[] = [];
      for (let j = 0; j < 4; j++) {
        const d = out[(i + 2 * j) % out.length] as Decoded;
        edges.push(d.seq, (d.seq + d.payload.length) >>> 0);
      }
      const options = Buffer.alloc(36);
      options.set([1, 1, 5, 34]);
      edges.forEach((e, k) => {
        options.writeUInt32BE(e, 4 + 4 * k);
      });
      lab.send(peer.packet({ ack: una, options }));
    }
    assert.ok(cpuMs() - from < 5000, 'work per ACK');
    for (let i = 0; i < 200 && seqOff(peer.ack, una) < data.length; i++) {
      peer.absorb(out);
      out = lab.advance(500).filter((d) => peer.isMine(d));
    }
    assert.ok(peer.data.equals(data));
    peer.received.length = 0;
    lab.check({ heapMiB: 16 });
  });

  test('T-16: initial numbers just below the wrap, both ways, and a FIN exactly on it', () => {
    const lab = new Lab();
    for (const seq of [0xffffff00, 0xfffffffe, 0xffffffff, 0]) {
      const peer = lab.connect(ALLOWED4, 80, { seq });
      const data = pattern(300_000, 16);
      peer.sendData(data);
      assert.ok(peer.stream?.received.equals(data));
      peer.close();
    }
    const exact = lab.connect(ALLOWED4, 80, { seq: 0xffffffff - 100 });
    exact.sendData(pattern(100));
    assert.equal(exact.seq, 0);
    exact.fin();
    assert.equal(exact.stream?.shutWrite, true);
    lab.check();
  });

  test('T-17: timestamps: missing ones are dropped, old ones acknowledged and dropped, never a reset', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 80, { timestamp: 50_000 });
    const ts = (value: number, echoed = 0): Buffer => tcpOptions({ ts: [value, echoed] });
    lab.expectDrop('tcp.ts', 'missing', frame(peer.packet({ options: Buffer.alloc(0) }, Buffer.from('x'))));
    for (const value of [49_999, 50_000 - 0x40000000, (50_000 + 0x80000000) >>> 0]) {
      const drops = lab.delta(() =>
        assert.deepEqual(flagsOf(peer.raw({ options: ts(value) }, Buffer.from('old'))), [ACK]),
      );
      assert.equal(drops['drop.tcp.ts'], 1);
    }
    // A TSecr that we never sent is no measurement; lengths of 9 and 11 are no timestamps.
    peer.raw({ options: ts(50_001, 0x12345678) }, Buffer.from('a'));
    peer.seq += 1;
    for (const length of [9, 11]) {
      const odd = Buffer.concat([Buffer.from([8, length]), Buffer.alloc(10)]);
      lab.expectDrop('tcp.ts', `length ${length}`, frame(peer.packet({ options: odd }, Buffer.from('x'))));
    }
    assert.equal(peer.stream?.received.toString(), 'a');
    // In TIME-WAIT too: silence for what says nothing new, an answer for what is old.
    const done = lab.connect(ALLOWED4, 80, { timestamp: 50_000 });
    done.stream?.end();
    lab.run();
    done.absorb(lab.take());
    done.fin();
    assert.equal(lab.gauge('tcp.time_wait'), 1);
    assert.deepEqual(flagsOf(done.raw({ options: ts(50_000) })), []);
    assert.deepEqual(flagsOf(done.raw({ options: ts(49_999) })), [ACK]);
    // RST needs none.
    const other = lab.connect(ALLOWED4, 80, { timestamp: 1 });
    lab.send(other.packet({ flags: RST, options: Buffer.alloc(0) }));
    assert.equal(other.stream?.lingerReset, true);
    lab.check();
  });
});

function seqOff(a: number, b: number): number {
  return (a - b) | 0;
}
