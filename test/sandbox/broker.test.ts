/** The orders of bin/broker.pl, one by one, given by a process that is not tslirp. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { after, afterEach, describe, type TestContext, test } from 'node:test';
import { NetlinkSource } from '../../src/expose/netlink-source.ts';
import { processStartTime } from '../../src/sandbox/namespace.ts';
import { EADDRINUSE, ENETUNREACH } from '../../src/sys/errno.ts';
import { close } from '../../src/sys/io.ts';
import { Memory } from '../../src/sys/memory.ts';
import { MessageSocket } from '../../src/sys/pass-descriptor.ts';
import { connect, putSockaddr4, SHUT_WR, shutdown } from '../../src/sys/socket.ts';
import { TestBroker } from '../support/test-broker.ts';
import { until } from '../support/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true, force: true }));

const started: TestBroker[] = [];
afterEach(async () => {
  for (const broker of started.splice(0)) await broker.stop();
});

async function startBroker(...options: Parameters<typeof TestBroker.start>): Promise<TestBroker> {
  const broker = await TestBroker.start(...options);
  started.push(broker);
  return broker;
}

function identity(path: string): string {
  const { dev, ino } = lstatSync(path);
  return `${dev}:${ino}`;
}

/** It has been round its loop: what it had to say about what came before has been said. */
async function turns(broker: TestBroker): Promise<string> {
  const path = join(directory, `turn-${performance.now()}`);
  writeFileSync(path, 'turned');
  broker.order('follow', path);
  return broker.next();
}

