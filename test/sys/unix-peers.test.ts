import assert from 'node:assert/strict';
import { once } from 'node:events';
import { fstatSync, mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { Memory } from '../../src/sys/memory.ts';
import { UNIX_PEERS_BYTES, UnixPeers } from '../../src/sys/unix-peers.ts';
import { start } from '../support/processes.ts';
import { until } from '../support/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-peers-'));
after(() => rmSync(directory, { recursive: true }));

function inodeOf(socket: Socket): number {
  return fstatSync((socket as unknown as { _handle: { fd: number } })._handle.fd).ino;
}

describe('UnixPeers', () => {
  test('tells who has connected from our network namespace, and who from another', async () => {
    const path = join(directory, 'socket');
    const clients: Socket[] = [];
    const server = createServer({ allowHalfOpen: true }, (socket) => clients.push(socket)).listen(path);
    await once(server, 'listening');
    const peers = new UnixPeers(new Memory(new ArrayBuffer(UNIX_PEERS_BYTES)), 0);
    const far = start([
      ...['unshare', '--user', '--map-root-user', '--net', 'setpriv', '--pdeathsig', 'KILL'],
      ...['socat', '-', `UNIX-CONNECT:${path}`],
    ]);
    try {
      assert.equal(peers.available(), 0);
      await until(() => clients.length === 1 || !far.running, `a client from elsewhere: ${far.stderr}`);
      assert.equal(peers.isNear(inodeOf(clients[0] as Socket)), 0);

      const near = createConnection(path);
      await until(() => clients.length === 2, 'a client from here');
      const inode = inodeOf(clients[1] as Socket);
      (clients[1] as Socket).resume();
      assert.equal(peers.isNear(inode), 1);
      // Gone already, it is still known.
      near.destroy();
      assert.equal(peers.isNear(inode), 1);
      (clients[1] as Socket).destroy();
      await once(clients[1] as Socket, 'close');
      assert.equal(peers.isNear(inode), 0);
    } finally {
      await far.stop();
      for (const client of clients) client.destroy();
      server.close();
      peers.close();
    }
    assert.ok(peers.available() < 0);
  });
});
