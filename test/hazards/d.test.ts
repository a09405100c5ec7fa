/** Hazards D: names and DHCP. test/forward/dns/flows.test.ts has the forwarder with real sockets. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Datagram, StreamFile } from '../support/lab/fake-kernel.ts';
import { Lab, type Peer } from '../support/lab/lab.ts';
import {
  ACK,
  type Decoded,
  DNS4,
  DNS6,
  ethernet,
  frame,
  GATEWAY4,
  GATEWAY6,
  GUEST_MAC,
  ipv4,
  macBytes,
  pattern,
  RST,
  reassemble,
  tcp,
  UDP,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';

const QUESTION = Buffer.from('03777777076578616d706c6503636f6d0000010001', 'hex');

function message(id: number, flags: number, counts: [number, number, number, number], body: Buffer): Buffer {
  const h = Buffer.alloc(12);
  h.writeUInt16BE(id, 0);
  h.writeUInt16BE(flags, 2);
  counts.forEach((n, i) => {
    h.writeUInt16BE(n, 4 + 2 * i);
  });
  return Buffer.concat([h, body]);
}

const query = (id: number, body: Buffer = QUESTION): Buffer => message(id, 0x0100, [1, 0, 0, 0], body);

function ask(lab: Lab, q: Buffer, srcPort = 3333): Decoded[] {
  return lab.send(udp({ dst: DNS4, srcPort, dstPort: 53 }, q));
}

function rcodes(frames: Decoded[]): number[] {
  return frames.map((d) => (d.payload[3] as number) & 15);
}

/** The resolver answers what was asked last with `body` behind the question. */
function answer(lab: Lab, d: Datagram, change: (a: Buffer) => Buffer = (a) => a): Decoded[] {
  const a = Buffer.concat([d.payload.subarray(0, 12), QUESTION]);
  a[2] = 0x81;
  a[3] = 0x80;
  d.file.deliver(d, change(a));
  lab.run();
  return lab.take();
}

