/**
 * The configuration file of a WireGuard interface, as wg(8) and wg-quick(8) have it. Names of endpoints are left as they are:
 * they take a look-up.
 *
 * Left out on purpose: commands (PreUp and the like) are refused, since no shell is run, and so is whatever else an
 * interface of the kernel has and ours does not.
 */
import { readFileSync, statSync } from 'node:fs';
import type { WireGuardPeer } from '../device-spec.ts';
import { type ParsedPrefix, parsePrefix } from '../firewall/prefix.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { decimal, UsageError } from './values.ts';

/** 43 digits and one "=", and nothing in the bits that are left over. */
const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/;
const DEFAULT_MTU = 1420;
const MTU_MIN = 1280;
const MTU_MAX = 65_455;
/** Others than the owner may neither read nor write it. */
const OTHERS = 0o77;

/** A peer whose endpoint may have a name. */
export interface FilePeer extends Omit<WireGuardPeer, 'endpoint'> {
  endpoint: { host: string; port: number } | null;
}

export interface WireGuardFile {
  privateKey: Uint8Array<ArrayBuffer>;
  listenPort: number;
  mtu: number;
  /** Ours, with the network that the peers are in. */
  addresses: ParsedPrefix[];
  peers: FilePeer[];
}

type Fault = (fault: string, accepted: string) => UsageError;

class Section {
  readonly name: string;
  readonly line: number;
  readonly #values = new Map<string, { text: string; line: number }[]>();

  constructor(name: string, line: number) {
    this.name = name;
    this.line = line;
  }

  add(key: string, text: string, line: number): void {
    this.#values.set(key, [...(this.#values.get(key) ?? []), { text, line }]);
  }

  /** The last counts, as with wg(8). */
  one(key: string): { text: string; line: number } | undefined {
    return this.#values.get(key)?.at(-1);
  }

  /** What is between commas of all. */
  list(key: string): { text: string; line: number }[] {
    return (this.#values.get(key) ?? []).flatMap(({ text, line }) =>
      text
        .split(',')
        .map((part) => ({ text: part.trim(), line }))
        .filter((part) => part.text !== ''),
    );
  }
}

const KEYS: Record<string, readonly string[]> = {
  Interface: ['PrivateKey', 'ListenPort', 'Address', 'MTU', 'DNS'],
  Peer: ['PublicKey', 'PresharedKey', 'AllowedIPs', 'Endpoint', 'PersistentKeepalive'],
};
const COMMANDS = ['preup', 'postup', 'predown', 'postdown'];

function at(path: string, line: number): Fault {
  return (fault, accepted) => new UsageError(`${path}:${line}: ${fault}; accepted: ${accepted}`);
}

function sections(text: string, path: string): Section[] {
  const found: Section[] = [];
  let line = 0;
  for (const raw of text.split('\n')) {
    line++;
    const content = raw.replace(/#.*$/, '').trim();
    if (content === '') continue;
    const fault = at(path, line);
    const [, title] = /^\[(.*)\]$/.exec(content) ?? [];
    if (title !== undefined) {
      const name = Object.keys(KEYS).find((known) => known.toLowerCase() === title.trim().toLowerCase());
      if (name === undefined) throw fault(`a section [${title}]`, '[Interface] and [Peer]');
      found.push(new Section(name, line));
      continue;
    }
    const section = found.at(-1);
    const [, word = '', value = ''] = /^([^=]*?)\s*=\s*(.*)$/.exec(content) ?? [];
    if (section === undefined || word === '') throw fault('no KEY = VALUE of a section', '[Interface] first');
    const known = KEYS[section.name] as readonly string[];
    const key = known.find((each) => each.toLowerCase() === word.toLowerCase());
    // What stands behind the "=" may be a key and is not told.
    if (COMMANDS.includes(word.toLowerCase()))
      throw fault(`${word} is refused`, 'no commands, as no shell is run');
    if (key === undefined) throw fault(`${word} is nothing of [${section.name}]`, known.join(', '));
    section.add(key, value, line);
  }
  return found;
}

function keyOf(section: Section, name: string, path: string): Uint8Array<ArrayBuffer> | null {
  const value = section.one(name);
  if (value === undefined) return null;
  if (!KEY.test(value.text))
    throw at(path, value.line)(`${name} is no key`, '32 bytes in base64, 44 characters');
  return Uint8Array.from(Buffer.from(value.text, 'base64'));
}

function needKey(section: Section, name: string, path: string): Uint8Array<ArrayBuffer> {
  const key = keyOf(section, name, path);
  if (key === null) throw at(path, section.line)(`[${section.name}] has no ${name}`, 'one');
  return key;
}

function numberOf(
  section: Section,
  name: string,
  range: { least: number; most: number; otherwise: number },
  path: string,
): number {
  const value = section.one(name);
  if (value === undefined) return range.otherwise;
  const number = decimal(value.text);
  if (number < range.least || number > range.most)
    throw at(path, value.line)(`${name} = ${value.text}`, `${range.least} to ${range.most}`);
  return number;
}

function prefixOf({ text, line }: { text: string; line: number }, name: string, path: string): ParsedPrefix {
  try {
    return parsePrefix(text);
  } catch {
    throw at(path, line)(`${name} = ${text}`, 'ADDRESS or ADDRESS/BITS, with commas between');
  }
}

function endpointOf(section: Section, path: string): FilePeer['endpoint'] {
  const value = section.one('Endpoint');
  if (value === undefined) return null;
  const [, bracketed, plain, digits = ''] = /^(?:\[([^\]]+)\]|([^:\s]+)):(\d+)$/.exec(value.text) ?? [];
  const host = bracketed ?? plain ?? '';
  const port = decimal(digits);
  const isRight = host !== '' && port >= 1 && port <= 65_535;
  if (!isRight)
    throw at(path, value.line)(`Endpoint = ${value.text}`, 'HOST:PORT, an IPv6 address in brackets');
  return { host, port };
}

