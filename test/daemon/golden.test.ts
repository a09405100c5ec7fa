import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { ControlServer } from '../../src/daemon/control-server.ts';
import { projectPath } from '../support/program-path.ts';
import { FakeStack } from './support/fake-tunnel.ts';

/** `>`: the embedder writes; `<`: the stack does. */
const session = readFileSync(projectPath('test/daemon/golden/session.txt'), 'latin1')
  .trimEnd()
  .split('\n')
  .map((line) => ({
    isOurs: line.startsWith('>'),
    bytes: Buffer.from(
      line
        .slice(2)
        .replace(/\\x(..)/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)))
        .replace(/\\n/g, '\n'),
      'latin1',
    ),
  }));

test('M-20: the bytes of handshake, start and stop are those of the golden file', async () => {
  const [input, output] = [new PassThrough(), new PassThrough()];
  const server = new ControlServer(
    { input, output },
    { open: new FakeStack().open, installation: { version: '0', manifest: null } },
  );
  for (const { isOurs, bytes } of session) {
    if (isOurs) {
      input.write(bytes);
      continue;
    }
    let got: Buffer | null = null;
    for (;;) {
      got = output.read(bytes.length) as Buffer | null;
      if (got !== null) break;
      await once(output, 'readable');
    }
    assert.equal(got.toString('latin1'), bytes.toString('latin1'));
  }
  assert.deepEqual(await server.ended, { kind: 'stopped' });
  assert.equal(output.read(), null);
});
