/** Programs for `Namespace.evaluate`: bytes to a server and from one. They see nothing but their arguments. */

/** Sends the bytes of `sampleBytes(size)` to a `digest` server and gets its answer. */
export async function send(host: string, port: number, size: number): Promise<string> {
  const { connect } = await import('node:net');
  const { createHash } = await import('node:crypto');
  const body = createHash('shake256', { outputLength: size }).update('tslirp').digest();
  return await new Promise((resolve, reject) => {
    let text = '';
    const socket = connect({ host, port, allowHalfOpen: true }, () => socket.end(body));
    socket.on('data', (part: Buffer) => {
      text += part.toString('latin1');
    });
    socket.on('end', () => resolve(text)).on('error', reject);
  });
}

/** SHA-256 of what comes. */
export async function receive(host: string, port: number): Promise<string> {
  const { connect } = await import('node:net');
  const { createHash } = await import('node:crypto');
  return await new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    const socket = connect({ host, port });
    socket.on('data', (part: Buffer) => hash.update(part));
    socket.on('end', () => resolve(hash.digest('hex'))).on('error', reject);
  });
}
