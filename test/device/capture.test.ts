/** Captures read back by two programs that are not ours: pcap-parser and tshark. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { type CaptureFormat, defaultAddresses } from '../../src/config.ts';
import { CaptureLink } from '../../src/device/capture.ts';
import { type DeviceLink, type LinkOwner, RxFrame } from '../../src/device/device-link.ts';
import { PCAP_BUFFER_BYTES, PcapBuffer, PcapWriter } from '../../src/device/pcap-writer.ts';
import { StackScratch } from '../../src/stack/buffer/scratch.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { Counters } from '../../src/stack/counters.ts';
import { OwnAddresses } from '../../src/stack/ip/own-addresses.ts';
import { Egress } from '../../src/stack/link/egress.ts';
import { TxFrame } from '../../src/stack/link/link.ts';
import { NeighborTable } from '../../src/stack/neighbor/cache.ts';
import { type IpAddress, parseIpAddress } from '../../src/stack/wire/address.ts';
import { DropReason } from '../../src/stack/wire/drop-reason.ts';
import { TCP_ACK, TcpHeader } from '../../src/stack/wire/tcp.ts';
import { VnetHeader } from '../../src/stack/wire/vnet-header.ts';
import { naiveSum } from '../support/naive-sum.ts';
import { seededRng } from '../support/seeded-rng.ts';

/** As pcap-parser names them. */
interface FileHeader {
  magicNumber: number;
  snapshotLength: number;
  linkLayerType: number;
}

interface RecordHeader {
  timestampSeconds: number;
  timestampMicroseconds: number;
  capturedLength: number;
  originalLength: number;
}

interface Capture {
  header: FileHeader;
  packets: { header: RecordHeader; data: Buffer }[];
}

/** pcap-parser has no types. */
interface PcapParser {
  on(event: string, listener: (value: never) => void): void;
}
const require = createRequire(import.meta.url);
const pcapParser = require('pcap-parser') as { parse(path: string): PcapParser };

const directory = mkdtempSync(join(tmpdir(), 'tslirp-test-'));
after(() => rmSync(directory, { recursive: true }));

async function readCapture(path: string): Promise<Capture> {
  const capture: Capture = { header: { magicNumber: 0, snapshotLength: 0, linkLayerType: 0 }, packets: [] };
  const parser = pcapParser.parse(path);
  parser.on('globalHeader', (header) => {
    capture.header = header;
  });
  parser.on('packet', (packet) => capture.packets.push(packet));
  await once(parser as unknown as NodeJS.EventEmitter, 'end');
  const kept = capture.packets.reduce((sum, { data }) => sum + 16 + data.length, 24);
  assert.equal(statSync(path).size, kept, 'nothing behind the last whole record');
  return capture;
}

function dataAt(packets: Capture['packets'], index: number): Buffer {
  const packet = packets[index];
  assert.ok(packet, `packet ${index} of the capture`);
  return packet.data;
}

/** Check lengths and both checksums of a TCP or UDP packet without IP options. */
function assertGoodPacket(ip: Buffer): void {
  const isV4 = (ip[0] as number) >> 4 === 4;
  const headerLength = isV4 ? 20 : 40;
  if (isV4) {
    assert.equal(naiveSum(ip.subarray(0, 20)), 0xffff, 'IPv4 header checksum');
    assert.equal(ip.readUInt16BE(2), ip.length, 'IPv4 total length');
  } else {
    assert.equal(ip.readUInt16BE(4), ip.length - 40, 'IPv6 payload length');
  }
  const segment = ip.subarray(headerLength);
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(segment.length, 0);
  pseudo[7] = ip[isV4 ? 9 : 6] as number;
  const addresses = ip.subarray(isV4 ? 12 : 8, headerLength);
  assert.equal(naiveSum(Buffer.concat([addresses, pseudo, segment])), 0xffff, 'transport checksum');
}

/** tshark's verdict on each packet: 1 = good, for TCP or UDP. */
function tsharkStatus(path: string): string[] {
  const options = ['ip.check_checksum', 'tcp.check_checksum', 'udp.check_checksum'].flatMap((name) => [
    '-o',
    `${name}:TRUE`,
  ]);
  const fields = ['ip.checksum.status', 'tcp.checksum.status', 'udp.checksum.status', '_ws.malformed'];
  const args = ['-r', path, ...options, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])];
  const text = execFileSync('tshark', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return text.split('\n').slice(0, -1);
}

