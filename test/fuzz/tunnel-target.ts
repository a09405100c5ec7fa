/**
 * A plain tunnel with two peers, and two who send to it what they like, on real sockets of the loopback interface.
 *
 * Invariants: nothing in a datagram throws; a guest gets packets that somebody has sent, whole, from its own inner addresses, and
 * from nobody else while whoever speaks for it is heard; every datagram is taken or counted, once.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { packet6, TunnelBench } from '../device/support/tunnel-bench.ts';
import { setSystem } from '../support/lab/libc-switch.ts';
import { packet } from '../wireguard/support/ends.ts';
import { type Change, changes, mutate, type Target } from './target.ts';

type Action =
  | { do: 'send'; by: number; from: number; to: number; isV6: boolean; size: number; changes: Change[] }
  | { do: 'raw'; by: number; bytes: Uint8Array }
  | { do: 'answer'; which: number; to: number }
  | { do: 'wait'; ms: number };

const FOUR = ['10.1.3.1', '10.1.4.9', '10.1.5.1', '0.0.0.0'];
const SIX = ['fd01:3::1', 'fd01:4::1', '::', 'ff02::1'];
const PREFIXES = [
  ['10.1.3.1/32', 'fd01:3::/64'],
  ['10.1.4.0/24', 'fd01:4::/64'],
];
const some = fc.nat(3);

const action: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      ...{ do: fc.constant('send' as const), by: fc.nat(1), from: some, to: some, isV6: fc.boolean() },
      ...{ size: fc.oneof(fc.nat(64), fc.nat(4000)), changes },
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      ...{ do: fc.constant('raw' as const), by: fc.nat(1), bytes: fc.uint8Array({ maxLength: 60 }) },
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('answer' as const), which: fc.nat(1), to: some }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.constantFrom(1, 25_000, 59_999, 60_000),
    }),
  },
);

/** Bytes of the longest datagram. */
const LONGEST = 60_000;
/** Of what was counted, that a datagram was not taken for. */
const REASONS = [
  'short',
  'bad_version',
  'bad_length',
  'not_allowed',
  'other_sender',
  'to_itself',
  'keepalives',
];

export const tunnelTarget: Target<Action[]> = {
  name: 'tunnel',
  arbitrary: fc.array(action, { minLength: 1, maxLength: 30 }),
  run(actions) {
    // Sockets are real here.
    setSystem(null);
    const b = new TunnelBench();
    try {
      const guests = PREFIXES.map((prefixes) => b.guest(prefixes, { keepaliveSeconds: 25 }));
      const senders = [b.sender(), b.sender()];
      const sent = new Set<string>();
      let count = 0;
      for (const step of actions) {
        if (step.do === 'wait') b.pass(step.ms);
        else if (step.do === 'answer') {
          guests[step.which]!.transmit(packet('10.1.1.2', FOUR[step.to]!, 40));
          b.settle();
        } else {
          const made =
            step.do === 'raw'
              ? Buffer.from(step.bytes)
              : step.isV6
                ? packet6(SIX[step.from]!, SIX[step.to]!, step.size)
                : packet(FOUR[step.from]!, FOUR[step.to]!, step.size);
          const bytes = (step.do === 'raw' ? made : mutate(made, step.changes)).subarray(0, LONGEST);
          sent.add(bytes.toString('latin1'));
          count++;
          senders[step.by]!.send(bytes);
        }
      }
      for (const [which, { received }] of guests.entries())
        for (const bytes of received) {
          assert.ok(sent.has(bytes.toString('latin1')), 'a packet that nobody sent');
          const isV4 = bytes[0]! >> 4 === 4;
          const source = bytes.subarray(isV4 ? 12 : 8);
          const third = isV4 ? source[2] : source[3];
          assert.equal(third, 3 + which, "an address that is another's");
          assert.equal(bytes.length, isV4 ? bytes.readUInt16BE(2) : bytes.readUInt16BE(4) + 40);
        }
      const taken = guests.reduce((sum, { received }) => sum + received.length, 0);
      const counts = b.counts;
      const left = REASONS.reduce((sum, reason) => sum + (counts[reason] ?? 0), 0);
      assert.equal(taken + left, count, JSON.stringify(counts));
    } finally {
      b.end();
    }
  },
};
