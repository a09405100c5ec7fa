import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { defaultAddresses } from '../../src/config.ts';
import { changeInterface } from '../../src/device/interface-configuration.ts';
import { type OpenedInterface, openInterface } from '../../src/device/open-interface.ts';
import { DeviceError } from '../../src/device-error.ts';
import { defaultSetup, type InterfaceNetwork, type InterfaceSetup } from '../../src/device-spec.ts';
import { close } from '../../src/sys/io.ts';
import type { MessageSocket } from '../../src/sys/pass-descriptor.ts';
import { familyTemplate } from '../../src/template/template.ts';
import { carryOut, openIn } from '../support/opener.ts';
import { routedHost } from '../support/recorded-network.ts';
import { until } from '../support/wait.ts';

const ENODEV = 19;
const EBUSY = 16;
const EINVAL = 22;

interface Address {
  local: string;
  prefixlen: number;
  tentative?: boolean;
}
interface Link {
  ifname: string;
  address: string;
  mtu: number;
  txqlen: number;
  flags: string[];
  addr_info: Address[];
}
interface Route {
  dst: string;
  gateway?: string;
}

interface Change {
  name?: string;
  mtu?: number;
  configure?: 'yes' | 'no' | 'auto';
  setup?: Partial<InterfaceSetup>;
}

