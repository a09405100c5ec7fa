import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { defaultAddresses } from '../../src/config.ts';
import {
  type DeviceLink,
  type EndReason,
  type LinkOwner,
  type LinkServices,
  RxFrame,
} from '../../src/device/device-link.ts';
import { Switches } from '../../src/device/switch.ts';
import { profiles } from '../../src/profiles.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import type { TxFrame } from '../../src/stack/link/link.ts';
import { DropReason } from '../../src/stack/wire/drop-reason.ts';

const GATEWAY = '52:55:0a:00:02:02';
const EVERYBODY = 'ff:ff:ff:ff:ff:ff';
const SOLICITED = '33:33:ff:00:01:01';

function mac(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

function frame(to: string, from: string, body = 'body'): Buffer {
  return Buffer.concat([mac(to), mac(from), Buffer.from('0800', 'hex'), Buffer.from(body)]);
}

/** A link whose other end is this test. */
class Wire implements DeviceLink {
  readonly medium = 'ethernet';
  readonly mtu = 1500;
  readonly checksumOffload = false;
  readonly tso = false;
  readonly uso = false;
  readonly isLocal = true;
  full = false;
  owner: LinkOwner | undefined;
  isOpen = true;
  /** From the guest, not taken yet. */
  readonly #slab: Slab;
  readonly #at: number;
  readonly #incoming: Buffer[] = [];
  /** To the guest. */
  readonly sent: Buffer[] = [];

  constructor(slab: Slab) {
    this.#slab = slab;
    this.#at = slab.region(4096);
  }

  put(...frames: Buffer[]): void {
    this.#incoming.push(...frames);
  }

  open(owner: LinkOwner): number {
    this.owner = owner;
    return 0;
  }

  receive(_: number, out: RxFrame): number {
    const next = this.#incoming.shift();
    if (next === undefined) return 0;
    this.#slab.bytes.set(next, this.#at);
    out.offset = this.#at;
    out.length = next.length;
    return 1;
  }

  transmit({ headOffset, headLength, parts }: TxFrame): number {
    const { bytes } = this.#slab;
    const pieces = [Buffer.from(bytes.subarray(headOffset, headOffset + headLength))];
    for (let i = 0; i < parts.count; i++) {
      const at = parts.offset[i] as number;
      pieces.push(Buffer.from(bytes.subarray(at, at + (parts.length[i] as number))));
    }
    this.sent.push(Buffer.concat(pieces));
    return 1;
  }

  refreshMtu(): void {
    return;
  }

  flush(): void {
    return;
  }

  close(): void {
    this.isOpen = false;
  }
}

class Port {
  readonly wire: Wire;
  readonly link: DeviceLink;
  readonly downs: EndReason[] = [];
  readonly #frame = new RxFrame();
  readonly #slab: Slab;

  constructor(network: Network, isolated: boolean) {
    this.#slab = network.slab;
    this.wire = new Wire(network.slab);
    const spec = { addresses: defaultAddresses, behavior: profiles.tslirp };
    this.link = network.switches.join(
      this.wire,
      { ...spec, network: { name: 'net', isolated } },
      network.services,
    );
    this.link.open({
      ...{
        onFrames: () => undefined,
        onMtu: () => undefined,
        onUp: () => undefined,
        onUnsent: () => undefined,
      },
      onDown: (reason) => this.downs.push(reason),
      onGone: (reason) => this.downs.push(reason),
    });
  }

  /** Has its guest send these; what its own stack gets of them, and reasons for which others were dropped. */
  send(...frames: Buffer[]): (string | number)[] {
    this.wire.put(...frames);
    const got: (string | number)[] = [];
    for (let i = 0; ; i++) {
      const result = this.link.receive(i, this.#frame);
      if (result === 0) return got;
      const { offset, length } = this.#frame;
      const text = Buffer.from(this.#slab.bytes.subarray(offset + 14, offset + length)).toString();
      got.push(result < 0 ? result : text);
    }
  }

  /** What its guest has got since it was last asked. */
  got(): string[] {
    return this.wire.sent.splice(0).map((bytes) => bytes.subarray(14).toString());
  }
}

class Network {
  readonly slab = new Slab(1024 * 1024, 4);
  readonly switches = new Switches(this.slab);
  readonly clock = { turn: 0, batchFrames: 64, nowMs: 1_000_000 };
  touches = 0;
  readonly services = {
    frames: { slab: this.slab },
    clock: this.clock,
    touched: () => {
      this.touches++;
    },
  } as unknown as LinkServices;

  port(isolated = false): Port {
    return new Port(this, isolated);
  }
}

const A = '02:00:00:00:00:0a';
const B = '02:00:00:00:00:0b';
const C = '02:00:00:00:00:0c';

function threePorts(): { network: Network; a: Port; b: Port; c: Port } {
  const network = new Network();
  const [a, b, c] = [network.port(), network.port(), network.port()];
  for (const [port, address] of [
    [a, A],
    [b, B],
    [c, C],
  ] as const)
    port.send(frame(GATEWAY, address));
  return { network, a, b, c };
}

describe('a switch', () => {
  test('links L-27: what is for a neighbour goes to it alone; what is for the gateway, or nobody known, to our stack', () => {
    const { network, a, b, c } = threePorts();
    assert.deepEqual([a.got(), b.got(), c.got()], [[], [], []]);
    assert.deepEqual(a.send(frame(B, A, 'for b'), frame(GATEWAY, A, 'for us')), ['for us']);
    assert.deepEqual([a.got(), b.got(), c.got()], [[], ['for b'], []]);
    assert.ok(network.touches > 0, 'the link is flushed');
    assert.deepEqual(a.send(frame('02:00:00:00:00:99', A, 'for whom?')), ['for whom?']);
    assert.deepEqual([b.got(), c.got()], [[], []]);
    assert.deepEqual(a.send(frame(A, A, 'for itself')), ['for itself']);
    assert.deepEqual(a.got(), []);
    // The frame as it was, header and all.
    b.send(frame(A, B, 'answer'));
    assert.deepEqual(a.wire.sent, [frame(A, B, 'answer')]);
  });

  test('links L-28: broadcast and multicast reach all neighbours and our stack, 1,000 a second', () => {
    const { network, a, b, c } = threePorts();
    assert.deepEqual(a.send(frame(EVERYBODY, A, 'who'), frame(SOLICITED, A, 'is it')), ['who', 'is it']);
    assert.deepEqual([a.got(), b.got(), c.got()], [[], ['who', 'is it'], ['who', 'is it']]);
    const storm = Array.from({ length: 3000 }, () => frame(EVERYBODY, A, 'storm'));
    assert.equal(a.send(...storm).length, 3000, 'our own stack has limits of its own');
    assert.ok(b.got().length <= 1000);
    // The limit is each port's own.
    c.got();
    b.send(frame(EVERYBODY, B, 'from b'));
    assert.deepEqual(c.got(), ['from b']);
    network.clock.nowMs += 1000;
    a.send(frame(EVERYBODY, A, 'again'));
    assert.deepEqual(b.got(), ['again']);
  });

  test('links L-29: an address belongs to whoever had it first, until that one is gone or silent', () => {
    const { network, a, b, c } = threePorts();
    assert.deepEqual(c.send(frame(GATEWAY, B, 'as b')), [DropReason.LinkMac]);
    a.send(frame(B, A, 'for b'));
    assert.deepEqual([b.got(), c.got()], [['for b'], []]);
    // Nobody is the gateway; our stack drops that by itself.
    assert.deepEqual(c.send(frame(EVERYBODY, GATEWAY, 'as us')), ['as us']);
    assert.deepEqual([a.got(), b.got()], [[], []]);
    b.wire.owner?.onDown('closed', 'gone');
    assert.deepEqual(b.downs, ['closed']);
    assert.deepEqual(c.send(frame(GATEWAY, B, 'is b now')), ['is b now']);
    a.send(frame(B, A, 'for b'));
    assert.deepEqual([b.got(), c.got()], [[], ['for b']]);
    network.clock.nowMs += 299_999;
    assert.deepEqual(b.send(frame(GATEWAY, B, 'not yet')), [DropReason.LinkMac]);
    network.clock.nowMs += 1;
    assert.deepEqual(b.send(frame(GATEWAY, B, 'silent')), ['silent']);
  });

  test('links L-29: a port has 64 addresses; what comes from more is dropped', () => {
    const { a, b } = threePorts();
    const address = (i: number): string => `02:00:00:00:01:${i.toString(16).padStart(2, '0')}`;
    for (let i = 0; i < 63; i++) assert.deepEqual(a.send(frame(GATEWAY, address(i), 'one')), ['one']);
    assert.deepEqual(a.send(frame(GATEWAY, address(63), 'more')), [DropReason.LinkMac]);
    assert.deepEqual(b.send(frame(address(5), B, 'to the fifth')), []);
    assert.deepEqual(a.got(), ['to the fifth']);
  });

  test('links L-30: an isolated port has its gateway and nobody else', () => {
    const network = new Network();
    const [a, alone] = [network.port(), network.port(true)];
    a.send(frame(GATEWAY, A));
    assert.deepEqual(
      alone.send(frame(GATEWAY, B, 'to us'), frame(A, B, 'to a'), frame(EVERYBODY, B, 'to all')),
      [...['to us', 'to a', 'to all']],
    );
    assert.deepEqual(a.got(), []);
    a.send(frame(B, A, 'to it'), frame(EVERYBODY, A, 'to all'));
    assert.deepEqual(alone.got(), []);
  });

  test('what a neighbour cannot take is lost', () => {
    const { a, b } = threePorts();
    b.wire.full = true;
    a.send(frame(B, A, 'in vain'));
    b.wire.full = false;
    a.send(frame(B, A, 'x'.repeat(1501)), frame(B, A, 'x'.repeat(1500)));
    assert.deepEqual(b.got(), ['x'.repeat(1500)]);
  });

  test('a port that is closed is no neighbour any more', () => {
    const { a, b } = threePorts();
    b.link.close();
    assert.equal(b.wire.isOpen, false);
    assert.deepEqual(a.send(frame(B, A, 'anybody?'), frame(EVERYBODY, A, 'all')), ['anybody?', 'all']);
    assert.deepEqual(b.got(), []);
  });
});
