import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { promisify } from 'node:util';
import {
  MAX_BYTES,
  parseResolvConf,
  type ResolvConf,
  ResolvConfFollower,
} from '../../src/control/resolv-conf.ts';
import { PATIENCE_MS } from '../support/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));

describe('parseResolvConf (hazard D-04)', () => {
  const table: [string, string, string[]][] = [
    ['review OP-3: an empty file (libc asks the host itself)', '', ['127.0.0.1', '::1']],
    ['both families', 'nameserver 192.0.2.1\nnameserver 2001:db8::1\n', ['192.0.2.1', '2001:db8::1']],
    ['a zone', 'nameserver fe80::1%eth0\n', ['fe80::1%eth0']],
    ['a loopback stub', 'nameserver 127.0.0.53\noptions edns0\n', ['127.0.0.53']],
    [
      'comments and carriage returns',
      '# nameserver 1.1.1.1\nnameserver 192.0.2.1 # a\r\n;x\n',
      ['192.0.2.1'],
    ],
    ['tabs, no final newline', '\tnameserver\t192.0.2.7', ['192.0.2.7']],
    [
      'what is no address',
      'nameserver dns.example\nnameserver 1.2.3\nnameserver\nnameservers 192.0.2.1\n',
      ['127.0.0.1', '::1'],
    ],
    ['a repeat', 'nameserver 192.0.2.1\nnameserver 192.0.2.1\n', ['192.0.2.1']],
  ];
  for (const [name, text, expected] of table) {
    test(name, () => assert.deepEqual(parseResolvConf(text).servers, expected));
  }

  test('takes the first ten of twelve', () => {
    const text = Array.from({ length: 12 }, (_, i) => `nameserver 192.0.2.${i}\n`).join('');
    assert.deepEqual(parseResolvConf(text).servers.length, 10);
  });
});

describe('review OP-3: options of resolv.conf(5)', () => {
  const defaults = { timeoutMs: 5000, attempts: 2, rotate: false, useTcp: false };
  for (const [text, expected] of [
    ['', {}],
    ['options timeout:1 attempts:1', { timeoutMs: 1000, attempts: 1 }],
    ['options timeout:99 attempts:99', { timeoutMs: 30_000, attempts: 5 }],
    ['options timeout:0 attempts:0', { timeoutMs: 1000, attempts: 1 }],
    ['options timeout:x attempts: rotated', {}],
    ['options edns0 rotate # use-vc\noptions\tuse-vc', { rotate: true, useTcp: true }],
    ['#options rotate', {}],
  ] as const) {
    test(JSON.stringify(text), () =>
      assert.deepEqual(parseResolvConf(text).options, { ...defaults, ...expected }),
    );
  }
});

describe('review OP-15: domains for short names', () => {
  for (const [text, expected] of [
    ['', []],
    ['search a.example b.example', ['a.example', 'b.example']],
    ['domain a.example b.example', ['a.example']],
    ['search a.example\ndomain b.example\nsearch c.example # d.example', ['c.example']],
  ] as const) {
    test(JSON.stringify(text), () => assert.deepEqual(parseResolvConf(text).search, expected));
  }
});

/** What is told of a file at once. */
function told(path: string): { servers: string[]; reasons: string[] } {
  let servers: string[] = [];
  const reasons: string[] = [];
  new ResolvConfFollower(path, {
    changed: (conf) => {
      servers = conf.servers;
    },
    unreadable: (reason) => reasons.push(reason),
  }).close();
  return { servers, reasons };
}

describe('reading resolv.conf', () => {
  test('missing and a dangling symlink are the host itself; a directory cannot be read', () => {
    symlinkSync(join(directory, 'nowhere'), join(directory, 'dangling'));
    const servers = ['127.0.0.1', '::1'];
    assert.deepEqual(told(join(directory, 'missing')), { servers, reasons: [] });
    assert.deepEqual(told(join(directory, 'dangling')), { servers, reasons: [] });
    assert.deepEqual(told(directory), { servers, reasons: ['not a file'] });
  });

  test('reads no more than its limit and takes no line that the limit cuts', () => {
    const path = join(directory, 'long');
    const line = 'nameserver 192.0.2.123\n';
    const head = 'nameserver 192.0.2.1\n';
    // The limit falls in the middle of the last line, behind `192.0.2.1`.
    const padding = '#'.repeat(MAX_BYTES - head.length - 1 - (line.length - 3));
    writeFileSync(path, `${head}${padding}\n${line}${'\0garbage\n'.repeat(100_000)}`);
    assert.deepEqual(told(path).servers, ['192.0.2.1']);
  });
});

