/** Links whose other end comes and goes, with real peers in the same process. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { DialedPeers } from '../../src/device/dialed-peers.ts';
import { type Listening, ListeningPeers } from '../../src/device/listening-peers.ts';
import { DeviceError } from '../../src/device-error.ts';
import { EAGAIN, ENETDOWN, EPERM } from '../../src/sys/errno.ts';
import { close, read, write } from '../../src/sys/io.ts';
import {
  AF_UNIX,
  bind,
  connect,
  getsockoptInt,
  listen,
  putSockaddrAutobind,
  putSockaddrUnix,
  SO_SNDBUF,
  SOCK_DGRAM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  setsockoptInt,
  socket,
} from '../../src/sys/socket.ts';
import { until } from '../support/wait.ts';
import { Bench } from './support/bench.ts';
import { deviceOf, linkOrError, openSpec } from './support/links.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-peers-'));
after(() => rmSync(directory, { recursive: true, force: true }));
const PROBE_MS = 5000;
const FRAME = Buffer.from('fourteen bytes and more');
/** An EtherType that is for experiments: at bytes 12 and 13. */
const PROBE = Buffer.concat([Buffer.alloc(12), Buffer.from([0x88, 0xb5])]);

let made = 0;
function newPath(): string {
  return join(directory, `s${made++}`);
}

/** A program at the other end. */
class Peer {
  readonly #b: Bench;
  readonly fd: number;

  constructor(b: Bench, type: number) {
    this.#b = b;
    this.fd = socket(AF_UNIX, type, 0);
  }

  bind(path: string): this {
    const { memory, at } = this.#b;
    const length =
      path === '' ? putSockaddrAutobind(memory, at) : putSockaddrUnix(memory, at, Buffer.from(path));
    assert.equal(bind(memory, this.fd, at, length), 0);
    return this;
  }

  connect(path: string): this {
    assert.equal(this.tryToConnect(path), 0);
    return this;
  }

  tryToConnect(path: string): number {
    const { memory, at } = this.#b;
    return connect(memory, this.fd, at, putSockaddrUnix(memory, at, Buffer.from(path)));
  }

  /** What write(2) says. */
  put(bytes: Buffer): number {
    this.#b.slab.bytes.set(bytes, this.#b.at);
    return write(this.#b.memory, this.fd, this.#b.at, bytes.length);
  }

  /** Null: nothing has come. Empty: the end. */
  get(): Buffer | null {
    const n = read(this.#b.memory, this.fd, this.#b.at, 70_000);
    if (n === -EAGAIN) return null;
    return n < 0 ? Buffer.alloc(0) : Buffer.from(this.#b.slab.bytes.subarray(this.#b.at, this.#b.at + n));
  }

  /** What comes, without probes. */
  awaited(): Buffer {
    let got: Buffer | null = null;
    this.#b.until(() => {
      got = this.get();
      return got !== null && !got.equals(PROBE);
    }, 'what the peer waits for');
    return got as unknown as Buffer;
  }

  close(): void {
    close(this.fd);
  }
}

function be32(frame: Buffer): Buffer {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32BE(frame.length);
  return Buffer.concat([prefix, frame]);
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

function up(b: Bench, times: number): void {
  b.until(() => b.ups.length === times, `peer ${times}`);
}

describe('a socket that we listen on', () => {
  test('links L-6: peers come and go, the guest stays; nothing is sent in between', () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    const link = openSpec(b, `qemu:unix:${path}`);
    const before = descriptors();
    assert.equal(link.full, true);
    assert.equal(b.transmit(1), -ENETDOWN);
    for (let round = 1; round <= 3; round++) {
      const peer = new Peer(b, SOCK_STREAM).connect(path);
      up(b, round);
      assert.equal(b.ups.at(-1), `pid ${process.pid}, uid ${process.getuid?.()}`);
      assert.equal(link.full, false);
      peer.put(be32(FRAME));
      b.until(() => b.frames.length === round, 'its frame');
      assert.ok(b.transmit(round, 60) > 0);
      link.flush();
      assert.equal(peer.awaited().length, 64);
      peer.close();
      b.until(() => b.downs.length === round, 'its end');
      assert.equal(link.full, true);
      assert.equal(b.gone, '');
    }
    assert.deepEqual(b.downs, ['closed', 'closed', 'closed']);
    assert.equal(descriptors(), before);
    b.end();
    assert.equal(existsSync(path), false);
  });

  test('links L-6: with --one-off the first peer is the last', () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    openSpec(b, `qemu:unix:${path}`, true);
    const peer = new Peer(b, SOCK_STREAM).connect(path);
    up(b, 1);
    peer.close();
    b.until(() => b.gone !== '', 'the end');
    assert.deepEqual([b.reason, b.downs], ['closed', []]);
    assert.equal(existsSync(path), false);
    close(b.peer);
  });

  test('links L-8: a second peer is closed at once and does not disturb the first', () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    openSpec(b, `passt:${path}`);
    const first = new Peer(b, SOCK_STREAM).connect(path);
    up(b, 1);
    const second = new Peer(b, SOCK_STREAM).connect(path);
    b.until(() => second.get()?.length === 0, 'the end of the second');
    assert.match(b.logs.join('\n'), /there is a peer already: another one was closed/);
    first.put(be32(FRAME));
    b.until(() => b.frames.length === 1, 'its frame');
    assert.deepEqual([b.ups.length, b.downs], [1, []]);
    first.close();
    second.close();
    b.end();
  });

