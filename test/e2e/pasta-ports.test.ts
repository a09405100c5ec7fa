/** Ports of `pasta`, and of `pesto`: by TCP and UDP, both families, from outside and from the host's loopback. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { GuestAgent } from '../support/guest-agent.ts';
import { asOwner, bareNamespace, directory, HOST4, HOST6, programPath } from '../support/namespaces.ts';
import * as host from '../support/net-actions.ts';
import { type Ended, run } from '../support/processes.ts';
import { until } from '../support/wait.ts';

/** Addresses that do not depend on the host, which here has no way to the outside. */
const FIXED = '--config-net -a 10.0.2.100 -n 24 -g 10.0.2.2 -a fd00::100 -g fd00::2'.split(' ');

let last = 0;

interface Served {
  agent: GuestAgent;
  /** Its control socket. */
  socket: string;
}

/** A guest with the ports that `options` say. */
async function served(t: TestContext, ...options: string[]): Promise<Served> {
  const { namespace, anchor } = await bareNamespace();
  const agent = new GuestAgent(namespace);
  t.after(async () => {
    await agent.stop();
    await anchor.stop();
  });
  const socket = join(directory, `pasta-ports-${process.pid}-${++last}.sock`);
  const words = [programPath('pasta'), ...FIXED, '-q', ...options, '-c', socket, String(namespace.pid)];
  const { status, stderr } = await run(asOwner(...words));
  assert.deepEqual([status, stderr], [0, '']);
  return { agent, socket };
}

function pesto(socket: string, ...args: string[]): Promise<Ended> {
  return run(asOwner(programPath('pesto'), ...args, socket));
}

async function isServed(address: string, port: number): Promise<boolean> {
  return (await host.talkTcp(address, port, ['x'])).text === 'x';
}

function isListening(file: string, port: number): boolean {
  const at = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  return readFileSync(`/proc/net/${file}`, 'latin1')
    .split('\n')
    .some((line) => line.slice(0, 50).includes(at));
}

const EVERYWHERE = ['127.0.0.1', '::1', HOST4, HOST6];
const NO_GUEST_PORTS = ['-T', 'none', '-U', 'none'];

describe('pasta §12.4: published ports', () => {
  const ports: [spec: string, host: number, guest: number, addresses: string[]][] = [
    ['8001', 8001, 8001, EVERYWHERE],
    ['8010-8012', 8012, 8012, EVERYWHERE],
    ['8021-8021:9021-9021', 8021, 9021, EVERYWHERE],
    ['8030-8032:9030-9032', 8032, 9032, EVERYWHERE],
    [`${HOST4}/8041-8041:8041-8041`, 8041, 8041, [HOST4]],
    [`${HOST6}/8042:8042`, 8042, 8042, [HOST6]],
    ['127.0.0.1/8043', 8043, 8043, ['127.0.0.1']],
    // A local client counts as one of the interface whose address it names.
    ['%lo/8051', 8051, 8051, ['127.0.0.1', '::1']],
    ['%srv0/8052', 8052, 8052, [HOST4, HOST6]],
  ];

  test('single, in ranges, translated, of an address, of an interface', async (t) => {
    const specs = ports.flatMap(([spec]) => ['-t', spec, '-u', spec]);
    const { agent } = await served(t, ...specs, ...NO_GUEST_PORTS);
    for (const [spec, hostPort, guestPort, addresses] of ports) {
      await agent.call('serveTcp', { port: guestPort });
      await agent.call('serveUdp', { port: guestPort });
      for (const address of EVERYWHERE) {
        const tcp = await host.talkTcp(address, hostPort, ['hello']);
        const expected = addresses.includes(address) ? ['hello', ''] : ['', 'ECONNREFUSED'];
        assert.deepEqual([tcp.text, tcp.error], expected, `-t ${spec} at ${address}`);
        if (!addresses.includes(address)) continue;
        const [udp] = await host.talkUdp(address, hostPort, ['hello']);
        assert.equal(udp?.text, 'hello', `-u ${spec} at ${address}`);
      }
    }
  });

  test('pasta §12.5: megabytes by TCP arrive as they were', async (t) => {
    const { agent } = await served(t, '-t', '8080:80', '-u', 'none', ...NO_GUEST_PORTS);
    await agent.call('serveTcp', { port: 80 });
    const text = Array.from({ length: 40_000 }, (_, i) => i.toString(36).padStart(5, '0')).join('');
    for (const address of EVERYWHERE)
      assert.ok((await host.talkTcp(address, 8080, [text])).text === text, address);
  });

  test('pasta §8.2: what cannot be bound is told in its words, and status 1', async (t) => {
    const { anchor, namespace } = await bareNamespace();
    t.after(() => anchor.stop());
    const port = await host.serveTcp();
    const words = ['--config-net', '-q', '-t', '8088', '-t', String(port), '-u', 'none', ...NO_GUEST_PORTS];
    const { status, stdout, stderr } = await run(
      asOwner(programPath('pasta'), ...words, String(namespace.pid)),
    );
    await host.stopServer('tcp', port);
    assert.deepEqual([status, stdout], [1, '']);
    assert.equal(
      stderr,
      `Listen failed for HOST TCP port */${port}: Address already in use\nCouldn't listen on requested ports\n`,
    );
    assert.equal((await host.talkTcp('127.0.0.1', 8088, [])).error, 'ECONNREFUSED');
  });
});

