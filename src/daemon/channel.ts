/**
 * One end of the control protocol: requests with a number, their answers in any order, notices without either. Both ends are
 * the same but for their role. What the other end does wrong is a `ProtocolFault`: one notice, then the connection ends.
 */
import type { Readable, Writable } from 'node:stream';
import { type ErrorCode, errorCodes, TslirpError } from '../embed/errors.ts';
import { FrameDecoder } from './frames.ts';
import { FreshIds } from './fresh-ids.ts';
import {
  formatVersion,
  GreetingReader,
  greeting,
  negotiate,
  type Role,
  type Version,
  versions,
} from './handshake.ts';
import { type Kind, OutQueue, QUEUE_MAX } from './out-queue.ts';
import { ProtocolFault, shown } from './protocol-fault.ts';
import { type JsonObject, parseStrict } from './strict-json.ts';

/** How long the other end's greeting may take. */
const HANDSHAKE_MS = 5000;
/** Requests of the other end that are not answered yet. */
const OPEN_MAX = 64;
/** An end that does not even read its answers is dead. */
const STUCK_MS = 10_000;

export interface ChannelStreams {
  input: Readable;
  output: Writable;
}

export interface ChannelHandlers {
  /** The fields of the answer; rejects with what went wrong. */
  request: (type: string, fields: JsonObject) => Promise<object>;
  notice: (type: string, fields: JsonObject) => void;
  /** Whether nothing may follow the answer to this. */
  isLast?: (type: string, fields: JsonObject) => boolean;
  /** Once: nothing comes any more. */
  ended: (why: ChannelEnd) => void;
  /** All frames of a piece were handed over, and there is no part of another. */
  idle?: () => void;
}

/** The end of the stream; an end that does not read its answers; what the other end did wrong. */
export type ChannelEnd = 'eof' | 'stuck' | ProtocolFault;

interface Waiting {
  resolve: (fields: JsonObject) => void;
  reject: (error: TslirpError) => void;
}

export interface ChannelTimes {
  handshakeMs?: number;
  stuckMs?: number;
}

/** The other end does not know this request. */
const UNKNOWN_TYPE = 'UNKNOWN_TYPE';

export class UnknownType extends Error {
  override readonly name = 'UnknownType';
  readonly code: 'UNKNOWN_TYPE' = UNKNOWN_TYPE;
}

export class Channel {
  /** Resolves with what both speak; never when the channel ends before. */
  readonly opened: Promise<Version>;
  readonly #input: Readable;
  readonly #output: Writable;
  readonly #handlers: ChannelHandlers;
  readonly #stuckMs: number;
  readonly #queue = new OutQueue();
  readonly #frames = new FrameDecoder();
  readonly #greeting: GreetingReader;
  readonly #theirs = new FreshIds();
  readonly #waiting = new Map<number, Waiting>();
  #open!: (version: Version) => void;
  /** Frames may be sent. */
  #isOpen = false;
  #nextId = 1;
  #openRequests = 0;
  #isBlocked = false;
  /** The last frame was sent, or is in the queue. */
  #isSilent = false;
  /** The output is to be closed. */
  #isFinished = false;
  #hasEnded = false;
  #handshakeTimer: NodeJS.Timeout | undefined;
  #stuckTimer: NodeJS.Timeout | undefined;