  test('links L-16: three peers, one after the other, a bad frame among them', () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    openSpec(b, `passt:${path}`);
    for (let round = 1; round <= 3; round++) {
      const peer = new Peer(b, SOCK_STREAM).connect(path);
      up(b, round);
      peer.put(Buffer.concat([be32(FRAME), Buffer.from([0xff, 0xff, 0xff, 0xff])]));
      b.until(() => b.downs.length === round, 'its end');
      b.until(() => peer.get()?.length === 0, 'its connection is closed');
      peer.close();
    }
    assert.deepEqual(b.downs, ['oversized', 'oversized', 'oversized']);
    assert.equal(b.frames.length, 3);
    b.end();
  });

  test('links L-7: the file is ours alone, a stale one is replaced, a live one and anything else is left', async () => {
    const path = newPath();
    const stale = new Bench(SOCK_STREAM);
    new Peer(stale, SOCK_STREAM).bind(path);
    // Nobody listens on it.
    const b = new Bench(SOCK_STREAM);
    openSpec(b, `qemu:unix:${path}`);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const other = new Bench(SOCK_STREAM);
    const error = linkOrError(other, deviceOf(`qemu:unix:${path}`));
    assert.ok(error instanceof DeviceError);
    assert.equal(error.message, `cannot listen on unix:${path}: EADDRINUSE`);
    b.end();
    assert.equal(existsSync(path), false);

    writeFileSync(path, 'a file');
    const refused = linkOrError(other, deviceOf(`qemu:unix:${path}`));
    assert.match((refused as DeviceError).message, /EADDRINUSE/);
    assert.equal(existsSync(path), true);
    rmSync(path);

    // One that somebody has put in our place is not ours.
    const replaced = new Bench(SOCK_STREAM);
    openSpec(replaced, `qemu:unix:${path}`);
    rmSync(path);
    writeFileSync(path, 'of another');
    replaced.end();
    assert.equal(existsSync(path), true);
    const live = newPath();
    const server = createServer().listen(live);
    await once(server, 'listening');
    assert.match((linkOrError(other, deviceOf(`qemu:unix:${live}`)) as DeviceError).message, /EADDRINUSE/);
    await new Promise((resolve) => server.close(resolve));
    other.end();
  });

  test('bess: a packet is a frame, and an empty one is not the end', () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    openSpec(b, `bess:${path}`);
    const peer = new Peer(b, SOCK_SEQPACKET).connect(path);
    up(b, 1);
    peer.put(Buffer.alloc(0));
    peer.put(FRAME);
    b.until(() => b.frames.length === 1, 'its frame');
    assert.deepEqual(b.downs, []);
    peer.close();
    b.until(() => b.downs.length === 1, 'its end');
    b.end();
  });
});

