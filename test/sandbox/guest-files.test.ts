import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { defaultAddresses } from '../../src/config.ts';
import { guestHosts, guestResolvConf, writeGuestFiles } from '../../src/sandbox/guest-files.ts';

describe('guestResolvConf', () => {
  test('has our servers, and of the host only what is no server', () => {
    const host = '# x\nnameserver 127.0.0.53\nsearch example.org\noptions edns0 trust-ad\n';
    assert.equal(
      guestResolvConf(defaultAddresses, host),
      'nameserver 10.0.2.3\nnameserver fd00::3\nsearch example.org\noptions edns0 trust-ad\n',
    );
  });

  test('without IPv6 has one server', () => {
    assert.equal(guestResolvConf({ ...defaultAddresses, ipv6: false }, ''), 'nameserver 10.0.2.3\n');
  });
});

test('guestHosts keeps names of other machines and drops the loopback names of the host', () => {
  const host = '127.0.0.1 localhost\n127.0.1.1 box\n::1 localhost\n# c\n192.0.2.8 printer\n2001:db8::8 nas\n';
  const lines = guestHosts(defaultAddresses, host, 'box').trimEnd().split('\n');
  assert.deepEqual(lines.slice(2), [
    '10.0.2.100 box',
    'fd00::100 box',
    '192.0.2.8 printer',
    '2001:db8::8 nas',
  ]);
  assert.deepEqual(lines.slice(0, 2), ['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback']);
});

test('review OP-15: domains by option replace the host’s, and its options stay', () => {
  const host = 'search host.example\noptions ndots:2\ndomain x.example\n';
  const files = (search: string[] | null): string =>
    guestResolvConf({ ...defaultAddresses, ipv6: false }, host, search);
  assert.equal(
    files(['a.example', 'b.example']),
    'nameserver 10.0.2.3\noptions ndots:2\nsearch a.example b.example\n',
  );
  assert.equal(files([]), 'nameserver 10.0.2.3\noptions ndots:2\n');
});

test('review OP-13: the name with the domain stays the first of the host in the guest', () => {
  const own = (host: string, name: string): string[] =>
    guestHosts(defaultAddresses, host, name).trimEnd().split('\n').slice(2, 4);
  const names = 'box.example.org box';
  for (const address of ['127.0.1.1', '192.0.2.8'])
    assert.deepEqual(own(`127.0.0.1 localhost\n${address}\t${names} # own\n`, 'box'), [
      `10.0.2.100 ${names}`,
      `fd00::100 ${names}`,
    ]);
  assert.deepEqual(own('127.0.0.1 localhost box\n', 'box'), ['10.0.2.100 box', 'fd00::100 box']);
  assert.deepEqual(own('127.0.0.1 localhost\n', 'localhost'), [
    '10.0.2.100 localhost',
    'fd00::100 localhost',
  ]);
});

test('writeGuestFiles leaves resolv.conf out without DNS, and remove leaves nothing behind', () => {
  const files = writeGuestFiles(defaultAddresses, false, null);
  assert.equal(existsSync(join(files.directory, 'resolv.conf')), false);
  assert.match(readFileSync(join(files.directory, 'hosts'), 'utf8'), /localhost/);
  files.remove();
  assert.equal(existsSync(files.directory), false);
});
