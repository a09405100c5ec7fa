/** What a command under `tslirp run` sees of the host's name service: of its files what is right inside, of its sockets nothing. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { asOwner, directory, programPath, tslirpCommand } from '../support/namespaces.ts';
import { must, type Running, start } from '../support/processes.ts';
import { until } from '../support/wait.ts';

/** For what copies /etc first, on a loaded machine. */
const SLOW_MS = 30_000;

/**
 * A command on a host whose /etc and /run are copies, where `prepare` was run. It prints what is asked of it line by line;
 * lines that begin with `host` are for the host.
 */
async function withCommand(
  prepare: string,
  options: string[],
  body: (ask: (line: string) => Promise<string>) => Promise<void>,
): Promise<void> {
  const script = `
    mount -t tmpfs copy "$1" && { cp -a /etc "$1/" 2>/dev/null; mount --bind "$1/etc" /etc; } && mount -t tmpfs run /run &&
    rm -f /etc/resolv.conf && chmod 755 /run || exit 9
    ${prepare}
    mkfifo "$1/lines" && chmod 666 "$1/lines"
    exec 3<&0 4>&1
    { while read -r line; do case $line in host*) eval "\${line#host}"; echo done >&4 ;; *) echo "$line" ;; esac; done >"$1/lines"; } <&3 &
    shift
    exec "$@" </dev/null 3<&- 4>&-`;
  const place = mkdtempSync(join(directory, 'etc-'));
  const inside = `exec <${place}/lines; while read -r line; do eval "$line"; echo done; done`;
  const argv = tslirpCommand('run', '--log-level', 'warn', ...options, '--', 'sh', '-c', inside);
  const stack: Running = start(['unshare', '--mount', 'sh', '-c', script, 'sh', place, ...argv]);
  try {
    await body(async (line) => {
      const before = stack.stdout.length;
      stack.child.stdin?.write(`${line}\n`);
      const answered = (): boolean => /(^|\n)done\n/.test(stack.stdout.slice(before));
      await until(() => answered() || !stack.running, `${line}: ${stack.stderr}`, SLOW_MS);
      assert.ok(answered(), stack.stderr);
      return stack.stdout.slice(before).replace(/(^|\n)done\n.*$/s, '');
    });
  } finally {
    // The reader of the lines ends with them.
    stack.child.stdin?.end();
    await stack.stop('SIGTERM', SLOW_MS);
  }
}

async function untilAsked(condition: () => Promise<boolean>): Promise<void> {
  const limit = Date.now() + SLOW_MS;
  while (!(await condition())) assert.ok(Date.now() < limit, "the command's view is back");
}

const RESOLVED = `
  mkdir -p /run/systemd/resolve && ln -s ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
  echo nameserver 127.0.0.53 >/run/systemd/resolve/stub-resolv.conf
  serve="setpriv --pdeathsig KILL -- socat"
  $serve UNIX-LISTEN:/run/systemd/resolve/io.systemd.Resolve,fork,mode=666 EXEC:'echo answered' >/dev/null 2>&1 &
  mkdir -p /run/nscd 
  $serve UNIX-LISTEN:/run/nscd/socket,fork,mode=666 EXEC:'echo answered' >/dev/null 2>&1 &
  until [ -S /run/systemd/resolve/io.systemd.Resolve ] && [ -S /run/nscd/socket ]; do :; done`;

const SOCKETS = ['/run/nscd/socket', '/run/systemd/resolve/io.systemd.Resolve'];