describe('a listening socket that we were given', () => {
  for (const type of [SOCK_STREAM, SOCK_SEQPACKET]) {
    const what = type === SOCK_STREAM ? 'stream' : 'packets';
    const given = (b: Bench): [fd: number, path: string] => {
      const path = newPath();
      const listener = new Peer(b, type).bind(path);
      assert.equal(listen(listener.fd, 4), 0);
      return [listener.fd, path];
    };
    const sent = (frame: Buffer): Buffer => (type === SOCK_STREAM ? be32(frame) : frame);

    test(`links L-11: ${what}: the first client is the guest, and its end that of the link`, () => {
      const b = new Bench(SOCK_STREAM);
      const before = descriptors();
      const [fd, path] = given(b);
      openSpec(b, `fd:${fd}`);
      const peer = new Peer(b, type).connect(path);
      up(b, 1);
      peer.put(sent(FRAME));
      b.until(() => b.frames.length === 1, 'a frame');
      assert.deepEqual(b.frames, [FRAME]);
      peer.close();
      b.until(() => b.gone !== '', 'the end');
      assert.equal(new Peer(b, type).tryToConnect(path) < 0, true, 'nobody listens any more');
      assert.ok(existsSync(path), 'a file that is not ours stays');
      assert.equal(descriptors(), before + 1, 'the descriptor was closed');
      b.end();
    });

    test(`links L-11: ${what}: with multi the next one is waited for`, () => {
      const b = new Bench(SOCK_STREAM);
      const [fd, path] = given(b);
      openSpec(b, `fd:${fd},multi`);
      for (let i = 1; i <= 3; i++) {
        const peer = new Peer(b, type).connect(path);
        up(b, i);
        peer.put(sent(FRAME));
        b.until(() => b.frames.length === i, `frame ${i}`);
        peer.close();
        b.until(() => b.downs.length === i, `end ${i}`);
      }
      assert.equal(b.gone, '');
      b.end();
    });
  }
});

describe('whose programs may connect', () => {
  const STRANGER = 54_321;
  const skip = process.getuid?.() === 0 ? false : 'WHO MAY CONNECT IS NOT TESTED: another user takes root';
  /** A program of another user's that connects; what it says of that, and that it was closed. */
  const stranger = (path: string): { said: () => string; stop: () => void } => {
    const program = `use Socket; $| = 1; socket(S, PF_UNIX, SOCK_STREAM, 0);
      connect(S, sockaddr_un(shift)) ? print "in\\n" : do { print "refused\\n"; exit };
      sysread(S, $x, 1); print "closed\\n";`;
    const child = spawn('perl', ['-e', program, path], { uid: STRANGER, gid: STRANGER });
    let text = '';
    child.stdout.on('data', (part: Buffer) => {
      text += part.toString();
    });
    return { said: () => text, stop: () => child.kill() };
  };

  test('links L-7: allow-uid= lets that user in, and nobody else of the others', { skip }, async () => {
    chmodSync(directory, 0o755);
    for (const [option, told] of [
      [`,allow-uid=${STRANGER}`, 'in\n'],
      [`,allow-uid=${STRANGER + 1}`, 'in\nclosed\n'],
      ['', 'refused\n'],
    ] as const) {
      const b = new Bench(SOCK_STREAM);
      const path = newPath();
      openSpec(b, `qemu:unix:${path}${option}`);
      const other = stranger(path);
      await until(() => {
        b.turn();
        return other.said() === told && (told !== 'in\n' || b.ups.length === 1);
      }, `${option}: ${told}`);
      assert.equal(b.ups.length, told === 'in\n' ? 1 : 0);
      if (told === 'in\nclosed\n')
        assert.match(b.logs.join(), /a peer of uid 54321 .* was refused; allow-uid=54321/);
      other.stop();
      b.end();
    }
  });
});

