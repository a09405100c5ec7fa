/**
 * The case that slirpnetstack was made for: a gVisor sandbox whose only network is a TAP device in its namespace. Its stack
 * is not Linux's, so this is also a second guest implementation to talk to.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { directory, HOST4, HOST6, mode } from '../support/namespaces.ts';
import * as host from '../support/net-actions.ts';
import { start } from '../support/processes.ts';
import { slirpnetstackGuest, startSlirpnetstack } from '../support/slirpnetstack.ts';
import { listen, sampleBytes, sha256 } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

const BODY = sampleBytes(8 * 1024 * 1024);
const SERVER = 8000;

/** Programs of the sandbox: what they say is looked at. */
const SCRIPT = (port: number): string => `
for host in ${HOST4} [${HOST6}]; do curl -sS -m 20 http://$host:${port}/ | sha256sum; done
curl -sS -m 5 http://${HOST4}:9/ 2>&1
ping -c1 -W3 1.1.1.1
socat TCP-LISTEN:${SERVER},fork,reuseaddr EXEC:cat & echo serving
sleep 60
`;

/** runsc wants an OCI bundle. The namespace is the one that its process is in. */
function writeBundle(port: number): string {
  const bundle = join(directory, 'bundle');
  mkdirSync(bundle, { recursive: true });
  const capabilities = ['CAP_NET_RAW'];
  const config = {
    ociVersion: '1.0.0',
    process: {
      user: { uid: 0, gid: 0 },
      args: ['sh', '-c', SCRIPT(port)],
      env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
      cwd: '/',
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    root: { path: '/', readonly: true },
    hostname: 'guest',
    mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
    linux: {
      namespaces: [
        ...['pid', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
        { type: 'network', path: '/proc/self/ns/net' },
      ],
    },
  };
  writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
  return bundle;
}

// runsc is started by root of the machine, or not at all.
if (mode === 'root') {
  describe('a gVisor sandbox', () => {
    test('reaches the host, is refused, pings, and serves through a local forward', async () => {
      const guest = await slirpnetstackGuest({ plain: true });
      const server = await listen((socket) => {
        socket.once('data', () => {
          socket.write(`HTTP/1.0 200 OK\r\nContent-Length: ${BODY.length}\r\n\r\n`);
          socket.end(BODY);
        });
      });
      const program = await startSlirpnetstack(guest, '-enable-host', '-L', `0:10.0.2.100:${SERVER}`);
      const bundle = writeBundle(server.port);
      // It takes a namespace with this file for the machine's own, which it will not touch; newer kernels have it in all.
      const hide = 'mount -t tmpfs none /proc/sys/net/core && exec "$@"';
      const runsc = ['runsc', '--root', join(directory, 'runsc'), '--network=sandbox', '--ignore-cgroups'];
      const sandbox = start(
        guest.namespace.command([
          ...['unshare', '--mount', 'sh', '-c', hide, 'sh'],
          ...[...runsc, '--platform=ptrace', 'run', '-bundle', bundle, 'guest'],
        ]),
      );
      try {
        await until(
          () => sandbox.stdout.includes('serving') || !sandbox.running,
          `the sandbox: ${sandbox.stdout}${sandbox.stderr}`,
          40_000,
        );
        const sum = sha256(BODY);
        assert.equal(sandbox.stdout.match(new RegExp(sum, 'g'))?.length, 2, sandbox.stdout + sandbox.stderr);
        assert.match(sandbox.stdout, /Failed to connect to|Connection refused/);
        assert.match(sandbox.stdout, /1 packets transmitted, 1 received/);
        let echoed = '';
        await until(async () => {
          echoed = (await host.talkTcp('127.0.0.1', program.port(), ['through gVisor'])).text;
          return echoed !== '';
        }, 'an answer of the sandbox');
        assert.equal(echoed, 'through gVisor');
      } finally {
        await sandbox.stop();
        await program[Symbol.asyncDispose]();
        await server.close();
        await guest.end();
      }
    });
  });
}
