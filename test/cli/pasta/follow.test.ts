import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HostFollower } from '../../../src/cli/pasta/follow.ts';
import { guestNetwork } from '../../../src/cli/pasta/network.ts';
import { plainConfig } from '../../../src/cli/pasta/pasta-config.ts';
import type { GuestChange } from '../../../src/engine/messages.ts';
import type { HostNetwork } from '../../../src/template/host-network.ts';
import { routedHost } from '../../support/recorded-network.ts';

const nobody: HostNetwork = { links: [], addresses: [], routes: [] };

/** A host whose network is what is put there, and a guest that is told of it. */
class Bench {
  readonly told: string[] = [];
  host: HostNetwork;
  news = false;
  readonly follower: HostFollower;

  constructor(host: HostNetwork, configure = true) {
    this.host = host;
    const network = { ...plainConfig().network, configure };
    network.ipv4 = { ...network.ipv4, mapGuestAddress: '169.254.1.2' };
    const client = {
      update: async ({ network: now }: GuestChange) => {
        const mappings = now?.mappings.map(({ guest, host }) => `${guest}=${host}`);
        this.told.push(`${now?.addresses.guest4} by ${now?.addresses.gateway4}, ${mappings?.join(' ')}`);
      },
      changeInterface: (name: string, ...changes: ReturnType<typeof guestNetwork>['inside'][]) => {
        const lists = changes.map(({ addresses }) => addresses.map(({ address }) => address).join(' '));
        this.told.push(`${name}: ${lists.join(' -> ')}`);
      },
    };
    const socket = { read: () => this.host, hasNews: () => this.news };
    const first = guestNetwork(network, host);
    this.follower = new HostFollower(network, { socket, network: first }, client, () => undefined);
  }

  /** What the guest is told when this is the host's network. */
  async become(host: HostNetwork): Promise<string[]> {
    this.told.length = 0;
    this.host = host;
    this.news = true;
    await this.follower.look();
    this.news = false;
    return this.told;
  }
}

function without(gone: string): HostNetwork {
  const host = routedHost();
  return { ...host, addresses: host.addresses.filter(({ address }) => address !== gone) };
}

describe('pasta §15.2: the host is followed', () => {
  test('an address comes: the interface has it, and the host is known as the guest’s at that one too', async () => {
    const bench = new Bench(without('192.0.2.11'));
    assert.deepEqual(await bench.become(routedHost()), [
      '192.0.2.10 by 192.0.2.1, 192.0.2.1=127.0.0.1 169.254.1.2=192.0.2.10 169.254.1.2=192.0.2.11 fe80::1=::1',
      'eth0: 192.0.2.10 2001:db8::10 -> 192.0.2.10 192.0.2.11 2001:db8::10',
    ]);
    assert.deepEqual(await bench.become(routedHost()), []);
  });

  test('the first one goes: the next is the guest’s, and what stands for it leads there', async () => {
    const bench = new Bench(routedHost());
    assert.deepEqual(await bench.become(without('192.0.2.10')), [
      '192.0.2.11 by 192.0.2.1, 192.0.2.1=127.0.0.1 169.254.1.2=192.0.2.11 fe80::1=::1',
      'eth0: 192.0.2.10 192.0.2.11 2001:db8::10 -> 192.0.2.11 2001:db8::10',
    ]);
  });

  test('a host that loses its network leaves the guest what it had; one that gets one, gives it', async () => {
    const bench = new Bench(routedHost());
    assert.deepEqual(await bench.become(nobody), []);
    assert.deepEqual(await bench.become(routedHost()), []);
    const late = new Bench(nobody);
    const [addresses, inside] = await late.become(routedHost());
    assert.match(addresses ?? '', /^192\.0\.2\.10 by 192\.0\.2\.1, /);
    // Its name stays.
    assert.equal(inside, 'tap0: 169.254.2.1 -> 192.0.2.10 192.0.2.11 2001:db8::10');
  });

  test('without --config-net the interface is the guest’s own affair', async () => {
    const bench = new Bench(routedHost(), false);
    assert.equal((await bench.become(without('192.0.2.10'))).length, 1);
  });

  test('without news nobody looks', async () => {
    const bench = new Bench(routedHost());
    bench.host = nobody;
    await bench.follower.look();
    assert.deepEqual(bench.told, []);
  });
});