/** A process in a network namespace of its own; the script says `up` when it is ready, and ends with its standard input. */
async function startTarget(t: TestContext, script: string): Promise<ChildProcess> {
  const child = spawn('unshare', ['--user', '--map-root-user', '--net', 'sh', '-c', script], {
    stdio: ['pipe', 'pipe', 'inherit', 'pipe'],
  });
  // Whatever happens in the test, nobody stays behind in the namespace.
  t.after(() => {
    child.stdin?.end();
    (child.stdio[3] as Duplex).destroy();
  });
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

function networkOf({ pid }: ChildProcess): string {
  const { dev, ino } = statSync(`/proc/${pid}/net/dev`);
  return `${dev}:${ino}`;
}

function watchProcess(
  broker: TestBroker,
  child: ChildProcess,
  start = processStartTime(child.pid ?? 0),
): void {
  broker.order('watch', 'inhabitants', 'process', networkOf(child), child.pid ?? 0, start);
}

describe('watch', () => {
  test('a process: there while it runs, gone when it has ended', async (t) => {
    const broker = await startBroker();
    const child = await startTarget(t, 'echo up; exec cat');
    watchProcess(broker, child);
    assert.equal(await turns(broker), 'text|turned');
    child.stdin?.end();
    assert.equal(await broker.next(), 'gone');
  });

  // The other one reads descriptor 3: the runtime closes its end of a standard input as soon as the process has ended.
  test('a process that has ended, with another one still in its namespace', async (t) => {
    const broker = await startBroker();
    const child = await startTarget(t, 'cat <&3 >/dev/null & echo up; wait');
    watchProcess(broker, child);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.equal(await turns(broker), 'text|turned');
    (child.stdio[3] as Duplex).end();
    assert.equal(await broker.next(), 'gone');
  });

  test('a number that belongs to another process now is not the target', async (t) => {
    const broker = await startBroker();
    const child = await startTarget(t, 'echo up; exec cat');
    watchProcess(broker, child, '1');
    assert.equal(await turns(broker), 'text|turned', 'somebody is in the namespace');
    child.stdin?.end();
    assert.equal(await broker.next(), 'gone');
  });

  test('review OP-9: a file that is gone is missed only when nobody is in the namespace', async (t) => {
    const broker = await startBroker();
    const child = await startTarget(t, 'echo up; exec cat');
    const path = join(directory, 'link');
    symlinkSync(`/proc/${child.pid}/ns/net`, path);
    const { dev, ino } = statSync(path);
    broker.order('watch', 'inhabitants', 'file', `${dev}:${ino}`, path);
    rmSync(path);
    assert.equal(await turns(broker), 'text|turned');
    child.stdin?.end();
    assert.equal(await broker.next(), 'gone');
  });

  test('pasta §2: by its name alone, a process is gone with somebody else in its namespace', async (t) => {
    const broker = await startBroker();
    const child = await startTarget(t, 'cat <&3 >/dev/null & echo up; wait');
    const start = processStartTime(child.pid ?? 0);
    broker.order('watch', 'name', 'process', networkOf(child), child.pid ?? 0, start);
    assert.equal(await turns(broker), 'text|turned');
    child.kill('SIGKILL');
    assert.equal(await broker.next(), 'gone');
  });

  test('pasta §2: by its name alone, a file is there until it is removed, whatever is in its place', async () => {
    const broker = await startBroker();
    const path = join(directory, 'mounted');
    writeFileSync(path, '');
    broker.order('watch', 'name', 'file', '0:0', path);
    assert.equal(await turns(broker), 'text|turned', 'what was mounted there is not');
    rmSync(path);
    assert.equal(await broker.next(), 'gone');
  });

  test('a file that is another by now', async () => {
    const broker = await startBroker();
    const path = join(directory, 'name');
    writeFileSync(path, '');
    broker.order('watch', 'inhabitants', 'file', identity(path), path);
    assert.equal(await turns(broker), 'text|turned');
    writeFileSync(`${path}.new`, '');
    renameSync(`${path}.new`, path);
    assert.equal(await broker.next(), 'gone');
  });
});

function childrenOf(pid: number): string {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
}

const LISTEN =
  '$| = 1; my $s = IO::Socket::INET->new(LocalPort => 80, Listen => 1) or die; print "up"; <STDIN>';

describe('inside', () => {
  /** A namespace in which somebody listens, and a broker's child that is in it. */
  async function enterTarget(
    t: TestContext,
  ): Promise<{ broker: TestBroker; child: ChildProcess; fd: number; diag: number }> {
    const broker = await startBroker();
    const child = await startTarget(t, `exec perl -MIO::Socket::INET -e '${LISTEN}'`);
    broker.order('inside', 7, `/proc/${child.pid}/ns/net`, '', 0, '');
    // In either sequence.
    const came = new Map<string, number>();
    for (let i = 0; i < 2; i++) came.set(await broker.next(), broker.socket.take());
    const fd = came.get('inside|7') ?? -1;
    const diag = came.get('sockets|7') ?? -1;
    assert.ok(fd >= 0 && diag >= 0, [...came.keys()].join());
    t.after(() => {
      close(fd);
      close(diag);
    });
    return { broker, child, fd, diag };
  }

  test('tells by a socket who listens there, and whose that is, also when it is sealed', async (t) => {
    const { broker, child, diag } = await enterTarget(t);
    const source = new NetlinkSource(diag);
    const [listener] = source.look();
    assert.equal(listener?.port, 80);
    broker.order('seal');
    broker.order('owners', 7, 4711, listener?.inode ?? 0);
    const answer = await broker.next();
    assert.equal(answer, `owners|${listener?.inode} ${child.pid} perl`);
    broker.order('owners', 7, 4711);
    assert.equal(await broker.next(), 'owners');
  });

  test('A-9: whoever is inside for us is nobody whose namespace it is', async (t) => {
    const { broker, child } = await enterTarget(t);
    watchProcess(broker, child);
    child.stdin?.end();
    assert.equal(await broker.next(), 'gone');
  });

  test('pasta §8.4: sockets are made there in advance, and are of that namespace wherever they are used', async (t) => {
    const { broker, fd } = await enterTarget(t);
    broker.order('seal');
    const channel = new MessageSocket(fd, 512, 32);
    channel.send(Buffer.from('sockets\0' + '2\0' + '1\0' + '3'));
    assert.ok(channel.receive(true) > 0);
    assert.equal(channel.text, 'sockets\0' + '2\0' + '1\0' + '0');
    const made = [channel.take(), channel.take(), channel.take()];
    assert.equal(channel.take(), -1, 'as many as were wanted');
    t.after(() => {
      for (const socket of made) close(socket);
    });
    // The interface is down as long as nobody has brought it up.
    const memory = new Memory(new ArrayBuffer(256));
    const length = putSockaddr4(memory, 0, 0x7f000001, 80);
    assert.equal(connect(memory, made[0] as number, 0, length), -ENETUNREACH);
  });

  test('pasta §8.4: whoever is inside listens at a port that takes rights there', async (t) => {
    const { broker, child, fd, diag } = await enterTarget(t);
    const source = new NetlinkSource(diag);
    const channel = new MessageSocket(fd, 512, 32);
    const listen = (id: number, port: number, device = ''): string => {
      const address = Buffer.alloc(28);
      address.writeUInt16LE(10, 0);
      address.writeUInt16BE(port, 2);
      channel.send(Buffer.from(['listen', id, 10, 1, 1, device, address.toString('hex')].join('\0')));
      assert.ok(channel.receive(true) > 0);
      return channel.text.replaceAll('\0', '|');
    };
    assert.equal(listen(1, 81, 'lo'), 'listen|1|0');
    const socket = channel.take();
    t.after(() => close(socket));
    const found = source.look().filter(({ port }) => port === 81);
    assert.deepEqual(
      found.map(({ ip, device, v6only }) => ({ ip, device, v6only })),
      [{ ip: '::', device: 1, v6only: true }],
    );
    assert.equal(listen(2, 81, 'lo'), `listen|2|${EADDRINUSE}`);
    assert.equal(listen(3, 82, 'none'), 'listen|3|19');
    const [member = ''] = childrenOf(broker.pid).split(' ');
    const [, effective] = /^CapEff:\t(\w+)$/m.exec(readFileSync(`/proc/${member}/status`, 'latin1')) ?? [];
    assert.equal(Number(`0x${effective}`), 1 << 10, 'and has no other right');
    assert.ok(child.pid);
  });

  test('the child ends with its channel', async (t) => {
    const { broker, fd } = await enterTarget(t);
    assert.match(childrenOf(broker.pid), /^\d+$/);
    shutdown(fd, SHUT_WR);
    await until(() => childrenOf(broker.pid) === '', 'the child has ended');
  });

  test('a namespace that is not there: why', async () => {
    const broker = await startBroker();
    broker.order('inside', 8, join(directory, 'none'), '', 0, '');

    const answers: string[] = [];
    for (let i = 0; i < 2; i++) {
      answers.push(await broker.next());
      broker.socket.drop();
    }
    // In either sequence.
    answers.sort();
    assert.equal(answers[0], 'inside|8');
    assert.match(answers[1] ?? '', /^sockets\|8\|2\|the network namespace .* cannot be opened: %m$/);
    broker.order('owners', 8, 1);
    assert.equal(await broker.next(), 'owners');
  });
});

describe('follow', () => {
  test('review OP-2: the text at once, by rename, by another link; missing, and what is no file', async () => {
    const broker = await startBroker();
    const path = join(directory, 'resolv.conf');
    writeFileSync(path, 'one');
    broker.order('follow', path);
    assert.equal(await broker.next(), 'text|one');
    writeFileSync(`${path}.new`, 'two');
    renameSync(`${path}.new`, path);
    assert.equal(await broker.next(), 'text|two');
    rmSync(path);
    assert.equal(await broker.next(), 'text|');
    writeFileSync(join(directory, 'other'), 'three');
    symlinkSync('other', path);
    assert.equal(await broker.next(), 'text|three');
    rmSync(path);
    mkdirSync(path);
    assert.equal(await broker.next(), 'unreadable|not a file');
  });

  test('of a long file, whole lines as far as a message goes', async () => {
    const broker = await startBroker();
    const path = join(directory, 'long');
    writeFileSync(path, 'nameserver 192.0.2.1\n'.repeat(10_000));
    broker.order('follow', path);
    const message = await broker.next();
    assert.match(message, /^text\|(nameserver 192\.0\.2\.1\n)+$/);
    assert.ok(message.length > 60_000, `${message.length}`);
  });
});

describe('unlink', () => {
  async function listening(name: string): Promise<string> {
    const path = join(directory, name);
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    after(() => server.close());
    return path;
  }

  for (const ending of ['end', 'the end of the socket'] as const) {
    test(`by ${ending}: a socket goes, what is in its place by then stays, and so does what is no socket`, async () => {
      const broker = await startBroker();
      const name = ending.replaceAll(' ', '-');
      const [ours, other] = await Promise.all([listening(`a-${name}`), listening(`b-${name}`)]);
      const file = join(directory, `file-${name}`);
      writeFileSync(file, '');
      for (const path of [ours, other, file]) broker.order('unlink', identity(path), path);
      // It has them by then.
      await turns(broker);
      renameSync(other, `${other}.old`);
      writeFileSync(other, 'mine');
      if (ending === 'end') {
        broker.order('end');
        assert.equal(await broker.next(), '');
      } else await broker.stop();
      await until(() => !existsSync(ours), 'the socket is removed');
      assert.equal(readFileSync(other, 'utf8'), 'mine');
      assert.ok(existsSync(file));
    });
  }
});

/** Children of process `pid`, with their state. */
function children(pid: number): string[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const [state, parent] = readFileSync(`/proc/${entry}/stat`, 'latin1')
          .replace(/.*\) /s, '')
          .split(' ');
        return Number(parent) === pid ? [`${entry} ${state}`] : [];
      } catch {
        return [];
      }
    });
}

