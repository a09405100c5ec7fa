/** Ranges of ports (hazard R-04), and forwards of tslirp by name (hazard D-05). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { address, srv, startNameServer, tableReply } from '../control/names/support/name-server.ts';
import { GuestAgent } from '../support/guest-agent.ts';
import { GATEWAY4, HOST4, startGuest, tslirpCommand } from '../support/namespaces.ts';
import * as host from '../support/net-actions.ts';
import { run } from '../support/processes.ts';

function residentMiB(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;
}

describe('a range of ports', () => {
  test('20,000 ports of the host for the guest: kilobytes each, and all of them work', async () => {
    const ports = [10000, 20001, 29999];
    for (const port of ports) await host.serveTcp({ host: '127.0.0.1', port });
    await using guest = await startGuest('-R', '10000-29999');
    const agent = new GuestAgent(guest.namespace);
    try {
      for (const port of ports) {
        assert.equal((await agent.call('talkTcp', GATEWAY4, port, ['hello'])).text, 'hello');
      }
      assert.equal((await agent.call('talkTcp', GATEWAY4, 9999, [])).error, 'ECONNREFUSED');
      assert.ok(residentMiB(guest.stack.pid) < 300, `${residentMiB(guest.stack.pid)} MiB`);
    } finally {
      await agent.stop();
      for (const port of ports) await host.stopServer('tcp', port);
    }
  });

  test('more listeners than descriptors: refused with one line before any is opened', async () => {
    const command = tslirpCommand('run', '-L', '20000-29999', '--', 'true');
    const { status, stderr } = await run(['prlimit', '--nofile=3000:3000', ...command]);
    assert.equal(status, 1);
    assert.equal(
      stderr,
      'tslirp: 10000 local forwards need a descriptor each, and this process may have 3000 in all (ulimit -n)\n',
    );
  });

  test('one port in use: none is opened, and the command is not started', async () => {
    const taken = await host.serveTcp({ host: '127.0.0.1', port: 20250 });
    const command = tslirpCommand('run', '-L', '20200-20299', '--', 'echo', 'started');
    const { status, stdout, stderr } = await run(command);
    await host.stopServer('tcp', taken);
    assert.deepEqual([status, stdout], [1, '']);
    assert.match(stderr, /^tslirp: [^\n]*20250[^\n]*\n$/);
    assert.equal((await host.talkTcp('127.0.0.1', 20200, [])).error, 'ECONNREFUSED');
  });
});

describe('a target by name', () => {
  test('is the address that was looked up, unless that is reserved (D-05)', async () => {
    const port = await host.serveTcp();
    await using server = await startNameServer(
      tableReply({
        'SRV good.example': [srv('good.example', 'host.example', port)],
        'A host.example': [address('host.example', HOST4)],
        'SRV bad.example': [srv('bad.example', 'loopback.example', port)],
        'A loopback.example': [address('loopback.example', '127.0.0.1')],
      }),
    );
    const rule = (at: number, name: string): string[] => ['-R', `${at}:${name}@srv-${server.port}:0`];
    await using guest = await startGuest(...rule(81, 'good.example'), ...rule(82, 'bad.example'));
    const agent = new GuestAgent(guest.namespace);
    try {
      for (let i = 0; i < 2; i++) {
        assert.equal((await agent.call('talkTcp', GATEWAY4, 81, ['hello'])).text, 'hello');
      }
      // The second flow used the answer of the first.
      assert.equal(server.asked.filter(({ name }) => name === 'good.example').length, 1);
      const accepted = (await host.peersOf('tcp', port)).length;
      assert.notEqual((await agent.call('talkTcp', GATEWAY4, 82, ['hello'])).error, '');
      assert.equal((await host.peersOf('tcp', port)).length, accepted);
    } finally {
      await agent.stop();
      await host.stopServer('tcp', port);
    }
  });
});
