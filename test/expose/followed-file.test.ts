import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { FollowedFile } from '../../src/expose/followed-file.ts';
import { until } from '../support/wait.ts';

const directory = mkdtempSync(join(tmpdir(), 'tslirp-follow-'));
after(() => rmSync(directory, { recursive: true }));
const path = join(directory, 'events');
// A look of ours does not keep a process; here something has to.
const alive = setInterval(() => undefined, 1000);
after(() => clearInterval(alive));

/** What has come; `|` stands for a beginning. */
let text: string;
let file: FollowedFile;

function follow(): void {
  text = '';
  file = new FollowedFile(path, {
    piece: (bytes) => {
      text += bytes.toString();
    },
    restarted: () => {
      text += '|';
    },
  });
}

const comes = (expected: string): Promise<void> =>
  until(() => text === expected, `${expected} (not ${text})`);

describe('a file that is followed', () => {
  beforeEach(() => rmSync(path, { force: true }));
  afterEach(() => file.close());

  test('is read from its beginning, and as it grows', async () => {
    writeFileSync(path, 'one\n');
    follow();
    assert.equal(text, '|one\n');
    appendFileSync(path, 'two');
    await comes('|one\ntwo');
  });

  test('may come later, and go', async () => {
    follow();
    assert.equal(text, '');
    writeFileSync(path, 'one');
    await comes('|one');
    rmSync(path);
    writeFileSync(path, 'again');
    await comes('|one|again');
  });

  test('E-3: truncated and written anew, it is read from its beginning', async () => {
    writeFileSync(path, 'a long first text\n');
    follow();
    truncateSync(path, 0);
    appendFileSync(path, 'short\n');
    await comes('|a long first text\n|short\n');
  });

  test('replaced by rename: the rest of the old one first, then the new one', async () => {
    writeFileSync(path, 'old');
    follow();
    const other = join(directory, 'other');
    writeFileSync(other, 'new');
    appendFileSync(path, ' end');
    renameSync(other, path);
    await comes('|old end|new');
    appendFileSync(path, '!');
    await comes('|old end|new!');
  });

  test('a large one comes in pieces, all of it, and others have their turn meanwhile', async () => {
    writeFileSync(path, 'x'.repeat(300_000));
    follow();
    assert.equal(text.length, 1 + 65_536);
    await until(() => text.length === 300_001, 'all of it');
  });
});
