/** Routed UDP with one socket for each of the guest's ports, packet by packet, above the fake kernel. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MAX_EVICTIONS_PER_SECOND } from '../../../src/forward/flow/set.ts';
import { type GuestBehavior, profiles } from '../../../src/profiles.ts';
import { EACCES, ECONNREFUSED, EHOSTUNREACH, EINTR, ENETUNREACH, EPERM } from '../../../src/sys/errno.ts';
import { assertAnswersInOrder } from '../../support/lab/answers.ts';
import { Lab, type LabOptions } from '../../support/lab/lab.ts';
import {
  ALLOWED4,
  ALLOWED6,
  type Decoded,
  frame,
  GATEWAY4,
  GATEWAY6,
  pattern,
  udp,
} from '../../support/lab/packets.ts';

function labWith(behavior: Partial<GuestBehavior>, options: LabOptions = {}): Lab {
  const lab = new Lab({ guest: { behavior: { ...profiles.tslirp, ...behavior } }, ...options });
  lab.mayReach = () => true;
  return lab;
}

const kinds = (out: Decoded[]): number[][] => out.map((d) => [d.icmpType, d.icmpCode]);

describe('the gateway as the host’s loopback', () => {
  for (const [gateway, loopback, other, unreachable] of [
    [GATEWAY4, '127.0.0.1', '127.0.0.2', [3, 3]],
    [GATEWAY6, '::1', '2001:db8:2::1', [1, 4]],
  ] as const) {
    test(`${gateway} is ${loopback}, both ways, and nothing else is`, () => {
      const lab = labWith({ gatewayIsLoopback: true });
      lab.send(udp({ dst: gateway, srcPort: 4000, dstPort: 9 }, Buffer.from('question')));
      const sent = lab.kernel.datagrams.at(-1);
      assert.deepEqual([sent?.address, sent?.port], [loopback, 9]);
      const file = sent?.file;
      assert.ok(file !== undefined);
      file.deliver({ address: loopback, port: 9 }, Buffer.from('answer'));
      lab.run();
      assert.deepEqual(
        lab.take().map((d) => [d.src, d.srcPort, d.dstPort, d.payload.toString()]),
        [[gateway, 9, 4000, 'answer']],
      );
      const drops = lab.delta(() => {
        file.deliver({ address: other, port: 9 }, Buffer.from('evil'));
        lab.run();
      });
      assert.deepEqual(lab.take(), []);
      assert.equal(drops['drop.udp.peer'], 1);
      // Nobody listens there: told as by the gateway, about a datagram to the gateway.
      file.queueError({
        errno: ECONNREFUSED,
        origin: gateway === GATEWAY4 ? 2 : 3,
        type: unreachable[0],
        code: unreachable[1],
        info: 0,
        offender: loopback,
        destination: { address: loopback, port: 9 },
        payload: Buffer.from('question'),
      });
      lab.run();
      const [error] = lab.take();
      assert.deepEqual([error?.src, error?.icmpType, error?.icmpCode], [gateway, ...unreachable]);
      lab.check();
    });
  }
});

describe('our own addresses', () => {
  for (const [ownPorts, expected] of [
    ['closed', [[3, 3]]],
    ['unreachable', [[3, 0]]],
    ['denied', []],
  ] as const) {
    test(`ports where nobody listens are ${ownPorts}`, () => {
      const lab = labWith({ ownPorts });
      assert.deepEqual(kinds(lab.send(udp({ dst: GATEWAY4, dstPort: 4242 }))), expected);
      assert.equal(lab.kernel.datagrams.length, 0);
      lab.check();
    });
  }

  for (const [dnsAddressesWithoutDns, expected] of [
    ['own', [[3, 3]]],
    ['outside', []],
  ] as const) {
    test(`the DNS address without a DNS service is ${dnsAddressesWithoutDns}`, () => {
      for (const dst of ['10.0.2.3', 'fd00::3']) {
        const lab = new Lab({
          guest: { dns: false, behavior: { ...profiles.tslirp, dnsAddressesWithoutDns } },
          allow: ['any://10.0.2.3', 'any://[fd00::3]', 'any://198.51.100.0/24'],
        });
        lab.mayReach = () => true;
        const out = kinds(lab.send(udp({ dst, dstPort: 4242 })));
        assert.deepEqual(out, dst === 'fd00::3' && expected.length > 0 ? [[1, 4]] : expected);
        assert.equal(lab.kernel.datagrams.length, dnsAddressesWithoutDns === 'own' ? 0 : 1);
        lab.check();
      }
    });
  }
});

test('more than a turn’s share arrives whole, in order and past interruptions', () => {
  const lab = labWith({});
  lab.send(udp({ srcPort: 4000, dstPort: 9 }));
  const file = lab.kernel.datagrams.at(-1)?.file;
  assert.ok(file !== undefined);
  let interruptions = 2;
  lab.kernel.fault = (name) => (name === 'recvmmsg' && interruptions-- > 0 ? -EINTR : undefined);
  assertAnswersInOrder(lab, file);
  lab.check();
});

test('a socket that has more to give than one call takes gets a larger receive buffer', () => {
  const lab = labWith({});
  lab.send(udp({ srcPort: 4000, dstPort: 9 }));
  const file = lab.kernel.datagrams.at(-1)?.file;
  assert.ok(file !== undefined);
  const answers = (count: number): void => {
    for (let i = 0; i < count; i++) file.deliver({ address: ALLOWED4, port: 9 }, Buffer.from('answer'));
    lab.run();
  };
  answers(8);
  assert.equal(file.receiveBytes, 0);
  answers(100);
  assert.equal(file.receiveBytes, 2 ** 20);
  lab.take();
  lab.check();
});

test('flows give way only so fast: the rest of a flood is dropped and counted (U-04)', () => {
  const lab = labWith({}, { limits: { udpMaxFlows: 4 } });
  const flood: Buffer[] = [];
  for (let port = 1; port <= 60_000; port += 2) flood.push(frame(udp({ srcPort: port, dstPort: 9 })));
  lab.kernel.keepDatagrams = false;
  const changed = lab.delta(() => lab.inject(...flood));
  const evicted = changed['udp.evicted'] ?? 0;
  assert.equal(evicted, MAX_EVICTIONS_PER_SECOND);
  assert.equal(changed['drop.udp.limit'], flood.length - 4 - evicted);
  lab.kernel.keepDatagrams = true;
  lab.advance(1000);
  lab.send(udp({ srcPort: 61_000, dstPort: 9 }));
  assert.equal(lab.kernel.datagrams.length, 1);
  assert.deepEqual(lab.errors, []);
});

describe('a frame of several datagrams (USO)', () => {
  const device = { vnetHeader: true, checksumOffload: true, uso: true };
  for (const [dst, start] of [
    [ALLOWED4, 34],
    [ALLOWED6, 54],
  ] as const) {
    test(`to ${dst}: each arrives as one, in one call where the kernel takes that`, () => {
      for (const [size, sizes] of [
        [100, [100, 100, 50]],
        [250, [250]],
      ] as const) {
        const lab = labWith({}, { device });
        const header = Buffer.alloc(10);
        header[0] = 1;
        header[1] = 5;
        header.writeUInt16LE(start + 8, 2);
        header.writeUInt16LE(size, 4);
        header.writeUInt16LE(start, 6);
        header.writeUInt16LE(6, 8);
        const payload = pattern(250);
        lab.inject(Buffer.concat([header, frame(udp({ dst, srcPort: 4000, dstPort: 9 }, payload))]));
        assert.deepEqual(
          lab.kernel.datagrams.map((d) => d.payload.length),
          sizes,
          `segments of ${size}`,
        );
        assert.ok(Buffer.concat(lab.kernel.datagrams.map((d) => d.payload)).equals(payload));
        const { calls } = lab.kernel;
        assert.equal((calls.get('sendmsg') ?? 0) + (calls.get('sendto') ?? 0), 1);
        assert.deepEqual(lab.errors, []);
      }
    });
  }
});

for (const [dst, errno, told] of [
  [ALLOWED4, EHOSTUNREACH, [3, 1]],
  [ALLOWED4, ENETUNREACH, [3, 0]],
  [ALLOWED6, EHOSTUNREACH, [1, 3]],
  [ALLOWED6, ENETUNREACH, [1, 0]],
] as const) {
  test(`no way from the host to ${dst} (${errno}): the guest is told, about its own datagram`, () => {
    const lab = labWith({});
    lab.kernel.fault = (name) => (/^send(to|msg)?$/.test(name) ? -errno : undefined);
    const out = lab.send(udp({ dst, srcPort: 4000, dstPort: 9 }, Buffer.from('lost')));
    assert.deepEqual(kinds(out), [told]);
    lab.kernel.fault = null;
    // Said of an earlier one, it does not keep this one back.
    let pending = errno as number;
    lab.kernel.fault = (name) => {
      if (!/^send(to|msg)?$/.test(name) || pending === 0) return undefined;
      pending = 0;
      return -errno;
    };
    assert.deepEqual(lab.send(udp({ dst, srcPort: 4000, dstPort: 9 }, Buffer.from('sent'))), []);
    assert.equal(lab.kernel.datagrams.at(-1)?.payload.toString(), 'sent');
    lab.kernel.fault = null;
    lab.check();
  });
}

for (const [dst, told] of [
  [ALLOWED4, [3, 13]],
  [ALLOWED6, [1, 1]],
] as const) {
  test(`review OP-13: what the host's firewall or a route forbids to send to ${dst} is prohibited`, () => {
    for (const errno of [EPERM, EACCES]) {
      const lab = labWith({});
      lab.kernel.fault = (name) => (/^send(to|msg)?$/.test(name) ? -errno : undefined);
      const datagram = (data: string): Buffer => udp({ dst, srcPort: 4000, dstPort: 9 }, Buffer.from(data));
      assert.deepEqual(kinds(lab.send(datagram('lost'))), [told]);
      // Also of several at once.
      assert.deepEqual(kinds(lab.send(datagram('one'), datagram('two'))), [told, told]);
      lab.kernel.fault = null;
      lab.check();
    }
  });
}

test('a group is no destination: dropped without a word, and counted as that', () => {
  for (const dst of ['224.0.0.251', 'ff02::fb']) {
    const lab = labWith({});
    lab.expectDrop('udp.group', dst, frame(udp({ dst, dstPort: 5353 })));
    lab.check();
  }
});
