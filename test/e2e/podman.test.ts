/** Real rootless Podman and RootlessKit on `bin/slirp4netns`: an ordinary user of a whole machine, so in mode `user` only. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { startDnsResponder } from '../support/dns-responder.ts';
import { HOST4, HOST4_OTHER, HOST6, mode, programPath } from '../support/namespaces.ts';
import { endPodman, IMAGE, inContainer, podman, preparePodman, userStart } from '../support/podman.ts';
import { run } from '../support/processes.ts';
import { until } from '../support/wait.ts';

/** Processes of ours that serve a container, their helpers included. */
function serving(): number {
  let count = 0;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const words = readFileSync(`/proc/${name}/cmdline`, 'latin1').split('\0');
      if (words.some((word) => /\/slirp4netns$|^slirp4netns: /.test(word))) count++;
    } catch {
      // It has ended.
    }
  }
  return count;
}

/** An HTTP server that answers with the client's address. */
async function whoServer(host: string): Promise<{ port: number; close: () => void }> {
  const server = createServer((request, response) => {
    response.end(`${request.socket.remoteAddress?.replace('::ffff:', '')}\n`);
  });
  server.listen(0, host);
  await once(server, 'listening');
  const close = (): void => {
    server.closeAllConnections();
    server.close();
  };
  return { port: (server.address() as AddressInfo).port, close };
}

/** A page of a container, from `source`; empty while there is none. */
async function page(source: string, port: number): Promise<string> {
  const url = `http://${HOST4}:${port}/cgi-bin/client`;
  const { stdout } = await run(['curl', '-s', '-m', '2', '--interface', source, url]);
  // A dual-stack server writes the address of an IPv4 client in this form.
  return stdout.trim().replace(/^\[::ffff:(.*)\]$/, '$1');
}

const HTTPD = ['httpd', '-f', '-p', '80', '-h', '/www'];

