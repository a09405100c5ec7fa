/**
 * Packets of an interface that are for somebody at the other end of a tunnel: they are handed on as they are, both ways, and no
 * stack looks at them. All that is done is what a router does where the way becomes narrow: it says so (RFC 1191), and
 * makes the MSS of TCP fit, because not everybody hears it.
 */
import {
  type DeviceLink,
  type EndReason,
  type LinkOwner,
  type LinkServices,
  RxFrame,
} from '../device/device-link.ts';
import { DeviceError } from '../device-error.ts';
import { TOO_BIG_BYTES, TooBig } from '../stack/icmp/too-big.ts';
import { TxFrame } from '../stack/link/link.ts';
import { RateLimit } from '../stack/rate-limit.ts';
import { clampMss } from '../stack/wire/mss-clamp.ts';
import { errnoText } from '../sys/errno.ts';

/** Errors of ours a second, and at once. */
const ERROR_RATE = 100;
const ERROR_BURST = 50;

export interface RelayServices extends Pick<LinkServices, 'frames' | 'poller' | 'clock'> {
  /** The interface is gone for good. */
  linkGone(reason: EndReason, text: string): void;
}

/** One of both ways. */
class Way implements LinkOwner {
  /** Packets that the other side did not take. */
  lost = 0;
  readonly #relay: Relay;
  readonly #from: DeviceLink;
  readonly #to: DeviceLink;
  readonly #services: RelayServices;
  readonly #frame = new RxFrame();
  readonly #out = new TxFrame();

  constructor(relay: Relay, services: RelayServices, from: DeviceLink, to: DeviceLink) {
    this.#relay = relay;
    this.#services = services;
    this.#from = from;
    this.#to = to;
  }

  /** @throws DeviceError */
  open(): void {
    const result = this.#from.open(this);
    if (result < 0) throw new DeviceError('link', -result, `cannot watch the device: ${errnoText(result)}`);
  }

  onFrames(): void {
    const { batchFrames } = this.#services.clock;
    const frame = this.#frame;
    for (let index = 0; index < batchFrames; index++) {
      const result = this.#from.receive(index, frame);
      if (result === 0) return;
      if (result > 0 && frame.length > 0) this.#pass(frame.offset, frame.length);
      else this.lost++;
    }
  }

  #pass(offset: number, length: number): void {
    const to = this.#to;
    if (length > to.mtu) {
      this.lost++;
      this.#relay.tellTooBig(this.#from, offset, length, to.mtu);
      return;
    }
    clampMss(this.#services.frames.slab.view, offset, length, Math.min(to.mtu, this.#from.mtu));
    const out = this.#out;
    out.headOffset = offset;
    out.headLength = length;
    if (to.transmit(out) < 0) this.lost++;
  }

  onUnsent(frames: number): void {
    this.lost += frames;
  }

  onMtu(): void {
    // It is looked at for every packet.
  }

  onGone(reason: EndReason, text: string): void {
    this.#services.linkGone(reason, text);
  }

  onDown(): void {
    return;
  }

  onUp(): void {
    return;
  }
}

export class Relay {
  readonly #services: RelayServices;
  readonly #inner: DeviceLink;
  readonly #outer: DeviceLink;
  readonly #outward: Way;
  readonly #inward: Way;
  readonly #tooBig: TooBig;
  readonly #errorAt: number;
  readonly #limit = new RateLimit(ERROR_RATE, ERROR_BURST);
  readonly #error = new TxFrame();

  /** Both links are closed with it. @throws DeviceError */
  constructor(services: RelayServices, inner: DeviceLink, outer: DeviceLink) {
    this.#services = services;
    this.#inner = inner;
    this.#outer = outer;
    const { slab } = services.frames;
    this.#tooBig = new TooBig(slab);
    this.#errorAt = slab.region(TOO_BIG_BYTES);
    this.#outward = new Way(this, services, inner, outer);
    this.#inward = new Way(this, services, outer, inner);
    this.#outward.open();
    this.#inward.open();
  }

  /** The packet of `length` bytes at `offset` has come by `link`, and its way takes `mtu`. */
  tellTooBig(link: DeviceLink, offset: number, length: number, mtu: number): void {
    if (!this.#limit.allow(this.#services.clock.nowMs)) return;
    const size = this.#tooBig.write(this.#errorAt, offset, length, mtu);
    if (size === 0) return;
    this.#error.headOffset = this.#errorAt;
    this.#error.headLength = size;
    link.transmit(this.#error);
  }

  /** End of a turn in which there was anything. */
  endTurn(): void {
    this.#inner.flush();
    this.#outer.flush();
  }

  gauges(): Record<string, number> {
    return {
      ...this.#outer.gauges?.(),
      'relay.out_lost': this.#outward.lost,
      'relay.in_lost': this.#inward.lost,
    };
  }

  close(): void {
    this.#inner.close();
    this.#outer.close();
  }
}
