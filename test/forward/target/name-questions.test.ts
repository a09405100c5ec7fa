import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { HostEnd } from '../../../src/config.ts';
import { HostNames } from '../../../src/forward/target/name-questions.ts';
import { TimerHeap } from '../../../src/timer-heap.ts';

const MOST = 1024;

function make() {
  const clock = { nowMs: 1000, turn: 0, bytesLeft: 1 << 20, sendLeft: 1 << 20, batchFrames: 64 };
  const timers = new TimerHeap();
  const asked: string[] = [];
  const names = new HostNames(
    (request, label, port, protocol) => asked.push(`${request} ${protocol} ${label} ${port}`),
    clock,
    timers,
    MOST,
  );
  const answers: string[] = [];
  const waiter = (name: string) => ({
    onResolved: (end: HostEnd | null, reason: string) => {
      answers.push(`${name} ${end?.kind === 'ip' ? `${end.address}:${end.port}` : '-'} ${reason}`);
    },
  });
  const advance = (ms: number) => {
    clock.nowMs += ms;
    timers.run(clock.nowMs, (error) => {
      throw error;
    });
  };
  return { names, asked, answers, waiter, advance };
}

test('answers find the one who asked, in any order; a second answer goes nowhere', () => {
  const { names, asked, answers, waiter } = make();
  const a = names.resolve('a.example', 80, 'tcp', waiter('a'));
  const b = names.resolve('b.example', 0, 'udp', waiter('b'));
  assert.deepEqual(asked, [`${a} tcp a.example 80`, `${b} udp b.example 0`]);
  names.answer(b, null, 'no such host');
  names.answer(a, { kind: 'ip', address: '192.0.2.1', port: 80 }, '');
  names.answer(a, null, 'again');
  names.answer(999, null, 'never asked');
  assert.deepEqual(answers, ['b - no such host', 'a 192.0.2.1:80 ']);
});

test('one who gave up is not called, and nobody waits for ever', () => {
  const { names, answers, waiter, advance } = make();
  const gone = names.resolve('a.example', 80, 'tcp', waiter('gone'));
  names.resolve('b.example', 80, 'tcp', waiter('patient'));
  names.cancel(gone);
  names.answer(gone, null, 'late');
  advance(10_000);
  names.resolve('c.example', 80, 'tcp', waiter('later'));
  assert.deepEqual(answers, []);
  advance(10_000);
  assert.deepEqual(answers, ['patient - no answer in time']);
  advance(10_000);
  assert.deepEqual(answers, ['patient - no answer in time', 'later - no answer in time']);
});

test('questions are bounded in number', () => {
  const { names, waiter } = make();
  let accepted = 0;
  for (let i = 0; i < 5000; i++) if (names.resolve(`${i}.example`, 1, 'tcp', waiter('x')) >= 0) accepted++;
  assert.equal(accepted, 1024);
});
