import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TurnMeter } from '../../src/engine/turn-meter.ts';

/** A meter on two manual clocks. */
function meter(): {
  turn: (wall: number, cpu: number) => void;
  idle: (ms: number) => void;
  m: TurnMeter;
  readings: () => number;
} {
  let now = 1000;
  let used = 50;
  let readings = 0;
  const m = new TurnMeter(now, () => {
    readings++;
    return used;
  });
  return {
    m,
    readings: () => readings,
    turn: (wall, cpu) => {
      m.begin(now);
      now += wall;
      used += cpu;
      m.end(now);
    },
    idle: (ms) => {
      now += ms;
    },
  };
}

test('the longest turn is kept, in time and in CPU time', () => {
  const { m, turn, idle } = meter();
  turn(2, 2);
  idle(100);
  turn(30, 4);
  idle(100);
  turn(12, 11);
  idle(100);
  turn(1, 1);
  assert.equal(m.longestMs, 30, 'time waited for a CPU counts');
  assert.equal(m.longestCpuMs, 11, 'and here it does not');
});

test('the CPU time of many short turns is not that of a long one', () => {
  const { m, turn } = meter();
  for (let i = 0; i < 1000; i++) turn(1, 1);
  assert.ok(m.longestCpuMs <= 1, `${m.longestCpuMs}`);
  turn(20, 3);
  assert.ok(m.longestCpuMs >= 3 && m.longestCpuMs <= 3 + 5, `${m.longestCpuMs}`);
});

test('a figure is forgotten after one to two minutes, whether there are turns or not', () => {
  const { m, turn, idle } = meter();
  turn(40, 40);
  idle(59_000);
  turn(1, 1);
  assert.equal(m.longestMs, 40);
  idle(59_000);
  turn(1, 1);
  assert.equal(m.longestMs, 40, 'of the minute before');
  idle(59_000);
  turn(1, 1);
  assert.equal(m.longestMs, 1);
  turn(40, 40);
  idle(200_000);
  turn(2, 2);
  assert.equal(m.longestMs, 2);
  assert.equal(m.longestCpuMs, 2);
});

test('review O-11: a turn now and then costs no reading of the CPU clock', () => {
  const { m, turn, idle, readings } = meter();
  turn(0.5, 0.5);
  const before = readings();
  for (let i = 0; i < 90; i++) {
    idle(100);
    turn(0.1, 0.1);
  }
  assert.ok(readings() - before <= 2, `${readings() - before} readings`);
  turn(20, 3);
  assert.ok(m.longestCpuMs >= 3 && m.longestCpuMs <= 3 + 5.1, `${m.longestCpuMs}`);
});
