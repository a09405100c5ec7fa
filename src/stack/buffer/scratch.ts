/**
 * Memory of the stack in which nothing is kept from one frame to the next: one set for all guests of a data plane, of whom
 * one runs at a time.
 */
import type { Slab } from './slab.ts';

/** Room in front of the transport header: vnet 10, Ethernet 14, IPv6 40, fragment header 8, aligned. */
const HEADROOM = 128;
/** Room for a transport header with options, or a whole message: an ICMP error, a DHCP reply. */
const BODY = 2048;
/** Payload of the largest datagram. */
const DATAGRAM = 65536;
/** The longest quote of an ICMP error. */
const QUOTE = 1280;

export class StackScratch {
  readonly slab: Slab;
  /** Where transport headers are written, with room for all others in front. */
  readonly transport: number;
  /** Where the payload of a datagram that came in fragments is put together. */
  readonly datagram: number;
  /** Where the packet that an ICMP error quotes is put together. */
  readonly quote: number;

  constructor(slab: Slab) {
    this.slab = slab;
    this.transport = slab.region(HEADROOM + BODY) + HEADROOM;
    this.datagram = slab.region(DATAGRAM);
    this.quote = slab.region(QUOTE);
  }
}
