/**
 * Two ends of WireGuard that speak with each other over a network that loses, repeats, delays and changes what they send, and
 * puts in what it likes.
 *
 * Invariants: nothing in a datagram throws; what comes out is what the other end put in, once; what is answered is not
 * answered by more; an end keeps at most three sessions, and none when it is closed.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { type End, Ends, packet } from '../wireguard/support/ends.ts';
import { type Change, changes, mutate, type Target } from './target.ts';

type Action =
  | { do: 'send'; from: 'a' | 'b'; size: number }
  /** Deliver one of what was sent so far, as it was or changed. */
  | { do: 'deliver'; to: 'a' | 'b'; which: number; changes: Change[]; isElsewhere: boolean }
  | { do: 'carry' }
  | { do: 'raw'; to: 'a' | 'b'; type: number; length: number; fill: number }
  | { do: 'wait'; ms: number };

const side = fc.constantFrom<'a' | 'b'>('a', 'b');
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('send' as const), from: side, size: fc.nat(1400) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('deliver' as const),
      to: side,
      which: fc.nat(1000),
      changes,
      isElsewhere: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.constant({ do: 'carry' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('raw' as const),
      to: side,
      type: fc.nat(6),
      length: fc.oneof(fc.constantFrom(0, 1, 31, 32, 63, 64, 91, 92, 93, 147, 148, 149), fc.nat(2000)),
      fill: fc.nat(255),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.oneof(fc.constantFrom(0, 1, 20, 5000, 10_000, 120_000, 180_000, 540_000), fc.nat(30_000)),
    }),
  },
);

/** Of one end: initiation, response and keep-alive at most, however it came to it, beside what waited. */
const ANSWER_MAX = 3 * 148;

export const wireguardTarget: Target<Action[]> = {
  name: 'wireguard',
  arbitrary: fc.array(action, { minLength: 1, maxLength: 40 }),
  run(actions) {
    const ends = new Ends(new Uint8Array(32).fill(4));
    ends.peerA.setEndpoint(ends.a.address);
    const sent: Buffer[] = [];
    const seen: { bytes: Uint8Array; by: End }[] = [];
    let number = 0;
    const note = (): void => {
      for (const end of [ends.a, ends.b]) for (const { bytes } of end.outbox) seen.push({ bytes, by: end });
    };
    for (const step of actions) {
      const end = ends['to' in step ? step.to : 'from' in step ? step.from : 'a'];
      if (step.do === 'send') {
        const isA = end === ends.a;
        const bytes = isA
          ? packet('10.9.0.2', '10.9.0.1', step.size + 4)
          : packet('10.9.0.1', '10.9.0.2', step.size + 4);
        bytes.writeUInt32BE(number++, 20);
        sent.push(bytes);
        end.transmit(isA ? ends.peerB : ends.peerA, bytes);
        note();
      } else if (step.do === 'carry') {
        ends.carry();
      } else if (step.do === 'wait') {
        ends.runTo(ends.clock.nowMs - 1_000_000 + step.ms, note);
      } else {
        end.outbox = [];
        const waiting = sent.length;
        if (step.do === 'raw') {
          const bytes = Buffer.alloc(step.length, step.fill);
          if (bytes.length >= 4) bytes.writeUInt32LE(step.type);
          end.receive(bytes);
          assert.equal(end.outbox.length, 0, 'something forged was answered');
        } else if (seen.length > 0) {
          const { bytes, by } = seen[step.which % seen.length]!;
          end.receive(mutate(Buffer.from(bytes), step.changes), step.isElsewhere ? undefined : by.address);
          const answered = end.outbox.reduce((sum, out) => sum + out.bytes.length, 0);
          assert.ok(answered <= ANSWER_MAX + waiting * 1500, `${answered} bytes for ${bytes.length}`);
        }
        note();
      }
      for (const { ciphers } of [ends.a, ends.b]) assert.ok(ciphers.made - ciphers.wiped <= 6);
    }
    for (const { inbox } of [ends.a, ends.b]) {
      const numbers = new Set<number>();
      for (const { packet: bytes } of inbox) {
        const which = bytes.readUInt32BE(20);
        assert.ok(sent[which]?.equals(bytes), 'a packet that nobody sent');
        assert.ok(!numbers.has(which), 'a packet came twice');
        numbers.add(which);
      }
    }
    for (const end of [ends.a, ends.b]) {
      end.wireguard.close();
      assert.equal(end.ciphers.made, end.ciphers.wiped);
      assert.equal(end.timers.size, 0);
    }
  },
};
