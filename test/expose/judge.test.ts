import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AutoForwardSpec } from '../../src/config.ts';
import { defaultEphemeral, type JudgeOptions, judge } from '../../src/expose/judge.ts';
import type { OpenSocket } from '../../src/expose/open-socket.ts';

const spec: AutoForwardSpec = {
  ...{ tcp: true, udp: true, only: [], except: [], loopback: true, intervalMs: 200 },
};
const options: JudgeOptions = { spec, reachesLoopback: false, ephemeral: defaultEphemeral, device: 7 };

function judged(socket: Partial<OpenSocket>, change: Partial<JudgeOptions> = {}): string {
  const whole: OpenSocket = {
    ...{ proto: 'tcp', family: 4, ip: '0.0.0.0', port: 80, v6only: false, device: 0, uid: 0, inode: 1 },
    ...socket,
  };
  const judgement = judge(whole, { ...options, ...change });
  return judgement.kind === 'skipped' ? judgement.reason : judgement.kind;
}

test('wildcards and addresses of the guest become forwards', () => {
  for (const ip of ['0.0.0.0', '::', '10.0.2.100', '192.168.0.1', 'fd00::100'])
    assert.equal(judged({ ip }), 'forward', ip);
  assert.equal(judged({ ip: '0.0.0.0', device: 7 }), 'forward');
});

test('what cannot be reached is skipped, with the reason', () => {
  assert.equal(judged({ ip: '127.0.0.1' }), 'loopback-only');
  assert.equal(judged({ ip: '127.9.9.9' }), 'loopback-only');
  assert.equal(judged({ ip: '::1' }), 'loopback-only');
  assert.equal(judged({ ip: '0.0.0.0', device: 1 }), 'loopback-only');
  assert.equal(judged({ ip: 'fe80::1' }), 'link-local');
  assert.equal(judged({ ip: '169.254.1.1' }), 'link-local');
  assert.equal(judged({ ip: '0.0.0.0', device: 8 }), 'other-device');
  assert.equal(judged({ ip: '0.0.0.0', device: 8 }, { device: 0 }), 'forward');
});

test('the loopback can be reached, by its addresses', () => {
  const reachesLoopback = true;
  assert.equal(judged({ ip: '127.0.0.1' }, { reachesLoopback }), 'forward');
  assert.equal(judged({ ip: '::1' }, { reachesLoopback }), 'forward');
  assert.equal(judged({ ip: '127.0.0.1', proto: 'udp' }, { reachesLoopback }), 'forward');
  assert.equal(judged({ ip: '0.0.0.0', device: 1 }, { reachesLoopback }), 'loopback-only');
});

test('UDP sockets of clients are not services', () => {
  for (const port of [32768, 45000, 60999, 68, 546, 5353])
    assert.equal(judged({ proto: 'udp', port }), 'ignored', String(port));
  for (const port of [32767, 61000, 67, 69, 53])
    assert.equal(judged({ proto: 'udp', port }), 'forward', String(port));
  const ephemeral = { first: 1024, last: 2000 };
  assert.equal(judged({ proto: 'udp', port: 1500 }, { ephemeral }), 'ignored');
  assert.equal(judged({ proto: 'udp', ip: '239.1.1.1', port: 1900 }), 'ignored');
  assert.equal(judged({ proto: 'tcp', port: 45000 }), 'forward');
});

test('what the options ask for', () => {
  const only = [{ first: 8000, last: 8100 }];
  const except = [{ first: 8010, last: 8010 }];
  const change = { spec: { ...spec, only, except } };
  for (const [port, expected] of [
    [7999, 'unwanted'],
    [8000, 'forward'],
    [8010, 'unwanted'],
    [8100, 'forward'],
    [8101, 'unwanted'],
  ] as const) {
    assert.equal(judged({ port }, change), expected, String(port));
  }
  assert.equal(judged({ proto: 'udp', port: 53 }, { spec: { ...spec, udp: false } }), 'unwanted');
  assert.equal(judged({ port: 53 }, { spec: { ...spec, tcp: false } }), 'unwanted');
  // Whoever does not want it is not told that it could not be had.
  assert.equal(judged({ ip: '127.0.0.1', port: 22 }, change), 'unwanted');
  assert.equal(judged({ port: 0 }), 'ignored');
});
