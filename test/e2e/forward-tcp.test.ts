import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, test } from 'node:test';
import { guestServer } from '../support/guest-server.ts';
import { startGuest } from '../support/namespaces.ts';

/** Everything that a server says to a client that says nothing. */
async function readAll(host: string, port: number): Promise<string> {
  const socket = connect({ host, port });
  let text = '';
  socket.setEncoding('utf8').on('data', (part) => {
    text += part;
  });
  await once(socket, 'end');
  return text;
}

describe('a local TCP forward', () => {
  test('brings a client of the host to a server in the guest', async () => {
    await using guest = await startGuest('-L', '18080:10.0.2.100:80');
    await using server = await guestServer(guest.namespace, 'greet', 80);
    assert.equal(await readAll('127.0.0.1', 18080), 'hello');
    assert.match(server.clients()[0] as string, /^::ffff:10\.0\.2\.2 \d+$/);
  });
});