describe('hazards D: DNS', () => {
  test('D-01: questions whose name cannot be read: FORMERR or silence, nothing upstream, nothing hangs', () => {
    const lab = new Lab();
    const name = (...labels: number[]): Buffer<ArrayBuffer> => Buffer.from([...labels, 0, 1, 0, 1]);
    const bad = [
      query(1, name(0xc0, 12)),
      query(2, name(0xc0, 20)),
      query(3, name(3, 119, 119, 119, 0xc0, 12)),
      query(4, name(0xc0, 14, 0xc0, 12)),
      // Each of 8000 pointers to the one before it.
      query(
        5,
        Buffer.concat(
          Array.from({ length: 8000 }, (_, i) => {
            const to = 12 + 2 * Math.max(0, i - 1);
            return Buffer.from([0xc0 | ((to >> 8) & 0x3f), to & 255]);
          }),
        ),
      ),
      ...Array.from({ length: 128 }, (_, i) =>
        query(100 + i, Buffer.concat([Buffer.from([64 + i]), Buffer.alloc(300, 97)])),
      ),
      query(
        6,
        Buffer.concat([
          ...Array.from({ length: 5 }, () => Buffer.concat([Buffer.from([63]), Buffer.alloc(63, 97)])),
          Buffer.from([0, 0, 1, 0, 1]),
        ]),
      ),
      query(7, Buffer.alloc(200, 1)),
      message(8, 0x0100, [0, 0, 0, 0], QUESTION),
      message(9, 0x0100, [2, 0, 0, 0], Buffer.concat([QUESTION, QUESTION])),
      message(10, 0x0100, [65535, 65535, 65535, 65535], Buffer.alloc(0)),
      query(11, QUESTION.subarray(0, 8)),
      query(12, Buffer.alloc(4200, 1)),
    ];
    for (const q of bad) {
      if (q.length > 1400) {
        const body = udpDatagram({ dst: DNS4, srcPort: 3333, dstPort: 53 }, q);
        const parts = Array.from({ length: Math.ceil(body.length / 1400) }, (_, i) => 1400 * i);
        lab.inject(
          ...parts.map((at) =>
            frame(
              ipv4(
                { dst: DNS4, id: 5, offset: at, mf: at + 1400 < body.length, protocol: UDP },
                body.subarray(at, at + 1400),
              ),
            ),
          ),
        );
        continue;
      }
      for (const code of rcodes(ask(lab, q))) assert.equal(code, 1, `FORMERR for ${q.toString('hex')}`);
    }
    for (let n = 0; n < 12; n++)
      lab.expectDrop(
        'dns.malformed',
        `${n} bytes`,
        frame(udp({ dst: DNS4, dstPort: 53 }, query(1).subarray(0, n))),
      );
    assert.equal(lab.kernel.reached.length, 0, 'nothing was asked');
    // A record list that lies is the resolver's to read: bytes pass.
    ask(lab, message(77, 0x0100, [1, 65535, 65535, 1], QUESTION));
    assert.equal(lab.kernel.datagrams.length, 1);
    lab.check();
  });

  test('D-02, RQ-83 (RFC 5452 §9.1): answers, other opcodes; an answer counts only with its id, its question and from the resolver', () => {
    const lab = new Lab();
    lab.expectDrop(
      'dns.response',
      'QR=1',
      frame(udp({ dst: DNS4, dstPort: 53 }, message(1, 0x8180, [1, 0, 0, 0], QUESTION))),
    );
    for (const opcode of [1, 2, 4, 5, 15])
      assert.deepEqual(rcodes(ask(lab, message(opcode, opcode << 11, [1, 0, 0, 0], QUESTION))), [4]);
    assert.equal(lab.kernel.datagrams.length, 0);
    ask(lab, query(0x1234));
    const [asked] = lab.kernel.datagrams as [Datagram];
    const id = asked.payload.readUInt16BE(0);
    for (let i = 0; i < 100_000; i++) {
      const guess = Buffer.concat([asked.payload.subarray(0, 12), QUESTION]);
      guess.writeUInt16BE((id + 1 + (i % 65_535)) & 0xffff);
      guess[2] = 0x81;
      asked.file.deliver(asked, guess);
      if (i % 100 === 0) lab.run();
    }
    lab.run();
    assert.deepEqual(lab.take(), []);
    // From another address or port the kernel does not let it in: the socket is connected.
    asked.file.deliver({ address: '203.0.113.53', port: 54 }, asked.payload);
    asked.file.deliver({ address: '203.0.113.54', port: 53 }, asked.payload);
    const wrong = Buffer.from(QUESTION);
    wrong[1] = 0x78;
    assert.deepEqual(
      answer(lab, asked, (a) => Buffer.concat([a.subarray(0, 12), wrong])),
      [],
    );
    const [reply] = answer(lab, asked);
    assert.equal(reply?.payload.readUInt16BE(0), 0x1234);
    lab.advance(11_000);
    assert.equal(lab.services.descriptors.used, 0);
    lab.check();
  });

  test('D-02, RQ-83 (RFC 5452 §9): ids are fresh for each query, source sockets random and soon used up', () => {
    const lab = new Lab();
    for (let i = 0; i < 2000; i++) ask(lab, query(7), 3000 + i);
    const sent = lab.kernel.datagrams;
    const ids = sent.map((d) => d.payload.readUInt16BE(0));
    assert.ok(new Set(ids).size > 1900);
    const perSocket = new Map<number, number>();
    for (const d of sent) perSocket.set(d.file.fd, (perSocket.get(d.file.fd) ?? 0) + 1);
    assert.ok(Math.max(...perSocket.values()) <= 128);
    let changes = 0;
    for (let i = 1; i < sent.length; i++) if (sent[i]?.file !== sent[i - 1]?.file) changes++;
    assert.ok(changes > 1600, `${changes} of 2000 went by another socket than the one before`);
    let rising = 0;
    for (let i = 1; i < ids.length; i++) if ((ids[i] as number) > (ids[i - 1] as number)) rising++;
    assert.ok(rising > 900 && rising < 1100, `${rising} of 2000 rise`);
    lab.advance(5000);
    lab.check();
  });

  test('D-03, RQ-84 (RFC 7766, RFC 2181 §9): answers larger than the guest takes have TC set and no records; larger with EDNS', () => {
    const lab = new Lab();
    for (const [size, edns] of [
      [512, 0],
      [513, 0],
      [1232, 1232],
      [1233, 1232],
      [4096, 4096],
      [65_000, 65_535],
    ] as const) {
      const opt = Buffer.from([0, 0, 41, edns >> 8, edns & 255, 0, 0, 0, 0, 0, 0]);
      const q =
        edns === 0 ? query(size) : message(size, 0x0100, [1, 0, 0, 1], Buffer.concat([QUESTION, opt]));
      ask(lab, q, 4000);
      const asked = lab.kernel.datagrams.at(-1) as Datagram;
      const out = answer(lab, asked, (a) => {
        a.writeUInt16BE(9, 6);
        return Buffer.concat([a, pattern(size - a.length)]);
      });
      const reply = out.length === 1 ? (out[0] as Decoded) : reassemble(out);
      const fits = size <= Math.max(512, edns);
      assert.equal(((reply.payload[2] as number) & 2) !== 0, !fits, `TC of ${size}`);
      assert.equal(reply.payload.readUInt16BE(6), fits ? 9 : 0);
      assert.equal(reply.payload.length, fits ? size : 12 + QUESTION.length);
    }
    lab.check({ heapMiB: 8 });
  });

  const framed = (m: Buffer): Buffer => Buffer.concat([Buffer.from([m.length >> 8, m.length & 255]), m]);
  const answerTo = (q: Buffer, rcode = 0, mark = 0): Buffer => {
    const a = Buffer.concat([q, Buffer.from([mark])]);
    a.writeUInt16BE(0x8180 | rcode, 2);
    return a;
  };
  /** The connection of the program to a resolver. */
  const upstream = (lab: Lab, address: string): StreamFile => {
    const file = lab.kernel.streams.find(
      (s) => s.remote.address === address && s.remote.port === 53 && !s.closed,
    );
    assert.ok(file, `a connection to ${address}`);
    return file;
  };
  const received = (lab: Lab, peer: Peer): Buffer => {
    lab.run();
    peer.absorb(lab.take());
    const { data } = peer;
    peer.received.length = 0;
    return data;
  };

  test('D-03, review O-3: over TCP a message is a query, in any pieces, many at once; answers in any order', () => {
    const lab = new Lab();
    const peer = lab.connect(DNS4, 53);
    assert.equal(lab.kernel.streams.length, 0, 'nobody is asked before there is a question');
    for (const byte of framed(query(5))) peer.sendData(Buffer.from([byte]));
    const server = upstream(lab, '203.0.113.53');
    assert.ok(server.received.equals(framed(query(5))));
    server.send(framed(answerTo(query(5))));
    assert.ok(received(lab, peer).equals(framed(answerTo(query(5)))));
    peer.sendData(Buffer.concat([framed(query(6)), framed(query(7)), framed(query(8))]));
    assert.ok(
      server.received
        .subarray(2 + query(5).length)
        .equals(Buffer.concat([6, 7, 8].map((id) => framed(query(id))))),
    );
    const late = [8, 6].map((id) => framed(answerTo(query(id))));
    server.send(Buffer.concat(late).subarray(0, 9));
    lab.run();
    server.send(Buffer.concat(late).subarray(9));
    assert.ok(received(lab, peer).equals(Buffer.concat(late)));
    // What nobody asked, and what answers another question, is not passed on.
    server.send(Buffer.concat([framed(answerTo(query(99))), framed(query(7)), framed(Buffer.alloc(3))]));
    assert.equal(received(lab, peer).length, 0);
    const long = answerTo(query(7));
    server.send(framed(Buffer.concat([long, pattern(65_535 - long.length)])));
    assert.equal(received(lab, peer).length, 65_537);
    lab.advance(9000);
    assert.equal(peer.finReceived, false);
    peer.absorb(lab.advance(2000));
    assert.ok(peer.finReceived, 'an idle connection is ended');
    peer.fin();
    assert.equal(lab.services.descriptors.used, 0);
    lab.check();
  });

  test('D-03, review O-3: over TCP: no message, no question, no end', () => {
    const lab = new Lab();
    for (const junk of [Buffer.from([0, 0]), Buffer.from([0, 3, 1, 2, 3])]) {
      const peer = lab.connect(DNS4, 53);
      peer.sendData(junk);
      received(lab, peer);
      assert.ok(peer.finReceived || peer.resetReceived);
      peer.reset();
    }
    const peer = lab.connect(DNS4, 53);
    peer.sendData(framed(message(1, 0x8180, [1, 0, 0, 0], QUESTION)));
    assert.equal(received(lab, peer).length, 0, 'no answer to an answer');
    peer.sendData(framed(message(2, 5 << 11, [1, 0, 0, 0], QUESTION)));
    assert.equal((received(lab, peer)[5] as number) & 15, 4);
    peer.sendData(framed(message(3, 0x0100, [2, 0, 0, 0], QUESTION)));
    assert.equal((received(lab, peer)[5] as number) & 15, 1);
    peer.sendData(Buffer.from([255, 255, 1, 2]));
    lab.advance(15_000);
    assert.equal(lab.kernel.reached.length, 0, 'nothing was asked');
    assert.equal(lab.services.descriptors.used, 1, 'our end is closed');
    peer.reset();
    lab.check();
  });

  test('review O-3: over TCP a resolver that refuses, says no, is silent or hangs up gives way to the next', () => {
    for (const how of ['refuses', 'says REFUSED', 'is silent', 'hangs up']) {
      const lab = new Lab({ resolvers: ['203.0.113.53', '203.0.113.54'] });
      lab.mayReach = () => true;
      const onConnect = lab.kernel.onConnect;
      lab.kernel.onConnect = (to, file) =>
        to.port !== 53
          ? onConnect(to, file)
          : how === 'refuses' && to.address.endsWith('53')
            ? 111
            : 'accept';
      const peer = lab.connect(DNS4, 53);
      peer.sendData(framed(query(5)));
      if (how === 'says REFUSED') upstream(lab, '203.0.113.53').send(framed(answerTo(query(5), 5)));
      if (how === 'hangs up') upstream(lab, '203.0.113.53').end();
      if (how === 'is silent') lab.advance(1500);
      lab.run();
      const second = upstream(lab, '203.0.113.54');
      assert.ok(second.received.equals(framed(query(5))), how);
      second.send(framed(answerTo(query(5), 0, 7)));
      assert.ok(received(lab, peer).equals(framed(answerTo(query(5), 0, 7))), how);
      peer.fin();
      received(lab, peer);
      assert.equal(lab.services.descriptors.used, 0, how);
      lab.check();
    }
  });

  test('review O-3: over TCP all resolvers silent: SERVFAIL; all say no: what they say; ended in between: asked again', () => {
    const lab = new Lab();
    const peer = lab.connect(DNS4, 53);
    peer.sendData(framed(query(5)));
    peer.absorb(lab.advance(4600));
    assert.equal((received(lab, peer)[5] as number) & 15, 2);
    peer.sendData(framed(query(6)));
    upstream(lab, '203.0.113.53').send(framed(answerTo(query(6), 5, 9)));
    assert.ok(received(lab, peer).equals(framed(answerTo(query(6), 5, 9))));
    // It has served, and ends: no reason not to ask it again.
    const old = upstream(lab, '203.0.113.53');
    peer.sendData(framed(query(7)));
    old.end();
    lab.run();
    const fresh = upstream(lab, '203.0.113.53');
    assert.notEqual(fresh, old);
    fresh.send(framed(answerTo(query(7))));
    assert.ok(received(lab, peer).equals(framed(answerTo(query(7)))));
    // The guest has no more to ask and still gets its answer.
    peer.sendData(framed(query(8)));
    peer.fin();
    fresh.send(framed(answerTo(query(8))));
    assert.ok(received(lab, peer).equals(framed(answerTo(query(8)))));
    assert.ok(peer.finReceived);
    assert.equal(lab.services.descriptors.used, 0);
    lab.check();
  });

  test('review OP-3: use-vc: what the guest asks by UDP goes by TCP', () => {
    const lab = new Lab();
    const options = { timeoutMs: 5000, attempts: 2, rotate: false, useTcp: true };
    lab.services.resolvers.set(['203.0.113.53', '203.0.113.54'], options);
    lab.mayReach = () => true;
    ask(lab, query(0x5555), 4000);
    ask(lab, query(0x5555), 4001);
    assert.equal(lab.kernel.datagrams.length, 0);
    const server = upstream(lab, '203.0.113.53');
    const asked = server.received;
    const size = 2 + query(0).length;
    assert.equal(asked.length, 2 * size);
    const [first, second] = [asked.subarray(2, size), asked.subarray(2 + size)] as [Buffer, Buffer];
    assert.ok(first.subarray(2).equals(query(0).subarray(2)));
    server.send(framed(answerTo(second, 0, 2)));
    lab.run();
    const [reply] = lab.take();
    assert.equal(reply?.dstPort, 4001);
    assert.ok(reply?.payload.equals(answerTo(query(0x5555), 0, 2)));
    // Refused by the first: the second; larger than the guest takes: TC.
    server.send(framed(answerTo(first, 5)));
    lab.run();
    upstream(lab, '203.0.113.54').send(framed(Buffer.concat([answerTo(first), pattern(600)])));
    lab.run();
    const [cut] = lab.take();
    assert.equal(cut?.dstPort, 4000);
    assert.equal((cut?.payload[2] as number) & 2, 2);
    ask(lab, query(1), 4002);
    assert.deepEqual(rcodes(lab.advance(4600)), [2]);
    assert.equal(lab.gauge('dns.outstanding'), 0);
    lab.services.resolvers.set([]);
    assert.deepEqual(rcodes(ask(lab, query(1), 4003)), [2]);
    lab.services.resolvers.set(['203.0.113.53']);
    lab.check();
  });

  test('review O-3: over TCP a zone transfer comes in many messages', () => {
    const lab = new Lab();
    const peer = lab.connect(DNS4, 53);
    const axfr = Buffer.from(query(5));
    axfr.writeUInt16BE(252, axfr.length - 4);
    peer.sendData(framed(axfr));
    const parts = [0, 1, 2].map((mark) => framed(answerTo(axfr, 0, mark)));
    upstream(lab, '203.0.113.53').send(Buffer.concat(parts));
    assert.ok(received(lab, peer).equals(Buffer.concat(parts)));
    peer.reset();
    assert.equal(lab.services.descriptors.used, 0);
    lab.check();
  });

  test('review O-3: over TCP a guest that asks and does not read is not read from, and a crowd gives way by age', () => {
    const lab = new Lab();
    const peer = lab.connect(DNS4, 53);
    for (let id = 0; id < 200; id++) peer.sendData(framed(query(id)));
    const server = upstream(lab, '203.0.113.53');
    assert.equal(server.writtenBytes, 128 * framed(query(0)).length, 'as many as may be outstanding');
    for (let id = 0; id < 128; id++) server.send(framed(answerTo(query(id))));
    lab.run();
    assert.equal(server.writtenBytes, 200 * framed(query(0)).length, 'then the others');
    received(lab, peer);
    for (let i = 0; i < 300; i++) lab.connect(DNS4, 53);
    assert.equal(lab.services.descriptors.used, 301 + 256, 'of the others our end is closed');
    lab.advance(20_000);
    lab.check({ heapMiB: 32 });
  });

  test('D-04: no resolver, silent ones, and a new one while a query is in flight', () => {
    const lab = new Lab({ resolvers: [] });
    assert.deepEqual(rcodes(ask(lab, query(1))), [2]);
    const [refused] = lab.send(tcp({ dst: DNS4, dstPort: 53 }));
    assert.equal(refused?.flags, RST | ACK);
    lab.services.resolvers.set(['203.0.113.53', '203.0.113.54', 'fe80::1%3', '2001:db8:53::1']);
    lab.mayReach = () => true;
    ask(lab, query(2));
    const late = lab.advance(4600);
    assert.deepEqual(rcodes(late), [2], 'SERVFAIL within 5 s');
    assert.deepEqual(
      lab.kernel.datagrams.map((d) => d.address),
      ['203.0.113.53', '203.0.113.54', 'fe80::1'],
    );
    lab.kernel.datagrams.length = 0;
    ask(lab, query(3));
    lab.services.resolvers.set(['198.51.100.53']);
    lab.advance(1600);
    const fresh = lab.kernel.datagrams.at(-1) as Datagram;
    assert.equal(fresh.address, '198.51.100.53');
    assert.deepEqual(rcodes(answer(lab, fresh)), [0]);
    assert.equal(lab.gauge('dns.outstanding'), 0);
    lab.check();
  });
});

