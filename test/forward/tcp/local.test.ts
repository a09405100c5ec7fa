/** Local TCP forwards against a guest that is the test itself, above a fake kernel. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { ForwardSpec } from '../../../src/config.ts';
import type { FlowInfo } from '../../../src/forward/flow/info.ts';
import { profiles } from '../../../src/profiles.ts';
import { localForward } from '../../support/forward-specs.ts';
import type { ListenFile, StreamFile } from '../../support/lab/fake-kernel.ts';
import { Lab, type LabOptions } from '../../support/lab/lab.ts';
import {
  ACK,
  arp,
  type Decoded,
  FIN,
  frame,
  GATEWAY4,
  GATEWAY6,
  GUEST_MAC,
  GUEST4,
  GUEST6,
  icmp,
  ndp,
  PSH,
  RST,
  SYN,
  type TcpFields,
  tcp,
  tcpOptions,
} from '../../support/lab/packets.ts';
import { seededRng } from '../../support/seeded-rng.ts';

const CLIENT = { address: '198.51.100.9', port: 5555 };
const OPTIONS = tcpOptions({ mss: 1460 });
const BROADCAST = 'ff:ff:ff:ff:ff:ff';

/** A lab with one forward, and a guest whose MAC address is known unless told otherwise. */
class Bench {
  readonly lab: Lab;
  readonly listener: ListenFile;

  constructor(options: LabOptions = {}, forward: ForwardSpec = localForward(), known = true) {
    this.lab = new Lab({ guest: { behavior: { ...profiles.tslirp, flowEvents: true } }, ...options });
    this.lab.guest.flows.forwards.add(1, forward);
    this.listener = this.lab.kernel.listeners[0] as ListenFile;
    if (known) this.lab.inject(arp({}));
  }

  /** A client connects: its socket in the program, and what the guest gets. */
  arrive(from = CLIENT, data: Buffer | string = ''): { client: StreamFile; out: Decoded[] } {
    const at = this.listener.accepted.length;
    this.listener.arrive(from, data);
    this.lab.run();
    return { client: this.listener.accepted[at] as StreamFile, out: this.lab.take() };
  }

  /** As `arrive`, with the SYN for the guest. */
  dial(from = CLIENT): { client: StreamFile; syn: Decoded } {
    const { client, out } = this.arrive(from);
    assert.equal(out.length, 1);
    const [syn] = out as [Decoded];
    assert.equal(syn.flags, SYN);
    return { client, syn };
  }

  /** The guest answers on the connection that `syn` opened: what comes back. */
  reply(syn: Decoded, f: TcpFields, payload: Buffer = Buffer.alloc(0)): Decoded[] {
    const ports = { src: syn.dst, dst: syn.src, srcPort: syn.dstPort, dstPort: syn.srcPort };
    return this.lab.send(tcp({ ...ports, seq: 7000, ack: (syn.seq + 1) >>> 0, flags: ACK, ...f }, payload));
  }

  open(from = CLIENT): { client: StreamFile; syn: Decoded } {
    const { client, syn } = this.dial(from);
    const [ack] = this.reply(syn, { flags: SYN | ACK, options: OPTIONS });
    assert.equal(ack?.flags, ACK);
    return { client, syn };
  }

  get flows(): FlowInfo[] {
    const flows: FlowInfo[] = [];
    this.lab.listFlows(flows);
    return flows;
  }

  check(): void {
    assert.deepEqual(this.lab.errors, []);
  }
}

const unreachable = (syn: Decoded, code: number, seq = syn.seq): Buffer => {
  const quoted = tcp({ src: syn.src, dst: syn.dst, srcPort: syn.srcPort, dstPort: syn.dstPort, seq });
  return icmp({ src: GUEST4, dst: syn.src, type: 3, code }, quoted.subarray(0, 28));
};

