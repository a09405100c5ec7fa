/** What a closed port says to a segment (RFC 9293 §3.10.7.1). */
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, type TcpHeader } from '../wire/tcp.ts';
import { seqAdd } from './seq.ts';

/**
 * Make `h` the RST that answers `segment` with its `length` bytes of payload, the other way round. False: a RST is not
 * answered.
 */
export function fillReset(h: TcpHeader, segment: TcpHeader, length: number): boolean {
  if ((segment.flags & TCP_RST) !== 0) return false;
  h.srcPort = segment.dstPort;
  h.dstPort = segment.srcPort;
  h.window = 0;
  h.hasTimestamps = false;
  if ((segment.flags & TCP_ACK) !== 0) {
    h.seq = segment.ack;
    h.ack = 0;
    h.flags = TCP_RST;
    return true;
  }
  const syn = (segment.flags & TCP_SYN) !== 0 ? 1 : 0;
  const fin = (segment.flags & TCP_FIN) !== 0 ? 1 : 0;
  h.seq = 0;
  h.ack = seqAdd(segment.seq, length + syn + fin);
  h.flags = TCP_RST | TCP_ACK;
  return true;
}