describe('name service under run', () => {
  for (const options of [[], ['--no-dns']]) {
    test(`review OP-5: sockets of the host's name services are out of sight${options.join('')}`, async () => {
      await withCommand(RESOLVED, options, async (ask) => {
        for (const socket of SOCKETS)
          assert.equal(
            await ask(`socat -u UNIX-CONNECT:${socket} - 2>/dev/null || echo none`),
            'none',
            socket,
          );
        const server = options.length === 0 ? 'nameserver 10.0.2.3' : 'nameserver 127.0.0.53';
        assert.match(await ask('cat /etc/resolv.conf'), new RegExp(`^${server}$`, 'm'));
      });
    });
  }

  test("review OP-4: the host renames a file over what its resolv.conf leads to; the command's view stays", async () => {
    for (const prepare of [
      RESOLVED,
      `mkdir -p /run/net/sub && echo kept >/run/net/sub/file && ln -s /run/net/resolv.conf /etc/resolv.conf
       echo nameserver 127.0.0.53 >/run/net/resolv.conf`,
    ]) {
      await withCommand(prepare, [], async (ask) => {
        const before = await ask('cat /etc/resolv.conf');
        assert.match(before, /^nameserver 10\.0\.2\.3$/m);
        const target = '$(readlink -f /etc/resolv.conf)';
        await ask(`host echo nameserver 127.0.0.54 >/run/new && mv /run/new ${target} || echo 'not renamed'`);
        assert.equal(await ask('cat /etc/resolv.conf'), before);
        // What else is in such a directory stays in sight.
        if (prepare !== RESOLVED) assert.equal(await ask('cat /run/net/sub/file'), 'kept');
      });
    }
  });

  for (const [what, prepare, replace] of [
    [
      'as NetworkManager does',
      '',
      'cp /etc/new /etc/resolv.conf.tmp && mv /etc/resolv.conf.tmp /etc/resolv.conf',
    ],
    ['from a name in another directory', '', 'cp /etc/new /etc/sub/new && mv /etc/sub/new /etc/resolv.conf'],
    ['by removing it first', '', 'rm /etc/resolv.conf && sleep 0.01 && cp /etc/new /etc/resolv.conf'],
    [
      'by a link',
      'cp /etc/new /etc/other.conf',
      'ln -sf other.conf /etc/link && mv -T /etc/link /etc/resolv.conf',
    ],
    [
      'that is behind a link',
      'mv /etc/resolv.conf /run/r && ln -s /run/r /etc/resolv.conf',
      'cp /etc/new /run/n && mv /run/n /run/r',
    ],
  ] as const) {
    test(`review OP-4: the host replaces a plain resolv.conf ${what}; the command sees its own again`, async () => {
      const plain = `
        echo nameserver 127.0.0.53 >/etc/resolv.conf; echo nameserver 127.0.0.54 >/etc/new; mkdir /etc/sub
        ${prepare}`;
      await withCommand(plain, [], async (ask) => {
        const before = await ask('cat /etc/resolv.conf /etc/hosts');
        assert.match(before, /^nameserver 10\.0\.2\.3$/m);
        for (let round = 0; round < 3; round++) {
          const hosts = 'cp /etc/hosts /etc/hosts.new && mv /etc/hosts.new /etc/hosts';
          await ask(`host { ${replace} && ${hosts}; } || echo 'not replaced'`);
          assert.equal(await ask('host cat /etc/resolv.conf >&4'), 'nameserver 127.0.0.54');
          await untilAsked(async () => (await ask('cat /etc/resolv.conf /etc/hosts')) === before);
        }
      });
    });
  }

  test('review OP-4: what a command has put in place of its resolv.conf stays, and so does what it has written there', async () => {
    await withCommand('echo nameserver 127.0.0.53 >/etc/resolv.conf', [], async (ask) => {
      const replace =
        'host echo nameserver 127.0.0.54 >/etc/new && mv /etc/new /etc/resolv.conf || echo "not replaced"';
      await ask('echo "# mine" >>/etc/resolv.conf');
      const before = await ask('cat /etc/resolv.conf');
      assert.match(before, /^# mine$/m);
      await ask(replace);
      await untilAsked(async () => (await ask('cat /etc/resolv.conf')) === before);
      await ask('f=$(mktemp) && echo other >$f && mount --bind $f /etc/resolv.conf && rm $f');
      assert.equal(await ask('cat /etc/resolv.conf'), 'other');
    });
  });
});

describe('what is written for a command', () => {
  test('review ON-14: nothing of it is left when we are killed before the command begins', async () => {
    const place = mkdtempSync(join(directory, 'left-'));
    chmodSync(place, 0o777);
    const [temporary, programs, begun] = [join(place, 'tmp'), join(place, 'bin'), join(place, 'begun')];
    await must(asOwner('mkdir', temporary));
    // The preparation comes to its first program, and no further.
    const stop = `#!/bin/sh\n: >${begun}\nwhile kill -0 $PPID 2>/dev/null; do sleep 0.1; done\n`;
    mkdirSync(programs);
    writeFileSync(join(programs, 'mount'), stop, { mode: 0o755 });
    const path = `PATH=${programs}:${process.env['PATH']}`;
    const argv = [programPath('tslirp'), 'run', '--log-level', 'warn', '--', 'true'];
    const stack = start(asOwner('env', path, `TMPDIR=${temporary}`, ...argv));
    try {
      await until(() => existsSync(begun), stack.stderr, SLOW_MS);
      assert.match(readdirSync(temporary).join(), /^tslirp-\w+$/);
    } finally {
      await stack.stop('SIGKILL', SLOW_MS);
    }
    await until(() => readdirSync(temporary).length === 0, 'nothing is left', SLOW_MS);
  });
});
