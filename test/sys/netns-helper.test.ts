import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const helper = fileURLToPath(new URL(`../../src/sys/netns/helper.${extension}`, import.meta.url));

const v4 = { address: [10, 0, 2, 100], prefix: 24, gateway: [10, 0, 2, 2] };
const v6 = {
  address: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0],
  prefix: 64,
  gateway: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
};
const request = {
  name: 'tap0',
  mode: 'auto',
  mtu: 0,
  defaultMtu: 65520,
  txQueueLen: 10000,
  addresses: [v4, v6],
};

interface Answer {
  error?: string;
  medium?: string;
  mtu?: number;
  vnetHeader?: boolean;
  checksumOffload?: boolean;
  tso?: boolean;
  txQueueLen?: number;
}
interface Address {
  local: string;
  prefixlen: number;
  tentative?: boolean;
}
interface Link {
  ifname: string;
  mtu: number;
  txqlen: number;
  flags: string[];
  addr_info: Address[];
}
interface Route {
  dst: string;
  gateway?: string;
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

  /** Runs the helper; `during` is called while it holds the device. */
  async help(text: string, during: (answer: Answer) => void): Promise<number | null> {
    const child = spawn('nsenter', [...this.prefix, process.execPath, ...process.execArgv, helper, text], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const exit = once(child, 'exit');
    const [line] = (await once(child.stdout.setEncoding('utf8'), 'data')) as [string];
    try {
      during(JSON.parse(line) as Answer);
    } finally {
      child.stdin.end();
    }
    const [code] = (await exit) as [number | null];
    return code;
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

describe('namespace helper', () => {
  test('creates and configures a missing interface, which vanishes with the last descriptor', async () => {
    await inNamespace(async (namespace) => {
      const status = await namespace.help(JSON.stringify(request), (answer) => {
        assert.equal(answer.error, undefined);
        assert.equal(answer.medium, 'ethernet');
        assert.equal(answer.mtu, 65520);
        assert.equal(answer.vnetHeader, true);
        assert.equal(answer.checksumOffload, true);
        assert.equal(answer.tso, true);
        assert.equal(answer.txQueueLen, 10000);
        const link = namespace.links('tap0');
        assert.ok(link);
        assert.deepEqual([link.mtu, link.txqlen, link.flags.includes('UP')], [65520, 10000, true]);
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
        assert.equal(namespace.run('cat', '/proc/sys/net/ipv6/conf/tap0/accept_ra').trim(), '0');
      });
      assert.equal(status, 0);
      assert.equal(namespace.links('tap0'), undefined);
    });
  });

  test('attaches to an existing TAP and leaves its MTU, state and persistence alone', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'tuntap', 'add', 'tap0', 'mode', 'tap');
      namespace.run('ip', 'link', 'set', 'tap0', 'mtu', '1400');
      await namespace.help(JSON.stringify(request), (answer) => {
        assert.deepEqual([answer.error, answer.mtu, answer.vnetHeader], [undefined, 1400, true]);
        const link = namespace.links('tap0');
        assert.deepEqual(link?.addr_info, []);
        assert.equal(link?.flags.includes('UP'), false);
      });
      assert.equal(namespace.links('tap0')?.mtu, 1400);
    });
  });

  test('attaches to a TUN, and to a TAP with several queues', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'tuntap', 'add', 'tun0', 'mode', 'tun');
      namespace.run('ip', 'tuntap', 'add', 'mq0', 'mode', 'tap', 'multi_queue');
      await namespace.help(JSON.stringify({ ...request, name: 'tun0' }), (answer) => {
        assert.deepEqual([answer.error, answer.medium], [undefined, 'ip']);
      });
      await namespace.help(JSON.stringify({ ...request, name: 'mq0' }), (answer) => {
        assert.deepEqual([answer.error, answer.medium], [undefined, 'ethernet']);
      });
    });
  });

  test('creates but does not configure where configuring is off', async () => {
    await inNamespace(async (namespace) => {
      await namespace.help(JSON.stringify({ ...request, mode: 'no', mtu: 1500 }), (answer) => {
        assert.deepEqual([answer.error, answer.mtu], [undefined, 1500]);
        assert.deepEqual(namespace.links('tap0')?.addr_info, []);
        assert.equal(namespace.links('lo')?.flags.includes('UP'), false);
      });
    });
  });

  test('an interface of another kind, one in use, a bad MTU and no JSON are one error each', async () => {
    await inNamespace(async (namespace) => {
      namespace.run('ip', 'link', 'add', 've0', 'type', 'veth', 'peer', 'name', 've1');
      const failure = async (text: string): Promise<string> => {
        let error = '';
        const status = await namespace.help(text, (answer) => {
          error = answer.error ?? '';
        });
        assert.equal(status, 1);
        return error;
      };
      assert.match(await failure(JSON.stringify({ ...request, name: 've0' })), /ve0 exists.*veth/);
      assert.match(await failure(JSON.stringify({ ...request, mtu: 70000 })), /MTU to 70000: EINVAL/);
      assert.match(await failure('{'), /JSON/);
      let inner = Promise.resolve('');
      await namespace.help(JSON.stringify(request), () => {
        // Still held when the second one starts: its standard input ends only after this one's answer.
        inner = Promise.resolve(
          namespace.run(
            'sh',
            '-c',
            '"$0" "$@" </dev/null || true',
            process.execPath,
            ...process.execArgv,
            helper,
            JSON.stringify(request),
          ),
        );
      });
      assert.match(await inner, /tap0 is in use/);
    });
  });
});
