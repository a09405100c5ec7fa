import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { localForward } from '../support/forward-specs.ts';
import { EBADFD } from '../support/lab/fake-kernel.ts';
import { Lab } from '../support/lab/lab.ts';
import { ALLOWED4, ALLOWED6, DNS4, echo, GATEWAY4, pattern, RST, tcp, udp } from '../support/lab/packets.ts';

describe('a guest whose device is gone', () => {
  test('review O-7: flows end with their device, and its number is never used again', () => {
    const lab = new Lab();
    const peers = [ALLOWED4, ALLOWED6, ALLOWED4].map((address) => lab.connect(address, 80));
    const [whole, cut, fed] = peers.map((peer) => peer.stream);
    // One has ended its half, one has not, and one is being sent to.
    peers[0]?.sendData(pattern(1000));
    peers[0]?.fin();
    peers[1]?.sendData(pattern(1000));
    for (let i = 0; i < 100; i++) lab.send(udp({ srcPort: 1000 + i, dstPort: 7 }), echo(ALLOWED4, i, 1));
    const { onConnect } = lab.kernel;
    lab.kernel.onConnect = () => 'pending';
    lab.send(tcp({ srcPort: 9000 }));
    lab.kernel.onConnect = onConnect;
    const number = lab.device.fd;
    fed?.send(pattern(20_000));
    lab.device.readErrors.push(-EBADFD);
    lab.run();
    assert.match(lab.linkGone, /deleted/);
    assert.equal(lab.services.descriptors.used, 0, 'no flow is left');
    assert.equal(lab.gauge('tcp.flows') + lab.gauge('udp.flows') + lab.gauge('ping.flows'), 0);
    assert.equal(whole?.lingerReset, false, 'what was brought to an end has ended');
    assert.equal(whole?.received.length, 1000);
    assert.equal(cut?.lingerReset, true, 'what was not does not look as if it had');
    assert.equal(fed?.lingerReset, true);

    // Whoever gets the number next hears nothing from us, whatever happens.
    const calls: string[] = [];
    lab.kernel.fault = (name, args) => {
      if (args[0] === number) calls.push(name);
      return undefined;
    };
    for (const stream of lab.kernel.streams) {
      stream.send(pattern(100));
      stream.end();
    }
    lab.advance(600_000);
    lab.guest.close();
    lab.run();
    assert.deepEqual(calls, []);
    assert.deepEqual(lab.errors, []);
    assert.equal(lab.loop.timers.size, 0, 'nothing waits');
  });
});

describe('a guest that is removed', () => {
  test('review H-1: its flows are reset to both sides, and everything is given back', () => {
    const lab = new Lab();
    const before = { pages: lab.slab.pagesUsed, open: lab.kernel.open, timers: lab.loop.timers.size };
    const peers = [ALLOWED4, ALLOWED6, ALLOWED4].map((address) => lab.connect(address, 80));
    peers[0]?.sendData(pattern(100_000));
    peers[1]?.stream?.send(pattern(20_000));
    peers[2]?.fin();
    for (let i = 0; i < 50; i++) lab.send(udp({ srcPort: 1000 + i, dstPort: 7 }), echo(ALLOWED4, i, 1));
    lab.send(udp({ srcPort: 5000, dst: DNS4, dstPort: 53 }, question(7)));
    lab.guest.flows.forwards.add(1, localForward({ protocol: 'tcp' }));
    lab.guest.flows.forwards.add(2, localForward({ protocol: 'udp' }));
    // A flow that waits for a name, and one that waits for the host.
    const target = { kind: 'name' as const, label: 'db', port: 1 };
    lab.guest.flows.forwards.add(3, {
      ...{ direction: 'remote', protocol: 'tcp', bind: { address: GATEWAY4, port: 3000 }, target },
      ...{ proxyHeader: 0, rpc: false },
    });
    lab.send(tcp({ srcPort: 9000, dst: GATEWAY4, dstPort: 3000 }));
    assert.equal(lab.questions.length, 1);
    lab.kernel.onConnect = () => 'pending';
    lab.send(tcp({ srcPort: 9001 }));
    // A refusal too many, which is told of later.
    for (let i = 0; i < 9; i++) lab.send(tcp({ srcPort: 9100 + i, dst: '192.0.2.1' }));
    lab.take();

    lab.guest.remove();
    const resets = lab.take().filter(({ flags, protocol }) => protocol === 6 && (flags & RST) !== 0);
    const ports = new Set(resets.map(({ dstPort }) => dstPort));
    for (const peer of peers) assert.ok(ports.has(peer.srcPort), 'the guest hears of it');
    for (const stream of [peers[0], peers[1]]) assert.equal(stream?.stream?.lingerReset, true);
    assert.equal(lab.services.descriptors.used, 0);
    assert.equal(lab.slab.pagesUsed, before.pages);
    assert.equal(lab.kernel.open, before.open - 1, 'its device is closed too');
    assert.equal(lab.loop.timers.size, 0, `of ${before.timers} and more`);
    const counts = lab.refusalsLeftOut.map(({ count }) => count);
    assert.ok(counts.includes(8), `what was only counted is told: ${counts}`);

    // What comes late finds nobody.
    lab.guest.onHostResolved(
      lab.questions[0]?.request ?? 0,
      { kind: 'ip', address: '127.0.0.1', port: 1 },
      '',
    );
    for (const stream of lab.kernel.streams) stream.send(pattern(100));
    lab.advance(600_000);
    lab.guest.remove();
    assert.deepEqual(lab.errors, []);
    assert.equal(lab.loop.timers.size, 0);
  });
});