describe('opening', () => {
  test('review OR-20: the client of a published port that vanishes is noticed', () => {
    const { client } = new Bench().open();
    assert.equal(client.options.get('1:9'), 1, 'SO_KEEPALIVE');
  });

  test('review OP-15: a place whose address the host does not have yet is waited for, and said so', () => {
    const lab = new Lab();
    const options: string[] = [];
    lab.kernel.fault = (name, args) => {
      if (name === 'setsockopt') options.push(`${args[1]}:${args[2]}`);
      return name === 'bind' && !options.includes('0:15') ? -99 : undefined;
    };
    lab.guest.flows.forwards.add(
      1,
      localForward({ listen: { kind: 'ip', address: '203.0.113.7', port: 80 } }),
    );
    lab.kernel.fault = null;
    assert.match(
      lab.logs.map((l) => l.message).join(),
      /203\.0\.113\.7:80: the host does not have that address yet/,
    );
    lab.kernel.listeners[0]?.arrive(CLIENT);
    lab.run();
    assert.ok(lab.take().some((d) => d.flags === SYN));
  });

  test('asks for a guest that never spoke, and goes on as soon as it is known', () => {
    const bench = new Bench({}, localForward(), false);
    const { out } = bench.arrive();
    const [request, syn] = out as [Decoded, Decoded];
    assert.equal(request.etherType, 0x0806);
    assert.equal(request.dstMac, BROADCAST);
    assert.equal(request.raw.subarray(14 + 24, 14 + 28).join('.'), GUEST4);
    assert.equal(syn.flags, SYN);
    const [again] = bench.lab.inject(arp({ op: 2 })) as [Decoded];
    assert.equal(again.flags, SYN);
    assert.equal(again.dstMac, GUEST_MAC);
    assert.equal(again.seq, syn.seq);
    bench.check();
  });

  test('does the same over IPv6: a solicitation first, and an ICMPv6 unreachable is the end', () => {
    const bench = new Bench({}, localForward({ target: { address: GUEST6, port: 80 } }), false);
    const { client, out } = bench.arrive({ address: '2001:db8::5', port: 1 });
    const [solicitation, syn] = out as [Decoded, Decoded];
    assert.equal(solicitation.icmpType, 135);
    assert.equal(solicitation.dst, 'ff02::1:ff00:100');
    assert.equal(solicitation.dstMac, '33:33:ff:00:01:00');
    assert.equal(solicitation.ttl, 255);
    assert.equal(syn.src, '2001:db8::5');
    const target = Buffer.from('fd000000000000000000000000000100', 'hex');
    const advertisement = ndp(GUEST6, GATEWAY6, 136, 0x60000000, target);
    const [again] = bench.lab.send(advertisement) as [Decoded];
    assert.equal(again.flags, SYN);
    assert.equal(again.dstMac, GUEST_MAC);
    const quoted = tcp({ src: syn.src, dst: syn.dst, srcPort: syn.srcPort, dstPort: 80, seq: syn.seq });
    bench.lab.send(icmp({ src: GUEST6, dst: syn.src, type: 1, code: 4 }, quoted));
    assert.ok(client.closed && client.lingerReset);
    assert.equal(bench.lab.flowEvents[0]?.status.rightRead, 111);
    bench.check();
  });

  for (const target of ['192.168.0.1', 'fd77::1']) {
    const forward = localForward({ target: { address: target, port: 80 } });
    const client = { address: target.includes(':') ? '2001:db8::5' : '198.51.100.9', port: 1 };

    test(`review O-9: ${target}, which is not on the link, is where the guest is`, () => {
      const bench = new Bench({}, forward);
      const { syn } = bench.dial(client);
      assert.equal(syn.dst, target);
      assert.equal(syn.dstMac, GUEST_MAC);
      // The guest answers from there.
      const [ack] = bench.reply(syn, { flags: SYN | ACK, options: OPTIONS });
      assert.equal(ack?.flags, ACK);
      assert.equal(ack?.dstMac, GUEST_MAC);
      bench.check();
    });

    test(`review O-9: the guest is asked for at its own address before ${target} can be reached`, () => {
      const bench = new Bench({}, forward, false);
      const { out } = bench.arrive(client);
      const asked = out.filter((d) => d.etherType === 0x0806).map((d) => d.raw.subarray(38, 42).join('.'));
      assert.ok(asked.includes(GUEST4), `${asked}`);
      if (target.includes(':'))
        assert.ok(out.some((d) => d.dst === 'ff02::1:ff00:100' && d.icmpType === 135));
      const syn = out.at(-1) as Decoded;
      const [again] = bench.lab.inject(arp({ op: 2 })) as [Decoded];
      assert.equal(again.flags, SYN);
      assert.equal(again.seq, syn.seq);
      assert.equal(again.dstMac, GUEST_MAC);
      bench.check();
    });

    test(`review O-9: a guest that uses neither planned address is found for ${target} all the same`, () => {
      const bench = new Bench({}, forward, false);
      const mac = '52:54:00:77:77:77';
      bench.lab.inject(arp({ op: 2, senderMac: mac, senderIp: '10.0.2.77', targetIp: '10.0.2.77' }, mac));
      assert.equal(bench.dial(client).syn.dstMac, mac);
      bench.check();
    });
  }

  test('shows the client with a fresh port of its own for each connection (A-09)', () => {
    const bench = new Bench();
    const seen = new Set<number>();
    for (let i = 0; i < 200; i++) {
      const { syn } = bench.dial({ address: CLIENT.address, port: 5555 });
      assert.equal(syn.src, CLIENT.address);
      assert.equal(syn.dst, GUEST4);
      assert.equal(syn.dstPort, 80);
      seen.add(syn.srcPort);
    }
    assert.equal(seen.size, 200);
    assert.equal(seen.has(5555), false);
    bench.check();
  });

  test('shows the gateway for clients that the guest could not answer or would mistake (A-09)', () => {
    const bench = new Bench();
    const hidden = [
      '127.0.0.1',
      '127.9.9.9',
      GUEST4,
      '10.0.2.7',
      '0.0.0.0',
      '169.254.3.3',
      '0.1.2.3',
      '100.100.100.200',
      '2001:db8::5',
      'fe80::1',
    ];
    for (const address of hidden) assert.equal(bench.dial({ address, port: 1 }).syn.src, GATEWAY4, address);
    assert.equal(bench.dial({ address: '203.0.113.5', port: 1 }).syn.src, '203.0.113.5');
    bench.check();
  });

  test('refused by the guest resets the client, and says so', () => {
    const bench = new Bench();
    const { client, syn } = bench.dial();
    assert.deepEqual(bench.reply(syn, { flags: RST | ACK, seq: 0 }), []);
    assert.ok(client.closed && client.lingerReset);
    const [event] = bench.lab.flowEvents;
    assert.equal(event?.event, 'error');
    assert.deepEqual(event?.status, { leftRead: 0, leftWrite: 0, rightRead: 111, rightWrite: 0, first: 2 });
    assert.deepEqual(event?.left, CLIENT);
    assert.deepEqual(event?.leftLocal, { address: '127.0.0.1', port: 8080 });
    assert.deepEqual(event?.right, { address: GUEST4, port: 80 });
    assert.deepEqual(bench.flows, []);
    bench.check();
  });

  test('a RST that does not acknowledge our SYN is ignored', () => {
    const bench = new Bench();
    const { client, syn } = bench.dial();
    bench.reply(syn, { flags: RST | ACK, ack: (syn.seq + 2) >>> 0 });
    bench.reply(syn, { flags: RST });
    assert.equal(client.closed, false);
    bench.check();
  });

  for (const [code, errno] of [
    [0, 101],
    [1, 113],
    [3, 111],
    [13, 13],
  ] as const) {
    test(`an ICMP unreachable of code ${code} about our SYN resets the client (errno ${errno})`, () => {
      const bench = new Bench();
      const { client, syn } = bench.dial();
      // Not about this SYN (RFC 5927): nothing happens.
      bench.lab.expectDrop('icmp.ignored', 'another number', frame(unreachable(syn, code, syn.seq + 1)));
      assert.equal(client.closed, false);
      bench.lab.send(unreachable(syn, code));
      assert.ok(client.closed && client.lingerReset);
      assert.equal(bench.lab.flowEvents[0]?.status.rightRead, errno);
      bench.check();
    });
  }

  test('an ICMP unreachable about an open connection is ignored', () => {
    const bench = new Bench();
    const { client, syn } = bench.open();
    bench.dial();
    bench.lab.expectDrop('icmp.ignored', 'established', frame(unreachable(syn, 3)));
    assert.equal(client.closed, false);
    bench.check();
  });

  test('of a silent guest is tried again with backoff, and given up after 60 s (RQ-11)', () => {
    const bench = new Bench();
    const { client } = bench.dial();
    const times: number[] = [];
    for (let ms = 0; ms < 59_900; ms += 100) {
      for (const d of bench.lab.advance(100)) if (d.flags === SYN) times.push((ms + 100) / 1000);
    }
    assert.deepEqual(times, [1, 3, 7, 15, 31]);
    assert.equal(client.closed, false);
    const out = bench.lab.advance(200);
    assert.deepEqual(
      out.map((d) => d.flags),
      [RST],
    );
    assert.ok(client.closed && client.lingerReset);
    assert.equal(bench.lab.flowEvents[0]?.status.rightRead, 110);
    bench.check();
  });

  test('is cancelled when the client resets, and goes on when it only ends', () => {
    const bench = new Bench();
    const first = bench.dial();
    first.client.reset();
    bench.lab.run();
    assert.deepEqual(
      bench.lab.take().map((d) => d.flags),
      [RST],
    );
    assert.ok(first.client.closed);
    const second = bench.dial();
    second.client.send('last words');
    second.client.end();
    bench.lab.run();
    assert.deepEqual(bench.lab.take(), []);
    const out = bench.reply(second.syn, { flags: SYN | ACK, options: OPTIONS });
    assert.equal(Buffer.concat(out.map((d) => d.payload)).toString(), 'last words');
    assert.ok(out.some((d) => (d.flags & FIN) !== 0));
    bench.check();
  });

  test('crosses with a SYN of the guest on the same tuple, and both are one connection (RQ-06)', () => {
    const bench = new Bench();
    const { client, syn } = bench.dial();
    const [answer] = bench.reply(syn, { flags: SYN, ack: 0, seq: 6999, options: OPTIONS }) as [Decoded];
    assert.equal(answer.flags, SYN | ACK);
    assert.equal(answer.seq, syn.seq);
    assert.equal(answer.ack, 7000);
    // The guest's side of it, RFC 9293 figure 7.
    const [ack] = bench.reply(syn, { flags: SYN | ACK, seq: 6999, options: OPTIONS }) as [Decoded];
    assert.equal(ack.flags, ACK);
    assert.equal(ack.seq, (syn.seq + 1) >>> 0);
    client.send('hello');
    bench.lab.run();
    assert.equal(bench.lab.take()[0]?.payload.toString(), 'hello');
    bench.reply(syn, { flags: ACK | PSH, seq: 7000 }, Buffer.from('hi'));
    assert.equal(client.received.toString(), 'hi');
    assert.equal(bench.lab.flowEvents.length, 1);
    bench.check();
  });
});

