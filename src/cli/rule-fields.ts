/**
 * What the texts of firewall rules and of forward rules have in common: fields between ":", brackets around addresses,
 * port numbers in the words of Go's strconv.
 */

/**
 * Cuts at ":" outside square brackets. Brackets nest; outermost pairs are removed, inner ones stay. Returns undefined
 * when they do not pair up.
 */
export function splitFields(text: string): string[] | undefined {
  const fields: string[] = [];
  let field = '';
  let depth = 0;
  for (const char of text) {
    if (char === '[' && depth++ === 0) continue;
    if (char === ']' && --depth <= 0) {
      if (depth < 0) return undefined;
      continue;
    }
    if (char === ':' && depth === 0) {
      fields.push(field);
      field = '';
    } else field += char;
  }
  fields.push(field);
  return depth === 0 ? fields : undefined;
}

/** The number, or what strconv.ParseUint says of it: the first fault from the left counts. */
export function parseGoUint16(text: string): number | string {
  let value = 0;
  for (const char of text) {
    if (char < '0' || char > '9') return `strconv.ParseUint: parsing "${text}": invalid syntax`;
    value = value * 10 + Number(char);
    if (value > 65535) return `strconv.ParseUint: parsing "${text}": value out of range`;
  }
  return text === '' ? 'strconv.ParseUint: parsing "": invalid syntax' : value;
}
