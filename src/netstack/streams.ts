/** A connection as a pair of streams of the WHATWG, which browsers and Node have alike. */
import type { TcpCloseReason, TcpSocket } from './tcp-socket.ts';

export interface TcpStreams {
  /** Ends with the other end's FIN; fails when the connection is reset. */
  readable: ReadableStream<Uint8Array>;
  /** Closing it sends a FIN, aborting it a reset. A write is done when all of it was taken. */
  writable: WritableStream<Uint8Array>;
}

/** Takes over the socket's handlers. */
export function streamsOf(socket: TcpSocket): TcpStreams {
  let reader: ReadableStreamDefaultController<Uint8Array> | null = null;
  let writer: WritableStreamDefaultController | null = null;
  let resume: (() => void) | null = null;
  const ready = (): void => {
    resume?.();
    resume = null;
  };
  socket.onOpen = ready;
  socket.onDrain = ready;
  socket.onData = (bytes) => {
    reader?.enqueue(bytes);
    if ((reader?.desiredSize ?? 1) <= 0) socket.pause();
  };
  socket.onEnd = () => {
    reader?.close();
    reader = null;
  };
  socket.onClose = (reason: TcpCloseReason) => {
    if (reason !== 'ended') {
      const error = new Error(`the connection was closed: ${reason}`);
      reader?.error(error);
      writer?.error(error);
    }
    reader = null;
    ready();
  };
  const readable = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        reader = controller;
      },
      pull: () => socket.resume(),
      cancel() {
        reader = null;
        socket.abort();
      },
    },
    { highWaterMark: 65536, size: (bytes) => bytes.length },
  );
  const writable = new WritableStream<Uint8Array>({
    start(controller) {
      writer = controller;
    },
    async write(bytes) {
      for (let at = socket.write(bytes); at < bytes.length; at += socket.write(bytes.subarray(at))) {
        if (socket.isOver) throw new Error('the connection is closed');
        await new Promise<void>((resolve) => {
          resume = resolve;
        });
      }
    },
    close: () => socket.end(),
    abort: () => socket.abort(),
  });
  return { readable, writable };
}
