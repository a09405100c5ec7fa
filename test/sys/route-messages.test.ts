import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { RouteMessage, RouteMessageReader } from '../../src/sys/route-messages.ts';
import { seededRng } from '../support/seeded-rng.ts';

const NLMSG_NOOP = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_DELNEXTHOP = 105;
const DUMP_INTR = 0x10;

const le16 = (n: number): number[] => [n & 255, n >>> 8];
const le32 = (n: number): number[] => [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24];
const padded = (bytes: number[]): number[] => [
  ...bytes,
  ...new Array<number>((4 - (bytes.length & 3)) & 3).fill(0),
];
const attribute = (type: number, payload: number[]): number[] =>
  padded([...le16(4 + payload.length), ...le16(type), ...payload]);

function message(type: number, body: number[], flags = 0, sequence = 7): number[] {
  return padded([
    ...le32(16 + body.length),
    ...le16(type),
    ...le16(flags),
    ...le32(sequence),
    ...le32(0),
    ...body,
  ]);
}

interface RouteFields {
  family?: number;
  length: number;
  type?: number;
  flags?: number;
}

function route(fields: RouteFields, attributes: number[][]): number[] {
  const { family = 2, length, type = 1, flags = 0 } = fields;
  return [family, length, 0, 0, 254, 4, 0, type, ...le32(flags), ...attributes.flat()];
}

const address = (family: number, length: number, attributes: number[][]): number[] => [
  family,
  length,
  0,
  0,
  ...le32(3),
  ...attributes.flat(),
];

