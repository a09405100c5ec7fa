import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAutoForward } from '../../src/cli/auto-forward.ts';
import { parseArguments } from '../../src/cli/options.ts';
import { UsageError } from '../../src/cli/values.ts';

test('A-12: nothing said: both protocols, all ports, on the loopback of the host', () => {
  const { autoForward, publish } = parseAutoForward('');
  assert.deepEqual(autoForward, {
    tcp: true,
    udp: true,
    only: [],
    except: [],
    loopback: true,
    intervalMs: 150,
  });
  assert.deepEqual(publish.bind, ['127.0.0.1', '::1']);
  assert.equal(publish.exact, false);
  assert.equal(publish.max, 256);
});

test('every word', () => {
  const { autoForward, publish } = parseAutoForward(
    'tcp,80,8000-8100,!8010,!1-79,bind=0.0.0.0,bind=[::],exact,per-address,max=10,interval=1000,loopback=skip',
  );
  assert.deepEqual(autoForward, {
    ...{ tcp: true, udp: false, loopback: false, intervalMs: 1000 },
    only: [
      { first: 80, last: 80 },
      { first: 8000, last: 8100 },
    ],
    except: [
      { first: 8010, last: 8010 },
      { first: 1, last: 79 },
    ],
  });
  assert.deepEqual(publish.bind, ['0.0.0.0', '::']);
  assert.equal(publish.exact, true);
  assert.equal(publish.perAddress, true);
  assert.equal(publish.max, 10);
  assert.deepEqual(parseAutoForward('udp,tcp').autoForward.udp, true);
});

test('what is wrong is said in one line that names the piece', () => {
  for (const [text, fault] of [
    ['sctp', 'none of the words'],
    ['', 'none of the words'],
    ['0', 'no range'],
    ['65536', 'no range'],
    ['9-8', 'no range'],
    ['1-2-3', 'none of the words'],
    ['!', 'none of the words'],
    ['bind=localhost', 'no IP address'],
    ['bind=', 'no IP address'],
    ['loopback=all', 'says nothing about'],
    ['max=0', 'out of range'],
    ['max=4097', 'out of range'],
    ['interval=9', 'out of range'],
    ['interval=5001', 'out of range'],
    ['exact=1x', 'none of the words'],
  ] as const) {
    assert.throws(
      () => parseAutoForward(`tcp,${text}`),
      (error: Error) =>
        error instanceof UsageError &&
        error.message.startsWith(`option --auto-forward: ${JSON.stringify(text)} `) &&
        error.message.includes(fault) &&
        !error.message.includes('\n'),
      text,
    );
  }
});

test('the option takes no word that follows it, and is left alone in what the command has', () => {
  const invocation = parseArguments(['run', '--auto-forward', 'echo', '--auto-forward'], '1');
  assert.ok('config' in invocation);
  const { target, autoForward } = invocation.config.guest;
  assert.deepEqual(target.kind === 'run' ? target.command : [], ['echo', '--auto-forward']);
  assert.equal(autoForward?.tcp, true);
  const other = parseArguments(['run', '--auto-forward=udp,bind=::', 'true'], '1');
  assert.ok('config' in other);
  assert.equal(other.config.guest.autoForward?.tcp, false);
  assert.deepEqual(other.config.guest.publish?.bind, ['::']);
  const each = parseArguments(['run', '--auto-forward=per-address', 'true'], '1');
  assert.ok('config' in each);
  assert.equal(each.config.guest.publish?.perAddress, true);
  const none = parseArguments(['run', 'true', '--auto-forward'], '1');
  assert.ok('config' in none);
  assert.equal(none.config.guest.autoForward, null);
  assert.equal(none.config.guest.publish, null);
});
