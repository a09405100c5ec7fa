/**
 * Streams that are handed to an embedder: it connects to a socket whose name only it was told (unix(7), abstract: nothing to be
 * left behind), and says a word that only it was told, because names can be seen by everybody.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type Socket } from 'node:net';
import { type Duplex, pipeline } from 'node:stream';

const TOKEN_BYTES = 32;
/** How long it may take to come. */
const WAIT_MS = 10_000;

export interface Handed {
  /** Of the socket, without the NUL in front. */
  name: string;
  token: string;
}

/** `stream` ends when nobody comes for it. */
export function handStream(stream: Duplex): Promise<Handed> {
  const name = `tslirp-${randomBytes(16).toString('hex')}`;
  const token = randomBytes(TOKEN_BYTES / 2).toString('hex');
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const timer = setTimeout(() => {
    server.close();
    stream.destroy();
  }, WAIT_MS);
  stream.on('error', () => undefined);
  server.on('connection', (socket) => {
    socket.on('error', () => socket.destroy());
    void readToken(socket).then((said) => {
      if (said === undefined || !timingSafeEqual(said, Buffer.from(token)) || !server.listening) {
        socket.destroy();
        return;
      }
      clearTimeout(timer);
      server.close();
      pipeline(socket, stream, () => undefined);
      pipeline(stream, socket, () => undefined);
    });
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(`\0${name}`, () => resolve({ name, token }));
  });
}

/** Undefined: it has ended before. Nothing more is taken of it. */
function readToken(socket: Socket): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const look = (): void => {
      const said = socket.read(TOKEN_BYTES) as Buffer | null;
      if (said === null && !socket.readableEnded) return;
      socket.off('readable', look);
      resolve(said !== null && said.length === TOKEN_BYTES ? said : undefined);
    };
    socket.on('readable', look);
    socket.once('close', () => resolve(undefined));
    look();
  });
}
