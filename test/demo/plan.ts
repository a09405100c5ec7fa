/** What the two halves of the demo agree on. */

export const SERVER4 = '198.51.100.1';
export const SERVER6 = '2001:db8::1';
/** Also the host's, also with a server on it, and not in the list of what is allowed. */
export const BLOCKED = '198.51.100.2';
export const HTTP_PORT = 8080;
/** Sends for as long as it is read from. */
export const SOURCE_PORT = 8081;
/** Reads all it gets. */
export const SINK_PORT = 8082;
export const DEMO_NAME = 'www.demo.example';
export const GATEWAY4 = '10.0.2.2';
export const GATEWAY6 = 'fd00::2';

/** Bodies of the files the server has, by size. */
export const SIZES: readonly number[] = [0, 1, 1460, 65536, 64 * 1024 * 1024];

export function hostInUrl(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}
