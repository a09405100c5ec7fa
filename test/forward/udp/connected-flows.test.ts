/** Remote UDP forwards and connected mappings, packet by packet, above the fake kernel. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { HostEnd, HostTarget } from '../../../src/config.ts';
import type { FlowInfo } from '../../../src/forward/flow/info.ts';
import { type GuestBehavior, profiles } from '../../../src/profiles.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import {
  EACCES,
  EAGAIN,
  ECONNREFUSED,
  EINVAL,
  EMFILE,
  EMSGSIZE,
  ENETUNREACH,
  ENOENT,
  ENOMEM,
} from '../../../src/sys/errno.ts';
import { remoteForward } from '../../support/forward-specs.ts';
import { assertAnswersInOrder } from '../../support/lab/answers.ts';
import { Lab, type LabOptions } from '../../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  type Decoded,
  echo,
  frame,
  GUEST4,
  pattern,
  udp,
} from '../../support/lab/packets.ts';

const IDLE_MS = 125_000;

function withForward(
  bind: { address: string; port: number },
  target: HostTarget,
  options: { rpc?: boolean; behavior?: Partial<GuestBehavior> } = {},
): Lab {
  const lab = new Lab({ guest: { behavior: { ...profiles.tslirp, ...options.behavior } } });
  lab.guest.flows.forwards.add(
    1,
    remoteForward({ protocol: 'udp', bind, target, rpc: options.rpc ?? false }),
  );
  return lab;
}

function texts(frames: Decoded[]): string[] {
  return frames.map((d) => `${d.src} ${d.srcPort} ${d.dstPort} ${d.payload.toString()}`);
}

const GATEWAY = '10.0.2.2';
const echoEnd: HostEnd = { kind: 'ip', address: ALLOWED4, port: 7 };
const echoTarget: HostTarget = echoEnd;

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

  for (const mapping of ['endpointIndependent', 'connected'] as const) {
    test(`review O-5: ${mapping}: refused by the host, the flow ends after what came before, and the next datagram makes a new one`, () => {
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
        [[3, 3]],
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
    assert.equal(lab.guest.flows.forwards.remove(1), true);
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

    test('a name that stands for a unix socket is one', () => {
      const lab = withForward({ address: GATEWAY, port: 7 }, name);
      lab.mayReach = () => true;
      lab.send(packet('one'));
      lab.services.names.answer(1, { kind: 'unix', path: '/run/service' }, '');
      lab.run();
      lab.send(packet('two'));
      assert.deepEqual(
        lab.kernel.datagrams.map((d) => [d.address, d.payload.toString()]),
        ['one', 'two'].map((text) => ['unix:/run/service', text]),
      );
      lab.check();
    });

    test('a target that cannot be opened ends the flow as one that is none', () => {
      const lab = withForward({ address: GATEWAY, port: 7 }, name);
      for (const [call, errno, types] of [
        ['socket', EMFILE, [3, 3]],
        ['connect', ENETUNREACH, [3, 0]],
        ['epoll_ctl', ENOMEM, [3, 3]],
      ] as const) {
        lab.send(packet('one'));
        const { open } = lab.kernel;
        lab.kernel.fault = (called) => (called === call ? -errno : undefined);
        lab.services.names.answer(lab.questions.at(-1)?.request ?? 0, echoEnd, '');
        lab.kernel.fault = null;
        lab.run();
        assert.deepEqual(
          lab.take().map((d) => [d.icmpType, d.icmpCode]),
          [types],
          call,
        );
        assert.equal(lab.kernel.open, open, call);
        assert.equal(lab.gauge('udp.flows'), 0);
      }
      assert.equal(lab.counter('drop.udp.limit'), 1);
      lab.check();
    });

    test('a flow that is cut while it waits takes no answer any more', () => {
      const lab = withForward({ address: GATEWAY, port: 7 }, name);
      const { open } = lab.kernel;
      lab.send(packet('one'));
      const flows: FlowInfo[] = [];
      lab.listFlows(flows);
      assert.deepEqual(
        flows.map((f) => [f.state, f.right]),
        [['RESOLVING', { address: 'service.example', port: 7 }]],
      );
      assert.equal(lab.guest.flows.cut(flows[0]?.flow ?? 0), true);
      lab.services.names.answer(1, echoEnd, '');
      lab.run();
      assert.deepEqual(lab.kernel.datagrams, []);
      assert.equal(lab.kernel.open, open);
      assert.equal(lab.gauge('udp.flows'), 0);
      lab.check();
    });

    test('more questions than may wait: the flow is refused and counted', () => {
      const lab = withForward({ address: GATEWAY, port: 7 }, name);
      const waiter = { onResolved: (): void => {} };
      while (lab.services.names.resolve('other.example', 0, 'udp', waiter) >= 0);
      let out: Decoded[] = [];
      const drops = lab.delta(() => {
        out = lab.send(packet('one'));
      });
      assert.deepEqual(
        out.map((d) => [d.icmpType, d.icmpCode]),
        [[3, 3]],
      );
      assert.equal(drops['drop.udp.limit'], 1);
      assert.equal(lab.gauge('udp.flows'), 0);
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

describe('remote UDP forwards to a unix socket', () => {
  const path = '/run/service';
  const packet = (text: string | Buffer): Buffer =>
    udp({ dst: GATEWAY, srcPort: 4000, dstPort: 80 }, Buffer.from(text));

  function withUnix(): Lab {
    const lab = withForward({ address: GATEWAY, port: 80 }, { kind: 'unix', path });
    lab.mayReach = () => true;
    return lab;
  }

  /** While `errno` is not 0, sending fails with it. */
  function failing(lab: Lab): { errno: number } {
    const state = { errno: 0 };
    lab.kernel.fault = (name) =>
      /^send(to|msg)?$/.test(name) && state.errno !== 0 ? -state.errno : undefined;
    return state;
  }

  const sent = (lab: Lab): string[] =>
    lab.kernel.datagrams.filter((d) => d.address === `unix:${path}`).map((d) => d.payload.toString());

  test('are answered, because our socket has a name of its own', () => {
    const lab = withUnix();
    lab.send(packet('one'));
    const file = lab.kernel.datagrams.at(-1)?.file;
    assert.ok(file !== undefined);
    assert.ok(file.local?.address.startsWith('unix:'));
    file.deliver({ address: `unix:${path}`, port: 0 }, Buffer.from('answer'));
    lab.run();
    assert.deepEqual(texts(lab.take()), [`${GATEWAY} 80 4000 answer`]);
    lab.check();
  });

  test('what a full queue has no room for waits, and goes in order when there is some', () => {
    const lab = withUnix();
    const state = failing(lab);
    lab.send(packet('one'));
    const file = lab.kernel.datagrams.at(-1)?.file;
    assert.ok(file !== undefined);
    state.errno = EAGAIN;
    lab.send(packet('two'), packet('three'));
    lab.kernel.edge(file);
    lab.run();
    assert.deepEqual(sent(lab), ['one']);
    state.errno = 0;
    // Not before those that wait.
    lab.send(packet('four'));
    assert.deepEqual(sent(lab), ['one']);
    lab.kernel.edge(file);
    lab.run();
    lab.send(packet('five'));
    assert.deepEqual(sent(lab), ['one', 'two', 'three', 'four', 'five']);
    lab.check();
  });

  test('a datagram that is too large for it is lost alone', () => {
    const lab = withUnix();
    const state = failing(lab);
    lab.send(packet('one'));
    const file = lab.kernel.datagrams.at(-1)?.file;
    assert.ok(file !== undefined);
    state.errno = EMSGSIZE;
    lab.send(packet('large'));
    state.errno = EAGAIN;
    lab.send(packet('large too'));
    state.errno = EMSGSIZE;
    lab.kernel.edge(file);
    lab.run();
    state.errno = 0;
    lab.send(packet('two'));
    assert.deepEqual(sent(lab), ['one', 'two']);
    assert.equal(file.closed, false);
    lab.check();
  });

  test('that is gone ends the flow, with what waits; the next datagram makes a new one', () => {
    for (const whileWaiting of [false, true]) {
      const lab = withUnix();
      const state = failing(lab);
      lab.send(packet('one'));
      const file = lab.kernel.datagrams.at(-1)?.file;
      assert.ok(file !== undefined);
      if (whileWaiting) {
        state.errno = EAGAIN;
        lab.send(packet('two'), packet('three'));
        state.errno = ECONNREFUSED;
        lab.kernel.edge(file);
        lab.run();
      } else {
        state.errno = ECONNREFUSED;
        lab.send(packet('two'), packet('three'));
      }
      assert.equal(file.closed, true);
      assert.equal(lab.gauge('udp.flows'), 0);
      state.errno = 0;
      lab.send(packet('four'));
      assert.deepEqual(sent(lab), ['one', 'four']);
      lab.check();
    }
  });

  test('that is not there is refused as a closed port, and told', () => {
    for (const [call, errno] of [
      ['socket', EMFILE],
      ['bind', EACCES],
      ['connect', ENOENT],
      ['epoll_ctl', ENOMEM],
    ] as const) {
      const lab = withForward(
        { address: GATEWAY, port: 80 },
        { kind: 'unix', path },
        { behavior: { flowEvents: true } },
      );
      lab.mayReach = () => true;
      const { open } = lab.kernel;
      lab.kernel.fault = (called) => (called === call ? -errno : undefined);
      const out = lab.send(packet('one'));
      lab.kernel.fault = null;
      assert.deepEqual(
        out.map((d) => [d.icmpType, d.icmpCode]),
        [[3, errno === EACCES ? 13 : 3]],
        call,
      );
      assert.equal(lab.kernel.open, open, call);
      const [event] = lab.flowEvents;
      assert.deepEqual(
        [event?.event, event?.status.rightRead, event?.right],
        ['error', errno, { address: path, port: 0 }],
      );
      lab.check();
    }
  });
});

