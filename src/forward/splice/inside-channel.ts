/**
 * The channel to the broker's child in the guest's namespace (bin/broker.pl, `make_sockets`), which makes sockets for us, and
 * changes addresses and routes.
 *
 * They are made in advance: the more are taken, the more at a time, so that where there are many connections there is next to no
 * asking. While none are taken there is nothing in stock.
 *
 * Limits: `STOCK_MAX` in stock of each kind, and one question for each under way; `LISTENS_MAX` of those that are to listen. Who
 * waits is bounded by who asks.
 */
import { type Clock, type IoHandler, type Poller, TimerNode, type Timers } from '../../loop.ts';
import { EPOLLIN } from '../../sys/epoll.ts';
import { EAGAIN, EINTR, ENOTCONN } from '../../sys/errno.ts';
import { close } from '../../sys/io.ts';
import type { Exchange } from '../../sys/netns/exchange.ts';
import { MessageSocket } from '../../sys/pass-descriptor.ts';
import {
  familyOf,
  type InsidePlace,
  type InsideSockets,
  SocketKind,
  type SocketTaker,
  typeOf,
} from './inside-sockets.ts';

/** SOCKETS_MAX of bin/broker.pl. */
const STOCK_MAX = 32;
/** What was not taken for so long is closed. */
const IDLE_MS = 5000;
/** Wishes at a time, so that there is always room for them in the socket. */
const LISTENS_MAX = 32;
/** Of the interface that is looked up, in hexadecimal. */
const MESSAGE_BYTES = 8192;

/** Of one kind of socket. */
interface Stock {
  readonly kind: SocketKind;
  readonly fds: number[];
  readonly takers: SocketTaker[];
  /** Asked for next time. */
  batch: number;
  isAsked: boolean;
}

/** One that is to listen. */
interface Listen {
  readonly place: InsidePlace;
  readonly done: (fd: number) => void;
}

export class InsideChannel extends TimerNode implements InsideSockets, IoHandler {
  waiting = false;
  readonly #poller: Poller;
  readonly #timers: Timers;
  readonly #clock: Clock;
  readonly #stocks: readonly Stock[];
  /** By number, those that were asked for and those that are not yet, in order. */
  readonly #listens = new Map<number, Listen>();
  readonly #later: Listen[] = [];
  /** Who waits for answers to netlink messages, which come in order; null: there will be none. */
  readonly #exchanges: ((answer: DataView | null) => void)[] = [];
  #socket: MessageSocket | null = null;
  #token = -1;
  #lastListen = 0;
  #usedAt = 0;