describe('an open flow', () => {
  test('is told of with its four ends, when it opens and when it ends', () => {
    const bench = new Bench();
    const { client, syn } = bench.open();
    const ends = {
      left: CLIENT,
      leftLocal: { address: '127.0.0.1', port: 8080 },
      right: { address: GUEST4, port: 80 },
      rightLocal: { address: CLIENT.address, port: syn.srcPort },
    };
    const { flow, status, ...told } = bench.lab.flowEvents[0]!;
    assert.deepEqual(told, {
      ...{ type: 'flow', event: 'open', kind: 'local', forward: 1, protocol: 'tcp', reason: '' },
      ...{ ageMs: 0, bytesOut: 0, bytesIn: 0, failure: '', repeated: 0 },
      ...ends,
    });
    assert.equal(status.first, -1);
    client.send('12345');
    bench.lab.run();
    bench.reply(syn, { flags: ACK, seq: 7001, ack: (syn.seq + 6) >>> 0 }, Buffer.from('abc'));
    const [info] = bench.flows as [FlowInfo];
    assert.equal(info.flow, flow);
    assert.equal(info.state, 'ESTABLISHED');
    assert.equal(info.bytesIn, 5);
    assert.equal(info.bytesOut, 3);
    assert.deepEqual(info.left, CLIENT);
    // The client ends first, then the guest.
    client.end();
    bench.lab.run();
    bench.reply(syn, { flags: FIN | ACK, seq: 7004, ack: (syn.seq + 7) >>> 0 });
    const last = bench.lab.flowEvents.at(-1)!;
    assert.equal(last.event, 'close');
    assert.equal(last.flow, flow);
    assert.deepEqual(last.status, { leftRead: -1, leftWrite: 0, rightRead: -1, rightWrite: 0, first: 0 });
    assert.deepEqual(last.right, ends.right);
    assert.deepEqual([last.bytesOut, last.bytesIn, last.failure], [3, 5, '']);
    assert.deepEqual(last.left, ends.left);
    assert.deepEqual(bench.flows, []);
    bench.check();
  });

  test('that the guest resets is reset on the host, and told as that', () => {
    const bench = new Bench();
    const { client, syn } = bench.open();
    bench.reply(syn, { flags: RST | ACK, seq: 7001 });
    assert.ok(client.closed && client.lingerReset);
    const last = bench.lab.flowEvents.at(-1)!;
    assert.deepEqual([last.event, last.status.rightRead, last.status.first], ['close', 104, 2]);
    bench.check();
  });

  test('is cut on both sides by its number, and by no other', () => {
    const bench = new Bench();
    const { client } = bench.open();
    const [info] = bench.flows as [FlowInfo];
    assert.equal(bench.lab.guest.flows.cut(info.flow + 1), false);
    assert.equal(bench.lab.guest.flows.cut(info.flow), true);
    assert.equal((bench.lab.take()[0]?.flags ?? 0) & RST, RST);
    assert.ok(client.closed && client.lingerReset);
    assert.equal(bench.lab.guest.flows.cut(info.flow), false);
    bench.check();
  });

  test('goes on when its forward is removed; the port is closed at once (P-04)', () => {
    const bench = new Bench();
    const { client, syn } = bench.open();
    const waiting = bench.dial();
    assert.equal(bench.lab.guest.flows.forwards.remove(1), true);
    assert.equal(bench.lab.guest.flows.forwards.remove(1), false);
    assert.ok(bench.listener.closed || !bench.lab.kernel.files.has(bench.listener.fd));
    client.send('still here');
    bench.lab.run();
    assert.equal(bench.lab.take()[0]?.payload.toString(), 'still here');
    bench.reply(waiting.syn, { flags: SYN | ACK, options: OPTIONS });
    waiting.client.send('and I');
    bench.lab.run();
    assert.equal(bench.lab.take().at(-1)?.payload.toString(), 'and I');
    assert.equal(bench.flows.length, 2);
    assert.equal(syn.flags, SYN);
    bench.check();
  });
});

