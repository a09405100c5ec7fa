/** The files of unix sockets that are listened on, in the real file system and with the real kernel. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { EADDRINUSE, ENAMETOOLONG, ENOENT } from '../../src/sys/errno.ts';
import { close } from '../../src/sys/io.ts';
import { Memory } from '../../src/sys/memory.ts';
import {
  AF_UNIX,
  listen,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOCKADDR_UN_SIZE,
  socket,
  UNIX_PATH_MAX,
} from '../../src/sys/socket.ts';
import { bindUnix, fileIdentity, removeSocketFile } from '../../src/sys/unix-path.ts';

const slab = new Slab(1024 * 1024, 16);
const memory = new Memory(slab.buffer as ArrayBuffer);
const scratch = slab.region(SOCKADDR_UN_SIZE);
let directory = '';

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'tslirp-unix-'));
});
after(() => rmSync(directory, { recursive: true }));

/** A socket of `type` bound to `path`. */
function bound(type: number, path: string): number {
  const fd = socket(AF_UNIX, type, 0);
  assert.ok(fd >= 0);
  assert.equal(bindUnix(memory, scratch, fd, type, path), 0);
  if (type === SOCK_STREAM) listen(fd, 8);
  return fd;
}

function refuses(type: number, path: string, errno: number): void {
  const fd = socket(AF_UNIX, type, 0);
  assert.equal(bindUnix(memory, scratch, fd, type, path), -errno);
  close(fd);
}

for (const [name, type] of [
  ['stream', SOCK_STREAM],
  ['datagram', SOCK_DGRAM],
] as const) {
  describe(`a ${name} socket`, () => {
    test('makes its file, in the place of one that nobody listens on any more', () => {
      const path = join(directory, `${name}-stale`);
      const first = bound(type, path);
      assert.equal(statSync(path).isSocket(), true);
      // As one that is killed leaves it.
      close(first);
      assert.equal(existsSync(path), true);
      const second = bound(type, path);
      // That one is listened on.
      refuses(type, path, EADDRINUSE);
      close(second);
    });

    test('does not take the place of one that is listened on', () => {
      const path = join(directory, `${name}-used`);
      const first = bound(type, path);
      const identity = fileIdentity(path);
      refuses(type, path, EADDRINUSE);
      assert.equal(fileIdentity(path), identity);
      close(first);
    });

    test('does not take the place of anything that is no socket', () => {
      const path = join(directory, `${name}-file`);
      writeFileSync(path, 'dear');
      refuses(type, path, EADDRINUSE);
      assert.equal(readFileSync(path, 'utf8'), 'dear');
      refuses(type, directory, EADDRINUSE);
    });
  });
}

test('a path that no socket address can hold is refused, in bytes and not in letters', () => {
  const room = UNIX_PATH_MAX - directory.length - 1;
  refuses(SOCK_STREAM, '', ENAMETOOLONG);
  refuses(SOCK_STREAM, join(directory, 'x'.repeat(room + 1)), ENAMETOOLONG);
  refuses(SOCK_STREAM, join(directory, 'ü'.repeat(room - 1)), ENAMETOOLONG);
  close(bound(SOCK_STREAM, join(directory, 'x'.repeat(room))));
});

test('a directory that is not there is told as that', () => {
  refuses(SOCK_STREAM, join(directory, 'none', 'socket'), ENOENT);
});

test('only the file that we made is removed', () => {
  const path = join(directory, 'ours');
  close(bound(SOCK_STREAM, path));
  const identity = fileIdentity(path);
  removeSocketFile(path, '');
  assert.equal(existsSync(path), true);
  // Somebody else's in the same place: kept beside ours, so that it cannot have the same number.
  const other = join(directory, 'other');
  close(bound(SOCK_STREAM, other));
  removeSocketFile(other, identity);
  assert.equal(existsSync(other), true);
  removeSocketFile(path, identity);
  assert.equal(existsSync(path), false);
  // Gone already.
  assert.equal(fileIdentity(path), '');
  removeSocketFile(path, identity);
  // What cannot be removed stays, and nothing is thrown.
  const stuck = join(directory, 'stuck');
  mkdirSync(stuck);
  removeSocketFile(stuck, fileIdentity(stuck));
  assert.equal(existsSync(stuck), true);
});
