/** Published vectors of what the handshake is made of. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blake2s } from '../../src/wireguard/blake2s.ts';
import { hChaCha20 } from '../../src/wireguard/hchacha20.ts';
import { INITIAL_CHAIN, INITIAL_HASH, timestamp } from '../../src/wireguard/noise.ts';
import { hash, kdf, mac, open, PrivateKey, seal, xOpen, xSeal } from '../../src/wireguard/primitives.ts';
import { hex, unhex } from './support/hex.ts';

const NONE = new Uint8Array(0);

test('links L-40: BLAKE2s of "abc" (RFC 7693 appendix B)', () => {
  const expected = '508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982';
  assert.equal(hex(blake2s(32, NONE, Buffer.from('abc'))), expected);
  assert.equal(hex(hash(Buffer.from('abc'))), expected);
});

test('links L-40: keyed BLAKE2s (blake2s-kat: no input, and whole blocks)', () => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => i);
  const expected = '48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49';
  assert.equal(hex(blake2s(32, key, NONE)), expected);
  const kat: [number, string][] = [
    [1, '40d15fee7c328830166ac3f918650f807e7e01e177258cdc0a39b11f598066f1'],
    [255, '3fb735061abc519dfe979e54c1ee5bfad0a9d858b3315bad34bde999efd724dd'],
  ];
  for (const [length, digest] of kat) {
    const input = Uint8Array.from({ length }, (_, i) => i);
    assert.equal(hex(blake2s(32, key, input)), digest, `${length} bytes`);
  }
});

test('links L-40: BLAKE2s agrees with node:crypto at every length around its blocks', () => {
  for (let length = 0; length <= 260; length++) {
    const input = Uint8Array.from({ length }, (_, i) => (i * 7) & 255);
    assert.equal(hex(blake2s(32, NONE, input)), hex(hash(input)), `${length} bytes`);
  }
});

test('links L-40: X25519 (RFC 7748 §5.2, §6.1)', () => {
  const scalar = unhex('a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4');
  const point = unhex('e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c');
  assert.equal(
    hex(new PrivateKey(scalar).agree(point)!),
    'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552',
  );
  const bob = new PrivateKey(unhex('5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb'));
  assert.equal(hex(bob.publicKey), 'de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
  const alicePublic = unhex('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
  assert.equal(
    hex(bob.agree(alicePublic)!),
    '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742',
  );
});

test('links L-40: a point of small order is no key', () => {
  const key = new PrivateKey(new Uint8Array(32).fill(7));
  for (const point of [new Uint8Array(32), Uint8Array.from([1, ...new Uint8Array(31)])])
    assert.equal(key.agree(point), null);
});

test('links L-40: ChaCha20-Poly1305 as the handshake has it', () => {
  const key = new Uint8Array(32).fill(1);
  const sealed = seal(key, Buffer.from('static'), Buffer.from('h'));
  assert.equal(sealed.length, 6 + 16);
  assert.deepEqual(Buffer.from(open(key, sealed, Buffer.from('h'))!), Buffer.from('static'));
  assert.equal(open(key, sealed, Buffer.from('g')), null);
  assert.equal(open(key, sealed.subarray(0, 15), Buffer.from('h')), null);
});

test('links L-40: HChaCha20 (draft-irtf-cfrg-xchacha-03 §2.2.1)', () => {
  const key = Uint8Array.from({ length: 32 }, (_, i) => i);
  const nonce = unhex('000000090000004a0000000031415927');
  assert.equal(
    hex(hChaCha20(key, nonce)),
    '82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc',
  );
});

test('links L-40: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03 appendix A.3.1)', () => {
  const plain = Buffer.from(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const ad = unhex('50515253c0c1c2c3c4c5c6c7');
  const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
  const nonce = Uint8Array.from({ length: 24 }, (_, i) => 0x40 + i);
  const sealed = xSeal(key, nonce, plain, ad);
  assert.equal(
    hex(sealed),
    'bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49',
  );
  assert.deepEqual(Buffer.from(xOpen(key, nonce, sealed, ad)!), plain);
});

test('links L-40: key derivation (wireguard-go device/kdf_test.go)', () => {
  const vectors: [string, string[]][] = [
    ['wireguard', ['491d43bbfdaa8750', '1e71a379baefd8a7', '31e1ae48bddfbe5d']],
  ];
  for (const [text, heads] of vectors) {
    for (let count = 1; count <= 3; count++) {
      const keys = kdf(count, Buffer.from(text), Buffer.from(text)).map((key) => hex(key).slice(0, 16));
      assert.deepEqual(keys, heads.slice(0, count));
    }
  }
});

test('links L-40: what every handshake begins with', () => {
  assert.equal(hex(INITIAL_CHAIN), '60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36');
  assert.equal(hex(INITIAL_HASH), '2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3');
});

test('TAI64N hides all but 17 ms of the time', () => {
  assert.equal(hex(timestamp(1_700_000_000_000)), '400000006553f10a00000000');
  assert.equal(hex(timestamp(1_700_000_000_999)), '400000006553f10a3b000000');
  assert.equal(mac(new Uint8Array(32), NONE).length, 16);
});
