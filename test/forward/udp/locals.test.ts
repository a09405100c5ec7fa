/** Local UDP forwards, packet by packet, above the fake kernel. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { LocalForwardSpec } from '../../../src/config.ts';
import type { FlowEvent, FlowInfo } from '../../../src/forward/flow/info.ts';
import { profiles } from '../../../src/profiles.ts';
import { localForward } from '../../support/forward-specs.ts';
import type { DatagramFile } from '../../support/lab/fake-kernel.ts';
import { Lab, type LabOptions } from '../../support/lab/lab.ts';
import {
  arp,
  type Decoded,
  GATEWAY4,
  GATEWAY6,
  GUEST_MAC,
  GUEST4,
  GUEST6,
  icmp,
  ipBytes,
  ipv4,
  pattern,
  udp,
  udpDatagram,
} from '../../support/lab/packets.ts';

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
  const behavior = { ...profiles.tslirp, flowEvents: true };
  const lab = new Lab({ guest: { behavior }, ...options });
  // The clients are who may be answered.
  lab.mayReach = () => true;
  lab.guest.flows.forwards.add(
    1,
    localForward({
      protocol: 'udp',
      listen: { kind: 'ip', address: '127.0.0.1', port: PORT },
      target: { address: GUEST4, port: SERVICE },
      ...spec,
    }),
  );
  return { lab, socket: lab.kernel.boundDatagrams.at(-1) as DatagramFile, events: lab.flowEvents };
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

  for (const target of ['192.168.0.1', 'fd77::1']) {
    test(`review O-9: ${target}, which is not on the link, is where the guest is, and answers from there`, () => {
      const opened = open({ target: { address: target, port: SERVICE } });
      const { lab } = opened;
      const client = target.includes(':') ? '2001:db8::5' : '203.0.113.5';
      opened.socket.deliver({ address: client, port: 1111 }, Buffer.from('too early'));
      lab.run();
      const asked = lab.take().filter((d) => d.etherType === 0x0806);
      assert.ok(asked.some((d) => d.raw.subarray(38, 42).join('.') === GUEST4));
      lab.inject(arp({ op: 2 }));
      const [question] = arrive(opened, client, 1111, 'question');
      assert.ok(question !== undefined);
      assert.deepEqual([question.dst, question.dstMac], [target, GUEST_MAC]);
      lab.send(answer(question, 'answer'));
      assert.deepEqual(sent(lab), [`${client} 1111 answer`]);
      lab.check();
    });
  }

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

  test('review OR-25: strangers under many addresses do not put out clients that are there', () => {
    const opened = open({}, { limits: { udpMaxFlows: 100 } });
    const { lab } = opened;
    const clients = Array.from({ length: 50 }, (_, i) => 60_000 + i);
    const shown = new Map<number, Decoded>();
    for (const port of clients) {
      const [question] = arrive(opened, '203.0.113.5', port, 'hello') as [Decoded];
      lab.send(answer(question, 'hello'));
      arrive(opened, '203.0.113.5', port, 'go on');
      shown.set(port, question);
    }
    // A guest that answers everybody.
    for (let i = 0; i < 1000; i++)
      for (const d of arrive(opened, `192.0.2.${i % 200}`, 1000 + i, 'x')) lab.send(answer(d, 'y'));
    lab.kernel.forget();
    for (const port of clients) lab.send(answer(shown.get(port) as Decoded, 'still there'));
    assert.equal(lab.kernel.datagrams.filter((d) => d.payload.toString() === 'still there').length, 50);
    assert.ok(arrive(opened, '203.0.113.9', 5, 'new').length === 1, 'and newcomers are let in');
    lab.check({ heapMiB: 8 });
  });

  test('review OR-25: where all clients are there, a few a second give way', () => {
    const opened = open({}, { limits: { udpMaxFlows: 50 } });
    const { lab } = opened;
    let served = 0;
    for (let port = 1; port <= 500; port++) {
      const [question] = arrive(opened, '203.0.113.5', port, 'hello');
      if (question === undefined) continue;
      served++;
      lab.send(answer(question, 'hello'));
      arrive(opened, '203.0.113.5', port, 'go on');
    }
    assert.equal(served, 50 + 32);
    assert.equal(lab.counter('udp.evicted'), 32);
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
    assert.equal(lab.guest.flows.forwards.remove(1), true);
    assert.equal(lab.guest.flows.forwards.remove(1), false);
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
    lab.listFlows(flows);
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
    assert.equal(lab.guest.flows.cut(flow.flow), true);
    assert.equal(lab.guest.flows.cut(flow.flow), false);
    assert.equal(events.at(-1)?.event, 'close');
    lab.check();
  });
});

describe('a listener on all addresses', () => {
  for (const [listen, target, one, two, client] of [
    ['0.0.0.0', GUEST4, '192.0.2.1', '127.0.0.1', '203.0.113.5'],
    ['::', GUEST6, '2001:db8:9::1', '::1', '2001:db8:1::9'],
  ] as const) {
    test(`${listen}: who contacts two of them is two clients, each answered from the one it contacted`, () => {
      const opened = open({
        listen: { kind: 'ip', address: listen, port: PORT },
        target: { address: target, port: 0 },
      });
      const { lab, socket } = opened;
      const from = { address: client, port: 1111 };
      socket.deliver(from, Buffer.from('a'), one);
      socket.deliver(from, Buffer.from('b'), two);
      socket.deliver(from, Buffer.from('c'), one);
      lab.run();
      const got = lab.take().filter((d) => d.protocol === 17);
      const [a, b, c] = got as [Decoded, Decoded, Decoded];
      // Target port 0: the port contacted.
      assert.deepEqual(
        got.map((d) => [d.dstPort, d.payload.toString()]),
        ['a', 'b', 'c'].map((text) => [PORT, text]),
      );
      assert.equal(c.srcPort, a.srcPort);
      assert.notEqual(b.srcPort, a.srcPort);
      lab.send(answer(a, 'to a'), answer(b, 'to b'));
      assert.deepEqual(
        lab.kernel.datagrams.map((d) => [d.source, d.payload.toString()]),
        [
          [one, 'to a'],
          [two, 'to b'],
        ],
      );
      const flows: FlowInfo[] = [];
      lab.listFlows(flows);
      assert.deepEqual(
        flows.map((f) => f.leftLocal),
        [one, two].map((address) => ({ address, port: PORT })),
      );
      lab.check();
    });
  }
});

describe('a listener on a unix socket', () => {
  const path = '/run/tslirp-test/socket';
  const unix = { kind: 'unix' as const, path };

  test('answers clients that have a name; one that has none is heard and cannot be answered', () => {
    const opened = open({ listen: unix });
    const { lab, events } = opened;
    const [named] = arrive(opened, 'unix:/run/client', 0, 'x');
    const [other] = arrive(opened, 'unix:/run/clients', 0, 'x');
    const [nameless] = arrive(opened, 'unix:', 0, 'y');
    const [again] = arrive(opened, 'unix:', 0, 'z');
    assert.ok(named !== undefined && other !== undefined && nameless !== undefined);
    assert.deepEqual([named.src, nameless.src], [GATEWAY4, GATEWAY4]);
    assert.equal(again?.srcPort, nameless.srcPort);
    lab.send(answer(named, 'answer'), answer(other, 'other'));
    const drops = lab.delta(() => lab.send(answer(nameless, 'to nobody')));
    assert.equal(drops['drop.udp.peer'], 1);
    assert.deepEqual(sent(lab), ['unix:/run/client 0 answer', 'unix:/run/clients 0 other']);
    assert.deepEqual(
      events.map((e) => [e.left, e.leftLocal]),
      ['/run/client', '/run/clients', ''].map((address) => [
        { address, port: 0 },
        { address: path, port: 0 },
      ]),
    );
    lab.check();
  });

  test('takes its file along when it is removed', () => {
    const directory = mkdtempSync(join(tmpdir(), 'tslirp-udp-'));
    try {
      const file = join(directory, 'socket');
      // The fake kernel makes none.
      writeFileSync(file, '');
      const { lab } = open({ listen: { kind: 'unix', path: file } });
      assert.equal(lab.guest.flows.forwards.remove(1), true);
      assert.equal(existsSync(file), false);
      lab.check();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('needs a port of the guest’s', () => {
    assert.throws(() => open({ listen: unix, target: { address: GUEST4, port: 0 } }), /has no port/);
  });
});

describe('with a header that names the client', () => {
  const spp = (client: string, proxyPort: number, magic = 0x56ec): Buffer => {
    const header = Buffer.alloc(38);
    header.writeUInt16BE(magic, 0);
    header.writeUInt16BE(0xffff, 12);
    ipBytes(client).copy(header, 14);
    header.writeUInt16BE(0xffff, 28);
    ipBytes('192.0.2.1').copy(header, 30);
    header.writeUInt16BE(4242, 34);
    header.writeUInt16BE(proxyPort, 36);
    return header;
  };
  const with_ = (header: Buffer, text: string): Buffer => Buffer.concat([header, Buffer.from(text)]);

  test('the guest sees that client and no header; answers carry the first one’s', () => {
    const opened = open({ proxyHeader: true, target: { address: GUEST4, port: 0 } });
    const { lab } = opened;
    const header = spp('203.0.113.7', 5353);
    const got = arrive(
      opened,
      '127.0.0.1',
      1111,
      with_(header, 'one'),
      'too short to have a header',
      with_(Buffer.alloc(38, 'x'), 'two'),
      header,
    );
    assert.deepEqual(
      got.map((d) => [d.src, d.dstPort, d.payload.toString()]),
      ['one', 'two', ''].map((text) => ['203.0.113.7', 5353, text]),
    );
    const [question] = got as [Decoded];
    lab.send(answer(question, 'three'), answer(question, 'fours'), answer(question, ''));
    assert.deepEqual(
      lab.kernel.datagrams.map((d) => d.payload),
      ['three', 'fours', ''].map((text) => with_(header, text)),
    );
    lab.check();
  });

  test('what does not begin with one opens nothing, is counted and told; the next one may be good', () => {
    const opened = open({ proxyHeader: true });
    const { lab, events } = opened;
    let got: Decoded[] = [];
    const drops = lab.delta(() => {
      got = arrive(
        opened,
        '127.0.0.1',
        1111,
        'short',
        spp('203.0.113.7', 1, 0x56ed),
        with_(spp('203.0.113.7', 1), 'x'),
      );
    });
    assert.equal(drops['drop.udp.malformed'], 2);
    assert.deepEqual(
      got.map((d) => d.payload.toString()),
      ['x'],
    );
    assert.deepEqual(
      events.map((e) => [e.event, e.reason]),
      [
        ['error', 'unexpected EOF'],
        ['error', 'spp: bad magic number'],
        ['open', ''],
      ],
    );
    assert.deepEqual(events[0]?.left, { address: '127.0.0.1', port: 1111 });
    lab.check();
  });
});

describe('under load', () => {
  test('more than a turn’s share arrives whole and in order', () => {
    const opened = open();
    const texts = Array.from({ length: 300 }, (_, i) => `${i}`);
    const got = arrive(opened, '127.0.0.1', 1111, ...texts);
    assert.deepEqual(
      got.map((d) => d.payload.toString()),
      texts,
    );
    opened.lab.check();
  });

  test('equal datagrams go to a device that takes them as one frame, up to the first that is different', () => {
    const opened = open({}, { device: { vnetHeader: true, checksumOffload: true, uso: true } });
    const { lab, socket } = opened;
    const from = { address: '127.0.0.1', port: 1111 };
    for (const size of [100, 100, 40, 100, 200, 0, 1472, 1473]) socket.deliver(from, pattern(size));
    lab.run();
    const frames = lab.device.fromProgram.splice(0);
    // Of the virtio header: gso_type (UDP_L4 = 5) and gso_size; and the length of the IP packet.
    const udpFrames = frames.filter((f) => f.readUInt16BE(22) === 0x0800 && f[10 + 14 + 9] === 17);
    assert.deepEqual(
      udpFrames.map((f) => [f[1], f.readUInt16LE(4), f.readUInt16BE(10 + 14 + 2)]),
      [
        [5, 100, 268],
        [0, 0, 128],
        [0, 0, 228],
        [0, 0, 28],
        [0, 0, 1500],
        // Too large for one packet: two fragments.
        [0, 0, 1500],
        [0, 0, 21],
      ],
    );
    assert.deepEqual(lab.errors, []);
  });

  test('an error of the socket in between loses nothing', () => {
    const opened = open();
    let failures = 3;
    opened.lab.kernel.fault = (name) => (name === 'recvmmsg' && failures-- > 0 ? -104 : undefined);
    const [got] = arrive(opened, '127.0.0.1', 1111, 'x');
    assert.equal(got?.payload.toString(), 'x');
    opened.lab.check();
  });

  test('a client for whom there is no port left is dropped and counted', () => {
    const opened = open();
    const { lab } = opened;
    lab.services.rng.u32 = () => 5;
    assert.equal(arrive(opened, '127.0.0.1', 1111, 'x').length, 1);
    const drops = lab.delta(() => assert.deepEqual(arrive(opened, '127.0.0.1', 2222, 'x', 'y'), []));
    assert.equal(drops['drop.udp.limit'], 2);
    assert.equal(lab.gauge('udp.flows'), 1);
  });
});

test('quotes of a guest that are too short, cut up or of something else end no flow (C-03)', () => {
  for (const [listen, target] of [
    ['127.0.0.1', GUEST4],
    ['::1', GUEST6],
  ] as const) {
    const opened = open({
      listen: { kind: 'ip', address: listen, port: PORT },
      target: { address: target, port: SERVICE },
    });
    const { lab, events } = opened;
    const [question] = arrive(opened, listen, 1111, 'x');
    assert.ok(question !== undefined);
    const { src, dst, srcPort } = question;
    const isV4 = target === GUEST4;
    const whole = udp({ src, dst, srcPort, dstPort: SERVICE }, Buffer.from('x'));
    const changed = (at: number, value: number): Buffer => {
      const copy = Buffer.from(whole);
      copy[at] = value;
      return copy;
    };
    const [type, code] = isV4 ? [3, 3] : [1, 4];
    const header = isV4 ? 20 : 40;
    const bad = [whole.subarray(0, 7), whole.subarray(0, header + 7), changed(isV4 ? 9 : 6, 6)];
    if (isV4) bad.push(changed(0, 0x44), changed(7, 1), changed(0, 0x4f));
    else
      bad.push(
        Buffer.concat([
          whole.subarray(0, 8),
          Buffer.from('00000000000000000000ffff01020304', 'hex'),
          whole.subarray(24),
        ]),
      );
    for (const quote of bad) lab.send(icmp({ src: target, dst: src, type, code }, quote));
    assert.equal(lab.gauge('udp.flows'), 1);
    lab.send(icmp({ src: target, dst: src, type, code: isV4 ? 0 : 0 }, whole));
    // Network unreachable, or no route: as a connected socket would be told.
    assert.equal(events.at(-1)?.status.rightRead, 101);
    const [anew] = arrive(opened, listen, 1111, 'x');
    assert.ok(anew !== undefined);
    const quote = udp({ src, dst, srcPort: anew.srcPort, dstPort: SERVICE }, Buffer.from('x'));
    lab.send(icmp({ src: target, dst: src, type, code: isV4 ? 1 : 3 }, quote));
    assert.equal(events.at(-1)?.status.rightRead, 113);
    assert.equal(lab.gauge('udp.flows'), 0);
    lab.check();
  }
});

test('a flow is cut by its number, and the others go on', () => {
  const opened = open();
  const { lab } = opened;
  for (const port of [1, 2, 3]) arrive(opened, '127.0.0.1', port, 'x');
  const flows: FlowInfo[] = [];
  lab.listFlows(flows);
  assert.equal(lab.guest.flows.cut(flows[1]?.flow ?? 0), true);
  flows.length = 0;
  lab.listFlows(flows);
  assert.deepEqual(
    flows.map((f) => f.left.port),
    [1, 3],
  );
  lab.check();
});

test('a place that cannot be listened on is refused in one line, and nothing is held', () => {
  const { lab } = open();
  const { descriptors } = lab.services;
  const before = { open: lab.kernel.open, used: descriptors.used };
  const refuse = (errno: number, spec: Partial<LocalForwardSpec>, ...words: string[]): void => {
    assert.throws(
      () =>
        lab.guest.flows.forwards.add(
          2,
          localForward({
            protocol: 'udp',
            listen: { kind: 'ip', address: '::1', port: PORT },
            dualStack: true,
            target: { address: GUEST4, port: SERVICE },
            ...spec,
          }),
        ),
      (error: { errno: number; message: string }) => {
        for (const word of words) assert.ok(error.message.includes(word), error.message);
        assert.ok(!error.message.includes('\n'));
        return error.errno === errno;
      },
    );
    lab.kernel.fault = null;
    assert.deepEqual({ open: lab.kernel.open, used: descriptors.used }, before);
  };
  for (const [call, errno] of [
    ['socket', 24],
    ['bind', 98],
    ['bind', 99],
    ['bind', 13],
    ['epoll_ctl', 12],
  ] as const) {
    lab.kernel.fault = (name) => (name === call ? -errno : undefined);
    refuse(errno, {}, 'udp://[::1]:8080');
    lab.kernel.fault = (name) => (name === call ? -errno : undefined);
    refuse(errno, { listen: { kind: 'unix', path: '/nowhere/socket' } }, 'unix:/nowhere/socket');
  }
  descriptors.limit = descriptors.used;
  refuse(24, {});
  descriptors.limit = 1000;
  const v4only = new Lab({ addresses: { ipv6: false } });
  assert.throws(
    () =>
      v4only.guest.flows.forwards.add(
        1,
        localForward({
          protocol: 'udp',
          listen: { kind: 'ip', address: '127.0.0.1', port: PORT },
          target: { address: GUEST6, port: SERVICE },
        }),
      ),
    /the guest has no IPv6/,
  );
});
