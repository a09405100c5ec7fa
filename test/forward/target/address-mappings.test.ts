/** A guest that has the host's own address (pasta): what its destinations mean, and whom it sees, above the fake kernel. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { AddressMapping, AddressPlan } from '../../../src/config.ts';
import { profiles } from '../../../src/profiles.ts';
import { ECONNREFUSED } from '../../../src/sys/errno.ts';
import { localForward } from '../../support/forward-specs.ts';
import type { ListenFile } from '../../support/lab/fake-kernel.ts';
import { Lab, type LabOptions } from '../../support/lab/lab.ts';
import {
  arp,
  frame,
  type Ip,
  icmp,
  ipBytes,
  ndp,
  OUR_MAC,
  SYN,
  tcp,
  udp,
} from '../../support/lab/packets.ts';

const HOST4 = '192.0.2.10';
const HOST6 = '2001:db8::10';
const GATEWAY = '192.0.2.1';
const GATEWAY_6 = 'fe80::1';
const NEIGHBOR = '192.0.2.77';

const plan: AddressPlan = {
  guest4: HOST4,
  prefix4: 24,
  lease4: HOST4,
  gateway4: GATEWAY,
  dns4: '',
  ipv6: true,
  guest6: HOST6,
  prefix6: 64,
  gateway6: GATEWAY_6,
  dns6: '',
  linkLocal6: GATEWAY_6,
};
const loopback: AddressMapping[] = [
  { guest: GATEWAY, host: '127.0.0.1' },
  { guest: GATEWAY_6, host: '::1' },
];

function openLab(
  mappings: AddressMapping[],
  addresses: Partial<AddressPlan> = {},
  options: LabOptions = {},
  spec: LabOptions['guest'] = {},
): Lab {
  const lab = new Lab({
    guest: {
      policy: {
        enableRouting: true,
        enableHost: true,
        defaultAllow: true,
        allow: [],
        deny: [],
        guestNetworks: [],
      },
      behavior: { ...profiles.pasta, mac: OUR_MAC },
      addresses: { ...plan, ...addresses },
      mappings,
      ...spec,
    },
    ...options,
  });
  lab.mayReach = () => true;
  // Whoever asks at the start for the guest's address.
  lab.take();
  return lab;
}

function tcpTo(lab: Lab, dst: Ip, port: number, src: Ip): { address: Ip; port: number } | undefined {
  lab.connect(dst, port, { src });
  return lab.kernel.streams.at(-1)?.remote;
}

describe('pasta §5.2: translations of what the guest sends', () => {
  test('TCP to the mapped gateway is to the host’s loopback, in both families; the rest stays as it is', () => {
    const lab = openLab(loopback);
    assert.deepEqual(tcpTo(lab, GATEWAY, 631, HOST4), { address: '127.0.0.1', port: 631 });
    assert.deepEqual(tcpTo(lab, GATEWAY_6, 631, 'fe80::99'), { address: '::1', port: 631 });
    assert.deepEqual(tcpTo(lab, NEIGHBOR, 631, HOST4), { address: NEIGHBOR, port: 631 });
    assert.deepEqual(tcpTo(lab, '198.51.100.1', 80, HOST4), { address: '198.51.100.1', port: 80 });
    assert.deepEqual(tcpTo(lab, '2001:db8::77', 80, HOST6), { address: '2001:db8::77', port: 80 });
    lab.check();
  });

  test('without a mapping the gateway’s own services are reached', () => {
    assert.deepEqual(tcpTo(openLab([]), GATEWAY, 7100, HOST4), { address: GATEWAY, port: 7100 });
  });

  test('an address that stands for the guest’s own leads to the host there, UDP there and back', () => {
    const lab = openLab([...loopback, { guest: '169.254.1.2', host: HOST4 }]);
    assert.deepEqual(tcpTo(lab, '169.254.1.2', 80, HOST4), { address: HOST4, port: 80 });
    lab.send(udp({ src: HOST4, dst: '169.254.1.2', srcPort: 4000, dstPort: 9 }, Buffer.from('question')));
    const sent = lab.kernel.datagrams.at(-1);
    assert.deepEqual([sent?.address, sent?.port], [HOST4, 9]);
    sent?.file.deliver({ address: HOST4, port: 9 }, Buffer.from('answer'));
    lab.run();
    assert.deepEqual(
      lab.take().map((d) => [d.src, d.srcPort, d.dst, d.payload.toString()]),
      [['169.254.1.2', 9, HOST4, 'answer']],
    );
  });

  test('UDP answers come from neighbours of the host and from its loopback, under the names the guest knows', () => {
    const lab = openLab(loopback);
    lab.send(udp({ src: HOST4, dst: NEIGHBOR, srcPort: 4000, dstPort: 9 }, Buffer.from('question')));
    const file = lab.kernel.datagrams.at(-1)?.file;
    assert.ok(file !== undefined);
    for (const address of [NEIGHBOR, '127.0.0.1', GATEWAY])
      file.deliver({ address, port: 9 }, Buffer.from(address));
    lab.run();
    assert.deepEqual(
      lab.take().map((d) => [d.src, d.payload.toString()]),
      [
        [NEIGHBOR, NEIGHBOR],
        [GATEWAY, '127.0.0.1'],
        [GATEWAY, GATEWAY],
      ],
    );
  });
});

describe('pasta §6: DNS', () => {
  const query = Buffer.from('12340100000100000000000001610162000001 0001'.replaceAll(' ', ''), 'hex');
  const ask = (lab: Lab, dst: Ip): Ip | undefined => {
    lab.send(udp({ src: HOST4, dst, srcPort: 4000, dstPort: 53 }, query));
    return lab.kernel.datagrams.at(-1)?.address;
  };

  test('--dns-forward is an address of its own: port 53 goes to the resolver, 853 too, others as they are', () => {
    const lab = openLab(loopback, { dns4: '169.254.1.1' }, { resolvers: ['203.0.113.53'] });
    assert.equal(ask(lab, '169.254.1.1'), '203.0.113.53');
    assert.deepEqual(tcpTo(lab, '169.254.1.1', 853, HOST4), { address: '203.0.113.53', port: 853 });
    // The gateway's port 53 is that of the host's loopback, for there is an address for DNS.
    assert.equal(ask(lab, GATEWAY), '127.0.0.1');
  });

  test('without --dns-forward the mapped gateway answers, if the host’s resolv.conf leads there', () => {
    assert.equal(ask(openLab(loopback, {}, { resolvers: ['127.0.0.53'] }), GATEWAY), '127.0.0.53');
    assert.equal(ask(openLab(loopback, {}, { resolvers: [GATEWAY] }), GATEWAY), GATEWAY);
    assert.equal(ask(openLab(loopback, {}, { resolvers: ['203.0.113.53'] }), GATEWAY), '127.0.0.1');
    assert.equal(ask(openLab([], {}, { resolvers: [GATEWAY] }), GATEWAY), GATEWAY);
  });
});

describe('pasta §5.1: whom the guest finds on its link', () => {
  test('ARP is answered for every address but the guest’s own, probes never but for ours', () => {
    const lab = openLab(loopback);
    const asks = (targetIp: Ip, senderIp: Ip = HOST4) => lab.inject(arp({ senderIp, targetIp })).length;
    for (const target of [GATEWAY, NEIGHBOR, '10.9.8.7', '169.254.1.1'])
      assert.equal(asks(target), 1, target);
    assert.equal(asks(HOST4), 0);
    assert.equal(asks(NEIGHBOR, '0.0.0.0'), 0);
    assert.equal(asks(HOST4, '0.0.0.0'), 0);
  });

  test('a guest that announces an address keeps it, as bridges inside do', () => {
    const lab = openLab(loopback);
    lab.inject(arp({ senderIp: '10.88.0.1', targetIp: '10.88.0.1' }));
    assert.equal(lab.inject(arp({ senderIp: HOST4, targetIp: '10.88.0.1' })).length, 0);
    assert.deepEqual(tcpTo(lab, '198.51.100.1', 80, '10.88.0.1'), { address: '198.51.100.1', port: 80 });
  });

  test('neighbour solicitations likewise', () => {
    const lab = openLab(loopback);
    const asks = (target: Ip, src: Ip) => {
      const bytes = ipBytes(target);
      const group = `ff02::1:ff${bytes.subarray(13, 14).toString('hex')}:${bytes.subarray(14).toString('hex')}`;
      return lab.send(ndp(src, group, 135, 0, bytes)).filter((d) => d.icmpType === 136).length;
    };
    for (const target of [GATEWAY_6, '2001:db8::77', '2001:db8:9::1'])
      assert.equal(asks(target, 'fe80::99'), 1);
    assert.equal(asks(HOST6, 'fe80::99'), 0);
    assert.equal(asks('2001:db8::77', '::'), 0);
  });

  test('an echo to an address that stands for the host’s is answered, others go out with the hops they came with', () => {
    const lab = openLab([...loopback, { guest: '169.254.1.2', host: HOST4 }]);
    for (const dst of [GATEWAY, '169.254.1.2'])
      assert.deepEqual(
        lab.send(icmp({ src: HOST4, dst, rest: 1 })).map((d) => [d.src, d.icmpType]),
        [[dst, 0]],
      );
    assert.equal(lab.kernel.reached.length, 0);
    // A hop limit of 1 is for the first router: we are none.
    assert.deepEqual(lab.send(udp({ src: HOST4, dst: '198.51.100.1', ttl: 1 }, Buffer.from('x'))), []);
    assert.equal(lab.kernel.datagrams.length, 1);
  });

  test('without a gateway an error comes from where the packet went', () => {
    const lab = openLab([], { gateway4: '' });
    lab.send(udp({ src: HOST4, dst: NEIGHBOR, srcPort: 4000, dstPort: 9 }, Buffer.from('question')));
    lab.kernel.datagrams.at(-1)?.file.queueError({
      ...{ errno: ECONNREFUSED, origin: 2, type: 3, code: 3, info: 0, offender: '127.0.0.1' },
      destination: { address: NEIGHBOR, port: 9 },
      payload: Buffer.from('question'),
    });
    lab.run();
    assert.deepEqual(
      lab.take().map((d) => [d.src, d.icmpType, d.icmpCode]),
      [[NEIGHBOR, 3, 3]],
    );
  });

  test('pasta §3: --no-tcp, --no-udp, --no-icmp and --no-ndp are silence', () => {
    const silent = { tcp: true, udp: true, icmp: true, ndp: true };
    const lab = openLab(loopback, {}, {}, { silent });
    for (const packet of [
      tcp({ src: HOST4, dst: NEIGHBOR, flags: SYN }),
      udp({ src: HOST4, dst: NEIGHBOR }),
      icmp({ src: HOST4, dst: NEIGHBOR, rest: 1 }),
      ndp('fe80::99', 'ff02::1:ff00:1', 135, 0, ipBytes(GATEWAY_6)),
    ])
      assert.deepEqual(lab.send(packet), []);
    assert.equal(lab.kernel.reached.length, 0);
  });

  test('a family that the guest does not have is silent', () => {
    const lab = openLab([], { ipv4: false, guest4: '', lease4: '', gateway4: '' });
    assert.equal(lab.inject(arp({ senderIp: HOST4, targetIp: GATEWAY })).length, 0);
    assert.deepEqual(lab.inject(frame(udp({ src: HOST4, dst: '198.51.100.1' }))), []);
    assert.equal(lab.kernel.datagrams.length, 0);
    assert.deepEqual(tcpTo(lab, '2001:db8::77', 80, HOST6), { address: '2001:db8::77', port: 80 });
  });
});

describe('pasta §5.2: whom the guest sees', () => {
  const seen = (lab: Lab, client: Ip): Ip | undefined => {
    const listener = lab.kernel.listeners[0] as ListenFile;
    listener.arrive({ address: client, port: 5555 });
    lab.run();
    return lab.take().find((d) => d.flags === SYN)?.src;
  };
  const published = (
    mappings: AddressMapping[],
    addresses: Partial<AddressPlan> = {},
    target: Ip = HOST4,
  ) => {
    const lab = openLab(mappings, addresses);
    lab.guest.flows.forwards.add(1, localForward({ target: { address: target, port: 80 } }));
    lab.inject(arp({ senderIp: HOST4 }));
    return lab;
  };

  test('clients as they are, also neighbours of the host; its loopback by the address that stands for it', () => {
    const lab = published(loopback);
    for (const client of [NEIGHBOR, '198.51.100.9', GATEWAY]) assert.equal(seen(lab, client), client);
    assert.equal(seen(lab, '127.0.0.1'), GATEWAY);
    assert.equal(seen(published([{ guest: '10.1.1.1', host: '127.0.0.1' }]), '127.0.0.1'), '10.1.1.1');
  });

  test('the host at the guest’s own address as what stands for it, else as the gateway', () => {
    assert.equal(seen(published([{ guest: '169.254.1.2', host: HOST4 }]), HOST4), '169.254.1.2');
    assert.equal(seen(published(loopback), HOST4), GATEWAY);
  });

  test('the host at another address of the guest’s likewise, until it is the guest’s no more', () => {
    const lab = published(loopback, { gateway6: '2001:db8::1', further: ['2001:db8::11'] }, HOST6);
    assert.equal(seen(lab, '2001:db8::11'), '2001:db8::1');
    assert.equal(seen(lab, '2001:db8::12'), '2001:db8::12');
    lab.guest.setNetwork({ ...plan, gateway6: '2001:db8::1', further: ['2001:db8::12'] }, loopback);
    assert.equal(seen(lab, '2001:db8::11'), '2001:db8::11');
    assert.equal(seen(lab, '2001:db8::12'), '2001:db8::1');
  });

  test('a client that nothing can stand for is reset', () => {
    const lab = published([], { gateway4: '' });
    assert.equal(seen(lab, HOST4), undefined);
    assert.equal(lab.kernel.listeners[0]?.accepted[0]?.closed, true);
    assert.equal(seen(lab, NEIGHBOR), NEIGHBOR);
  });
});
