import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BODY, type BothWays, serveBothWays } from '../support/both-ways.ts';
import {
  attach,
  type Bare,
  bareNamespace,
  DNS4,
  directory,
  GATEWAY4,
  GATEWAY6,
  HOST4,
  HOST6,
  mode,
  OPEN,
  ready,
  tslirpCommand,
} from '../support/namespaces.ts';
import { must, type Running, start } from '../support/processes.ts';
import { until } from '../support/wait.ts';

let transfers: BothWays;
before(async () => {
  transfers = await serveBothWays();
});
after(async () => {
  await transfers?.close();
});

async function withBare(body: (bare: Bare) => Promise<void>, plain = false): Promise<void> {
  const bare = await bareNamespace({ plain });
  try {
    await body(bare);
  } finally {
    await bare.anchor.stop();
  }
}

async function attached(
  target: string | number,
  options: readonly string[],
  body: (stack: Running) => Promise<void>,
): Promise<void> {
  const stack = await attach(target, ...OPEN, ...options);
  try {
    await body(stack);
  } finally {
    await stack.stop('SIGTERM');
  }
}

/** Processor time of a process, in hundredths of a second (fields 14 and 15 of /proc/PID/stat). */
function processorTicks(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

describe('attach', () => {
  test('makes and configures an interface in the namespace of a process', async () => {
    await withBare(async ({ namespace }) => {
      await attached(namespace.pid, [], () => transfers.works(namespace));
    });
  });

  test('review ON-12: settings of IPv6 that cannot be written are one line, those that are right are none', async () => {
    const script = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"';
    const readOnly = ['unshare', '--mount', 'sh', '-c', script, 'sh'];
    await withBare(async ({ namespace }) => {
      const warnings = async (): Promise<string[]> => {
        const argv = tslirpCommand('attach', '--log-level', 'warn', '--ready-fd', '3', String(namespace.pid));
        const stack = start([...readOnly, ...argv], { stdio: ['ignore', 'pipe', 'pipe', 'pipe'] });
        try {
          await ready(stack);
        } finally {
          await stack.stop('SIGTERM');
        }
        return stack.stderr.split('\n').filter((line) => line.includes('"level":40'));
      };
      const before = await warnings();
      assert.equal(before.length, 1, before.join('\n'));
      assert.match(before[0] ?? '', /from router advertisements too: \/proc\/sys is read-only here"/);
      await namespace.sysctl('net.ipv6.conf.default.accept_ra=0', 'net.ipv6.conf.default.autoconf=0');
      assert.deepEqual(await warnings(), []);
    });
  });

  test('makes an interface of another name, network and MTU', async () => {
    await withBare(async ({ namespace }) => {
      const options = ['--interface', 'net7', '--cidr', '10.77.0.0/16', '--mtu', '1400'];
      await attached(namespace.pid, options, async () => {
        const link = await namespace.must(['ip', 'address', 'show', 'net7']);
        assert.match(link, /mtu 1400/);
        assert.match(link, /inet 10\.77\.0\.100\/16/);
        await transfers.works(namespace);
      });
    });
  });

  test('takes a namespace by its file', async () => {
    await withBare(async ({ namespace }) => {
      const userns = ['--userns', `/proc/${namespace.pid}/ns/user`];
      await attached(`/proc/${namespace.pid}/ns/net`, userns, () => transfers.works(namespace));
    });
  });

  if (mode !== 'user') {
    test('takes a namespace that is mounted somewhere, and notices when it is taken away', async () => {
      const file = join(directory, 'namespace');
      writeFileSync(file, '');
      await withBare(async ({ namespace, anchor }) => {
        await must(['mount', '--bind', `/proc/${namespace.pid}/ns/net`, file]);
        let mounted = true;
        try {
          const stack = await attach(file, ...OPEN);
          try {
            await transfers.works(namespace);
            await anchor.stop();
            await must(['umount', file]);
            mounted = false;
            assert.equal((await stack.end(1500)).status, 0);
          } finally {
            await stack.stop();
          }
        } finally {
          if (mounted) await must(['umount', file]);
        }
      }, true);
    });
  }

  test('review OP-9: the name of a namespace may go while a process lives in it', async () => {
    const file = join(directory, 'named');
    writeFileSync(file, '');
    for (const options of [[], ['--no-sandbox']]) {
      await withBare(async ({ namespace, anchor }) => {
        await must(['mount', '--bind', `/proc/${namespace.pid}/ns/net`, file]);
        const stack = await attach(file, ...OPEN, ...options);
        try {
          await must(['umount', file]);
          // Longer than it takes to be noticed, by the clock of another process that waits for it.
          await namespace.must(['sleep', '1']);
          await transfers.works(namespace, [HOST4]);
          await anchor.stop();
          assert.equal((await stack.end()).status, 0);
        } finally {
          await stack.stop();
        }
      });
    }
  });

  for (const kind of ['tap', 'tun'] as const) {
    test(`uses a persistent ${kind.toUpperCase()} that somebody else made and configured, again and again`, async () => {
      await withBare(async ({ namespace }) => {
        await namespace.ip(
          `tuntap add dev own0 mode ${kind}`,
          'link set own0 mtu 1420 up',
          'address add 10.0.2.100/24 dev own0',
          'address add fd00::100/64 dev own0 nodad',
          `route add default via ${GATEWAY4} dev own0`,
          `route add default via ${GATEWAY6} dev own0`,
        );
        for (let round = 0; round < 2; round++) {
          await attached(namespace.pid, ['--interface', 'own0'], async () => {
            await transfers.works(namespace);
            for (const address of [GATEWAY4, GATEWAY6, HOST4, HOST6])
              await namespace.must(['ping', '-n', '-c', '1', '-W', '2', address]);
          });
          assert.match(await namespace.must(['ip', 'link', 'show', 'own0']), /mtu 1420/);
        }
      });
    });
  }

  test('links L-25, L-26: a TUN is made where none is: no ARP, and segments of 64 KiB at MTU 1500', async () => {
    await withBare(async ({ namespace }) => {
      await attached(namespace.pid, ['--link', 'tun:own1', '--mtu', '1500'], async () => {
        assert.match(await namespace.must(['ip', 'link', 'show', 'own1']), /link\/none/);
        await transfers.works(namespace);
        for (const address of [GATEWAY4, GATEWAY6, HOST4, HOST6])
          await namespace.must(['ping', '-n', '-c', '1', '-W', '2', address]);
        assert.equal((await namespace.must(['ip', 'neigh', 'show', 'dev', 'own1'])).trim(), '');
        // Each way two bodies, in many fewer packets than of 1500 bytes.
        const [{ stats64 }] = JSON.parse(await namespace.must(['ip', '-s', '-j', 'link', 'show', 'own1']));
        for (const { bytes, packets } of [stats64.rx, stats64.tx])
          assert.ok(bytes > 2 * BODY.length && bytes / packets > 3000, `${bytes} bytes, ${packets} packets`);
      });
    });
  });

  test('an unconfigured TAP gets address, router, name server and MTU by DHCP', async () => {
    const script = join(directory, 'dhcp.sh');
    writeFileSync(
      script,
      '#!/bin/sh\necho "$1 ip=$ip subnet=$subnet router=$router dns=$dns mtu=$mtu lease=$lease"\n',
      {
        mode: 0o755,
      },
    );
    await withBare(async ({ namespace }) => {
      await namespace.ip('tuntap add dev tap0 mode tap', 'link set tap0 mtu 1500 up');
      await attached(namespace.pid, ['--no-configure'], async () => {
        const options = ['-f', '-q', '-n', '-t', '5', '-T', '1', '-i', 'tap0', '-s', script];
        const out = await namespace.must(['udhcpc', ...options]);
        const bound = out.split('\n').find((line) => line.startsWith('bound')) ?? out;
        assert.match(bound, /ip=10\.0\.2\.100 subnet=255\.255\.255\.0/);
        assert.match(bound, new RegExp(`router=${GATEWAY4} `));
        assert.match(bound, new RegExp(`dns=${DNS4} `));
        assert.match(bound, /mtu=1500/);
        await namespace.ip('address add 10.0.2.100/24 dev tap0', `route add default via ${GATEWAY4}`);
        await transfers.works(namespace, [HOST4]);
      });
    });
  });

  test('an unconfigured TAP configures IPv6 from router advertisements', async () => {
    await withBare(async ({ namespace }) => {
      await namespace.ip('tuntap add dev tap0 mode tap', 'link set tap0 mtu 1500');
      await namespace.sysctl('net.ipv6.conf.tap0.accept_ra=2', 'net.ipv6.conf.tap0.autoconf=1');
      await attached(namespace.pid, ['--no-configure'], async () => {
        await namespace.ip('link set tap0 up');
        await until(
          async () => {
            const addresses = await namespace.must(['ip', '-6', 'address', 'show', 'dev', 'tap0']);
            const routes = await namespace.must(['ip', '-6', 'route', 'show', 'default']);
            return (
              /inet6 fd00::[0-9a-f:]+\/64 (?!.*tentative)/.test(addresses) && /default via fe80:/.test(routes)
            );
          },
          'an address of fd00::/64 and a default route',
          15_000,
          50,
        );
        await transfers.works(namespace, [HOST6]);
      });
    });
  });

  test('with --no-configure an interface that is missing is made, and left unconfigured', async () => {
    await withBare(async ({ namespace }) => {
      await attached(namespace.pid, ['--no-configure', '--interface', 'new0'], async () => {
        const out = await namespace.must(['ip', 'address', 'show', 'new0']);
        assert.doesNotMatch(out, /inet 10|inet6 fd00/);
      });
    });
  });

  test('the interface going away ends the service', async () => {
    await withBare(async ({ namespace }) => {
      const stack = await attach(namespace.pid);
      try {
        await namespace.ip('link delete tap0');
        assert.equal((await stack.end()).status, 0);
      } finally {
        await stack.stop();
      }
    });
  });

  test('an interface that goes down and comes up again serves on, connections and all', async () => {
    await withBare(async ({ namespace }) => {
      await attached(namespace.pid, [], async () => {
        await transfers.works(namespace);
        await namespace.ip('link set tap0 down', 'link set tap0 up');
        await namespace.ip(`route replace default via ${GATEWAY4} dev tap0`);
        await transfers.works(namespace, [HOST4]);
      });
    });
  });

  test('an interface that is down costs no time', async () => {
    await withBare(async ({ namespace }) => {
      await attached(namespace.pid, [], async (stack) => {
        await transfers.works(namespace, [HOST4]);
        await namespace.ip('link set tap0 down');
        const before = processorTicks(stack.pid);
        // Housekeeping and the watch on the namespace go on; a loop that spins takes a hundred ticks a second.
        await namespace.must(['sleep', '1']);
        const used = processorTicks(stack.pid) - before;
        assert.ok(used < 25, `${used} ticks in a second`);
      });
    });
  });
});
