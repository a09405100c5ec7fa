/**
 * Links as users write them (`--link`): `KIND:ADDRESS[,KEY=VALUE|,FLAG]…`. What kinds there are is a table, of which help and
 * messages are made too. Pure: nothing is looked at but the text.
 */
import { resolve } from 'node:path';
import type { AddressPlan, NetworkSpec } from '../config.ts';
import type {
  Framing,
  Greeting,
  ListenTarget,
  SocketPlace,
  SocketTarget,
  TunnelTarget,
  WebSocketTarget,
} from '../device-spec.ts';
import { ipPlace, type LinkKind, namedPlace, Options, unixPlace } from './link-options.ts';
import { tunnelKind, tunnelPlan } from './tunnel-spec.ts';
import { badValue, decimal, MTU_MAX, MTU_MIN } from './values.ts';
import { webSocketKinds } from './web-socket-spec.ts';

/** The peers in this file. */
export interface WireGuardFileTarget {
  kind: 'wireguardFile';
  path: string;
}

/** A link, and whose it is. */
export interface LinkSpec {
  target: SocketTarget | WireGuardFileTarget | TunnelTarget | WebSocketTarget;
  /** As it was written. */
  text: string;
  /** Empty: it has none of its own. */
  guest: string;
  /** 0: as usual. */
  mtu: number;
  /** The Ethernet that it shares with others. */
  network?: NetworkSpec;
  /** As usual where there are none. */
  addresses?: AddressPlan;
  /** Our end is an address at which there is DNS; otherwise as usual. */
  hasGateway?: boolean;
}

const NAME = /^[a-z0-9][a-z0-9._-]{0,127}$/;
/** A length of 16 bits has room for so much behind an Ethernet header. */
const SHORT_MTU_MAX = 65521;
const ANY_CID = 0xffffffff;

/** `unix:/p` or `tcp:H:P`. */
function streamPlace(text: string, options: Options): SocketPlace {
  if (text.startsWith('unix:')) return unixPlace(text.slice('unix:'.length), options);
  if (text.startsWith('tcp:')) return namedPlace(text.slice('tcp:'.length), options);
  throw options.error('has neither unix: nor tcp:', 'qemu:unix:/PATH or qemu:tcp:ADDRESS:PORT');
}

/** A path with a number behind the last colon. */
function pathAndPort(text: string, options: Options): [path: string, port: number] {
  const colon = text.lastIndexOf(':');
  const port = decimal(text.slice(colon + 1));
  if (colon < 0 || port < 0 || port >= ANY_CID) throw options.error('has no port', '/PATH:PORT');
  return [text.slice(0, colon), port];
}

function uids(options: Options): number[] {
  return options.all('allow-uid').map((text) => {
    const uid = decimal(text);
    if (uid < 0 || uid >= ANY_CID) throw options.error(`has allow-uid=${text}`, 'the number of a user');
    return uid;
  });
}

const ethernet = { medium: 'ethernet', oneOff: false } as const;
const greetNone: Greeting = { kind: 'none' };
const STREAMS = ['be32', 'le16'] as const;

function listening(at: SocketPlace, options: Options, framing: Framing): ListenTarget {
  return {
    ...{ kind: 'listen', type: framing === 'bare' ? 'seqpacket' : 'stream', at, framing, ...ethernet },
    ...{ greeting: greetNone, allowUids: uids(options), awaited: false },
  };
}

