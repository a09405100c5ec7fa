/** Port maps, and whom the guest sees as the client of what is published. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { GuestAgent } from '../support/guest-agent.ts';
import {
  asOwner,
  attach,
  bareNamespace,
  GATEWAY4,
  type Guest,
  HOST4,
  HOST4_OTHER,
  startGuest,
  tslirpCommand,
} from '../support/namespaces.ts';
import * as host from '../support/net-actions.ts';
import { run, start } from '../support/processes.ts';
import { until, within } from '../support/wait.ts';

describe('port maps', () => {
  test('ports P-7: a port that is in use ends the start with one line, and nothing is left', async () => {
    const server =
      "require('node:net').createServer().listen(18081, '0.0.0.0', () => console.log('listening'))";
    const holder = start(asOwner(process.execPath, '-e', server));
    await holder.firstLine();
    try {
      const maps = 'tcp:18082:10.0.2.100:81,tcp:18081:192.168.0.1:80';
      // In the sandbox nobody sees what others have open.
      for (const [sandbox, owner] of [
        ['--sandbox', ''],
        ['--no-sandbox', ` by pid ${holder.pid} (node)`],
      ] as const) {
        const command = tslirpCommand('run', '-q', sandbox, '--port-map', maps, '--', 'echo', 'started');
        const { status, stdout, stderr } = await run(command);
        const place = 'host 0.0.0.0:18081/tcp';
        assert.equal(stderr, `tslirp: port map tcp:18081:192.168.0.1:80: ${place} is in use${owner}\n`);
        assert.deepEqual([status, stdout], [1, '']);
      }
      assert.equal((await host.talkTcp('127.0.0.1', 18082, [])).error, 'ECONNREFUSED');
    } finally {
      await holder.stop();
    }
  });

  test('ports P-3: a map that cannot be meant is told, with status 2, wherever it was read from', async () => {
    const wrong = 'tcp:80:192.168.000.001:80';
    const line = `tslirp: port map "${wrong}": has no guest address "192.168.000.001"; accepted: an address, or * for any\n`;
    for (const [variable, ...option] of [['', '--port-map', wrong], ['IGLOO_VPN_PORT_MAPS']] as const) {
      const set = variable === '' ? [] : ['env', `${variable}=${wrong}`];
      const { status, stderr } = await run([...set, ...tslirpCommand('run', ...option, '--', 'true')]);
      assert.deepEqual([status, stderr], [2, line]);
    }
  });

  test('--port-map-wait: the port is taken once it is free', async () => {
    const port = await host.serveTcp({ host: '0.0.0.0', port: 18083, hello: 'not the guest' });
    await using guest = await startGuest('--port-map-wait', '--port-map', 'tcp:18083:*:80');
    const agent = new GuestAgent(guest.namespace);
    try {
      await agent.call('serveTcp', { host: '0.0.0.0', port: 80, hello: 'the guest' });
      assert.equal((await host.talkTcp('127.0.0.1', 18083, [])).text, 'not the guest');
      await host.stopServer('tcp', port);
      await until(
        async () => (await host.talkTcp('127.0.0.1', 18083, [])).text === 'the guest',
        'the port of the map to lead to the guest',
      );
    } finally {
      await agent.stop();
    }
  });

  test('a map leads to its service over both families and protocols, and is reset until that listens', async () => {
    const maps = 'tcp:18084:*:80,udp:18084:10.0.2.100:80';
    await using guest = await startGuest('--port-map', maps);
    const agent = new GuestAgent(guest.namespace);
    try {
      assert.equal((await host.talkTcp('127.0.0.1', 18084, ['x'])).error, 'ECONNRESET');
      await agent.call('serveTcp', { port: 80, hello: 'tcp ' });
      await agent.call('serveUdp', { port: 80, hello: 'udp ' });
      for (const address of ['127.0.0.1', '::1', HOST4]) {
        assert.equal((await host.talkTcp(address, 18084, ['x'])).text, 'tcp x');
        assert.equal((await host.talkUdp(address, 18084, ['x']))[0]?.text, 'udp x');
      }
    } finally {
      await agent.stop();
    }
  });

  test('ports P-21: --state is kept over a restart', async () => {
    // The file is where whoever runs tslirp may write.
    const path = `${process.env['TMPDIR']}/state-of-ports`;
    for (let round = 0; round < 2; round++) {
      await using guest = await startGuest('--state', path, '--port-map', 'tcp:0:*:80');
      assert.ok(guest.stack.running);
      assert.ok(existsSync(path));
    }
  });
});

describe('whom the guest sees', () => {
  const sources = ['gateway', 'client', '192.0.2.7', '10.0.2.77'];
  /** Host port 19001 leads to the guest's 81, and so on. */
  const maps = ['tcp', 'udp'].flatMap((protocol) =>
    sources.map((source, i) => `${protocol}:${19001 + i}:*:${81 + i},source=${source}`),
  );
  let guest: Guest;
  let agent: GuestAgent;

  before(async () => {
    guest = await startGuest('--port-map', maps.join(','));
    agent = new GuestAgent(guest.namespace);
    for (const i of sources.keys()) {
      await agent.call('serveTcp', { host: '0.0.0.0', port: 81 + i });
      await agent.call('serveUdp', { host: '0.0.0.0', port: 81 + i });
    }
  });

  after(async () => {
    await agent.stop();
    await guest[Symbol.asyncDispose]();
  });

  /** Says something and is answered; who said it, in the eyes of the guest. */
  async function seen(
    protocol: 'tcp' | 'udp',
    port: number,
    from: { localAddress?: string; localPort?: number } = {},
  ): Promise<string> {
    if (protocol === 'tcp') assert.equal((await host.talkTcp(HOST4, port, ['hello'], from)).text, 'hello');
    else assert.equal((await host.talkUdp(HOST4, port, ['hello'], from))[0]?.text, 'hello');
    const peers = await agent.call('peersOf', protocol, port - 19001 + 81);
    const { address, port: number } = peers.at(-1) ?? assert.fail();
    return `${address} ${number}`;
  }

  for (const protocol of ['tcp', 'udp'] as const) {
    test(`ports P-18: the gateway, the client with its port, an address anywhere, over ${protocol}`, async () => {
      const from = { localAddress: HOST4_OTHER, localPort: 40_000 };
      assert.match(await seen(protocol, 19001, from), new RegExp(`^${GATEWAY4} `));
      assert.equal(await seen(protocol, 19002, from), `${HOST4_OTHER} 40000`);
      assert.match(await seen(protocol, 19003, from), /^192\.0\.2\.7 /);
      // On the guest's own link it asks who has that address.
      assert.match(await seen(protocol, 19004, from), /^10\.0\.2\.77 /);
    });

    test(`ports P-19: two clients with one port and different addresses, at once, over ${protocol}`, async () => {
      const both = [HOST4, HOST4_OTHER].map((localAddress) => ({ localAddress, localPort: 40_001 }));
      assert.deepEqual(
        [await seen(protocol, 19002, both[0]), await seen(protocol, 19002, both[1])],
        [`${HOST4} 40001`, `${HOST4_OTHER} 40001`],
      );
    });
  }

  test('a client whose address cannot be shown is the gateway to the guest', async () => {
    assert.equal((await host.talkTcp('127.0.0.1', 19002, ['hello'])).text, 'hello');
    assert.equal((await agent.call('peersOf', 'tcp', 82)).at(-1)?.address, GATEWAY4);
  });
});