describe('ResolvConfFollower', () => {
  /** Collects the lists and lets a test wait for the next one. */
  class Lists {
    private readonly lists: string[][] = [];
    private wake: (() => void) | undefined;
    readonly changed = ({ servers }: ResolvConf): void => {
      this.lists.push(servers);
      this.wake?.();
    };

    async next(): Promise<string[]> {
      while (this.lists.length === 0) {
        // The follower's own timer does not keep a process alive; this one does, and fails a test that waits in vain.
        await new Promise<void>((resolve, reject) => {
          const timer = setTimeout(() => reject(new Error('no change was noticed')), PATIENCE_MS);
          this.wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
      return this.lists.shift() ?? [];
    }
  }

  test('tells of the list at once, and of changes: rewritten, renamed over, removed, back again', async () => {
    const path = join(directory, 'followed');
    writeFileSync(path, 'nameserver 192.0.2.1\n');
    const lists = new Lists();
    const follower = new ResolvConfFollower(path, lists);
    try {
      assert.deepEqual(await lists.next(), ['192.0.2.1']);
      writeFileSync(path, 'nameserver 192.0.2.2\nnameserver 192.0.2.3\n');
      // Truncation may be seen as a state of its own.
      let list = await lists.next();
      if (list[0] === '127.0.0.1') list = await lists.next();
      assert.deepEqual(list, ['192.0.2.2', '192.0.2.3']);
      writeFileSync(`${path}.new`, 'nameserver 2001:db8::1\n');
      renameSync(`${path}.new`, path);
      assert.deepEqual(await lists.next(), ['2001:db8::1']);
      unlinkSync(path);
      assert.deepEqual(await lists.next(), ['127.0.0.1', '::1']);
      writeFileSync(`${path}.new`, 'nameserver 192.0.2.9\n');
      renameSync(`${path}.new`, path);
      assert.deepEqual(await lists.next(), ['192.0.2.9']);
    } finally {
      follower.close();
    }
  });

  test('review OP-3: a file that cannot be read any more changes nothing, and is told', async () => {
    const path = join(directory, 'unreadable');
    writeFileSync(path, 'nameserver 192.0.2.1\noptions rotate\n');
    const heard: ResolvConf[] = [];
    const told: string[] = [];
    const follower = new ResolvConfFollower(path, {
      changed: (conf) => heard.push(conf),
      unreadable: (reason) => told.push(reason),
    });
    try {
      unlinkSync(path);
      mkdirSync(path);
      while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
      assert.match(told[0] as string, /not a file/);
      assert.deepEqual(heard.at(-1)?.servers, ['192.0.2.1']);
    } finally {
      follower.close();
    }
  });

  test('review OP-2: once others read the file, it is they who say what is in it; a reason is told once', () => {
    const path = join(directory, 'left');
    writeFileSync(path, 'nameserver 192.0.2.1\n');
    const heard: string[] = [];
    const reasons: string[] = [];
    const follower = new ResolvConfFollower(path, {
      changed: ({ servers }) => heard.push(servers.join(' ')),
      unreadable: (reason) => reasons.push(reason),
    });
    try {
      follower.leaveToOthers();
      follower.take('nameserver 192.0.2.1\n');
      follower.miss('Permission denied');
      follower.miss('Permission denied');
      follower.take('nameserver 192.0.2.9\n');
      follower.miss('Permission denied');
      assert.deepEqual(heard, ['192.0.2.1', '192.0.2.9']);
      assert.deepEqual(reasons, ['Permission denied', 'Permission denied']);
    } finally {
      follower.close();
    }
  });

  test('servers by configuration count instead; the options stay', () => {
    const path = join(directory, 'options');
    writeFileSync(path, 'nameserver 192.0.2.1\noptions rotate\n');
    const heard: ResolvConf[] = [];
    new ResolvConfFollower(path, { changed: (conf) => heard.push(conf) }, ['192.0.2.7']).close();
    assert.deepEqual(
      heard.map(({ servers, options }) => [servers, options.rotate]),
      [[['192.0.2.7'], true]],
    );
  });

  test("notices a change of a symlink's target in another directory", async () => {
    mkdirSync(join(directory, 'run'));
    const target = join(directory, 'run', 'stub');
    // A directory of its own, so that the watch has nothing to tell.
    mkdirSync(join(directory, 'etc'));
    const path = join(directory, 'etc', 'linked');
    symlinkSync(target, path);
    const lists = new Lists();
    const follower = new ResolvConfFollower(path, lists);
    try {
      assert.deepEqual(await lists.next(), ['127.0.0.1', '::1']);
      writeFileSync(`${target}.new`, 'nameserver 192.0.2.5\n');
      renameSync(`${target}.new`, target);
      assert.deepEqual(await lists.next(), ['192.0.2.5']);
    } finally {
      follower.close();
    }
  });
});

test('review O-12: while others read the file it looks for nothing, but for the numbers of zones', (t) => {
  const timers = new Set<unknown>();
  const { setInterval, clearInterval } = globalThis;
  t.mock.method(globalThis, 'setInterval', (...args: Parameters<typeof setInterval>) => {
    const timer = setInterval(...args);
    timers.add(timer);
    return timer;
  });
  t.mock.method(globalThis, 'clearInterval', (timer: NodeJS.Timeout | undefined) => {
    timers.delete(timer);
    clearInterval(timer);
  });
  const path = join(directory, 'idle');
  writeFileSync(path, 'nameserver 192.0.2.1\n');
  const follower = new ResolvConfFollower(path, { changed: () => undefined });
  assert.equal(timers.size, 1);
  follower.leaveToOthers();
  assert.equal(timers.size, 0);
  follower.take('nameserver fe80::1%eth0\n');
  assert.equal(timers.size, 1);
  follower.take('nameserver fe80::1%2\n');
  assert.equal(timers.size, 0);
  follower.close();
});

test('review OP-13: the zone of a link-local server is the number that its interface has now', async () => {
  const path = join(directory, 'zoned');
  writeFileSync(path, 'nameserver fe80::1%zone0\n');
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const module = new URL(`../../src/control/resolv-conf.${extension}`, import.meta.url).href;
  const script = `
    import { execFileSync } from 'node:child_process';
    import { ResolvConfFollower } from ${JSON.stringify(module)};
    const ip = (...words) => execFileSync('ip', words);
    const made = () => {
      ip('link', 'add', 'zone0', 'type', 'veth', 'peer', 'name', 'zone1');
      ip('link', 'set', 'zone0', 'up');
      ip('link', 'set', 'zone1', 'up');
      return JSON.parse(execFileSync('ip', ['-j', 'link', 'show', 'zone0']).toString())[0].ifindex;
    };
    let zone = '';
    const follower = new ResolvConfFollower(${JSON.stringify(path)}, {
      changed: ({ servers }) => { zone = servers[0].split('%')[1]; },
    });
    const until = async (wanted) => {
      const patience = Date.now() + 20_000;
      while (zone !== String(wanted)) {
        if (Date.now() > patience) throw new Error('zone ' + zone + ', not ' + wanted);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    const first = made();
    await until(first);
    ip('link', 'del', 'zone0');
    const second = made();
    if (second === first) throw new Error('the same number');
    await until(second);
    follower.close();
    console.log('followed');
  `;
  const { stdout } = await promisify(execFile)('unshare', [
    ...['--user', '--map-root-user', '--net', '--'],
    ...[process.execPath, ...(extension === 'ts' ? ['--import', 'tsx'] : [])],
    ...['--input-type=module', '-e', script],
  ]);
  assert.equal(stdout.trim(), 'followed');
});