describe('connected mapping', () => {
  const behavior = { ...profiles.tslirp, udpMapping: 'connected' as const };

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

  test('an address that becomes the host’s own does not get through with its answers any more', () => {
    const outside = '9.9.9.9';
    const lab = new Lab({ guest: { behavior }, allow: [], policy: { enableRouting: true } });
    lab.send(udp({ dst: outside, srcPort: 4000, dstPort: 9 }));
    const file = lab.kernel.datagrams.at(-1)?.file;
    assert.ok(file !== undefined);
    const answer = (): Decoded[] => {
      file.deliver({ address: outside, port: 9 }, Buffer.from('x'));
      lab.run();
      return lab.take();
    };
    assert.equal(answer().length, 1);
    lab.services.hostRoutes.addLocal(parseIpAddress(outside));
    const drops = lab.delta(() => assert.deepEqual(answer(), []));
    assert.equal(drops['drop.policy.deny'], 1);
    assert.deepEqual(lab.errors, []);
  });

  test('the gateway as the host’s loopback answers, whatever the policy', () => {
    const lab = new Lab({ guest: { behavior: { ...behavior, gatewayIsLoopback: true } } });
    lab.mayReach = () => true;
    lab.send(udp({ dst: GATEWAY, srcPort: 4000, dstPort: 9 }));
    const file = lab.kernel.datagrams.at(-1)?.file;
    assert.ok(file !== undefined);
    assert.deepEqual(file.connected, { address: '127.0.0.1', port: 9 });
    file.deliver({ address: '127.0.0.1', port: 9 }, Buffer.from('answer'));
    lab.run();
    assert.deepEqual(texts(lab.take()), [`${GATEWAY} 9 4000 answer`]);
    lab.check();
  });

  test('without a descriptor, and without a flow that could give way, datagrams are dropped and counted', () => {
    const lab = new Lab({ guest: { behavior } });
    const { descriptors } = lab.services;
    descriptors.limit = descriptors.used;
    lab.expectDrop('udp.limit', 'no descriptor', frame(udp({ srcPort: 4000, dstPort: 9 })));
    descriptors.limit = 1000;
    lab.check();
  });

  test('a flow is listed with its destination', () => {
    const lab = new Lab({ guest: { behavior } });
    lab.send(udp({ srcPort: 4000, dstPort: 9 }, Buffer.from('four')));
    const flows: FlowInfo[] = [];
    lab.listFlows(flows);
    assert.deepEqual(
      flows.map((f) => [f.state, f.left, f.leftLocal, f.right, f.bytesOut]),
      [
        [
          'OPEN',
          { address: GUEST4, port: 4000 },
          { address: ALLOWED4, port: 9 },
          { address: ALLOWED4, port: 9 },
          4,
        ],
      ],
    );
    lab.check();
  });

  test('more answers than a turn’s share all arrive, in order', () => {
    const lab = new Lab({ guest: { behavior } });
    lab.send(udp({ srcPort: 4000, dstPort: 9 }));
    const file = lab.kernel.datagrams.at(-1)?.file;
    assert.ok(file !== undefined);
    assertAnswersInOrder(lab, file);
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
    lab.listFlows(flows);
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
    for (const { flow } of flows) assert.equal(lab.guest.flows.cut(flow), true);
    assert.equal(lab.gauge('udp.flows') + lab.gauge('ping.flows'), 0);
    assert.equal(lab.guest.flows.cut(flows[0]?.flow ?? 0), false);
    lab.check();
  });
});

