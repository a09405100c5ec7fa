/** Pings to the outside, packet by packet, above the fake kernel. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_PING_EVICTIONS_PER_SECOND } from '../../../src/forward/flow/set.ts';
import {
  EACCES,
  EHOSTUNREACH,
  EMFILE,
  EMSGSIZE,
  ENETUNREACH,
  ENOBUFS,
  EPERM,
} from '../../../src/sys/errno.ts';
import type { DatagramFile } from '../../support/lab/fake-kernel.ts';
import { Lab } from '../../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  type Decoded,
  echo,
  frame,
  GUEST4,
  ipv4,
  pattern,
} from '../../support/lab/packets.ts';

const ID = 321;

/** The socket of a ping that was answered. */
function pinged(lab: Lab, dst: string = ALLOWED4): DatagramFile {
  assert.equal(lab.send(echo(dst, ID, 1, Buffer.from('x'))).length, 1);
  return lab.kernel.datagrams.at(-1)?.file as DatagramFile;
}

function reply(seq: number, type = 0): Buffer {
  const message = Buffer.alloc(12);
  message[0] = type;
  message.writeUInt16BE(0xbeef, 4);
  message.writeUInt16BE(seq, 6);
  return message;
}

test('more replies than a turn’s share all arrive, in order, under the guest’s identifier', () => {
  const lab = new Lab();
  const file = pinged(lab);
  for (let seq = 0; seq < 100; seq++) file.deliver({ address: ALLOWED4, port: 0 }, reply(seq));
  lab.run();
  assert.deepEqual(
    lab.take().map((d) => d.icmpRest),
    Array.from({ length: 100 }, (_, seq) => ((ID << 16) | seq) >>> 0),
  );
  lab.check();
});

test('C-01: a flood of identifiers makes no more sockets in a second than the host can bear', () => {
  const lab = new Lab({ limits: { pingMaxFlows: 4 } });
  const flood = Array.from({ length: 20_000 }, (_, id) => frame(echo(ALLOWED4, id, 1)));
  lab.kernel.keepDatagrams = false;
  const changed = lab.delta(() => lab.inject(...flood));
  assert.equal(changed['ping.opened'], 4 + MAX_PING_EVICTIONS_PER_SECOND);
  assert.equal(changed['drop.icmp.limit'], flood.length - 4 - MAX_PING_EVICTIONS_PER_SECOND);
  lab.advance(1000);
  assert.equal(lab.send(echo(ALLOWED4, 30_000, 1)).length, 1);
  assert.deepEqual(lab.errors, []);
});

test('what is no reply, or comes from where the policy lets nothing in, stays outside', () => {
  for (const [dst, stranger, request] of [
    [ALLOWED4, '192.0.2.1', 8],
    [ALLOWED6, '2001:db8:2::1', 128],
  ] as const) {
    const lab = new Lab();
    const file = pinged(lab, dst);
    const from = { address: dst, port: 0 };
    file.deliver(from, reply(1, request));
    file.deliver(from, reply(1, dst === ALLOWED4 ? 0 : 129).subarray(0, 7));
    lab.run();
    assert.deepEqual(lab.take(), []);
    const drops = lab.delta(() => {
      file.deliver({ address: stranger, port: 0 }, reply(1, dst === ALLOWED4 ? 0 : 129));
      lab.run();
    });
    assert.deepEqual(lab.take(), []);
    assert.equal(drops['drop.policy.deny'], 1);
    lab.check();
  }
});

for (const [errno, expected, counted] of [
  [ENETUNREACH, [[3, 0]], 0],
  [EHOSTUNREACH, [[3, 1]], 0],
  [EACCES, [[3, 13]], 0],
  [EPERM, [[3, 13]], 0],
  // Without a word of how much would fit.
  [EMSGSIZE, [], 1],
  [ENOBUFS, [], 1],
] as const) {
  test(`sending that fails with ${errno} answers ${JSON.stringify(expected)}`, () => {
    const lab = new Lab();
    pinged(lab);
    lab.kernel.fault = (name) => (name === 'sendto' ? -errno : undefined);
    let out: Decoded[] = [];
    const drops = lab.delta(() => {
      out = lab.send(echo(ALLOWED4, ID, 2, pattern(8)));
    });
    lab.kernel.fault = null;
    assert.deepEqual(
      out.map((d) => [d.icmpType, d.icmpCode]),
      expected,
    );
    assert.equal(drops['drop.icmp.limit'] ?? 0, counted);
    lab.check();
  });
}

