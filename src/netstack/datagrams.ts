/** UDP of a stack: datagrams as objects, and those that wait until it is known where on the link they go. */
import type { Slab } from '../stack/buffer/slab.ts';
import type { Egress } from '../stack/link/egress.ts';
import type { Packet } from '../stack/link/packet.ts';
import { Neighbor, type NeighborTable } from '../stack/neighbor/cache.ts';
import type { Solicitor } from '../stack/neighbor/solicitor.ts';
import { type IpAddress, parseIpAddress } from '../stack/wire/address.ts';
import { UDP_HEADER_LEN, type UdpHeader } from '../stack/wire/udp.ts';

/** A UDP datagram. Addresses as text, without a zone. */
export interface Datagram {
  localAddress: string;
  localPort: number;
  remoteAddress: string;
  remotePort: number;
  data: Uint8Array;
}

/** RFC 1122 §2.3.2.2 wants one to be kept for each address that is asked for; these are for all of them. */
const MOST_WAITING = 16;
/** Payload of the largest datagram of IPv4. */
const LARGEST = 65507;

interface Waiting {
  readonly to: IpAddress;
  readonly datagram: Datagram;
}

export class Datagrams {
  readonly #slab: Slab;
  readonly #at: number;
  readonly #egress: Egress;
  readonly #neighbors: NeighborTable;
  readonly #solicitor: Solicitor;
  readonly #isEthernet: boolean;
  readonly #neighbor = new Neighbor();
  #waiting: Waiting[] = [];

  constructor(
    slab: Slab,
    egress: Egress,
    neighbors: NeighborTable,
    solicitor: Solicitor,
    medium: 'ethernet' | 'ip',
  ) {
    this.#slab = slab;
    this.#at = slab.region(LARGEST);
    this.#egress = egress;
    this.#neighbors = neighbors;
    this.#solicitor = solicitor;
    this.#isEthernet = medium === 'ethernet';
  }

  /** What has come, with the payload in bytes of its own. */
  received(p: Packet, h: UdpHeader): Datagram {
    const at = p.offset + UDP_HEADER_LEN;
    return {
      localAddress: p.dst.toString(),
      localPort: h.dstPort,
      remoteAddress: p.src.toString(),
      remotePort: h.srcPort,
      data: this.#slab.bytes.slice(at, at + h.length - UDP_HEADER_LEN),
    };
  }

  /** @throws RangeError for addresses of two families, ports that are none, and more than 65,507 bytes */
  send(datagram: Datagram): void {
    const to = parseIpAddress(datagram.remoteAddress);
    if (parseIpAddress(datagram.localAddress).isV4 !== to.isV4)
      throw new RangeError(`${datagram.localAddress} and ${to.toString()} are of two families`);
    if (datagram.data.length > LARGEST) throw new RangeError(`a datagram of ${datagram.data.length} bytes`);
    for (const port of [datagram.localPort, datagram.remotePort])
      if (!Number.isInteger(port) || port < 1 || port > 65535) throw new RangeError(`${port} is not a port`);
    if (!this.#isEthernet || to.isGroup || this.#neighbors.route(to, this.#neighbor)) {
      this.#transmit(to, datagram);
      return;
    }
    this.#solicitor.solicit(to);
    if (this.#waiting.length === MOST_WAITING) this.#waiting.shift();
    this.#waiting.push({ to, datagram: { ...datagram, data: datagram.data.slice() } });
  }

  /** A way that was not known is: what has waited for it goes. */
  onLearned(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const one of waiting) {
      if (this.#neighbors.route(one.to, this.#neighbor)) this.#transmit(one.to, one.datagram);
      else this.#waiting.push(one);
    }
  }

  #transmit(to: IpAddress, { localAddress, localPort, remotePort, data }: Datagram): void {
    this.#slab.bytes.set(data, this.#at);
    this.#egress.beginUdp(parseIpAddress(localAddress), localPort, to, remotePort).add(this.#at, data.length);
    this.#egress.send();
  }
}
