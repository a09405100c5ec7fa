/** Services that an events file of Penguin's VPN plugin names (compat E-1, E-3, E-4). */
import { appendFileSync, renameSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { asOwner, directory, mode, startGuest } from '../support/namespaces.ts';
import { must } from '../support/processes.ts';
import { until } from '../support/wait.ts';

/** For socat: the address that a connection comes from. */
const SAY_PEER = 'SYSTEM:"printf %s $SOCAT_PEERADDR"';

/** What the port of the host says; empty: nothing. */
function visit(port: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(port, '127.0.0.1');
    socket.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
    socket.on('error', () => resolve(''));
    socket.on('close', () => resolve(text));
  });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

describe('--forward-events', () => {
  for (const kind of ['a file', 'a pipe'] as const) {
    test(`E-1: ${kind}: what it names is published, seen as it says, until it is withdrawn`, async () => {
      const inputs = join(directory, `inputs-${mode}`);
      await must(asOwner('mkdir', '-p', inputs));
      const path = join(inputs, kind.replace(' ', '-'));
      if (kind === 'a pipe') await must(asOwner('mkfifo', '-m', '666', path));
      const say = (line: string): void => appendFileSync(path, `${line}\n`);
      if (kind === 'a file') say('# made by a test');
      const port = await freePort();
      await using guest = await startGuest('--forward-events', path);
      const inside = guest.namespace.start(['socat', 'TCP4-LISTEN:80,fork,reuseaddr', SAY_PEER]);
      try {
        say(`tcp,10.0.2.100:80,0.0.0.0:${port},192.0.2.77:0,`);
        await until(async () => (await visit(port)) === '192.0.2.77', 'the service');
        say('nonsense');
        say(`remove,tcp,10.0.2.100:80,0.0.0.0:${port},192.0.2.77:0,`);
        await until(async () => (await visit(port)) === '', 'no service');
        await until(() => /--forward-events: line \d has 1 columns/.test(guest.stack.stderr), 'the warning');
      } finally {
        await inside.stop();
      }
    });
  }

  test('E-3: a file that is replaced is followed', async () => {
    const inputs = join(directory, `inputs-${mode}`);
    await must(asOwner('mkdir', '-p', inputs));
    const path = join(inputs, 'replaced');
    const [first, second] = [await freePort(), await freePort()];
    writeFileSync(path, `tcp,10.0.2.100:80,0.0.0.0:${first}\n`);
    await using guest = await startGuest('--forward-events', path);
    const inside = guest.namespace.start(['socat', 'TCP4-LISTEN:80,fork,reuseaddr', SAY_PEER]);
    const other = guest.namespace.start(['socat', 'TCP4-LISTEN:81,fork,reuseaddr', SAY_PEER]);
    try {
      await until(async () => (await visit(first)) !== '', 'the first service');
      writeFileSync(`${path}.new`, `tcp,10.0.2.100:81,0.0.0.0:${second}\n`);
      renameSync(`${path}.new`, path);
      await until(async () => (await visit(second)) !== '', 'the second service');
    } finally {
      await other.stop();
      await inside.stop();
    }
  });
});
