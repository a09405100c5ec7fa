/** Local UDP forwards, packet by packet, above the fake kernel. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultBehavior, type LocalForwardSpec } from '../../src/config.ts';
import type { FlowEvent, FlowInfo } from '../../src/forward/flow-info.ts';
import type { DatagramFile } from '../support/lab/fake-kernel.ts';
import { Lab, type LabOptions } from '../support/lab/lab.ts';
import {
  type Decoded,
  GATEWAY4,
  GATEWAY6,
  GUEST4,
  GUEST6,
  icmp,
  ipv4,
  udp,
  udpDatagram,
} from '../support/lab/packets.ts';

const IDLE_MS = 125_000;
const PORT = 8080;
const SERVICE = 5000;

interface Opened {
  lab: Lab;
  /** The host's socket. */
  socket: DatagramFile;
  events: FlowEvent[];
}

function open(spec: Partial<LocalForwardSpec> = {}, options: LabOptions = {}): Opened {
  const behavior = { ...defaultBehavior, flowEvents: true };
  const lab = new Lab({ guest: { behavior }, ...options });
  // The clients are who may be answered.
  lab.mayReach = () => true;
  const events: FlowEvent[] = [];
  lab.services.report = (event) => events.push(event);
  lab.guest.addForward(1, {
    direction: 'local',
    protocol: 'udp',
    listen: { kind: 'ip', address: '127.0.0.1', port: PORT },
    dualStack: false,
    target: { address: GUEST4, port: SERVICE },
    proxyHeader: false,
    rpc: false,
    ...spec,
  });
  return { lab, socket: lab.kernel.boundDatagrams.at(-1) as DatagramFile, events };
}

/** Client datagrams arrive: what the guest gets. */
function arrive(
  { lab, socket }: Opened,
  from: string,
  port: number,
  ...payloads: (string | Buffer)[]
): Decoded[] {
  for (const payload of payloads) socket.deliver({ address: from, port }, Buffer.from(payload));
  lab.run();
  return lab.take().filter((d) => d.protocol === 17);
}

/** The guest answers `question`. */
function answer(
  question: Decoded,
  text: string | Buffer,
  change: Partial<Parameters<typeof udp>[0]> = {},
): Buffer {
  return udp(
    { src: question.dst, dst: question.src, srcPort: question.dstPort, dstPort: question.srcPort, ...change },
    Buffer.from(text),
  );
}

function sent(lab: Lab): string[] {
  return lab.kernel.datagrams.map((d) => `${d.address} ${d.port} ${d.payload.toString()}`);
}

