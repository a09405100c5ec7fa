/** Remote UDP forwards and connected mappings, packet by packet, above the fake kernel. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultBehavior, type GuestBehavior, type HostTarget } from '../../src/config.ts';
import type { FlowInfo } from '../../src/forward/flow-info.ts';
import { ECONNREFUSED } from '../../src/sys/errno.ts';
import { Lab } from '../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  type Decoded,
  echo,
  frame,
  GUEST4,
  pattern,
  udp,
} from '../support/lab/packets.ts';

const IDLE_MS = 125_000;

function withForward(
  bind: { address: string; port: number },
  target: HostTarget,
  options: { rpc?: boolean; behavior?: Partial<GuestBehavior> } = {},
): Lab {
  const lab = new Lab({ guest: { behavior: { ...defaultBehavior, ...options.behavior } } });
  lab.guest.addForward(1, {
    direction: 'remote',
    protocol: 'udp',
    bind,
    target,
    proxyHeader: 0,
    rpc: options.rpc ?? false,
  });
  return lab;
}

function texts(frames: Decoded[]): string[] {
  return frames.map((d) => `${d.src} ${d.srcPort} ${d.dstPort} ${d.payload.toString()}`);
}

const GATEWAY = '10.0.2.2';
const echoTarget: HostTarget = { kind: 'ip', address: ALLOWED4, port: 7 };

describe('remote UDP forwards', () => {
  test('port 0 is a port like any other, and answers come from port 0 (U-06)', () => {
    for (const [bind, target] of [
      [GATEWAY, ALLOWED4],
      ['fd00::2', ALLOWED6],
    ] as const) {
      const lab = withForward({ address: bind, port: 0 }, { kind: 'ip', address: target, port: 7 });
      const answers = lab.send(udp({ dst: bind, srcPort: 4000, dstPort: 0 }, Buffer.from('hello')));
      assert.deepEqual(texts(answers), [`${bind} 0 4000 hello`]);
      lab.expectDrop('udp.port0', 'another address', frame(udp({ dst: target, srcPort: 4000, dstPort: 0 })));
      lab.check();
    }
  });

  test('each pair of ends has a socket of its own, connected to the target (U-05)', () => {
    const lab = withForward({ address: GATEWAY, port: 80 }, echoTarget);
    const sizes = [0, 1, 1400, 1400, 3];
    const answers = lab.send(
      ...sizes.map((n) => udp({ dst: GATEWAY, srcPort: 4000, dstPort: 80 }, pattern(n))),
    );
    assert.deepEqual(
      answers.map((d) => d.payload.length),
      sizes,
    );
    lab.send(udp({ dst: GATEWAY, srcPort: 4001, dstPort: 80 }, pattern(1)));
    const connects = lab.kernel.reached.filter((r) => r.call === 'connect');
    assert.deepEqual(
      connects.map((r) => [r.protocol, r.address, r.port]),
      [
        ['udp', ALLOWED4, 7],
        ['udp', ALLOWED4, 7],
      ],
    );
    assert.equal(lab.gauge('udp.flows'), 2);
    lab.check();
  });

  test('125 s without a word end a flow; traffic either way keeps it', () => {
    const lab = withForward({ address: GATEWAY, port: 80 }, { kind: 'ip', address: ALLOWED4, port: 9 });
    lab.send(udp({ dst: GATEWAY, srcPort: 4000, dstPort: 80 }));
    const file = lab.kernel.datagrams.at(-1)?.file;
    assert.ok(file !== undefined);
    lab.advance(IDLE_MS - 1000);
    file.deliver({ address: ALLOWED4, port: 9 }, Buffer.from('still here'));
    lab.run();
    assert.deepEqual(texts(lab.take()), [`${GATEWAY} 80 4000 still here`]);
    lab.advance(IDLE_MS - 1000);
    assert.equal(lab.gauge('udp.flows'), 1);
    lab.advance(1001);
    assert.equal(lab.gauge('udp.flows'), 0);
    assert.equal(file.closed, true);
    lab.check();
  });

  for (const [mapping, types] of [
    ['endpointIndependent', [[3, 3]]],
    ['connected', []],
  ] as const) {
    test(`${mapping}: refused by the host, the flow ends after what came before, and the next datagram makes a new one`, () => {
      const lab = withForward(
        { address: GATEWAY, port: 80 },
        { kind: 'ip', address: ALLOWED4, port: 9 },
        { behavior: { udpMapping: mapping } },
      );
      lab.send(udp({ dst: GATEWAY, srcPort: 4000, dstPort: 80 }));
      const file = lab.kernel.datagrams.at(-1)?.file;
      assert.ok(file !== undefined);
      file.pendingError = ECONNREFUSED;
      file.deliver({ address: ALLOWED4, port: 9 }, Buffer.from('last words'));
      lab.run();
      const out = lab.take();
      assert.deepEqual(texts(out.filter((d) => d.protocol === 17)), [`${GATEWAY} 80 4000 last words`]);
      assert.deepEqual(
        out.filter((d) => d.icmpType >= 0).map((d) => [d.icmpType, d.icmpCode]),
        types,
      );
      assert.equal(lab.gauge('udp.flows'), 0);
      lab.send(udp({ dst: GATEWAY, srcPort: 4000, dstPort: 80 }));
      assert.notEqual(lab.kernel.datagrams.at(-1)?.file, file);
      lab.check();
    });
  }

  test('rpc: the first answer ends the flow, and a second one does not get through', () => {
    const lab = withForward(
      { address: GATEWAY, port: 80 },
      { kind: 'ip', address: ALLOWED4, port: 9 },
      { rpc: true },
    );
    for (let i = 0; i < 2; i++) {
      lab.send(udp({ dst: GATEWAY, srcPort: 4000, dstPort: 80 }));
      const file = lab.kernel.datagrams.at(-1)?.file;
      assert.ok(file !== undefined && !file.closed);
      for (const text of ['first', 'second']) file.deliver({ address: ALLOWED4, port: 9 }, Buffer.from(text));
      lab.run();
      assert.deepEqual(texts(lab.take()), [`${GATEWAY} 80 4000 first`]);
      assert.equal(file.closed, true);
    }
    lab.check();
  });

  test('a flow of a forward goes on when the forward is removed; a new one is not made', () => {
    const lab = withForward({ address: GATEWAY, port: 80 }, echoTarget);
    const packet = (port: number): Buffer =>
      udp({ dst: GATEWAY, srcPort: port, dstPort: 80 }, Buffer.from('x'));
    lab.send(packet(4000));
    assert.equal(lab.guest.removeForward(1), true);
    assert.deepEqual(texts(lab.send(packet(4000))), [`${GATEWAY} 80 4000 x`]);
    assert.deepEqual(
      lab.send(packet(4001)).map((d) => [d.icmpType, d.icmpCode]),
      [[3, 3]],
    );
    lab.check();
  });

  describe('by name', () => {
    const name: HostTarget = { kind: 'name', label: 'service.example', port: 0 };
    const packet = (text: string | Buffer, port = 4000): Buffer =>
      udp({ dst: GATEWAY, srcPort: port, dstPort: 7 }, Buffer.from(text));

    test('what comes before the answer is sent after it, in order', () => {
      const lab = withForward({ address: GATEWAY, port: 7 }, name);
      lab.send(packet('one'), packet(''));
      lab.send(packet('three'));
      assert.equal(lab.kernel.datagrams.length, 0);
      lab.services.names.answer(1, { kind: 'ip', address: ALLOWED4, port: 0 }, '');
      lab.run();
      assert.deepEqual(
        texts(lab.take()),
        ['one', '', 'three'].map((text) => `${GATEWAY} 7 4000 ${text}`),
      );
      assert.deepEqual(texts(lab.send(packet('four'))), [`${GATEWAY} 7 4000 four`]);
      lab.check();
    });

    test('no address: the guest is told, nothing is kept, and the next datagram asks again', () => {
      const lab = withForward({ address: GATEWAY, port: 7 }, name);
      lab.send(packet('one'));
      lab.services.names.answer(1, null, 'no such host');
      lab.run();
      assert.deepEqual(
        lab.take().map((d) => [d.icmpType, d.icmpCode]),
        [[3, 1]],
      );
      assert.equal(lab.gauge('udp.flows'), 0);
      lab.send(packet('two'));
      lab.services.names.answer(2, { kind: 'ip', address: ALLOWED4, port: 7 }, '');
      lab.run();
      assert.deepEqual(texts(lab.take()), [`${GATEWAY} 7 4000 two`]);
      lab.check();
    });

    test('what waits is bounded in number and in bytes, for one flow and for all', () => {
      const lab = withForward({ address: GATEWAY, port: 7 }, name);
      const drops = lab.delta(() => {
        for (let i = 0; i < 65; i++) lab.send(packet('x'));
      });
      assert.equal(drops['drop.udp.limit'], 1);
      const big = pattern(1400);
      const flood = lab.delta(() => {
        for (let port = 5000; port < 5100; port++) {
          for (let i = 0; i < 64; i++) lab.send(packet(big, port));
        }
      });
      const kept = 6400 - (flood['drop.udp.limit'] ?? 0);
      assert.ok(kept * big.length <= 4 * 1024 * 1024 && kept > 2900, `${kept} datagrams are kept`);
      lab.advance(20_000);
      assert.equal(lab.gauge('udp.flows'), 0);
      lab.check();
    });
  });
});

describe('connected mapping', () => {
  const behavior = { ...defaultBehavior, udpMapping: 'connected' as const };

  test('one connected socket for each destination, which alone may answer', () => {
    const lab = new Lab({ guest: { behavior } });
    const other = '198.51.100.9';
    for (const dst of [ALLOWED4, other]) lab.send(udp({ dst, srcPort: 4000, dstPort: 9 }));
    assert.deepEqual(
      lab.kernel.datagrams.map((d) => d.file.connected),
      [ALLOWED4, other].map((address) => ({ address, port: 9 })),
    );
    assert.equal(lab.gauge('udp.flows'), 2);
    lab.check();
  });

  test('what the policy denies is dropped without a word (A-08)', () => {
    const lab = new Lab({ guest: { behavior } });
    lab.expectDrop('policy.deny', 'denied', frame(udp({ dst: '192.0.2.1', dstPort: 9 })));
    lab.check();
  });

  test('the least recently used flow gives way to a new one', () => {
    const lab = new Lab({ guest: { behavior }, limits: { udpMaxFlows: 2 } });
    for (const port of [4000, 4001, 4000, 4002]) lab.send(udp({ srcPort: port, dstPort: 9 }));
    const [first, second] = lab.kernel.datagrams.map((d) => d.file);
    assert.deepEqual([first?.closed, second?.closed], [false, true]);
    assert.equal(lab.counter('udp.evicted'), 1);
    lab.check();
  });
});

describe('flows of mappings and pings', () => {
  test('are listed and can be cut', () => {
    const lab = new Lab();
    lab.send(
      udp({ srcPort: 4000, dstPort: 7 }, Buffer.from('four')),
      echo(ALLOWED4, 77, 1, Buffer.from('three')),
    );
    const flows: FlowInfo[] = [];
    lab.guest.listFlows(flows);
    assert.deepEqual(
      flows.map(({ protocol, kind, left, bytesIn, bytesOut }) => ({
        protocol,
        kind,
        left,
        bytesIn,
        bytesOut,
      })),
      [
        { protocol: 'udp', kind: 'routed', left: { address: GUEST4, port: 4000 }, bytesIn: 4, bytesOut: 4 },
        { protocol: 'icmp', kind: 'routed', left: { address: GUEST4, port: 77 }, bytesIn: 5, bytesOut: 5 },
      ],
    );
    for (const { flow } of flows) assert.equal(lab.guest.closeFlow(flow), true);
    assert.equal(lab.gauge('udp.flows') + lab.gauge('ping.flows'), 0);
    assert.equal(lab.guest.closeFlow(flows[0]?.flow ?? 0), false);
    lab.check();
  });
});
