/** Ways from a command under `tslirp run` back to the process that serves it. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { asOwner, directory, startGuest } from '../support/namespaces.ts';
import { run } from '../support/processes.ts';
import { ask } from '../support/slirp4netns.ts';

const ADD = { proto: 'tcp', host_addr: '127.0.0.1', host_port: 0, guest_port: 80 };

describe('review OR-28: the command', () => {
  test('cannot use the API socket, not from a namespace of its own either; the host can', async () => {
    const path = join(directory, `guard-${process.pid}.sock`);
    await using guest = await startGuest('--api-socket', path);
    const request = JSON.stringify({ execute: 'add_hostfwd', arguments: ADD });
    for (const enter of [[], ['unshare', '--net'], ['unshare', '--user', '--net']]) {
      const client = [...enter, 'socat', '-T5', '-', `UNIX-CONNECT:${path}`];
      const { stdout } = await guest.namespace.run(client, { input: request });
      assert.match(stdout, /not from inside/, enter.join(' '));
      // Nor one that does not wait to be judged.
      await guest.namespace.run([...enter, 'socat', '-u', '-', `UNIX-CONNECT:${path}`], { input: request });
    }
    const listed = await ask(path, { execute: 'list_hostfwd' });
    assert.deepEqual(listed['return'], { entries: [] });
    const added = await run(asOwner('socat', '-T5', '-', `UNIX-CONNECT:${path}`), { input: request });
    assert.match(added.stdout, /"id":1/);
  });

  for (const option of ['--sandbox', '--no-sandbox']) {
    test(`cannot trace it, take its descriptors, read its memory or see its files (${option}, no Yama needed)`, async () => {
      await using guest = await startGuest(option);
      const { pid } = guest.stack;
      // PTRACE_ATTACH; pidfd_getfd(2) by a descriptor of pidfd_open(2).
      const attempt = `
        my ($trace, $open, $take) = (qw(aarch64)[0] eq (split " ", \`uname -m\`)[0]) ? (117, 434, 438) : (101, 434, 438);
        print syscall($trace, 16, ${pid}, 0, 0) < 0 ? "refused " : "traced ";
        my $fd = syscall($open, ${pid}, 0);
        print syscall($take, $fd, 2, 0) < 0 ? "refused " : "taken ";
        for my $what (qw(mem environ maps)) { print open(my $file, "<", "/proc/${pid}/$what") ? "$what " : "refused " }
        print opendir(my $root, "/proc/${pid}/root") ? "root " : "refused ";
        print -e "/proc/${pid}/fd/0" ? "descriptor" : "refused";`;
      const said = await guest.namespace.must(['perl', '-e', attempt]);
      assert.equal(said, Array(7).fill('refused').join(' '));
    });
  }
});
