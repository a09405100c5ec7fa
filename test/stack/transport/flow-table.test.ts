import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HalfSipHash } from '../../../src/stack/half-sip-hash.ts';
import { ANY_ADDRESS, FlowTable, type Keyed } from '../../../src/stack/transport/flow-table.ts';
import { IpAddress } from '../../../src/stack/wire/address.ts';
import { PROTOCOL_TCP } from '../../../src/stack/wire/tcp.ts';
import { seededRng } from '../../support/seeded-rng.ts';

class Flow implements Keyed {
  readonly guest: IpAddress;
  readonly remote: IpAddress;
  readonly ports: number;
  keyHash = 0;

  constructor(guest: IpAddress, remote: IpAddress, ports: number) {
    this.guest = guest;
    this.remote = remote;
    this.ports = ports;
  }
}

function v4(value: number): IpAddress {
  const address = new IpAddress();
  address.setV4(value >>> 0);
  return address;
}

describe('FlowTable', () => {
  test('against a Map, through growing and shrinking', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const rng = seededRng(seed);
      const below = (n: number): number => rng.u32() % n;
      const table = new FlowTable<Flow>(new HalfSipHash(rng.u32(), rng.u32()), PROTOCOL_TCP);
      const model = new Map<string, Flow>();
      const guest = v4(0x0a000264);
      const draw = (): [string, IpAddress, number] => {
        const remote = 0xc6336400 + below(4);
        const ports = ((below(64) << 16) | below(8)) >>> 0;
        return [`${remote}/${ports}`, v4(remote), ports];
      };
      for (let step = 0; step < 6000; step++) {
        // First more come than go, then the other way.
        const grow = step % 3000 < 1500 ? 7 : 3;
        const [key, remote, ports] = draw();
        const known = model.get(key);
        assert.equal(table.find(guest, remote, ports), known ?? null, `seed ${seed} step ${step}`);
        if (known === undefined && below(10) < grow) {
          const flow = new Flow(guest, remote, ports);
          table.add(flow);
          model.set(key, flow);
        } else if (known !== undefined && below(10) >= grow) {
          table.remove(known);
          model.delete(key);
          assert.equal(table.find(guest, remote, ports), null, 'the flow found last is forgotten too');
        }
        assert.equal(table.size, model.size);
      }
      const seen = new Set<Flow>();
      table.forEach((flow) => {
        seen.add(flow);
      });
      assert.deepEqual(seen, new Set(model.values()));
      for (const flow of model.values()) table.remove(flow);
      assert.equal(table.size, 0);
    }
  });

  test('every part of the key counts', () => {
    const table = new FlowTable<Flow>(new HalfSipHash(1, 2), PROTOCOL_TCP);
    const flow = new Flow(v4(1), v4(2), 0x00010002);
    table.add(flow);
    assert.equal(table.find(v4(1), v4(2), 0x00010002), flow);
    assert.equal(table.find(v4(3), v4(2), 0x00010002), null);
    assert.equal(table.find(v4(1), v4(3), 0x00010002), null);
    assert.equal(table.find(v4(1), v4(2), 0x00020001), null);
    assert.equal(table.find(v4(1), ANY_ADDRESS, 0x00010002), null);
    assert.equal(table.find(v4(2), v4(1), 0x00010002), null);
  });

  test('removing a flow that is not in the table changes nothing', () => {
    const table = new FlowTable<Flow>(new HalfSipHash(1, 2), PROTOCOL_TCP);
    const flow = new Flow(v4(1), v4(2), 3);
    table.add(flow);
    table.remove(new Flow(v4(1), v4(2), 3));
    assert.equal(table.find(v4(1), v4(2), 3), flow);
    assert.equal(table.size, 1);
  });
});
