/** What the control plane is told of refusals and failures, and how often. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type GuestBehavior, profiles } from '../../../src/profiles.ts';
import { parseIpAddress } from '../../../src/stack/wire/address.ts';
import { ECONNREFUSED, ENETUNREACH } from '../../../src/sys/errno.ts';
import { localForward, remoteForward } from '../../support/forward-specs.ts';
import type { ListenFile, StreamFile } from '../../support/lab/fake-kernel.ts';
import { Lab, type LabOptions } from '../../support/lab/lab.ts';
import {
  ACK,
  ALLOWED4,
  arp,
  type Decoded,
  DNS4,
  echo,
  GATEWAY4,
  GUEST4,
  type Ip,
  RST,
  SYN,
  tcp,
  udp,
} from '../../support/lab/packets.ts';

const OUTSIDE = '192.0.2.1';

function newLab(behavior: Partial<GuestBehavior> = {}, options: LabOptions = {}): Lab {
  return new Lab({ guest: { behavior: { ...profiles.tslirp, ...behavior } }, ...options });
}

/** As one line each. */
function told(lab: Lab): string[] {
  return lab.refusals
    .splice(0)
    .map(
      ({ reason, protocol, source, destination, error, repeated }) =>
        `${reason} ${protocol} ${source.address}:${source.port} ${destination.address}:${destination.port} ${error} +${repeated}`,
    );
}

function failures(lab: Lab): string[] {
  return lab.flowEvents
    .splice(0)
    .map(
      ({ event, failure, protocol, kind, right, repeated, reason }) =>
        `${event} ${failure} ${protocol} ${kind} ${right.address}:${right.port} +${repeated} ${reason}`,
    );
}

