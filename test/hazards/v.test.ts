/** Hazards V: the device, what it says when it is not well, and headers on it that nobody should believe. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Lab } from '../support/lab/lab.ts';
import { ALLOWED4, echo, frame, GATEWAY4, pattern, udp } from '../support/lab/packets.ts';

const EIO = 5;
const EAGAIN = 11;
const EINTR = 4;
const EINVAL = 22;
const ENODEV = 19;
const EBADFD = 77;
const ENOBUFS = 105;

const VNET_BYTES = 10;
const FRAME = frame(echo(GATEWAY4, 7, 1));

/** struct virtio_net_hdr. */
function vnet(f: {
  flags?: number;
  gsoType?: number;
  hdrLen?: number;
  gsoSize?: number;
  csumStart?: number;
  csumOffset?: number;
}): Buffer {
  const h = Buffer.alloc(VNET_BYTES);
  h.writeUInt8(f.flags ?? 0, 0);
  h.writeUInt8(f.gsoType ?? 0, 1);
  h.writeUInt16LE(f.hdrLen ?? 0, 2);
  h.writeUInt16LE(f.gsoSize ?? 0, 4);
  h.writeUInt16LE(f.csumStart ?? 0, 6);
  h.writeUInt16LE(f.csumOffset ?? 0, 8);
  return h;
}

function answers(lab: Lab): number {
  return lab.inject(FRAME).length;
}

describe('V-01: the device', () => {
  test('a read of nothing costs nothing', () => {
    const lab = new Lab();
    for (let i = 0; i < 100; i++) lab.device.toProgram.push(Buffer.alloc(0));
    assert.equal(answers(lab), 1);
    assert.equal(lab.linkGone, '');
  });

  test('read errors that pass cost nothing but that read', () => {
    const lab = new Lab();
    for (const errno of [EIO, EAGAIN, EINTR, EINVAL, ENOBUFS]) {
      lab.device.readErrors.push(-errno);
      assert.equal(answers(lab), 1, `after errno ${errno}`);
      assert.equal(lab.linkGone, '');
    }
  });

  for (const [name, errno] of [
    ['EBADFD', EBADFD],
    ['ENODEV', ENODEV],
  ] as const) {
    test(`a device that is gone (${name}) is told and closed`, () => {
      const lab = new Lab();
      lab.device.readErrors.push(-errno);
      lab.run();
      assert.notEqual(lab.linkGone, '');
      assert.equal(lab.kernel.files.has(lab.device.fd), false);
      lab.advance(60_000);
    });
  }

  test('write errors, as of an interface that is down, are counted and forgotten', () => {
    const lab = new Lab();
    for (const errno of [EIO, ENOBUFS, EINVAL]) {
      lab.device.writeErrors.push(-errno);
      const delta = lab.delta(() => assert.equal(answers(lab), 0, `errno ${errno}`));
      assert.equal(delta['tx.errors'], 1);
      assert.equal(answers(lab), 1, `after errno ${errno}`);
    }
  });
});

describe('V-02: virtio-net headers', () => {
  const lab = new Lab({ device: { vnetHeader: true, checksumOffload: true, tso: true, uso: true } });
  const plain = Buffer.concat([vnet({}), FRAME]);

  for (const [name, bytes] of [
    ['cut in the middle', plain.subarray(0, VNET_BYTES - 1)],
    [
      'TSO with gso_size 0',
      Buffer.concat([vnet({ flags: 1, gsoType: 1, csumStart: 34, csumOffset: 16 }), FRAME]),
    ],
    [
      'TSO with gso_size 65535 and a header that is longer than the packet',
      Buffer.concat([
        vnet({ flags: 1, gsoType: 1, gsoSize: 65_535, hdrLen: 65_535, csumStart: 34, csumOffset: 16 }),
        FRAME,
      ]),
    ],
    ['an unknown gso type', Buffer.concat([vnet({ gsoType: 9, gsoSize: 1000 }), FRAME])],
    ['csum_start beyond the packet', Buffer.concat([vnet({ flags: 1, csumStart: 65535 }), FRAME])],
    [
      'csum_offset beyond the packet',
      Buffer.concat([vnet({ flags: 1, csumStart: 34, csumOffset: FRAME.length }), FRAME]),
    ],
    ['a frame of more than 64 KiB', Buffer.concat([vnet({}), FRAME, Buffer.alloc(66_000)])],
  ] as const) {
    test(`${name}: the frame is dropped as vnet.malformed, and the next one is answered`, () => {
      lab.expectDrop('vnet.malformed', name, bytes);
      assert.equal(lab.inject(plain).length, 1);
    });
  }

  test('a frame of more datagrams than a kernel ever puts into one is no work for us', () => {
    const lab = new Lab({ device: { vnetHeader: true, checksumOffload: true, tso: true, uso: true } });
    const superFrame = (length: number, gsoSize: number): Buffer => {
      const header = vnet({ flags: 1, gsoType: 5, hdrLen: 42, gsoSize, csumStart: 34, csumOffset: 6 });
      return Buffer.concat([header, frame(udp({ dst: ALLOWED4, dstPort: 9 }, pattern(length)))]);
    };
    for (const [length, gsoSize] of [
      [65_000, 1],
      [65_000, 507],
      [129, 1],
    ] as const) {
      const sent = lab.kernel.datagrams.length;
      const changed = lab.delta(() => assert.deepEqual(lab.inject(superFrame(length, gsoSize)), []));
      assert.equal(changed['drop.udp.malformed'], 1);
      assert.equal(lab.kernel.datagrams.length, sent);
    }
    lab.inject(superFrame(128, 1), superFrame(65_000, 508));
    assert.equal(lab.kernel.datagrams.length, 256);
    assert.deepEqual(lab.errors, []);
  });
});
