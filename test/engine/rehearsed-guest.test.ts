import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { describe, test } from 'node:test';
import { rehearse } from '../../src/engine/rehearsed-guest.ts';
import { HalfSipHash } from '../../src/stack/half-sip-hash.ts';
import { SystemRandom } from '../../src/sys/random.ts';

function begin(): { steps: Generator<void, boolean>; said: string[] } {
  const rng = new SystemRandom();
  const said: string[] = [];
  const steps = rehearse({
    rng,
    hash: new HalfSipHash(rng.u32(), rng.u32()),
    log: (_level, message, fields) => said.push(`${message} ${JSON.stringify(fields)}`),
  });
  return { steps, said };
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** TCP sockets of this process that listen at the host's loopback: other tests have theirs. */
function listening(): number {
  const own = new Set(
    readdirSync('/proc/self/fd').map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    }),
  );
  const lines = readFileSync('/proc/self/net/tcp', 'utf8').split('\n');
  return lines.filter((line) => {
    const inode = line.trim().split(/\s+/)[9] ?? '';
    return / 0100007F:\w{4} 00000000:0000 0A /.test(line) && own.has(`socket:[${inode}]`);
  }).length;
}

describe('rehearsal', () => {
  test('review O-11: every exchange succeeds, and nothing is left', () => {
    const before = descriptors();
    const { steps, said } = begin();
    let count = 0;
    let end = steps.next();
    for (; end.done !== true; end = steps.next()) count++;
    assert.deepEqual(said, []);
    assert.equal(end.value, true);
    assert.ok(count > 60, `${count} steps`);
    assert.equal(descriptors(), before);
  });

  test('review O-11: ended early, at any point, nothing is left', () => {
    const before = descriptors();
    const listened = listening();
    for (let most = 0; most < 24; most++) {
      const { steps } = begin();
      for (let i = 0; i < most; i++) steps.next();
      assert.equal(listening(), listened, 'nobody can connect to it');
      steps.return(false);
      assert.equal(descriptors(), before, `${most} steps`);
    }
  });
});
