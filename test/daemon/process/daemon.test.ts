import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { describe, it } from 'node:test';
import { SOCK_SEQPACKET } from '../../../src/sys/socket.ts';
import { socketPair } from '../../embed/support/back-to-back.ts';
import { programPath } from '../../support/program-path.ts';
import { sendDescriptors } from '../../support/send-descriptors.ts';
import { until } from '../../support/wait.ts';
import { DaemonProcess, type Form } from '../support/daemon-process.ts';
import { RawPeer } from '../support/raw-peer.ts';

/** A link for a guest; both ends are closed at the end of the test. */
async function withLink(use: (fd: number) => Promise<void>): Promise<void> {
  const [near, far] = socketPair(SOCK_SEQPACKET);
  try {
    await use(near);
  } finally {
    closeSync(near);
    closeSync(far);
  }
}

function children(pid: number): string {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
}

describe('tslirp daemon', () => {
  for (const form of ['pair', 'socket'] as Form[]) {
    it(`M-20, M-30 (${form}): a tunnel on a descriptor that has a number, from start to stop`, () =>
      withLink(async (link) => {
        const daemon = new DaemonProcess(form, [], [link]);
        const { peer } = daemon;
        assert.equal(await peer.greet(), 'tslirp-control stack 1.0\n');
        const started = await peer.ask({ id: 1, type: 'start', config: { link: { fd: 5 } } });
        assert.equal(started['tunnel'], 't1', JSON.stringify(started));
        const status = await peer.ask({ id: 2, type: 'status', tunnel: 't1' });
        assert.equal((status['status'] as { state: string }).state, 'running');
        assert.equal(
          (await peer.ask({ id: 3, type: 'start', config: { link: { fd: 5 } } }))['code'],
          'ALREADY_RUNNING',
        );
        const stopped = await peer.ask({ id: 4, type: 'stop' });
        assert.deepEqual(stopped['reason'], { code: 'STOPPED' });
        assert.deepEqual(await peer.rest(), []);
        assert.equal(await daemon.exit(), 0);
        assert.equal(await daemon.stderr(), '');
      }));
  }

  it('M-30: a tunnel on a descriptor that was passed; those that nobody wants are closed', () =>
    withLink(async (link) => {
      const daemon = new DaemonProcess('socket');
      const { peer } = daemon;
      await peer.greet();
      const files = ['/etc/hostname', '/etc/hosts'].map((path) => openSync(path, 'r'));
      const [first, second] = files as [number, number];
      sendDescriptors(daemon.fd, RawPeer.frame({ id: 1, type: 'ping' }), files);
      await peer.answer(1);
      const start = { id: 2, type: 'start', config: { link: { passed: 1 } } };
      sendDescriptors(daemon.fd, RawPeer.frame(start), [first, link, second]);
      const started = await peer.answer(2);
      assert.equal(started['tunnel'], 't1', JSON.stringify(started));
      for (const fd of files) closeSync(fd);
      await until(
        () => !daemon.descriptors().some((path) => /^\/etc\/host/.test(path)),
        'the end of descriptors that nobody wants',
      );
      const missing = await peer.ask({ id: 3, type: 'start', config: { link: { passed: 0 } } });
      assert.equal(missing['code'], 'FD_INVALID');
      await peer.ask({ id: 4, type: 'stop' });
      assert.equal(await daemon.exit(), 0);
    }));

  it('M-30: what is nothing that packets come by is FD_UNSUPPORTED, and the daemon goes on', async () => {
    const file = openSync('/etc/hostname', 'r');
    const daemon = new DaemonProcess('socket', [], [file]);
    const { peer } = daemon;
    await peer.greet();
    const named = await peer.ask({ id: 1, type: 'start', config: { link: { fd: 5 } } });
    assert.equal(named['code'], 'FD_UNSUPPORTED', JSON.stringify(named));
    const closed = await peer.ask({ id: 2, type: 'start', config: { link: { fd: 999 } } });
    assert.equal(closed['code'], 'FD_INVALID');
    sendDescriptors(daemon.fd, RawPeer.frame({ id: 3, type: 'start', config: { link: { passed: 0 } } }), [
      file,
    ]);
    assert.equal((await peer.answer(3))['code'], 'FD_UNSUPPORTED');
    assert.equal((await peer.ask({ id: 4, type: 'ping' }))['ok'], true);
    closeSync(file);
    await peer.ask({ id: 5, type: 'stop' });
    assert.equal(await daemon.exit(), 0);
  });

  it('M-21: faults of the handshake are one line, and status 3; the end before it is none', async () => {
    const faults: [string, RegExp][] = [
      ['hello\n', /^tslirp daemon: handshake: got "hello"; expected .*\n$/],
      [
        'tslirp-control embedder 2.0\n',
        /^tslirp daemon: handshake: the other end speaks 2\.0; accepted: 1\.0\n$/,
      ],
      ['x'.repeat(129), /^tslirp daemon: handshake: got "x{64}"; .*\n$/],
    ];
    for (const [line, expected] of faults) {
      const daemon = new DaemonProcess('pair');
      daemon.peer.write(line);
      assert.equal(await daemon.exit(), 3, line);
      assert.match(await daemon.stderr(), expected);
    }
    for (const form of ['pair', 'socket'] as Form[]) {
      const daemon = new DaemonProcess(form);
      daemon.leave();
      assert.equal(await daemon.exit(), 0);
      assert.equal(await daemon.stderr(), '');
    }
  });

  it('M-24: a fault later is a notice, one line, and status 3', async () => {
    const daemon = new DaemonProcess('socket');
    await daemon.peer.greet();
    daemon.peer.write(Buffer.from([0, 0, 0, 0]));
    assert.deepEqual(await daemon.peer.receive(), {
      type: 'protocol.error',
      code: 'PROTOCOL',
      message: 'a frame of 0 bytes; accepted: 1 to 1048576',
    });
    assert.equal(await daemon.exit(), 3);
  });

  for (const form of ['pair', 'socket'] as Form[]) {
    it(`M-28 (${form}): when the embedder is gone, so is the daemon, at each step`, () =>
      withLink(async (link) => {
        for (const step of ['greeted', 'starting', 'applying', 'running', 'stopping']) {
          const daemon = new DaemonProcess(form, [], [link]);
          const { peer } = daemon;
          await peer.greet();
          if (step !== 'greeted') peer.send({ id: 1, type: 'start', config: { link: { fd: 5 } } });
          if (step === 'applying') await peer.receiveWhere(({ type }) => type === 'settings');
          if (step === 'running' || step === 'stopping') await peer.answer(1);
          if (step === 'stopping') peer.send({ id: 2, type: 'stop', graceMs: 1000 });
          daemon.leave();
          assert.equal(await daemon.exit(), 0, step);
          assert.equal(await daemon.stderr(), '');
        }
      }));
  }

  it('a signal stops it, and is told by its status', () =>
    withLink(async (link) => {
      const daemon = new DaemonProcess('pair', [], [link]);
      await daemon.peer.greet();
      await daemon.peer.ask({ id: 1, type: 'start', config: { link: { fd: 5 } } });
      daemon.child.kill('SIGTERM');
      assert.equal(await daemon.exit(), 143);
    }));

  it('killed at each step it leaves no process behind, and the link as it was', () =>
    withLink(async (link) => {
      for (const step of ['new', 'greeted', 'starting', 'running']) {
        const daemon = new DaemonProcess('socket', [], [link]);
        const { peer } = daemon;
        if (step !== 'new') await peer.greet();
        if (step === 'starting') peer.send({ id: 1, type: 'start', config: { link: { fd: 5 } } });
        if (step === 'running') await peer.ask({ id: 1, type: 'start', config: { link: { fd: 5 } } });
        const others = step === 'new' ? '' : children(daemon.child.pid ?? 0);
        daemon.child.kill('SIGKILL');
        assert.equal(await daemon.exit(), 'SIGKILL');
        assert.equal(others, '', 'it has no children that could stay');
        assert.equal(fstatSync(link).isSocket(), true);
      }
    }));

  it('M-31: nothing of a configuration is in a log of everything', () =>
    withLink(async (link) => {
      const [near, far] = socketPair();
      const secret = 'hunter2-hunter2-hunter2';
      const daemon = new DaemonProcess('socket', ['--log-level', 'debug', '--log-fd', '6'], [link, far]);
      closeSync(far);
      const { peer } = daemon;
      await peer.greet();
      const started = await peer.ask({
        id: 1,
        type: 'start',
        config: { link: { fd: 5 } },
        token: secret,
        headers: [{ name: 'authorization', value: secret }],
      });
      assert.equal(started['ok'], true);
      await peer.ask({ id: 2, type: secret });
      await peer.ask({ id: 3, type: 'stop' });
      assert.equal(await daemon.exit(), 0);
      assert.equal((await daemon.stderr()).includes(secret), false);
      const log = readFileSync(near, 'utf8');
      assert.equal(log.includes(secret), false);
      closeSync(near);
    }));

  it('--exit-with-parent: it ends with the process that has started it, whoever has its descriptors', async () => {
    const [ours, theirs] = socketPair();
    const script = `"$0" daemon --control-fd 3 --exit-with-parent & echo $!; exec 3>&-; read -r line`;
    const parent = spawn('sh', ['-c', script, programPath('tslirp')], {
      stdio: ['pipe', 'pipe', 'inherit', theirs],
    });
    closeSync(theirs);
    const [line] = (await once(parent.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
    const socket = new Socket({ fd: ours, readable: true, writable: true });
    const peer = new RawPeer(socket, socket);
    await peer.greet();
    await peer.ask({ id: 1, type: 'ping' });
    parent.kill('SIGKILL');
    await until(() => !existsSync(`/proc/${Number(line.toString())}`), 'the end of the daemon');
    assert.deepEqual(await peer.rest(), []);
    socket.destroy();
  });

  it('bad arguments are one line, and status 2', () => {
    const faults: [string[], RegExp][] = [
      [[], /daemon takes either --control-fd N or both/],
      [['--control-fd', '0', '--control-read-fd', '0'], /daemon takes either/],
      [['--control-read-fd', '0'], /daemon takes either/],
      [['--control-fd', '99'], /--control-fd: .*is not open/],
      [['--control-fd', '3'], /--control-fd: .*neither a pipe nor a socket/],
      [['--control-fd', '0', '--log-level', 'loud'], /--log-level/],
    ];
    const file = openSync('/etc/hostname', 'r');
    for (const [args, expected] of faults) {
      const { status, stderr } = spawnSync(programPath('tslirp'), ['daemon', ...args], {
        stdio: ['pipe', 'ignore', 'pipe', file],
        encoding: 'utf8',
      });
      assert.match(stderr, expected, args.join(' '));
      assert.match(stderr, /^tslirp: [^\n]*\n$/);
      assert.equal(status, 2);
    }
    closeSync(file);
  });
});
