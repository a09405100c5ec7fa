/**
 * Simple Proxy Protocol (Cloudflare): 38 bytes in front of a datagram that name its real client.
 *
 *   magic 0x56ec (2) | client address (16) | proxy address (16) | client port (2) | proxy port (2)
 *
 * All big endian, IPv4 addresses mapped.
 */
import { IpAddress } from '../../stack/wire/address.ts';

export const SPP_HEADER_LEN = 38;
const SPP_MAGIC = 0x56ec;

/** What `parseSpp` finds wrong, and how that is said. */
export const SppProblem = { None: 0, Short: -1, Magic: -2 } as const;
export type SppProblem = (typeof SppProblem)[keyof typeof SppProblem];
export const sppProblemTexts: readonly string[] = ['', 'unexpected EOF', 'spp: bad magic number'];

export class SppHeader {
  readonly client: IpAddress = new IpAddress();
  readonly proxy: IpAddress = new IpAddress();
  clientPort = 0;
  proxyPort = 0;
}

/** Read the header of a datagram of `length` bytes at `off`. */
export function parseSpp(view: DataView, off: number, length: number, out: SppHeader): SppProblem {
  if (length < SPP_HEADER_LEN) return SppProblem.Short;
  if (view.getUint16(off) !== SPP_MAGIC) return SppProblem.Magic;
  // Mapped is how the header writes IPv4, so here it is no disguise.
  out.client.readV6(view, off + 2);
  out.proxy.readV6(view, off + 18);
  out.clientPort = view.getUint16(off + 34);
  out.proxyPort = view.getUint16(off + 36);
  return SppProblem.None;
}