describe('a socket that we connect to', () => {
  test('links L-12: whoever listens may come later, go, and come again', () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    openSpec(b, `qemu:unix:${path},connect`);
    for (let i = 0; i < 3; i++) {
      b.turn();
      b.now += 1000;
    }
    assert.equal(b.logs.length, 1, 'it is told once');
    assert.match(b.logs[0] ?? '', /No such file or directory: trying again every second/);
    for (let round = 1; round <= 2; round++) {
      const server = new Bench(SOCK_STREAM);
      openSpec(server, `qemu:unix:${path}`);
      b.until(() => {
        b.now += 500;
        server.turn();
        return b.ups.length === round && server.ups.length === 1;
      }, 'both ends');
      assert.ok(server.transmit(round, 60) > 0);
      server.link?.flush();
      b.until(() => b.frames.length === round, 'a frame');
      server.end();
      b.until(() => b.downs.length === round, 'the end');
    }
    b.end();
  });
});

describe('the unix socket of a virtual machine', () => {
  test('links L-23: CONNECT is said, and frames follow the answer; a refusal is tried again', async () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    const said: string[] = [];
    const answers = ['ERR\n', 'ERR\n', 'ERR\n', 'OK 1073741824\n'];
    const machine = createServer((socket) => {
      socket.on('data', (data) => said.push(String(data)));
      const answer = answers.shift() as string;
      // In one piece with the first frame.
      const frame = Buffer.concat([Buffer.from([FRAME.length, 0]), FRAME]);
      socket.write(answer.startsWith('OK') ? Buffer.concat([Buffer.from(answer), frame]) : answer);
    }).listen(path);
    await once(machine, 'listening');
    openSpec(b, `vsock-uds:${path}:5001`);
    while (b.frames.length === 0) {
      b.now += 100;
      b.turn();
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.deepEqual(b.frames, [FRAME]);
    assert.equal(b.logs.filter((line) => line.includes('its answer is "ERR"')).length, 1, 'it is told once');
    assert.deepEqual(said, Array(4).fill('CONNECT 5001\n'));
    b.end();
    machine.close();
  });

  test('links L-24: for the guest we listen at PATH_PORT, and the file goes with us', () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    openSpec(b, `vsock-uds:${path}:1024,listen`);
    assert.equal(statSync(`${path}_1024`).mode & 0o777, 0o600);
    const peer = new Peer(b, SOCK_STREAM).connect(`${path}_1024`);
    const frame = Buffer.concat([Buffer.from([FRAME.length, 0]), FRAME]);
    peer.put(Buffer.concat([Buffer.from('POST /connect HTTP/1.1\r\n\r\n'), frame]));
    b.until(() => b.frames.length === 1, 'its frame');
    assert.deepEqual(b.frames, [FRAME]);
    peer.close();
    b.end();
    assert.equal(existsSync(`${path}_1024`), false);
  });
});

describe('a greeting', () => {
  test('links L-20: whoever does not finish in 5 s goes, and the next one is greeted', () => {
    const b = new Bench(SOCK_STREAM);
    const path = newPath();
    openSpec(b, `vpnkit:${path}`);
    const slow = new Peer(b, SOCK_STREAM).connect(path);
    slow.put(Buffer.from('VMN'));
    for (let i = 0; i < 5; i++) b.turn();
    assert.equal(slow.get(), null);
    b.now += PROBE_MS + 1;
    b.until(() => slow.get()?.length === 0, 'the end of the slow one');
    assert.match(b.logs.join('\n'), /has not finished within 5 s/);
    const peer = new Peer(b, SOCK_STREAM).connect(path);
    const hello = Buffer.alloc(49);
    hello.write('VMN3T');
    const command = Buffer.alloc(41);
    command[0] = 1;
    peer.put(hello);
    assert.deepEqual(peer.awaited(), hello);
    peer.put(command);
    assert.equal(peer.awaited().length, 258);
    up(b, 1);
    peer.put(Buffer.concat([Buffer.from([FRAME.length, 0]), FRAME]));
    b.until(() => b.frames.length === 1, 'its frame');
    slow.close();
    peer.close();
    b.end();
  });
});

