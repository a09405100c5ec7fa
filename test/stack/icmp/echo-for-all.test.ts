/** Echo requests to every address, answered by the stack itself (`GuestBehavior.echo: 'local'`). */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { profiles } from '../../../src/profiles.ts';
import { Lab } from '../../support/lab/lab.ts';
import { echo, pattern } from '../../support/lab/packets.ts';

function lab(): Lab {
  return new Lab({ guest: { behavior: { ...profiles.tslirp, echo: 'local' } } });
}

describe("echo: 'local'", () => {
  test('any address answers with what was sent, TTL 64, whatever the policy says, and no socket is opened', () => {
    const l = lab();
    for (const dst of ['10.0.2.2', '10.0.2.11', '1.1.1.1', 'fd00::2', '2001:2::2', 'fd00::77']) {
      const data = pattern(1000, 5);
      const [reply] = l.send(echo(dst, 77, 3, data));
      assert.equal(reply?.src, dst);
      assert.equal(reply?.icmpType, dst.includes(':') ? 129 : 0);
      assert.ok(reply?.payload.equals(data));
      assert.equal(reply?.ttl, 64);
    }
    assert.deepEqual(l.kernel.reached, []);
    l.check();
  });

  test('at most 50 at once and 1000 a second; groups never', () => {
    const l = lab();
    const flood = (n: number): number =>
      l.send(...Array.from({ length: n }, (_, i) => echo('1.1.1.1', 1, i, Buffer.alloc(8)))).length;
    assert.equal(flood(60), 50);
    l.advance(20);
    assert.equal(flood(60), 20);
    l.advance(10_000);
    assert.equal(flood(60), 50);
    assert.equal(l.counter('drop.icmp.limit'), 60);
    l.advance(1000);
    assert.equal(l.send(echo('224.0.0.1', 1, 1, Buffer.alloc(8))).length, 0);
    l.check();
  });
});
