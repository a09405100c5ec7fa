/** What leaves in fragments, and what leaves for a MAC address instead of an IP address. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab } from '../../support/lab/lab.ts';
import {
  arp,
  type Decoded,
  ethernet,
  frame,
  GATEWAY4,
  GUEST_MAC,
  GUEST4,
  ipv4,
  macBytes,
  pattern,
  reassemble,
  UDP,
  udp,
} from '../../support/lab/packets.ts';

const MTUS = [68, 69, 75, 76, 84, 100, 296, 320, 500, 575, 576, 1500];
const OTHER_MAC = '52:54:00:77:77:77';

function labWithMtu(mtu: number): Lab {
  return new Lab({ device: { mtu }, addresses: { ipv6: false } });
}

/** What the guest gets for `frames`, put together again. */
function answer(lab: Lab, mtu: number, ...frames: Buffer[]): Decoded {
  const out = lab.inject(...frames);
  for (const d of out) assert.ok(d.raw.length - 14 <= mtu, `${d.raw.length - 14} bytes at MTU ${mtu}`);
  return out.length === 1 ? (out[0] as Decoded) : reassemble(out);
}

/** `packet` in parts for `mtu`. */
function cut(packet: Buffer, mtu: number): Buffer[] {
  const data = packet.subarray(20);
  const size = (mtu - 20) & ~7;
  const parts: Buffer[] = [];
  for (let at = 0; at < data.length; at += size) {
    const fields = { src: GUEST4, dst: GATEWAY4, protocol: UDP, id: 7, df: false };
    const mf = at + size < data.length;
    parts.push(frame(ipv4({ ...fields, offset: at, mf }, data.subarray(at, at + size))));
  }
  return parts;
}

function discover(mac: string): Buffer {
  const b = Buffer.alloc(300);
  b.set([1, 1, 6, 0]);
  b.writeUInt32BE(0x1234, 4);
  macBytes(mac).copy(b, 28);
  b.writeUInt32BE(0x63825363, 236);
  b.set([53, 1, 1, 255], 240);
  return b;
}

describe('Egress', () => {
  test('review OR-1: a DHCP reply is the same whatever the MTU cuts it to', () => {
    const request = udp({ dst: GATEWAY4, srcPort: 68, dstPort: 67 }, discover(GUEST_MAC));
    const replies = MTUS.map((mtu) => {
      const { payload } = answer(labWithMtu(mtu), mtu, ...cut(request, mtu));
      // The MTU that it tells of is the one thing that differs.
      return payload.toString('hex').replace(`1a02${mtu.toString(16).padStart(4, '0')}`, '1a02');
    });
    assert.equal(replies[0]?.slice(0, 16), '0201060000001234');
    for (const reply of replies) assert.equal(reply, replies.at(-1));
  });

  test('review OR-1: an ICMP error quotes what it is about whatever the MTU cuts it to', () => {
    for (const mtu of MTUS) {
      const lab = labWithMtu(mtu);
      const packet = udp({ dst: GATEWAY4, dstPort: 9 }, pattern(mtu - 28));
      const error = answer(lab, mtu, frame(packet));
      assert.equal(error.icmpType, 3, `MTU ${mtu}`);
      assert.ok(error.payload.length >= Math.min(packet.length, 548), `MTU ${mtu}`);
      assert.ok(error.payload.equals(packet.subarray(0, error.payload.length)), `MTU ${mtu}`);
      assert.deepEqual(lab.errors, []);
    }
  });

  test("review OR-5: a DHCP reply goes to the client's hardware address, whoever had its IP address before", () => {
    const lab = new Lab();
    // Another station has, or claims, what the client will be given.
    lab.inject(arp({ op: 2, senderMac: OTHER_MAC, senderIp: GUEST4, targetIp: GUEST4 }, OTHER_MAC));
    const packet = udp(
      { src: '0.0.0.0', dst: '255.255.255.255', srcPort: 68, dstPort: 67 },
      discover(GUEST_MAC),
    );
    const [offer] = lab.inject(ethernet(0x0800, packet, GUEST_MAC, 'ff:ff:ff:ff:ff:ff'));
    assert.equal(offer?.dst, GUEST4);
    assert.equal(offer?.dstMac, GUEST_MAC);
    // A client that asks for a broadcast gets one (RFC 2131 §4.1).
    const flagged = discover(GUEST_MAC);
    flagged.writeUInt16BE(0x8000, 10);
    const again = udp({ src: '0.0.0.0', dst: '255.255.255.255', srcPort: 68, dstPort: 67 }, flagged);
    const [toAll] = lab.inject(ethernet(0x0800, again, GUEST_MAC, 'ff:ff:ff:ff:ff:ff'));
    assert.equal(toAll?.dst, '255.255.255.255');
    assert.equal(toAll?.dstMac, 'ff:ff:ff:ff:ff:ff');
    // What is said to the address afterwards still goes where the address is.
    const [reply] = lab.inject(frame(udp({ dstPort: 7 }), OTHER_MAC));
    assert.equal(reply?.dstMac, OTHER_MAC);
    lab.check();
  });
});
