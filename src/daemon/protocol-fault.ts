/** The other end does not keep to the protocol: one line is said of it, and the connection ends. */
export class ProtocolFault extends Error {
  override readonly name = 'ProtocolFault';
}

/** Bytes of a peer that are shown. */
const SHOWN_MAX = 64;

/** What a peer sent, for a line of text: printable ASCII, no longer than `SHOWN_MAX`. */
export function shown(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) {
    const isPlain = byte >= 0x20 && byte < 0x7f && byte !== 0x5c;
    const next = isPlain ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
    if (text.length + next.length > SHOWN_MAX) break;
    text += next;
  }
  return text;
}
