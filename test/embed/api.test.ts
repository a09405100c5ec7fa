/** What a tunnel offers, the same in both forms: one table of tests, run against each. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openTunnel } from '../../src/embed/open-tunnel.ts';
import type { GuestListener, Tunnel } from '../../src/embed/tunnel.ts';
import type {
  CloseReason,
  EventOptions,
  FlowInfo,
  LogRecord,
  NetworkSettings,
  OpenOptions,
  TunnelConfig,
  TunnelEvent,
} from '../../src/embed/types.ts';
import { until } from '../support/wait.ts';
import { BackToBack, facing, GATEWAY, GUEST, socketPair } from './support/back-to-back.ts';

type Mode = NonNullable<OpenOptions['mode']>;

/** What the tests of one form have in common: a pair that stays, with an echo service in the guest. */
class Bench {
  readonly mode: Mode;
  readonly directory: string = mkdtempSync(join(tmpdir(), 'tslirp-embed-'));
  readonly applied: { diff: NetworkSettings; full: NetworkSettings }[] = [];
  readonly logged: LogRecord[] = [];
  /** What `applySettings` does besides. */
  answer: (diff: NetworkSettings) => Promise<void> | void = () => undefined;
  pair!: BackToBack;
  echo!: GuestListener;

  constructor(mode: Mode) {
    this.mode = mode;
  }

  get near(): Tunnel {
    return this.pair.near;
  }

  get far(): Tunnel {
    return this.pair.far;
  }

  async begin(): Promise<void> {
    this.pair = await BackToBack.open({
      mode: this.mode,
      applySettings: (diff, { full }) => {
        this.applied.push({ diff, full });
        return this.answer(diff);
      },
      log: { level: 'debug', sink: (record) => void this.logged.push(record) },
    });
    this.echo = await this.far.listen({ port: 7 });
    void this.#serve();
  }

  async end(): Promise<void> {
    await this.pair.close();
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** A tunnel of a test's own, on a link whose other end nobody reads. */
  async alone(
    body: (tunnel: Tunnel) => Promise<void>,
    config: Partial<TunnelConfig> = {},
    options: Partial<OpenOptions> = {},
  ): Promise<void> {
    const fds = socketPair();
    let tunnel: Tunnel | undefined;
    try {
      tunnel = await openTunnel({ link: { fd: fds[0] }, ...config }, { mode: this.mode, ...options });
      await body(tunnel);
    } finally {
      await tunnel?.stop();
      for (const fd of fds) closeSync(fd);
    }
  }

  /** That such a tunnel is not to be had: with what code, and which field. */
  async refused(
    config: Partial<TunnelConfig> | object,
    code: string,
    path?: string,
    options: Partial<OpenOptions> = {},
  ): Promise<void> {
    const fds = socketPair();
    try {
      await assert.rejects(
        openTunnel({ link: { fd: fds[0] }, ...config } as TunnelConfig, { mode: this.mode, ...options }),
        (error: { name: string; code: string; message: string; detail?: { path?: string } }) => {
          assert.equal(error.name, 'TslirpError');
          assert.equal(error.code, code, error.message);
          if (path !== undefined) assert.equal(error.detail?.path, path);
          assert.doesNotMatch(error.message, /\n/);
          return true;
        },
      );
    } finally {
      for (const fd of fds) closeSync(fd);
    }
  }

  async #serve(): Promise<void> {
    for await (const socket of this.echo) socket.pipe(socket);
  }
}

/** The first event that `fits`, of those that come from now on. */
async function event(
  tunnel: Tunnel,
  fits: (event: TunnelEvent) => boolean,
  options: EventOptions = {},
): Promise<TunnelEvent> {
  for await (const each of tunnel.events(options)) if (fits(each)) return each;
  throw new Error('the events have ended');
}

async function listed(tunnel: Tunnel, filter?: Parameters<Tunnel['flows']>[0]): Promise<FlowInfo[]> {
  const flows: FlowInfo[] = [];
  for await (const flow of tunnel.flows(filter)) flows.push(flow);
  return flows;
}