describe('review ON-3: what is refused is told', () => {
  test('with its reason: by the policy, for want of a listener', () => {
    const lab = newLab();
    lab.services.hostRoutes.add(parseIpAddress('10.9.0.0'), 112);
    lab.services.hostRoutes.addBroadcast(parseIpAddress('10.9.0.255'));
    lab.send(
      tcp({ dst: OUTSIDE, srcPort: 4000, dstPort: 443 }),
      tcp({ dst: '169.254.169.254', srcPort: 4001, dstPort: 80 }),
      tcp({ dst: '10.9.0.1', srcPort: 4002, dstPort: 22 }),
      udp({ dst: '10.9.0.255', srcPort: 5353, dstPort: 5353 }),
      tcp({ dst: GATEWAY4, srcPort: 4003, dstPort: 5432 }),
    );
    assert.deepEqual(told(lab), [
      `default tcp ${GUEST4}:4000 ${OUTSIDE}:443 0 +0`,
      `reserved tcp ${GUEST4}:4001 169.254.169.254:80 0 +0`,
      `host tcp ${GUEST4}:4002 10.9.0.1:22 0 +0`,
      `group udp ${GUEST4}:5353 10.9.0.255:5353 0 +0`,
      `port tcp ${GUEST4}:4003 ${GATEWAY4}:5432 0 +0`,
    ]);
  });

  for (const [name, packet, text] of [
    ['UDP', udp({ dst: OUTSIDE, srcPort: 4000, dstPort: 53 }), `udp ${GUEST4}:4000 ${OUTSIDE}:53`],
    ['ping', echo(OUTSIDE, 7, 1), `icmp ${GUEST4}:0 ${OUTSIDE}:0`],
  ] as const) {
    test(`${name} as well`, () => {
      const lab = newLab();
      lab.send(packet);
      assert.deepEqual(told(lab), [`default ${text} 0 +0`]);
    });
  }

  test('a datagram to a port of ours where nobody listens', () => {
    const lab = newLab();
    lab.send(udp({ dst: GATEWAY4, srcPort: 4000, dstPort: 123 }));
    assert.deepEqual(told(lab), [`port udp ${GUEST4}:4000 ${GATEWAY4}:123 0 +0`]);
  });

  test('while the host’s addresses cannot be read, nothing is said about rules', () => {
    const lab = newLab();
    lab.askHost = () => false;
    lab.send(tcp({ dst: ALLOWED4, srcPort: 4000, dstPort: 80 }));
    assert.deepEqual(told(lab), [`unsure tcp ${GUEST4}:4000 ${ALLOWED4}:80 0 +0`]);
  });

  test('once a second for each reason, with how many more there were', () => {
    const lab = newLab();
    const flood = (dst: Ip): void => {
      for (let i = 0; i < 50; i++)
        lab.send(...Array.from({ length: 20 }, () => tcp({ dst, srcPort: lab.port(), dstPort: 80 })));
    };
    flood(OUTSIDE);
    flood('127.0.0.1');
    assert.equal(told(lab).length, 2);
    lab.advance(999);
    flood(OUTSIDE);
    assert.deepEqual(told(lab), []);
    lab.advance(1);
    flood(OUTSIDE);
    const [line, ...more] = told(lab);
    assert.match(line ?? '', /^default tcp .* \+1999$/);
    assert.deepEqual(more, []);
    // What was counted last is told when it is over, and only then.
    lab.advance(10_000);
    assert.deepEqual(lab.refusalsLeftOut.map(({ reason, count }) => `${reason} ${count}`).sort(), [
      'default 999',
      'reserved 999',
    ]);
    assert.deepEqual(told(lab), []);
    assert.equal(lab.counter('drop.policy.deny'), 4000);
    lab.check();
  });

  test('all of them where they are wanted, up to the limit of flows', () => {
    const lab = newLab({ flowEvents: true, denials: 'all' });
    for (let i = 0; i < 110; i++)
      lab.send(...Array.from({ length: 50 }, () => tcp({ dst: OUTSIDE, srcPort: lab.port(), dstPort: 80 })));
    assert.equal(told(lab).length, 5001);
    lab.advance(1000);
    assert.deepEqual(lab.flowsLeftOut, [499]);
    lab.check({ heapMiB: 32 });
  });

  test('never where that is said', () => {
    const lab = newLab({ denials: 'never' });
    lab.send(tcp({ dst: OUTSIDE, dstPort: 80 }), tcp({ dst: GATEWAY4, dstPort: 80 }));
    lab.kernel.onConnect = () => -ECONNREFUSED;
    lab.send(tcp({ dst: ALLOWED4, dstPort: 81 }));
    lab.advance(10_000);
    assert.deepEqual([told(lab), failures(lab), lab.refusalsLeftOut], [[], [], []]);
  });

  test('a resolver that does not answer, and one that refuses', () => {
    const lab = newLab();
    lab.kernel.onDatagram = () => undefined;
    // One question: a.test, type A, class IN.
    const query = Buffer.from('123401000001000000000000016104746573740000010001', 'hex');
    const ask = (id: number): void => {
      query.writeUInt16BE(id);
      lab.send(udp({ dst: DNS4, srcPort: 4000, dstPort: 53 }, query));
    };
    ask(1);
    lab.advance(10_000);
    assert.deepEqual(told(lab), ['resolver udp :0 203.0.113.53:53 0 +0']);
    lab.kernel.fault = (name) =>
      name === 'send' || name === 'sendmsg' || name === 'sendmmsg' ? -ENETUNREACH : undefined;
    ask(2);
    lab.advance(10_000);
    assert.match(told(lab)[0] ?? '', /^resolver udp :0 203\.0\.113\.53:53 (101|111) \+0$/);
    lab.kernel.fault = null;
  });

  test('a resolver that is dead', () => {
    const lab = newLab();
    const { denials } = lab.guest.flows.tcp.context;
    const resolver = lab.services.resolvers.at(0).address;
    denials.resolverFailed(resolver, 53, 0);
    denials.resolverFailed(resolver, 53, ECONNREFUSED);
    assert.deepEqual(told(lab), ['resolver udp :0 203.0.113.53:53 0 +0']);
    lab.advance(1000);
    denials.resolverFailed(resolver, 53, ECONNREFUSED);
    assert.deepEqual(told(lab), [`resolver udp :0 203.0.113.53:53 ${ECONNREFUSED} +1`]);
  });
});

