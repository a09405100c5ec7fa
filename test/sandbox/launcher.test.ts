import assert from 'node:assert/strict';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { launcherPath } from '../support/launcher-path.ts';
import { run } from '../support/processes.ts';

const bin = dirname(launcherPath);

/** What a shell sees in place of Node, after `confine`; inside a user namespace of its own. */
async function confined(main: string, script: string, ...prefix: string[]): Promise<string> {
  const program = `require "${bin}/launcher.pl"; note_what_is_found(); confine("${main}", 0); exec "sh", "-c", shift`;
  const inside = [
    'unshare',
    '--user',
    '--map-root-user',
    '--mount',
    ...prefix,
    'perl',
    '-e',
    program,
    script,
  ];
  const { status, stdout, stderr } = await run(inside);
  assert.equal(status, 0, stderr);
  return stdout;
}

describe('bin/launcher.pl', () => {
  const main = join(bin, 'tslirp');
  const show = 'echo "<$TSLIRP_LAUNCHER>" "$TSLIRP_FOUND"; grep CapEff /proc/self/status';

  test('leaves one capability, and says which descriptors lead to its helpers', async () => {
    const text = await confined(main, show);
    assert.match(text, /^<builder=\d+ holder=\d+ janitor=\d+> /m);
    assert.match(text, /^CapEff:\t0000000000000400$/m);
  });

  test('review OR-27: tells which descriptors were there before, and will be there after', async () => {
    const script = 'exec 5</ 7>&1; exec "$@"';
    const text = await confined(main, show, 'sh', '-c', script, 'sh');
    const [, numbers = ''] = /descriptors=([\d,]+)/.exec(text) ?? [];
    const inherited = numbers.split(',');
    assert.ok(inherited.includes('5') && inherited.includes('7'), text);
    for (const [, number = ''] of text.matchAll(/(?:builder|holder|janitor)=(\d+)/g))
      assert.ok(!inherited.includes(number), text);
  });

  test('where no namespace can be had, all rights stay, and there is an opener only', async () => {
    const script =
      'echo 0 >/proc/sys/user/max_mnt_namespaces; echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"';
    const text = await confined(main, show, 'sh', '-c', script, 'sh');
    assert.match(text, /^<opener=\d+> /m);
    assert.doesNotMatch(text, /^CapEff:\t0000000000000400$/m);
  });

  test('the same when our own files could not be read any more', async () => {
    assert.match(await confined('/nonexistent/main.js', show), /^<opener=\d+> /m);
  });

  test('closed standard descriptors are not taken by its own', async () => {
    const text = await confined(main, show, 'sh', '-c', 'exec "$@" 0<&- 2>&-', 'sh');
    for (const [, number] of text.matchAll(/(?:builder|holder|janitor)=(\d+)/g))
      assert.ok(Number(number) > 2, text);
    assert.match(text, /builder/);
  });
});
