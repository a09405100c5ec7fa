import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseWireGuardFile, readWireGuardFile } from '../../src/cli/wireguard-file.ts';

const key = (n: number): string => Buffer.alloc(32, n).toString('base64');
const LEAST = `[Interface]\nPrivateKey = ${key(1)}\n[Peer]\nPublicKey = ${key(2)}\n`;

test('a file as wg-quick(8) has it', () => {
  const text = `
# the phone's end
[Interface]
PrivateKey = ${key(1)}   # a remark
ListenPort=51820
Address = 10.9.0.1/24, fd09::1/64
DNS = 10.9.0.1
mtu = 1380

[peer]
PublicKey = ${key(2)}
PresharedKey = ${key(3)}
AllowedIPs = 10.9.0.2/32
AllowedIPs = fd09::2/128, 192.168.7.0/24
Endpoint = [2001:db8::7]:51821
PersistentKeepalive = 25
[Peer]
PublicKey = ${key(4)}
Endpoint = phone.example.org:1
PersistentKeepalive = off
`;
  const file = parseWireGuardFile(text, 'wg0.conf');
  assert.deepEqual(Buffer.from(file.privateKey), Buffer.alloc(32, 1));
  assert.equal(file.listenPort, 51820);
  assert.equal(file.mtu, 1380);
  assert.deepEqual(
    file.addresses.map(({ address, bits }) => `${address}/${bits}`),
    ['10.9.0.1/120', 'fd09::1/64'],
  );
  const [first, second] = file.peers;
  assert.deepEqual(Buffer.from(first!.presharedKey!), Buffer.alloc(32, 3));
  assert.deepEqual(first!.allowedIps, [
    { address: '10.9.0.2', bits: 128 },
    { address: 'fd09::2', bits: 128 },
    { address: '192.168.7.0', bits: 120 },
  ]);
  assert.deepEqual(first!.endpoint, { host: '2001:db8::7', port: 51821 });
  assert.equal(first!.keepaliveSeconds, 25);
  assert.deepEqual(second!.endpoint, { host: 'phone.example.org', port: 1 });
  assert.deepEqual(second!.allowedIps, []);
  assert.equal(second!.presharedKey, null);
  assert.equal(second!.keepaliveSeconds, 0);
});

test('what is left out is as usual', () => {
  const { listenPort, mtu, addresses } = parseWireGuardFile(LEAST, 'wg0.conf');
  assert.deepEqual([listenPort, mtu, addresses], [0, 1420, []]);
});

test('what cannot be used is told with its line, and keys are not told', () => {
  const secret = Buffer.alloc(31, 7).toString('base64');
  const faults: [string, RegExp][] = [
    ['', /wg0\.conf: 0 sections \[Interface\]/],
    [`${LEAST}[Interface]\n`, /2 sections \[Interface\]/],
    [`[Interface]\nPrivateKey = ${key(1)}\n`, /no \[Peer\]/],
    [`[Interface]\n[Peer]\nPublicKey = ${key(2)}\n`, /wg0\.conf:1: \[Interface\] has no PrivateKey/],
    [`[Interface]\nPrivateKey = ${key(1)}\n[Peer]\n`, /wg0\.conf:3: \[Peer\] has no PublicKey/],
    [`[Interface]\nPrivateKey = ${secret}\n`, /nothing|wg0\.conf/],
    [`${LEAST}PresharedKey = ${secret}\n`, /wg0\.conf:5: PresharedKey is no key; accepted: 32 bytes/],
    [`${LEAST}PostUp = ${secret}\n`, /wg0\.conf:5: PostUp is refused; accepted: no commands/],
    [`${LEAST}ListenPort = 1\n`, /wg0\.conf:5: ListenPort is nothing of \[Peer\]; accepted: PublicKey/],
    [`${LEAST}[Server]\n`, /wg0\.conf:5: a section \[Server\]/],
    [`PrivateKey = ${key(1)}\n`, /wg0\.conf:1: no KEY = VALUE of a section/],
    [`${LEAST}nonsense\n`, /wg0\.conf:5: no KEY = VALUE/],
    [`${LEAST}Endpoint = 1.2.3.4\n`, /wg0\.conf:5: Endpoint = 1\.2\.3\.4; accepted: HOST:PORT/],
    [`${LEAST}Endpoint = 1.2.3.4:0\n`, /Endpoint/],
    [`${LEAST}Endpoint = 1.2.3.4:65536\n`, /Endpoint/],
    [`${LEAST}PersistentKeepalive = 65536\n`, /PersistentKeepalive = 65536; accepted: 0 to 65535/],
    [`${LEAST}AllowedIPs = 10.0.0.0/33\n`, /wg0\.conf:5: AllowedIPs = 10\.0\.0\.0\/33/],
    [`${LEAST}AllowedIPs = 10.0.0.1/24, 10.0.0.2/24\n`, /AllowedIPs 10\.0\.0\.0\/24 twice/],
    [`${LEAST}[Peer]\nPublicKey = ${key(2)}\n`, /two peers with PublicKey/],
    [LEAST.replace('[Peer]', 'MTU = 576\n[Peer]'), /MTU = 576; accepted: 1280 to/],
    [LEAST.replace('[Peer]', 'DNS = here\n[Peer]'), /DNS = here/],
    [LEAST.replace('[Peer]', 'Table = off\n[Peer]'), /Table is nothing of \[Interface\]/],
  ];
  for (const [text, expected] of faults) {
    assert.throws(
      () => parseWireGuardFile(text, 'wg0.conf'),
      (error: Error) => {
        assert.match(error.message, expected);
        assert.doesNotMatch(error.message, /\n/);
        assert.ok(!error.message.includes(secret) && !error.message.includes(key(1)), error.message);
        return true;
      },
      JSON.stringify(text),
    );
  }
});

test('a key is 44 characters of base64 and nothing else', () => {
  const read = (text: string) =>
    parseWireGuardFile(LEAST.replace(key(2), text), 'wg0.conf').peers[0]!.publicKey;
  assert.equal(read(key(0xff)).length, 32);
  for (const text of [
    key(2).slice(0, 43),
    `${key(2)}=`,
    key(2).replace('=', 'A'),
    `${key(2).slice(0, 42)}B=`,
    `${key(2).slice(0, 40)}_-A=`,
  ])
    assert.throws(() => read(text), /PublicKey is no key/, text);
});

test('a file that others may read is refused unless that is asked for', () => {
  const directory = mkdtempSync(join(tmpdir(), 'wireguard-'));
  try {
    const path = join(directory, 'wg0.conf');
    writeFileSync(path, LEAST, { mode: 0o600 });
    assert.equal(readWireGuardFile(path, false).peers.length, 1);
    for (const mode of [0o640, 0o604, 0o620]) {
      chmodSync(path, mode);
      assert.throws(
        () => readWireGuardFile(path, false),
        /others may read it \(mode 6\d\d\).*--insecure-key-file/,
      );
    }
    assert.equal(readWireGuardFile(path, true).peers.length, 1);
    assert.throws(() => readWireGuardFile(join(directory, 'none'), false), /ENOENT.*wg\(8\)/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