describe('review ON-3: what fails is told, without a flow log too', () => {
  test('the outside refuses, or the host has no way there', () => {
    const lab = newLab();
    lab.kernel.onConnect = () => -ECONNREFUSED;
    lab.send(tcp({ dst: ALLOWED4, srcPort: 4000, dstPort: 81 }));
    lab.send(tcp({ dst: ALLOWED4, srcPort: 4001, dstPort: 81 }));
    assert.deepEqual(failures(lab), [`error connect tcp routed ${ALLOWED4}:81 +0 `]);
    lab.kernel.fault = (name) => (name === 'connect' ? -ENETUNREACH : undefined);
    lab.send(tcp({ dst: ALLOWED4, srcPort: 4002, dstPort: 82 }));
    assert.deepEqual(failures(lab), [`error system tcp routed ${ALLOWED4}:82 +0 `]);
    lab.kernel.fault = null;
    lab.advance(1000);
    lab.send(tcp({ dst: ALLOWED4, srcPort: 4003, dstPort: 81 }));
    assert.deepEqual(failures(lab), [`error connect tcp routed ${ALLOWED4}:81 +1 `]);
  });

  test('a flow that was open is no failure, however it ends', () => {
    const lab = newLab();
    const peer = lab.connect(ALLOWED4, 7);
    lab.send(tcp({ dst: ALLOWED4, srcPort: peer.srcPort, dstPort: 7, flags: RST, seq: peer.seq }));
    lab.send(udp({ dst: ALLOWED4, srcPort: 4000, dstPort: 9 }));
    lab.advance(300_000);
    assert.deepEqual(failures(lab), []);
  });

  test('a remote forward: its name, its target', () => {
    const lab = newLab();
    const named = { kind: 'name', label: 'db.example', port: 5432 } as const;
    lab.guest.flows.forwards.add(
      1,
      remoteForward({ protocol: 'tcp', bind: { address: GATEWAY4, port: 1 }, target: named }),
    );
    const target = { kind: 'ip', address: ALLOWED4, port: 9 } as const;
    lab.guest.flows.forwards.add(2, remoteForward({ bind: { address: GATEWAY4, port: 2 }, target }));
    lab.kernel.onConnect = () => -ECONNREFUSED;
    lab.send(tcp({ dst: GATEWAY4, srcPort: 4000, dstPort: 1 }));
    lab.services.names.answer(lab.questions[0]?.request ?? 0, null, 'not found');
    lab.run();
    assert.deepEqual(failures(lab), ['error name tcp remote db.example:5432 +0 not found']);
    lab.send(tcp({ dst: GATEWAY4, srcPort: 4001, dstPort: 2 }));
    assert.deepEqual(failures(lab), [`error target tcp remote ${ALLOWED4}:9 +0 `]);
  });
});

describe('review ON-3: a local forward whose guest will not have it', () => {
  function dial(lab: Lab): { syn: Decoded; client: StreamFile } {
    const listener = lab.kernel.listeners[0] as ListenFile;
    listener.arrive({ address: '198.51.100.9', port: 5555 }, '');
    lab.run();
    const syn = lab.take().find((d) => d.flags === SYN);
    assert.ok(syn !== undefined);
    return { syn, client: listener.accepted.at(-1) as StreamFile };
  }

  test('refuses, is silent; a client that leaves is no failure of the guest', () => {
    const lab = newLab();
    lab.guest.flows.forwards.add(1, localForward());
    lab.inject(arp({}));
    const { syn } = dial(lab);
    const ports = { src: syn.dst, dst: syn.src, srcPort: syn.dstPort, dstPort: syn.srcPort };
    lab.send(tcp({ ...ports, seq: 0, ack: (syn.seq + 1) >>> 0, flags: RST | ACK }));
    assert.deepEqual(failures(lab), [`error guest tcp local ${GUEST4}:80 +0 `]);
    lab.advance(1000);
    dial(lab);
    lab.advance(120_000);
    assert.deepEqual(failures(lab), [`error guest tcp local ${GUEST4}:80 +0 `]);
    const { client } = dial(lab);
    client.reset();
    lab.run();
    assert.deepEqual(failures(lab), [`error left tcp local ${GUEST4}:80 +0 `]);
  });
});
