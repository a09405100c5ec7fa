/**
 * A client of a WebSocket whose frames are a guest's: between its messages and the stream that leads to the data plane.
 *
 * Nothing is queued for a reader that is slow: the stream is not read any more, which makes TCP wait and drops datagrams
 * there. One that takes nothing for `STUCK_MS` is cut off, and so is one that does not answer pings.
 */
import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { FrameCutter, lengthPrefix } from './frame-cutter.ts';

/** Bytes that may be on their way into the client's socket. */
const UNSENT_BYTES = 256 * 1024;
const STUCK_MS = 10_000;
const PING_MS = 20_000;
const GONE_MS = 40_000;
/** Least Ethernet frame that has anything in it. */
const LEAST_FRAME = 14;
/** Status codes (RFC 6455 §7.4.1). */
const GOING_AWAY = 1001;
const UNSUPPORTED = 1003;

export class WebSocketClient {
  readonly #socket: WebSocket;
  readonly #stream: Socket;
  readonly #isStream: boolean;
  readonly #cutter = new FrameCutter();
  readonly #onEnd: (why: string) => void;
  readonly #pings: NodeJS.Timeout;
  #stuck: NodeJS.Timeout | undefined;
  #heardMs = Date.now();
  #ended = false;

  /** `isStream`: its messages are pieces of the stream as it is. `onEnd` is called once. */
  constructor(socket: WebSocket, stream: Socket, isStream: boolean, onEnd: (why: string) => void) {
    this.#socket = socket;
    this.#stream = stream;
    this.#isStream = isStream;
    this.#onEnd = onEnd;
    socket.on('message', (data, isBinary) => this.#onMessage(data as Buffer, isBinary));
    socket.on('pong', () => this.#heard());
    socket.on('ping', () => this.#heard());
    socket.on('close', (code) => this.end(`closed by the client (${code})`));
    socket.on('error', (error) => this.end(error.message));
    stream.on('data', (piece: Buffer) => this.#onPiece(piece));
    stream.on('drain', () => socket.resume());
    stream.on('error', (error) => this.end(error.message));
    stream.on('close', () => this.end('its guest has ended'));
    this.#pings = setInterval(() => this.#ping(), PING_MS);
  }

  end(why: string): void {
    if (this.#ended) return;
    this.#ended = true;
    clearInterval(this.#pings);
    clearTimeout(this.#stuck);
    this.#stream.destroy();
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.close(GOING_AWAY, why.slice(0, 100));
    else this.#socket.terminate();
    this.#onEnd(why);
  }

  #cutOff(why: string): void {
    this.#socket.terminate();
    this.end(why);
  }

  #heard(): void {
    this.#heardMs = Date.now();
  }

  #ping(): void {
    if (Date.now() - this.#heardMs >= GONE_MS) this.#cutOff(`nothing was heard for ${GONE_MS / 1000} s`);
    else this.#socket.ping();
  }

  #onMessage(data: Buffer, isBinary: boolean): void {
    this.#heard();
    if (!isBinary) {
      this.#socket.close(UNSUPPORTED, 'frames are binary');
      return;
    }
    if (!this.#isStream && data.length < LEAST_FRAME) return;
    this.#stream.cork();
    if (!this.#isStream) this.#stream.write(lengthPrefix(data.length));
    const hasRoom = this.#stream.write(data);
    this.#stream.uncork();
    if (!hasRoom) this.#socket.pause();
  }

  #onPiece(piece: Buffer): void {
    if (this.#isStream) this.#send(piece);
    else for (const frame of this.#cutter.add(piece)) this.#send(frame);
    if (this.#socket.bufferedAmount <= UNSENT_BYTES) return;
    this.#stream.pause();
    this.#stuck ??= setTimeout(() => this.#cutOff('it does not take what is sent to it'), STUCK_MS);
  }

  #send(message: Buffer): void {
    this.#socket.send(message, { binary: true, compress: false }, () => this.#sent());
  }

  /** The client's socket has taken something. */
  #sent(): void {
    if (this.#stuck === undefined || this.#ended) return;
    this.#stuck.refresh();
    if (this.#socket.bufferedAmount > UNSENT_BYTES / 2) return;
    clearTimeout(this.#stuck);
    this.#stuck = undefined;
    this.#stream.resume();
  }
}