describe('open', () => {
  test('what is wrong with a namespace comes by the channel; review ON-4: the child is collected', async () => {
    const broker = await startBroker();
    broker.order('open', 7, '/etc/passwd', '', 0, '');
    assert.equal(await broker.next(), 'open|7');
    const channel = new MessageSocket(broker.socket.take(), 4096);
    assert.ok(channel.receive(true) > 0);
    assert.equal(channel.text, 'namespace 22 /etc/passwd is not a network namespace');
    assert.equal(channel.receive(true), 0);
    await until(() => children(broker.pid).length === 0, 'no child is left, dead or alive');
  });
});

describe('command', () => {
  const script = 'echo ready >&8; read word <&9; [ "$word" = go ] || exit 1; exec 8>&- 9<&-; "$@"';
  const order = (broker: TestBroker, own: number, ...words: string[]): void =>
    broker.order('command', 9, 8, '', 'own', own, 'sh', '-c', script, 'sh', ...words);

  test('in namespaces of its own, it waits, and has the last of our own words', async () => {
    const broker = await startBroker(['not', 'sh', '-c', 'exit 7']);
    order(broker, 3);
    const [, pid] = /there (\d+)/.exec(await broker.nextLike(/there/)) ?? [];
    for (const kind of ['user', 'net', 'mnt'])
      assert.notEqual(statSync(`/proc/${pid}/ns/${kind}`).ino, statSync(`/proc/self/ns/${kind}`).ino, kind);
    assert.match(readFileSync(`/proc/${pid}/uid_map`, 'latin1'), /^\s+0\s+\d+\s+1\n$/);
    broker.order('go');
    assert.equal(await broker.nextLike(/ended/), `ended|${7 << 8}`);
  });

  test('signals are passed on, also by a broker that is sealed', async () => {
    const broker = await startBroker();
    order(broker, 0, 'sleep', '60');
    await broker.nextLike(/ready/);
    broker.order('seal');
    broker.order('signal', 15);
    assert.equal(await broker.nextLike(/ended/), 'ended|15');
    broker.order('signal', 15);
  });

  test('it ends with the broker, however that ends', async () => {
    const broker = await startBroker();
    order(broker, 0, 'sleep', '60');
    const [, pid] = /there (\d+)/.exec(await broker.nextLike(/there/)) ?? [];
    broker.order('go');
    process.kill(broker.pid, 'SIGKILL');
    await until(() => processStartTime(Number(pid)) === '', 'the command has ended');
  });

  test('review ON-7: where no namespaces can be had, which, and why', async () => {
    const limited = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"';
    const broker = await startBroker([], ['unshare', '--user', '--map-root-user', 'sh', '-c', limited, 'sh']);
    order(broker, 0, 'true');
    assert.equal(await broker.next(), 'report|fault user 28\n');
  });
});