describe('AF_VSOCK', () => {
  /** Whoever asks for it reaches itself, where the kernel has vsock_loopback. */
  const LOCAL_CID = 1;
  const ANY_CID = 0xffffffff;
  const PORT = 41_000 + (process.pid % 20_000);

  test('links §7: a peer by AF_VSOCK is found from both sides, or it is said why none can be here', async (t) => {
    const b = new Bench(SOCK_STREAM);
    const fds: number[] = [];
    const found = (fd: number): void => void fds.push(fd);
    const spec: Omit<Listening, 'at'> = { type: 'stream', allowUids: [] };
    let listening: ListeningPeers | undefined;
    try {
      listening = new ListeningPeers(b.services, {
        ...{ ...spec, at: { family: 'vsock', cid: ANY_CID, port: PORT } },
      });
    } catch (error) {
      assert.ok(error instanceof DeviceError);
      t.diagnostic(`AF_VSOCK WAS NOT TESTED: ${error.message}`);
    }
    const at = { family: 'vsock', cid: LOCAL_CID, port: PORT } as const;
    const dialing = new DialedPeers(b.services, { ...spec, at });
    listening?.start(found);
    dialing.start(found);
    await until(() => {
      b.now += 5;
      b.turn();
      return fds.length === 2 || b.logs.length > 0;
    }, 'both ends, or a refusal');
    if (fds.length < 2) {
      // Somebody listens: whoever finds a way there is not turned away.
      assert.doesNotMatch(b.logs[0] as string, /Connection (reset|refused)/);
      t.diagnostic(`AF_VSOCK WAS NOT TESTED: no loopback (modprobe vsock_loopback): ${b.logs[0]}`);
    } else {
      const [one, other] = fds as [number, number];
      b.slab.bytes.set(FRAME, b.at);
      assert.equal(write(b.memory, one, b.at, FRAME.length), FRAME.length);
      await until(() => read(b.memory, other, b.at, 100) === FRAME.length, 'what was written');
    }
    for (const fd of fds) close(fd);
    dialing.close();
    listening?.close();
    b.end();
  });
});

describe('buffers', () => {
  test('links §2: what is under way to a peer that has come has as much room as a socket may have', () => {
    const b = new Bench(SOCK_STREAM);
    const room = (fd: number): number => {
      assert.equal(getsockoptInt(b.memory, fd, SOL_SOCKET, SO_SNDBUF, b.at), 0);
      return b.memory.view.getInt32(b.at, true);
    };
    const own = socket(AF_UNIX, SOCK_STREAM, 0);
    setsockoptInt(b.memory, own, SOL_SOCKET, SO_SNDBUF, 4 * 1024 * 1024, b.at);
    const path = newPath();
    const rooms: number[] = [];
    const peers = new ListeningPeers(b.services, {
      ...{ at: { family: 'unix', path }, type: 'stream', allowUids: [] },
    });
    peers.start((fd) => {
      rooms.push(room(fd));
      close(fd);
    });
    const peer = new Peer(b, SOCK_STREAM).connect(path);
    b.until(() => rooms.length === 1, 'the peer');
    b.use(linkOrError(b, { kind: 'descriptor', fd: b.fd, mtu: 0 }) as never);
    rooms.push(room(b.fd));
    assert.deepEqual(rooms, [room(own), room(own)]);
    peers.close();
    peer.close();
    close(own);
    b.end();
  });
});

