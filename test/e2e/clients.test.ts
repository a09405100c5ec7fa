/** The programs people use: nginx and curl, iperf3, socat. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { directory, type Guest, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import { type Running, start } from '../support/processes.ts';
import { digest, listen, sampleBytes, sha256 } from '../support/tcp-servers.ts';
import { until } from '../support/wait.ts';

const FAMILIES = [
  ['IPv4', HOST4],
  ['IPv6', HOST6],
] as const;

function bracket(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}

describe('real programs', () => {
  let guest: Guest;
  before(async () => {
    guest = await startGuest(...OPEN);
  });
  after(() => guest?.[Symbol.asyncDispose]());

  describe('nginx and curl', () => {
    const place = join(directory, 'nginx');
    const body = sampleBytes(16 * 1024 * 1024);
    let nginx: Running;
    before(async () => {
      mkdirSync(join(place, 'files'), { recursive: true });
      writeFileSync(join(place, 'files', 'large'), body);
      writeFileSync(join(place, 'files', 'empty'), '');
      writeFileSync(
        join(place, 'nginx.conf'),
        `user root; daemon off; master_process off; pid ${place}/pid; error_log stderr crit;
         events { worker_connections 1024; }
         http {
           access_log off; client_max_body_size 100m;
           client_body_temp_path ${place}/body; proxy_temp_path ${place}/proxy; fastcgi_temp_path ${place}/fastcgi;
           uwsgi_temp_path ${place}/uwsgi; scgi_temp_path ${place}/scgi;
           server { listen ${HOST4}:8080; listen [${HOST6}]:8080; root ${place}/files; }
         }`,
      );
      nginx = start(['nginx', '-e', 'stderr', '-p', place, '-c', `${place}/nginx.conf`]);
      // Asked from the guest, as everything here.
      await until(
        async () => {
          if (!nginx.running) throw new Error(`nginx: ${nginx.stderr}`);
          return (
            (await guest.namespace.run(['curl', '-s', '-o', '/dev/null', `http://${HOST4}:8080/empty`]))
              .status === 0
          );
        },
        'nginx',
        5000,
      );
    });
    after(async () => {
      await nginx?.stop('SIGTERM');
      rmSync(place, { recursive: true, force: true });
    });

    for (const [family, host] of FAMILIES) {
      test(`${family}: a large file has its checksum, and a range of it is the range`, async () => {
        const url = `http://${bracket(host)}:8080/large`;
        const script = `curl -sSf "${url}" | sha256sum; curl -sSf -r 1000000-1999999 "${url}" | sha256sum`;
        const [all = '', part = ''] = (await guest.namespace.must(['sh', '-c', script])).split('\n');
        assert.equal(all.split(' ')[0], sha256(body));
        assert.equal(part.split(' ')[0], sha256(body.subarray(1_000_000, 2_000_000)));
      });

      test(`${family}: 80 ranges, eight at a time, all come`, async () => {
        const url = `http://${bracket(host)}:8080/large?[1-80]`;
        const format = '%{http_code} %{size_download} %{num_connects}\\n';
        const out = await guest.namespace.must(
          [
            'curl',
            '-sSf',
            '-Z',
            '--parallel-max',
            '8',
            '-r',
            '0-99999',
            '-o',
            '/dev/null',
            '-w',
            format,
            url,
          ],
          { limitMs: 30_000 },
        );
        const lines = out.trim().split('\n');
        assert.equal(lines.length, 80);
        for (const line of lines) assert.match(line, /^206 100000 /);
      });
    }
  });

  describe('iperf3', () => {
    for (const [what, args, host] of [
      ['IPv4 up', [], HOST4],
      ['IPv4 down', ['-R'], HOST4],
      ['IPv6 up', [], HOST6],
      ['IPv6 down, 4 streams', ['-R', '-P', '4'], HOST6],
      ['IPv4 both ways at once', ['--bidir'], HOST4],
    ] as const) {
      test(`TCP, ${what}: data flows in every interval`, async () => {
        const server = start(['iperf3', '-s', '-1', '-p', '5201', '-B', host, '--forceflush']);
        try {
          await until(() => /listening/.test(server.stdout), 'iperf3');
          const out = await guest.namespace.must([
            'iperf3',
            '-c',
            host,
            '-p',
            '5201',
            '-t',
            '2',
            '-i',
            '0.5',
            '-J',
            ...args,
          ]);
          const result = JSON.parse(out) as {
            intervals: { streams: { bytes: number; sender: boolean }[] }[];
            end: { sum_received: { bytes: number } };
          };
          assert.ok(result.end.sum_received.bytes > 10_000_000, `${result.end.sum_received.bytes} bytes`);
          for (const { streams } of result.intervals)
            for (const { bytes } of streams) assert.ok(bytes > 0, JSON.stringify(result.intervals));
        } finally {
          await server.stop();
        }
      });
    }

    for (const [what, args] of [
      ['up', []],
      ['down', ['-R']],
    ] as const) {
      test(`UDP, 20 Mbit/s ${what}: hardly anything is lost`, async () => {
        const server = start(['iperf3', '-s', '-1', '-p', '5201', '-B', HOST4, '--forceflush']);
        try {
          await until(() => /listening/.test(server.stdout), 'iperf3');
          const out = await guest.namespace.must([
            ...[
              'iperf3',
              '-c',
              HOST4,
              '-p',
              '5201',
              '-u',
              '-b',
              '100M',
              '-l',
              '1400',
              '-t',
              '2',
              '-J',
              ...args,
            ],
          ]);
          const { sum } = (JSON.parse(out) as { end: { sum: { packets: number; lost_percent: number } } })
            .end;
          assert.ok(sum.packets > 3000, `${sum.packets} packets`);
          assert.ok(sum.lost_percent < 5, `${sum.lost_percent} % lost`);
        } finally {
          await server.stop();
        }
      });
    }
  });

  describe('socat', () => {
    for (const [family, host] of FAMILIES) {
      test(`${family}: a stream that is ended is answered`, async () => {
        const server = await listen(digest);
        try {
          const body = sampleBytes(3_000_001);
          const out = await guest.namespace.must(
            ['socat', '-t', '10', '-', `TCP:${bracket(host)}:${server.port}`],
            {
              input: body,
            },
          );
          assert.equal(out, sha256(body));
        } finally {
          await server.close();
        }
      });
    }
  });
});
