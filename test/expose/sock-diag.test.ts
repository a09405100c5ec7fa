import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type OpenSocket, socketKey } from '../../src/expose/open-socket.ts';
import { readProcNet } from '../../src/expose/proc-net.ts';
import { diagEnd, diagRequest, readDiag } from '../../src/expose/sock-diag.ts';
import { recordedDiag, recordedProc } from '../support/recorded-sockets.ts';

const MOST = 1000;
const EACCES = 13;

function viewOf(base64: string): DataView {
  const bytes = Buffer.from(base64, 'base64');
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const byDiag: OpenSocket[] = [
  ...readDiag(viewOf(recordedDiag.tcp4), 'tcp', MOST),
  ...readDiag(viewOf(recordedDiag.tcp6), 'tcp', MOST),
  ...readDiag(viewOf(recordedDiag.udp4), 'udp', MOST),
  ...readDiag(viewOf(recordedDiag.udp6), 'udp', MOST),
];

const expected = [
  'tcp4 0.0.0.0 80',
  'tcp4 0.0.0.0 82',
  'tcp4 0.0.0.0 82',
  'tcp4 0.0.0.0 83',
  'tcp4 10.0.2.100 446',
  'tcp4 10.0.2.100 81',
  'tcp4 127.0.0.1 8080',
  'tcp6 :: 443',
  'tcp6 :: 444',
  'tcp6 ::1 445',
  'udp4 0.0.0.0 53',
  'udp6 :: 54',
];

test('A-2: sockets of every kind as the kernel answers', () => {
  assert.deepEqual(byDiag.map(socketKey).toSorted(), expected);
  const named = (key: string) => byDiag.find((socket) => socketKey(socket) === key);
  assert.deepEqual(
    ['tcp6 :: 443', 'tcp6 :: 444', 'udp6 :: 54'].map((key) => named(key)?.v6only),
    [false, true, false],
  );
  assert.equal(named('tcp4 0.0.0.0 83')?.device, 1);
  assert.equal(named('tcp4 0.0.0.0 80')?.device, 0);
  assert.deepEqual(named('tcp4 0.0.0.0 80'), {
    ...{
      proto: 'tcp',
      family: 4,
      ip: '0.0.0.0',
      port: 80,
      v6only: false,
      device: 0,
      uid: 0,
      inode: 16550296,
    },
  });
});

test('A-2: the same set by /proc, with the same owners', () => {
  const byProc = [
    ...readProcNet(recordedProc.tcp, 'tcp', MOST),
    ...readProcNet(recordedProc.tcp6, 'tcp', MOST),
    ...readProcNet(recordedProc.udp, 'udp', MOST),
    ...readProcNet(recordedProc.udp6, 'udp', MOST),
  ];
  const told = (socket: OpenSocket): string => `${socketKey(socket)} ${socket.uid} ${socket.inode}`;
  assert.deepEqual(byProc.map(told).toSorted(), byDiag.map(told).toSorted());
});

test('what is asked: a dump of one state of one family', () => {
  const expectedTcp = `${'48000000'}${'1400'}${'0103'}${'01000000'}${'00000000'}${'02060000'}${'00040000'}${'00'.repeat(48)}`;
  assert.equal(Buffer.from(diagRequest('tcp', 4)).toString('hex'), expectedTcp);
  const body = Buffer.from(diagRequest('udp', 6)).subarray(16, 24).toString('hex');
  assert.equal(body, '0a11000080000000');
});

test('the end of an answer: more, done, interrupted, an error', () => {
  const whole = viewOf(recordedDiag.tcp4);
  assert.equal(diagEnd(whole), 'done');
  const first = whole.getUint32(0, true);
  assert.equal(diagEnd(new DataView(whole.buffer, whole.byteOffset, first)), 'more');
  const copy = viewOf(recordedDiag.tcp4);
  copy.setUint16(6, copy.getUint16(6, true) | 0x10, true);
  assert.equal(diagEnd(copy), 'interrupted');
  const refusal = new DataView(new ArrayBuffer(36));
  refusal.setUint32(0, 36, true);
  refusal.setUint16(4, 2, true);
  refusal.setInt32(16, -EACCES, true);
  assert.equal(diagEnd(refusal), -EACCES);
});

test('no more are read than are wanted', () => {
  assert.equal(readDiag(viewOf(recordedDiag.tcp4), 'tcp', 2).length, 2);
  assert.equal(readProcNet(recordedProc.tcp, 'tcp', 2).length, 2);
});

test('an answer that is cut anywhere, or whose lengths lie, is read as far as it goes', () => {
  const whole = Buffer.from(recordedDiag.tcp6, 'base64');
  const count = readDiag(viewOf(recordedDiag.tcp6), 'tcp', MOST).length;
  for (let length = 0; length < whole.length; length++) {
    const view = new DataView(whole.buffer, whole.byteOffset, length);
    assert.ok(readDiag(view, 'tcp', MOST).length <= count);
    diagEnd(view);
  }
  for (const lie of [0, 1, 15, 0xffffffff]) {
    const copy = new DataView(Uint8Array.from(whole).buffer);
    copy.setUint32(0, lie, true);
    assert.deepEqual(readDiag(copy, 'tcp', MOST), []);
    diagEnd(copy);
  }
});
