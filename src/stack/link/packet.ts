/** A parsed packet from the guest. One instance, filled for each packet: whatever outlives the call must be copied. */
import { IpAddress } from '../wire/address.ts';
import { foldSum, pseudoHeaderSum, sumBytes } from '../wire/checksum.ts';

export class Packet {
  isV4 = true;
  readonly src: IpAddress = new IpAddress();
  readonly dst: IpAddress = new IpAddress();
  /** TTL or hop limit as it arrived. */
  ttl = 0;
  /** Type of service or traffic class. */
  tos = 0;
  dontFragment = false;
  protocol = 0;
  /** The IP header in the arena and the bytes from there to the end of the packet, for quoting. */
  ipOffset = 0;
  ipLength = 0;
  /** Transport header and payload. */
  offset = 0;
  length = 0;
  /** The link address of the sender; -1: the medium has none. */
  macHi = -1;
  macLo = 0;
  /** The frame was for a group of stations, or all. */
  linkGroup = false;
  /** The link vouches for the transport checksum. */
  checksumGood = false;
  /** Payload bytes per segment when the device handed over a super-segment; 0 = a plain packet. */
  gsoSize = 0;
  /** Arrived in fragments; `ipOffset` then shows the header of the last one only. */
  reassembled = false;
}

/** Whether the sum over pseudo-header, transport header and payload is right (RFC 9293 §3.1, RFC 768, RFC 4443 §2.3). */
export function hasGoodSum(view: DataView, p: Packet, protocol: number): boolean {
  const pseudo = pseudoHeaderSum(p.src, p.dst, protocol, p.length);
  return foldSum(sumBytes(view, p.offset, p.length, pseudo)) === 0xffff;
}