test('review OP-13: a request that may not be fragmented and is too large is told how much the path takes', () => {
  for (const [dst, type, code] of [
    [ALLOWED4, 3, 4],
    [ALLOWED6, 2, 0],
  ] as const) {
    const lab = new Lab();
    const file = pinged(lab, dst);
    const tell = (errno: number, payload: Buffer, origin: number): void => {
      const told = { type: 0, code: 0, info: 1400, offender: '', destination: { address: dst, port: 0 } };
      file.queueError({ errno, origin, payload, ...told });
    };
    lab.kernel.fault = (name) => {
      if (name !== 'sendto') return undefined;
      // Our own kernel's word: it quotes nothing.
      tell(EMSGSIZE, Buffer.alloc(0), 1);
      return -EMSGSIZE;
    };
    const request = echo(dst, ID, 2, pattern(1420));
    const [error] = lab.send(request);
    lab.kernel.fault = null;
    assert.deepEqual([error?.icmpType, error?.icmpCode, error?.icmpRest], [type, code, 1400]);
    // It quotes the request as the guest sent it.
    assert.ok(error?.payload.equals(request.subarray(0, error.payload.length)));
    // The next one, smaller, is answered.
    assert.equal(lab.send(echo(dst, ID, 3, pattern(100))).length, 1);
    lab.check();
  }
});

test('review OP-13: what a router said of an earlier request is not said of this one', () => {
  const lab = new Lab();
  const file = pinged(lab);
  const before = lab.kernel.datagrams.length;
  let refusals = 1;
  lab.kernel.fault = (name) => {
    if (name !== 'sendto' || refusals-- <= 0) return undefined;
    const told = { errno: EMSGSIZE, origin: 2, type: 3, code: 4, info: 1200, offender: '203.0.113.1' };
    const payload = echo(ALLOWED4, 7, 1, pattern(20)).subarray(20);
    file.queueError({ ...told, destination: { address: '198.51.100.2', port: 0 }, payload });
    return -EMSGSIZE;
  };
  const request = echo(ALLOWED4, ID, 2, pattern(1400)).subarray(20);
  const out = lab.send(ipv4({ src: GUEST4, dst: ALLOWED4, protocol: 1, df: false }, request));
  assert.deepEqual(
    out.map((d) => [d.icmpType, d.icmpRest & 0xffff]),
    [
      [3, 1200],
      [0, 2],
    ],
  );
  lab.kernel.fault = null;
  const sent = lab.kernel.datagrams.slice(before).map((d) => d.address);
  assert.deepEqual(sent, [ALLOWED4]);
  lab.check();
});

test('an error that is pending from an earlier request does not keep the next one back', () => {
  const lab = new Lab();
  pinged(lab);
  const before = lab.kernel.datagrams.length;
  let pending = EHOSTUNREACH;
  lab.kernel.fault = (name) => {
    if (name !== 'sendto' || pending === 0) return undefined;
    const error = pending;
    pending = 0;
    return -error;
  };
  const out = lab.send(echo(ALLOWED4, ID, 2, pattern(8)));
  assert.deepEqual(
    out.map((d) => d.icmpType),
    [0],
  );
  lab.kernel.fault = null;
  assert.equal(lab.kernel.datagrams.length, before + 1);
  lab.check();
});

test('without a descriptor, and without a flow that could give way, it is dropped and counted', () => {
  const lab = new Lab();
  const { descriptors } = lab.services;
  const { limit } = descriptors;
  descriptors.limit = descriptors.used;
  lab.expectDrop('icmp.limit', 'no descriptor', frame(echo(ALLOWED4, ID, 1)));
  descriptors.limit = limit;
  lab.kernel.fault = (name) => (name === 'socket' ? -EMFILE : undefined);
  lab.expectDrop('icmp.limit', 'no socket', frame(echo(ALLOWED4, ID, 1)));
  lab.kernel.fault = null;
  lab.check();
});

test('an error that quotes less than an echo request tells the guest nothing', () => {
  const lab = new Lab();
  const file = pinged(lab);
  const error = {
    errno: EHOSTUNREACH,
    origin: 2,
    type: 3,
    code: 1,
    info: 0,
    offender: '192.0.2.254',
    destination: { address: ALLOWED4, port: 0 },
  };
  file.queueError({ ...error, payload: Buffer.alloc(7) });
  lab.run();
  assert.deepEqual(lab.take(), []);
  file.queueError({ ...error, payload: reply(1, 8) });
  lab.run();
  assert.deepEqual(
    lab.take().map((d) => [d.icmpType, d.icmpCode]),
    [[3, 1]],
  );
  lab.check();
});
