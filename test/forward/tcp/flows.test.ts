/** What the guest can learn from the flows of many connections. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { Lab } from '../../support/lab/lab.ts';
import { ACK, ALLOWED4, GUEST4, SYN, TCP, tcp } from '../../support/lab/packets.ts';

describe('TcpFlows', () => {
  test('review OR-2: initial sequence numbers tell nothing about places in the flow table', () => {
    const lab = new Lab();
    const guest = parseIpAddress(GUEST4);
    const remote = parseIpAddress(ALLOWED4);
    const ports = Array.from({ length: 16 }, (_, i) => 40_000 + i);
    const out = lab.send(...ports.map((srcPort) => tcp({ srcPort, dstPort: 80, flags: SYN })));
    const answers = out.filter((d) => d.flags === (SYN | ACK));
    assert.equal(answers.length, ports.length);
    // All in one turn: whatever else is in the numbers is the same for all of them.
    const between = answers.map((d) => (d.seq - (answers[0]?.seq ?? 0)) >>> 0);
    const places = answers.map((d) =>
      lab.services.hash.tuple(guest, remote, ((d.dstPort << 16) | d.srcPort) >>> 0, TCP),
    );
    const same = places.filter((place, i) => (place - (places[0] as number)) >>> 0 === between[i]);
    assert.equal(same.length, 1, 'differences of sequence numbers are those of hashes');
    lab.check();
  });
});
