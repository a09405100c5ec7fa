/** What a packet of WireGuard costs, sealed and opened, by OpenSSL's own functions and by node:crypto (L-52). */
import { randomBytes } from 'node:crypto';
import { evpCiphers } from '../../src/sys/chacha20-poly1305.ts';
import { Memory } from '../../src/sys/memory.ts';
import { blake2s } from '../../src/wireguard/blake2s.ts';
import { nodeCiphers } from '../../src/wireguard/node-cipher.ts';
import { PrivateKey } from '../../src/wireguard/primitives.ts';
import type { CipherMaker } from '../../src/wireguard/transport.ts';
import { type Case, type CaseGroup, keep } from './case.ts';

/** A packet of MTU 1420 with its padding. */
const LENGTH = 1420;
const group = 'wireguard';

function packetCases(name: string, bytes: Uint8Array, maker: CipherMaker): Case[] {
  const cipher = maker(randomBytes(32));
  bytes.fill(0x5a, 0, LENGTH);
  cipher.seal(0, LENGTH, 7);
  const sealed = bytes.slice(0, LENGTH + 16);
  let counter = 0;
  return [
    { group, name: `seal ${LENGTH} bytes, ${name}`, run: () => cipher.seal(4096, LENGTH, counter++) },
    {
      group,
      name: `open ${LENGTH} bytes, ${name}`,
      run: () => {
        bytes.set(sealed, 0);
        keep(cipher.open(0, LENGTH, 7) ? 1 : 0);
      },
    },
  ];
}

export function wireguardCases(): CaseGroup {
  const buffer = new ArrayBuffer(65_536);
  const bytes = new Uint8Array(buffer);
  const evp = evpCiphers(new Memory(buffer));
  const [ours, theirs] = [new PrivateKey(randomBytes(32)), new PrivateKey(randomBytes(32))];
  const message = randomBytes(116);
  return {
    cases: [
      ...(evp === null ? [] : packetCases('OpenSSL', bytes, evp)),
      ...packetCases('node:crypto', bytes, nodeCiphers(bytes)),
      { group, name: 'mac1 of an initiation', run: () => keep(blake2s(16, theirs.publicKey, message)[0]!) },
      { group, name: 'X25519', run: () => keep(ours.agree(theirs.publicKey)![0]!) },
    ],
  };
}
