/** What the link has to say about a packet. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { localForward } from '../../support/forward-specs.ts';
import type { DatagramFile, ListenFile } from '../../support/lab/fake-kernel.ts';
import { Lab } from '../../support/lab/lab.ts';
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
  pattern,
  SYN,
  tcp,
  udp,
} from '../../support/lab/packets.ts';

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

  test('review OR-8: a neighbour is where its advertisement says (RFC 4861 §7.2.5)', () => {
    const lab = new Lab();
    const target = 'fd00::77';
    const advertise = (flags: number, mac: string): void => {
      const body = Buffer.concat([ipBytes(target), Buffer.from([2, 1]), macBytes(mac)]);
      lab.inject(frame(ndp(GUEST6, GATEWAY6, 136, flags, body)));
    };
    lab.guest.flows.forwards.add(1, localForward({ target: { address: target, port: 80 } }));
    const synTo = (): string | undefined => {
      (lab.kernel.listeners[0] as ListenFile).arrive({ address: '2001:db8::5', port: 1 }, '');
      lab.run();
      return lab.take().find((d) => d.dst === target && d.flags === SYN)?.dstMac;
    };
    // On behalf of another station, and not a repeater's own address.
    advertise(0x60000000, THIEF_MAC);
    assert.equal(synTo(), THIEF_MAC);
    // Without override, what is known stays.
    advertise(0x40000000, '52:54:00:11:11:11');
    assert.equal(synTo(), THIEF_MAC);
    advertise(0x20000000, '52:54:00:11:11:11');
    assert.equal(synTo(), '52:54:00:11:11:11');
    // Nobody takes our own.
    const body = Buffer.concat([ipBytes(GATEWAY6), Buffer.from([2, 1]), macBytes(THIEF_MAC)]);
    lab.inject(frame(ndp(GUEST6, GATEWAY6, 136, 0x20000000, body)));
    lab.check();
  });

  test('review O-2: no router is advertised before the guest has an address to use it from', () => {
    const isAdvertisement = (d: Decoded): boolean => d.icmpType === 134;
    const silent = new Lab();
    assert.ok(!silent.advance(600_000).some(isAdvertisement), 'to a silent guest');
    const group = 'ff02::1:ff12:3456';
    const own = 'fe80::5054:ff:fe12:3456';
    const probe = ndp('::', group, 135, 0, ipBytes(own));
    const probing = new Lab();
    assert.ok(!probing.inject(frame(probe, GUEST_MAC, '33:33:ff:12:34:56')).some(isAdvertisement));
    assert.ok(!probing.advance(1000).some(isAdvertisement), 'while it probes');
    assert.ok(probing.advance(1000).some(isAdvertisement), 'afterwards');
    const speaking = new Lab();
    const question = ndp(own, 'ff02::1:ff00:2', 135, 0, ipBytes('fe80::2'));
    const told = speaking.inject(frame(question, GUEST_MAC, '33:33:ff:00:00:02'));
    assert.ok([...told, ...speaking.advance(1)].some(isAdvertisement), 'once it has');
    for (const lab of [silent, probing, speaking]) assert.deepEqual(lab.errors, []);
  });

  test('review O-2: who connects from a link-local address hears at once that it leads nowhere (RFC 4007 §9)', () => {
    const lab = new Lab();
    const src = 'fe80::5054:ff:fe12:3456';
    const syn = frame(tcp({ src, dst: ALLOWED6, dstPort: 7, flags: SYN }));
    const [answer, ...more] = lab.inject(syn);
    assert.deepEqual(
      [answer?.dst, answer?.dstMac, answer?.icmpType, answer?.icmpCode],
      [src, GUEST_MAC, 1, 2],
    );
    assert.deepEqual(more, []);
    // Errors and groups are not answered (RFC 4443 §2.4 e).
    lab.expectDrop('ip6.scope', 'an error', frame(ndp(src, ALLOWED6, 1, 0, Buffer.alloc(40))));
    assert.deepEqual(lab.inject(frame(udp({ src, dst: 'ff02::fb', dstPort: 5353 }))), []);
    // With us it can talk.
    assert.equal(lab.inject(frame(tcp({ src, dst: GATEWAY6, dstPort: 7, flags: SYN }))).length, 1);
    lab.check();
  });

  test('review OR-11: a datagram that the device left whole (UFO) is one, not many', () => {
    const lab = new Lab({ device: { vnetHeader: true, checksumOffload: true } });
    const data = pattern(4000);
    const header = Buffer.from([0, 3, 0, 0, 0, 0, 0, 0, 0, 0]);
    header.writeUInt16LE(1480, 4);
    lab.inject(Buffer.concat([header, frame(udp({ dstPort: 9 }, data))]));
    assert.deepEqual(
      lab.kernel.datagrams.map((d) => d.payload.length),
      [4000],
    );
    assert.ok(lab.kernel.datagrams[0]?.payload.equals(data));
  });
});
