/**
 * The API socket: a unix stream socket, one JSON request and one answer per connection, as slirp4netns has it.
 *
 * A request is answered as soon as a whole JSON value has arrived, or the client has closed its side, or has said nothing
 * more for a while; the answer is one write, and then the connection is closed. All of it happens on the main thread, so
 * that no client, however slow or silent, is ever between the data plane and a packet.
 *
 * A client that subscribes to events is another matter: it stays (subscriptions.ts).
 *
 * Limits: 32 clients are kept, 256 for a quarter of a second; beyond that, those who have their answer have to go first,
 * then the one that has been silent for longest. Bytes per request; 30 s from the last piece of the request to the answer
 * taken.
 */
import { fstatSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { ApiSpec } from '../config.ts';
import type { ApiCommands } from './commands.ts';
import { ApiError } from './fields.ts';
import { RequestText, TextState } from './request-text.ts';
import { listenOn } from './socket-file.ts';
import type { StreamAnswer } from './subscriptions.ts';

const CLIENTS_KEPT = 32;
/** A burst of clients that come, ask and go is not a crowd: nobody is sent away from it for being slow by this much. */
const BURST_MS = 250;
const CLIENTS_AT_ONCE = 256;
const IDLE_MS = 30_000;
/** A request that has begun and does not go on. The original answers after its first read in any case. */
const PARTIAL_MS = 3000;
/** Nonsense: more of it may come, and then the answer is that it is too large. */
const INVALID_MS = 100;
/** After the answer: for bytes still on their way, which would turn our close into a reset. */
const LINGER_MS = 1000;

function patience(state: TextState, idleMs: number): number {
  if (state === TextState.Empty) return idleMs;
  return state === TextState.Partial ? PARTIAL_MS : INVALID_MS;
}

/** The answer that says what was wrong. */
function refusal(reason: string): string {
  return JSON.stringify({ error: { desc: `bad request: ${reason}` } });
}

/** Nobody but the runtime knows the descriptor, and it tells nobody. Rejects when it is closed already. */
async function inodeOf(socket: Socket): Promise<number> {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } | null };
  return fstatSync(handle?.fd ?? -1).ino;
}

export interface ApiServerOptions {
  spec: ApiSpec;
  commands: Pick<ApiCommands, 'run'>;
  /** Told about what must not happen: a request that failed for a reason of ours. */
  onError: (error: unknown) => void;
  /** How long a client may say nothing before its request, ms. */
  idleMs?: number;
  /** Told of every request, in the original's words. */
  trace?: ((text: string) => void) | undefined;
  /** Whether the client at the other end of the socket with this inode is to be served; without, every one is. */
  admits?: ((inode: number) => Promise<boolean>) | undefined;
}

export class ApiServer {
  private readonly options: ApiServerOptions;
  private readonly server: Server;
  /** Clients whose request is not complete, longest silent first. */
  private readonly waiting = new Set<Client>();
  /** Clients that have their answer and not closed their side, longest first. */
  private readonly lingering = new Set<Client>();
  private clients = 0;
  private watching = false;

  constructor(options: ApiServerOptions) {
    this.options = options;
    const accept = options.admits === undefined ? this.accept : this.judge;
    this.server = createServer({ allowHalfOpen: true }, (socket) => accept.call(this, socket));
  }

  /** Resolves when clients can connect; rejects with `SocketFileError`. */
  async listen(): Promise<void> {
    await listenOn(this.server, this.options.spec.path);
    this.server.on('error', this.options.onError);
    // A socket to be asked is no reason to go on when the rest has ended.
    this.server.unref();
  }

  private judge(socket: Socket): void {
    socket.on('error', () => socket.destroy());
    const admitted = inodeOf(socket).then((inode) => this.options.admits?.(inode));
    void admitted
      .catch(() => false)
      .then((admitted) => {
        const client = this.accept(socket);
        if (admitted !== true) client?.refuse('not from inside');
      });
  }

  private accept(socket: Socket): Client | undefined {
    if (this.clients >= CLIENTS_AT_ONCE && !this.part(0)) {
      socket.on('error', () => undefined);
      socket.end(refusal('too many clients'), () => socket.destroy());
      return undefined;
    }
    this.clients++;
    this.watch();
    const client = new Client(socket, this.options, {
      heard: () => {
        this.waiting.delete(client);
        this.waiting.add(client);
      },
      settled: () => this.waiting.delete(client),
      answered: () => this.lingering.add(client),
      gone: () => {
        this.waiting.delete(client);
        this.lingering.delete(client);
        this.clients--;
      },
    });
    this.waiting.add(client);
    return client;
  }

