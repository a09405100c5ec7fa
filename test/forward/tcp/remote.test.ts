/** Remote TCP forwards, and what else a destination of the guest's may stand for, packet by packet. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { GuestSpec, HostTarget } from '../../../src/config.ts';
import { type GuestBehavior, profiles } from '../../../src/profiles.ts';
import { remoteForward } from '../../support/forward-specs.ts';
import { Lab, Peer } from '../../support/lab/lab.ts';
import {
  ACK,
  ALLOWED4,
  ALLOWED6,
  arp,
  type Decoded,
  echo,
  GATEWAY4,
  pattern,
  RST,
  SYN,
  tcpOptions,
  udp,
} from '../../support/lab/packets.ts';

const GATEWAY6 = 'fd00::2';
const ANSWER_MS = 20_000;

function labWith(behavior: Partial<GuestBehavior> = {}, guest: Partial<GuestSpec> = {}): Lab {
  return new Lab({ guest: { behavior: { ...profiles.tslirp, flowEvents: true, ...behavior }, ...guest } });
}

function withForward(target: HostTarget, proxyHeader: 0 | 1 | 2 = 0, port = 80): Lab {
  const lab = labWith();
  const bind = { address: GATEWAY4, port };
  lab.guest.flows.forwards.add(5, remoteForward({ bind, target, proxyHeader, rpc: false }));
  return lab;
}

const named: HostTarget = { kind: 'name', label: 'service.example', port: 8000 };

/** Flags of what answers the SYN. */
function syn(peer: Peer): number[] {
  return peer.lab
    .send(peer.syn)
    .filter((d) => peer.isMine(d))
    .map((d) => d.flags);
}

describe('a remote forward', () => {
  test('connects to its target, which no policy judges, and answers when that did (P-01)', () => {
    const lab = withForward({ kind: 'ip', address: '127.0.0.1', port: 3000 });
    lab.kernel.onConnect = () => 'pending';
    const peer = new Peer(lab, GATEWAY4, 80, {});
    assert.deepEqual(syn(peer), []);
    const [stream] = lab.kernel.streams;
    assert.deepEqual(stream?.remote, { address: '127.0.0.1', port: 3000 });
    stream?.accept();
    lab.run();
    assert.deepEqual(
      lab.take().map((d) => d.flags),
      [SYN | ACK],
    );
    const [event] = lab.flowEvents;
    assert.deepEqual([event?.event, event?.kind, event?.forward], ['open', 'remote', 5]);
    assert.deepEqual(event?.leftLocal, { address: GATEWAY4, port: 80 });
    assert.deepEqual(event?.right, { address: '127.0.0.1', port: 3000 });
    assert.deepEqual(lab.errors, []);
  });

  test('with target port 0 connects to the port contacted', () => {
    const lab = withForward({ kind: 'ip', address: '127.0.0.1', port: 0 }, 0, 8088);
    new Peer(lab, GATEWAY4, 8088, {}).open();
    assert.equal(lab.kernel.streams[0]?.remote.port, 8088);
  });

  test('that the host refuses is refused, and told with errno and target', () => {
    const lab = withForward({ kind: 'ip', address: '127.0.0.1', port: 3000 });
    lab.kernel.onConnect = () => 111;
    assert.deepEqual(syn(new Peer(lab, GATEWAY4, 80, {})), [RST | ACK]);
    const [event] = lab.flowEvents;
    assert.equal(event?.event, 'error');
    assert.deepEqual(event?.right, { address: '127.0.0.1', port: 3000 });
    assert.deepEqual(event?.status, { leftRead: 0, leftWrite: 0, rightRead: 111, rightWrite: 0, first: 2 });
    assert.equal(lab.services.descriptors.used, 0);
  });

  test('is gone from the moment it is removed; what is open goes on', () => {
    const lab = withForward({ kind: 'ip', address: ALLOWED4, port: 7 });
    const peer = lab.connect(GATEWAY4, 80);
    assert.equal(lab.guest.flows.forwards.remove(5), true);
    assert.deepEqual(syn(new Peer(lab, GATEWAY4, 80, {})), [RST | ACK]);
    assert.equal(peer.sendData(Buffer.from('on')).toString(), 'on');
  });

  test('sends its service a PROXY header before anything of the guest’s', () => {
    for (const version of [1, 2] as const) {
      const lab = withForward({ kind: 'ip', address: '127.0.0.1', port: 3000 }, version);
      const peer = lab.connect(GATEWAY4, 80);
      peer.sendData(Buffer.from('body'));
      const got = lab.kernel.streams[0]?.received ?? Buffer.alloc(0);
      const line = `PROXY TCP4 10.0.2.100 10.0.2.2 ${peer.srcPort} 80\r\n`;
      if (version === 1) assert.equal(got.toString(), `${line}body`);
      else assert.equal(got.subarray(28).toString(), 'body');
    }
  });
});