const kinds: readonly LinkKind<LinkSpec['target']>[] = [
  {
    name: 'fd',
    form: 'fd:N or fd:R,W',
    options: ['framing', 'medium', 'multi', 'allow-uid'],
    read: (address, options) => {
      const [fd = -1, output, ...more] = address.split(',').map(decimal);
      if (fd < 0 || (output ?? 0) < 0 || more.length > 0)
        throw options.error('has no descriptor number', 'fd:N, or fd:R,W with framing=');
      const medium = options.oneOf('medium', ['ethernet', 'ip']);
      const framing = options.oneOf('framing', ['bare', ...STREAMS]);
      return {
        ...({ kind: 'descriptor', fd, probe: true } as const),
        ...(output === undefined ? {} : { output }),
        ...(medium === undefined ? {} : { medium }),
        ...(framing === undefined ? {} : { framing }),
        ...(options.has('multi') ? { multi: true } : {}),
        ...(options.has('allow-uid') ? { allowUids: uids(options) } : {}),
      };
    },
  },
  {
    name: 'qemu',
    form: 'qemu:unix:/PATH or qemu:tcp:ADDRESS:PORT',
    options: ['connect', 'allow-uid'],
    read: (address, options) => {
      const at = streamPlace(address, options);
      if (!options.has('connect')) return listening(at, options, 'be32');
      return { kind: 'dial', type: 'stream', at, framing: 'be32', ...ethernet, greeting: greetNone };
    },
  },
  {
    name: 'passt',
    form: 'passt:[/PATH]',
    options: ['allow-uid'],
    // Without a path it is found where passt has its own.
    read: (address, options) =>
      listening(address === '' ? { family: 'unix', path: '' } : unixPlace(address, options), options, 'be32'),
  },
  {
    name: 'bess',
    form: 'bess:/PATH',
    options: ['allow-uid'],
    read: (address, options) => listening(unixPlace(address, options), options, 'bare'),
  },
  {
    name: 'vpnkit',
    form: 'vpnkit:/PATH',
    options: ['allow-uid'],
    read: (address, options) => ({
      ...listening(unixPlace(address, options), options, 'le16'),
      greeting: { kind: 'vpnkit' } as const,
    }),
  },
  {
    name: 'vfkit',
    form: 'vfkit:/PATH',
    options: [],
    read: (address, options) => ({
      ...{ kind: 'datagram', local: unixPlace(address, options), remote: null, framing: 'bare', ...ethernet },
    }),
  },
  {
    name: 'dgram',
    form: 'dgram:local=/PATH,remote=/PATH',
    options: ['local', 'remote'],
    read: (address, options) => {
      const [local, remote] = ends(address, options).map((path) => unixPlace(path, options));
      return datagram(local, remote);
    },
  },
  {
    name: 'udp',
    form: 'udp:local=ADDRESS:PORT,remote=ADDRESS:PORT',
    options: ['local', 'remote'],
    read: (address, options) => {
      const [local, remote] = ends(address, options).map((text) => ipPlace(text, options));
      return datagram(local, remote);
    },
  },
  {
    name: 'stdio',
    form: 'stdio:',
    options: ['framing'],
    read: (address, options) => {
      if (address !== '') throw options.error('has an address', 'stdio:');
      return { kind: 'descriptor', fd: 0, output: 1, framing: options.oneOf('framing', STREAMS) ?? 'le16' };
    },
  },
  {
    name: 'vsock',
    form: 'vsock:CID:PORT',
    options: ['listen', 'framing'],
    read: (address, options) => {
      const [cidText = '', portText = '', ...more] = address.split(':');
      const cid = cidText === 'any' ? ANY_CID : decimal(cidText);
      const port = decimal(portText);
      if (cid < 0 || cid > ANY_CID || port < 0 || port >= ANY_CID || more.length > 0)
        throw options.error('has no CID and port', 'vsock:CID:PORT, CID any, 2 (host), or a number');
      return vsockStream({ family: 'vsock', cid, port }, options, greetNone);
    },
  },
  {
    name: 'vsock-uds',
    form: 'vsock-uds:/PATH:PORT',
    options: ['listen', 'framing', 'allow-uid'],
    read: (address, options) => {
      const [path, port] = pathAndPort(address, options);
      if (options.has('listen'))
        return vsockStream(unixPlace(`${path}_${port}`, options), options, greetNone);
      return vsockStream(unixPlace(path, options), options, { kind: 'connect', port });
    },
  },
  {
    name: 'wireguard',
    form: 'wireguard:FILE',
    options: [],
    read: (address, options) => {
      if (address === '') throw options.error('has no file', 'wireguard:FILE, as wg(8) has it');
      if (options.has('mtu')) throw options.error('has mtu=', 'MTU in the file');
      if (options.has('switch')) throw options.error('has switch=', 'Ethernet links there');
      return { kind: 'wireguardFile', path: resolve(address) };
    },
  },
  tunnelKind,
  ...webSocketKinds,
];

