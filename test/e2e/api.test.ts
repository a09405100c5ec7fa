/** The API socket of `tslirp` itself. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { HOST6, startGuest, tslirpCommand } from '../support/namespaces.ts';
import { must, run } from '../support/processes.ts';
import { addForward, ask, askText, socketPath } from '../support/slirp4netns.ts';
import { until } from '../support/wait.ts';

test('tslirp run --api-socket: forwards of both kinds, limits, and no file at the end', async () => {
  const api = socketPath();
  {
    await using guest = await startGuest('--api-socket', api, '-L', 'tcp://127.0.0.1:0:10.0.2.100:80');
    assert.equal(statSync(api).mode & 0o777, 0o600);
    const inside = guest.namespace.start(['socat', 'TCP6-LISTEN:80,fork,reuseaddr', 'SYSTEM:"echo hello"']);
    try {
      const { id, host_port: port } = await addForward(api, {
        proto: 'tcp6',
        host_addr: HOST6,
        host_port: 0,
        guest_port: 80,
      });
      assert.equal(id, 2);
      await until(
        async () => (await run(['socat', '-T3', '-u', `TCP6:[${HOST6}]:${port}`, '-'])).stdout === 'hello\n',
        'the server in the guest',
      );
      const { entries } = (await ask(api, { execute: 'list_hostfwd' }))['return'] as {
        entries: { id: number; proto: string; host_port: number; guest_addr: string }[];
      };
      assert.deepEqual(
        entries.map(({ id: number, proto, guest_addr }) => [number, proto, guest_addr]),
        [
          [1, 'tcp', '10.0.2.100'],
          [2, 'tcp6', 'fd00::100'],
        ],
      );
      const first = entries[0]?.host_port ?? 0;
      assert.equal(await must(['socat', '-T3', '-u', `TCP4:127.0.0.1:${first}`, '-']), 'hello\n');
      assert.deepEqual(await ask(api, { execute: 'remove_hostfwd', arguments: { id: 1 } }), { return: {} });
    } finally {
      await inside.stop();
    }
    const text = '{"execute":"info"}';
    const most = text.padStart(1024 * 1024);
    assert.match(await askText(api, most), /^\{"return":/);
    assert.match(await askText(api, ` ${most}`), /too large message/);
    // One program, one socket.
    const second = await run(tslirpCommand('run', '--log-level', 'warn', '--api-socket', api, '--', 'true'));
    assert.equal(second.status, 1);
    assert.match(second.stderr, /^tslirp: no API socket at .*: Address already in use\n$/);
  }
  assert.ok(!existsSync(api));
});

test('a path that is too long for a socket is a usage error', async () => {
  const { status, stderr } = await run(
    tslirpCommand('run', '--api-socket', `/${'x'.repeat(107)}`, '--', 'true'),
  );
  assert.equal(status, 2);
  assert.match(stderr, /^tslirp: option --api-socket: .*; accepted: a path of at most 107 bytes\n$/);
});

test('the commands for a running tslirp: what is published, what flows, and an end to both', async () => {
  const api = socketPath();
  await using guest = await startGuest('--api-socket', api);
  const inside = guest.namespace.start(['socat', 'TCP-LISTEN:80,fork,reuseaddr', 'PIPE']);
  const ask = (...args: string[]): Promise<string> => must(tslirpCommand(...args, '--api-socket', api));
  try {
    const [id = '', port = ''] = (await ask('forward', 'add', '127.0.0.1:0:80')).trim().split(' ');
    assert.match(
      await ask('forward', 'ls'),
      new RegExp(`^ ${id}  tcp +127.0.0.1:${port} +10.0.2.100:80 +fixed +-$`, 'm'),
    );
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write('hello');
    await once(socket, 'data');
    const flows = await ask('flow', 'ls');
    const [, flow = ''] =
      /^ *(\d+) +tcp +local +127\.0\.0\.1:\d+ +10\.0\.2\.100:80 +ESTABLISHED /m.exec(flows) ?? [];
    assert.notEqual(flow, '', flows);
    const closed = new Promise((resolve) => socket.on('close', resolve));
    await ask('flow', 'kill', flow);
    await closed;
    await ask('forward', 'rm', id);
    assert.equal(await ask('forward', 'ls'), 'ID  PROTO  HOST  GUEST  REASON  PROCESS\n');
    assert.match(await ask('stats'), /^rx\.packets +[1-9]/m);
    const info = JSON.parse(await ask('info'));
    assert.equal(info.interface, 'tap0');
    // review ON-14: as the family of the address counts.
    assert.deepEqual(info.policy.guestNetworks[0], { address: '10.0.2.0', bits: 24 });
  } finally {
    await inside.stop();
  }
});