describe('a service that wants a PROXY header', () => {
  for (const [what, result, errno] of [
    ['is gone already', -32, 32],
    ['takes only a part of it', 5, 104],
  ] as const) {
    test(`and ${what}: the guest is refused, nothing is held`, () => {
      const lab = withForward({ kind: 'ip', address: ALLOWED4, port: 9 }, 1);
      const { open } = lab.kernel;
      lab.kernel.fault = (name) => (name === 'send' ? result : undefined);
      assert.deepEqual(syn(new Peer(lab, GATEWAY4, 80, {})), [RST | ACK]);
      lab.kernel.fault = null;
      assert.equal(lab.kernel.open, open);
      assert.equal(lab.flowEvents.at(-1)?.status.rightRead, errno);
      assert.deepEqual(lab.errors, []);
    });
  }
});

describe('the host’s end', () => {
  test('that spoke, and ended, before it was looked at is heard whole', () => {
    const lab = withForward({ kind: 'ip', address: ALLOWED4, port: 9 });
    lab.kernel.onConnect = (_to, file) => {
      file.send('greeting');
      file.peerEnded = true;
      return 'accept';
    };
    const peer = lab.connect(GATEWAY4, 80);
    assert.equal(peer.data.toString(), 'greeting');
    assert.equal(peer.finReceived, true);
    peer.fin();
    assert.equal(lab.gauge('tcp.flows'), 0);
    assert.deepEqual(lab.errors, []);
  });

  test('that is interrupted by signals, or full for a while, loses nothing of the guest’s', () => {
    const lab = withForward({ kind: 'ip', address: ALLOWED4, port: 9 });
    const peer = lab.connect(GATEWAY4, 80);
    const { stream } = peer;
    assert.ok(stream !== null);
    let interruptions = 3;
    const interrupt = (name: string): number | undefined =>
      (name === 'send' || name === 'writev') && interruptions-- > 0 ? -4 : undefined;
    lab.kernel.fault = interrupt;
    const first = pattern(5000, 1);
    peer.sendData(first);
    assert.ok(stream.received.equals(first));
    stream.setRoom(1000);
    const second = pattern(20_000, 2);
    peer.sendData(second);
    assert.equal(stream.received.length, 6000);
    interruptions = 3;
    stream.setRoom(0);
    stream.setRoom(Number.POSITIVE_INFINITY);
    lab.run();
    peer.absorb(lab.take());
    assert.ok(stream.received.equals(Buffer.concat([first, second])));
    assert.deepEqual(lab.errors, []);
  });

  test('that reads no more ends the guest’s connection when the guest has what it sent (P-03)', () => {
    const lab = withForward({ kind: 'ip', address: ALLOWED4, port: 9 });
    const peer = new Peer(lab, GATEWAY4, 80, { window: 1000 });
    peer.open();
    const { stream } = peer;
    assert.ok(stream !== null);
    const data = pattern(3000);
    stream.send(data);
    stream.end();
    lab.run();
    lab.kernel.fault = (name, [fd]) =>
      (name === 'send' || name === 'writev') && fd === stream.fd ? -32 : undefined;
    // Writes are refused from here on, and the guest goes on writing.
    for (let i = 0; i < 3; i++) peer.sendData(pattern(100));
    peer.absorb(lab.take());
    assert.ok(peer.data.equals(data));
    assert.ok(peer.finReceived || peer.resetReceived);
    peer.sendData(pattern(100));
    lab.run();
    assert.equal(lab.gauge('tcp.flows'), 0);
    assert.equal(lab.flowEvents.at(-1)?.status.rightWrite, 32);
    assert.deepEqual(lab.errors, []);
  });
});

