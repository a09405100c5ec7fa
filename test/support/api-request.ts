/** One request of the API socket. */
import { connect } from 'node:net';

export function apiRequest(
  path: string,
  execute: string,
  args: object = {},
): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    socket.on('data', (part: Buffer) => {
      text += part.toString();
    });
    socket.on('error', reject);
    socket.on('end', () => {
      try {
        resolve(JSON.parse(text) as Record<string, unknown>);
      } catch (error) {
        reject(error as Error);
      }
    });
    socket.end(JSON.stringify({ execute, arguments: args }));
  });
}