test('ports P-20: answers that go another way than they came are warned of', async () => {
  await using guest = await startGuest('--port-map', 'tcp:19007:*:80,source=192.168.7.9');
  const agent = new GuestAgent(guest.namespace);
  try {
    await guest.namespace.ip(
      'link add other type veth peer name away',
      'address add 192.168.7.1/24 dev other',
      'link set other up',
      'link set away up',
    );
    await agent.call('serveTcp', { host: '0.0.0.0', port: 80 });
    const socket = connect({ host: '127.0.0.1', port: 19007 }).on('error', () => undefined);
    const begun = Date.now();
    await until(() => Date.now() - begun > 1500, 'a client to lose patience');
    socket.resetAndDestroy();
    await until(() => guest.stack.stderr.includes('"reason":"asymmetric"'), 'a warning');
  } finally {
    await agent.stop();
  }
});

test('--forward-source is for -L as well', async () => {
  await using guest = await startGuest('--forward-source', '192.0.2.9', '-L', '19005:80');
  const agent = new GuestAgent(guest.namespace);
  try {
    await agent.call('serveTcp', { host: '0.0.0.0', port: 80 });
    assert.equal((await host.talkTcp('127.0.0.1', 19005, ['hello'])).text, 'hello');
    assert.equal((await agent.call('peersOf', 'tcp', 80)).at(-1)?.address, '192.0.2.9');
  } finally {
    await agent.stop();
  }
});

test('ports P-22: SIGTERM closes the listeners first, and leaves connections two seconds', async () => {
  const { namespace, anchor } = await bareNamespace();
  const stack = await attach(namespace.pid, '--port-map', 'tcp:19006:*:80');
  const agent = new GuestAgent(namespace);
  try {
    await agent.call('serveTcp', { host: '0.0.0.0', port: 80, hello: 'hello ' });
    const socket = connect({ host: '127.0.0.1', port: 19006, allowHalfOpen: true });
    let text = '';
    socket.on('data', (part: Buffer) => {
      text += part.toString('latin1');
    });
    await until(() => text === 'hello ', 'a greeting');
    stack.child.kill('SIGTERM');
    await until(
      async () => (await host.talkTcp('127.0.0.1', 19006, [])).error === 'ECONNREFUSED',
      'new clients to be refused',
    );
    assert.ok(stack.running);
    const ended = new Promise((resolve) => socket.once('end', resolve));
    socket.end('and good-bye');
    await within(ended, 'the end of the connection');
    assert.equal(text, 'hello and good-bye');
    assert.deepEqual([(await stack.end()).status, stack.stderr], [0, '']);
  } finally {
    await agent.stop();
    if (stack.running) await stack.stop();
    await anchor.stop();
  }
});
