/**
 * Requirements of RFCs that no hazard is about; docs/rfc.md says where the others are tested. Over the whole stack, on
 * the fake kernel of test/support/lab.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab } from '../support/lab/lab.ts';
import { ACK, ALLOWED4, ALLOWED6, echo, frame, isV6, PSH, pattern, udp } from '../support/lab/packets.ts';

const ICMP_ECHO_REPLY: readonly number[] = [0, 129];

for (const dst of [ALLOWED4, ALLOWED6]) {
  const family = isV6(dst) ? 'IPv6' : 'IPv4';
  describe(`requirements, ${family}`, () => {
    test('RQ-02 (RFC 9293 MUST-2, MUST-3): any bit turned over in a segment makes it count as tcp.csum and changes nothing', () => {
      const lab = new Lab();
      const peer = lab.connect(dst, 9);
      const header = isV6(dst) ? 40 : 20;
      const packet = peer.packet({ flags: ACK | PSH }, pattern(5));
      const before = peer.stream?.received.length;
      // Ports choose the flow, the data offset is checked before the sum.
      for (let bit = 32; bit < (packet.length - header) * 8; bit++) {
        if (bit >= 96 && bit < 104) continue;
        const damaged = Buffer.from(packet);
        const at = header + (bit >> 3);
        damaged.writeUInt8(damaged.readUInt8(at) ^ (1 << (bit & 7)), at);
        lab.expectDrop('tcp.csum', `bit ${bit}`, frame(damaged));
      }
      assert.equal(peer.stream?.received.length, before);
      assert.ok(peer.sendData(pattern(5)) !== undefined);
      lab.run();
      assert.equal(peer.stream?.received.length, (before ?? 0) + 5);
    });

    test('RQ-80 (RFC 4787 REQ-1, REQ-5, REQ-6): a mapping lives for two minutes, and outbound traffic keeps it', () => {
      const lab = new Lab();
      const ask = (): void => {
        lab.send(udp({ dst, srcPort: 5000, dstPort: 4000 }, pattern(3)));
      };
      ask();
      assert.equal(lab.gauge('udp.flows'), 1);
      lab.advance(121_000);
      assert.equal(lab.gauge('udp.flows'), 1);
      ask();
      lab.advance(121_000);
      assert.equal(lab.gauge('udp.flows'), 1);
      lab.advance(120_000);
      assert.equal(lab.gauge('udp.flows'), 0);
    });

    test('RQ-81 (RFC 5382 REQ-5): an idle connection is kept for two hours and four minutes', () => {
      const lab = new Lab();
      const peer = lab.connect(dst, 9);
      lab.advance(7_190_000);
      lab.take();
      // What keep-alive asks after two hours is answered.
      for (let minute = 0; minute < 5; minute++) {
        peer.absorb(lab.advance(60_000));
        lab.send(peer.packet({}));
      }
      assert.equal(lab.gauge('tcp.flows'), 1);
      assert.equal(peer.resetReceived, false);
      peer.sendData(pattern(10));
      lab.run();
      assert.equal(peer.stream?.received.length, 10);
    });

    test('RQ-82 (RFC 5508 REQ-2): an echo mapping lives for sixty seconds', () => {
      const lab = new Lab();
      const [reply] = lab.send(echo(dst, 77, 1, pattern(8)));
      assert.ok(reply !== undefined && ICMP_ECHO_REPLY.includes(reply.icmpType));
      lab.advance(59_000);
      assert.equal(lab.gauge('ping.flows'), 1);
      lab.advance(2_000);
      assert.equal(lab.gauge('ping.flows'), 0);
    });
  });
}