describe('TIME-WAIT', () => {
  /** A connection that we closed first. */
  function waiting(lab: Lab, timestamp = -1): Peer {
    const peer = new Peer(lab, ALLOWED4, 80, { timestamp, window: 65535 });
    peer.open();
    peer.stream?.end();
    lab.run();
    peer.absorb(lab.take());
    assert.equal(peer.finReceived, true);
    peer.fin();
    return peer;
  }

  const stamped = (value: number): Buffer =>
    tcpOptions({ mss: 1460, ...(value < 0 ? {} : { ts: [value, 0] as [number, number] }) });

  for (const timestamp of [-1, 1000]) {
    const how = timestamp < 0 ? 'by sequence numbers' : 'by timestamps';
    test(`a reset does not end it early (RFC 1337), a newer SYN does, ${how}`, () => {
      const lab = labWith();
      const peer = waiting(lab, timestamp);
      assert.deepEqual(peer.raw({ flags: RST, seq: peer.seq }), []);
      // An old SYN is answered with where we are.
      const [ack] = peer.raw({ flags: SYN, seq: peer.seq - 50, ack: 0, options: stamped(timestamp - 1) });
      assert.equal(ack?.flags, ACK);
      // The same timestamp: the sequence number decides.
      const [again] = peer.raw({ flags: SYN, seq: peer.seq + 50, ack: 0, options: stamped(timestamp) });
      assert.equal(again?.flags, SYN | ACK);
      lab.send(peer.packet({ flags: RST, seq: peer.seq + 51 }));
      const other = waiting(lab, timestamp);
      lab.advance(60_000);
      assert.equal(other.raw({ flags: ACK })[0]?.flags, RST);
      assert.deepEqual(lab.errors, []);
    });
  }
});

describe('a target that is a unix socket', () => {
  const path = '/run/service';

  test('is connected to at once and carries bytes both ways', () => {
    const lab = withForward({ kind: 'unix', path });
    lab.mayReach = () => true;
    const peer = lab.connect(GATEWAY4, 80);
    const stream = lab.kernel.streams[0];
    assert.equal(stream?.remote.address, `unix:${path}`);
    peer.sendData(Buffer.from('question'));
    assert.equal(stream?.received.toString(), 'question');
    stream?.send('answer');
    lab.run();
    peer.absorb(lab.take());
    assert.equal(peer.data.toString(), 'answer');
    assert.deepEqual(lab.flowEvents[0]?.right, { address: path, port: 0 });
    lab.check();
  });

  for (const [call, errno] of [
    ['socket', 24],
    ['connect', 2],
    ['connect', 11],
    ['connect', 111],
    ['epoll_ctl', 12],
  ] as const) {
    const isWant = errno === 24 || errno === 11 || errno === 12;
    test(`${isWant ? 'review O-4: has to wait' : 'is refused'} when ${call} fails with ${errno}, and nothing is held`, () => {
      const lab = withForward({ kind: 'unix', path });
      const { open } = lab.kernel;
      lab.kernel.fault = (name) => (name === call ? -errno : undefined);
      assert.deepEqual(syn(new Peer(lab, GATEWAY4, 80, {})), isWant ? [] : [RST | ACK]);
      lab.kernel.fault = null;
      assert.equal(lab.kernel.open, open);
      const [event] = lab.flowEvents;
      assert.deepEqual(
        [event?.event, event?.status.rightRead, event?.right],
        ['error', errno, { address: path, port: 0 }],
      );
      assert.equal(lab.gauge('tcp.flows') + lab.gauge('tcp.dialing'), 0);
    });
  }
});