describe('pasta §8.3: auto', () => {
  test('ports are there for as long as their services are, and UDP with TCP', async (t) => {
    const { agent } = await served(t, '-t', 'auto,~1-8199', '-u', 'auto,~1-8199', ...NO_GUEST_PORTS);
    await agent.call('serveTcp', { port: 8200 });
    await until(() => isServed('127.0.0.1', 8200), 'the port of a service');
    assert.ok(isListening('udp6', 8200));
    await agent.call('stopServer', 'tcp', 8200);
    await until(() => !isListening('tcp6', 8200) && !isListening('udp6', 8200), 'the end of the ports');
  });
});

describe('pasta §8.4: ports of the guest', () => {
  test('-T leads from its loopback to the host, whose service sees a client on loopback', async (t) => {
    const port = await host.serveTcp({ host: '127.0.0.1' });
    t.after(() => host.stopServer('tcp', port));
    const { agent } = await served(t, '-t', 'none', '-u', 'none', '-T', `5432:${port}`, '-U', 'none');
    assert.equal((await agent.call('talkTcp', '127.0.0.1', 5432, ['hello'])).text, 'hello');
    const [peer] = await host.peersOf('tcp', port);
    assert.equal(peer?.address, '127.0.0.1');
  });

  test('auto has the ports of the host, but not those that lead to the guest', async (t) => {
    const port = await host.serveTcp({ port: 8401 });
    t.after(() => host.stopServer('tcp', port));
    const specs = ['-t', '8402', '-u', 'none', '-T', 'auto,~1-8399', '-U', 'none'];
    const { agent } = await served(t, ...specs);
    const talk = (at: number) => agent.call('talkTcp', '127.0.0.1', at, ['hello']);
    await until(async () => (await talk(8401)).text === 'hello', 'the port of a service of the host');
    assert.equal((await talk(8402)).error, 'ECONNREFUSED');
  });
});

describe('pasta §10: pesto', () => {
  test('adds, shows, replaces and deletes while others go on; what is added is bound', async (t) => {
    const { agent, socket } = await served(t, '-t', '8300:80', '-u', 'none', ...NO_GUEST_PORTS);
    await agent.call('serveTcp', { port: 80 });
    const done = { status: 0, stdout: '', stderr: '' };
    const ended = ({ status, stdout, stderr }: Ended): object => ({ status, stdout, stderr });
    assert.deepEqual(
      ended(await pesto(socket, '--add', '-t', '0.0.0.0/8301:80', '-t', '[::]/8301:80')),
      done,
    );
    assert.ok(isListening('tcp', 8301) && isListening('tcp6', 8301), 'bound when it has ended');
    for (const address of EVERYWHERE) assert.ok(await isServed(address, 8301), address);
    assert.deepEqual(ended(await pesto(socket, '-D', '-t', '0.0.0.0/8301:80', '-s')), {
      ...done,
      stdout: 'Inbound forwarding rules (HOST):\n    TCP [*]:8300  =>  80 \n    TCP [::]:8301  =>  80 \n',
    });
    const again = await pesto(socket, '-D', '-t', '0.0.0.0/8301:80');
    assert.deepEqual([again.status, again.stderr], [1, 'No such rule: TCP [0.0.0.0]:8301  =>  80 \n']);
    const port = await host.serveTcp();
    const busy = await pesto(socket, '-A', '-t', '8302', '-t', String(port));
    await host.stopServer('tcp', port);
    assert.equal(busy.status, 1);
    assert.match(busy.stderr, /^Listen failed for HOST TCP port \*\/\d+: Address already in use\n/);
    assert.ok(!isListening('tcp6', 8302), 'nothing of it is left');
    assert.ok(await isServed('127.0.0.1', 8300), 'what has not changed goes on');
    assert.deepEqual(ended(await pesto(socket, '-t', '8303:80')), done);
    assert.ok((await isServed('::1', 8303)) && !isListening('tcp6', 8300), 'replaced');
  });
});