  /** See to it, in a while, that no more clients are kept than may be. */
  private watch(): void {
    if (this.watching || this.clients <= CLIENTS_KEPT) return;
    this.watching = true;
    // After a stall, what has arrived meanwhile is read first: only then it shows who has been silent.
    const look = (): void => {
      this.watching = false;
      while (this.clients > CLIENTS_KEPT && this.part(BURST_MS));
      this.watch();
    };
    setTimeout(() => setImmediate(look), BURST_MS).unref();
  }

  /** Part with the client that needs us least, if it has been silent for that long. False: there is none. */
  private part(silentMs: number): boolean {
    const [done] = this.lingering;
    if (done !== undefined) {
      done.close();
      return true;
    }
    const [silent] = this.waiting;
    if (silent === undefined || performance.now() - silent.heardAt < silentMs) return false;
    silent.dismiss('too many clients');
    return true;
  }
}

interface ClientEvents {
  heard: () => void;
  /** No more of the request is wanted. */
  settled: () => void;
  /** The answer is on its way. */
  answered: () => void;
  /** It does not count any more. */
  gone: () => void;
}

class Client {
  private readonly socket: Socket;
  private readonly options: ApiServerOptions;
  private readonly events: ClientEvents;
  private readonly request: RequestText;
  private readonly idleMs: number;
  private timer: NodeJS.Timeout;
  private answering = false;
  private counted = true;
  /** When it last said something, or came. */
  heardAt: number = performance.now();

  constructor(socket: Socket, options: ApiServerOptions, events: ClientEvents) {
    this.socket = socket;
    this.options = options;
    this.events = events;
    this.request = new RequestText(options.spec.requestMax);
    this.idleMs = options.idleMs ?? IDLE_MS;
    this.timer = setTimeout(() => this.expire(), this.idleMs);
    socket.on('data', (part: Buffer) => this.receive(part));
    socket.on('end', () => this.finish());
    // A client that has gone needs no answer.
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      clearTimeout(this.timer);
      this.leave();
    });
  }

  /** Say why in place of an answer. */
  refuse(reason: string): void {
    this.answering = true;
    this.events.settled();
    this.reply(refusal(reason));
  }

  /** Say why, and close at once. */
  dismiss(reason: string): void {
    if (this.answering) return;
    this.answering = true;
    this.events.settled();
    this.socket.end(refusal(reason), () => this.close());
    this.leave();
    this.wait(LINGER_MS);
  }

  private receive(part: Buffer): void {
    // What follows a request is read only to be thrown away.
    if (this.answering) return;
    const state = this.request.push(part);
    if (state === TextState.Complete || state === TextState.TooLarge) this.finish();
    else {
      this.heardAt = performance.now();
      this.events.heard();
      this.wait(patience(state, this.idleMs));
    }
  }

  private expire(): void {
    if (this.answering) this.close();
    else if (this.request.state === TextState.Empty) this.dismiss('timed out');
    else this.finish();
  }

  private wait(ms: number): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.expire(), ms);
  }

  private finish(): void {
    if (this.answering) return;
    this.answering = true;
    this.events.settled();
    const answer = this.answer();
    if (typeof answer === 'object' && 'begin' in answer) this.stream(answer);
    else if (answer instanceof Promise) void answer.then((text) => this.reply(text));
    else this.reply(answer);
  }

  /** It stays for as long as its client does, and is none of those that are waited for. */
  private stream(answer: StreamAnswer): void {
    const { socket } = this;
    clearTimeout(this.timer);
    this.leave();
    const end = answer.begin(socket);
    socket.once('end', () => socket.end());
    socket.once('close', end);
  }

  private reply(text: string | Buffer): void {
    const { socket } = this;
    if (socket.destroyed) return;
    socket.end(text, () => {
      // With both sides at their end, the connection closes by itself.
      if (socket.readableEnded) return;
      this.events.answered();
      this.wait(LINGER_MS);
    });
  }

  close(): void {
    this.socket.destroy();
    this.leave();
  }

  private leave(): void {
    if (!this.counted) return;
    this.counted = false;
    this.events.gone();
  }

  private answer(): string | Buffer | StreamAnswer | Promise<string | Buffer> {
    const { request } = this;
    this.options.trace?.(`apifd event\napi_handler: got request: ${printable(request.text() ?? '')}\n`);
    if (request.state === TextState.TooLarge) return refusal('too large message');
    try {
      const answer = this.options.commands.run(parse(request));
      return answer instanceof Promise ? answer.catch((error) => this.failure(error)) : answer;
    } catch (error) {
      return this.failure(error);
    }
  }

  private failure(error: unknown): string {
    if (!(error instanceof ApiError)) this.options.onError(error);
    return refusal(error instanceof ApiError ? error.message : 'failed');
  }
}

function parse(request: RequestText): unknown {
  try {
    return request.value();
  } catch {
    throw new ApiError('cannot parse JSON');
  }
}

/** Without what a terminal would act upon. */
function printable(text: string): string {
  return text.replace(/[^\n\t -~\u00a0-\uffff]/g, '?');
}
