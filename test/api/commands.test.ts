import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { ApiCommands, type ApiEngine } from '../../src/api/commands.ts';
import type { ForwardSpec } from '../../src/config.ts';
import { ForwardRefused, type OpenForward } from '../../src/control/engine-client.ts';
import { exposure, listener, published } from '../support/exposed.ts';
import { localForward, remoteForward } from '../support/forward-specs.ts';

/** Opens every forward but those on port 1; like the data plane, it counts those that failed too. */
class FakeEngine implements ApiEngine {
  readonly open = new Map<number, OpenForward>();
  private next = 1;

  addForward(spec: ForwardSpec): Promise<OpenForward> {
    const id = this.next++;
    if (spec.direction === 'remote') {
      const forward: OpenForward = { id, spec, listen: { kind: 'ip', ...spec.bind } };
      this.open.set(id, forward);
      return Promise.resolve(forward);
    }
    if (spec.listen.kind !== 'ip') return Promise.reject(new Error('what?'));
    if (spec.listen.port === 1) return Promise.reject(new ForwardRefused(98, 'taken'));
    const port = spec.listen.port === 0 ? 40_000 + id : spec.listen.port;
    const forward = { id, spec, listen: { ...spec.listen, port } };
    this.open.set(id, forward);
    return Promise.resolve(forward);
  }

  removeForward(id: number): Promise<boolean> {
    return Promise.resolve(this.open.delete(id));
  }

  listForwards(): OpenForward[] {
    return [...this.open.values()];
  }

  listFlows(): Promise<never[]> {
    return Promise.resolve([]);
  }

  closeFlow(flow: number): Promise<boolean> {
    return Promise.resolve(flow === 7);
  }

  snapshot(): Promise<{ counters: Record<string, number>; gauges: Record<string, number> }> {
    return Promise.resolve({ counters: { 'rx.packets': 3 }, gauges: {} });
  }
}

let engine: FakeEngine;
let commands: ApiCommands;
let exposed: ReturnType<typeof exposure>;

beforeEach(() => {
  engine = new FakeEngine();
  exposed = exposure();
  commands = new ApiCommands(
    engine,
    { guest4: '10.0.2.100', guest6: 'fd00::100' },
    { program: 'tslirp' },
    exposed,
  );
});

test('list_forwards: rules by number, those of unix sockets too, and what is published without a rule', async () => {
  await engine.addForward(localForward({ listen: { kind: 'ip', address: '127.0.0.1', port: 8080 } }));
  engine.open.set(9, {
    id: 9,
    spec: localForward({}),
    listen: { kind: 'unix', path: '\0abstract' },
  });
  for (const rule of engine.listForwards()) exposed.ruleForwards.added(rule);
  exposed.hub.sink('g0').emit({ type: 'forward.added', ...published() });
  exposed.hub.sink('g0').emit({ type: 'listener.added', ...listener() });
  commands = new ApiCommands(engine, { guest4: '10.0.2.100', guest6: '' }, {}, exposed);
  const { return: answer } = (await ask({ execute: 'list_forwards' })) as {
    return: { forwards: { id: number | null; hostEnd: object; reason: string }[] };
  };
  assert.deepEqual(
    answer.forwards.map(({ id, hostEnd, reason }) => [id, hostEnd, reason]),
    [
      [1, { ip: '127.0.0.1', port: 8080 }, 'fixed'],
      [2, { path: '@abstract' }, 'fixed'],
      [null, { ip: '127.0.0.1', port: 1080 }, 'privileged'],
    ],
  );
  assert.deepEqual(await ask({ execute: 'list_listeners' }), { return: { listeners: [listener()] } });
});

test('forwards of clients are events as they come and go', async () => {
  const types: string[] = [];
  exposed.hub.listen(({ type }) => types.push(type));
  await add();
  await ask({ execute: 'remove_hostfwd', arguments: { id: 1 } });
  assert.deepEqual(types, ['forward.added', 'forward.removed']);
});

/** The answer, or what the error says. */
async function ask(request: unknown): Promise<unknown> {
  try {
    return JSON.parse(String(await commands.run(request)));
  } catch (error) {
    assert.equal((error as Error).name, 'ApiError');
    return (error as Error).message;
  }
}

