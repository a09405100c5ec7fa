/** Hazards R: resources. R-04 is the forwards' (test/control/descriptor-check.test.ts, test/app/forward-log.test.ts). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FULL } from '../support/full.ts';
import { Lab, type Peer } from '../support/lab/lab.ts';
import {
  ACK,
  ALLOWED4,
  type Decoded,
  DNS4,
  echo,
  FIN,
  pattern,
  RST,
  SYN,
  tcp,
  tcpOptions,
  udp,
} from '../support/lab/packets.ts';

/** Connections that are deaf at the same time. */
const FLOWS = FULL ? 10_000 : 1000;

describe('hazards R: resources', () => {
  test('R-01: out of descriptors in every call that makes one: answers, no spin, and recovery at once', () => {
    const lab = new Lab({ descriptors: 50 });
    const peers: Peer[] = [];
    for (let i = 0; i < 40; i++) peers.push(lab.connect(ALLOWED4));
    lab.services.descriptors.limit = 40;
    assert.equal(lab.services.descriptors.used, 40);
    assert.deepEqual(lab.send(tcp({ srcPort: 9 })), [], 'TCP: asked to wait');
    // No UDP or ping flow is there to give way.
    assert.deepEqual(lab.send(udp({ dstPort: 7 })), []);
    assert.deepEqual(lab.send(echo(ALLOWED4, 5, 1)), []);
    const query = Buffer.from('00070100000100000000000003777777076578616d706c6503636f6d0000010001', 'hex');
    assert.equal(
      (lab.send(udp({ dst: DNS4, dstPort: 53 }, query))[0]?.payload[3] as number) & 15,
      2,
      'DNS: SERVFAIL',
    );
    assert.ok(
      lab.counter('drop.tcp.limit') === 1 &&
        lab.counter('drop.udp.limit') === 1 &&
        lab.counter('drop.icmp.limit') === 1,
    );
    assert.ok(lab.logs.some((l) => /TCP limit/.test(l.message)));
    assert.ok(lab.guest.counters.snapshot()['rx.packets'] !== undefined, 'the control plane is served');
    for (const peer of peers.slice(0, 10)) peer.reset();
    lab.services.descriptors.limit = 50;
    lab.connect(ALLOWED4, 7).close();
    for (const peer of peers.slice(10)) peer.reset();
    assert.equal(lab.services.descriptors.used, 0);
    lab.check();
  });

  test('review OR-21: idle connections leave descriptors to names, datagrams and pings, and these to connections', () => {
    const lab = new Lab({ descriptors: 160 });
    const query = Buffer.from('00070100000100000000000003777777076578616d706c6503636f6d0000010001', 'hex');
    const ask = (srcPort: number): Decoded[] => lab.send(udp({ srcPort, dst: DNS4, dstPort: 53 }, query));
    const works = (asking: number): void => {
      assert.equal(lab.send(udp({ srcPort: 5000, dstPort: 7 }, query)).length, 1, 'UDP');
      assert.equal(lab.send(echo(ALLOWED4, 5, 1))[0]?.icmpType, 0, 'ping');
      assert.deepEqual(ask(asking), [], 'no SERVFAIL: the resolver is asked');
      assert.equal(lab.kernel.datagrams.at(-1)?.port, 53);
    };
    let open = 0;
    while (open < 1000 && lab.send(tcp({ srcPort: 10_000 + open }))[0]?.flags === (SYN | ACK)) open++;
    assert.ok(open > 80 && open < 150, `${open} connections`);
    works(5001);
    for (let i = 0; i < open; i++) lab.send(tcp({ srcPort: 10_000 + i, seq: 1001, flags: RST }));
    // The same when datagrams take what there is.
    for (let i = 0; i < 1000; i++) lab.send(udp({ srcPort: 20_000 + i, dstPort: 9 }));
    for (let i = 0; i < 30; i++) lab.connect(ALLOWED4, 7);
    works(5002);
    lab.check();
  });

  test('R-01: the kernel says EMFILE although the budget does not', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 7);
    lab.kernel.maxOpen = lab.kernel.open;
    const turns = lab.kernel.calls.get('epoll_wait') as number;
    for (let i = 0; i < 100; i++) {
      assert.deepEqual(lab.send(tcp({ srcPort: 1000 + i })), []);
      assert.deepEqual(lab.send(udp({ srcPort: 1000 + i, dstPort: 7 })), []);
    }
    assert.ok((lab.kernel.calls.get('epoll_wait') as number) - turns < 1000, 'no spin');
    assert.ok(peer.sendData(pattern(100)).equals(pattern(100)));
    lab.kernel.maxOpen = 100_000;
    lab.check();
  });

  test('review O-4, R-02: tcp.max_flows: not answered, counted and told; existing flows go on', () => {
    const lab = new Lab({ limits: { tcpMaxFlows: 200 } });
    const peers = Array.from({ length: 200 }, () => lab.connect(ALLOWED4, 7));
    for (let i = 0; i < 1000; i++) assert.deepEqual(lab.send(tcp({ srcPort: 1000 + i })), []);
    assert.equal(lab.counter('drop.tcp.limit'), 1000);
    assert.equal(lab.logs.filter((l) => /TCP limit/.test(l.message)).length, 1);
    assert.ok(peers[77]?.sendData(pattern(2000)).equals(pattern(2000)));
    peers[0]?.close();
    lab.check();
  });

  test('R-02: 30,000 connections one after the other: TIME-WAIT is bounded and the oldest are forgotten', () => {
    const lab = new Lab();
    for (let i = 0; i < 30_000; i++) {
      const srcPort = 1024 + i;
      const [synAck] = lab.send(tcp({ srcPort, seq: 1 }));
      const ack = ((synAck?.seq as number) + 1) >>> 0;
      const stream = lab.kernel.streams.at(-1);
      stream?.end();
      // The ACK of the handshake brings out the host's end; the guest answers with its own.
      const [fin] = lab.send(tcp({ srcPort, seq: 2, ack, flags: ACK }));
      lab.send(tcp({ srcPort, seq: 2, ack: ((fin?.seq as number) + 1) >>> 0, flags: FIN | ACK }));
      if (i % 1000 === 0) lab.kernel.forget();
    }
    assert.equal(lab.gauge('tcp.flows'), 0);
    assert.equal(lab.gauge('tcp.time_wait'), 16_384);
    assert.equal(lab.counter('tcp.timewait_evicted'), 30_000 - 16_384);
    // An old tuple is a new connection at once.
    assert.equal(lab.send(tcp({ srcPort: 1024, seq: 500 }))[0]?.flags, SYN | ACK);
    lab.advance(61_000);
    assert.equal(lab.gauge('tcp.time_wait'), 0);
    lab.check({ heapMiB: 16 });
  });

  test(`R-03, RQ-47 (RFC 6429): ${FLOWS} guests that never read, then hosts that never read: memory has its bound, nobody starves`, () => {
    const memory = (FULL ? 16 : 2) * 1024 * 1024;
    const lab = new Lab({ memory });
    const options = tcpOptions({ mss: 1460, scale: 7 });
    const bulk = pattern(256 * 1024);
    const quiet = Array.from({ length: FLOWS }, () => lab.connect(ALLOWED4, 80, { options, window: 0 }));
    for (const peer of quiet) {
      peer.raw({ window: 0 });
      peer.stream?.send(bulk);
    }
    lab.run();
    lab.take();
    assert.ok(lab.slab.pagesUsed * 16_384 <= memory);
    // Memory is short, and the flows that do read still get all of theirs.
    const reader = lab.connect(ALLOWED4, 80, { options });
    const data = pattern(200_000, 3);
    reader.stream?.send(data);
    lab.run();
    reader.absorb(lab.take());
    for (let i = 0; i < 200 && reader.data.length < data.length; i++) reader.absorb(lab.advance(100));
    assert.ok(reader.data.equals(data), `${reader.data.length} of ${data.length}`);
    for (const peer of quiet) peer.reset();
    reader.reset();
    assert.equal(lab.slab.pagesUsed, 0, 'idle flows hold nothing');

    const deaf = Array.from({ length: FLOWS }, () => lab.connect(ALLOWED4, 80, { options }));
    for (const peer of deaf) peer.stream?.setRoom(0);
    const piece = pattern(1400, 5);
    for (let round = 0; round < 20; round++) {
      for (const peer of deaf) {
        const packet = peer.packet({}, piece);
        const [reply] = lab.send(packet).filter((d) => peer.isMine(d));
        if (reply === undefined || ((reply.ack - peer.seq) | 0) > 0) peer.seq += 1400;
      }
    }
    assert.ok(lab.slab.pagesUsed * 16_384 <= memory);
    const writer = lab.connect(ALLOWED4, 7);
    assert.ok(writer.sendData(pattern(1000)).equals(pattern(1000)));
    for (const peer of deaf) peer.stream?.reset();
    lab.run();
    lab.take();
    writer.reset();
    assert.equal(lab.slab.pagesUsed, 0);
    lab.check({ heapMiB: 24 });
  });
});
