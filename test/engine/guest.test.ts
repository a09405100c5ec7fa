import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EBADFD } from '../support/lab/fake-kernel.ts';
import { Lab } from '../support/lab/lab.ts';
import { ALLOWED4, ALLOWED6, echo, pattern, tcp, udp } from '../support/lab/packets.ts';

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