describe('accepting', () => {
  test('stops when the guest owes too many answers, and goes on with each it gives', () => {
    const bench = new Bench({ limits: { tcpMaxPendingDialsPerDestination: 10 } });
    for (let i = 0; i < 25; i++) bench.listener.arrive(CLIENT);
    bench.lab.run();
    const syns = bench.lab.take();
    assert.equal(bench.listener.accepted.length, 10);
    bench.reply(syns[0]!, { flags: RST | ACK, seq: 0 });
    bench.reply(syns[1]!, { flags: SYN | ACK, options: OPTIONS });
    assert.equal(bench.listener.accepted.length, 12);
    bench.listener.accepted[5]?.reset();
    bench.lab.run();
    assert.equal(bench.listener.accepted.length, 13);
    bench.check();
  });

  test('without descriptors pauses, does not spin, and goes on when there are some (P-05)', () => {
    const bench = new Bench();
    const { kernel } = bench.lab;
    kernel.maxOpen = kernel.open;
    bench.listener.arrive(CLIENT);
    bench.lab.run();
    const before = kernel.calls.get('accept4') ?? 0;
    bench.lab.advance(1000);
    const tries = (kernel.calls.get('accept4') ?? 0) - before;
    assert.ok(tries >= 5 && tries <= 25, `${tries} tries in a second`);
    kernel.maxOpen = 100_000;
    const syns = bench.lab.advance(100).filter((d) => d.flags === SYN);
    assert.equal(syns.length, 1);
    const idle = kernel.calls.get('epoll_wait') ?? 0;
    bench.lab.run();
    assert.ok((kernel.calls.get('epoll_wait') ?? 0) - idle <= 2);
    bench.check();
  });

  test('leaves descriptors for control: the guests’ budget counts', () => {
    const bench = new Bench({ descriptors: 4 });
    for (let i = 0; i < 8; i++) bench.listener.arrive(CLIENT);
    bench.lab.run();
    // The listener is one of the four.
    assert.equal(bench.listener.accepted.length, 3);
    bench.check();
  });

  test('takes a long queue in turns, and all of it', () => {
    const bench = new Bench();
    for (let i = 0; i < 100; i++) bench.listener.arrive(CLIENT);
    bench.lab.run();
    assert.equal(bench.listener.accepted.length, 100);
    assert.equal(bench.lab.take().filter((d) => d.flags === SYN).length, 100);
    bench.check();
  });

  test('a client for whom there is no port left is reset and counted', () => {
    const bench = new Bench();
    const { lab } = bench;
    lab.services.rng.u32 = () => 5;
    bench.dial();
    const drops = lab.delta(() => {
      const { client, out } = bench.arrive();
      assert.deepEqual(out, []);
      assert.ok(client.closed && client.lingerReset);
    });
    assert.equal(drops['drop.tcp.limit'], 1);
    bench.check();
  });

  test('a client that cannot be watched is closed, and nothing is held', () => {
    for (const proxyHeader of [false, true]) {
      const bench = new Bench({}, localForward({ proxyHeader }));
      const { open } = bench.lab.kernel;
      const { used } = bench.lab.services.descriptors;
      bench.lab.kernel.fault = (name) => (name === 'epoll_ctl' ? -12 : undefined);
      const { client, out } = bench.arrive();
      assert.deepEqual(out, []);
      assert.equal(client.closed, true);
      assert.deepEqual([bench.lab.kernel.open, bench.lab.services.descriptors.used], [open, used]);
      bench.lab.kernel.fault = null;
      if (!proxyHeader) assert.equal(bench.dial().syn.flags, SYN);
      bench.check();
    }
  });

  test('a listener that is broken is a fault of ours, told and not tried for ever', () => {
    const bench = new Bench();
    const { lab } = bench;
    lab.kernel.fault = (name) => (name === 'accept4' ? -22 : undefined);
    bench.arrive();
    assert.match(String(lab.errors[0]), /accept: errno 22/);
    const before = lab.kernel.calls.get('accept4') ?? 0;
    lab.advance(1000);
    assert.ok((lab.kernel.calls.get('accept4') ?? 0) - before <= 1);
  });

  test('passes over clients that are gone already', () => {
    const bench = new Bench();
    let failures = 3;
    bench.lab.kernel.fault = (name) => (name === 'accept4' && failures-- > 0 ? -103 : undefined);
    assert.equal(bench.dial().syn.flags, SYN);
    bench.check();
  });
});

