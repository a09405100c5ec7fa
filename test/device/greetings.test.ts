import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  connectGreeting,
  type GreetingSteps,
  macOf,
  postGreeting,
  vpnkitGreeting,
} from '../../src/device/greetings.ts';

/** What a greeting sends and takes when this comes, and what is left for others; an error is a line. */
function play(
  steps: GreetingSteps,
  input: Buffer,
): { sent: Buffer; left: Buffer; done: boolean; error: string } {
  let at = 0;
  const sent: Buffer[] = [];
  try {
    let step = steps.next(new Uint8Array(0));
    while (step.done !== true) {
      const { value } = step;
      let answer: Uint8Array = new Uint8Array(0);
      if (typeof value === 'object' && 'send' in value) sent.push(Buffer.from(value.send));
      else {
        const wanted = typeof value === 'number' ? value : value.peek;
        if (input.length - at < wanted) break;
        answer = new Uint8Array(input.subarray(at, at + wanted));
        if (typeof value === 'number') at += wanted;
      }
      step = steps.next(answer);
    }
    return { sent: Buffer.concat(sent), left: input.subarray(at), done: step.done === true, error: '' };
  } catch (error) {
    return {
      sent: Buffer.concat(sent),
      left: input.subarray(at),
      done: false,
      error: (error as Error).message,
    };
  }
}

const UUID = '3d4a1c80-1c5a-4d9f-9c8e-0123456789ab';

function hello(version = 22): Buffer {
  const bytes = Buffer.alloc(49);
  bytes.write('VMN3T');
  bytes.writeUInt32LE(version, 5);
  bytes.write('0123456789abcdef'.repeat(3).slice(0, 40), 9);
  return bytes;
}

function command(number = 1, uuid = UUID): Buffer {
  const bytes = Buffer.alloc(41);
  bytes[0] = number;
  bytes.write(uuid, 1);
  return bytes;
}

describe('the greeting of hyperkit', () => {
  test('links L-19: byte for byte, and not a byte of what follows is taken', () => {
    const frame = Buffer.from('0e00aabb', 'hex');
    const { sent, left, done } = play(vpnkitGreeting(1500), Buffer.concat([hello(), command(), frame]));
    assert.equal(done, true);
    assert.deepEqual(left, frame);
    const answer = Buffer.alloc(258);
    answer[0] = 1;
    answer.writeUInt16LE(1500, 1);
    answer.writeUInt16LE(1514, 3);
    answer.set(macOf(UUID), 5);
    assert.deepEqual(sent, Buffer.concat([hello(), answer]));
  });

  test('links L-19: any version, and command 8 as 1', () => {
    const { sent, done } = play(vpnkitGreeting(1500), Buffer.concat([hello(1), command(8)]));
    assert.equal(done, true);
    assert.deepEqual(sent.subarray(0, 49), hello(1));
  });

  test('the address of a machine is its own, the same whenever it comes, and no group', () => {
    assert.deepEqual(macOf(UUID), macOf(UUID.toUpperCase()));
    assert.notDeepEqual(macOf(UUID), macOf(UUID.replace('3', '4')));
    for (let i = 0; i < 50; i++) assert.equal((macOf(`${i}`)[0] as number) & 3, 2);
    assert.equal(macOf(UUID).length, 6);
  });

  test('what is no hello, and no command, ends it', () => {
    const bad = Buffer.alloc(49, 'GET / HTTP/1.1');
    assert.match(play(vpnkitGreeting(1500), bad).error, /hello begins with "GET \/"/);
    assert.equal(play(vpnkitGreeting(1500), bad).sent.length, 0);
    assert.match(
      play(vpnkitGreeting(1500), Buffer.concat([hello(), command(2)])).error,
      /command 2 is unknown/,
    );
  });
});

describe('the greeting of gvisor-tap-vsock', () => {
  const post = Buffer.from('POST /connect HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n');
  const frame = Buffer.from('2a00ffffffffffff', 'hex');

  test('links L-22: frames alone, and frames behind a request in one segment', () => {
    for (const head of [Buffer.alloc(0), post]) {
      const { sent, left, done } = play(postGreeting(), Buffer.concat([head, frame]));
      assert.equal(done, true);
      assert.deepEqual(left, frame);
      assert.equal(sent.length, 0, 'no answer is waited for, and none is given');
    }
  });

  test('links L-22: a request has an end, and is a POST', () => {
    assert.match(
      play(postGreeting(), Buffer.concat([post.subarray(0, -4), Buffer.alloc(9000)])).error,
      /longer than 8192/,
    );
    assert.match(play(postGreeting(), Buffer.from('PONG\r\n\r\n')).error, /no POST/);
    assert.equal(play(postGreeting(), post.subarray(0, -1)).done, false);
  });
});

describe('the greeting of Firecracker', () => {
  const data = Buffer.from([0x2a, 0]);
  const say = (line: string | Buffer): ReturnType<typeof play> =>
    play(connectGreeting(5001), Buffer.from(line));

  test('links L-23: the port is asked for in decimal, any number is an answer, and data may follow at once', () => {
    for (const line of ['OK 5001\n', 'OK 1073741824\n']) {
      const { sent, left, done } = say(Buffer.concat([Buffer.from(line), data]));
      assert.equal(String(sent), 'CONNECT 5001\n');
      assert.deepEqual([done, left], [true, data]);
    }
  });

  test('links L-23: each thing that is no answer is told apart', () => {
    assert.match(say('ERR no such port\n').error, /its answer is "ERR no such port"/);
    assert.match(say('\n').error, /an empty line/);
    assert.match(say('x'.repeat(300)).error, /no end within 256 bytes/);
    assert.match(say('OK\n').error, /not "OK" and a number/);
    assert.match(say('OK 12 3\n').error, /not "OK" and a number/);
    assert.equal(say('OK 12').done, false);
  });
});
