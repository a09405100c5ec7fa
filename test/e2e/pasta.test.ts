/** The drop-in `pasta`: how its callers start it, wait for it, and end it. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { asOwner, bareNamespace, directory, mode, programPath } from '../support/namespaces.ts';
import { type Ended, must, run, start } from '../support/processes.ts';
import { until } from '../support/wait.ts';

const PASTA = programPath('pasta');
/** Addresses that do not depend on the host. */
const FIXED = '-I tap0 --config-net -a 10.0.2.100 -n 24 -g 10.0.2.2';

function pasta(args: string): Promise<Ended> {
  return run(asOwner(PASTA, ...args.split(' ')));
}

/** What is said when root of the system starts it. */
const AS_ROOT = mode === 'root' ? 'Started as root, will change to nobody.\n' : '';

function isRunning(pid: number): boolean {
  try {
    return /^State:\s+[^ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/**
 * As podman does it: root of a user namespace of the caller's, who names a file that the namespace is mounted on. What is
 * written to $1.pid is read at once; `$@` behind that is the command line.
 */
const PODMAN = `
file=$1; shift
: >"$file"; unshare --net="$file" true
output=$("$@" --netns "$file" 2>&1); echo "status $? output [$output]"
read -r pid <"$file.pid"; kill -0 "$pid" && echo "pid $pid"
nsenter --net="$file" ip -o address show | sed 's/.*: \\([a-z0-9]*\\) *inet6* \\([^ ]*\\).*/\\1 \\2/'
umount "$file"; echo unmounted; read -r go
rm "$file"; echo removed; read -r go
`;

describe('pasta §11.1: podman', () => {
  const line = (more: string): string[] => [
    PASTA,
    ...`${more} --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet`.split(' '),
  ];
  for (const [name, before] of [
    ['its line', '--config-net --map-guest-addr 169.254.1.2'],
    ['with options of the user', `${FIXED} -m 1280 -I myname`],
  ] as const) {
    test(`${name}: silence, status 0, a PID file that is there, and the end with the file`, async (t) => {
      const file = join(directory, `netns-${process.pid}-${name.length}`);
      const wrapped = ['unshare', '--user', '--map-root-user', '--mount', 'sh', '-c', PODMAN, 'sh', file];
      const podman = start(asOwner(...wrapped, ...line(before), '--pid', `${file}.pid`));
      t.after(() => podman.stop());
      await until(() => podman.stdout.includes('unmounted') || !podman.running, 'pasta ready');
      assert.match(podman.stdout, /^status 0 output \[\]\npid \d+\n/, podman.stdout + podman.stderr);
      const [, pid = ''] = /\npid (\d+)\n/.exec(podman.stdout) ?? [];
      assert.equal(statSync(`${file}.pid`).mode & 0o777, 0o600);
      if (before.includes('myname')) assert.match(podman.stdout, /^myname 10\.0\.2\.100\/24$/m);
      assert.ok(isRunning(Number(pid)), 'an unmounted file is still there');
      podman.child.stdin?.write('go\n');
      await until(() => !isRunning(Number(pid)), 'the end with its file', 5000);
      assert.ok(existsSync(`${file}.pid`), 'the PID file stays');
      podman.child.stdin?.end('go\n');
      await podman.end();
    });
  }
});

describe('pasta §11.2: RootlessKit, and buildah', () => {
  test('a PID: the network is there, SIGTERM ends it with 0, and it can be served again', async (t) => {
    const { namespace, anchor } = await bareNamespace();
    // With it pasta ends.
    t.after(() => anchor.stop());
    const pidFile = join(directory, `rootlesskit-${process.pid}`);
    const line = `--stderr --ns-ifname=tap0 --mtu=65520 ${FIXED} --dns-forward=10.0.2.3 --ipv4-only --tcp-ports=none --udp-ports=none`;
    for (let round = 0; round < 2; round++) {
      const { status, stdout, stderr } = await pasta(`${line} -q -P ${pidFile} ${namespace.pid}`);
      assert.deepEqual([status, stdout, stderr], [0, '', `--stderr will be dropped soon\n${AS_ROOT}`]);
      assert.match(await namespace.must(['ip', '-4', 'address', 'show', 'tap0']), /10\.0\.2\.100\/24/);
      const pid = Number(readFileSync(pidFile, 'utf8'));
      const [, uid = ''] = /^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
      if (mode === 'root') assert.equal(uid, '65534', 'root becomes nobody');
      const streams = [0, 1].map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      assert.deepEqual(streams, ['/dev/null', '/dev/null']);
      const second = await pasta(`${line} -q ${namespace.pid}`);
      assert.equal(second.status, 1);
      assert.match(second.stderr, /TUNSETIFF ioctl on \/dev\/net\/tun failed: Device or resource busy\n$/);
      await must(asOwner('kill', '-TERM', String(pid)));
      await until(() => !isRunning(pid), 'the end after SIGTERM');
    }
  });

  test('a path in /proc: it ends with the process, though others are in its namespace', async (t) => {
    const { namespace, anchor } = await bareNamespace();
    const other = namespace.start(['sh', '-c', 'echo in; exec cat']);
    t.after(() => Promise.all([anchor.stop(), other.stop()]));
    await other.firstLine();
    const pidFile = join(directory, `buildah-${process.pid}`);
    const args = `${FIXED} -f -P ${pidFile} --userns=/proc/${namespace.pid}/ns/user --netns=/proc/${namespace.pid}/ns/net`;
    const served = start(asOwner(PASTA, ...args.split(' ')));
    t.after(() => served.stop());
    await until(() => existsSync(pidFile) && readFileSync(pidFile, 'utf8') === `${served.pid}\n`, 'ready');
    await anchor.stop();
    const { status, stderr } = await served.end();
    assert.equal(status, 0);
    assert.match(stderr, /^Namespace net is gone, exiting\n$/m);
  });
});

describe('pasta §1.1: a command', () => {
  test('is the first process of namespaces of its own, and its status is ours', async () => {
    const script =
      'echo $$ $(hostname) $(id -u); ip -br address show tap0; ls /proc | grep -c "^[0-9]"; exit 7';
    const { status, stdout, stderr } = await run(asOwner(PASTA, ...FIXED.split(' '), 'sh', '-c', script));
    assert.deepEqual([status, stderr], [7, AS_ROOT]);
    assert.match(stdout, /^1 pasta-\S+ 0\ntap0 .* 10\.0\.2\.100\/24 .*\n[2-4]\n$/);
    assert.equal((await pasta(`${FIXED} -H other hostname`)).stdout, 'other\n');
  });

  test('a signal that ended it, and what cannot be started', async (t) => {
    const killed = start(asOwner(PASTA, ...FIXED.split(' '), 'sh', '-c', 'echo up; exec sleep 1000'));
    t.after(() => killed.stop());
    await killed.firstLine();
    const child = (await must(['pgrep', '-x', '-f', 'sleep 1000'])).trim();
    await must(asOwner('kill', '-KILL', child));
    assert.equal((await killed.end()).status, 137);
    const missing = await pasta(`${FIXED} /no/such/command`);
    assert.deepEqual(
      [missing.status, missing.stdout, missing.stderr],
      [1, '', `${AS_ROOT}Failed to start command or shell: No such file or directory\n`],
    );
  });

  test('lives on when pasta is told to end', async (t) => {
    const left = start(asOwner(PASTA, ...FIXED.split(' '), 'sh', '-c', 'echo up; exec sleep 2000'));
    t.after(() => left.stop());
    await left.firstLine();
    // Behind setpriv it has the number that was started.
    left.child.kill('SIGTERM');
    await until(() => !left.running, 'the end of pasta');
    assert.equal(left.child.exitCode, 0);
    const child = (await must(['pgrep', '-x', '-f', 'sleep 2000'])).trim();
    await must(asOwner('kill', '-KILL', child));
  });
});

describe('pasta §13: what goes wrong', () => {
  for (const [args, text] of [
    ['999999', "Couldn't open user namespace /proc/999999/ns/user: No such file or directory\n"],
    ['--netns /no/such', "Couldn't open network namespace /no/such: No such file or directory\n"],
    ['--netns /dev/null', `${AS_ROOT}Couldn't switch to pasta namespaces: Invalid argument\n`],
    ['-q -l /no/such 1', "Couldn't open log file /no/such: No such file or directory\n"],
    ['-P /no/such --netns /dev/null', "Couldn't open PID file /no/such: No such file or directory\n"],
  ] as const) {
    test(args, async () => {
      const { status, stdout, stderr } = await pasta(args);
      assert.deepEqual([status, stdout, stderr], [1, '', text]);
    });
  }
});
