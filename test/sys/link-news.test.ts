import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { IFLA_MTU, NetlinkMessage, RTM_NEWLINK } from '../../src/sys/netlink-message.ts';
import { readLinkMtu } from '../../src/sys/netns/link-news.ts';

const RTM_DELLINK = 17;
const IFLA_IFNAME = 3;
const INDEX = 7;
const AT = 64;

/** The message at `AT` of a larger buffer, behind which stands what must not be read. */
function told(message: NetlinkMessage, length: number = message.length): number {
  const bytes = new Uint8Array(1024).fill(0xff);
  bytes.set(message.bytes.subarray(0, length), AT);
  return readLinkMtu(new DataView(bytes.buffer), AT, length, INDEX);
}

function linkMessage(mtu: number, type = RTM_NEWLINK, index = INDEX): NetlinkMessage {
  const message = new NetlinkMessage(256);
  message.begin(type, 0, 0);
  for (const word of [0x00010000, index, 0x1043, 0]) message.u32(word);
  message.attributeText(IFLA_IFNAME, 'tap0');
  message.attributeU32(IFLA_MTU, mtu);
  message.finish();
  return message;
}

describe('readLinkMtu', () => {
  test('reads what the kernel says, within what an interface can have', () => {
    for (const [mtu, expected] of [
      [1500, 1500],
      [68, 68],
      [65535, 65535],
      [0, 68],
      [67, 68],
      [65536, 65535],
      [0xffffffff, 65535],
    ] as const)
      assert.equal(told(linkMessage(mtu)), expected);
  });

  test('passes over other links and other messages', () => {
    assert.equal(told(linkMessage(1500, RTM_NEWLINK, INDEX + 1)), 0);
    assert.equal(told(linkMessage(1500, RTM_DELLINK)), 0);
  });

  test('reads nothing behind the end, wherever the message is cut', () => {
    const message = linkMessage(1500);
    for (let length = 0; length < message.length; length++) assert.equal(told(message, length), 0);
  });

  test('is not misled by lengths', () => {
    const attributes = 32;
    for (const length of [0, 1, 3, 5, 7, 0xffff]) {
      const message = linkMessage(1500);
      message.view.setUint16(attributes + 12, length, true);
      assert.equal(told(message), 0, `attribute length ${length}`);
    }
    for (const length of [0, 16, 40, 50]) {
      const message = linkMessage(1500);
      message.view.setUint32(0, length, true);
      assert.equal(told(message), 0, `message length ${length}`);
    }
    const message = linkMessage(1500);
    message.view.setUint32(0, 0xffffffff, true);
    assert.equal(told(message), 1500);
  });
});
