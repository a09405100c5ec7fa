/**
 * What the benchmark asks of an agent: one JSON line in, one JSON line out. Times are milliseconds, rates per second.
 */

/** The operations: what each takes and what it answers. */
export interface Operations {
  /** Echo server over TCP for any number of connections; answers once it listens, then serves until it is killed. */
  'serve-connections': { request: { port: number }; reply: Record<string, never> };
  /** Echo server for one TCP connection at a time with blocking calls (fewest system calls per round trip). */
  'serve-stream': { request: { port: number }; reply: Record<string, never> };
  /** Takes or gives as many bytes as a `first-bytes` client asks for, one connection at a time. */
  'serve-bytes': { request: { port: number }; reply: Record<string, never> };
  /** Answers every DNS query with one address. */
  'serve-names': { request: { address: string }; reply: Record<string, never> };
  /** Echo server over UDP, at one address: answers of a wildcard socket may leave from another one. */
  'serve-datagrams': { request: { address: string; port: number }; reply: Record<string, never> };
  /** A name server that knows one name, over UDP. */
  'serve-dns': { request: { address: string; port: number }; reply: Record<string, never> };
  /** Ask it: `outstanding` at a time from one socket, or one by one from a `fresh` socket each. */
  'dns-ask': {
    request: {
      address: string;
      port: number;
      outstanding: number;
      fresh: boolean;
      warmUpMs: number;
      durationMs: number;
    };
    reply: { perSecond: number; unanswered: number };
  };
  /** Try to connect until it succeeds; answers with CLOCK_MONOTONIC of the success. */
  reach: { request: { address: string; port: number; timeoutMs: number }; reply: { atMs: number } };
  /** One byte there and back, one at a time. */
  'round-trips': {
    request: {
      transport: 'tcp' | 'udp';
      address: string;
      port: number;
      warmUpMs: number;
      durationMs: number;
    };
    reply: RoundTrips;
  };
  /** Connect, one byte there and back, close; `parallel` at a time. */
  connects: {
    request: {
      addresses: readonly string[];
      port: number;
      parallel: number;
      warmUpMs: number;
      durationMs: number;
    };
    reply: { perSecond: number; failed: number };
  };
  /**
   * From when the network is there: `count` times connect, one byte there and back, close. Times are CLOCK_MONOTONIC of
   * the first byte that came back and of the last.
   */
  'first-connects': {
    request: {
      addresses: readonly string[];
      port: number;
      parallel: number;
      count: number;
      timeoutMs: number;
    };
    reply: Span & { failed: number };
  };
  /** From when the network is there: one connection, `bytes` one way; from the connect to the last byte, or to the time limit. */
  'first-bytes': {
    request: { way: 'up' | 'down'; address: string; port: number; bytes: number; timeoutMs: number };
    reply: Span & { moved: number };
  };
  /** From when the network is there: `count` datagrams there and back, `window` of them at a time. */
  'first-datagrams': {
    request: { address: string; port: number; count: number; window: number; timeoutMs: number };
    reply: Span & { lost: number };
  };
  /** One request every `everyMs`. */
  sparse: {
    request: { kind: SparseKind; address: string; port: number; everyMs: number; count: number };
    reply: RoundTrips & { first: number };
  };
  /** Requests to an API socket, a connection each, for `durationMs`: list, add a forward, list, remove it, … */
  'api-calls': {
    request: { path: string; address: string; port: number; perSecond: number; durationMs: number };
    reply: { answered: number; failed: number };
  };
  /** Open `count` more connections, `atOnce` of them pending at a time, and keep them. */
  hold: {
    request: { addresses: readonly string[]; port: number; count: number; atOnce: number; timeoutMs: number };
    reply: { opened: number; failed: number };
  };
  /** Close all held connections. */
  release: { request: Record<string, never>; reply: { closed: number } };
  /** Make the datagram socket of this agent: bound to `port` (of `address`, or of any), and talking to `peer` if given. */
  'datagram-open': {
    request: { address?: string; port: number; peer?: { address: string; port: number } };
    reply: Record<string, never>;
  };
  /** Send one greeting to the peer, so that the stack knows the flow. */
  'datagram-greet': { request: Record<string, never>; reply: Record<string, never> };
  /** Wait for a greeting and take its sender as the peer. */
  'datagram-meet': { request: { timeoutMs: number }; reply: { address: string; port: number } };
  /** Send datagrams marked `trial` at `perSecond` (0 = as fast as possible). */
  'datagram-send': {
    request: { trial: number; size: number; perSecond: number; durationMs: number };
    reply: { sent: number; elapsedMs: number };
  };
  /** Count datagrams marked `trial` until `quietMs` without any, at most `limitMs`. */
  'datagram-receive': {
    request: { trial: number; limitMs: number; quietMs: number };
    reply: { received: number; spanMs: number };
  };
}

/** Name of an operation. */
export type Operation = keyof Operations;
/** What operation `O` takes. */
export type Request<O extends Operation> = Operations[O]['request'];
/** What operation `O` answers. */
export type Reply<O extends Operation> = Operations[O]['reply'];

/** What is asked for now and then: a byte over an open connection, a new connection for it, a datagram, an echo, a name. */
export type SparseKind = 'tcp' | 'connect' | 'udp' | 'ping' | 'dns';

/** CLOCK_MONOTONIC, in milliseconds. */
export interface Span {
  readonly firstAtMs: number;
  readonly lastAtMs: number;
}

/** Distribution of round trips, in microseconds. */
export interface RoundTrips {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly lost: number;
}
