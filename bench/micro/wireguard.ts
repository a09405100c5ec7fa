/**
 * What a packet of WireGuard costs (L-52): sealed and opened, by OpenSSL's own functions and by node:crypto; and on its whole way
 * from a frame to the other end's guest, by two links and their sockets on the loopback interface, all in one thread.
 */
import { randomBytes } from 'node:crypto';
import { RxFrame } from '../../src/device/device-link.ts';
import { FrameIo } from '../../src/device/frame-io.ts';
import { WireGuardInterface } from '../../src/device/wireguard-interface.ts';
import type { WireGuardLink } from '../../src/device/wireguard-link.ts';
import type { WireGuardDevice } from '../../src/device-spec.ts';
import { EventLoop } from '../../src/engine/event-loop.ts';
import { Slab } from '../../src/stack/buffer/slab.ts';
import { TxFrame } from '../../src/stack/link/link.ts';
import { parseIpAddress } from '../../src/stack/wire/address.ts';
import { evpCiphers } from '../../src/sys/chacha20-poly1305.ts';
import { Memory } from '../../src/sys/memory.ts';
import { blake2s } from '../../src/wireguard/blake2s.ts';
import { nodeCiphers } from '../../src/wireguard/node-cipher.ts';
import { PrivateKey } from '../../src/wireguard/primitives.ts';
import type { CipherMaker } from '../../src/wireguard/transport.ts';
import { type Case, type CaseGroup, keep } from './case.ts';

/** A packet of MTU 1420 with its padding. */
const LENGTH = 1420;
const group = 'wireguard';

function packetCases(name: string, bytes: Uint8Array, maker: CipherMaker): Case[] {
  const cipher = maker(randomBytes(32));
  bytes.fill(0x5a, 0, LENGTH);
  cipher.seal(0, LENGTH, 7);
  const sealed = bytes.slice(0, LENGTH + 16);
  let counter = 0;
  return [
    { group, name: `seal ${LENGTH} bytes, ${name}`, run: () => cipher.seal(4096, LENGTH, counter++) },
    {
      group,
      name: `open ${LENGTH} bytes, ${name}`,
      run: () => {
        bytes.set(sealed, 0);
        keep(cipher.open(0, LENGTH, 7) ? 1 : 0);
      },
    },
  ];
}

/** A batch, as a turn has it. */
const BATCH = 64;
const ADDRESSES = ['10.9.0.1', '10.9.0.2'] as const;

class LinkPair {
  readonly #slab = new Slab(16 * 1024 * 1024, 128);
  readonly #memory = new Memory(this.#slab.buffer, 65_536);
  readonly #loop = new EventLoop(this.#memory, this.#slab, (error) => {
    throw error;
  });
  readonly #frames = new FrameIo(this.#slab, this.#memory);
  readonly #keys = [randomBytes(32), randomBytes(32)].map((key) => Uint8Array.from(key));
  readonly #from: WireGuardLink;
  readonly #to: WireGuardLink;
  readonly #out = new TxFrame();
  #received = 0;

  constructor() {
    const [to, port] = this.#link(0, 0);
    const [from] = this.#link(1, port);
    const head = this.#slab.region(LENGTH);
    const [a, b] = ADDRESSES.map((address) => parseIpAddress(address).w3) as [number, number];
    const { view } = this.#slab;
    view.setUint16(head, 0x4500);
    view.setUint16(head + 2, LENGTH);
    view.setUint32(head + 12, b);
    view.setUint32(head + 16, a);
    this.#out.headOffset = head;
    this.#out.headLength = 40;
    this.#out.payloadLength = LENGTH - 40;
    this.#out.parts.count = 1;
    this.#out.parts.offset[0] = head + 40;
    this.#out.parts.length[0] = LENGTH - 40;
    this.#from = from;
    this.#to = to;
    const frame = new RxFrame();
    const idle = (): void => undefined;
    const owner = { onMtu: idle, onUnsent: idle, onGone: idle, onUp: idle, onDown: idle };
    from.open({ ...owner, onFrames: idle });
    to.open({
      ...owner,
      onFrames: () => {
        while (to.receive(0, frame) > 0) this.#received++;
      },
    });
    this.carry(1);
  }

  /** Send `count` packets and have them arrive. */
  carry(count: number): void {
    const wanted = this.#received + count;
    for (let i = 0; i < count; i++) this.#from.transmit(this.#out);
    this.#from.flush();
    while (this.#received < wanted) this.#loop.turn();
  }

  close(): void {
    this.#from.close();
    this.#to.close();
  }

  #link(which: 0 | 1, port: number): [WireGuardLink, number] {
    const loop = this.#loop;
    const services = {
      ...{ memory: this.#memory, frames: this.#frames, poller: loop, timers: loop.timers, clock: loop.clock },
      touched: () => undefined,
      onPeer: () => undefined,
      log: () => undefined,
    };
    const device: WireGuardDevice = {
      ...{ kind: 'wireguard', interface: `wg${which}`, listenPort: 0, mtu: LENGTH },
      privateKey: this.#keys[which]!.slice(),
      peer: {
        publicKey: new PrivateKey(this.#keys[1 - which]!).publicKey,
        presharedKey: null,
        allowedIps: [{ address: ADDRESSES[1 - which]!, bits: 128 }],
        endpoint: port === 0 ? null : { address: '127.0.0.1', port },
        keepaliveSeconds: 0,
      },
    };
    const wireguard = new WireGuardInterface(services, device, () => undefined);
    return [wireguard.join(services, device), wireguard.port];
  }
}

export function wireguardCases(): CaseGroup {
  const buffer = new ArrayBuffer(65_536);
  const bytes = new Uint8Array(buffer);
  const evp = evpCiphers(new Memory(buffer));
  const [ours, theirs] = [new PrivateKey(randomBytes(32)), new PrivateKey(randomBytes(32))];
  const message = randomBytes(116);
  const pair = new LinkPair();
  return {
    cases: [
      ...(evp === null ? [] : packetCases('OpenSSL', bytes, evp)),
      ...packetCases('node:crypto', bytes, nodeCiphers(bytes)),
      {
        group,
        name: 'a packet from link to link, of 64 in a turn',
        run: () => pair.carry(BATCH),
        calls: BATCH,
      },
      { group, name: 'mac1 of an initiation', run: () => keep(blake2s(16, theirs.publicKey, message)[0]!) },
      { group, name: 'X25519', run: () => keep(ours.agree(theirs.publicKey)![0]!) },
    ],
    close: () => pair.close(),
  };
}