  constructor(
    role: Role,
    { input, output }: ChannelStreams,
    handlers: ChannelHandlers,
    times: ChannelTimes = {},
  ) {
    this.#input = input;
    this.#output = output;
    this.#handlers = handlers;
    this.#stuckMs = times.stuckMs ?? STUCK_MS;
    this.#greeting = new GreetingReader(role === 'stack' ? 'embedder' : 'stack');
    this.opened = new Promise((resolve) => {
      this.#open = resolve;
    });
    this.#handshakeTimer = setTimeout(
      () =>
        this.#fault(
          new ProtocolFault(`handshake: got "${shown(this.#greeting.soFar)}" in 5 s, and no newline`),
        ),
      times.handshakeMs ?? HANDSHAKE_MS,
    );
    // Whoever does not read any more is found out by the end of what it writes.
    output.on('error', () => {
      this.#isBlocked = true;
    });
    output.on('drain', () => {
      this.#isBlocked = false;
      this.#pump();
    });
    input.on('error', () => this.#end('eof'));
    input.on('end', () => this.#end('eof'));
    input.on('close', () => this.#end('eof'));
    output.write(greeting(role));
    input.on('data', (chunk: Buffer) => this.#take(chunk));
  }

  /** The answer's fields. Rejects with a `TslirpError`; aborted, with ABORTED: an answer that comes later is ignored. */
  call(type: string, fields: object, signal?: AbortSignal): Promise<JsonObject> {
    return new Promise((resolve, reject) => {
      if (this.#hasEnded || this.#isSilent) {
        reject(gone());
        return;
      }
      const id = this.#nextId++;
      const onAbort = (): void => {
        this.#waiting.delete(id);
        reject(new TslirpError('ABORTED', `${type}: aborted`, { cause: signal?.reason }));
      };
      if (signal?.aborted === true) {
        onAbort();
        return;
      }
      signal?.addEventListener('abort', onAbort, { once: true });
      const settled =
        <Value>(settle: (value: Value) => void) =>
        (value: Value): void => {
          signal?.removeEventListener('abort', onAbort);
          settle(value);
        };
      this.#waiting.set(id, { resolve: settled(resolve), reject: settled(reject) });
      try {
        this.#send('call', { id, type, ...fields });
      } catch (error) {
        this.#waiting.delete(id);
        reject(tooLong(error, type));
      }
    });
  }

  notify(kind: Kind, message: { type: string; [field: string]: unknown }): void {
    try {
      this.#send(kind, message);
    } catch (error) {
      // Too long for a frame: of what may be lost, this is.
      if (!(error instanceof RangeError)) throw error;
    }
  }

  /** Nothing more is sent than waits already; resolves when all of that is through, or nobody reads it. */
  finish(): Promise<void> {
    this.#isSilent = true;
    this.#isFinished = true;
    return new Promise((resolve) => {
      if (this.#output.destroyed || this.#output.writableFinished) {
        resolve();
        return;
      }
      this.#output.once('close', resolve);
      this.#output.once('error', () => resolve());
      this.#output.once('finish', resolve);
      this.#pump();
    });
  }

  #send(kind: Kind, message: object): void {
    if (this.#isSilent) return;
    this.#queue.add(kind, message);
    this.#pump();
  }

  #pump(): void {
    while (!this.#isBlocked && this.#isOpen) {
      const frame = this.#queue.take();
      if (frame === undefined) break;
      this.#isBlocked = !this.#output.write(frame);
    }
    const isDone = this.#queue.bytes === 0 || !this.#isOpen;
    if (this.#isFinished && isDone) this.#output.end();
    this.#mindFullness();
  }

  /** As long as answers are not read, nothing more is asked that has one. */
  #mindFullness(): void {
    const isFull = this.#queue.callBytes + this.#output.writableLength > QUEUE_MAX;
    if (isFull === (this.#stuckTimer !== undefined)) return;
    if (isFull) {
      this.#input.pause();
      this.#stuckTimer = setTimeout(() => this.#end('stuck'), this.#stuckMs);
      return;
    }
    clearTimeout(this.#stuckTimer);
    this.#stuckTimer = undefined;
    this.#input.resume();
  }

  #take(chunk: Buffer): void {
    if (this.#hasEnded) return;
    try {
      let rest: Buffer | undefined = chunk;
      if (this.#greeting.versions === undefined) {
        rest = this.#greeting.push(chunk);
        if (rest === undefined) return;
        this.#agree();
      }
      this.#frames.push(rest);
      for (let frame = this.#frames.next(); frame !== undefined; frame = this.#frames.next())
        this.#receive(parseStrict(frame));
      if (this.#frames.isEmpty) this.#handlers.idle?.();
    } catch (error) {
      if (!(error instanceof ProtocolFault)) throw error;
      this.#fault(error);
    }
  }

  #agree(): void {
    clearTimeout(this.#handshakeTimer);
    const { versions: theirs = [] } = this.#greeting;
    const version = negotiate(versions, theirs);
    if (version === undefined) {
      const [spoken, known] = [theirs, versions].map((list) => list.map(formatVersion).join(','));
      throw new ProtocolFault(`handshake: the other end speaks ${spoken}; accepted: ${known}`);
    }
    this.#isOpen = true;
    this.#open(version);
    this.#pump();
  }

  #receive(message: JsonObject): void {
    const { id, re, type, ...fields } = message;
    if (re !== undefined) {
      this.#answered(re, message);
      return;
    }
    if (typeof type !== 'string') throw new ProtocolFault('a message without a type');
    if (id === undefined) {
      this.#handlers.notice(type, fields);
      return;
    }
    if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 1)
      throw new ProtocolFault('a request whose id is no positive integer');
    if (!this.#theirs.use(id)) throw new ProtocolFault(`the id ${id} for a second request`);
    void this.#answer(id, type, fields);
  }

  async #answer(id: number, type: string, fields: JsonObject): Promise<void> {
    if (this.#openRequests >= OPEN_MAX) {
      this.#refuse(id, new TslirpError('LIMIT', `more than ${OPEN_MAX} requests at a time`));
      return;
    }
    this.#openRequests++;
    try {
      this.#send('call', { re: id, ok: true, ...(await this.#handlers.request(type, fields)) });
      if (this.#handlers.isLast?.(type, fields) === true) this.#isSilent = true;
    } catch (error) {
      this.#refuse(id, tooLong(error, type));
    } finally {
      this.#openRequests--;
    }
  }

  #refuse(re: number, error: unknown): void {
    const { code, message, detail } =
      error instanceof TslirpError || error instanceof UnknownType
        ? (error as TslirpError)
        : new TslirpError('INTERNAL', String(error));
    const text = message.slice(0, MESSAGE_MAX);
    this.#send('call', { re, ok: false, code, message: text, ...(detail === undefined ? {} : { detail }) });
  }

  #answered(re: unknown, { ok, code, message, detail, ...fields }: JsonObject): void {
    if (typeof ok !== 'boolean') throw new ProtocolFault('an answer without "ok"');
    const waiting = this.#waiting.get(re as number);
    // Of a call that was given up.
    if (waiting === undefined) return;
    this.#waiting.delete(re as number);
    if (ok) waiting.resolve(fields);
    else waiting.reject(refused(code, message, detail));
  }

  #fault(fault: ProtocolFault): void {
    if (this.#hasEnded) return;
    if (this.#isOpen)
      this.notify('call', { type: 'protocol.error', code: 'PROTOCOL', message: fault.message });
    this.#end(fault);
  }

  #end(why: ChannelEnd): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#handshakeTimer);
    clearTimeout(this.#stuckTimer);
    for (const { reject } of this.#waiting.values()) reject(gone());
    this.#waiting.clear();
    this.#handlers.ended(why);
  }
}

/** Characters of an error's message on the wire. */
const MESSAGE_MAX = 4096;

function gone(): TslirpError {
  return new TslirpError('CHILD_EXITED', 'the other end is gone');
}

function tooLong(error: unknown, type: string): unknown {
  return error instanceof RangeError ? new TslirpError('LIMIT', `${type}: ${error.message}`) : error;
}

/** The other end's words. A code of a newer one is not known. */
function refused(code: unknown, message: unknown, detail: unknown): TslirpError {
  const known = errorCodes.find((each) => each === code) as ErrorCode | undefined;
  const text = typeof message === 'string' ? message : 'refused';
  const isObject = typeof detail === 'object' && detail !== null;
  return new TslirpError(
    known ?? 'PROTOCOL',
    text,
    isObject ? { detail: detail as Record<string, unknown> } : {},
  );
}
