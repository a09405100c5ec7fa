/**
 * Byte streams of links, in whatever pieces: the frames are those that a reader finds who has all of it at once, and the
 * link ends where such a reader must.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LENGTH_BYTES, MOST_FRAME, type StreamFraming } from '../../src/device/framing.ts';
import {
  connectGreeting,
  type GreetingSteps,
  postGreeting,
  vpnkitGreeting,
} from '../../src/device/greetings.ts';
import { StreamLink } from '../../src/device/stream-link.ts';
import { close } from '../../src/sys/io.ts';
import { SOCK_STREAM } from '../../src/sys/socket.ts';
import { Bench } from '../device/support/bench.ts';
import { setSystem } from '../support/lab/libc-switch.ts';
import { type Change, changes, mutate, type Target } from './target.ts';

interface StreamInput {
  framing: StreamFraming;
  sizes: number[];
  changes: Change[];
  cuts: number[];
}

function reading(bytes: Buffer, framing: StreamFraming): { frames: Buffer[]; reason: string } {
  const frames: Buffer[] = [];
  const prefix = LENGTH_BYTES[framing];
  let at = 0;
  while (bytes.length - at >= prefix) {
    const length = framing === 'be32' ? bytes.readUInt32BE(at) : bytes.readUInt16LE(at);
    if (length < 14 || length > MOST_FRAME) return { frames, reason: 'oversized' };
    if (bytes.length - at - prefix < length) break;
    frames.push(bytes.subarray(at + prefix, at + prefix + length));
    at += prefix + length;
  }
  return { frames, reason: at < bytes.length ? 'truncated' : 'closed' };
}

export const streamTarget: Target<StreamInput> = {
  name: 'stream',
  arbitrary: fc.record({
    framing: fc.constantFrom<StreamFraming>('be32', 'le16'),
    sizes: fc.array(fc.integer({ min: 14, max: 1600 }), { maxLength: 40 }),
    changes,
    cuts: fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 40 }),
  }),
  run: ({ framing, sizes, changes: list, cuts }) => {
    const stream = sizes.map((size, index) => {
      const bytes = Buffer.alloc(LENGTH_BYTES[framing] + size, index);
      if (framing === 'be32') bytes.writeUInt32BE(size);
      else bytes.writeUInt16LE(size);
      return bytes;
    });
    const bytes = mutate(Buffer.concat(stream), list);
    const expected = reading(bytes, framing);
    setSystem(null);
    const b = new Bench(SOCK_STREAM);
    const shape = { medium: 'ethernet', mtu: 1500, framing } as const;
    b.use(new StreamLink({ input: b.fd, output: b.fd }, shape, b.services));
    for (let at = 0, i = 0; at < bytes.length && b.gone === ''; i++) {
      const size = cuts[i % cuts.length] as number;
      b.put(bytes.subarray(at, at + size));
      b.turn();
      at += size;
    }
    close(b.peer);
    b.until(() => b.gone !== '', 'the end');
    assert.deepEqual(b.frames, expected.frames);
    assert.equal(b.reason, expected.reason);
    assert.equal(b.slab.pagesUsed, 0);
    b.closeLoop();
  },
};

interface GreetingInput {
  kind: 'vpnkit' | 'post' | 'connect';
  changes: Change[];
  text: string;
}

const good: Record<GreetingInput['kind'], () => Buffer> = {
  vpnkit: () => Buffer.concat([Buffer.from('VMN3T'), Buffer.alloc(44), Buffer.from([1]), Buffer.alloc(40)]),
  post: () => Buffer.from('POST /connect HTTP/1.1\r\nHost: a\r\n\r\n'),
  connect: () => Buffer.from('OK 1073741824\n'),
};

function stepsOf(kind: GreetingInput['kind']): GreetingSteps {
  if (kind === 'vpnkit') return vpnkitGreeting(1500);
  return kind === 'post' ? postGreeting() : connectGreeting(1024);
}

/** It ends, waits for more, or says in one line what is wrong; it takes no more than there is. */
export const greetingTarget: Target<GreetingInput> = {
  name: 'greeting',
  arbitrary: fc.record({
    kind: fc.constantFrom('vpnkit', 'post', 'connect'),
    changes,
    text: fc.string({ maxLength: 600 }),
  }),
  run: ({ kind, changes: list, text }) => {
    const input = Buffer.concat([mutate(good[kind](), list), Buffer.from(text)]);
    const steps = stepsOf(kind);
    let at = 0;
    let sent = 0;
    try {
      let step = steps.next(new Uint8Array(0));
      while (step.done !== true) {
        const { value } = step;
        if (typeof value === 'object' && 'send' in value) {
          sent += value.send.length;
          step = steps.next(new Uint8Array(0));
          continue;
        }
        const wanted = typeof value === 'number' ? value : value.peek;
        if (input.length - at < wanted) break;
        const bytes = new Uint8Array(input.subarray(at, at + wanted));
        if (typeof value === 'number') at += wanted;
        step = steps.next(bytes);
      }
    } catch (error) {
      assert.match((error as Error).message, /^its |^command /);
      assert.doesNotMatch((error as Error).message, /\n/);
    }
    assert.ok(sent <= 49 + 258);
  },
};