describe('hazards D: DHCP', () => {
  const discover = (change: (b: Buffer) => Buffer = (b) => b): Buffer => {
    const b = Buffer.alloc(300);
    b.set([1, 1, 6, 0]);
    b.writeUInt32BE(0x1234, 4);
    macBytes(GUEST_MAC).copy(b, 28);
    b.writeUInt32BE(0x63825363, 236);
    b.set([53, 1, 1, 255], 240);
    return change(b);
  };
  const send = (body: Buffer): Buffer =>
    ethernet(
      0x0800,
      udp({ src: '0.0.0.0', dst: '255.255.255.255', srcPort: 68, dstPort: 67 }, body),
      GUEST_MAC,
      'ff:ff:ff:ff:ff:ff',
    );

  test('D-06: a good DISCOVER is answered; one cut at any length, or with a wrong checksum, is not', () => {
    const lab = new Lab();
    const out = lab.inject(send(discover()));
    assert.equal(out.length, 1);
    assert.equal(out[0]?.srcPort, 67);
    for (let n = 0; n < 241; n++)
      lab.expectDrop('dhcp.malformed', `${n} bytes`, send(discover().subarray(0, n)));
    const bad = udp(
      { src: '0.0.0.0', dst: '255.255.255.255', srcPort: 68, dstPort: 67, checksum: 0x1111 },
      discover(),
    );
    lab.expectDrop('udp.csum', 'checksum', ethernet(0x0800, bad, GUEST_MAC, 'ff:ff:ff:ff:ff:ff'));
    lab.check();
  });

  test('D-06: hardware lengths, options past the end, no END, nested relay options, every message type', () => {
    const lab = new Lab();
    const set = (at: number, ...bytes: number[]): Buffer =>
      discover((b) => {
        b.set(bytes, at);
        return b;
      });
    const odd = [
      set(2, 0),
      set(2, 7),
      set(2, 255),
      set(1, 6),
      set(0, 2),
      set(236, 0, 0, 0, 0),
      set(240, 53, 255, 1),
      set(296, 53, 200, 0, 0),
      discover((b) => Buffer.concat([b.subarray(0, 243), Buffer.alloc(57, 0)])),
      set(243, 82, 6, 1, 4, 82, 2, 1, 0, 255),
      set(240, 53, 0, 255),
    ];
    for (const body of odd) {
      const out = lab.inject(send(body));
      assert.ok(out.length <= 1);
    }
    for (let type = 0; type < 256; type++) {
      const out = lab.inject(send(set(240, 53, 1, type, 255)));
      if (![1, 3, 8].includes(type)) assert.deepEqual(out, [], `type ${type}`);
    }
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });

  test('D-06: no TFTP and no SMB service, at any of our addresses', () => {
    const lab = new Lab();
    const rrq = Buffer.concat([Buffer.from([0, 1]), Buffer.from('../../etc/passwd\0octet\0')]);
    for (const dst of [GATEWAY4, DNS4, GATEWAY6, DNS6]) {
      lab.advance(1000);
      const [unreachable] = lab.send(udp({ dst, dstPort: 69 }, rrq));
      assert.ok(unreachable?.icmpType === 3 || unreachable?.icmpType === 1);
      for (const dstPort of [139, 445])
        assert.equal(lab.send(tcp({ dst, srcPort: lab.port(), dstPort }))[0]?.flags, RST | ACK);
    }
    assert.deepEqual(lab.kernel.reached, []);
    lab.check();
  });
});