/** A namespace that exists for as long as `body` runs, with functions to do things in it. */
class Namespace {
  private readonly holder: ChildProcess;
  constructor() {
    this.holder = spawn('unshare', ['--user', '--map-root-user', '--net', 'sh', '-c', 'echo up; exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
  }

  async begin(): Promise<void> {
    await once(this.holder.stdout as NodeJS.ReadableStream, 'data');
  }

  async end(): Promise<void> {
    this.holder.stdin?.end();
    await once(this.holder, 'exit');
  }

  private get prefix(): string[] {
    const base = `/proc/${this.holder.pid}/ns`;
    return [`--user=${base}/user`, '--preserve-credentials', `--net=${base}/net`, '--'];
  }

  run(...command: string[]): string {
    return execFileSync('nsenter', [...this.prefix, ...command], { encoding: 'utf8' });
  }

  links(name: string): Link | undefined {
    const links = JSON.parse(this.run('ip', '-j', 'addr')) as Link[];
    return links.find(({ ifname }) => ifname === name);
  }

  /** Opens an interface; `during` is called while it is held. */
  async open(
    change: Change,
    during: (opened: OpenedInterface, channel: MessageSocket) => void | Promise<void>,
  ): Promise<void> {
    const { tun, netlink, channel } = await openIn(`/proc/${this.holder.pid}/ns/net`);
    try {
      const setup = { ...defaultSetup, ...change.setup };
      const request = { name: 'tap0', mtu: 0, configure: 'auto' as const, ...change, setup };
      await during(carryOut(openInterface(request, defaultAddresses, tun), channel), channel);
    } finally {
      for (const fd of [tun, netlink, channel.fd]) close(fd);
    }
  }

  /** What opening fails with. */
  async failure(change: Change): Promise<DeviceError> {
    try {
      await this.open(change, () => undefined);
    } catch (error) {
      if (error instanceof DeviceError) return error;
      throw error;
    }
    return assert.fail('it can be opened');
  }
}

async function inNamespace(body: (namespace: Namespace) => Promise<void>): Promise<void> {
  const namespace = new Namespace();
  await namespace.begin();
  try {
    await body(namespace);
  } finally {
    await namespace.end();
  }
}

describe('openInterface', () => {
  test('creates and configures a missing interface, which vanishes with the last descriptor', async () => {
    await inNamespace(async (namespace) => {
      await namespace.open({}, (opened) => {
        assert.equal(opened.medium, 'ethernet');
        assert.equal(opened.mtu, 65520);
        assert.equal(opened.vnetHeader, true);
        assert.equal(opened.checksumOffload, true);
        assert.equal(opened.tso, true);
        assert.equal(opened.txQueueLen, 10000);
        const link = namespace.links('tap0');
        assert.ok(link);
        assert.deepEqual([link.mtu, link.txqlen, link.flags.includes('UP')], [65520, 10000, true]);
        assert.ok(link.flags.includes('MULTICAST'));
        const addresses = link.addr_info.filter(({ local }) => !local.startsWith('fe80'));
        assert.deepEqual(
          addresses.map(({ local, prefixlen, tentative }) => [local, prefixlen, tentative]),
          [
            ['10.0.2.100', 24, undefined],
            ['fd00::100', 64, undefined],
          ],
        );
        assert.ok(namespace.links('lo')?.flags.includes('UP'));
        for (const [family, gateway] of [
          ['-4', '10.0.2.2'],
          ['-6', 'fd00::2'],
        ] as const) {
          const routes = JSON.parse(namespace.run('ip', '-j', family, 'route')) as Route[];
          assert.deepEqual(
            routes.filter(({ dst }) => dst === 'default').map((route) => route.gateway),
            [gateway],
          );
        }
        for (const setting of ['accept_ra', 'autoconf'])
          assert.equal(namespace.run('cat', `/proc/sys/net/ipv6/conf/tap0/${setting}`).trim(), '0');
      });
      await until(() => namespace.links('tap0') === undefined, 'the interface vanishes');
    });
  });

  test('sets a MAC address, clears MULTICAST and leaves IPv6 to the guest where so asked', async () => {
    await inNamespace(async (namespace) => {
      const setup = { mac: '0e:d4:18:d9:38:fb', multicast: false, ipv6ByAdvertisement: true };
      await namespace.open({ configure: 'yes', mtu: 1500, setup }, () => {
        const link = namespace.links('tap0');
        assert.deepEqual([link?.address, link?.mtu], ['0e:d4:18:d9:38:fb', 1500]);
        assert.deepEqual(link?.flags.includes('UP'), true);
        assert.deepEqual(link?.flags.includes('MULTICAST'), false);
        const addresses = link?.addr_info.filter(({ local }) => !local.startsWith('fe80'));
        assert.deepEqual(
          addresses?.map(({ local }) => local),
          ['10.0.2.100'],
        );
        assert.equal(namespace.run('cat', '/proc/sys/net/ipv6/conf/tap0/autoconf').trim(), '1');
      });
    });
  });

  test('attaches to an existing TAP and leaves its MTU, state and persistence alone', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'tuntap', 'add', 'tap0', 'mode', 'tap');
      namespace.run('ip', 'link', 'set', 'tap0', 'mtu', '1400');
      await namespace.open({ setup: { create: false } }, (opened) => {
        assert.deepEqual([opened.mtu, opened.vnetHeader], [1400, true]);
        const link = namespace.links('tap0');
        assert.deepEqual(link?.addr_info, []);
        assert.equal(link?.flags.includes('UP'), false);
      });
      assert.equal(namespace.links('tap0')?.mtu, 1400);
    });
  });

  test('review OP-10: other default routes stay, behind ours, and are all there is at the end', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'link', 'add', 've0', 'type', 'veth', 'peer', 'name', 've1');
      for (const end of ['ve0', 've1']) namespace.run('ip', 'link', 'set', end, 'up');
      namespace.run('ip', 'address', 'add', '192.0.2.2/24', 'dev', 've0');
      namespace.run('ip', 'address', 'add', '2001:db8::2/64', 'dev', 've0', 'nodad');
      namespace.run('ip', 'route', 'add', 'default', 'via', '192.0.2.1');
      namespace.run('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8::1');
      const defaults = (): (string | undefined)[] =>
        ['-4', '-6'].flatMap((family) =>
          (JSON.parse(namespace.run('ip', '-j', family, 'route')) as Route[])
            .filter(({ dst }) => dst === 'default')
            .map(({ gateway }) => gateway),
        );
      const before = defaults();
      assert.deepEqual(before, ['192.0.2.1', '2001:db8::1']);
      // Twice: one of ours does not count as another.
      for (const configure of ['auto', 'yes'] as const) {
        await namespace.open({ configure }, ({ notes }) => {
          assert.deepEqual(defaults(), ['10.0.2.2', '192.0.2.1', 'fd00::2', '2001:db8::1']);
          for (const to of ['198.51.100.1', '2001:db8:1::1'])
            assert.match(namespace.run('ip', 'route', 'get', to), /dev tap0/);
          assert.equal(notes.length, 2, notes.join('\n'));
          assert.match(notes[0] ?? '', /^there is a default route besides that by 10\.0\.2\.2/);
        });
        await until(() => isDeepStrictEqual(defaults(), before), 'only the others are left');
      }
    });
  });

  test('a default route that the interface had is replaced', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'tuntap', 'add', 'tap0', 'mode', 'tap');
      namespace.run('ip', 'link', 'set', 'tap0', 'up');
      namespace.run('ip', 'address', 'add', '10.0.2.100/24', 'dev', 'tap0');
      for (let run = 0; run < 2; run++) {
        await namespace.open({ configure: 'yes' }, ({ notes }) => {
          const routes = JSON.parse(namespace.run('ip', '-j', 'route')) as Route[];
          assert.deepEqual(
            routes.filter(({ dst }) => dst === 'default').map(({ gateway }) => gateway),
            ['10.0.2.2'],
          );
          assert.deepEqual(notes, []);
        });
      }
    });
  });

  test('review ON-13: an interface that is there, but down, is told', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'tuntap', 'add', 'tap0', 'mode', 'tap');
      await namespace.open({}, ({ notes }) => {
        assert.equal(notes.length, 1);
        assert.match(notes[0] ?? '', /^interface tap0 is down: .*\(ip link set tap0 up\)$/);
      });
      namespace.run('ip', 'link', 'set', 'tap0', 'up');
      await namespace.open({}, ({ notes }) => assert.deepEqual(notes, []));
      // Who has it made without an address is going to bring it up.
      await namespace.open({ name: 'new0', configure: 'no' }, ({ notes }) => assert.deepEqual(notes, []));
    });
  });

  test('attaches to a TUN, and to a TAP with several queues', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'tuntap', 'add', 'tun0', 'mode', 'tun');
      namespace.run('ip', 'tuntap', 'add', 'mq0', 'mode', 'tap', 'multi_queue');
      await namespace.open({ name: 'tun0' }, (opened) => assert.equal(opened.medium, 'ip'));
      await namespace.open({ name: 'mq0' }, (opened) => assert.equal(opened.medium, 'ethernet'));
    });
  });

  test('creates but does not configure where configuring is off', async () => {
    await inNamespace(async (namespace) => {
      await namespace.open({ configure: 'no', mtu: 9000, setup: { keepMtu: true } }, (opened) => {
        assert.equal(opened.mtu, 9000);
        const link = namespace.links('tap0');
        assert.deepEqual([link?.addr_info, link?.mtu, link?.flags.includes('UP')], [[], 1500, false]);
        assert.equal(namespace.links('lo')?.flags.includes('UP'), false);
      });
    });
  });

  test('review ON-14: an interface of another kind is told to be one', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'link', 'add', 've0', 'type', 'veth', 'peer', 'name', 've1');
      namespace.run('ip', 'link', 'add', 'br0', 'type', 'bridge');
      for (const [name, kind] of [
        ['ve0', ' (it is a veth)'],
        ['br0', ' (it is a bridge)'],
        ['lo', ''],
      ] as const) {
        const { step, error, message } = await namespace.failure({ name });
        assert.deepEqual([step, error], ['attach', EINVAL], name);
        assert.equal(message, `interface ${name} exists but is no TAP or TUN device${kind}`);
      }
    });
  });

  test('what cannot be opened is one error that tells step and errno', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'link', 'add', 've0', 'type', 'veth', 'peer', 'name', 've1');
      const missing = await namespace.failure({ name: 'none0', setup: { create: false } });
      assert.deepEqual([missing.step, missing.error], ['lookup', ENODEV]);
      assert.match(missing.message, /none0 does not exist/);
      assert.equal(namespace.links('none0'), undefined);
      const size = await namespace.failure({ mtu: 70000 });
      assert.deepEqual([size.step, size.error], ['configure', EINVAL]);
      assert.match(size.message, /MTU to 70000: EINVAL/);
      await namespace.open({}, async () => {
        const busy = await namespace.failure({});
        assert.deepEqual([busy.step, busy.error], ['attach', EBUSY]);
        assert.match(busy.message, /tap0 is in use/);
      });
    });
  });
});