describe('a guest that is told of another policy', () => {
  test('review H-1: the new policy judges what comes next, a conversation of datagrams too; open connections go on', () => {
    const lab = new Lab();
    const peer = lab.connect(ALLOWED4, 7);
    const ask = (port: number): boolean =>
      lab.send(udp({ srcPort: port, dstPort: 7 }, pattern(10))).some((d) => d.dstPort === port);
    assert.equal(ask(6000), true);
    const closed = { enableRouting: false, enableHost: false, allow: [], deny: [], guestNetworks: [] };
    lab.guest.setPolicy(closed);
    assert.equal(ask(6000), false, 'judged again');
    assert.equal(
      lab.send(tcp({ srcPort: 9000 })).some(({ flags }) => (flags & RST) !== 0),
      true,
    );
    assert.equal(peer.sendData(pattern(100)).length, 100, 'without a break');
    lab.guest.setPolicy({ ...closed, enableRouting: true });
    lab.mayReach = () => true;
    assert.equal(ask(6000), true);
    assert.throws(() => lab.guest.setPolicy({ ...closed, guestNetworks: [{ address: 'x', bits: 1 }] }));
    assert.equal(ask(6000), true, 'one that cannot be used changes nothing');
    lab.check();
  });
});

describe('a guest whose policy is taken back', () => {
  test('what it may not reach any more is cut, and what it may goes on', () => {
    const lab = new Lab();
    const kept = lab.connect(ALLOWED4, 7);
    const cut = lab.connect(ALLOWED6, 7);
    const allow = [{ proto: 'any' as const, address: ALLOWED4, bits: 128, portMin: 0, portMax: 65535 }];
    lab.guest.setPolicy({ enableRouting: false, enableHost: false, allow, deny: [], guestNetworks: [] });
    assert.equal(cut.sendData(pattern(10)).length, 10, 'not by the policy alone');
    lab.guest.flows.revoke();
    assert.equal(lab.guest.flows.tcp.size, 1);
    assert.equal(kept.sendData(pattern(100)).length, 100);
    lab.check();
  });
});

describe('a guest that is held to other limits', () => {
  test('review H-1: what comes next is held to the new limits; what is open stays', () => {
    const lab = new Lab();
    const peers = Array.from({ length: 5 }, () => lab.connect(ALLOWED4, 7));
    for (let i = 0; i < 5; i++) lab.send(udp({ srcPort: 1000 + i, dstPort: 7 }));
    lab.guest.setLimits({ tcpMaxFlows: 5, udpMaxFlows: 3 });
    assert.deepEqual(lab.send(tcp({ srcPort: 9000, dstPort: 7 })), [], 'it has to wait');
    lab.send(udp({ srcPort: 2000, dstPort: 7 }));
    assert.equal(lab.counter('udp.evicted'), 1);
    for (const peer of peers) assert.equal(peer.sendData(pattern(10)).length, 10);
    lab.guest.setLimits({ tcpMaxFlows: 7 });
    lab.connect(ALLOWED4, 7);
    lab.check();
  });
});

/** A query for the address of "a". */
function question(id: number): Buffer {
  return Buffer.from([0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 0, 0, 1, 0, 1]);
}
