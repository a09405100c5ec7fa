/**
 * The domains with which a host completes short names, as DHCP (RFC 2132 §3.17 domain name, RFC 3397 search list) and router
 * advertisements (RFC 8106 §5.2) carry them. Both take names in the form of RFC 1035 §3.1; compression is allowed in DHCP
 * only, and left out.
 *
 * Limits: 150 bytes of names, so that a DHCP reply stays within the 576 bytes that every client takes; what is beyond them,
 * and what is no name, is left out.
 */

/** Bytes. */
const MOST = 150;
const LABELS = /^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*$/;
const NONE = new Uint8Array(0);

const ascii = new TextEncoder();

export class SearchDomains {
  /** The first one as text. */
  first: Uint8Array = NONE;
  /** All of them, each with its root label. */
  names: Uint8Array = NONE;

  /** From now on these, in their order. */
  set(domains: readonly string[]): void {
    const bytes: number[] = [];
    let first = '';
    for (const domain of domains) {
      const text = domain.replace(/\.$/, '');
      if (!LABELS.test(text) || bytes.length + text.length + 2 > MOST) continue;
      first ||= text;
      for (const label of text.split('.')) bytes.push(label.length, ...ascii.encode(label));
      bytes.push(0);
    }
    this.first = ascii.encode(first);
    this.names = Uint8Array.from(bytes);
  }
}
