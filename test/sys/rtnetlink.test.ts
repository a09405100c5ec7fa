import assert from 'node:assert/strict';
import { test } from 'node:test';
import { close } from '../../src/sys/io.ts';
import { libcFunction } from '../../src/sys/libc.ts';
import { Memory } from '../../src/sys/memory.ts';
import { Rtnetlink } from '../../src/sys/netns/rtnetlink.ts';
import { AF_UNIX, socketpair } from '../../src/sys/socket.ts';

const SOCK_DGRAM = 2;
const ETIMEDOUT = 110;

const cSend = libcFunction('send', 'intptr_t', ['int', 'uintptr_t', 'size_t', 'int']);

/** A request to a kernel that says what the test wants it to. */
test('review OR-11: an answer that never comes, or only those to other requests, is an error and not a wait without end', () => {
  const memory = new Memory(new ArrayBuffer(64));
  assert.equal(socketpair(memory, AF_UNIX, SOCK_DGRAM, 0), 0);
  const ours = memory.view.getInt32(0, true);
  const kernels = memory.view.getInt32(4, true);
  const netlink = new Rtnetlink(ours, 50);
  assert.equal(netlink.setLink(1, { up: true }), -ETIMEDOUT);
  // NLMSG_ERROR with code 0: an acknowledgment, of request `sequence`.
  const acknowledge = (sequence: number): void => {
    memory.view.setUint32(16, 20, true);
    memory.view.setUint16(20, 2, true);
    memory.view.setUint32(24, sequence, true);
    memory.view.setInt32(32, 0, true);
    assert.equal(cSend(kernels, memory.address(16, 20), 20, 0), 20);
  };
  acknowledge(1);
  acknowledge(1);
  assert.equal(netlink.setLink(1, { up: true }), -ETIMEDOUT);
  acknowledge(1);
  acknowledge(3);
  assert.equal(netlink.setLink(1, { up: true }), 0);
  close(ours);
  close(kernels);
});