describe('a target given by name', () => {
  test('may stand for a unix socket, or for the port that was contacted', () => {
    for (const [end, remote] of [
      [
        { kind: 'unix', path: '/run/service' },
        { address: 'unix:/run/service', port: 0 },
      ],
      [
        { kind: 'ip', address: ALLOWED4, port: 0 },
        { address: ALLOWED4, port: 80 },
      ],
    ] as const) {
      const lab = withForward({ kind: 'name', label: 'service.example', port: 0 });
      const peer = new Peer(lab, GATEWAY4, 80, {});
      assert.deepEqual(syn(peer), []);
      lab.services.names.answer(lab.questions[0]?.request ?? 0, end, '');
      lab.run();
      assert.deepEqual(
        lab.take().map((d) => d.flags),
        [SYN | ACK],
      );
      assert.deepEqual(lab.kernel.streams[0]?.remote, remote);
      assert.deepEqual(lab.errors, []);
    }
  });

  test('is refused when it cannot be connected to, and has to wait when something is wanting or too many questions wait', () => {
    const lab = withForward(named);
    for (const [call, errno] of [
      ['socket', 24],
      ['connect', 111],
      ['epoll_ctl', 12],
    ] as const) {
      syn(new Peer(lab, GATEWAY4, 80, {}));
      const { open } = lab.kernel;
      lab.kernel.fault = (name) => (name === call ? -errno : undefined);
      const { request } = lab.questions.at(-1)!;
      lab.services.names.answer(request, { kind: 'ip', address: ALLOWED4, port: 9 }, '');
      lab.kernel.fault = null;
      lab.run();
      assert.deepEqual(
        lab.take().map((d) => d.flags),
        call === 'connect' ? [RST | ACK] : [],
        call,
      );
      assert.equal(lab.kernel.open, open, call);
      assert.equal(lab.flowEvents.at(-1)?.status.rightRead, errno, call);
    }
    const waiter = { onResolved: (): void => {} };
    while (lab.services.names.resolve('other.example', 0, 'tcp', waiter) >= 0);
    assert.deepEqual(syn(new Peer(lab, GATEWAY4, 80, {})), []);
    assert.equal(lab.gauge('tcp.flows') + lab.gauge('tcp.dialing'), 0);
    assert.deepEqual(lab.errors, []);
  });

  test('is asked for with each flow, and what comes back is connected to', () => {
    const lab = withForward(named);
    const peer = new Peer(lab, GATEWAY4, 80, {});
    assert.deepEqual(syn(peer), []);
    const [question] = lab.questions;
    assert.deepEqual([question?.label, question?.port, question?.protocol], ['service.example', 8000, 'tcp']);
    // The guest asks again; we do not.
    assert.deepEqual(syn(peer), []);
    assert.equal(lab.questions.length, 1);
    assert.equal(lab.kernel.streams.length, 0);
    lab.services.names.answer(question?.request ?? 0, { kind: 'ip', address: '192.0.2.9', port: 9000 }, '');
    lab.run();
    assert.deepEqual(lab.kernel.streams[0]?.remote, { address: '192.0.2.9', port: 9000 });
    assert.deepEqual(
      lab.take().map((d) => d.flags),
      [SYN | ACK],
    );
    syn(new Peer(lab, GATEWAY4, 80, {}));
    assert.equal(lab.questions.length, 2);
  });

  test('that is none resets the guest, with the reason in the event', () => {
    const lab = withForward(named);
    syn(new Peer(lab, GATEWAY4, 80, {}));
    lab.services.names.answer(lab.questions[0]?.request ?? 0, null, 'lookup service.example: no such host');
    lab.run();
    assert.deepEqual(
      lab.take().map((d) => d.flags),
      [RST | ACK],
    );
    const [event] = lab.flowEvents;
    assert.deepEqual([event?.event, event?.reason], ['error', 'lookup service.example: no such host']);
    assert.deepEqual(event?.right, { address: 'service.example', port: 8000 });
    assert.equal(lab.gauge('tcp.flows'), 0);
    assert.equal(lab.gauge('tcp.dialing'), 0);
  });

  test('that nobody answers for is given up; a guest that gives up first is forgotten', () => {
    const lab = withForward(named);
    const patient = new Peer(lab, GATEWAY4, 80, {});
    const hasty = new Peer(lab, GATEWAY4, 80, {});
    syn(patient);
    syn(hasty);
    lab.send(hasty.packet({ flags: RST, seq: hasty.seq }));
    assert.equal(lab.gauge('tcp.flows'), 1);
    lab.services.names.answer(lab.questions[1]?.request ?? 0, { kind: 'ip', address: ALLOWED4, port: 7 }, '');
    lab.run();
    assert.equal(lab.kernel.streams.length, 0);
    const out = lab.advance(ANSWER_MS);
    assert.deepEqual(
      out.filter((d) => patient.isMine(d)).map((d) => d.flags),
      [RST | ACK],
    );
    assert.equal(lab.gauge('tcp.flows'), 0);
    assert.deepEqual(lab.errors, []);
  });

  test('holds up nobody else, in whatever number', () => {
    const lab = withForward(named);
    const peers = Array.from({ length: 300 }, () => new Peer(lab, GATEWAY4, 80, {}));
    for (const peer of peers) assert.deepEqual(syn(peer), []);
    // tcpMaxPendingDialsPerDestination; the others ask again.
    assert.equal(lab.connect(ALLOWED4, 7).sendData(Buffer.from('x')).toString(), 'x');
    assert.equal(lab.gauge('tcp.dialing'), 256);
  });
});

