import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  attributeText,
  findAttribute,
  NetlinkMessage,
  NLMSG_HEADER_BYTES,
  RTM_GETLINK,
  RTM_NEWLINK,
} from '../../src/sys/netlink-message.ts';
import { parseLink } from '../../src/sys/netns/rtnetlink.ts';

const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_TXQLEN = 13;
const EBADMSG = 74;

function linkMessage(): NetlinkMessage {
  const message = new NetlinkMessage(256);
  message.begin(RTM_NEWLINK, 0, 1);
  message.u16(0);
  message.u16(1);
  message.u32(7);
  message.u32(0x1043);
  message.u32(0);
  message.attributeText(IFLA_IFNAME, 'tap0');
  message.attributeU32(IFLA_MTU, 1500);
  message.attributeU32(IFLA_TXQLEN, 1000);
  // IFLA_LINKINFO { IFLA_INFO_KIND "tun", IFLA_INFO_DATA { IFLA_TUN_TYPE 2 } }
  message.attributeBytes(18, [8, 0, 1, 0, 0x74, 0x75, 0x6e, 0, 12, 0, 2, 0, 5, 0, 3, 0, 2, 0, 0, 0]);
  message.finish();
  return message;
}

describe('NetlinkMessage', () => {
  test('pads attributes to four bytes and writes the total length', () => {
    const message = new NetlinkMessage(64);
    message.begin(RTM_GETLINK, 1, 9);
    message.attributeText(IFLA_IFNAME, 'tap0');
    assert.equal(message.finish(), NLMSG_HEADER_BYTES + 12);
    assert.equal(message.view.getUint32(0, true), NLMSG_HEADER_BYTES + 12);
    assert.equal(message.view.getUint16(NLMSG_HEADER_BYTES, true), 9);
    assert.equal(message.view.getUint32(8, true), 9);
  });

  test('leaves nothing of the message before', () => {
    const message = new NetlinkMessage(64);
    message.begin(RTM_GETLINK, 1, 1);
    message.attributeText(IFLA_IFNAME, 'abcdefgh');
    message.begin(RTM_GETLINK, 1, 2);
    message.attributeBytes(1, [1]);
    assert.deepEqual([...message.bytes.subarray(16, 24)], [5, 0, 1, 0, 1, 0, 0, 0]);
  });

  test('refuses what does not fit', () => {
    const message = new NetlinkMessage(32);
    message.begin(RTM_GETLINK, 1, 1);
    assert.throws(() => message.attributeBytes(1, new Uint8Array(20)), RangeError);
  });
});

describe('findAttribute', () => {
  test('ends at lengths that are too short or run past the end', () => {
    for (const length of [0, 3, 9, 65535]) {
      const view = new DataView(new ArrayBuffer(8));
      view.setUint16(0, length, true);
      view.setUint16(2, 5, true);
      assert.equal(findAttribute(view, 0, 8, 5), -1);
    }
  });

  test('skips over padding and ignores the nesting bit', () => {
    const view = new DataView(
      Uint8Array.of(5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 3, 0x80, 0x61, 0x62, 0, 0x63).buffer,
    );
    const at = findAttribute(view, 0, 16, 3);
    assert.equal(at, 12);
    assert.equal(attributeText(view, at), 'ab');
  });
});

describe('parseLink', () => {
  test('reads what the kernel says of a TAP', () => {
    const message = linkMessage();
    assert.deepEqual(parseLink(message.view, message.length), {
      index: 7,
      hardwareType: 1,
      mtu: 1500,
      flags: 0x1043,
      txQueueLen: 1000,
      kind: 'tun',
      tunType: 2,
      tunMultiQueue: false,
    });
  });

  test('survives truncation at every length', () => {
    const message = linkMessage();
    for (let length = 0; length < message.length; length++) {
      const link = parseLink(message.view, length);
      if (length < 32) assert.equal(link, -EBADMSG);
      else assert.equal(typeof link, 'object');
    }
  });
});