async function said(stream: Duplex, words: string): Promise<string> {
  stream.end(words);
  return text(stream);
}

/** A service of this machine's. */
async function service(): Promise<{ server: Server; port: number; accepted: Socket[] }> {
  const accepted: Socket[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    accepted.push(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as { port: number }).port, accepted };
}

async function throughForward(host: { ip: string; port: number }, words: string): Promise<string> {
  const socket = connect(host.port, host.ip);
  await once(socket, 'connect');
  return said(socket, words);
}

const table: Record<string, (bench: Bench) => Promise<void>> = {
  'a tunnel runs when it is opened, and has a name': async ({ near, far }) => {
    assert.equal(near.state, 'running');
    assert.match(near.id, /^[a-z]\d+$/);
    assert.equal(typeof far.id, 'string');
  },

  'its settings are those of its addresses': async ({ near }) => {
    const { mtu, dns, ipv4, ipv6 } = near.settings;
    assert.equal(mtu, 1500);
    assert.deepEqual(dns?.servers, ['10.0.2.3', 'fd00::3']);
    assert.deepEqual(ipv4, {
      ...{ addresses: [`${GUEST}/24`], router: GATEWAY, included: ['0.0.0.0/0'], excluded: [] },
    });
    assert.deepEqual(ipv6?.addresses, ['fd00::100/64']);
  },

  'without IPv6 addresses there is no IPv6': async ({ far }) => {
    assert.equal(far.settings.ipv6, undefined);
    assert.deepEqual(far.settings.dns?.servers, ['10.0.2.99']);
  },

  'settings are the reader’s own': async ({ near }) => {
    near.settings.ipv4?.addresses.push('1.2.3.4/5');
    assert.equal(near.settings.ipv4?.addresses.length, 1);
  },

  'the embedder has applied all of them before it runs': async ({ applied, near }) => {
    assert.deepEqual(applied[0]?.diff, near.settings);
    assert.deepEqual(applied[0]?.full, near.settings);
  },

  'M-9: a change of the MTU is all that the embedder is told, beside the whole': async ({
    near,
    applied,
  }) => {
    const seen = event(
      near,
      ({ type, ...rest }) => type === 'settings' && (rest as { diff: NetworkSettings }).diff.mtu === 1400,
    );
    await near.updateSettings({ mtu: 1400 });
    assert.deepEqual(applied.at(-1)?.diff, { mtu: 1400 });
    assert.equal(applied.at(-1)?.full.mtu, 1400);
    assert.deepEqual(applied.at(-1)?.full.ipv4, near.settings.ipv4);
    assert.equal(near.settings.mtu, 1400);
    await seen;
  },

  'what says nothing new is not told': async ({ near, applied }) => {
    const count = applied.length;
    await near.updateSettings({ mtu: near.settings.mtu as number });
    await near.updateSettings({ mtu: 0 });
    await near.updateSettings({});
    assert.equal(applied.length, count);
  },

  'a group replaces the whole group': async ({ near }) => {
    await near.updateSettings({ dns: { servers: ['10.0.2.3'], search: ['lan'], matchDomains: ['x.lan'] } });
    assert.deepEqual(near.settings.dns, {
      ...{ servers: ['10.0.2.3'], search: ['lan'], matchDomains: ['x.lan'] },
    });
  },

  'M-8: settings that the embedder rejects leave the old ones': async (bench) => {
    const { near } = bench;
    const before = near.settings;
    bench.answer = () => {
      throw new Error('not here');
    };
    const told = event(near, ({ type }) => type === 'settings.rejected');
    await assert.rejects(near.updateSettings({ mtu: 1300 }), {
      code: 'SETTINGS_REJECTED',
      message: 'not here',
    });
    bench.answer = () => undefined;
    assert.deepEqual(near.settings, before);
    assert.equal(near.state, 'running');
    assert.equal((await told).type, 'settings.rejected');
  },

  'a setting that there is none of is refused': async ({ near }) => {
    await assert.rejects(near.updateSettings({ color: 'red' } as NetworkSettings), { code: 'BAD_CONFIG' });
    await assert.rejects(near.updateSettings({ mtu: -1 }), { code: 'BAD_CONFIG' });
  },

  'dial: bytes go both ways, and each half ends by itself': async ({ near }) => {
    assert.equal(await said(await near.dial({ host: GUEST, port: 7 }), 'hello'), 'hello');
  },

  'dial: a mebibyte comes back as it was': async ({ near }) => {
    const sent = 'tslirp '.repeat(150_000);
    assert.equal(await said(await near.dial({ host: GUEST, port: 7 }), sent), sent);
  },

  'dial: what the guest refuses rejects as a socket does': async ({ near }) => {
    await assert.rejects(near.dial({ host: GUEST, port: 9 }), {
      code: 'ECONNREFUSED',
      syscall: 'connect',
      port: 9,
    });
  },

  'dial: a host has to be an address of the guest, and a port one': async ({ near }) => {
    await assert.rejects(near.dial({ host: 'guest', port: 7 }), { code: 'BAD_CONFIG' });
    await assert.rejects(near.dial({ host: GUEST, port: 0 }), { code: 'BAD_CONFIG' });
    await assert.rejects(near.dial({ host: GATEWAY, port: 7 }), /./);
  },

  'dial: fifty at once': async ({ near }) => {
    const answers = Array.from({ length: 50 }, async (_, index) =>
      said(await near.dial({ host: GUEST, port: 7 }), `call ${index}`),
    );
    assert.deepEqual(
      await Promise.all(answers),
      answers.map((_, index) => `call ${index}`),
    );
  },

  'dial: a stream that is destroyed ends the guest’s': async ({ near, far }) => {
    const listener = await far.listen({ port: 70 });
    const [stream, { value: taken }] = await Promise.all([
      near.dial({ host: GUEST, port: 70 }),
      listener[Symbol.asyncIterator]().next() as Promise<IteratorResult<Duplex>>,
    ]);
    const closed = once(taken as Duplex, 'close');
    (taken as Duplex)
      .on('error', () => undefined)
      .resume()
      .end();
    stream.destroy();
    await closed;
    await listener.close();
  },

  'listen: nobody is there any more once it is closed': async ({ near, far }) => {
    const listener = await far.listen({ port: 71 });
    assert.deepEqual(listener.at, { host: GUEST, port: 71 });
    await listener.close();
    await listener.close();
    for await (const _ of listener) assert.fail('somebody came');
    await assert.rejects(near.dial({ host: GUEST, port: 71 }), { code: 'ECONNREFUSED' });
  },

  'listen: a port is for one': async ({ far }) => {
    await assert.rejects(far.listen({ port: 7 }), { code: 'ADDRESS_IN_USE' });
  },

  'listen: the guest’s side has other addresses too': async ({ near, far }) => {
    await using listener = await far.listen({ host: '192.0.2.7', port: 80 });
    void (async () => {
      for await (const socket of listener) socket.end('elsewhere');
    })();
    const stream = await near.dial({ host: '192.0.2.7', port: 80 });
    assert.equal(await text(stream), 'elsewhere');
  },

  'datagrams: there and back': async ({ near, far }) => {
    const service = await far.listenDatagrams({ port: 53 });
    service.on('message', (words, { port, address }) => service.send(`re: ${words}`, port, address));
    const client = await near.dialDatagrams({ host: GUEST, port: 53 });
    const answered = once(client, 'message');
    client.send('question');
    assert.equal(String((await answered)[0]), 're: question');
    client.close();
    service.close();
  },

  'datagrams: as long as they may be': async ({ near, far }) => {
    const service = await far.listenDatagrams({ port: 54 });
    service.on('message', (words, { port, address }) => service.send(words, port, address));
    const client = await near.dialDatagrams({ host: GUEST, port: 54 });
    const sent = Buffer.alloc(9000, 'x');
    const answered = once(client, 'message');
    client.send(sent);
    assert.deepEqual((await answered)[0], sent);
    client.close();
    service.close();
  },

  'addForward: a port of the host leads to the guest until it is removed': async ({ near }) => {
    const forward = await near.addForward('tcp:0:10.0.2.100:7');
    assert.equal(forward.host.ip, '127.0.0.1');
    assert.ok(forward.host.port > 0);
    assert.equal(await throughForward(forward.host, 'by a port'), 'by a port');
    await forward.remove();
    await forward.remove();
    await assert.rejects(throughForward(forward.host, 'x'), { code: 'ECONNREFUSED' });
  },

  'addForward: as text in either form, and as data': async ({ near }) => {
    const target = { address: GUEST, port: 7 };
    for (const forward of [
      'tcp://127.0.0.1:0:10.0.2.100:7',
      { local: '127.0.0.1:0:10.0.2.100:7' },
      { direction: 'local', protocol: 'tcp', listen: { kind: 'ip', address: '127.0.0.1', port: 0 }, target },
    ] as const) {
      const handle = await near.addForward(forward as Parameters<Tunnel['addForward']>[0]);
      assert.equal(await throughForward(handle.host, 'x'), 'x');
      await handle.remove();
    }
  },

  'addForward: a service of the host comes to the guest’s side': async ({ near, far }) => {
    const { server, port } = await service();
    server.on('connection', (socket) => socket.end('the host'));
    const forward = await far.addForward({ remote: `${GUEST}:90:127.0.0.1:${port}` });
    assert.deepEqual(forward.host, { ip: GUEST, port: 90 });
    assert.equal(await text(await near.dial({ host: GUEST, port: 90 })), 'the host');
    await forward.remove();
    server.close();
  },

  'addForward: a port that is taken is ADDRESS_IN_USE': async ({ near }) => {
    const { server, port } = await service();
    await assert.rejects(near.addForward(`tcp:${port}:10.0.2.100:7`), { code: 'ADDRESS_IN_USE' });
    server.close();
  },

  'addForward: what is no forward is refused, with what is accepted': async ({ near }) => {
    for (const bad of ['', 'sctp:1:2', '8000-8001:80-81', { local: '1', remote: '2' }, 7])
      await assert.rejects(near.addForward(bad as string), { code: 'BAD_CONFIG' });
  },

  'setPolicy: new flows go by it': async ({ near, far }) => {
    const { server, port, accepted } = await service();
    // The far end's guest is the near tunnel, of which the far one is asked for this machine's loopback.
    await assert.rejects(near.dial({ host: '127.0.0.1', port }), /./);
    await far.setPolicy({ allow: ['198.51.100.7:1-65535'] });
    await far.setPolicy({});
    assert.equal(accepted.length, 0);
    server.close();
  },

  'setPolicy: a rule that is none names itself': async ({ near }) => {
    await assert.rejects(near.setPolicy({ allow: ['10.0.0.0/8', 'x y'] }), {
      code: 'BAD_CONFIG',
      detail: { path: 'policy.allow.1' },
    });
    await assert.rejects(near.setPolicy({ routes: true } as object), { detail: { path: 'policy.routes' } });
  },

  'flows: those that are open, and of those the ones that are meant': async ({ near }) => {
    const stream = await near.dial({ host: GUEST, port: 7 });
    const flows = await listed(near, { protocol: 'tcp', kind: 'local' });
    assert.ok(flows.some(({ right, state }) => right.port === 7 && state === 'ESTABLISHED'));
    assert.deepEqual(await listed(near, { protocol: 'icmp' }), []);
    stream.destroy();
  },

  'status: what it is, and what it holds': async ({ near }) => {
    const status = await near.status();
    assert.equal(status.state, 'running');
    assert.equal(status.link.medium, 'ethernet');
    assert.equal(status.link.mtu, 1500);
    assert.ok(status.uptimeMs >= 0);
    assert.ok(Object.keys(status.counters).length > 0);
    assert.ok(status.memory.limit > status.memory.used);
  },

  'events: what is so comes first': async ({ near }) => {
    const types: string[] = [];
    for await (const { type, t } of near.events()) {
      assert.match(t, /^\d{4}-\d\d-\d\dT/);
      types.push(type);
      if (types.length === 3) break;
    }
    assert.deepEqual(types, ['state', 'settings', 'snapshot']);
  },

  'events: only what is asked for': async ({ near }) => {
    const seen = event(near, () => true, { types: ['forward.added'] });
    const forward = await near.addForward('tcp:0:10.0.2.100:7');
    const added = (await seen) as Extract<TunnelEvent, { type: 'forward.added' }>;
    assert.equal(added.type, 'forward.added');
    assert.equal(added.hostEnd.port, forward.host.port);
    await forward.remove();
  },

  'events: flows, for a reader that names them': async ({ near }) => {
    // Those of other tests end meanwhile.
    const isOurs = (each: TunnelEvent): boolean => each.type === 'flow.closed' && each.flow.bytesOut === 1;
    const closed = event(near, isOurs, {
      types: ['flow.opened', 'flow.closed'],
    });
    // Whoever asks for them hears of those that come after.
    await near.status();
    await said(await near.dial({ host: GUEST, port: 7 }), 'x');
    const { flow } = (await closed) as TunnelEvent & { type: 'flow.closed' };
    assert.equal(flow.protocol, 'tcp');
    assert.equal(flow.bytesOut, 1);
  },

  'events: a reader that is slow loses its oldest, and is told what there is': async ({ near }) => {
    const reader = near.events({ types: ['forward.added', 'forward.removed'], buffer: 4 });
    const kept = await near.addForward('tcp:0:10.0.2.100:7');
    for (let i = 0; i < 5; i++) await (await near.addForward('tcp:0:10.0.2.100:7')).remove();
    await until(async () => (await near.status()) !== undefined, 'an answer');
    const first = (await reader.next()).value as TunnelEvent;
    assert.equal(first.type, 'dropped');
    assert.ok((first as { count: number }).count >= 1);
    const second = (await reader.next()).value as Extract<TunnelEvent, { type: 'snapshot' }>;
    assert.equal(second.type, 'snapshot');
    assert.ok(second.forwards.some(({ hostEnd }) => hostEnd.port === kept.host.port));
    await reader.return?.();
    await kept.remove();
  },

  'events: abort and break end the reader': async ({ near }) => {
    const controller = new AbortController();
    const reader = near.events({ signal: controller.signal, types: ['listener.added'] });
    const next = reader.next();
    controller.abort();
    assert.equal((await next).done, true);
    for await (const _ of near.events()) break;
    for await (const _ of near.events({ signal: AbortSignal.abort() })) assert.fail('it was aborted');
  },

  'log: records, with level, time and fields': async ({ logged }) => {
    const record = logged[0];
    assert.ok(record !== undefined);
    assert.equal(typeof record.message, 'string');
    assert.ok(Math.abs(Date.now() - record.time) < 600_000);
    assert.ok(['debug', 'info', 'warn', 'error', 'fatal'].includes(record.level));
    assert.equal(typeof record.fields, 'object');
  },

  'wake: it goes on': async ({ near }) => {
    near.wake();
    assert.equal(await said(await near.dial({ host: GUEST, port: 7 }), 'awake'), 'awake');
  },

  'capture: what passes is in the file': async (bench) => {
    const path = join(bench.directory, 'capture.pcap');
    const pair = await BackToBack.open({ mode: bench.mode }, { capture: { path } });
    await assert.rejects(pair.near.dial({ host: GUEST, port: 1 }), { code: 'ECONNREFUSED' });
    await pair.close();
    const bytes = readFileSync(path);
    assert.equal(bytes.readUInt32LE(0), 0xa1b2c3d4);
    assert.ok(bytes.length > 24 + 2 * (16 + 54));
  },

  'limits: more flows than allowed are not to be had': async (bench) => {
    const pair = await BackToBack.open({ mode: bench.mode }, { limits: { flows: 2 } });
    const listener = await pair.far.listen({ port: 7 });
    const calls = [1, 2].map(() => pair.near.dial({ host: GUEST, port: 7 }));
    await Promise.all(calls);
    await assert.rejects(pair.near.dial({ host: GUEST, port: 7 }), { code: 'EAGAIN' });
    await listener.close();
    await pair.close();
  },

  'a configuration names the field that is wrong': async (bench) => {
    await bench.refused({ mtu: 12 }, 'BAD_CONFIG', 'mtu');
    await bench.refused({ colour: 1 }, 'BAD_CONFIG', 'colour');
    await bench.refused({ link: {} }, 'BAD_CONFIG', 'link.fd');
    await bench.refused({ link: { spec: 'nothing:/x' } }, 'BAD_CONFIG', 'link.spec');
    await bench.refused({ link: { fd: 3, medium: 'atm' } }, 'BAD_CONFIG', 'link.medium');
    await bench.refused({ policy: { deny: ['a b'] } }, 'BAD_CONFIG', 'policy.deny.0');
    await bench.refused({ forwards: ['x:y:z'] }, 'BAD_CONFIG', 'forwards.0');
    await bench.refused(
      { addresses: { guest: ['10.0.0.300/8'], gateway: [], dns: [] } },
      'BAD_CONFIG',
      'addresses.guest.0',
    );
    await bench.refused({ addresses: { ...facing, gateway: [GATEWAY] } }, 'BAD_CONFIG', 'addresses.guest');
    await bench.refused({ limits: { flows: 0 } }, 'BAD_CONFIG', 'limits.flows');
    await bench.refused({ dns: { upstream: ['one'] } }, 'BAD_CONFIG', 'dns.upstream.0');
    await bench.refused({ capture: {} }, 'BAD_CONFIG', 'capture.path');
  },

  'a descriptor that is none, and one that is of no use': async (bench) => {
    await bench.refused({ link: { fd: 9_999 } }, 'FD_INVALID', 'link.fd');
    const file = openSync(fileURLToPath(import.meta.url), 'r');
    await bench.refused({ link: { fd: file } }, 'FD_UNSUPPORTED', 'link.fd');
    closeSync(file);
  },

  'M-11: a descriptor is for one tunnel': async (bench) => {
    const fds = socketPair();
    const link = { fd: fds[0] };
    const tunnel = await openTunnel({ link }, { mode: bench.mode });
    await bench.refused({ link }, 'BAD_CONFIG', 'link.fd');
    await tunnel.stop();
    // And for the next one, when that is over.
    await (await openTunnel({ link }, { mode: bench.mode })).stop();
    for (const fd of fds) closeSync(fd);
  },

  'M-3: stop twice is the same stop, and the first reason counts': async (bench) => {
    await bench.alone(async (tunnel) => {
      const states: string[] = [];
      const readers = (async () => {
        for await (const each of tunnel.events({ types: ['state'] }))
          states.push((each as { state: string }).state);
      })();
      const first = tunnel.stop();
      assert.equal(tunnel.stop(), first);
      assert.deepEqual(await first, { code: 'STOPPED' });
      assert.deepEqual(await tunnel.closed, { code: 'STOPPED' });
      assert.equal(tunnel.state, 'stopped');
      await readers;
      assert.deepEqual(states, ['running', 'stopping', 'stopped']);
    });
  },

  'what is over does nothing more': async (bench) => {
    await bench.alone(async (tunnel) => {
      await tunnel.stop();
      await assert.rejects(tunnel.dial({ host: GUEST, port: 7 }), { code: 'NOT_RUNNING' });
      await assert.rejects(tunnel.status(), { code: 'NOT_RUNNING' });
      await assert.rejects(tunnel.addForward('tcp:0:7'), { code: 'NOT_RUNNING' });
      await assert.rejects(tunnel.setPolicy({}), { code: 'NOT_RUNNING' });
      await assert.rejects(tunnel.updateSettings({ mtu: 1300 }), { code: 'NOT_RUNNING' });
      tunnel.wake();
    });
  },

  'M-4: leaving its scope stops it': async (bench) => {
    const fds = socketPair();
    let closed: Promise<CloseReason>;
    {
      await using tunnel = await openTunnel({ link: { fd: fds[0] } }, { mode: bench.mode });
      closed = tunnel.closed;
    }
    assert.deepEqual(await closed, { code: 'STOPPED' });
    for (const fd of fds) {
      fstatSync(fd);
      closeSync(fd);
    }
  },

  'M-6: the link’s end is the tunnel’s': async (bench) => {
    const [near, far] = socketPair();
    const tunnel = await openTunnel({ link: { fd: near } }, { mode: bench.mode });
    closeSync(far);
    assert.equal((await tunnel.closed).code, 'LINK_CLOSED');
    assert.equal(tunnel.state, 'stopped');
    closeSync(near);
  },

  'M-2: abort while it runs ends it': async (bench) => {
    const controller = new AbortController();
    await bench.alone(
      async (tunnel) => {
        controller.abort(new Error('enough'));
        assert.equal((await tunnel.closed).code, 'ABORTED');
      },
      {},
      { signal: controller.signal },
    );
  },

  'M-2: abort before and during the start': async (bench) => {
    const why = new Error('not now');
    const signal = AbortSignal.abort(why);
    await bench.refused({}, 'ABORTED', undefined, { signal });
    const controller = new AbortController();
    const applySettings = (): Promise<void> => {
      controller.abort(why);
      return new Promise(() => undefined);
    };
    await assert.rejects(
      bench.alone(async () => undefined, {}, { signal: controller.signal, applySettings }),
      { code: 'ABORTED', cause: why },
    );
  },

  'M-3: a connection that is busy has the grace of a stop': async (bench) => {
    const pair = await BackToBack.open({ mode: bench.mode });
    const listener = await pair.far.listen({ port: 7 });
    const [stream, { value: taken }] = await Promise.all([
      pair.near.dial({ host: GUEST, port: 7 }),
      listener[Symbol.asyncIterator]().next() as Promise<IteratorResult<Duplex>>,
    ]);
    const stopping = pair.near.stop({ graceMs: 60_000 });
    assert.equal(pair.near.state, 'stopping');
    await assert.rejects(pair.near.dial({ host: GUEST, port: 7 }), { code: 'NOT_RUNNING' });
    (taken as Duplex).end('to the end');
    assert.equal(await text(stream), 'to the end');
    (taken as Duplex).resume();
    stream.end();
    assert.deepEqual(await stopping, { code: 'STOPPED' });
    await listener.close();
    await pair.close();
  },

  'M-3: a signal ends that grace': async (bench) => {
    const pair = await BackToBack.open({ mode: bench.mode });
    const listener = await pair.far.listen({ port: 7 });
    const stream = await pair.near.dial({ host: GUEST, port: 7 });
    stream.on('error', () => undefined);
    const controller = new AbortController();
    const stopping = pair.near.stop({ graceMs: 600_000, signal: controller.signal });
    controller.abort();
    assert.deepEqual(await stopping, { code: 'STOPPED' });
    await listener.close();
    await pair.close();
  },
};

for (const mode of ['worker', 'process'] as const) {
  describe(`M-32: ${mode}`, () => {
    const bench = new Bench(mode);
    before(() => bench.begin());
    after(() => bench.end());
    for (const [name, run] of Object.entries(table)) test(name, () => run(bench));
  });
}