describe('pasta §4.3: a copy of the host’s network', () => {
  const copyOf = (change: (network: InterfaceNetwork) => void = () => undefined): InterfaceNetwork => {
    const templates = ([4, 6] as const).map((family) => familyTemplate(routedHost(), family));
    const network: InterfaceNetwork = {
      addresses: templates.flatMap((template) => template?.addresses ?? []),
      routes: templates.flatMap((template) => template?.routes ?? []),
    };
    change(network);
    return network;
  };
  const routes = (inside: Namespace): string[] =>
    ['-4', '-6'].flatMap((family) =>
      inside
        .run('ip', family, 'route', 'show', 'dev', 'eth0')
        .trim()
        .split(/\n(?!\s)/)
        .map((line) => line.replace(/ pref medium| linkdown|\s+$/g, '').replace(/\s+/g, ' ')),
    );

  test('all addresses, usable at once, and all routes, whatever order they come in', () =>
    inNamespace(async (inside) => {
      const network = copyOf(({ routes }) => routes.reverse());
      await inside.open({ name: 'eth0', configure: 'yes', setup: { network } }, ({ notes }) => {
        assert.deepEqual(notes, []);
        const addresses = inside.links('eth0')?.addr_info ?? [];
        assert.deepEqual(
          addresses
            .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
            .filter((text) => !/^fe80/.test(text)),
          ['192.0.2.10/24', '192.0.2.11/24', '2001:db8::10/64'],
        );
        // The kernel's link-local address among them.
        assert.equal(addresses.length, 4);
        assert.ok(addresses.every(({ tentative }) => tentative !== true));
        assert.deepEqual(routes(inside), [
          'default via 192.0.2.1 metric 100',
          '10.99.0.1 scope link',
          '10.99.1.0/24 via 10.99.0.1',
          '192.0.2.0/24 proto kernel scope link src 192.0.2.10',
          '198.51.100.0/24 via 192.0.2.2',
          '2001:db8::/64 proto kernel metric 256',
          '2001:db8:5::/48 via 2001:db8::2 metric 1024',
          'fe80::/64 proto kernel metric 256',
          'default via fe80::1 metric 1024',
        ]);
        // Of several routers `ip route show dev` shows nothing.
        assert.match(
          inside.run('ip', 'route'),
          /203\.0\.113\.0\/24 .*\n.*192\.0\.2\.3 .*\n.*192\.0\.2\.4 .*weight 5/,
        );
      });
    }));

  test('the address that the host speaks from is the one that the guest speaks from', () =>
    inNamespace(async (inside) => {
      const network = copyOf(({ addresses }) => {
        const last = addresses.find(({ address }) => address === '2001:db8::10');
        assert.ok(last !== undefined);
        addresses.splice(addresses.indexOf(last), 0, { ...last, address: '2001:db8::11' });
      });
      await inside.open({ name: 'eth0', configure: 'yes', setup: { network } }, () => {
        assert.match(inside.run('ip', 'route', 'get', '192.0.2.77'), / src 192\.0\.2\.10 /);
        assert.match(inside.run('ip', 'route', 'get', '2001:db8::77'), / src 2001:db8::11 /);
      });
    }));

  test('pasta §15.2: changed to another, as it would be made anew, but for what others have given it', () =>
    inNamespace(async (inside) => {
      const network = copyOf();
      const [first, ...others] = network.addresses;
      const routes6 = network.routes.filter(({ destination }) => destination.includes(':'));
      const [kept = routes6[0]] = network.routes.filter(({ destination }) => destination === '10.99.0.1');
      const after = { addresses: others, routes: [kept, ...routes6].filter((route) => route !== undefined) };
      await inside.open({ name: 'eth0', configure: 'yes', setup: { network } }, (_, channel) => {
        inside.run('ip', 'address', 'add', '10.5.5.5/24', 'dev', 'eth0');
        inside.run('ip', 'route', 'del', '198.51.100.0/24');
        assert.equal(first?.address, '192.0.2.10');
        assert.deepEqual(carryOut(changeInterface('eth0', network, after), channel), []);
        const found = () =>
          inside
            .links('eth0')
            ?.addr_info.map(({ local }) => local)
            .filter((local) => !local.startsWith('fe80'));
        // The kernel takes the second of a network with its first, and it is there all the same.
        assert.deepEqual(found()?.sort(), ['10.5.5.5', '192.0.2.11', '2001:db8::10']);
        assert.deepEqual(routes(inside), [
          '10.5.5.0/24 proto kernel scope link src 10.5.5.5',
          '10.99.0.1 scope link',
          '192.0.2.0/24 proto kernel scope link src 192.0.2.11',
          '2001:db8::/64 proto kernel metric 256',
          '2001:db8:5::/48 via 2001:db8::2 metric 1024',
          'fe80::/64 proto kernel metric 256',
          'default via fe80::1 metric 1024',
        ]);
        assert.deepEqual(carryOut(changeInterface('eth0', after, network), channel), []);
        assert.ok(routes(inside).includes('default via 192.0.2.1 metric 100'));
        assert.match(carryOut(changeInterface('no0', after, network), channel).join(), /no interface no0/);
      });
    }));

  test('a router that no route leads to is reached all the same', () =>
    inNamespace(async (inside) => {
      const network = copyOf((all) => {
        all.routes = all.routes
          .filter(({ prefixLength }) => prefixLength === 0)
          .map((route) => ({
            ...route,
            nextHops: route.nextHops.map((hop) => ({
              ...hop,
              gateway: hop.gateway.includes(':') ? '2001:db8:77::1' : '10.7.7.7',
            })),
          }));
      });
      await inside.open({ name: 'eth0', configure: 'yes', setup: { network } }, ({ notes }) => {
        assert.deepEqual(notes, []);
        assert.match(inside.run('ip', 'route'), /^default via 10\.7\.7\.7 dev eth0 metric 100 onlink/m);
        assert.match(
          inside.run('ip', '-6', 'route'),
          /^default via 2001:db8:77::1 dev eth0 metric 1024 onlink/m,
        );
      });
    }));

  test('without configuration lo is up and the MAC address set, and the interface is down and empty', () =>
    inNamespace(async (inside) => {
      const setup = { prepare: true, mac: '02:00:00:00:00:99' };
      await inside.open({ name: 'eth0', configure: 'no', setup }, () => {
        const { flags, address, addr_info } = inside.links('eth0') as Link;
        assert.deepEqual([flags.includes('UP'), address, addr_info.length], [false, '02:00:00:00:00:99', 0]);
        assert.ok(inside.links('lo')?.flags.includes('UP'));
      });
    }));
});
