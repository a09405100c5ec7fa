import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { placeText, putPlace } from '../../src/device/socket-place.ts';
import { Memory } from '../../src/sys/memory.ts';

describe('places of sockets', () => {
  const memory = new Memory(new ArrayBuffer(256));
  const bytes = (length: number): string => Buffer.from(memory.view.buffer, 0, length).toString('hex');

  test('a vsock address is a struct sockaddr_vm in host order', () => {
    const at = { family: 'vsock', cid: 2, port: 1024 } as const;
    const length = putPlace(memory, 0, at);
    assert.equal(length, 16);
    assert.equal(bytes(length), '28000000000400000200000000000000');
    assert.equal(placeText(at), 'vsock:2:1024');
  });

  test('addresses of both families, and paths', () => {
    assert.equal(putPlace(memory, 0, { family: 'ip', address: '127.0.0.1', port: 80 }), 16);
    assert.equal(bytes(8), '020000507f000001');
    assert.equal(putPlace(memory, 0, { family: 'ip', address: '::1', port: 80 }), 28);
    assert.equal(bytes(4), '0a000050');
    assert.equal(putPlace(memory, 0, { family: 'unix', path: '/p' }), 5);
    assert.equal(bytes(5), '01002f7000');
    assert.equal(placeText({ family: 'unix', path: '/p' }), 'unix:/p');
    assert.equal(placeText({ family: 'ip', address: '::1', port: 80 }), '[::1]:80');
  });
});