const tcp = {
  proto: 'tcp',
  host_addr: '127.0.0.1',
  host_port: 8080,
  guest_addr: '10.0.2.100',
  guest_port: 80,
};

function add(changes: object = {}): Promise<unknown> {
  return ask({ execute: 'add_hostfwd', arguments: { ...tcp, ...changes } });
}

describe('requests', () => {
  for (const [request, message] of [
    [null, 'json_object() failed'],
    [1, 'json_object() failed'],
    ['x', 'json_object() failed'],
    [[], 'json_object() failed'],
    [{}, 'no execute found'],
    [{ execute: 1 }, 'no execute found'],
    [JSON.parse('{"__proto__":{"execute":"info"}}'), 'no execute found'],
    [{ execute: 'foo' }, 'unknown execute'],
    [{ execute: 'constructor' }, 'unknown execute'],
    [{ execute: '__proto__' }, 'unknown execute'],
    [{ execute: 'add_hostfwd' }, 'add_hostfwd: bad arguments.proto'],
    [{ execute: 'add_hostfwd', arguments: [] }, 'add_hostfwd: bad arguments.proto'],
    [{ execute: 'remove_hostfwd' }, 'remove_hostfwd: bad arguments.id'],
    [{ execute: 'close_flow', arguments: { id: 8 } }, 'close_flow: bad arguments.id'],
  ] as const) {
    test(`${JSON.stringify(request)}: ${message}`, async () => {
      assert.equal(await ask(request), message);
    });
  }

  test('the further ones answer from the data plane', async () => {
    assert.deepEqual(await ask({ execute: 'info' }), { return: { program: 'tslirp' } });
    assert.deepEqual(await ask({ execute: 'stats' }), {
      return: { counters: { 'rx.packets': 3 }, gauges: {} },
    });
    assert.deepEqual(await ask({ execute: 'list_flows' }), { return: { flows: [] } });
    assert.deepEqual(await ask({ execute: 'close_flow', arguments: { id: 7 } }), { return: {} });
  });
});

