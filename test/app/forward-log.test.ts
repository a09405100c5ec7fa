import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { forwardLog } from '../../src/app/forward-log.ts';
import type { ForwardSpec } from '../../src/config.ts';
import type { Log } from '../../src/control/log.ts';
import { localForward, remoteForward } from '../support/forward-specs.ts';

const remote: ForwardSpec = remoteForward({
  bind: { address: 'fd00::2', port: 80 },
  target: { kind: 'name', label: 'www.example', port: 81 },
});
const local: ForwardSpec = localForward({
  protocol: 'udp',
  listen: { kind: 'ip', address: '127.0.0.1', port: 0 },
  target: { address: '10.0.2.100', port: 53 },
});

/** Log lines of opening all of them, local ones on port 4242. */
function lines(forwards: ForwardSpec[]): unknown[] {
  const out: unknown[] = [];
  const logger = {
    log: (level: string, message: string, fields: unknown) => out.push([level, message, fields]),
  } as unknown as Log;
  const opened = forwardLog(logger, forwards);
  forwards.forEach((spec, id) => {
    opened({ id, spec, listen: { kind: 'ip', address: '127.0.0.1', port: 4242 } });
  });
  return out;
}

describe('forwardLog', () => {
  test('says what is listened on, and where it leads', () => {
    assert.deepEqual(lines([remote, local]), [
      [
        'info',
        'remote forward open',
        { protocol: 'tcp', guestEnd: '[fd00::2]:80', hostEnd: 'www.example:81' },
      ],
      [
        'info',
        'local forward open',
        { protocol: 'udp', listen: '127.0.0.1:4242', guestEnd: '10.0.2.100:53' },
      ],
    ]);
  });

  test('many forwards are one line (R-04)', () => {
    assert.deepEqual(lines(Array.from({ length: 20000 }, () => local)), [
      ['info', 'forwards open', { forwards: 20000 }],
    ]);
  });
});