const V6 = [0x20, 1, 0xd, 0xb8, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const START = 16;

function reader(bytes: number[], sequence = 0): RouteMessageReader {
  const buffer = new ArrayBuffer(START + bytes.length);
  new Uint8Array(buffer).set(bytes, START);
  const messages = new RouteMessageReader(new DataView(buffer));
  messages.begin(START, bytes.length, sequence);
  return messages;
}

describe('RouteMessageReader', () => {
  test('reads an IPv4 route', () => {
    const dst = attribute(1, [10, 9, 0, 0]);
    const messages = reader(
      message(RTM_NEWROUTE, route({ length: 16, type: 6 }, [dst, attribute(15, le32(100000))])),
    );
    assert.equal(messages.next(), RouteMessage.Route);
    assert.deepEqual(
      { ...messages.record },
      {
        added: true,
        isV4: true,
        w0: 0,
        w1: 0,
        w2: 0xffff,
        w3: 0x0a090000,
        prefixLength: 16,
        type: 6,
        protocol: 4,
        hasGateway: false,
        link: 0,
        isTunnel: false,
        broadcast: 0,
      },
    );
    assert.equal(messages.next(), RouteMessage.None);
  });

  test('reads an IPv6 deletion after a default route, leaving nothing of the one before', () => {
    const messages = reader([
      ...message(RTM_NEWROUTE, route({ length: 0 }, [])),
      ...message(RTM_DELROUTE, route({ family: 10, length: 64 }, [attribute(1, V6)])),
      ...message(RTM_NEWROUTE, route({ family: 10, length: 0 }, [])),
    ]);
    const { record } = messages;
    assert.equal(messages.next(), RouteMessage.Route);
    assert.deepEqual([record.isV4, record.prefixLength, record.w2, record.w3], [true, 0, 0xffff, 0]);
    assert.equal(messages.next(), RouteMessage.Route);
    assert.deepEqual([record.added, record.isV4, record.prefixLength], [false, false, 64]);
    assert.deepEqual([record.w0, record.w1, record.w2, record.w3], [0x20010db8, 0x00050000, 0, 1]);
    assert.equal(messages.next(), RouteMessage.Route);
    assert.deepEqual([record.added, record.w0, record.w1, record.w2, record.w3], [true, 0, 0, 0, 0]);
  });

  test('reads our address, not the peer, and the broadcast address', () => {
    const messages = reader([
      ...message(
        RTM_NEWADDR,
        address(2, 24, [
          attribute(1, [192, 0, 2, 9]),
          attribute(2, [192, 0, 2, 1]),
          attribute(4, [192, 0, 2, 255]),
        ]),
      ),
      ...message(RTM_DELADDR, address(10, 128, [attribute(1, V6)])),
    ]);
    const { record } = messages;
    assert.equal(messages.next(), RouteMessage.Address);
    assert.deepEqual(
      [record.added, record.isV4, record.prefixLength, record.w3, record.broadcast],
      [true, true, 24, 0xc0000201, 0xc00002ff],
    );
    assert.equal(messages.next(), RouteMessage.Address);
    assert.deepEqual([record.added, record.isV4, record.w0, record.broadcast], [false, false, 0x20010db8, 0]);
  });

  test('reports what takes routes away silently, and links with what they are', () => {
    const link = (type: number, flags: number): number[] => [
      ...[0, 0, ...le16(type), ...le32(3), ...le32(flags), ...le32(0)],
    ];
    const messages = reader([
      ...message(RTM_NEWLINK, link(1, 0x1003)),
      ...message(RTM_NEWLINK, link(1, 0x1011)),
      ...message(RTM_NEWLINK, link(0xfffe, 0x81)),
      ...message(RTM_NEWLINK, link(1, 0x1002)),
      ...message(RTM_DELLINK, link(1, 0x1003)),
      ...message(RTM_DELNEXTHOP, [0, 0, 0, 0, 0, 0, 0, 0]),
    ]);
    const { record } = messages;
    for (const isTunnel of [false, true, true]) {
      assert.equal(messages.next(), RouteMessage.Link);
      assert.deepEqual([record.link, record.isTunnel], [3, isTunnel]);
    }
    for (const at of [3, 0, 0]) {
      assert.equal(messages.next(), RouteMessage.Withdrawal);
      assert.equal(record.link, at);
    }
    assert.equal(messages.next(), RouteMessage.None);
  });

  test('tells routes by way of a router from direct ones', () => {
    const dst = attribute(1, [203, 0, 113, 0]);
    const oif = attribute(4, le32(7));
    const gateway = attribute(5, [192, 0, 2, 1]);
    const hop = (...attributes: number[][]): number[] => {
      const all = attributes.flat();
      return [...le16(8 + all.length), 0, 0, ...le32(7), ...all];
    };
    const cut = [...le16(9), 0, 0, ...le32(7)];
    const table: [number[][], boolean, number][] = [
      [[dst, oif], false, 7],
      [[dst, gateway, oif], true, 7],
      [[dst, oif, attribute(18, [10, 0, ...V6])], true, 7],
      [[dst, oif, attribute(22, [])], true, 7],
      [[dst, attribute(9, [...hop(gateway), ...hop(gateway)])], true, 0],
      [[dst, attribute(9, [...hop(gateway), ...hop()])], false, 0],
      [[dst, attribute(9, [...hop(gateway), ...cut])], false, 0],
      [[dst], false, 0],
    ];
    for (const [attributes, hasGateway, link] of table) {
      const messages = reader(message(RTM_NEWROUTE, route({ length: 24 }, attributes)));
      assert.equal(messages.next(), RouteMessage.Route);
      const { record } = messages;
      assert.deepEqual([record.hasGateway, record.link, record.w3], [hasGateway, link, 0xcb007100]);
    }
  });

  test('skips other families, clones, unknown types and other dumps', () => {
    const dst = attribute(1, [10, 9, 0, 0]);
    const good = route({ length: 16 }, [dst]);
    const messages = reader(
      [
        ...message(RTM_NEWROUTE, route({ family: 28, length: 20 }, [attribute(1, [0, 0, 0x11, 0])])),
        ...message(RTM_NEWROUTE, route({ length: 32, flags: 0x200 }, [dst])),
        ...message(NLMSG_NOOP, []),
        ...message(9999, [1, 2, 3]),
        ...message(RTM_NEWROUTE, good, 0, 6),
        ...message(NLMSG_ERROR, le32(0)),
        ...message(RTM_NEWROUTE, good),
      ],
      7,
    );
    assert.equal(messages.next(), RouteMessage.Route);
    assert.equal(messages.next(), RouteMessage.None);
  });

  test('tells the end of a dump, its error, and that it was interrupted', () => {
    const done = reader(message(NLMSG_DONE, le32(0)));
    assert.equal(done.next(), RouteMessage.Done);
    assert.equal(done.interrupted, false);
    const interrupted = reader(message(NLMSG_DONE, le32(0), DUMP_INTR));
    assert.equal(interrupted.next(), RouteMessage.Done);
    assert.equal(interrupted.interrupted, true);
    for (const type of [NLMSG_ERROR, NLMSG_DONE]) {
      const failed = reader(message(type, [...le32(-95 >>> 0), 0, 0, 0, 0]));
      assert.equal(failed.next(), RouteMessage.Failed);
      assert.equal(failed.error, -95);
    }
    assert.equal(reader(message(NLMSG_OVERRUN, [])).next(), RouteMessage.Lost);
  });

  test('lengths that cannot be are Lost, and end the piece', () => {
    const good = message(RTM_NEWROUTE, route({ length: 16 }, [attribute(1, [10, 9, 0, 0])]));
    const bad: number[][] = [
      [...le32(15), ...good.slice(4)],
      [...le32(0), ...good.slice(4)],
      [...le32(good.length * 2 + 1), ...good.slice(4)],
      [...le32(0xffffffff), ...good.slice(4)],
      good.slice(0, 15),
      message(RTM_NEWROUTE, route({ length: 16 }, []).slice(0, 11)),
      message(RTM_NEWROUTE, route({ length: 33 }, [attribute(1, [10, 9, 0, 0])])),
      message(RTM_NEWROUTE, route({ family: 10, length: 129 }, [attribute(1, V6)])),
      message(RTM_NEWROUTE, route({ length: 16 }, [attribute(1, [10, 9, 0])])),
      message(RTM_NEWROUTE, route({ family: 10, length: 64 }, [attribute(1, V6.slice(1))])),
      message(RTM_NEWADDR, [2, 24, 0, 0, 0, 0, 0]),
      message(RTM_NEWADDR, address(2, 24, [])),
      message(RTM_NEWADDR, address(2, 33, [attribute(2, [10, 0, 0, 1])])),
      message(RTM_NEWADDR, address(10, 64, [attribute(1, [10, 0, 0, 1])])),
      message(RTM_NEWADDR, address(2, 24, [attribute(2, [10, 0, 0, 1]), attribute(4, [10])])),
      message(RTM_NEWLINK, new Array<number>(15).fill(0)),
      message(NLMSG_ERROR, [1]),
    ];
    for (const [index, bytes] of bad.entries()) {
      const messages = reader([...bytes, ...(bytes.length % 4 === 0 ? good : [])]);
      assert.equal(messages.next(), RouteMessage.Lost, `case ${index}`);
      assert.equal(messages.next(), RouteMessage.None, `case ${index}`);
    }
  });

  test('reads nothing beyond its piece, wherever it is cut', () => {
    const whole = [
      ...message(RTM_NEWADDR, address(2, 24, [attribute(2, [10, 0, 0, 1]), attribute(4, [10, 0, 0, 255])])),
      ...message(
        RTM_NEWROUTE,
        route({ family: 10, length: 64 }, [attribute(1, V6), attribute(15, le32(1000))]),
      ),
      ...message(NLMSG_DONE, le32(0)),
    ];
    const count = (bytes: number[]): { found: number; last: RouteMessage } => {
      // The DataView ends where the piece does: a read beyond it throws.
      const messages = reader(bytes);
      let found = 0;
      let last: RouteMessage = RouteMessage.None;
      for (let kind = messages.next(); kind !== RouteMessage.None; kind = messages.next()) {
        found++;
        last = kind;
      }
      return { found, last };
    };
    assert.deepEqual(count(whole), { found: 3, last: RouteMessage.Done });
    for (let length = 1; length < whole.length; length++) {
      const { found, last } = count(whole.slice(0, length));
      assert.ok(found <= 3);
      // A cut between two messages can not be seen; any other is.
      const between = [40, 96].includes(length);
      assert.equal(
        last,
        between ? (length === 40 ? RouteMessage.Address : RouteMessage.Route) : RouteMessage.Lost,
      );
    }
  });

  test('random damage never throws and always ends', () => {
    const seed = 20240611;
    const rng = seededRng(seed);
    const whole = [
      ...message(RTM_NEWADDR, address(2, 24, [attribute(2, [10, 0, 0, 1]), attribute(4, [10, 0, 0, 255])])),
      ...message(
        RTM_NEWROUTE,
        route({ family: 10, length: 64 }, [attribute(1, V6), attribute(15, le32(1000))]),
      ),
    ];
    for (let round = 0; round < 20000; round++) {
      const bytes = [...whole];
      for (let i = 0; i < 3; i++) bytes[rng.u32() % bytes.length] = rng.u32() & 255;
      const messages = reader(bytes);
      let found = 0;
      while (messages.next() !== RouteMessage.None) assert.ok(++found < 10, `seed ${seed} round ${round}`);
    }
  });
});