function vsockStream(at: SocketPlace, options: Options, greeting: Greeting): SocketTarget {
  const framing = options.oneOf('framing', STREAMS) ?? 'le16';
  if (!options.has('listen')) return { kind: 'dial', type: 'stream', at, framing, ...ethernet, greeting };
  return { ...listening(at, options, framing), greeting: { kind: 'post' } as const };
}

function datagram(local: SocketPlace | undefined, remote: SocketPlace | undefined): SocketTarget {
  return {
    ...{ kind: 'datagram', local: local as SocketPlace, remote: remote as SocketPlace },
    ...{ framing: 'bare', ...ethernet },
  };
}

function ends(address: string, options: Options): string[] {
  if (address !== '') throw options.error(`has ${JSON.stringify(address)}`, 'local=… and remote=…');
  return [options.need('local'), options.need('remote')];
}

/** One after the other, as help has them. */
export const linkForms: string = kinds.map(({ form }) => form).join(', ');

/** Where the options of a SPEC begin: behind an address, which some kinds have none of; and both numbers of fd:R,W are one. */
function splitSpec(name: string, rest: string): [address: string, words: string[]] {
  const words = rest === '' ? [] : rest.split(',');
  const [first = ''] = words;
  if (/^(local|remote)=/.test(first)) return ['', words];
  if (name === 'fd' && /^\d+$/.test(words[1] ?? '')) return [words.slice(0, 2).join(','), words.slice(2)];
  return [first, words.slice(1)];
}

function mtuOf(options: Options, framing: Framing | undefined): number {
  const text = options.get('mtu');
  if (text === undefined) return 0;
  const mtu = decimal(text);
  const most = framing === 'le16' ? SHORT_MTU_MAX : MTU_MAX;
  if (mtu < MTU_MIN || mtu > most) throw options.error(`has mtu=${text}`, `${MTU_MIN} to ${most}`);
  return mtu;
}

/** @throws UsageError */
export function parseLinkSpec(text: string): LinkSpec {
  const colon = text.indexOf(':');
  const kind = kinds.find(({ name }) => name === text.slice(0, Math.max(colon, 0)));
  if (kind === undefined) throw badValue('--link', text, 'is of no known kind', linkForms);
  const [address, words] = splitSpec(kind.name, text.slice(colon + 1));
  const options = new Options(text, words, kind);
  const target = kind.read(address, options);
  const guest = options.get('guest') ?? '';
  const network = networkOf(options);
  const accepted = 'a name of small letters, digits, ".", "_" and "-"';
  for (const name of [guest, network?.name ?? ''])
    if (name !== '' && !NAME.test(name))
      throw options.error(`has the name ${JSON.stringify(name)}`, accepted);
  return {
    ...{ target, text, guest, mtu: mtuOf(options, 'framing' in target ? target.framing : undefined) },
    ...(network === undefined ? {} : { network }),
    ...(target.kind === 'tunnel' ? tunnelPlan(target, options) : {}),
  };
}

function networkOf(options: Options): NetworkSpec | undefined {
  const name = options.get('switch');
  const isolated = options.has('isolate');
  if (name === undefined && isolated) throw options.error('has isolate and no switch=', 'both');
  return name === undefined ? undefined : { name, isolated };
}