describe('our own addresses', () => {
  test('as the host’s loopback: TCP to the gateway connects there, and nowhere else', () => {
    const lab = labWith({ gatewayIsLoopback: true });
    lab.connect(GATEWAY4, 631);
    lab.connect(GATEWAY6, 631);
    assert.deepEqual(
      lab.kernel.streams.map((s) => s.remote),
      [
        { address: '127.0.0.1', port: 631 },
        { address: '::1', port: 631 },
      ],
    );
    assert.deepEqual(
      syn(new Peer(lab, '127.0.0.1', 631, {})).filter((f) => (f & SYN) !== 0),
      [],
    );
    assert.deepEqual(syn(new Peer(lab, '10.0.2.3', 80, {})), [RST | ACK]);
    assert.equal(lab.kernel.streams.length, 2);
  });

  test('where nobody listens answer as a closed port, or as an unreachable network', () => {
    assert.deepEqual(syn(new Peer(labWith(), GATEWAY4, 80, {})), [RST | ACK]);
    const lab = labWith({ ownPorts: 'unreachable' });
    for (const [address, type, code] of [
      [GATEWAY4, 3, 0],
      ['10.0.2.3', 3, 0],
      [GATEWAY6, 1, 0],
    ] as const) {
      const told = (out: Decoded[]) => out.map((d) => [d.icmpType, d.icmpCode]);
      assert.deepEqual(told(lab.send(new Peer(lab, address, 80, {}).syn)), [[type, code]], address);
      assert.deepEqual(told(lab.send(udp({ dst: address, dstPort: 80 }))), [[type, code]], address);
    }
    // Ping goes on.
    assert.equal(lab.send(echo(GATEWAY4, 1, 1))[0]?.icmpType, 0);
    assert.equal(lab.kernel.reached.length, 0);
  });
});

test('every socket towards the outside has the source address that was chosen for its family', () => {
  const lab = labWith(
    { gatewayIsLoopback: true, sourceTowardsLoopback: true },
    { source4: '192.0.2.4', source6: '2001:db8::4' },
  );
  const { bound } = lab.kernel;
  const boundBy = (action: () => void): string[] => {
    bound.length = 0;
    action();
    return bound.map((b) => `${b.address} ${b.port}`);
  };
  lab.guest.flows.forwards.add(
    1,
    remoteForward({
      bind: { address: '192.0.2.80', port: 80 },
      target: { kind: 'ip', address: '::1', port: 80 },
    }),
  );
  const four = ['192.0.2.4 0'];
  const six = ['2001:db8::4 0'];
  assert.deepEqual(
    boundBy(() => lab.connect(ALLOWED4, 80)),
    four,
  );
  assert.deepEqual(
    boundBy(() => lab.connect(ALLOWED6, 80)),
    six,
  );
  assert.deepEqual(
    boundBy(() => lab.connect(GATEWAY4, 80)),
    four,
  );
  assert.deepEqual(
    boundBy(() => lab.connect('192.0.2.80', 80)),
    six,
  );
  assert.deepEqual(
    boundBy(() => lab.send(udp({ dst: ALLOWED4, dstPort: 7 }))),
    four,
  );
  assert.deepEqual(
    boundBy(() => lab.send(udp({ dst: ALLOWED6, dstPort: 7 }))),
    six,
  );
  assert.deepEqual(
    boundBy(() => lab.send(udp({ dst: GATEWAY4, dstPort: 99, srcPort: 41000 }))),
    four,
  );
  assert.deepEqual(
    boundBy(() => lab.send(echo(ALLOWED4, 9, 1))),
    four,
  );
  assert.deepEqual(
    boundBy(() => lab.send(echo(ALLOWED6, 9, 1))),
    six,
  );
  const query = Buffer.from('12340100000100000000000001610000010001', 'hex');
  assert.deepEqual(
    boundBy(() => lab.send(udp({ dst: '10.0.2.3', dstPort: 53 }, query))),
    four,
  );
  // A source that is not there is an error like no route, not silence.
  lab.kernel.fault = (name) => (name === 'bind' ? -99 : undefined);
  assert.deepEqual(syn(new Peer(lab, ALLOWED4, 81, {})), [RST | ACK]);
  lab.kernel.fault = null;
  assert.deepEqual(lab.errors, []);
});

