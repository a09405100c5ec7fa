/** The event stream, as those get it who read it, and as it is when nobody does (compat ). */
import assert from 'node:assert/strict';
import { closeSync, constants, openSync, readFileSync, readSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { apiRequest } from '../support/api-request.ts';
import { schemaFaults } from '../support/event-schema.ts';
import { asOwner, directory, mode, startGuest, tslirpCommand } from '../support/namespaces.ts';
import { must, start } from '../support/processes.ts';
import { until, within } from '../support/wait.ts';

type Line = Record<string, unknown>;

/** A path that whoever runs tslirp may make a file at. */
function place(name: string): string {
  const path = join(directory, `${name}-${mode}`);
  rmSync(path, { force: true });
  return path;
}

/** Whole lines of a stream, checked as all of them are to be. */
function parse(text: string): Line[] {
  const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
  lines.pop();
  return lines.map((line, i) => {
    const event = JSON.parse(line) as Line;
    assert.deepEqual(schemaFaults(event), [], line);
    assert.ok(Buffer.byteLength(line) < 4096);
    assert.equal(event['seq'], i + 1);
    return event;
  });
}

const typesOf = (lines: Line[]): unknown[] => lines.map(({ type }) => type);

/** Reads what there is in a pipe, which does not wait. */
function drain(fd: number): string {
  const buffer = Buffer.alloc(65_536);
  let text = '';
  try {
    for (let got = -1; got !== 0; text += buffer.toString('latin1', 0, got)) got = readSync(fd, buffer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
  }
  return text;
}

async function makePipe(name: string): Promise<{ path: string; fd: number }> {
  const path = place(name);
  await must(asOwner('mkfifo', '-m', '600', path));
  return { path, fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK) };
}

describe('--events', () => {
  test('A-13: a file tells of link, forwards and guest, in order and as the schema has it', async () => {
    const path = place('events.jsonl');
    const stack = start(
      tslirpCommand('run', '--log-level', 'warn', '--events', path, '-L', '127.0.0.1:0:80', '--', 'true'),
    );
    assert.equal((await stack.end()).status, 0);
    const lines = parse(readFileSync(path, 'utf8'));
    assert.deepEqual(typesOf(lines), [
      ...['link.up', 'forward.added', 'guest.up', 'ready'],
      ...['forward.removed', 'guest.down'],
    ]);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    const [, added, , ready, removed, down] = lines;
    assert.deepEqual(added?.['guestEnd'], { ip: '10.0.2.100', port: 80 });
    assert.deepEqual(removed?.['hostEnd'], added?.['hostEnd']);
    assert.equal(removed?.['cause'], 'stop');
    assert.deepEqual(ready?.['addresses'], ['10.0.2.100', 'fd00::100']);
    assert.equal(down?.['reason'], 'ended');
  });

  test('SIGUSR1 asks for what is there, and the command of run does not get it', async () => {
    const { path, fd } = await makePipe('signal');
    try {
      await using guest = await startGuest('--events', path, '-L', '127.0.0.1:0:80');
      const ready = parse(drain(fd)).find(({ type }) => type === 'ready');
      assert.ok(ready !== undefined);
      await must(asOwner('kill', '-USR1', String(ready['pid'])));
      let text = '';
      await until(() => {
        text += drain(fd);
        return text.includes('\n');
      }, 'the snapshot');
      const snapshot = JSON.parse(text) as Line;
      assert.deepEqual(schemaFaults(snapshot), []);
      assert.equal(snapshot['type'], 'snapshot');
      assert.equal((snapshot['forwards'] as unknown[]).length, 1);
      assert.ok(guest.stack.running);
    } finally {
      closeSync(fd);
    }
  });

  test('a unix socket that somebody listens on', async () => {
    const path = place('events.sock');
    let text = '';
    const server = createServer((socket) => {
      socket.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    await must(['chmod', '666', path]);
    try {
      const stack = start(tslirpCommand('run', '--log-level', 'warn', '--events', path, '--', 'true'));
      assert.equal((await stack.end()).status, 0);
      await until(() => text.includes('guest.down'), 'the last event');
      assert.deepEqual(typesOf(parse(text)), ['link.up', 'guest.up', 'ready', 'guest.down']);
    } finally {
      server.close();
    }
  });

  test('A-11: a pipe that nobody reads stalls nothing; then it tells what was lost and what there is', async () => {
    const { path, fd } = await makePipe('stuck');
    const api = place('stuck.sock');
    try {
      await using guest = await startGuest('--events', path, '--api-socket', api);
      const change = { proto: 'udp', host_addr: '127.0.0.1', host_port: 0, guest_port: 53 };
      const changes = async (): Promise<void> => {
        for (let i = 0; i < 125; i++) {
          const added = await apiRequest(api, 'add_hostfwd', change);
          const { id } = added['return'] as { id: number };
          await apiRequest(api, 'remove_hostfwd', { id });
        }
      };
      // 2,000 events have half a megabyte, and the pipe and we together keep 320 KiB.
      await within(Promise.all(Array.from({ length: 8 }, changes)), '2,000 changes', 60_000);
      const kept = await apiRequest(api, 'add_hostfwd', change);
      assert.ok(guest.stack.running);
      let text = '';
      await until(() => {
        text += drain(fd);
        return /"type":"snapshot".*"more":false\}\n/.test(text);
      }, 'the snapshot');
      const lines = parse(text);
      const at = lines.findIndex(({ type }) => type === 'dropped');
      const told = lines.slice(0, at).filter(({ type }) => String(type).startsWith('forward.'));
      assert.equal(told.length + Number(lines[at]?.['count']), 2001);
      const [{ hostEnd } = assert.fail(), ...more] = lines
        .slice(at + 1)
        .flatMap(({ forwards }) => forwards) as [{ hostEnd: { port: number } }];
      assert.deepEqual(more, []);
      assert.equal(hostEnd.port, (kept['return'] as { host_port: number }).host_port);
    } finally {
      closeSync(fd);
    }
  });

  test('a reader that dies costs its own events and nothing else', async () => {
    const { path, fd } = await makePipe('dies');
    const api = place('dies.sock');
    await using guest = await startGuest('--events', path, '--api-socket', api);
    closeSync(fd);
    const change = { proto: 'tcp', host_addr: '127.0.0.1', host_port: 0, guest_port: 80 };
    for (let i = 0; i < 20; i++) await apiRequest(api, 'add_hostfwd', change);
    const { return: answer } = await apiRequest(api, 'list_forwards');
    assert.equal((answer as { forwards: unknown[] }).forwards.length, 20);
    assert.ok(guest.stack.running);
  });

  test('tslirp events follows one that runs, to its end', async () => {
    const api = place('follow.sock');
    const guest = await startGuest('--api-socket', api);
    const reader = start(tslirpCommand('events', '--api-socket', api));
    try {
      await until(() => reader.stdout.includes('snapshot'), 'the snapshot');
      const rule = ['forward', 'add', '127.0.0.1:0:80', '--api-socket', api];
      await must(tslirpCommand(...rule));
      await until(() => reader.stdout.includes('forward.added'), 'the forward');
    } finally {
      await guest[Symbol.asyncDispose]();
    }
    const { status, stdout } = await reader.end();
    assert.equal(status, 0);
    assert.deepEqual(typesOf(parse(stdout)), [
      ...['snapshot', 'forward.added', 'forward.removed', 'guest.down'],
    ]);
  });
});

describe('--out-dir', () => {
  test('E-8: its files are whole however tslirp ends, in the sandbox too', async () => {
    const out = join(directory, `out-${mode}`);
    rmSync(out, { recursive: true, force: true });
    await must(asOwner('mkdir', '-m', '700', out));
    const api = place('out.sock');
    const guest = await startGuest('--out-dir', out, '--api-socket', api, '-L', '127.0.0.1:0:80');
    const file = async (name: string): Promise<string> => must(asOwner('cat', join(out, name)));
    try {
      const change = { proto: 'udp', host_addr: '127.0.0.1', host_port: 0, guest_port: 53 };
      const { return: added } = await apiRequest(api, 'add_hostfwd', change);
      const { host_port: port } = added as { host_port: number };
      const line = `udp 127.0.0.1:${port} -> 10.0.2.100:53 (unknown)\n`;
      await until(async () => (await file('endpoints.txt')).endsWith(line), 'the new port');
      await guest.stack.stop('SIGKILL');
      assert.match(
        await file('endpoints.txt'),
        /^tcp 127\.0\.0\.1:\d+ -> 10\.0\.2\.100:80 \(unknown\)\nudp .*\n$/,
      );
      assert.match(
        await file('vpn_bridges.csv'),
        /^procname,ipvn,domain,guest_ip,guest_port,host_port\n,ipv4,tcp,10\.0\.2\.100,80,\d+\n,ipv4,udp,10\.0\.2\.100,53,\d+\n$/,
      );
      assert.equal(await file('ipaddr.txt'), '127.0.0.1\n');
      assert.equal(await must(asOwner('stat', '-c', '%a', join(out, 'guest_ip'))), '600\n');
    } finally {
      if (guest.stack.running) await guest.stack.stop();
    }
  });

  test('E-7: --pcap without a file is vpn.pcap there, with good checksums', async () => {
    const out = join(directory, `pcap-${mode}`);
    rmSync(out, { recursive: true, force: true });
    await must(asOwner('mkdir', '-m', '700', out));
    const script = 'ping -c 1 10.0.2.2; : </dev/tcp/10.0.2.2/9';
    const options = ['--log-level', 'error', '--out-dir', out, '--pcap'];
    const stack = start(tslirpCommand('run', ...options, '--', 'bash', '-c', script));
    await stack.end();
    const names = ['ip', 'tcp', 'udp', 'icmp', 'icmpv6'];
    const checks = ['ip', 'tcp', 'udp'].flatMap((name) => ['-o', `${name}.check_checksum:TRUE`]);
    const capture = join(out, 'vpn.pcap');
    const shown = async (filter: string): Promise<string> =>
      must(['tshark', '-n', '-r', capture, ...checks, '-Y', filter], { limitMs: 60_000 });
    assert.equal(await shown(names.map((name) => `${name}.checksum.status == "Bad"`).join(' || ')), '');
    assert.match(await shown('icmp.type == 0'), /10\.0\.2\.2/);
    assert.match(await shown('tcp.flags.reset == 1'), /10\.0\.2\.2/);
  });
});