describe('add_hostfwd', () => {
  for (const [changes, name] of [
    [{ proto: undefined }, 'proto'],
    [{ proto: null }, 'proto'],
    [{ proto: 'TCP' }, 'proto'],
    [{ proto: 'sctp', host_addr: 'x' }, 'proto'],
    [{ host_addr: 'x' }, 'host_addr'],
    [{ host_addr: null }, 'host_addr'],
    [{ host_addr: '::1' }, 'host_addr'],
    [{ host_addr: 'localhost', host_port: 'x' }, 'host_addr'],
    [{ proto: 'tcp6', host_addr: '127.0.0.1' }, 'host_addr'],
    [{ proto: 'tcp6', host_addr: 'fe80::1%lo' }, 'host_addr'],
    [{ host_port: undefined }, 'host_port'],
    [{ host_port: null }, 'host_port'],
    [{ host_port: '8080' }, 'host_port'],
    [{ host_port: -1 }, 'host_port'],
    [{ host_port: 0.5 }, 'host_port'],
    [{ host_port: 65536 }, 'host_port'],
    [{ host_port: 1e300, guest_addr: 'x' }, 'host_port'],
    [{ guest_addr: 'x', guest_port: 0 }, 'guest_addr'],
    [{ guest_addr: '::1' }, 'guest_addr'],
    [{ guest_addr: 5 }, 'guest_addr'],
    [{ guest_port: undefined }, 'guest_port'],
    [{ guest_port: 0 }, 'guest_port'],
    [{ guest_port: 65536 }, 'guest_port'],
    [{ guest_port: [80] }, 'guest_port'],
  ] as const) {
    test(`${JSON.stringify(changes)} is a bad ${name}, and nothing is opened (X-03)`, async () => {
      assert.equal(await add(changes), `add_hostfwd: bad arguments.${name}`);
      assert.equal(engine.open.size, 0);
    });
  }

  test('numbers begin at 1, count what was opened, and are never used again (X-05)', async () => {
    assert.deepEqual(await add(), { return: { id: 1 } });
    assert.equal(await add({ host_port: 1 }), 'add_hostfwd: slirp_add_hostfwd failed');
    assert.deepEqual(await add({ host_port: 2 }), { return: { id: 2 } });
    assert.deepEqual(await ask({ execute: 'remove_hostfwd', arguments: { id: 2 } }), { return: {} });
    assert.deepEqual(await add({ host_port: 3 }), { return: { id: 3 } });
    for (const id of [2, 9, 0, -1, '1', null, 1e20])
      assert.equal(
        await ask({ execute: 'remove_hostfwd', arguments: { id } }),
        'remove_hostfwd: bad arguments.id',
      );
  });

  test('two requests to remove the same: one of them is told so', async () => {
    await add();
    const remove = { execute: 'remove_hostfwd', arguments: { id: 1 } };
    const both = await Promise.all([ask(remove), ask(remove)]);
    assert.deepEqual(both, [{ return: {} }, 'remove_hostfwd: bad arguments.id']);
  });

  test('a forward that is being removed is neither listed nor numbered anew', async () => {
    await add();
    engine.removeForward = () => new Promise(() => undefined);
    void ask({ execute: 'remove_hostfwd', arguments: { id: 1 } });
    assert.deepEqual(await ask({ execute: 'list_hostfwd' }), { return: { entries: [] }, entries: [] });
    assert.deepEqual(await add({ host_port: 9 }), { return: { id: 2 } });
  });

  test('the list follows every change', async () => {
    const ids = async (): Promise<number[]> => {
      const { entries } = (await ask({ execute: 'list_hostfwd' })) as { entries: { id: number }[] };
      return entries.map(({ id }) => id);
    };
    assert.deepEqual(await ids(), []);
    for (const host_port of [2, 3, 4]) await add({ host_port });
    assert.deepEqual(await ids(), [1, 2, 3]);
    await ask({ execute: 'remove_hostfwd', arguments: { id: 2 } });
    assert.deepEqual(await ids(), [1, 3]);
    await add({ host_port: 5 });
    assert.deepEqual(await ids(), [1, 3, 4]);
  });

  test('what the data plane does not know any more cannot be removed', async () => {
    await add();
    engine.removeForward = () => Promise.resolve(false);
    assert.equal(
      await ask({ execute: 'remove_hostfwd', arguments: { id: 1 } }),
      'remove_hostfwd: slirp_remove_hostfwd failed',
    );
  });

  test('addresses left out or empty, and fractions of ports, are as in the original', async () => {
    await add({ host_addr: undefined, guest_addr: '', host_port: 8080.9 });
    await add({ proto: 'udp6', host_addr: '', guest_addr: undefined });
    const entries = [
      {
        id: 1,
        proto: 'tcp',
        host_addr: '0.0.0.0',
        host_port: 8080,
        guest_addr: '10.0.2.100',
        guest_port: 80,
      },
      { id: 2, proto: 'udp6', host_addr: '::', host_port: 8080, guest_addr: 'fd00::100', guest_port: 80 },
    ];
    const list = await ask({ execute: 'list_hostfwd' });
    assert.equal(JSON.stringify(list), JSON.stringify({ return: { entries }, entries }));
  });

  test('port 0 leaves the choice to the kernel and tells what it was', async () => {
    assert.deepEqual(await add({ host_port: 0 }), { return: { id: 1, host_port: 40_001 } });
  });

  test('forwards of the command line are listed and can be removed', async () => {
    await engine.addForward(
      localForward({
        listen: { kind: 'ip', address: '::1', port: 5 },
        target: { address: 'fd00::100', port: 6 },
      }),
    );
    await engine.addForward(
      remoteForward({
        bind: { address: '10.0.2.2', port: 9 },
        target: { kind: 'ip', address: '127.0.0.1', port: 9 },
      }),
    );
    for (const rule of engine.listForwards()) exposed.ruleForwards.added(rule);
    // Somebody else publishes too, and it is not for clients to end that.
    await engine.addForward(localForward({ listen: { kind: 'ip', address: '127.0.0.1', port: 7 } }));
    commands = new ApiCommands(engine, { guest4: '10.0.2.100', guest6: '' }, {}, exposed);
    assert.deepEqual(await add(), { return: { id: 2 } });
    const { entries } = (await ask({ execute: 'list_hostfwd' })) as {
      entries: { id: number; proto: string }[];
    };
    assert.deepEqual(
      entries.map(({ id, proto }) => `${id} ${proto}`),
      ['1 tcp6', '2 tcp'],
    );
    assert.deepEqual(await ask({ execute: 'remove_hostfwd', arguments: { id: 1 } }), { return: {} });
  });
});
