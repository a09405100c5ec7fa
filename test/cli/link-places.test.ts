import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { freePath, settlePlaces } from '../../src/cli/link-places.ts';
import { parseLinkSpec } from '../../src/cli/link-spec.ts';
import type { GuestConfig } from '../../src/config.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-places-'));
const servers: Server[] = [];
after(() => {
  for (const server of servers) server.close();
  rmSync(directory, { recursive: true });
});

const path = (number: number): string => join(directory, `passt_${number}.socket`);

function listen(number: number): Promise<void> {
  const server = createServer();
  servers.push(server);
  return new Promise((resolve) => server.listen(path(number), resolve));
}

test('links L-16: passt: without a path is the first that nobody listens at', async () => {
  assert.equal(await freePath(path), path(1));
  await listen(1);
  await listen(2);
  assert.equal(await freePath(path), path(3));
  // A file that is none, which is not removed: whoever binds there is told.
  writeFileSync(path(3), '');
  assert.equal(await freePath(path), path(3));
  for (let number = 3; number <= 64; number++) {
    rmSync(path(number), { force: true });
    await listen(number);
  }
  await assert.rejects(freePath(path), /all of .*passt_1\.socket to .*passt_64\.socket are in use/);
});

test('links L-12: a host that QEMU is at may have a name', async () => {
  const at = async (text: string): Promise<object> => {
    const { target } = parseLinkSpec(text);
    await settlePlaces(target as GuestConfig['target']);
    return (target as { at: object }).at;
  };
  assert.match(
    JSON.stringify(await at('qemu:tcp:localhost:80,connect')),
    /"address":"(127\.0\.0\.1|::1)","port":80/,
  );
  assert.deepEqual(await at('qemu:tcp:192.0.2.1:80'), { family: 'ip', address: '192.0.2.1', port: 80 });
  await assert.rejects(
    at('qemu:tcp:no-such-host.invalid:80'),
    /no-such-host\.invalid of a link cannot be found/,
  );
});