describe('local UDP forwards', () => {
  test('clients are flows of their own, each with a fresh port; answers find their client', () => {
    const opened = open();
    const { lab } = opened;
    const [a] = arrive(opened, '203.0.113.5', 1111, 'a');
    const [b] = arrive(opened, '203.0.113.5', 2222, 'b');
    const [again] = arrive(opened, '203.0.113.5', 1111, 'again');
    assert.ok(a !== undefined && b !== undefined);
    assert.deepEqual([a.src, a.dst, a.dstPort], ['203.0.113.5', GUEST4, SERVICE]);
    assert.notEqual(a.srcPort, b.srcPort);
    assert.equal(again?.srcPort, a.srcPort);
    assert.ok(![1111, 2222].includes(a.srcPort));
    lab.send(answer(b, 'to b'), answer(a, 'to a'), answer(a, ''));
    assert.deepEqual(sent(lab), ['203.0.113.5 2222 to b', '203.0.113.5 1111 to a', '203.0.113.5 1111 ']);
    assert.equal(lab.gauge('udp.flows'), 2);
    lab.check();
  });

  test('two datagrams that were queued before there was a flow arrive in order (U-06)', () => {
    const opened = open();
    const got = arrive(opened, '203.0.113.5', 1111, 'one', '', 'three');
    assert.deepEqual(
      got.map((d) => d.payload.toString()),
      ['one', '', 'three'],
    );
    opened.lab.check();
  });

  for (const [client, target, seen] of [
    ['127.0.0.1', GUEST4, GATEWAY4],
    ['127.8.8.8', GUEST4, GATEWAY4],
    ['::1', GUEST6, GATEWAY6],
    [GUEST4, GUEST4, GATEWAY4],
    ['10.0.2.7', GUEST4, GATEWAY4],
    ['0.0.0.0', GUEST4, GATEWAY4],
    ['169.254.1.1', GUEST4, GATEWAY4],
    ['fe80::1', GUEST6, GATEWAY6],
    ['fd00::7', GUEST6, GATEWAY6],
    ['203.0.113.5', GUEST4, '203.0.113.5'],
    ['192.168.1.100', GUEST4, '192.168.1.100'],
    ['2001:db8:1::9', GUEST6, '2001:db8:1::9'],
    ['203.0.113.5', GUEST6, GATEWAY6],
    ['2001:db8:1::9', GUEST4, GATEWAY4],
  ] as const) {
    test(`a client from ${client} is ${seen} to ${target} (A-09)`, () => {
      const listen = { kind: 'ip' as const, address: client.includes(':') ? '::' : '0.0.0.0', port: PORT };
      const opened = open({ listen, target: { address: target, port: SERVICE } });
      const [question] = arrive(opened, client, 1111, 'x');
      assert.equal(question?.src, seen);
      opened.lab.check();
    });
  }

  test('an answer has all four ends right; another is dropped and counted (U-05)', () => {
    const opened = open();
    const { lab } = opened;
    const [question] = arrive(opened, '127.0.0.1', 1111, 'x');
    assert.ok(question !== undefined);
    const drops = lab.delta(() => {
      assert.deepEqual(lab.send(answer(question, 'evil', { srcPort: SERVICE + 1 })), []);
      assert.deepEqual(lab.send(answer(question, 'evil', { src: '10.0.2.101' })), []);
    });
    assert.equal(drops['drop.udp.peer'], 2);
    assert.deepEqual(sent(lab), []);
    lab.check();
  });

  test('the answer of a client that is shown is no matter of the firewall, other datagrams to it are', () => {
    const opened = open();
    const { lab } = opened;
    const [question] = arrive(opened, '203.0.113.5', 1111, 'x');
    assert.ok(question !== undefined);
    lab.send(answer(question, 'answer'));
    const drops = lab.delta(() => lab.send(answer(question, 'evil', { srcPort: SERVICE + 1 })));
    assert.equal(drops['drop.policy.deny'], 1);
    assert.deepEqual(sent(lab), ['203.0.113.5 1111 answer']);
    lab.check();
  });

  test('the guest refuses: the flow ends, and its next datagram makes a new one', () => {
    const opened = open();
    const { lab, events } = opened;
    const [question] = arrive(opened, '127.0.0.1', 1111, 'x');
    assert.ok(question !== undefined);
    const quote = (srcPort: number): Buffer => {
      const datagram = udpDatagram(
        { src: GATEWAY4, dst: GUEST4, srcPort, dstPort: SERVICE },
        Buffer.from('x'),
      );
      return ipv4({ src: GATEWAY4, dst: GUEST4, protocol: 17 }, datagram);
    };
    // One that quotes nothing of ours, or comes from somebody else, is ignored (C-03).
    lab.send(icmp({ src: '10.0.2.101', dst: GATEWAY4, type: 3, code: 3 }, quote(question.srcPort)));
    lab.send(icmp({ src: GUEST4, dst: GATEWAY4, type: 3, code: 3 }, quote(question.srcPort - 1)));
    assert.equal(lab.gauge('udp.flows'), 1);
    lab.send(icmp({ src: GUEST4, dst: GATEWAY4, type: 3, code: 3 }, quote(question.srcPort)));
    assert.equal(lab.gauge('udp.flows'), 0);
    const { event, kind, status } = events.at(-1) as FlowEvent;
    assert.deepEqual([event, kind], ['close', 'local']);
    assert.deepEqual(status, { leftRead: -1, leftWrite: 0, rightRead: 111, rightWrite: 0, first: 2 });
    const [anew] = arrive(opened, '127.0.0.1', 1111, 'y');
    assert.notEqual(anew?.srcPort, question.srcPort);
    lab.check();
  });

  test('traffic either way keeps a flow; 125 s without end it', () => {
    const opened = open();
    const { lab } = opened;
    const [question] = arrive(opened, '127.0.0.1', 1111, 'x');
    assert.ok(question !== undefined);
    lab.advance(IDLE_MS - 1);
    lab.send(answer(question, 'late'));
    lab.advance(IDLE_MS - 1);
    arrive(opened, '127.0.0.1', 1111, 'x');
    lab.advance(IDLE_MS - 1);
    assert.equal(lab.gauge('udp.flows'), 1);
    lab.advance(1);
    assert.equal(lab.gauge('udp.flows'), 0);
    lab.check();
  });

  test('the least recently used client gives way (U-04), and clients cost no descriptor', () => {
    const opened = open({}, { limits: { udpMaxFlows: 100 } });
    const { lab } = opened;
    const { used } = lab.services.descriptors;
    const ports = new Set<number>();
    for (let port = 1; port <= 1000; port++) {
      for (const d of arrive(opened, '127.0.0.1', port, 'x')) ports.add(d.srcPort);
    }
    assert.equal(lab.gauge('udp.flows'), 100);
    assert.equal(lab.counter('udp.evicted'), 900);
    assert.equal(lab.services.descriptors.used, used);
    assert.ok(ports.size > 950, 'ports are fresh');
    lab.check();
  });

  test('rpc: one answer, then nothing', () => {
    const opened = open({ rpc: true });
    const { lab, events } = opened;
    const [question] = arrive(opened, '127.0.0.1', 1111, 'x');
    assert.ok(question !== undefined);
    lab.send(answer(question, 'first'), answer(question, 'again'));
    assert.deepEqual(sent(lab), ['127.0.0.1 1111 first']);
    assert.deepEqual(
      events.map((e) => e.event),
      ['open', 'close'],
    );
    assert.equal(lab.gauge('udp.flows'), 0);
    lab.check();
  });

  test('removal ends the flows and frees the place; the place can be taken again', () => {
    const opened = open();
    const { lab, socket } = opened;
    arrive(opened, '127.0.0.1', 1111, 'x');
    assert.equal(lab.guest.removeForward(1), true);
    assert.equal(lab.guest.removeForward(1), false);
    assert.equal(socket.closed, true);
    assert.equal(lab.gauge('udp.flows'), 0);
    lab.check();
  });

  test('a flow is listed with its four ends and its bytes, and can be cut', () => {
    const opened = open();
    const { lab, events } = opened;
    const [question] = arrive(opened, '203.0.113.5', 1111, 'four');
    assert.ok(question !== undefined);
    lab.send(answer(question, 'seven !'));
    const flows: FlowInfo[] = [];
    lab.guest.listFlows(flows);
    const [flow] = flows;
    assert.ok(flow !== undefined && flows.length === 1);
    assert.deepEqual(
      { ...flow, flow: 0 },
      {
        flow: 0,
        left: { address: '203.0.113.5', port: 1111 },
        leftLocal: { address: '127.0.0.1', port: PORT },
        right: { address: GUEST4, port: SERVICE },
        rightLocal: { address: '203.0.113.5', port: question.srcPort },
        protocol: 'udp',
        kind: 'local',
        forward: 1,
        state: 'OPEN',
        ageMs: 0,
        bytesIn: 4,
        bytesOut: 7,
      },
    );
    assert.equal(lab.guest.closeFlow(flow.flow), true);
    assert.equal(lab.guest.closeFlow(flow.flow), false);
    assert.equal(events.at(-1)?.event, 'close');
    lab.check();
  });
});
