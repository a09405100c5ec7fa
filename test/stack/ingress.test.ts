/** What the link has to say about a packet. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  echo,
  frame,
  GATEWAY4,
  GATEWAY6,
  GUEST_MAC,
  GUEST6,
  ipBytes,
  ipv6,
  ndp,
  tcp,
  udp,
} from '../support/lab/packets.ts';

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
});