describe('datagrams', () => {
  test('links L-9: a peer that is gone is noticed within 6 s, and found again', () => {
    const b = new Bench(SOCK_STREAM);
    const [ours, theirs] = [newPath(), newPath()];
    openSpec(b, `dgram:local=${ours},remote=${theirs}`);
    b.turn();
    assert.deepEqual(b.ups, [], 'nobody is there yet');
    for (let round = 1; round <= 2; round++) {
      const peer = new Peer(b, SOCK_DGRAM).bind(theirs).connect(ours);
      b.until(() => {
        b.now += 500;
        return b.ups.length === round;
      }, 'the peer');
      peer.put(FRAME);
      b.until(() => b.frames.length === round, 'its frame');
      assert.ok(b.transmit(round, 60) > 0);
      assert.equal(peer.awaited().length, 60);
      peer.close();
      rmSync(theirs);
      const since = b.now;
      b.until(() => {
        b.now += 100;
        return b.downs.length === round;
      }, 'its end');
      assert.ok(b.now - since <= 6000, `${b.now - since} ms`);
    }
    b.end();
    assert.equal(existsSync(ours), false);
  });

  test('links L-9: a peer that lives gets a frame that is nothing to a guest, and only while it is silent', () => {
    const b = new Bench(SOCK_STREAM);
    const [ours, theirs] = [newPath(), newPath()];
    openSpec(b, `dgram:local=${ours},remote=${theirs}`);
    const peer = new Peer(b, SOCK_DGRAM).bind(theirs).connect(ours);
    up(b, 1);
    for (let i = 0; i < 8; i++) {
      b.now += 1000;
      peer.put(FRAME);
      b.turn();
    }
    assert.equal(peer.get(), null);
    b.now += PROBE_MS + 1;
    b.turn();
    assert.deepEqual(peer.get(), PROBE);
    assert.deepEqual(b.downs, []);
    peer.close();
    b.end();
  });

  test('links L-9: a peer that refuses a frame is gone at once', () => {
    const b = new Bench(SOCK_DGRAM);
    b.use(linkOrError(b, { kind: 'descriptor', fd: b.fd, probe: true, mtu: 0 }) as never);
    close(b.peer);
    b.transmit(1);
    b.turn();
    b.turn();
    assert.deepEqual([b.unsent, b.reason], [1, 'closed']);
  });

  for (const [form, hello] of [
    ['with VFKT', Buffer.from('VFKT')],
    ['without it', null],
  ] as const) {
    test(`links L-17: vfkit, ${form}`, () => {
      const b = new Bench(SOCK_STREAM);
      const [ours, theirs] = [newPath(), newPath()];
      openSpec(b, `vfkit:${ours}`);
      const peer = new Peer(b, SOCK_DGRAM).bind(theirs).connect(ours);
      if (hello !== null) peer.put(hello);
      peer.put(FRAME);
      b.until(() => b.frames.length === 1, 'its frame');
      assert.deepEqual(b.frames, [FRAME]);
      assert.equal(b.ups[0], `unix:${theirs}`);
      assert.ok(b.transmit(1, 60) > 0);
      assert.equal(peer.awaited().length, 60);
      // Later it is a frame, which a guest's link drops for its length.
      peer.put(Buffer.from('VFKT'));
      b.until(() => b.frames.length === 2, 'the second hello');
      peer.close();
      b.end();
    });
  }

  test('links L-18: a peer that comes back has another address; nobody takes its place before', () => {
    const b = new Bench(SOCK_STREAM);
    const ours = newPath();
    openSpec(b, `vfkit:${ours}`);
    const first = new Peer(b, SOCK_DGRAM).bind(newPath()).connect(ours);
    first.put(FRAME);
    up(b, 1);
    b.until(() => b.frames.length === 1, 'the first frame');
    const second = new Peer(b, SOCK_DGRAM).bind(newPath());
    assert.equal(second.tryToConnect(ours), -EPERM);
    first.close();
    b.until(() => {
      b.now += 100;
      return b.downs.length === 1;
    }, 'the end of the first');
    second.connect(ours).put(FRAME);
    b.until(() => {
      b.now += 500;
      return b.ups.length === 2;
    }, 'the second');
    second.close();
    b.end();
  });

  test('links L-18: a name without a file will do, none at all will not', () => {
    const b = new Bench(SOCK_STREAM);
    const ours = newPath();
    openSpec(b, `vfkit:${ours}`);
    const nameless = new Peer(b, SOCK_DGRAM).connect(ours);
    nameless.put(FRAME);
    b.until(() => b.logs.length > 0, 'what is said of it');
    assert.match(b.logs[0] ?? '', /a sender without an address cannot be answered/);
    const peer = new Peer(b, SOCK_DGRAM).bind('').connect(ours);
    peer.put(FRAME);
    up(b, 1);
    assert.match(b.ups[0] ?? '', /^unix:@/);
    assert.ok(b.transmit(1, 60) > 0);
    assert.equal(peer.awaited().length, 60);
    nameless.close();
    peer.close();
    b.end();
  });
});
