import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { type ControlOptions, ControlServer, type ServingEnd } from '../../src/daemon/control-server.ts';
import { FakeStack } from './support/fake-tunnel.ts';
import { RawPeer } from './support/raw-peer.ts';

const START = { type: 'start', config: { link: { fd: 7 } } };

interface Setup {
  peer: RawPeer;
  stack: FakeStack;
  server: ControlServer;
  toStack: PassThrough;
  fromStack: PassThrough;
}

function serve(options: Partial<ControlOptions> = {}): Setup {
  const stack = new FakeStack();
  const toStack = new PassThrough();
  const fromStack = new PassThrough();
  const server = new ControlServer(
    { input: toStack, output: fromStack },
    { open: stack.open, installation: { version: '0.1.0', manifest: null }, ...options },
  );
  return { peer: new RawPeer(fromStack, toStack), stack, server, toStack, fromStack };
}

async function faultOf(server: ControlServer): Promise<string> {
  const end = await server.ended;
  assert.equal(end.kind, 'fault');
  return (end as Extract<ServingEnd, { kind: 'fault' }>).fault.message;
}

describe('ControlServer', () => {
  it('M-20: start, status, stop of a raw peer', async () => {
    const { peer, stack, server } = serve();
    assert.equal(await peer.greet(), 'tslirp-control stack 1.0\n');
    peer.send({ id: 7, ...START });
    const settings = await peer.receive();
    assert.deepEqual(settings, {
      id: 1,
      type: 'settings',
      tunnel: 't1',
      diff: { mtu: 1500 },
      full: { mtu: 1500 },
    });
    assert.equal(stack.tunnels.length, 0);
    peer.send({ re: 1, ok: true });
    assert.deepEqual(await peer.receive(), { re: 7, ok: true, tunnel: 't1', settings: { mtu: 1500 } });
    const status = await peer.ask({ id: 8, type: 'status', tunnel: 't1' });
    assert.equal((status['status'] as { state: string }).state, 'running');
    const ping = await peer.ask({ id: 9, type: 'ping' });
    assert.equal(ping['version'], '0.1.0');
    assert.deepEqual(await peer.ask({ id: 10, type: 'stop', tunnel: 't1' }), {
      re: 10,
      ok: true,
      reason: { code: 'STOPPED' },
    });
    assert.equal((await peer.ask({ id: 11, type: 'status', tunnel: 't1' }))['code'], 'NOT_RUNNING');
    assert.deepEqual(await peer.ask({ id: 12, type: 'stop' }), {
      re: 12,
      ok: true,
      reason: { code: 'STOPPED' },
    });
    assert.deepEqual(await peer.rest(), []);
    assert.deepEqual(await server.ended, { kind: 'stopped' });
  });

  it('forwards, policy, wake and flows are passed on', async () => {
    const { peer, stack } = serve();
    await peer.greet();
    await peer.ask({ id: 1, ...START });
    const [tunnel] = stack.tunnels;
    assert.ok(tunnel);
    const added = await peer.ask({ id: 2, type: 'forward.add', tunnel: 't1', forward: 'tcp://8080' });
    assert.deepEqual(added, { re: 2, ok: true, forward: 1, host: { ip: '127.0.0.1', port: 8080 } });
    const busy = await peer.ask({ id: 3, type: 'forward.add', tunnel: 't1', forward: 'busy' });
    assert.equal(busy['code'], 'ADDRESS_IN_USE');
    await peer.ask({ id: 4, type: 'forward.remove', tunnel: 't1', forward: 1 });
    const again = await peer.ask({ id: 5, type: 'forward.remove', tunnel: 't1', forward: 1 });
    assert.deepEqual([again['code'], again['detail']], ['BAD_CONFIG', { path: 'forward' }]);
    await peer.ask({ id: 6, type: 'policy.set', tunnel: 't1', policy: { host: true }, revoke: true });
    await peer.ask({ id: 7, type: 'wake' });
    assert.deepEqual(tunnel.asked, [
      ['addForward', 'tcp://8080'],
      ['remove', 1],
      ['setPolicy', { host: true }, { revoke: true }],
      ['wake'],
    ]);
    tunnel.listedFlows = Array.from({ length: 501 }, (_, i) => ({ flow: 501 - i }) as never);
    const page = await peer.ask({ id: 8, type: 'flows', tunnel: 't1' });
    assert.deepEqual([(page['flows'] as object[]).length, page['next']], [500, 500]);
    const last = await peer.ask({ id: 9, type: 'flows', tunnel: 't1', next: 500 });
    assert.deepEqual(last['flows'], [{ flow: 501 }]);
    assert.equal('next' in last, false);
    const shot = await peer.ask({ id: 10, type: 'snapshot', tunnel: 't1' });
    assert.equal((shot['snapshot'] as { type: string }).type, 'snapshot');
  });

  it('refused settings fail the start, and when running they stay as they were', async () => {
    const { peer, stack } = serve();
    await peer.greet();
    peer.send({ id: 1, ...START });
    const asked = await peer.receive();
    peer.send({ re: asked['id'], ok: false, code: 'INTERNAL', message: 'no such interface' });
    const answer = await peer.receive();
    assert.deepEqual([answer['code'], answer['message']], ['SETTINGS_REJECTED', 'no such interface']);
    assert.equal(stack.tunnels.length, 0);
    assert.equal((await peer.ask({ id: 2, ...START }))['tunnel'], 't2');
    peer.send({ id: 3, type: 'settings.update', tunnel: 't2', diff: { mtu: 1280 } });
    const update = await peer.receive();
    assert.deepEqual([update['diff'], update['tunnel']], [{ mtu: 1280 }, 't2']);
    peer.send({ re: update['id'], ok: false, code: 'INTERNAL', message: 'no' });
    assert.equal((await peer.receive())['ok'], false);
  });

  it('a second start of the same descriptor is ALREADY_RUNNING, of one of ours BAD_CONFIG', async () => {
    const { peer } = serve({ own: [3] });
    await peer.greet();
    await peer.ask({ id: 1, ...START });
    assert.equal((await peer.ask({ id: 2, ...START }))['code'], 'ALREADY_RUNNING');
    const own = await peer.ask({ id: 3, type: 'start', config: { link: { fd: 3 } } });
    assert.deepEqual([own['code'], own['detail']], ['BAD_CONFIG', { path: 'link.fd' }]);
    const none = await peer.ask({ id: 4, type: 'start', config: { link: { passed: 0 } } });
    assert.equal(none['code'], 'FD_INVALID');
    const two = await peer.ask({ id: 5, type: 'start', config: { link: { fd: 8 } } });
    assert.equal(two['ok'], true);
  });

  it('what nobody knows is refused as a request, and ignored as a notice', async () => {
    const { peer } = serve();
    await peer.greet();
    peer.send({ type: 'whatever' }, { re: 99, ok: true });
    assert.equal((await peer.ask({ id: 1, type: 'whatever' }))['code'], 'UNKNOWN_TYPE');
    assert.equal((await peer.ask({ id: 2, type: 'status', tunnel: 't9' }))['code'], 'NOT_RUNNING');
    assert.deepEqual((await peer.ask({ id: 3, type: 'start', config: {} }))['detail'], { path: 'link' });
  });

  it('M-24: after a fault there is one notice, and then the end', async () => {
    const faults: (string | Buffer)[] = [
      Buffer.from([0, 0, 0, 0]),
      Buffer.from([0, 16, 0, 1]),
      RawPeer.frame('[]'),
      RawPeer.frame('{"id":1,"id":1,"type":"ping"}'),
      RawPeer.frame('{"id":1}'),
      RawPeer.frame('{"id":0,"type":"ping"}'),
      RawPeer.frame('{"id":"1","type":"ping"}'),
      RawPeer.frame('{"id":9007199254740992,"type":"ping"}'),
      RawPeer.frame('{"re":1}'),
    ];
    for (const bytes of faults) {
      const { peer, server, stack } = serve();
      await peer.greet();
      await peer.ask({ id: 5, ...START });
      peer.write(bytes);
      const rest = await peer.rest();
      assert.equal(rest.length, 1, String(bytes));
      assert.deepEqual([rest[0]?.['type'], rest[0]?.['code']], ['protocol.error', 'PROTOCOL']);
      await faultOf(server);
      assert.equal(stack.tunnels[0]?.state, 'stopped');
    }
  });

  it('the same id twice is a fault', async () => {
    const { peer, server } = serve();
    await peer.greet();
    await peer.ask({ id: 3, type: 'ping' });
    peer.send({ id: 3, type: 'ping' });
    assert.match(await faultOf(server), /id 3/);
  });

  it('M-21: faults of the handshake end it, without a frame', async () => {
    for (const line of [
      'hello\n',
      'tslirp-control stack 1.0\n',
      'tslirp-control embedder 2.0\n',
      'x'.repeat(129),
    ]) {
      const { peer, server } = serve();
      peer.write(line);
      assert.match(await faultOf(server), /^handshake: /, line);
      assert.equal(peer.all.toString(), 'tslirp-control stack 1.0\n');
    }
  });

  it('M-21: silence is a fault too, and the end of the stream is none', async () => {
    const silent = serve({ times: { handshakeMs: 1 } });
    silent.peer.write('tslirp-control');
    assert.match(await faultOf(silent.server), /got "tslirp-control" in 5 s/);
    const closed = serve();
    closed.peer.end();
    assert.deepEqual(await closed.server.ended, { kind: 'gone' });
  });

  it('M-23: a request right behind the greeting is answered', async () => {
    const { peer } = serve();
    peer.write(
      Buffer.concat([Buffer.from('tslirp-control embedder 1.0\n'), RawPeer.frame({ id: 1, type: 'ping' })]),
    );
    assert.equal(await peer.line(), 'tslirp-control stack 1.0\n');
    assert.equal((await peer.receive())['re'], 1);
  });

  it('LIMIT: no more than 64 requests at a time', async () => {
    const { peer } = serve();
    await peer.greet();
    const starts = Array.from({ length: 65 }, (_, i) => ({
      id: i + 1,
      type: 'start',
      config: { link: { fd: 100 + i } },
    }));
    peer.send(...starts);
    const refused = await peer.receiveWhere((message) => message['re'] !== undefined);
    assert.deepEqual([refused['re'], refused['code']], [65, 'LIMIT']);
  });

  it('events of a subscription come with the name of their tunnel, also of later ones', async () => {
    const { peer, stack } = serve();
    await peer.greet();
    await peer.ask({ id: 1, type: 'subscribe', types: ['link.up', 'state'] });
    await peer.ask({ id: 2, ...START });
    const snapshot = await peer.receive();
    assert.deepEqual([snapshot['type'], snapshot['tunnel']], ['event', 't1']);
    stack.tunnels[0]?.emit({ type: 'link.up' });
    const event = await peer.receive();
    assert.equal((event['event'] as { type: string }).type, 'link.up');
    void stack.tunnels[0]?.end({ code: 'LINK_CLOSED' });
    const state = await peer.receive();
    assert.deepEqual((state['event'] as { reason: object }).reason, { code: 'LINK_CLOSED' });
    assert.equal((await peer.ask({ id: 3, type: 'status', tunnel: 't1' }))['code'], 'NOT_RUNNING');
  });

  it('M-27: nothing follows the answer to stop', async () => {
    const { peer, stack, server } = serve();
    await peer.greet();
    await peer.ask({ id: 1, type: 'subscribe' });
    await peer.ask({ id: 2, ...START });
    const [tunnel] = stack.tunnels;
    const storm = setInterval(() => {
      for (let i = 0; i < 100; i++) tunnel?.emit({ type: 'link.up' });
    }, 1);
    peer.send({ id: 3, type: 'stop' });
    const rest = await peer.rest();
    await server.ended;
    clearInterval(storm);
    assert.deepEqual(rest.at(-1), { re: 3, ok: true, reason: { code: 'STOPPED' } });
  });

  it('M-28: an embedder that reads nothing costs its events, not memory, and is dead after a while', async () => {
    const { peer, stack, server, fromStack } = serve({ times: { stuckMs: 50 } });
    await peer.greet();
    await peer.ask({ id: 1, type: 'subscribe' });
    await peer.ask({ id: 2, ...START });
    await peer.receiveWhere((message) => message['type'] === 'event');
    fromStack.pause();
    const [tunnel] = stack.tunnels;
    for (let i = 0; i < 20_000; i++) {
      tunnel?.emit({ type: 'link.down', reason: 'x'.repeat(50) });
      if (i % 1000 === 0) await new Promise(setImmediate);
    }
    await new Promise(setImmediate);
    fromStack.resume();
    let [told, left] = [0, 0];
    while (told + left < 20_000) {
      const message = await peer.receive();
      if (message['type'] === 'event') told++;
      else if (message['what'] === 'events') left += message['count'] as number;
    }
    assert.equal(told + left, 20_000);
    assert.ok(told < 5000, `${told} were kept`);
    fromStack.pause();
    if (tunnel !== undefined)
      tunnel.listedFlows = Array.from(
        { length: 500 },
        (_, flow) => ({ flow: flow + 1, state: 'x'.repeat(1000) }) as never,
      );
    for (const id of [3, 4]) peer.send({ id, type: 'flows', tunnel: 't1' });
    assert.deepEqual(await server.ended, { kind: 'gone' });
    assert.equal(tunnel?.state, 'stopped');
  });

  it('the embedder may stop writing and still listen, until it does not', async () => {
    let isDeaf = false;
    const { peer, stack, server } = serve({ isDeaf: () => isDeaf });
    await peer.greet();
    await peer.ask({ id: 1, type: 'subscribe' });
    await peer.ask({ id: 2, ...START });
    peer.end();
    await peer.receive();
    stack.tunnels[0]?.emit({ type: 'link.up' });
    assert.equal(((await peer.receive())['event'] as { type: string }).type, 'link.up');
    isDeaf = true;
    assert.deepEqual(await server.ended, { kind: 'gone' });
    assert.equal(stack.tunnels[0]?.state, 'stopped');
  });

  it('the end of the embedder ends a start that waits for it', async () => {
    const { peer, server, stack } = serve();
    await peer.greet();
    peer.send({ id: 1, ...START });
    await peer.receive();
    peer.end();
    assert.deepEqual(await server.ended, { kind: 'gone' });
    assert.equal(stack.tunnels.length, 0);
  });

  it('a program that ends its server stops the tunnels', async () => {
    const { peer, server, stack } = serve();
    await peer.greet();
    await peer.ask({ id: 1, ...START });
    await server.end({ kind: 'stopped' });
    assert.equal(stack.tunnels[0]?.state, 'stopped');
    assert.deepEqual(await peer.rest(), []);
  });
});
