/**
 * The MSS option of TCP segments that pass through, made no larger than the way ahead has room for: not all hosts learn of a
 * narrow path (RFC 2923 §2.1). Only SYN segments have one (RFC 9293 §3.2); what is malformed is left as it is.
 */
import { checksum } from './checksum.ts';
import { ipv4Payload } from './ipv4.ts';
import { ipv6Payload } from './ipv6.ts';
import { PROTOCOL_TCP, TCP_CHECKSUM_OFF, TCP_HEADER_LEN, TCP_SYN } from './tcp.ts';

const DATA_OFFSET_AT = 12;
const FLAGS_AT = 13;
const OPTION_END = 0;
const OPTION_NOTHING = 1;
const OPTION_MSS = 2;
const OPTION_MSS_LENGTH = 4;
const HEADERS_V4 = 40;
const HEADERS_V6 = 60;

/** Look at the IP packet of `length` bytes at `offset`; `mtu`: of the way ahead, in bytes of IP packet. */
export function clampMss(view: DataView, offset: number, length: number, mtu: number): void {
  const isV4 = view.getUint8(offset) >>> 4 === 4;
  const at = isV4
    ? ipv4Payload(view, offset, length, PROTOCOL_TCP)
    : ipv6Payload(view, offset, length, PROTOCOL_TCP);
  if (at < 0 || at + TCP_HEADER_LEN > length) return;
  const tcp = offset + at;
  if ((view.getUint8(tcp + FLAGS_AT) & TCP_SYN) === 0) return;
  const end = tcp + (view.getUint8(tcp + DATA_OFFSET_AT) >>> 4) * 4;
  if (end > offset + length) return;
  const most = mtu - (isV4 ? HEADERS_V4 : HEADERS_V6);
  let option = tcp + TCP_HEADER_LEN;
  while (option + 1 < end) {
    const kind = view.getUint8(option);
    if (kind === OPTION_END) return;
    if (kind === OPTION_NOTHING) {
      option++;
      continue;
    }
    const size = view.getUint8(option + 1);
    if (size < 2 || option + size > end) return;
    if (kind === OPTION_MSS && size === OPTION_MSS_LENGTH) lower(view, tcp, option + 2, most);
    option += size;
  }
}

/** RFC 1624 §3, equation 3. An option may begin at an odd place, where its bytes are in two words of the sum. */
function lower(view: DataView, tcp: number, at: number, most: number): void {
  const before = view.getUint16(at);
  if (before <= most) return;
  view.setUint16(at, most);
  const isOdd = (at - tcp) % 2 === 1;
  const old = isOdd ? swap(before) : before;
  const now = isOdd ? swap(most) : most;
  const sum = view.getUint16(tcp + TCP_CHECKSUM_OFF);
  view.setUint16(tcp + TCP_CHECKSUM_OFF, checksum((~sum & 0xffff) + (~old & 0xffff) + now));
}

function swap(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}
