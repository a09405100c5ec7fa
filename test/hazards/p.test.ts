/** Hazards P: the proxy between two connections (P-02 and P-03 are in t-life.test.ts, P-04 and P-06 with the forwards). */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import {
  EACCES,
  ECONNREFUSED,
  EHOSTUNREACH,
  EMFILE,
  ENETUNREACH,
  EPERM,
  ETIMEDOUT,
} from '../support/lab/fake-kernel.ts';
import { Lab } from '../support/lab/lab.ts';
import { ACK, ALLOWED4, ALLOWED6, isV6, pattern, RST, SYN, tcp } from '../support/lab/packets.ts';

const EADDRNOTAVAIL = 99;

describe('hazards P: proxy', () => {
  for (const dst of [ALLOWED4, ALLOWED6]) {
    const v6 = isV6(dst);
    test(`P-01 (${v6 ? 'IPv6' : 'IPv4'}): no SYN-ACK before the host's connect; its failure is told at once, as RST or ICMP`, () => {
      const outcomes: [number, number[] | null][] = [
        [ECONNREFUSED, null],
        [EADDRNOTAVAIL, null],
        [EHOSTUNREACH, v6 ? [1, 3] : [3, 1]],
        [ENETUNREACH, v6 ? [1, 0] : [3, 0]],
        [ETIMEDOUT, v6 ? [1, 3] : [3, 1]],
        [EACCES, v6 ? [1, 1] : [3, 13]],
        [EPERM, v6 ? [1, 1] : [3, 13]],
      ];
      for (const [errno, icmp] of outcomes) {
        for (const later of [true, false]) {
          const lab = new Lab();
          const { onConnect } = lab.kernel;
          lab.kernel.onConnect = () => (later ? 'pending' : -errno);
          const before = lab.now;
          let out = lab.send(tcp({ dst, srcPort: 5000 }));
          if (later) {
            assert.deepEqual(out, []);
            assert.deepEqual(lab.advance(3000), [], 'three seconds of nothing');
            lab.kernel.streams[0]?.fail(errno);
            lab.run();
            out = lab.take();
          }
          assert.equal(out.length, 1, `errno ${errno}`);
          if (icmp === null) assert.equal(out[0]?.flags, RST | ACK);
          else assert.deepEqual([out[0]?.icmpType, out[0]?.icmpCode], icmp);
          assert.equal(lab.now - before, later ? 3000 : 0, 'no time passed since the result');
          assert.equal(lab.services.descriptors.used, 0);
          assert.equal(lab.gauge('tcp.flows'), 0);
          lab.kernel.onConnect = onConnect;
          lab.check();
        }
      }
    });
  }

  test('P-01: success after three seconds; no descriptors; a guest that gives up first', () => {
    const lab = new Lab();
    const { onConnect } = lab.kernel;
    lab.kernel.onConnect = () => 'pending';
    lab.send(tcp({ srcPort: 5000 }));
    lab.advance(3000);
    lab.kernel.streams[0]?.accept();
    lab.run();
    assert.equal(lab.take()[0]?.flags, SYN | ACK);
    lab.kernel.fault = (name) => (name === 'socket' ? -EMFILE : undefined);
    assert.deepEqual(lab.send(tcp({ srcPort: 5001 })), [], 'it asks again');
    lab.kernel.fault = null;
    lab.send(tcp({ srcPort: 5002, seq: 1 }));
    lab.send(tcp({ srcPort: 5002, seq: 2, flags: RST }));
    assert.equal(lab.kernel.streams[1]?.closed, true, 'a cancelled dial closes its descriptor');
    assert.equal(lab.gauge('tcp.dialing'), 0);
    lab.kernel.onConnect = onConnect;
    lab.check();
  });

  test('P-05: conditions that stay true do not make the loop turn', () => {
    const lab = new Lab();
    const ended = lab.connect(ALLOWED4);
    ended.window = 0;
    ended.raw({ window: 0 });
    ended.stream?.send(pattern(500_000));
    ended.stream?.end();
    const half = lab.connect(ALLOWED4);
    half.stream?.setRoom(0);
    half.raw({}, pattern(1000));
    half.stream?.end();
    lab.run();
    lab.take();
    const waits = (): number => lab.kernel.calls.get('epoll_wait') as number;
    const before = waits();
    lab.advance(1000);
    assert.ok(waits() - before < 50, `${waits() - before} turns in an idle second`);
    assert.deepEqual(lab.errors, []);
  });

  test('P-07: payload that helpers of other stacks rewrite passes unchanged', () => {
    const cases: [number, Buffer][] = [
      [113, Buffer.from('6193, 23\r\n')],
      [113, pattern(65_536, 113)],
      [6667, Buffer.from(`PRIVMSG x :\x01DCC SEND ${'a'.repeat(900)} 167772772 4000 12345\x01\r\n`)],
      [21, Buffer.from('PORT 10,0,2,100,15,160\r\nEPRT |1|10.0.2.100|4000|\r\nEPRT |2|fd00::100|4000|\r\n')],
      [514, Buffer.concat([Buffer.from('1023\0root\0root\0id\0'), pattern(2000, 514)])],
      [7070, Buffer.concat([Buffer.from('PNA\0\x0a\0\x01\x02\x1b\x7e'), pattern(4000, 7070)])],
      [6668, pattern(70_000, 6668)],
      [544, pattern(70_000, 544)],
    ];
    const digest = (b: Buffer | undefined): string =>
      createHash('sha256')
        .update(b ?? '')
        .digest('hex');
    const lab = new Lab();
    for (const [port, data] of cases) {
      const sizes = port === 113 && data.length < 100 ? [1] : [1400, 1, 977];
      for (const size of sizes) {
        if (size === 1 && data.length > 5000) continue;
        const peer = lab.connect(ALLOWED4, port);
        peer.sendData(data, size);
        assert.equal(digest(peer.stream?.received), digest(data), `port ${port} in pieces of ${size}`);
        peer.stream?.send(data);
        lab.run();
        peer.absorb(lab.take());
        assert.equal(digest(peer.data), digest(data), `port ${port}, back`);
        peer.close();
      }
    }
    lab.check({ heapMiB: 8 });
  });
});
