/** --pcap: what it writes, read back by two programs that are not ours. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { DNS4, directory, HOST4, HOST6, OPEN, startGuest } from '../support/namespaces.ts';
import { must } from '../support/processes.ts';
import { echo, listen } from '../support/tcp-servers.ts';
import { within } from '../support/wait.ts';

/** pcap-parser has no types. */
const { parse } = createRequire(import.meta.url)('pcap-parser') as {
  parse(path: string): NodeJS.EventEmitter;
};

const CHECKS = ['ip.check_checksum', 'tcp.check_checksum', 'udp.check_checksum'].flatMap((name) => [
  '-o',
  `${name}:TRUE`,
]);

/** Lines of tshark for what `filter` selects. */
async function tshark(file: string, filter: string): Promise<string[]> {
  const out = await must(['tshark', '-n', '-r', file, ...CHECKS, '-Y', filter], { limitMs: 60_000 });
  return out.split('\n').filter((line) => line !== '');
}

describe('--pcap', () => {
  for (const mtu of [1500, 65520]) {
    test(`MTU ${mtu}: both directions are in it, whole, with good checksums`, async () => {
      const file = join(directory, `capture-${mtu}.pcap`);
      const server = await listen(echo);
      try {
        const guest = await startGuest(...OPEN, '--mtu', String(mtu), '--pcap', file);
        try {
          for (const host of [HOST4, HOST6]) {
            const back = await guest.namespace.must(
              ['socat', '-t', '10', '-', `TCP:${bracket(host)}:${server.port}`],
              {
                input: Buffer.alloc(1_000_000, 'abcdefghij'),
              },
            );
            assert.equal(back.length, 1_000_000);
            await guest.namespace.must(['ping', '-n', '-c', '2', '-i', '0.2', '-s', '3000', host]);
          }
          await guest.namespace.run(['dig', '+time=1', '+tries=1', `@${DNS4}`, 'a.test']);
        } finally {
          await guest[Symbol.asyncDispose]();
        }

        const parser = parse(file);
        let count = 0;
        let bytes = 0;
        parser.on('packet', (packet: { header: { capturedLength: number }; data: Buffer }) => {
          count++;
          assert.equal(packet.data.length, packet.header.capturedLength);
          bytes += 16 + packet.data.length;
        });
        await within(once(parser, 'end'), 'the end of the capture', 20_000);
        assert.ok(count > 20, `${count} packets`);
        assert.equal(24 + bytes, statSync(file).size);

        assert.deepEqual((await tshark(file, '_ws.malformed || _ws.short')).slice(0, 5), []);
        const bad = ['ip', 'tcp', 'udp', 'icmp', 'icmpv6'].map((name) => `${name}.checksum.status == "Bad"`);
        assert.deepEqual((await tshark(file, bad.join(' || '))).slice(0, 5), []);
        // A segment that was lost, or numbered wrongly, would show here.
        assert.deepEqual(
          (await tshark(file, 'tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment')).slice(0, 5),
          [],
        );
        for (const [host, layer] of [
          [HOST4, 'ip'],
          [HOST6, 'ipv6'],
        ]) {
          const sent = await tshark(file, `${layer}.dst == ${host} && tcp.len > 0`);
          const received = await tshark(file, `${layer}.src == ${host} && tcp.len > 0`);
          assert.ok(sent.length > 0 && received.length > 0, `${host}: ${sent.length} and ${received.length}`);
        }
        assert.equal((await tshark(file, 'icmp.type == 0 || icmpv6.type == 129')).length, 4);
        assert.ok((await tshark(file, 'dns')).length >= 1);
      } finally {
        await server.close();
      }
    });
  }
});

function bracket(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
