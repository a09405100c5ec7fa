/**
 * A link whose other end comes and goes. Peers come from a `PeerSource`; each becomes a link of its own for as long as it is
 * there. Without one nothing is sent, and `full` has TCP wait: a guest that comes back goes on where it was (L-6).
 */
import type { Medium } from '../device-spec.ts';
import type { TxFrame } from '../stack/link/link.ts';
import { ENETDOWN } from '../sys/errno.ts';
import type { EndReason, FrameLink, FrameOwner, LinkOwner, RxFrame } from './device-link.ts';
import { StreamGreeting } from './greeting.ts';
import type { GreetingSteps } from './greetings.ts';
import type { PeerServices, PeerSource } from './peer-source.ts';
import { PlainLink } from './plain-link.ts';

export interface PeerLinkOptions {
  name: string;
  medium: Medium;
  mtu: number;
  /** The first peer's end is that of the link. */
  oneOff: boolean;
  /** What a peer says before the first frame, if anything. */
  greeting: (() => GreetingSteps) | null;
  /** A link on a peer's socket, which is then the link's. */
  connect: (fd: number) => FrameLink;
}

export class PeerLink extends PlainLink implements FrameOwner {
  readonly #services: PeerServices;
  readonly #source: PeerSource;
  readonly #options: PeerLinkOptions;
  #owner: LinkOwner | null = null;
  #greeting: StreamGreeting | null = null;
  #peer: FrameLink | null = null;
  /** What was wrong with the last greeting; none since a peer was there. */
  #fault = '';

  constructor(services: PeerServices, source: PeerSource, options: PeerLinkOptions) {
    super(options);
    this.#services = services;
    this.#source = source;
    this.#options = options;
  }

  get full(): boolean {
    return this.#peer === null || this.#peer.full;
  }

  open(owner: LinkOwner): number {
    this.#owner = owner;
    this.#source.start((fd, who) => this.#greet(fd, who));
    return 0;
  }

  receive(index: number, frame: RxFrame): number {
    return this.#peer === null ? 0 : this.#peer.receive(index, frame);
  }

  transmit(frame: TxFrame): number {
    return this.#peer === null ? -ENETDOWN : this.#peer.transmit(frame);
  }

  flush(): void {
    this.#peer?.flush();
  }

  close(): void {
    this.#owner = null;
    this.#source.close();
    this.#greeting?.close();
    this.#peer?.close();
    this.#peer = null;
  }

  onFrames(): void {
    this.#owner?.onFrames();
  }

  onUnsent(frames: number): void {
    this.#owner?.onUnsent(frames);
  }

  /** The peer's end. */
  onGone(reason: EndReason, text: string): void {
    this.#peer?.close();
    this.#peer = null;
    if (this.#options.oneOff) {
      this.#owner?.onGone(reason, text);
      return;
    }
    this.#owner?.onDown(reason, text);
    if (this.#owner !== null) this.#source.again();
  }

  #greet(fd: number, who: string): void {
    const { greeting, name } = this.#options;
    if (greeting === null) {
      this.#meet(fd, who);
      return;
    }
    this.#greeting = new StreamGreeting(this.#services, fd, greeting(), {
      greeted: (stream) => {
        this.#greeting = null;
        this.#meet(stream, who);
      },
      failed: (reason) => {
        this.#greeting = null;
        // One that is dialed says the same every second.
        if (reason !== this.#fault)
          this.#services.log('warn', `${name}: the peer (${who}) was no good: ${reason}`);
        this.#fault = reason;
        this.#source.again();
      },
    });
    this.#greeting.start();
  }

  #meet(fd: number, who: string): void {
    const peer = this.#options.connect(fd);
    this.#peer = peer;
    this.#fault = '';
    const result = peer.open(this);
    if (result < 0) {
      this.onGone('error', 'it cannot be watched');
      return;
    }
    this.#owner?.onUp(who);
  }
}
