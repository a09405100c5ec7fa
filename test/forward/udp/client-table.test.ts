import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Client, ClientTable } from '../../../src/forward/udp/client-table.ts';
import { HalfSipHash } from '../../../src/stack/half-sip-hash.ts';
import { IpAddress } from '../../../src/stack/wire/address.ts';

class Named implements Client {
  nextClient: Client | null = null;
  clientHash = 0;
  readonly name: Uint8Array;
  readonly contacted: IpAddress;

  constructor(name: Uint8Array, contacted: number) {
    this.name = Uint8Array.from(name);
    this.contacted = new IpAddress().setV4(contacted);
  }
}

/** Names that share beginnings, lengths that are no multiple of four. */
const key = fc.record({
  name: fc.uint8Array({ maxLength: 9, max: 2 }),
  contacted: fc.integer({ min: 0, max: 1 }),
});
const action = fc.record({ key, remove: fc.boolean() });

describe('ClientTable', () => {
  for (const [name, hash] of [
    ['with a real hash', new HalfSipHash(1, 2)],
    ['when every key collides', { bytes: () => 7 } as unknown as HalfSipHash],
  ] as const) {
    test(`${name}: finds what was added and nothing else, as a Map does`, () => {
      fc.assert(
        fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
          const table = new ClientTable<Named>(hash);
          const model = new Map<string, Named>();
          const view = new DataView(new ArrayBuffer(32));
          for (const { key: wanted, remove } of actions) {
            const text = `${wanted.name.join()} ${wanted.contacted}`;
            wanted.name.forEach((byte, i) => {
              view.setUint8(3 + i, byte);
            });
            const at = new IpAddress().setV4(wanted.contacted);
            const found = table.find(view, 3, wanted.name.length, at);
            assert.equal(found, model.get(text) ?? null);
            if (found === null) {
              const client = new Named(wanted.name, wanted.contacted);
              table.add(client, view, 3);
              model.set(text, client);
            } else if (remove) {
              table.remove(found);
              model.delete(text);
            }
            assert.equal(table.size, model.size);
            assert.deepEqual(new Set(table.list()), new Set(model.values()));
          }
        }),
      );
    });
  }

  test('any of those that collide can go, the others are found', () => {
    for (let gone = 0; gone < 3; gone++) {
      const table = new ClientTable<Named>({ bytes: () => 7 } as unknown as HalfSipHash);
      const view = new DataView(new ArrayBuffer(4));
      const clients = [1, 2, 3].map((byte) => new Named(Uint8Array.of(byte), 0));
      for (const client of clients) table.add(client, view, 0);
      table.remove(clients[gone] as Named);
      clients.forEach((client, i) => {
        view.setUint8(0, client.name[0] as number);
        const found = table.find(view, 0, 1, client.contacted);
        assert.equal(found, i === gone ? null : client);
        // The last one found is remembered.
        assert.equal(table.find(view, 0, 1, client.contacted), found);
      });
      assert.equal(table.size, 2);
    }
  });
});
