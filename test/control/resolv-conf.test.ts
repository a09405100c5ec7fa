import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import {
  MAX_BYTES,
  parseResolvConf,
  ResolvConfFollower,
  readResolvConf,
} from '../../src/control/resolv-conf.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));

describe('parseResolvConf (hazard D-04)', () => {
  const table: [string, string, string[]][] = [
    ['an empty file', '', []],
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
      [],
    ],
    ['a repeat', 'nameserver 192.0.2.1\nnameserver 192.0.2.1\n', ['192.0.2.1']],
  ];
  for (const [name, text, expected] of table) {
    test(name, () => assert.deepEqual(parseResolvConf(text), expected));
  }

  test('takes the first ten of twelve', () => {
    const text = Array.from({ length: 12 }, (_, i) => `nameserver 192.0.2.${i}\n`).join('');
    assert.deepEqual(parseResolvConf(text).length, 10);
  });
});

describe('readResolvConf', () => {
  test('missing, a directory and a dangling symlink are an empty list', () => {
    symlinkSync(join(directory, 'nowhere'), join(directory, 'dangling'));
    assert.deepEqual(readResolvConf(join(directory, 'missing')), []);
    assert.deepEqual(readResolvConf(directory), []);
    assert.deepEqual(readResolvConf(join(directory, 'dangling')), []);
  });

  test('reads no more than its limit and takes no line that the limit cuts', () => {
    const path = join(directory, 'long');
    const line = 'nameserver 192.0.2.123\n';
    const head = 'nameserver 192.0.2.1\n';
    // The limit falls in the middle of the last line, behind `192.0.2.1`.
    const padding = '#'.repeat(MAX_BYTES - head.length - 1 - (line.length - 3));
    writeFileSync(path, `${head}${padding}\n${line}${'\0garbage\n'.repeat(100_000)}`);
    assert.deepEqual(readResolvConf(path), ['192.0.2.1']);
  });
});

describe('ResolvConfFollower', () => {
  /** Collects the lists and lets a test wait for the next one. */
  class Lists {
    private readonly lists: string[][] = [];
    private wake: (() => void) | undefined;
    readonly add = (servers: string[]): void => {
      this.lists.push(servers);
      this.wake?.();
    };

    async next(): Promise<string[]> {
      while (this.lists.length === 0) {
        // The follower's own timer does not keep a process alive; this one does, and fails a test that waits in vain.
        await new Promise<void>((resolve, reject) => {
          const timer = setTimeout(() => reject(new Error('no change was noticed')), 5000);
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
    const follower = new ResolvConfFollower(path, lists.add);
    try {
      assert.deepEqual(await lists.next(), ['192.0.2.1']);
      writeFileSync(path, 'nameserver 192.0.2.2\nnameserver 192.0.2.3\n');
      // Truncation may be seen as a state of its own.
      let list = await lists.next();
      if (list.length === 0) list = await lists.next();
      assert.deepEqual(list, ['192.0.2.2', '192.0.2.3']);
      writeFileSync(`${path}.new`, 'nameserver 2001:db8::1\n');
      renameSync(`${path}.new`, path);
      assert.deepEqual(await lists.next(), ['2001:db8::1']);
      unlinkSync(path);
      assert.deepEqual(await lists.next(), []);
      writeFileSync(`${path}.new`, 'nameserver 192.0.2.9\n');
      renameSync(`${path}.new`, path);
      assert.deepEqual(await lists.next(), ['192.0.2.9']);
    } finally {
      follower.close();
    }
  });

  test("notices a change of a symlink's target in another directory", async () => {
    mkdirSync(join(directory, 'run'));
    const target = join(directory, 'run', 'stub');
    // A directory of its own, so that the watch has nothing to tell.
    mkdirSync(join(directory, 'etc'));
    const path = join(directory, 'etc', 'linked');
    symlinkSync(target, path);
    const lists = new Lists();
    const follower = new ResolvConfFollower(path, lists.add);
    try {
      assert.deepEqual(await lists.next(), []);
      writeFileSync(`${target}.new`, 'nameserver 192.0.2.5\n');
      renameSync(`${target}.new`, target);
      assert.deepEqual(await lists.next(), ['192.0.2.5']);
    } finally {
      follower.close();
    }
  });
});