const NOTHING = new VnetHeader();

class Bench {
  readonly slab = new Slab(1024 * 1024, 0);
  /** Frames as the device got them. */
  readonly sent: Buffer[] = [];
  readonly path: string;
  readonly capture: CaptureLink;
  readonly egress: Egress;
  readonly payload: number;
  readonly errors: string[] = [];
  nowMs = 1_700_000_000_123.456;
  readonly #received: number;
  #length = 0;
  #offload = NOTHING;
  result = 0;
  /** What the device says of the next frame. */
  verdict = 1;
  owner: LinkOwner | null = null;
  /** Of the device's functions. */
  readonly calls: string[] = [];

  constructor(
    name: string,
    medium: 'ethernet' | 'ip',
    offload: boolean,
    path = join(directory, name),
    format: CaptureFormat = 'pcap',
  ) {
    const { slab } = this;
    const device: DeviceLink = {
      isLocal: true,
      open: (owner) => {
        this.owner = owner;
        return 0;
      },
      receive: (_, frame) => {
        frame.offset = this.#received;
        frame.length = this.#length;
        Object.assign(frame.offload, this.#offload);
        return this.verdict;
      },
      refreshMtu: () => this.calls.push('refreshMtu'),
      flush: () => this.calls.push('flush'),
      close: () => this.calls.push('close'),
      medium,
      mtu: 1500,
      checksumOffload: offload,
      tso: offload,
      uso: offload,
      full: false,
      transmit: (frame) => {
        this.sent.push(gather(slab, frame));
        return this.result;
      },
    };
    this.path = path;
    this.capture = new CaptureLink(device, new PcapBuffer(slab), path, {
      format,
      now: () => this.nowMs,
      onError: (message) => this.errors.push(message),
    });
    const own = new OwnAddresses(defaultAddresses);
    const neighbors = new NeighborTable(16, own);
    this.egress = new Egress(
      new StackScratch(slab),
      this.capture,
      own,
      neighbors,
      new Counters(),
      seededRng(1),
    );
    this.payload = slab.region(65536);
    this.#received = slab.region(70000);
    for (let i = 0; i < 65536; i++) slab.bytes[this.payload + i] = (i * 7 + (i >> 8)) & 255;
  }

  tcp(src: IpAddress, dst: IpAddress, pieces: readonly number[], mss: number): void {
    const h = new TcpHeader();
    h.srcPort = 61000;
    h.dstPort = 61007;
    h.seq = 0x12345678;
    h.flags = TCP_ACK;
    h.window = 1000;
    const out = this.egress.beginTcp(src, dst, h);
    let at = this.payload;
    for (const length of pieces) {
      out.add(at, length);
      // A gap, as between pages: the pieces do not follow each other in memory.
      at += length + 3;
    }
    if (out.payloadLength > mss) out.segmentSize = mss;
    this.egress.send();
  }

  udp(src: IpAddress, dst: IpAddress, offset: number, length: number, size = 0): void {
    const out = this.egress.beginUdp(src, 61001, dst, 61002);
    out.add(offset, length);
    out.segmentSize = size;
    this.egress.send();
  }

  /** A frame from the device. */
  receive(frame: Buffer, offload: VnetHeader): void {
    this.slab.bytes.set(frame, this.#received);
    this.#length = frame.length;
    this.#offload = offload;
    const got = new RxFrame();
    assert.equal(this.capture.receive(0, got), this.verdict);
    assert.deepEqual([got.offset, got.length, got.offload], [this.#received, frame.length, offload]);
    const now = this.slab.bytes.subarray(this.#received, this.#received + frame.length);
    assert.deepEqual(Buffer.from(now), frame, 'the frame itself is not touched');
  }
}

function gather(slab: Slab, frame: TxFrame): Buffer {
  const pieces = [slab.bytes.slice(frame.headOffset, frame.headOffset + frame.headLength)];
  for (let i = 0; i < frame.parts.count; i++) {
    const at = frame.parts.offset[i] as number;
    pieces.push(slab.bytes.slice(at, at + (frame.parts.length[i] as number)));
  }
  return Buffer.concat(pieces);
}

const V4 = [parseIpAddress('10.0.2.2'), parseIpAddress('10.0.2.100')] as const;
const V6 = [parseIpAddress('fd00::2'), parseIpAddress('fd00::100')] as const;

/** Descriptors of this process that are open on `path`. Counting all of them would count what earlier tests still close. */
function openOn(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path;
    } catch {
      return false;
    }
  }).length;
}

describe('CaptureLink', () => {
  for (const medium of ['ethernet', 'ip'] as const) {
    for (const offload of [true, false]) {
      const what = `${medium}, checksums by ${offload ? 'the device' : 'the stack'}`;
      test(`records what is sent with right checksums (${what})`, async () => {
        const b = new Bench(`sent-${medium}-${offload}.pcap`, medium, offload);
        for (const [src, dst] of [V4, V6]) {
          b.tcp(src, dst, [], 1400);
          b.tcp(src, dst, [1], 1400);
          b.tcp(src, dst, [333, 501, 7], 1400);
          b.udp(src, dst, b.payload, 0);
          b.udp(src, dst, b.payload + 1, 1001);
          if (offload) {
            b.tcp(src, dst, [16384, 16384, 16384, 12001], 1400);
            b.udp(src, dst, b.payload, 3501, 1000);
          }
        }
        b.capture.flush();
        const link = medium === 'ethernet' ? 14 : 0;
        const { header, packets } = await readCapture(b.path);
        assert.equal(header.linkLayerType, medium === 'ethernet' ? 1 : 101);
        assert.equal(packets.length, offload ? 14 : 10);
        assert.equal(b.sent.length, packets.length);
        packets.forEach(({ data }, i) => {
          const frame = b.sent[i] as Buffer;
          assertGoodPacket(data.subarray(link));
          assert.equal(data.length, frame.length);
          // The device still gets the unfinished checksum, and all else is the same.
          const same = data.equals(frame);
          assert.equal(same, !offload, 'checksum left to the device');
          const ip = data.subarray(link);
          const isV4 = (ip[0] as number) >> 4 === 4;
          const field = link + (isV4 ? 20 : 40) + (ip[isV4 ? 9 : 6] === 6 ? 16 : 6);
          const copy = Buffer.from(data);
          frame.copy(copy, field, field, field + 2);
          assert.deepEqual(copy, frame);
        });
        const status = tsharkStatus(b.path);
        assert.equal(status.length, packets.length);
        for (const line of status) assert.match(line, /^1?\t(1\t|\t1)\t$/);
        b.capture.close();
      });
    }
  }

  test('records what was received, finished where the sender left the checksum to the device', async () => {
    const sender = new Bench('sender.pcap', 'ethernet', true);
    const b = new Bench('received.pcap', 'ethernet', true);
    const offload = new VnetHeader();
    offload.flags = 1;
    for (const [src, dst] of [V4, V6]) {
      sender.tcp(src, dst, [16001, 16000, 16000, 15000], 1448);
      sender.udp(src, dst, sender.payload, 77);
      const isV4 = src.isV4;
      offload.csumStart = 14 + (isV4 ? 20 : 40);
      offload.csumOffset = 16;
      b.receive(sender.sent.at(-2) as Buffer, offload);
      offload.csumOffset = 6;
      b.receive(sender.sent.at(-1) as Buffer, offload);
    }
    sender.capture.flush();
    const finished = await readCapture(sender.path);
    for (const { data } of finished.packets) b.receive(data, NOTHING);
    // Wrong, and not ours to mend.
    const wrong = Buffer.from(dataAt(finished.packets, 1));
    wrong.writeUInt8(wrong.readUInt8(41) ^ 1, 41);
    b.receive(wrong, NOTHING);
    b.capture.close();
    const { packets } = await readCapture(b.path);
    assert.equal(packets.length, 9);
    for (let i = 0; i < 4; i++) {
      assertGoodPacket(dataAt(packets, i).subarray(14));
      assert.deepEqual(dataAt(packets, i), dataAt(finished.packets, i));
      assert.deepEqual(dataAt(packets, 4 + i), dataAt(finished.packets, i));
    }
    assert.deepEqual(dataAt(packets, 8), wrong);
    const status = tsharkStatus(b.path);
    assert.match(status[8] as string, /^1\t\t0\t$/);
    for (const line of status.slice(0, 8)) assert.match(line, /^1?\t(1\t|\t1)\t$/);
    sender.capture.close();
  });

  test('writes a UDP checksum of zero as all ones (RFC 768)', async () => {
    const b = new Bench('zero.pcap', 'ip', true);
    // Two payload bytes that make the sum come out as 0xffff.
    b.slab.view.setUint16(b.payload, 0);
    b.udp(...V4, b.payload, 2);
    b.capture.flush();
    const first = dataAt((await readCapture(b.path)).packets, 0);
    b.slab.view.setUint16(b.payload, first.readUInt16BE(26));
    b.udp(...V4, b.payload, 2);
    b.capture.close();
    const second = dataAt((await readCapture(b.path)).packets, 1);
    assert.equal(second.readUInt16BE(26), 0xffff);
    assert.match(tsharkStatus(b.path)[1] as string, /^1\t\t1\t$/);
  });

  for (const medium of ['ethernet', 'ip'] as const) {
    test(`slirpnetstack's format (${medium}): network byte order, no Ethernet header in either direction`, async () => {
      const b = new Bench(`slirpnetstack-${medium}.pcap`, medium, true, undefined, 'slirpnetstack');
      assert.deepEqual([b.capture.checksumOffload, b.capture.tso, b.capture.uso], [true, false, false]);
      b.tcp(...V4, [100], 1400);
      b.tcp(...V6, [1400], 1400);
      const sent = [...b.sent];
      const link = medium === 'ethernet' ? 14 : 0;
      const offload = new VnetHeader();
      offload.flags = 1;
      offload.csumStart = link + 20;
      offload.csumOffset = 16;
      b.receive(sent[0] as Buffer, offload);
      const arp = Buffer.alloc(link + 28, 9);
      b.receive(arp, NOTHING);
      if (link > 0) b.receive(Buffer.alloc(13), NOTHING);
      b.capture.close();

      const file = readFileSync(b.path);
      assert.equal(file.readUInt32BE(0), 0xa1b2c3d4);
      assert.deepEqual([file.readUInt16BE(4), file.readUInt16BE(6)], [2, 4]);
      assert.equal(file.readInt32BE(8) + 60 * new Date().getTimezoneOffset(), 0);
      assert.deepEqual(
        [12, 16, 20].map((at) => file.readUInt32BE(at)),
        [0, 1500, 101],
      );
      assert.deepEqual([file.readUInt32BE(24), file.readUInt32BE(28)], [1_700_000_000, 123_456]);

      const { header, packets } = await readCapture(b.path);
      assert.equal(header.linkLayerType, 101);
      assert.deepEqual(
        packets.map(({ data }) => data.length),
        [140, 1460, 140, 28],
      );
      for (const { data } of packets.slice(0, 3)) assertGoodPacket(data);
      assert.deepEqual(dataAt(packets, 2), dataAt(packets, 0));
      assert.deepEqual(dataAt(packets, 3), arp.subarray(link));
      assert.deepEqual(tsharkStatus(b.path).slice(0, 3), ['1\t1\t\t', '\t1\t\t', '1\t1\t\t']);
    });
  }

  test('is the link it wraps in everything else', () => {
    const b = new Bench('same.pcap', 'ip', true);
    assert.equal(b.capture.medium, 'ip');
    assert.equal(b.capture.mtu, 1500);
    assert.equal(b.capture.checksumOffload && b.capture.tso && b.capture.uso, true);
    const frame = new TxFrame();
    frame.headOffset = b.payload;
    frame.headLength = 40;
    b.result = -11;
    assert.equal(b.capture.transmit(frame), -11);
    b.result = 0;
    assert.equal(b.capture.transmit(frame), 0);
    const nothing = (): void => {};
    const owner: LinkOwner = {
      ...{ onFrames: nothing, onMtu: nothing, onUnsent: nothing },
      ...{ onGone: nothing, onDown: nothing, onUp: nothing },
    };
    assert.equal(b.capture.open(owner), 0);
    assert.equal(b.owner, owner);
    assert.equal(b.capture.isLocal, true);
    b.capture.refreshMtu();
    b.capture.flush();
    b.capture.close();
    assert.deepEqual(b.calls, ['refreshMtu', 'flush', 'close']);
  });

  test('review H-2: both directions go through it; what the device cannot use is not recorded', async () => {
    const b = new Bench('through.pcap', 'ip', false);
    b.tcp(...V4, [5], 1400);
    b.receive(Buffer.alloc(40, 1), NOTHING);
    for (b.verdict of [0, DropReason.VnetMalformed]) b.receive(Buffer.alloc(40, 2), NOTHING);
    b.capture.close();
    const { packets } = await readCapture(b.path);
    assert.deepEqual(
      packets.map(({ data }) => data.length),
      [45, 40],
    );
  });

  test('has nothing in the file before flush, and everything after more than its memory holds', async () => {
    const b = new Bench('many.pcap', 'ip', false);
    b.tcp(...V4, [100], 1400);
    assert.equal(readFileSync(b.path).length, 24, 'the file header only');
    b.capture.flush();
    assert.equal(readFileSync(b.path).length, 24 + 16 + 140);
    for (let i = 0; i < 400; i++) b.tcp(...V4, [1000 + i], 1400);
    b.capture.flush();
    const { packets } = await readCapture(b.path);
    assert.equal(packets.length, 401);
    packets.forEach(({ data }, i) => {
      assert.deepEqual(data, b.sent[i]);
    });
    b.capture.close();
  });

  test('stamps records with the wall clock, to the microsecond', async () => {
    const b = new Bench('time.pcap', 'ip', false);
    b.tcp(...V4, [], 1400);
    b.nowMs = 1_700_000_001_999.9995;
    b.tcp(...V4, [], 1400);
    b.capture.close();
    const stamps = (await readCapture(b.path)).packets.map(({ header }) => [
      header.timestampSeconds,
      header.timestampMicroseconds,
    ]);
    assert.deepEqual(stamps, [
      [1_700_000_000, 123_456],
      [1_700_000_001, 999_999],
    ]);
  });

  test('stops with one warning when its reader goes away, and traffic goes on', () => {
    const path = join(directory, 'pipe');
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    assert.equal(openOn(path), 1, 'the reader');
    const b = new Bench('', 'ip', false, path);
    b.tcp(...V4, [10], 1400);
    b.capture.flush();
    assert.equal(b.capture.active, true);
    closeSync(reader);
    for (let i = 0; i < 3; i++) {
      b.tcp(...V4, [10], 1400);
      b.capture.flush();
    }
    assert.equal(b.capture.active, false);
    assert.equal(b.sent.length, 4);
    assert.equal(b.errors.length, 1);
    assert.match(b.errors[0] as string, /^capture stopped: .*pipe': EPIPE.*$/);
    b.capture.close();
    assert.equal(openOn(path), 0, 'closed');
  });

  test('leaves whole records behind when the disk is full', async () => {
    const b = new Bench('full.pcap', 'ip', false);
    b.tcp(...V4, [900], 1400);
    b.capture.flush();
    const limitFileSize = (bytes: string): Buffer =>
      execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`]);
    // Without a handler the signal would end the process; with one, write(2) fails like on a full disk.
    const ignore = (): void => {};
    process.on('SIGXFSZ', ignore);
    limitFileSize('1500');
    try {
      b.tcp(...V4, [900], 1400);
      b.capture.flush();
      b.tcp(...V4, [900], 1400);
      b.capture.flush();
    } finally {
      limitFileSize('unlimited');
      process.off('SIGXFSZ', ignore);
    }
    assert.deepEqual(
      b.errors.map((message) => /^capture stopped: cannot write '.*full\.pcap': EFBIG.*$/.test(message)),
      [true],
    );
    assert.equal(b.sent.length, 3);
    const { packets } = await readCapture(b.path);
    assert.deepEqual(
      packets.map(({ data }) => data),
      [b.sent[0]],
    );
  });
});

function pcapBuffer(): PcapBuffer {
  return new PcapBuffer(new Slab(PCAP_BUFFER_BYTES, 0));
}

describe('PcapWriter', () => {
  test('review H-1: writers share a buffer in turn, and each file has its own records, in order', async () => {
    const buffer = pcapBuffer();
    const { bytes } = buffer.slab;
    const paths = ['one', 'two', 'three'].map((name) => join(directory, `shared-${name}.pcap`));
    const writers = paths.map((path) => new PcapWriter(buffer, path, { linkType: 1 }));
    // 0 writes twice in a row, 2 is closed while another has the buffer, and what fills the buffer is written as before.
    for (const who of [0, 0, 1, 0, 2, 1, 1]) {
      const at = (writers[who] as PcapWriter).begin(70_000);
      bytes.fill(who + 1, at, at + 70_000);
    }
    writers[2]?.close();
    for (const writer of writers) writer.flush();
    const kept = await Promise.all(paths.map((path) => readCapture(path)));
    assert.deepEqual(
      kept.map(({ packets }) => packets.map(({ data }) => [data.length, data[0], data.at(-1)])),
      [
        [1, 1, 1].map((mark) => [70_000, mark, mark]),
        [2, 2, 2].map((mark) => [70_000, mark, mark]),
        [[70_000, 3, 3]],
      ],
    );
    for (const writer of writers) writer.close();
  });

  for (const bigEndian of [false, true]) {
    test(`writes ${bigEndian ? 'big' : 'little'}-endian headers`, async () => {
      const path = join(directory, `order-${bigEndian}.pcap`);
      writeFileSync(path, 'what was there before, longer than the header');
      const buffer = pcapBuffer();
      const { slab } = buffer;
      const writer = new PcapWriter(buffer, path, { linkType: 101, bigEndian });
      const before = Date.now();
      const at = writer.begin(3);
      slab.bytes.set([1, 2, 3], at);
      writer.close();
      const magic = readFileSync(path).subarray(0, 4).toString('hex');
      assert.equal(magic, bigEndian ? 'a1b2c3d4' : 'd4c3b2a1');
      const { header, packets } = await readCapture(path);
      assert.deepEqual(
        { ...header, magicNumber: 0 },
        {
          magicNumber: 0,
          majorVersion: 2,
          minorVersion: 4,
          gmtOffset: 0,
          timestampAccuracy: 0,
          snapshotLength: 262144,
          linkLayerType: 101,
        },
      );
      assert.equal(packets.length, 1);
      const record = packets[0]?.header as RecordHeader;
      assert.deepEqual([...dataAt(packets, 0)], [1, 2, 3]);
      assert.equal(record.capturedLength, 3);
      assert.equal(record.originalLength, 3);
      assert.ok(Math.abs(record.timestampSeconds * 1000 - before) < 5000, 'about now');
    });
  }

  test('creates the file with mode 0644 less the umask', () => {
    const path = join(directory, 'mode.pcap');
    const old = process.umask(0);
    try {
      new PcapWriter(pcapBuffer(), path, { linkType: 1 }).close();
    } finally {
      process.umask(old);
    }
    assert.equal(statSync(path).mode & 0o777, 0o644);
  });

  test('fails in one line that names the path', () => {
    for (const path of [join(directory, 'no', 'such', 'x.pcap'), directory, '/dev/full']) {
      assert.throws(
        () => new PcapWriter(pcapBuffer(), path, { linkType: 1 }),
        (error: Error) =>
          error.message.startsWith(`cannot write capture file '${path}': `) && !error.message.includes('\n'),
      );
      assert.equal(openOn(path), 0, 'no descriptor stays open');
    }
  });

  test('does not take a frame larger than its memory, nor any after close', () => {
    const writer = new PcapWriter(pcapBuffer(), join(directory, 'big.pcap'), {
      linkType: 1,
    });
    assert.equal(writer.begin(PCAP_BUFFER_BYTES), -1);
    assert.ok(writer.begin(65549) >= 0);
    writer.close();
    assert.equal(writer.begin(1), -1);
    writer.close();
    assert.equal(writer.active, false);
  });
});
