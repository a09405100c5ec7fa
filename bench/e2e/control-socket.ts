/** One request to the API socket of slirp4netns, or of tslirp in its place: a connection each, as its callers do. */
import { createConnection } from 'node:net';

const TIMEOUT_MS = 5000;

/** Send `request`; the answer. Rejects when there is none within 5 s, or it is an error. */
export async function call(path: string, request: object): Promise<Record<string, unknown>> {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = createConnection({ path, allowHalfOpen: true });
    let answer = '';
    socket
      .setTimeout(TIMEOUT_MS, () => socket.destroy(new Error(`${path}: no answer within ${TIMEOUT_MS} ms`)))
      .setEncoding('utf8')
      .on('data', (part: string) => {
        answer += part;
      })
      .on('end', () => {
        socket.destroy();
        resolve(answer);
      })
      .on('error', reject)
      .end(JSON.stringify(request));
  });
  const answer = JSON.parse(text) as Record<string, unknown>;
  if ('error' in answer) throw new Error(`API: ${text}`);
  return answer;
}
