/**
 * One datagram on its way to being whole: which parts came, whether they fit together, and their bytes.
 * The table of all of them, with its limits and times, is in reassembly.ts.
 *
 * Parts are kept sorted by offset and never overlap, so the datagram is whole when the lengths add up to the end that
 * the last part announced. RFC 5722 (and RFC 8200 §4.5) asks that an overlap kill the datagram; an exact repetition
 * of a part is what a duplicating link makes and is ignored. The same rule holds for IPv4 (RFC 1858, RFC 3128: an
 * overlap there is how headers are rewritten behind a filter's back).
 */
import { IpAddress } from '../wire/address.ts';
import { DropReason } from '../wire/drop-reason.ts';
import { PROTOCOL_ICMPV6 } from '../wire/icmp.ts';
import {
  NEXT_HEADER_DESTINATION,
  NEXT_HEADER_FRAGMENT,
  NEXT_HEADER_HOP_BY_HOP,
  NEXT_HEADER_ROUTING,
} from '../wire/ipv6.ts';
import { PROTOCOL_TCP } from '../wire/tcp.ts';
import { PROTOCOL_UDP } from '../wire/udp.ts';

/** What the kept copy of one part costs beside its bytes: typed array, its buffer, list entries (V8, rounded up). */
export const PART_OVERHEAD = 256;

export class FragmentedDatagram {
  // The key.
  readonly src: IpAddress = new IpAddress();
  readonly dst: IpAddress = new IpAddress();
  /** IPv4: the protocol, a part of the key. IPv6: -1, since the parts may disagree there (RFC 8200 §4.5). */
  keyProtocol = 0;
  id = 0;

  hash = 0;
  deadlineMs: number = Number.POSITIVE_INFINITY;
  /** Which of the table's groups it belongs to. */
  group = 0;
  /** Its time is up; it only waits for its first part to be quoted. */
  expired = false;
  /** Negative: the datagram was given up for this reason, and its later parts are dropped for it. */
  dropReason = 0;
  /** Bytes kept, with overhead: what counts against the limits. */
  bytesHeld = 0;
  /** Protocol (IPv6: next header) that the first part named. */
  protocol = 0;
  /** Bytes of IP header before the payload in the kept copy of the first part; -1 = first part not seen. */
  firstHeaderLen = -1;
  /** Payload bytes kept. */
  payloadLen = 0;
  /** Payload bytes of the whole, or -1 while the last part is missing. */
  totalLen = -1;
  partCount = 0;
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #parts: Uint8Array[] = [];
  /** Where `check` found that the new part belongs. */
  #insertAt = 0;

  /** Forget everything but the key. */
  clear(): void {
    this.group = 0;
    this.expired = false;
    this.dropReason = 0;
    this.dropParts();
  }

  /** Free the kept bytes. */
  dropParts(): void {
    this.#starts.length = 0;
    this.#ends.length = 0;
    this.#parts.length = 0;
    this.bytesHeld = 0;
    this.firstHeaderLen = -1;
    this.payloadLen = 0;
    this.totalLen = -1;
    this.partCount = 0;
  }

  isWhole(): boolean {
    return this.payloadLen === this.totalLen;
  }

  /**
   * Does the part that covers payload bytes `start` … `start + len` (at `off` in `view`, `len` > 0) fit?
   * 1 = new and fitting; 0 = repetition of a part that is here; negative = the datagram is to be given up.
   */
  check(view: DataView, off: number, len: number, start: number, more: boolean): number {
    const end = start + len;
    // Parts mostly come in order: look from the end.
    let at = this.partCount;
    while (at > 0 && (this.#starts[at - 1] as number) > start) at--;
    if (at > 0 && (this.#ends[at - 1] as number) > start) {
      if (
        this.#starts[at - 1] !== start ||
        this.#ends[at - 1] !== end ||
        !this.#sameBytes(at - 1, view, off, len)
      )
        return DropReason.FragOverlap;
      return (end === this.totalLen) === !more ? 0 : DropReason.FragInconsistent;
    }
    if (at < this.partCount && (this.#starts[at] as number) < end) return DropReason.FragOverlap;

    const highest = this.partCount === 0 ? 0 : (this.#ends[this.partCount - 1] as number);
    if (more ? this.totalLen >= 0 && end >= this.totalLen : this.totalLen >= 0 || highest > end)
      return DropReason.FragInconsistent;
    this.#insertAt = at;
    return 1;
  }

  /**
   * Keep a copy of the part that `check` has just found fitting. The first part is kept with the `headerLen` bytes
   * of IP header before `off`, because an ICMP error quotes them.
   */
  store(view: DataView, off: number, len: number, start: number, more: boolean, headerLen: number): void {
    const lead = start === 0 ? headerLen : 0;
    const copy = new Uint8Array(view.buffer, view.byteOffset + off - lead, lead + len).slice();
    if (start === 0) this.firstHeaderLen = headerLen;
    for (let i = this.partCount; i > this.#insertAt; i--) {
      this.#starts[i] = this.#starts[i - 1] as number;
      this.#ends[i] = this.#ends[i - 1] as number;
      this.#parts[i] = this.#parts[i - 1] as Uint8Array;
    }
    this.#starts[this.#insertAt] = start;
    this.#ends[this.#insertAt] = start + len;
    this.#parts[this.#insertAt] = copy;
    this.partCount++;
    this.payloadLen += len;
    this.bytesHeld += copy.length + PART_OVERHEAD;
    if (!more) this.totalLen = start + len;
  }

  /** Write the payload of the whole datagram to `out` at `outOff`. */
  copyPayload(out: Uint8Array, outOff: number): void {
    for (let i = 0; i < this.partCount; i++) {
      const part = this.#parts[i] as Uint8Array;
      const start = this.#starts[i] as number;
      out.set(start === 0 ? part.subarray(this.firstHeaderLen) : part, outOff + start);
    }
  }

  /** Write up to `limit` bytes of the first part as it came, IP header included; how many. */
  copyQuote(out: Uint8Array, outOff: number, limit: number): number {
    const first = this.#parts[0] as Uint8Array;
    const len = Math.min(limit, first.length);
    out.set(first.subarray(0, len), outOff);
    return len;
  }

  #sameBytes(index: number, view: DataView, off: number, len: number): boolean {
    const part = this.#parts[index] as Uint8Array;
    const lead = part.length - len;
    for (let i = 0; i < len; i++) if (part[lead + i] !== view.getUint8(off + i)) return false;
    return true;
  }
}

/**
 * Does the header chain that begins with `nextHeader` at `off` end within the `len` bytes of a first part, upper
 * layer header included (RFC 7112)? 1 = yes, 0 = no, -1 = there is another fragment header in it. Whether the headers
 * make sense is for the walk over the whole datagram to say.
 */
export function checkHeaderChain(view: DataView, off: number, len: number, nextHeader: number): number {
  let header = nextHeader;
  let at = 0;
  while (
    header === NEXT_HEADER_HOP_BY_HOP ||
    header === NEXT_HEADER_ROUTING ||
    header === NEXT_HEADER_DESTINATION
  ) {
    if (len - at < 8) return 0;
    header = view.getUint8(off + at);
    at += 8 + 8 * view.getUint8(off + at + 1);
  }
  if (header === NEXT_HEADER_FRAGMENT) return -1;
  const upperLayer =
    header === PROTOCOL_TCP ? 20 : header === PROTOCOL_UDP || header === PROTOCOL_ICMPV6 ? 8 : 0;
  return len - at >= upperLayer ? 1 : 0;
}
