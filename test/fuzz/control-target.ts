/** What an embedder writes: the greeting, frames, JSON, requests. Whatever it is, it is read, or refused in one line. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { UnknownType } from '../../src/daemon/channel.ts';
import { encodeFrame, FRAME_MAX, FrameDecoder } from '../../src/daemon/frames.ts';
import { GreetingReader, greeting } from '../../src/daemon/handshake.ts';
import { ProtocolFault } from '../../src/daemon/protocol-fault.ts';
import { checkRequest } from '../../src/daemon/requests.ts';
import { parseStrict } from '../../src/daemon/strict-json.ts';
import { TslirpError } from '../../src/embed/errors.ts';
import { type Change, changes, mutate, type Target } from './target.ts';

interface Written {
  requests: object[];
  changes: Change[];
  /** Bytes that come at a time. */
  piece: number;
}

const value = fc.oneof(
  fc.constantFrom<unknown>(
    't1',
    't0',
    '',
    0,
    1,
    -1,
    7,
    1.5,
    65_536,
    true,
    null,
    'tcp:80:10.0.2.100:80',
    [],
    {},
  ),
  fc.jsonValue({ maxDepth: 3 }),
);
const config = fc.record(
  {
    link: fc.oneof(
      fc.record({ fd: value }),
      fc.record({ passed: value }),
      fc.record({ spec: value, medium: value, framing: value }),
      value,
    ),
    addresses: fc.oneof(value, fc.record({ guest: value, gateway: value, dns: value })),
    mtu: value,
    policy: fc.oneof(value, fc.record({ routing: value, host: value, allow: value, deny: value })),
    forwards: fc.oneof(value, fc.array(value)),
    autoForward: value,
    dns: value,
    capture: value,
    limits: value,
  },
  { requiredKeys: [] },
);
const type = fc.constantFrom(
  ...['start', 'stop', 'status', 'snapshot', 'flows', 'forward.add', 'forward.remove', 'policy.set', 'wake'],
  ...['settings.update', 'subscribe', 'dial', 'ping', 'toString', '__proto__'],
);
const fields = [
  'tunnel',
  'graceMs',
  'filter',
  'next',
  'forward',
  'policy',
  'revoke',
  'diff',
  'types',
  'host',
  'port',
];
const request = fc.record(
  { id: value, type, config, ...Object.fromEntries(fields.map((name) => [name, value])) },
  { requiredKeys: ['type'] },
);

/** What is refused is refused as that. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof ProtocolFault || error instanceof TslirpError || error instanceof UnknownType))
    return false;
  assert.match(error.message, /^[ -~]+$/, 'one line of what can be printed');
  return true;
}

export const controlTarget: Target<Written> = {
  name: 'control',
  arbitrary: fc.record({
    requests: fc.array(request, { minLength: 1, maxLength: 3 }),
    changes,
    piece: fc.integer({ min: 1, max: 400 }),
  }),
  run({ requests, changes: list, piece }) {
    const bytes = Buffer.concat([Buffer.from(greeting('embedder')), ...requests.map(encodeFrame)]);
    const written = mutate(bytes, list);
    const reader = new GreetingReader('embedder');
    const frames = new FrameDecoder();
    try {
      for (let at = 0; at < written.length; at += piece) {
        const chunk = written.subarray(at, at + piece);
        const rest = reader.versions === undefined ? reader.push(chunk) : chunk;
        if (rest === undefined) continue;
        frames.push(rest);
        for (let frame = frames.next(); frame !== undefined; frame = frames.next()) {
          assert.ok(frame.length <= FRAME_MAX);
          const { type: name, id: _, ...more } = parseStrict(frame);
          if (typeof name !== 'string') continue;
          try {
            checkRequest(name, more);
          } catch (error) {
            if (!isRefusal(error)) throw error;
          }
        }
      }
    } catch (error) {
      if (!isRefusal(error)) throw error;
    }
  },
};
