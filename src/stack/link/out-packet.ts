/**
 * A packet to be sent. There is one for each `Egress`: whoever sends fills it, beginning with one of that class's
 * `begin…`, which set everything that is not the caller's to what most packets have.
 */
import { Parts } from '../buffer/byte-queue.ts';
import { IpAddress } from '../wire/address.ts';
import { MAX_PARTS } from './link.ts';

/** RFC 1122 §3.2.1.7 and what every current system uses. */
export const DEFAULT_TTL = 64;
/** For `macHi`: the neighbour table has the link address. */
export const BY_ADDRESS = -1;
/** For `checksumAt`: there is no checksum, or it is there already. */
export const NO_CHECKSUM = -1;

export class OutPacket {
  /** Both of one family. Borrowed until the packet is sent. */
  src: IpAddress = new IpAddress();
  dst: IpAddress = new IpAddress();
  protocol = 0;
  ttl: number = DEFAULT_TTL;
  /** It is sent in one piece, whatever the MTU; or else in fragments where it must be. */
  dontFragment = false;
  /** Bytes of the message that stand at `Egress.transport`: its header, or all of it. */
  headLength = 0;
  /** The rest of the message, wherever it lies, and how many bytes that is. */
  readonly parts: Parts = new Parts(MAX_PARTS);
  payloadLength = 0;
  /** Where in the head the checksum over pseudo-header and message is to be put. */
  checksumAt: number = NO_CHECKSUM;
  /** The device is to cut the payload into segments or datagrams of this many bytes (the last may be shorter); 0: it is one. */
  segmentSize = 0;
  /** The link address it goes to, whatever is known of `dst`. */
  macHi: number = BY_ADDRESS;
  macLo = 0;

  /** Add a piece of payload: at most `MAX_PARTS`. */
  add(offset: number, length: number): void {
    if (length === 0) return;
    this.parts.add(offset, length);
    this.payloadLength += length;
  }
}