function peerOf(section: Section, path: string): FilePeer {
  const keepalive = section.one('PersistentKeepalive')?.text.toLowerCase() === 'off';
  return {
    publicKey: needKey(section, 'PublicKey', path),
    presharedKey: keyOf(section, 'PresharedKey', path),
    allowedIps: section.list('AllowedIPs').map((value) => {
      const { address, bits } = prefixOf(value, 'AllowedIPs', path);
      return { address: address.toString(), bits };
    }),
    endpoint: endpointOf(section, path),
    keepaliveSeconds: keepalive
      ? 0
      : numberOf(section, 'PersistentKeepalive', { least: 0, most: 65_535, otherwise: 0 }, path),
  };
}

/** A prefix that two peers have, or one peer's key twice: whose packets are whose would be chance. */
function refuseTwice(peers: readonly FilePeer[], path: string): void {
  const keys = new Set<string>();
  const prefixes = new Set<string>();
  for (const { publicKey, allowedIps } of peers) {
    const key = Buffer.from(publicKey).toString('base64');
    if (keys.has(key)) throw new UsageError(`${path}: two peers with PublicKey ${key}; accepted: one`);
    keys.add(key);
    for (const { address, bits } of allowedIps) {
      const prefix = `${address}/${address.includes(':') ? bits : bits - 96}`;
      if (prefixes.has(prefix)) throw new UsageError(`${path}: AllowedIPs ${prefix} twice; accepted: once`);
      prefixes.add(prefix);
    }
  }
}

/** @throws UsageError */
export function parseWireGuardFile(text: string, path: string): WireGuardFile {
  const all = sections(text, path);
  const interfaces = all.filter(({ name }) => name === 'Interface');
  const [section] = interfaces;
  if (section === undefined || interfaces.length > 1)
    throw new UsageError(`${path}: ${interfaces.length} sections [Interface]; accepted: one`);
  const peers = all.filter(({ name }) => name === 'Peer').map((each) => peerOf(each, path));
  if (peers.length === 0) throw new UsageError(`${path}: no [Peer]; accepted: one or more`);
  refuseTwice(peers, path);
  for (const dns of section.list('DNS')) {
    // Ours to use as a client of theirs, which our resolvers are not told of: see docs/links.md.
    try {
      parseIpAddress(dns.text);
    } catch {
      throw at(path, dns.line)(`DNS = ${dns.text}`, 'an address');
    }
  }
  return {
    privateKey: needKey(section, 'PrivateKey', path),
    listenPort: numberOf(section, 'ListenPort', { least: 0, most: 65_535, otherwise: 0 }, path),
    mtu: numberOf(section, 'MTU', { least: MTU_MIN, most: MTU_MAX, otherwise: DEFAULT_MTU }, path),
    addresses: section.list('Address').map((value) => addressOf(value, path)),
    peers,
  };
}

/** Ours: with its own bits, unlike a prefix. */
function addressOf(value: { text: string; line: number }, path: string): ParsedPrefix {
  const prefix = prefixOf(value, 'Address', path);
  const [text = ''] = value.text.split('/');
  return { ...prefix, address: parseIpAddress(text) };
}

/** @throws UsageError also for a file that others may read, unless `isOpen` */
export function readWireGuardFile(path: string, isOpen: boolean): WireGuardFile {
  let text: string;
  try {
    const { mode } = statSync(path);
    if ((mode & OTHERS) !== 0 && !isOpen) {
      const accepted = `chmod 600 ${path}, or --insecure-key-file`;
      throw new UsageError(
        `${path}: others may read it (mode ${(mode & 0o777).toString(8)}); accepted: ${accepted}`,
      );
    }
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${path}: ${(error as Error).message}; accepted: a file as wg(8) has it`);
  }
  return parseWireGuardFile(text, path);
}
