/** What can be the name of a host. */

/**
 * Whether `text` can be a DNS name and nothing else (RFC 1123 §2.1, with "_" as DNS-SD uses it). A name whose last
 * label is a number is refused: resolvers read such text as an address in inet_aton(3) forms.
 */
export function isHostName(text: string): boolean {
  const name = text.endsWith('.') ? text.slice(0, -1) : text;
  if (name.length === 0 || name.length > 253) return false;
  const labels = name.split('.');
  if (!labels.every((label) => /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/.test(label)))
    return false;
  return !/^(?:[0-9]+|0[xX][0-9A-Fa-f]*)$/.test(labels[labels.length - 1] ?? '');
}