describe('with a PROXY header', () => {
  const proxied = localForward({ proxyHeader: true });
  const header = 'PROXY TCP4 203.0.113.7 4.3.2.1 4242 1\r\n';

  test('nothing is said to the guest before it is complete; what follows is the stream’s', () => {
    const bench = new Bench({}, proxied);
    const { client, out } = bench.arrive(CLIENT, header.slice(0, 20));
    assert.deepEqual(out, []);
    client.send(header.slice(20, -1));
    bench.lab.run();
    assert.deepEqual(bench.lab.take(), []);
    client.send('\nGET');
    bench.lab.run();
    const [syn] = bench.lab.take() as [Decoded];
    assert.equal(syn.src, '203.0.113.7');
    const answers = bench.reply(syn, { flags: SYN | ACK, options: OPTIONS });
    assert.equal(Buffer.concat(answers.map((d) => d.payload)).toString(), 'GET');
    assert.deepEqual(
      bench.lab.flowEvents.map((e) => e.event),
      ['open'],
    );
    bench.check();
  });

  for (const [what, data, end, reason] of [
    ['another protocol', 'GET / HTTP/1.1\r\n', false, 'spp: bad magic number'],
    ['a port that is none', 'PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n', false, 'spp: bad magic number'],
    ['an end in the middle', 'PROXY TCP4 1.2', true, 'unexpected EOF'],
    ['no end of the line', `PROXY TCP4 ${'1'.repeat(200)}`, false, 'unexpected EOF'],
    ['nothing but an end', '', true, 'unexpected EOF'],
  ] as const) {
    test(`${what} resets the client and is told: ${reason}`, () => {
      const bench = new Bench({}, proxied);
      const { client } = bench.arrive(CLIENT, data);
      if (end) client.end();
      bench.lab.run();
      assert.deepEqual(bench.lab.take(), []);
      assert.ok(client.closed && client.lingerReset);
      const [event] = bench.lab.flowEvents;
      assert.deepEqual([event?.event, event?.reason, event?.left], ['error', reason, CLIENT]);
      bench.check();
    });
  }

  for (const [what, sent] of [
    ['version 1', Buffer.from('PROXY UNKNOWN\r\n')],
    ['version 2', Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex')],
  ] as const) {
    test(`${what} without addresses is the proxy's own connection`, () => {
      const bench = new Bench({}, localForward({ proxyHeader: true, target: { address: GUEST4, port: 0 } }));
      const { out } = bench.arrive(CLIENT, sent);
      const [syn] = out as [Decoded];
      // The client that the kernel knows, and the port that it contacted.
      assert.deepEqual([syn.src, syn.dstPort], [CLIENT.address, 8080]);
      bench.check();
    });
  }

  test('target port 0 is the port that the proxy was asked for', () => {
    const bench = new Bench({}, localForward({ proxyHeader: true, target: { address: GUEST4, port: 0 } }));
    const { out } = bench.arrive(CLIENT, 'PROXY TCP4 203.0.113.7 4.3.2.1 4242 8443\r\n');
    assert.equal(out[0]?.dstPort, 8443);
    bench.check();
  });

  test('a client that resets before it is complete is told with its errno', () => {
    const bench = new Bench({}, proxied);
    const { client } = bench.arrive(CLIENT, 'PROXY');
    client.reset();
    bench.lab.run();
    assert.equal(client.closed, true);
    const [event] = bench.lab.flowEvents;
    assert.deepEqual([event?.event, event?.status.leftRead], ['error', 104]);
    assert.equal(bench.lab.services.descriptors.used, 1);
    bench.check();
  });

  test('clients without one hold up the others only up to a bound, and each that ends makes room', () => {
    const bench = new Bench({}, proxied);
    for (let i = 0; i < 1030; i++) bench.listener.arrive(CLIENT, 'P');
    bench.lab.run();
    assert.equal(bench.listener.accepted.length, 1024);
    for (let i = 0; i < 3; i++) bench.listener.accepted[i]?.end();
    bench.lab.run();
    assert.equal(bench.listener.accepted.length, 1027);
    bench.check();
  });

  test('5 s without a complete one are the end, whatever drips in meanwhile (P-06)', () => {
    const bench = new Bench({}, proxied);
    const { client } = bench.arrive(CLIENT, 'P');
    for (const byte of 'ROXY') {
      bench.lab.advance(1000);
      client.send(byte);
      bench.lab.run();
    }
    assert.equal(client.closed, false);
    bench.lab.advance(1000);
    assert.ok(client.closed && client.lingerReset);
    assert.equal(bench.lab.services.descriptors.used, 1);
    bench.check();
  });
});

test('a forward whose port is taken, whose target is nobody’s, or that is not allowed fails whole', () => {
  const { lab } = new Bench();
  const before = lab.services.descriptors.used;
  const refuse = (forward: ForwardSpec, errno: number): void => {
    assert.throws(
      () => lab.guest.flows.forwards.add(9, forward),
      (error: { errno: number; message: string }) => error.errno === errno && !error.message.includes('\n'),
    );
  };
  for (const address of ['127.0.0.1', '0.0.0.0', '224.0.0.1', GATEWAY4, '::1', 'text']) {
    refuse(localForward({ target: { address, port: 80 } }), 22);
  }
  const open = lab.kernel.open;
  for (const [call, errno] of [
    ['socket', 24],
    ['bind', 98],
    ['bind', 13],
    ['listen', 98],
    ['epoll_ctl', 12],
  ] as const) {
    lab.kernel.fault = (name) => (name === call ? -errno : undefined);
    refuse(localForward(), errno);
    lab.kernel.fault = null;
    assert.equal(lab.kernel.open, open, call);
  }
  assert.equal(lab.services.descriptors.used, before);
  assert.equal(lab.guest.flows.forwards.remove(9), false);
});

test('whatever a guest answers, every client and every descriptor comes to an end (T-22)', () => {
  const bench = new Bench({ limits: { tcpMaxPendingDialsPerDestination: 4096 } });
  const { lab } = bench;
  const random = seededRng(7);
  const below = (n: number): number => random.u32() % n;
  const flags = [SYN, SYN | ACK, ACK, RST, RST | ACK, FIN | ACK, ACK | PSH, SYN | FIN, 0, 0xff];
  for (let round = 0; round < 400; round++) {
    const { client, syn } = bench.dial({ address: '203.0.113.5', port: 1 + below(60_000) });
    for (let i = 0; i < 12; i++) {
      const near = (n: number): number => (n + (below(4) === 0 ? below(2 ** 32) : below(3) - 1)) >>> 0;
      const payload = Buffer.alloc(below(3) === 0 ? below(1400) : 0, 1);
      const f = {
        flags: flags[below(flags.length)] ?? 0,
        seq: near(7000),
        ack: near(syn.seq + 1),
        options: OPTIONS,
      };
      bench.reply(syn, f, payload);
      if (below(6) === 0) lab.send(unreachable(syn, below(16), near(syn.seq)));
      if (below(8) === 0) client.send('x'.repeat(below(5000)));
      if (below(10) === 0) client.end();
      if (below(20) === 0) client.reset();
      lab.advance(below(500));
    }
  }
  // Those that are open now are ended by their clients; the rest ends by itself.
  for (const client of bench.listener.accepted) if (!client.closed) client.reset();
  lab.run();
  lab.advance(200_000);
  assert.deepEqual(bench.flows, []);
  assert.ok(bench.listener.accepted.every((client) => client.closed));
  assert.equal(lab.services.descriptors.used, 1);
  assert.equal(lab.slab.pagesUsed, 0);
  assert.equal(lab.gauge('tcp.dialing'), 0);
  assert.equal(lab.counter('tcp.accepted'), 400);
  bench.check();
});

describe('on a unix socket', () => {
  const listen = { kind: 'unix' as const, path: '/run/tslirp-test/socket' };
  const unix = localForward({ listen });
  const nobody = { address: 'unix:', port: 0 };

  test('clients are the gateway to the guest, and are told of with the path', () => {
    const bench = new Bench({}, unix);
    const { client, syn } = bench.open(nobody);
    assert.deepEqual([syn.src, syn.dstPort], [GATEWAY4, 80]);
    client.send('hello');
    bench.lab.run();
    assert.equal(Buffer.concat(bench.lab.take().map((d) => d.payload)).toString(), 'hello');
    const [event] = bench.lab.flowEvents;
    assert.deepEqual(
      [event?.event, event?.left, event?.leftLocal],
      ['open', { address: '', port: 0 }, { address: '/run/tslirp-test/socket', port: 0 }],
    );
    bench.check();
  });

  test('a PROXY header that names nobody leaves no port to go to: the client is reset', () => {
    const bench = new Bench(
      {},
      localForward({ listen, proxyHeader: true, target: { address: GUEST4, port: 0 } }),
    );
    const { client, out } = bench.arrive(nobody, 'PROXY UNKNOWN\r\n');
    assert.deepEqual(out, []);
    assert.ok(client.closed && client.lingerReset);
    const named = bench.arrive(nobody, 'PROXY TCP4 203.0.113.7 4.3.2.1 4242 8443\r\n');
    assert.deepEqual([named.out[0]?.src, named.out[0]?.dstPort], ['203.0.113.7', 8443]);
    bench.check();
  });

  test('the file goes with the forward, unless it is somebody else’s by then', () => {
    const directory = mkdtempSync(join(tmpdir(), 'tslirp-tcp-'));
    try {
      for (const replaced of [false, true]) {
        const path = join(directory, `socket-${replaced}`);
        // The fake kernel makes none.
        writeFileSync(path, '');
        const { lab } = new Bench({}, localForward({ listen: { kind: 'unix', path } }));
        if (replaced) {
          // Both at the same time, so that the new one cannot have the number of the old one.
          writeFileSync(`${path}-new`, '');
          renameSync(`${path}-new`, path);
        }
        assert.equal(lab.guest.flows.forwards.remove(1), true);
        assert.equal(lab.guest.flows.forwards.remove(1), false);
        assert.equal(existsSync(path), replaced);
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