if (mode === 'user') {
  describe('rootless Podman', () => {
    let outside: Awaited<ReturnType<typeof whoServer>>;
    let loopback: Awaited<ReturnType<typeof whoServer>>;
    let names: Awaited<ReturnType<typeof startDnsResponder>>;

    before(async () => {
      await preparePodman(process.env['TSLIRP_E2E_USER'] ?? '');
      outside = await whoServer('::');
      loopback = await whoServer('127.0.0.1');
      names = await startDnsResponder(HOST4, new Map([['web.test', [HOST4]]]));
    });
    after(async () => {
      outside.close();
      loopback.close();
      names.close();
      await endPodman();
    });

    test('issue 12: a service of a container without a network of its own appears on the host', async () => {
      const id = (await podman(['run', '--detach', '--network', 'none', IMAGE, ...HTTPD])).trim();
      const pid = (await podman(['inspect', '--format', '{{.State.Pid}}', id])).trim();
      const attach = [
        programPath('tslirp'),
        'attach',
        '--auto-forward',
        '--events',
        '-',
        '--log-level',
        'error',
      ];
      const stack = userStart([...attach, pid]);
      try {
        await until(() => stack.stdout.includes('"forward.added"'), 'a forward');
        assert.match(stack.stdout, /"port":80,.*"process":"httpd"/);
        const url = 'http://127.0.0.1:1080/cgi-bin/client';
        assert.match((await run(['curl', '-s', '-m', '5', url])).stdout, /^\S+\n$/);
      } finally {
        await stack.stop('SIGTERM');
        await podman(['rm', '--force', '--time=0', id]);
      }
    });

    test('a container reaches the outside by address and by name, not the host by loopback', async () => {
      const script = `wget -qO- http://${HOST4}:${outside.port}; wget -qO- http://web.test:${outside.port};
        wget -qO- http://10.0.2.2:${loopback.port} 2>&1; ip -4 -o address show dev tap0`;
      const lines = (await inContainer('slirp4netns', script)).trim().split('\n');
      assert.deepEqual(lines.slice(0, 2), [HOST4, HOST4]);
      assert.match(lines[2] ?? '', /unreachable/i);
      assert.match(lines[3] ?? '', /inet 10\.0\.2\.100\/24/);
    });

    test('options of the network reach us', async () => {
      const fetch = (url: string): string => `wget -qO- http://${url}`;
      const [host, six, cidr, outbound] = await Promise.all([
        inContainer('slirp4netns:allow_host_loopback=true', fetch(`10.0.2.2:${loopback.port}`)),
        inContainer('slirp4netns:enable_ipv6=true', fetch(`[${HOST6}]:${outside.port}`)),
        inContainer(
          'slirp4netns:cidr=10.0.135.128/25,mtu=1400',
          'ip address show dev tap0; cat /etc/resolv.conf',
        ),
        inContainer(`slirp4netns:outbound_addr=${HOST4_OTHER}`, fetch(`${HOST4}:${outside.port}`)),
      ]);
      assert.equal(host, '127.0.0.1\n');
      assert.equal(six, `${HOST6}\n`);
      assert.match(cidr, /mtu 1400[\s\S]*inet 10\.0\.135\.228\/25[\s\S]*nameserver 10\.0\.135\.131/);
      assert.equal(outbound, `${HOST4_OTHER}\n`);
    });

    for (const [handler, port, client] of [
      ['rootlesskit', 8081, undefined],
      ['slirp4netns', 8082, HOST4_OTHER],
    ] as const) {
      test(`ports published by ${handler}, also after stop and start; nothing is left by rm -f`, async () => {
        const network = `slirp4netns:port_handler=${handler}`;
        const publish = ['--publish', `${port}:80`, '--stop-timeout', '0'];
        const id = (
          await podman(['run', '--detach', '--network', network, ...publish, IMAGE, ...HTTPD])
        ).trim();
        const answers = async (): Promise<boolean> => (await page(HOST4_OTHER, port)) !== '';
        await until(answers, 'the published port');
        assert.ok(serving() > 0);
        if (client !== undefined) assert.equal(await page(HOST4_OTHER, port), client);
        await podman(['stop', '--time=0', id]);
        assert.equal(await page(HOST4_OTHER, port), '');
        await podman(['start', id]);
        await until(answers, 'the published port again');
        await podman(['rm', '--force', '--time=0', id]);
        await until(() => serving() === 0, 'no process of ours');
        assert.deepEqual(
          readdirSync('/mnt/run/libpod/tmp').filter((name) => name.endsWith('.net')),
          [],
        );
        assert.equal(await page(HOST4_OTHER, port), '');
      });
    }

    test('ten containers at once', async () => {
      const script = `wget -qO- http://${HOST4}:${outside.port}`;
      const all = Array.from({ length: 10 }, () => inContainer('slirp4netns', script));
      assert.deepEqual(await Promise.all(all), Array<string>(10).fill(`${HOST4}\n`));
      await until(() => serving() === 0, 'no process of ours');
    });

    for (const driver of ['builtin', 'slirp4netns']) {
      test(`RootlessKit with the port driver ${driver}, sandbox and seccomp: in and out`, async () => {
        const port = driver === 'builtin' ? 8083 : 8084;
        const inside = `curl -s -m 5 http://${HOST4}:${outside.port} && exec busybox httpd -f -p 80 -h /mnt/image/www`;
        const kit = userStart([
          ...['rootlesskit', '--net=slirp4netns', `--slirp4netns-binary=${programPath('slirp4netns')}`],
          ...['--slirp4netns-sandbox=true', '--slirp4netns-seccomp=true', '--disable-host-loopback'],
          ...[`--port-driver=${driver}`, `--publish=0.0.0.0:${port}:80/tcp`, 'sh', '-c', inside],
        ]);
        try {
          assert.equal(await kit.firstLine(20_000), HOST4);
          await until(async () => (await page(HOST4_OTHER, port)) !== '', 'the published port');
          if (driver === 'slirp4netns') assert.equal(await page(HOST4_OTHER, port), HOST4_OTHER);
        } catch (error) {
          throw new Error(`${(error as Error).message}: ${kit.stderr}`, { cause: error });
        } finally {
          await kit.stop('SIGTERM');
        }
        await until(() => serving() === 0, 'no process of ours');
      });
    }

    test('review O-2: RootlessKit --ipv6: a program that connects at once never waits for its timeout', async () => {
      const far = await whoServer(HOST6);
      // Refused at once (7) until there is an address to connect from; 28 is curl's own end of waiting.
      const inside = `while :; do curl -s -m 20 http://[${HOST6}]:${far.port} && exit; [ $? = 28 ] && exec echo waited; sleep 0.02; done`;
      const kit = userStart([
        ...['rootlesskit', '--net=slirp4netns', `--slirp4netns-binary=${programPath('slirp4netns')}`],
        ...['--ipv6', 'sh', '-c', inside],
      ]);
      try {
        assert.equal(await kit.firstLine(60_000), HOST6);
      } catch (error) {
        throw new Error(`${(error as Error).message}: ${kit.stderr}`, { cause: error });
      } finally {
        await kit.stop('SIGTERM');
        far.close();
      }
      await until(() => serving() === 0, 'no process of ours');
    });
  });
} else {
  test(`rootless Podman is a matter of an ordinary user on the machine itself, not of mode ${mode}`, () => {
    assert.ok(mode === 'root' || mode === 'nested');
  });
}