for (const mapping of ['endpointIndependent', 'connected'] as const) {
  describe(`${mapping} mapping: sending`, () => {
    const lab = (options: LabOptions = {}): Lab =>
      new Lab({ guest: { behavior: { ...profiles.tslirp, udpMapping: mapping } }, ...options });

    test('the guest’s hop limit goes on where it counts hops, and only there (traceroute)', () => {
      for (const [dst, level, name] of [
        [ALLOWED4, 0, 2],
        [ALLOWED6, 41, 16],
      ] as const) {
        const it = lab();
        const { memory } = it.services;
        const values: number[] = [];
        it.kernel.fault = (called, [, at, option, value]) => {
          if (called === 'setsockopt' && at === level && option === name) {
            values.push(memory.view.getInt32((value as number) - memory.address(0, 0), true));
          }
          return undefined;
        };
        for (const ttl of [64, 2, 2, 31, 32]) it.send(udp({ dst, srcPort: 4000, dstPort: 9, ttl }));
        assert.deepEqual(values, [1, 30, -1]);
        it.check();
      }
    });

    test('a datagram that meets an earlier one’s error goes out all the same, batched or not', () => {
      for (const sizes of [[100], [100, 100, 50]]) {
        const it = lab();
        const packets = sizes.map((n) => udp({ srcPort: 4000, dstPort: 9 }, pattern(n)));
        it.send(...packets);
        const file = it.kernel.datagrams.at(-1)?.file;
        assert.ok(file !== undefined);
        file.pendingError = ECONNREFUSED;
        it.send(...packets);
        assert.deepEqual(
          it.kernel.datagrams.map((d) => d.payload.length),
          [...sizes, ...sizes],
        );
        it.check();
      }
    });

    test('a route that takes no segments of that size gets single datagrams', () => {
      const it = lab();
      it.kernel.fault = (name, [, header]) => {
        if (name !== 'sendmsg') return undefined;
        const { structures } = it.services.memory;
        const at = (header as number) - structures.address(0, 0);
        return structures.view.getUint32(at + 40, true) > 0 ? -EINVAL : undefined;
      };
      it.send(...[100, 100, 50].map((n) => udp({ srcPort: 4000, dstPort: 9 }, pattern(n))));
      it.kernel.fault = null;
      assert.deepEqual(
        it.kernel.datagrams.map((d) => d.payload.length),
        [100, 100, 50],
      );
      it.check();
    });

    test('a host queue that is full drops, and the flow goes on', () => {
      const it = lab();
      it.kernel.fault = (name) => (/^send(to|msg)?$/.test(name) ? -EAGAIN : undefined);
      it.send(...[100, 100, 50].map((n) => udp({ srcPort: 4000, dstPort: 9 }, pattern(n))));
      it.kernel.fault = null;
      assert.equal(it.kernel.datagrams.length, 0);
      it.send(udp({ srcPort: 4000, dstPort: 9 }, pattern(1)));
      assert.equal(it.kernel.datagrams.length, 1);
      assert.equal(it.gauge('udp.flows'), 1);
      it.check();
    });
  });
}
