/** What the link has to say about a packet. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { DatagramFile } from '../support/lab/fake-kernel.ts';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  arp,
  type Decoded,
  echo,
  frame,
  GATEWAY4,
  GATEWAY6,
  GUEST_MAC,
  GUEST4,
  GUEST6,
  type Ip,
  ipBytes,
  ipv6,
  isV6,
  macBytes,
  ndp,
  tcp,
  udp,
} from '../support/lab/packets.ts';

const THIEF_MAC = '52:54:00:99:99:99';

describe('Ingress', () => {
  test('review OR-7: a packet for one host in a frame for many goes nowhere (RFC 1122 §3.3.6)', () => {
    const lab = new Lab();
    for (const mac of ['ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', '33:33:00:00:00:01']) {
      const packets = [ALLOWED4, ALLOWED6, GATEWAY4, GATEWAY6].flatMap((dst) => [
        udp({ dst, dstPort: 7 }),
        tcp({ dst, dstPort: 7 }),
        echo(dst, 1, 1),
        // Nor is there an error about it.
        udp({ dst, dstPort: 7, ttl: 1 }),
      ]);
      // One that is answered with a parameter problem: an unknown next header.
      packets.push(ipv6({ src: GUEST6, dst: ALLOWED6, next: 0x8f }, Buffer.alloc(8)));
      const frames = packets.map((packet) => frame(packet, GUEST_MAC, mac));
      lab.expectDrop('link.mac', mac, ...frames);
    }
    // What is for many comes in frames for many: here, who has our address.
    const question = ndp(GUEST6, 'ff02::1:ff00:2', 135, 0, ipBytes(GATEWAY6));
    assert.equal(lab.inject(frame(question, GUEST_MAC, '33:33:ff:00:00:02')).length, 1);
    lab.check();
  });

  test('review OR-4: whatever else is said of its address, the guest has its answers from its next frame on', () => {
    const lab = new Lab();
    const slaac = 'fd00::5054:ff:fe12:3456';
    const from = (src: Ip): Decoded | undefined => {
      const [reply] = lab.send(udp({ src, dst: isV6(src) ? ALLOWED6 : ALLOWED4, dstPort: 7 }));
      return reply;
    };
    for (const src of [GUEST4, slaac]) {
      assert.equal(from(src)?.dstMac, GUEST_MAC, src);
      // Forged, in the name of the guest.
      if (isV6(src)) {
        const body = Buffer.concat([ipBytes(src), Buffer.from([2, 1]), macBytes(THIEF_MAC)]);
        lab.inject(frame(ndp(src, GATEWAY6, 136, 0x20000000, body), THIEF_MAC));
      } else {
        lab.inject(arp({ op: 2, senderMac: THIEF_MAC, senderIp: src, targetIp: src }, THIEF_MAC));
      }
      assert.equal(from(src)?.dstMac, GUEST_MAC, src);
    }
    // 300 stations announce themselves between two datagrams of the guest.
    for (let round = 0; round < 2; round++) {
      const claims = Array.from({ length: 300 }, (_, i) => {
        const mac = `52:54:01:00:0${i >> 8}:${(i & 255).toString(16).padStart(2, '0')}`;
        const src = `fd00::7:${(round * 300 + i + 1).toString(16)}`;
        return frame(ndp(src, GATEWAY6, 136, 0x20000000, ipBytes(src)), mac);
      });
      lab.inject(...claims);
      assert.equal(from(slaac)?.dstMac, GUEST_MAC, `round ${round}`);
      assert.equal(from(GUEST4)?.dstMac, GUEST_MAC, `round ${round}`);
    }
    lab.check();
  });

  test('review OR-4: an address in use outlasts newcomers, though nobody else speaks in between', () => {
    const lab = new Lab({ addresses: { prefix4: 16 } });
    const data = udp({ src: '10.0.77.77', srcPort: 4000, dstPort: 9 });
    lab.send(data);
    const { file } = lab.kernel.datagrams.at(-1) as { file: DatagramFile };
    const announce = (third: number): Buffer[] =>
      Array.from({ length: 200 }, (_, i) => {
        const senderIp = `10.0.${third}.${i}`;
        return arp({ op: 2, senderMac: THIEF_MAC, senderIp, targetIp: senderIp }, THIEF_MAC);
      });
    lab.inject(...announce(100));
    lab.send(data);
    lab.inject(...announce(101));
    file.deliver({ address: ALLOWED4, port: 9 }, Buffer.from('hello'));
    lab.run();
    assert.equal(lab.take()[0]?.dstMac, GUEST_MAC);
    lab.check();
  });
});
