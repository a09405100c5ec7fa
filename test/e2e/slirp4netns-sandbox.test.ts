/** `slirp4netns --enable-sandbox --enable-seccomp`, observed as the original's own tests do, and at work inside it. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import {
  asOwner,
  type Bare,
  bareNamespace,
  GATEWAY4,
  HOST4,
  mode,
  programPath,
  ready,
} from '../support/namespaces.ts';
import { must, run, start } from '../support/processes.ts';
import { addForward, ask, type Service, startSlirp4netns } from '../support/slirp4netns.ts';
import { echo, listen } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

const BOTH = ['--enable-sandbox', '--enable-seccomp'];

async function served(args: string[], body: (service: Service, bare: Bare) => Promise<void>): Promise<void> {
  const bare = await bareNamespace();
  try {
    await using service = await startSlirp4netns([...args, String(bare.namespace.pid), 'tap11']);
    await body(service, bare);
  } finally {
    await bare.anchor.stop();
  }
}

function status(pid: number, name: string): string[] {
  return readdirSync(`/proc/${pid}/task`).map((task) => {
    const text = readFileSync(`/proc/${pid}/task/${task}/status`, 'latin1');
    return new RegExp(`^${name}:\\t(.*)$`, 'm').exec(text)?.[1] ?? '';
  });
}

describe('slirp4netns --enable-sandbox', () => {
  test('only /etc, /run and what is needed; only CAP_NET_BIND_SERVICE; the interface unconfigured', async () => {
    await served(['--enable-sandbox'], async ({ process: { pid } }, { namespace }) => {
      for (const name of ['etc', 'run']) assert.ok(existsSync(`/proc/${pid}/root/${name}`), name);
      for (const name of ['home', 'root', 'var', 'tmp', 'usr', 'dev'])
        assert.ok(!existsSync(`/proc/${pid}/root/${name}`), name);
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd'])
        assert.deepEqual([...new Set(status(pid, set))], ['0000000000000400'], set);
      assert.deepEqual([...new Set(status(pid, 'NoNewPrivs'))], ['1']);
      assert.deepEqual([...new Set(status(pid, 'Seccomp'))], ['0']);
      const shown = await namespace.must(['ip', '-br', 'address', 'show', 'dev', 'tap11']);
      assert.match(shown, /^tap11 +DOWN *$/m);
    });
  });

  test('abbreviated, and by its old name', async () => {
    for (const option of ['--enable-sand', '--create-sandbox']) {
      await served([option], async ({ process: { pid } }) => {
        assert.ok(!existsSync(`/proc/${pid}/root/tmp`), option);
      });
    }
  });

  test('the API socket goes on, privileged ports where there is the right to them, and is removed at the end', async () => {
    await served(['-c', ...BOTH], async (service, { namespace }) => {
      const { id, host_port: port = 0 } = await addForward(service.api, {
        proto: 'tcp',
        host_port: 0,
        guest_port: 7,
      });
      assert.ok(id > 0 && port > 0);
      const low = { execute: 'add_hostfwd', arguments: { proto: 'tcp', host_port: 81, guest_port: 7 } };
      const answer = await ask(service.api, low);
      assert.equal('return' in answer, mode !== 'user', JSON.stringify(answer));
      const server = await listen(echo);
      try {
        const target = `TCP4:${HOST4}:${server.port}`;
        assert.equal(await namespace.must(['socat', '-T3', '-', target], { input: 'across' }), 'across');
      } finally {
        server.close();
      }
      assert.equal((await namespace.run(['ping', '-n', '-c', '1', '-W', '2', GATEWAY4])).status, 0);
      service.closeExitFd();
      const ended = await service.process.end();
      assert.deepEqual([ended.status, existsSync(service.api)], [0, false], ended.stderr);
    });
  });

  test('by paths: of a user namespace and a network namespace', async () => {
    const bare = await bareNamespace();
    const { pid } = bare.namespace;
    try {
      const paths = [`--userns-path=/proc/${pid}/ns/user`, '--netns-type=path', `/proc/${pid}/ns/net`];
      await using service = await startSlirp4netns(['-c', ...BOTH, ...paths, 'tap11']);
      assert.equal((await bare.namespace.run(['ping', '-n', '-c', '1', '-W', '2', GATEWAY4])).status, 0);
      assert.deepEqual([...new Set(status(service.process.pid, 'Seccomp_filters'))], ['2']);
    } finally {
      await bare.anchor.stop();
    }
  });

  test('a namespace that does not exist is told as without', async () => {
    for (const options of [[], BOTH]) {
      const ended = await run(asOwner(programPath('slirp4netns'), ...options, '99999999', 'tap11'));
      assert.equal(ended.status, 1);
      assert.match(
        ended.stderr,
        /^\/proc\/99999999\/ns\/net: No such file or directory\nchild failed\(1\)\n/m,
      );
    }
  });

  if (mode !== 'user') {
    test('shared mounts below /run survive', async () => {
      const script = `
        mount --make-rshared / && mount -t tmpfs run /run && mkdir /run/foo && mount -t tmpfs foo /run/foo &&
        mount --make-rshared /run || exit 9
        unshare --net sleep 20 3>&- & target=$!
        until [ "$(readlink /proc/$target/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do :; done
        "$1" --enable-sandbox -r 3 --netns-type=path /proc/$target/ns/net tap11 & stack=$!
        exec 3>&-
        read -r line
        mountpoint -q /run/foo && mountpoint -q /run; result=$?
        kill $stack $target; wait $stack
        mountpoint -q /run/foo && exit $result`;
      const argv = ['unshare', '--mount', 'sh', '-c', script, 'sh', programPath('slirp4netns')];
      const shell = start(argv, { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
      try {
        await ready(shell);
        shell.child.stdin?.end('ready\n');
        assert.equal((await shell.end()).status, 0, shell.stderr);
      } finally {
        await shell.stop();
      }
    });
  }

  test('nothing stays behind when the end is sudden', async () => {
    const before = (await must(['ps', '-e', '-o', 'pid='])).trim().split(/\s+/).length;
    await served(BOTH, async (service) => {
      await service.process.stop('SIGKILL');
      await until(() => !existsSync(service.api), 'the API socket is removed');
    });
    await until(
      async () => (await must(['ps', '-e', '-o', 'pid='])).trim().split(/\s+/).length <= before,
      'the helpers have ended',
    );
  });
});