describe('a broker', () => {
  test('that is sealed does nothing new', async () => {
    const broker = await startBroker();
    const path = join(directory, 'kept');
    writeFileSync(path, '');
    broker.order('seal');
    broker.order('follow', path);
    broker.order('open', 1, '/proc/self/ns/net', '', 0, '');
    broker.order('command', 9, 8, '', 'own', 0, 'touch', join(directory, 'made'));
    broker.order('tree', 'read /etc');
    broker.order('end');
    assert.equal(await broker.next(), '');
    assert.ok(!existsSync(join(directory, 'made')));
  });

  test('that is told what it does not know goes on', async () => {
    const broker = await startBroker();
    for (const words of [['dance'], ['go'], ['signal', 9], ['\0\0']]) broker.order(...words);
    assert.equal(await turns(broker), 'text|turned');
  });

  test('is named for what it is, and holds nothing of ours once it has begun', async () => {
    const broker = await startBroker();
    await turns(broker);
    assert.equal(readFileSync(`/proc/${broker.pid}/comm`, 'latin1'), 'test: broker\n');
    broker.order('command', 9, 8, '', 'own', 0, 'true');
    await broker.nextLike(/ended/);
    // Standard streams, and the socket.
    await until(() => readdirSync(`/proc/${broker.pid}/fd`).length === 4, 'four descriptors');
  });
});
