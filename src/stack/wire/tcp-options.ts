/**
 * TCP options (RFC 9293 §3.1 and §3.2, RFC 7323, RFC 2018).
 *
 * Known: MSS, window scale, SACK permitted, SACK, timestamps. Others are skipped by their length. Reading stops at the first
 * bad length with `optionError` set (hazard T-02); what came before stays, and the segment itself is not at fault. A SACK
 * option of a wrong size is ignored (T-14). Whether an option is allowed on this segment is for the caller to decide.
 */

/** Bytes that the data offset field leaves for options. */
export const TCP_MAX_OPTIONS_LEN = 40;

const OPTION_EOL = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;
const OPTION_WINDOW_SCALE = 3;
const OPTION_SACK_PERMITTED = 4;
const OPTION_SACK = 5;
const OPTION_TIMESTAMPS = 8;

/** NOP NOP TIMESTAMPS 10: how every common stack aligns the option on data segments. */
const ALIGNED_TIMESTAMPS = 0x0101080a;

/** The options of one segment, with "absent" values that keep every field a number or boolean. */
export class TcpOptions {
  /** Bytes; -1 = absent. */
  mss = -1;
  /** Shift count as sent (may exceed 14, RFC 7323 §2.3); -1 = absent. */
  windowScale = -1;
  sackPermitted = false;
  hasTimestamps = false;
  tsVal = 0;
  tsEcr = 0;
  /** Blocks in use of `sackLeft` and `sackRight`. */
  sackCount = 0;
  readonly sackLeft: Uint32Array = new Uint32Array(4);
  readonly sackRight: Uint32Array = new Uint32Array(4);
  /** A bad length ended the reading. */
  optionError = false;
}

/** Resets all fields of `out` and reads the options between `start` and `end` (offsets in the view). */
export function parseTcpOptions(view: DataView, start: number, end: number, out: TcpOptions): void {
  out.mss = -1;
  out.windowScale = -1;
  out.sackPermitted = false;
  out.hasTimestamps = false;
  out.tsVal = 0;
  out.tsEcr = 0;
  out.sackCount = 0;
  out.optionError = false;
  let p = start;
  if (end - p >= 12 && view.getUint32(p) === ALIGNED_TIMESTAMPS) {
    out.hasTimestamps = true;
    out.tsVal = view.getUint32(p + 4);
    out.tsEcr = view.getUint32(p + 8);
    p += 12;
  }
  while (p < end) {
    const kind = view.getUint8(p);
    if (kind === OPTION_EOL) return;
    if (kind === OPTION_NOP) {
      p++;
      continue;
    }
    const length = end - p < 2 ? 0 : view.getUint8(p + 1);
    if (length < 2 || length > end - p || !readOption(view, p, kind, length, out)) {
      out.optionError = true;
      return;
    }
    p += length;
  }
}

/** False when a known option has a length that it cannot have. */
function readOption(view: DataView, p: number, kind: number, length: number, out: TcpOptions): boolean {
  switch (kind) {
    case OPTION_MSS:
      if (length !== 4) return false;
      out.mss = view.getUint16(p + 2);
      return true;
    case OPTION_WINDOW_SCALE:
      if (length !== 3) return false;
      out.windowScale = view.getUint8(p + 2);
      return true;
    case OPTION_SACK_PERMITTED:
      if (length !== 2) return false;
      out.sackPermitted = true;
      return true;
    case OPTION_SACK:
      readSackBlocks(view, p, length, out);
      return true;
    case OPTION_TIMESTAMPS:
      if (length !== 10) return false;
      out.hasTimestamps = true;
      out.tsVal = view.getUint32(p + 2);
      out.tsEcr = view.getUint32(p + 6);
      return true;
    default:
      return true;
  }
}

function readSackBlocks(view: DataView, p: number, length: number, out: TcpOptions): void {
  if ((length & 7) !== 2) return;
  // The option space of 40 bytes cannot hold more than 4 blocks.
  const count = (length - 2) >>> 3;
  for (let i = 0; i < count; i++) {
    out.sackLeft[i] = view.getUint32(p + 2 + 8 * i);
    out.sackRight[i] = view.getUint32(p + 6 + 8 * i);
  }
  out.sackCount = count;
}

/** Bytes of the options other than SACK blocks. */
function fixedLength(o: TcpOptions): number {
  let n = 0;
  if (o.mss >= 0) n += 4;
  // SACK permitted shares the timestamps' 12 bytes: it takes the place of the two NOPs.
  if (o.hasTimestamps) n += 12;
  else if (o.sackPermitted) n += 4;
  if (o.windowScale >= 0) n += 4;
  return n;
}

/** How many of the SACK blocks fit behind `used` bytes. */
function sackBlocksThatFit(o: TcpOptions, used: number): number {
  const room = (TCP_MAX_OPTIONS_LEN - 4 - used) >> 3;
  return Math.min(o.sackCount, room);
}

/** Bytes that {@link emitTcpOptions} will write; a multiple of 4, at most 40. */
export function tcpOptionsLength(o: TcpOptions): number {
  const n = fixedLength(o);
  if (o.sackCount === 0) return n;
  const blocks = sackBlocksThatFit(o, n);
  return blocks > 0 ? n + 4 + 8 * blocks : n;
}

/** Writes the options in the layout that Linux uses, aligned with leading NOPs; returns the bytes written. */
export function emitTcpOptions(view: DataView, off: number, o: TcpOptions): number {
  let p = off;
  if (o.mss >= 0) {
    view.setUint32(p, (OPTION_MSS << 24) | (4 << 16) | o.mss);
    p += 4;
  }
  if (o.hasTimestamps) {
    view.setUint32(p, o.sackPermitted ? 0x0402080a : ALIGNED_TIMESTAMPS);
    view.setUint32(p + 4, o.tsVal);
    view.setUint32(p + 8, o.tsEcr);
    p += 12;
  } else if (o.sackPermitted) {
    view.setUint32(p, 0x01010402);
    p += 4;
  }
  if (o.windowScale >= 0) {
    view.setUint32(p, 0x01030300 | o.windowScale);
    p += 4;
  }
  if (o.sackCount > 0) {
    const blocks = sackBlocksThatFit(o, p - off);
    if (blocks > 0) {
      view.setUint32(p, 0x01010500 | (2 + 8 * blocks));
      p += 4;
      for (let i = 0; i < blocks; i++) {
        view.setUint32(p, o.sackLeft[i] ?? 0);
        view.setUint32(p + 4, o.sackRight[i] ?? 0);
        p += 8;
      }
    }
  }
  return p - off;
}
