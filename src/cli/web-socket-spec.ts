/** WebSockets as users write them: `ws:ADDRESS:PORT[/PATH]` and `ws-unix:/PATH`. */
import { readFileSync, statSync } from 'node:fs';
import type { SocketPlace, WebSocketTarget } from '../device-spec.ts';
import { ipPlace, type LinkKind, type Options, unixPlace } from './link-options.ts';
import { decimal } from './values.ts';

const CLIENTS = 64;
const CLIENTS_MAX = 4096;
/** Others than the owner may neither read nor write it. */
const OTHERS = 0o77;
/** Fit for a subprotocol (RFC 6455 §4.1) and a query alike. */
const TOKEN = /^[A-Za-z0-9._~-]{8,256}$/;
const ORIGIN = /^(\*|null|[a-z][a-z0-9+.-]*:\/\/[^/\s]+)$/i;
const OPTIONS = ['origin', 'token-file', 'clients', 'framing'];

export const webSocketKinds: readonly LinkKind<WebSocketTarget>[] = [
  {
    name: 'ws',
    form: 'ws:ADDRESS:PORT[/PATH]',
    options: OPTIONS,
    read: (text, options) => {
      const [, place = text, path = '/'] = /^([^/]*)(\/.*)$/.exec(text) ?? [];
      if (/[?#\s]/.test(path)) throw options.error(`has the path ${JSON.stringify(path)}`, '/PATH alone');
      return webSocket(ipPlace(place, options), path, options);
    },
  },
  {
    name: 'ws-unix',
    form: 'ws-unix:/PATH',
    options: OPTIONS,
    read: (text, options) => webSocket(unixPlace(text, options), '/', options),
  },
];

function webSocket(at: SocketPlace, path: string, options: Options): WebSocketTarget {
  if (options.has('switch')) throw options.error('has switch=', 'other links there');
  const origins = options.all('origin');
  const wrong = origins.find((origin) => !ORIGIN.test(origin));
  if (wrong !== undefined) throw options.error(`has origin=${wrong}`, 'SCHEME://HOST[:PORT], or *: any page');
  const clients = decimal(options.get('clients') ?? String(CLIENTS));
  if (clients < 1 || clients > CLIENTS_MAX)
    throw options.error(`has clients=${options.get('clients')}`, `1 to ${CLIENTS_MAX}`);
  return {
    ...({ kind: 'webSocket', at, path, origins, clients } as const),
    framing: options.oneOf('framing', ['bare', 'be32']) ?? 'bare',
    token: tokenOf(options),
  };
}

function tokenOf(options: Options): string {
  const path = options.get('token-file');
  if (path === undefined) return '';
  let text: string;
  let mode: number;
  try {
    mode = statSync(path).mode;
    text = readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw options.error(
      `has token-file=${path}`,
      `a file that can be read (${(error as NodeJS.ErrnoException).code})`,
    );
  }
  if ((mode & OTHERS) !== 0)
    throw options.error(`has token-file=${path}`, 'a file that nobody else may read: chmod 600');
  if (!TOKEN.test(text))
    throw options.error(`has token-file=${path}`, '8 to 256 letters, digits, ".", "_", "~" and "-" in it');
  return text;
}