  constructor(poller: Poller, timers: Timers, clock: Clock) {
    super();
    this.#poller = poller;
    this.#timers = timers;
    this.#clock = clock;
    this.#stocks = Object.values(SocketKind).map((kind) => ({
      ...{ kind, fds: [], takers: [], batch: 1, isAsked: false },
    }));
  }

  get isOpen(): boolean {
    return this.#socket !== null;
  }

  /** Takes over `fd`, which leads to the child. */
  open(fd: number): void {
    this.close();
    this.#token = this.#poller.add(fd, EPOLLIN, this);
    if (this.#token < 0) {
      close(fd);
      return;
    }
    this.#socket = new MessageSocket(fd, MESSAGE_BYTES, STOCK_MAX);
  }

  /** Whoever waits is told. */
  close(): void {
    const socket = this.#socket;
    if (socket === null) return;
    this.#socket = null;
    this.#poller.remove(this.#token);
    close(socket.fd);
    this.#timers.cancel(this);
    this.deadline = Number.POSITIVE_INFINITY;
    for (const stock of this.#stocks) {
      stock.isAsked = false;
      for (const taken of stock.fds.splice(0)) close(taken);
      for (const taker of stock.takers.splice(0)) taker.onSocket(-ENOTCONN);
    }
    const listens = [...this.#listens.values(), ...this.#later.splice(0)];
    this.#listens.clear();
    for (const { done } of listens) done(-ENOTCONN);
    for (const done of this.#exchanges.splice(0)) done(null);
  }

  /** What `steps` want done with the guest's addresses and routes; `done` gets what it comes to, null: nobody did it. */
  carryOut<T>(steps: Exchange<T>, done: (result: T | null) => void): void {
    const step = ({ done: isDone, value }: IteratorResult<Uint8Array | null, T>): void => {
      if (isDone === true) done(value);
      else if (value === null || this.#say(['route', Buffer.from(value).toString('hex')]) < 0) done(null);
      else this.#exchanges.push((answer) => (answer === null ? done(null) : step(steps.next(answer))));
    };
    step(steps.next());
  }

  take(kind: SocketKind, taker: SocketTaker): void {
    const stock = this.#stocks[kind] as Stock;
    if (this.#socket === null) {
      taker.onSocket(-ENOTCONN);
      return;
    }
    this.#used();
    const fd = stock.fds.pop();
    if (fd === undefined) stock.takers.push(taker);
    if (stock.fds.length <= stock.batch / 2) this.#ask(stock);
    if (fd !== undefined) taker.onSocket(fd);
  }

  cancel(taker: SocketTaker): void {
    for (const { takers } of this.#stocks) {
      const at = takers.indexOf(taker);
      if (at >= 0) takers.splice(at, 1);
    }
  }

  listen(place: InsidePlace, done: (fd: number) => void): void {
    if (this.#socket === null) {
      done(-ENOTCONN);
      return;
    }
    this.#later.push({ place, done });
    this.#askToListen();
  }

  onIo(): void {
    for (;;) {
      const socket = this.#socket;
      if (socket === null) return;
      const length = socket.receive();
      if (length === -EAGAIN) return;
      if (length === -EINTR) continue;
      if (length <= 0) {
        this.close();
        return;
      }
      this.#hear(socket);
    }
  }

  /** What nobody wants any more is not kept. */
  onTimer(nowMs: number): void {
    if (nowMs < this.#usedAt + IDLE_MS) {
      this.deadline = this.#usedAt + IDLE_MS;
      this.#timers.update(this);
      return;
    }
    this.deadline = Number.POSITIVE_INFINITY;
    for (const stock of this.#stocks) {
      stock.batch = 1;
      for (const fd of stock.fds.splice(0)) close(fd);
    }
  }

  #used(): void {
    this.#usedAt = this.#clock.nowMs;
    if (this.deadline !== Number.POSITIVE_INFINITY) return;
    this.deadline = this.#usedAt + IDLE_MS;
    this.#timers.update(this);
  }

  #ask(stock: Stock): void {
    if (stock.isAsked) return;
    const { kind } = stock;
    const count = Math.min(STOCK_MAX, Math.max(stock.batch, stock.takers.length));
    const result = this.#say(['sockets', familyOf(kind), typeOf(kind), count]);
    if (result < 0) {
      for (const taker of stock.takers.splice(0)) taker.onSocket(result);
      return;
    }
    stock.isAsked = true;
    stock.batch = Math.min(STOCK_MAX, stock.batch * 2);
  }

  #askToListen(): void {
    while (this.#listens.size < LISTENS_MAX) {
      const listen = this.#later.shift();
      if (listen === undefined) return;
      const { kind, dualStack, device, sockaddr } = listen.place;
      const id = ++this.#lastListen;
      const address = Buffer.from(sockaddr).toString('hex');
      const fields = ['listen', id, familyOf(kind), typeOf(kind), dualStack ? 0 : 1, device, address];
      const result = this.#say(fields);
      if (result === 0) this.#listens.set(id, listen);
      else listen.done(result);
    }
  }

  #say(fields: readonly (string | number)[]): number {
    return this.#socket?.send(Buffer.from(fields.join('\0'), 'latin1')) ?? -ENOTCONN;
  }

  #hear(socket: MessageSocket): void {
    const [what, first = '', ...rest] = socket.text.split('\0');
    if (what === 'listen') this.#isListening(socket, Number(first), Number(rest[0]));
    else if (what === 'route') {
      const answer = Uint8Array.from(Buffer.from(first, 'hex'));
      this.#exchanges.shift()?.(new DataView(answer.buffer));
    } else this.#stocksUp(socket, Number(first), Number(rest[0]), Number(rest[1]));
    socket.drop();
  }

  #isListening(socket: MessageSocket, id: number, error: number): void {
    const listen = this.#listens.get(id);
    if (listen === undefined) return;
    this.#listens.delete(id);
    const fd = socket.take();
    listen.done(fd < 0 ? -(error || ENOTCONN) : fd);
    this.#askToListen();
  }

  #stocksUp(socket: MessageSocket, family: number, type: number, error: number): void {
    const stock = this.#stocks.find(({ kind }) => familyOf(kind) === family && typeOf(kind) === type);
    if (stock === undefined) return;
    stock.isAsked = false;
    for (let fd = socket.take(); fd >= 0; fd = socket.take()) stock.fds.push(fd);
    if (stock.fds.length === 0) {
      for (const taker of stock.takers.splice(0)) taker.onSocket(-(error || ENOTCONN));
      return;
    }
    while (stock.fds.length > 0) {
      const taker = stock.takers.shift();
      if (taker === undefined) break;
      taker.onSocket(stock.fds.pop() as number);
    }
    if (stock.takers.length > 0) this.#ask(stock);
  }
}
