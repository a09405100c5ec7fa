/** Which segment or datagram of ours an ICMP error is about. */
import type { Packet } from '../link/packet.ts';
import type { IpAddress } from '../wire/address.ts';
import { ICMP_HEADER_LEN } from '../wire/icmp.ts';
import { IPV4_HEADER_LEN } from '../wire/ipv4.ts';
import { IPV6_HEADER_LEN } from '../wire/ipv6.ts';

/** What an ICMP error quotes of a segment or datagram of ours. */
export class QuotedSegment {
  ports = 0;
  seq = 0;

  /**
   * Read the quote in `p`, with the addresses of what is quoted in `from` and `to`; false: it is not of `protocol` (TCP
   * or UDP). `ports` has the guest's in the upper 16 bits; `seq` is only TCP's.
   */
  read(view: DataView, p: Packet, protocol: number, from: IpAddress, to: IpAddress): boolean {
    const at = p.offset + ICMP_HEADER_LEN;
    const length = p.length - ICMP_HEADER_LEN;
    let headerLength = IPV6_HEADER_LEN;
    if (p.isV4) {
      if (length < IPV4_HEADER_LEN) return false;
      headerLength = (view.getUint8(at) & 0xf) * 4;
      // A later fragment has no ports.
      const isFragment = (view.getUint16(at + 6) & 0x1fff) !== 0;
      if (headerLength < IPV4_HEADER_LEN || isFragment || view.getUint8(at + 9) !== protocol) return false;
    } else if (length < IPV6_HEADER_LEN || view.getUint8(at + 6) !== protocol) {
      return false;
    }
    if (length < headerLength + 8) return false;
    if (p.isV4) {
      from.readV4(view, at + 12);
      to.readV4(view, at + 16);
    } else {
      from.readV6(view, at + 8);
      to.readV6(view, at + 24);
      if (from.isV4 || to.isV4) return false;
    }
    const tcp = at + headerLength;
    this.ports = ((view.getUint16(tcp + 2) << 16) | view.getUint16(tcp)) >>> 0;
    this.seq = view.getUint32(tcp + 4);
    return true;
  }
}
