import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseLinkSpec } from '../../src/cli/link-spec.ts';
import { type Invocation, parseArguments } from '../../src/cli/options.ts';
import { sharedLimits } from '../../src/config.ts';

const USUAL = {
  ...({ kind: 'webSocket', path: '/', framing: 'bare', origins: [], token: '', clients: 64 } as const),
  at: { family: 'ip', address: '127.0.0.1', port: 80 },
};

describe('ws:', () => {
  let directory = '';
  let token = '';
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'tslirp-ws-'));
    token = join(directory, 'token');
    writeFileSync(token, 'a-good-token\n', { mode: 0o600 });
  });
  after(() => rmSync(directory, { recursive: true }));

  test('links L-60: all of it', () => {
    assert.deepEqual(parseLinkSpec('ws:127.0.0.1:80').target, USUAL);
    const text = `ws:[::1]:80/net,origin=https://a.example,origin=http://b:8080,clients=2,framing=be32,token-file=${token}`;
    assert.deepEqual(parseLinkSpec(text).target, {
      ...USUAL,
      ...{ at: { family: 'ip', address: '::1', port: 80 }, path: '/net', framing: 'be32', clients: 2 },
      ...{ origins: ['https://a.example', 'http://b:8080'], token: 'a-good-token' },
    });
    assert.deepEqual(parseLinkSpec('ws-unix:/p').target, { ...USUAL, at: { family: 'unix', path: '/p' } });
  });

  test('links L-61: each client has the limits of one among many, and none publishes ports', () => {
    const { config } = parseArguments(['serve', '--link', 'ws:127.0.0.1:80'], '1') as Invocation;
    assert.deepEqual(config.guest.limits, sharedLimits);
    assert.equal(config.guest.publish, null);
    for (const option of [
      ['-L', '8080:80'],
      ['--pcap', '-'],
      ['--port-map', 'tcp:80:*:80'],
    ])
      assert.throws(
        () => parseArguments(['serve', '--link', 'ws:127.0.0.1:80', ...option], '1'),
        /option --(local-forward: g0 has many guests|pcap is for one guest|port-map is for one guest)/,
      );
    const both = [
      'serve',
      '--link',
      'ws:127.0.0.1:80',
      '--link',
      'bess:/p,guest=vm',
      '-L',
      '8080:80,guest=vm',
    ];
    assert.equal((parseArguments(both, '1') as Invocation).more[0]?.forwards.length, 1);
  });

  for (const [text, message] of [
    ['ws:localhost:80', /accepted: ADDRESS:PORT/],
    ['ws:127.0.0.1:80/a?b', /has the path "\/a\?b"; accepted: \/PATH alone/],
    ['ws:127.0.0.1:80,origin=example.org', /has origin=example\.org; accepted: SCHEME:\/\/HOST/],
    ['ws:127.0.0.1:80,clients=0', /has clients=0; accepted: 1 to 4096/],
    ['ws:127.0.0.1:80,clients=4097', /accepted: 1 to 4096/],
    ['ws:127.0.0.1:80,framing=le16', /accepted: framing=bare or framing=be32/],
    ['ws:127.0.0.1:80,switch=a', /has switch=; accepted: other links there/],
    ['ws:127.0.0.1:80,token-file=/none/such', /a file that can be read \(ENOENT\)/],
    ['ws-unix:', /has no path/],
  ] as const)
    test(`refused: ${text}`, () => assert.throws(() => parseLinkSpec(text), message));

  test('a token that others may read, or that is none, is refused', () => {
    const spec = `ws:127.0.0.1:80,token-file=${token}`;
    chmodSync(token, 0o640);
    assert.throws(() => parseLinkSpec(spec), /a file that nobody else may read: chmod 600/);
    chmodSync(token, 0o600);
    for (const text of ['short', 'with a blank', 'x'.repeat(257)]) {
      writeFileSync(token, text);
      assert.throws(() => parseLinkSpec(spec), /8 to 256 letters, digits/);
    }
  });
});
