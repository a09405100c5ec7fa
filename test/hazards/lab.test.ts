/** The lab itself: what the hazard tests rely on works, and the checks find what they are there to find. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab, MARKER } from '../support/lab/lab.ts';
import { ALLOWED4, ALLOWED6, ipBytes, ipText, pattern, udp } from '../support/lab/packets.ts';

describe('hazard lab', () => {
  test('the checks pass on a guest that does nothing, and TCP works in both families', () => {
    const lab = new Lab();
    for (const dst of [ALLOWED4, ALLOWED6]) {
      const peer = lab.connect(dst, 7);
      const data = pattern(100_000, 3);
      assert.ok(peer.sendData(data).equals(data));
      peer.close();
    }
    lab.check();
  });

  test('G-3 finds a call that names an address which the guest may not reach', () => {
    const lab = new Lab({ allow: ['udp://203.0.113.0/24'] });
    lab.send(udp({ dst: '203.0.113.9' }));
    assert.throws(() => lab.checkReach(), /G-3: send udp 203.0.113.9 9/);
  });

  test('G-6 finds memory of ours in what is sent', () => {
    const lab = new Lab();
    lab.device.fromProgram.push(Buffer.alloc(60, MARKER));
    assert.throws(() => lab.take(), /G-6/);
  });

  test('addresses are written as everybody does', () => {
    for (const text of [
      '10.0.2.100',
      '2001:db8:1::1',
      '::1',
      '::',
      'fd00::',
      'fe80::1:0:0:1',
      '1:2:3:4:5:6:7:8',
    ])
      assert.equal(ipText(ipBytes(text)), text);
    assert.equal(ipText(ipBytes('::ffff:127.0.0.1')), '::ffff:7f00:1');
  });
});