test('the guest finds the address of a forward on its link, and no other that is not ours', () => {
  const lab = labWith();
  const isAnswered = (ip: string): boolean => lab.inject(arp({ targetIp: ip })).length === 1;
  assert.equal(isAnswered('10.0.2.77'), false);
  lab.guest.flows.forwards.add(
    1,
    remoteForward({
      bind: { address: '10.0.2.77', port: 80 },
      target: { kind: 'ip', address: '127.0.0.1', port: 80 },
    }),
  );
  assert.equal(isAnswered('10.0.2.77'), true);
  assert.equal(isAnswered('10.0.2.78'), false);
  lab.guest.flows.forwards.remove(1);
  assert.equal(isAnswered('10.0.2.77'), false);
});

test('review OP-11: sockets towards the loopback of the host are bound to no source and no interface; DNS never is', () => {
  for (const sourceTowardsLoopback of [false, true]) {
    const lab = labWith(
      { gatewayIsLoopback: true, sourceTowardsLoopback },
      { source4: '192.0.2.4', outboundInterface: 'eth7' },
    );
    lab.mayReach = () => true;
    const { bound, boundDevices } = lab.kernel;
    const boundBy = (action: () => void): string[] => {
      bound.length = 0;
      boundDevices.length = 0;
      action();
      return [...bound.map((b) => b.address), ...boundDevices];
    };
    lab.guest.flows.forwards.add(
      1,
      remoteForward({
        bind: { address: '192.0.2.80', port: 80 },
        target: { kind: 'ip', address: '127.0.0.1', port: 80 },
      }),
    );
    const outside = ['192.0.2.4', 'eth7'];
    const loopback = sourceTowardsLoopback ? ['192.0.2.4'] : [];
    assert.deepEqual(
      boundBy(() => lab.connect(ALLOWED4, 80)),
      outside,
    );
    assert.deepEqual(
      boundBy(() => lab.connect(GATEWAY4, 80)),
      loopback,
    );
    assert.deepEqual(
      boundBy(() => lab.connect('192.0.2.80', 80)),
      loopback,
    );
    const datagram = (dst: string): void => {
      lab.send(udp({ dst, dstPort: 9, srcPort: 41_000 }));
    };
    assert.deepEqual(
      boundBy(() => datagram(ALLOWED4)),
      outside,
    );
    // The same port of the guest, whose socket is bound already.
    assert.deepEqual(
      boundBy(() => datagram(GATEWAY4)),
      loopback,
    );
    assert.equal(lab.kernel.datagrams.at(-1)?.address, '127.0.0.1');
    assert.deepEqual(
      boundBy(() => lab.send(echo(ALLOWED4, 5, 1))),
      outside,
    );
    const query = Buffer.from('00070100000100000000000003777777076578616d706c6503636f6d0000010001', 'hex');
    const ask = (): void => {
      lab.send(udp({ dst: '10.0.2.3', dstPort: 53 }, query));
      lab.connect('10.0.2.3', 53).sendData(Buffer.concat([Buffer.from([0, query.length]), query]));
    };
    lab.services.resolvers.set(['203.0.113.53']);
    assert.deepEqual(boundBy(ask), ['192.0.2.4', '192.0.2.4', 'eth7', 'eth7']);
    lab.services.resolvers.set(['127.0.0.53']);
    assert.deepEqual(boundBy(ask), []);
  }
});
