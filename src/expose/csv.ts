/** Lines of comma-separated values (RFC 4180), of texts that may be a guest's. */

/** A spreadsheet would take what begins with one of these for a formula. */
const QUOTED = /[",\r\n]|^[=+\-@]/;

/** With its end. */
export function csvLine(fields: readonly (string | number)[]): string {
  return `${fields.map((field) => csvField(String(field))).join(',')}\n`;
}

function csvField(text: string): string {
  return QUOTED.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
