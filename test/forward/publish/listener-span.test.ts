/** Local forwards of many ports and of both families, above a fake kernel. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { LocalForwardSpec } from '../../../src/config.ts';
import { localForward } from '../../support/forward-specs.ts';
import { Lab } from '../../support/lab/lab.ts';
import { arp, type Decoded, GUEST4, GUEST6, ndp, SYN } from '../../support/lab/packets.ts';

const EVERYWHERE = {
  listen: { kind: 'ip', address: '::', port: 8000 },
  dualStack: true,
  target: { address: '', port: 80 },
  source: 'client',
} as const;

function known(): Lab {
  const lab = new Lab();
  lab.inject(arp({}));
  lab.send(ndp(GUEST6, 'fd00::2', 136, 0x60000000, Buffer.from('fd000000000000000000000000000100', 'hex')));
  return lab;
}

function refusal(lab: Lab, spec: Partial<LocalForwardSpec>): { errno: number; port: number } {
  try {
    lab.guest.flows.forwards.add(1, localForward(spec));
  } catch (error) {
    return error as { errno: number; port: number };
  }
  assert.fail('it was taken');
}

/** The call `name` fails with `errno` where it comes for one of `ports`. */
function busy(lab: Lab, ...ports: number[]): void {
  let next = 0;
  lab.kernel.fault = (name) => {
    if (name === 'socket') next++;
    return name === 'bind' && ports.includes(7999 + next) ? -98 : undefined;
  };
}

describe('pasta §8: a forward of several ports', () => {
  test('each leads as far on as it stands from the first', () => {
    const lab = known();
    lab.guest.flows.forwards.add(1, localForward({ ...EVERYWHERE, span: { ports: 3, leniently: false } }));
    assert.deepEqual(
      lab.kernel.listeners.map(({ local }) => local.port),
      [8000, 8001, 8002],
    );
    for (const [i, listener] of lab.kernel.listeners.entries()) {
      listener.arrive({ address: '198.51.100.9', port: 5555 });
      lab.run();
      const [syn] = lab.take() as [Decoded];
      assert.deepEqual([syn.flags, syn.dst, syn.dstPort, syn.srcPort], [SYN, GUEST4, 80 + i, 5555]);
    }
    lab.check();
  });

  test('clients of each family are led to the address that the guest has of it', () => {
    const lab = known();
    lab.guest.flows.forwards.add(1, localForward(EVERYWHERE));
    for (const [client, guest] of [
      ['198.51.100.9', GUEST4],
      ['2001:db8::9', GUEST6],
    ] as const) {
      lab.kernel.listeners[0]?.arrive({ address: client, port: 5555 });
      lab.run();
      const [syn] = lab.take() as [Decoded];
      assert.deepEqual([syn.flags, syn.src, syn.dst], [SYN, client, guest]);
    }
    lab.check();
  });

  test('a guest without IPv6 is reached by IPv4 whoever comes', () => {
    const lab = new Lab({ addresses: { ipv6: false } });
    lab.inject(arp({}));
    lab.guest.flows.forwards.add(1, localForward(EVERYWHERE));
    lab.kernel.listeners[0]?.arrive({ address: '2001:db8::9', port: 5555 });
    lab.run();
    const [syn] = lab.take() as [Decoded];
    assert.deepEqual([syn.src, syn.dst], ['10.0.2.2', GUEST4]);
  });

  for (const protocol of ['tcp', 'udp'] as const) {
    test(`${protocol}: one that is in use is told, and none is held`, () => {
      const lab = known();
      const { descriptors } = lab.services;
      const before = { open: lab.kernel.open, used: descriptors.used };
      busy(lab, 8002);
      const span = { ports: 4, leniently: false };
      const { errno, port } = refusal(lab, { ...EVERYWHERE, protocol, span });
      assert.deepEqual({ errno, port }, { errno: 98, port: 8002 });
      assert.deepEqual({ open: lab.kernel.open, used: descriptors.used }, before);
    });

    test(`${protocol}: leniently, those in use are left out, and all close together`, () => {
      const lab = known();
      const { descriptors } = lab.services;
      const before = { open: lab.kernel.open, used: descriptors.used };
      busy(lab, 8000, 8002);
      const span = { ports: 4, leniently: true };
      const added = lab.guest.flows.forwards.add(1, localForward({ ...EVERYWHERE, protocol, span }));
      assert.deepEqual(added, { listen: { kind: 'ip', address: '::', port: 8001 }, missing: 2 });
      lab.kernel.fault = null;
      assert.equal(descriptors.used, before.used + 2);
      assert.equal(lab.guest.flows.forwards.remove(1), true);
      assert.deepEqual({ open: lab.kernel.open, used: descriptors.used }, before);
    });
  }

  test('leniently, half of the descriptors is left to traffic; none at all is refused', () => {
    const lab = known();
    const { descriptors } = lab.services;
    descriptors.setLimit(descriptors.used + 100);
    const span = { ports: 1000, leniently: true };
    const { missing } = lab.guest.flows.forwards.add(1, localForward({ ...EVERYWHERE, span }));
    assert.equal(missing, 1000 - lab.kernel.listeners.length);
    assert.ok(descriptors.used <= descriptors.limit / 2 + 1, `${descriptors.used} of ${descriptors.limit}`);
    const other = known();
    busy(other, 8000, 8001);
    const { errno, port } = refusal(other, { ...EVERYWHERE, span: { ports: 2, leniently: true } });
    assert.deepEqual([errno, port], [98, 8000]);
  });

  test('all of them can be led elsewhere at once', () => {
    const lab = known();
    const spec = localForward({ ...EVERYWHERE, span: { ports: 2, leniently: false } });
    lab.guest.flows.forwards.add(1, spec);
    lab.guest.flows.forwards.add(1, { ...spec, target: { address: '', port: 90 } });
    lab.kernel.listeners[1]?.arrive({ address: '198.51.100.9', port: 5555 });
    lab.run();
    const [syn] = lab.take() as [Decoded];
    assert.equal(syn.dstPort, 91);
  });

  test('by one interface: bound to it, and one that is not there is told', () => {
    const lab = known();
    lab.guest.flows.forwards.add(1, localForward({ device: 'eth0' }));
    assert.deepEqual(lab.kernel.boundDevices, ['eth0']);
    lab.kernel.fault = (name, args) => (name === 'setsockopt' && args[2] === 25 ? -19 : undefined);
    const other = known();
    other.kernel.fault = (name, args) => (name === 'setsockopt' && args[2] === 25 ? -19 : undefined);
    assert.equal(refusal(other, { device: 'eth0' }).errno, 19);
  });
});
