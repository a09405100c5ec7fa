/** What `--auto-forward` says: which services of the guest become forwards, and where they are published. */
import { type AutoForwardSpec, defaultPublish, type PortRange, type PublishSpec } from '../config.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { badValue, decimal } from './values.ts';

const OPTION = '--auto-forward';
const ACCEPTED =
  'tcp, udp, PORT, FIRST-LAST, !PORT, !FIRST-LAST, bind=ADDRESS, loopback=splice, loopback=skip, exact, per-address, max=N and interval=MS, with commas between';
const PORT_MAX = 65535;
const MAX_MAX = 4096;
const INTERVAL_MIN_MS = 10;
const INTERVAL_MAX_MS = 5000;
/** With the time in which a listener is confirmed, a quarter of a second at most. */
const INTERVAL_MS = 150;

export interface AutoForward {
  autoForward: AutoForwardSpec;
  publish: PublishSpec;
}

function parseRange(piece: string, text: string): PortRange {
  const [first = '', last = first, ...rest] = text.split('-');
  const range = { first: decimal(first), last: decimal(last) };
  if (range.first < 0 || range.last < 0 || rest.length > 0)
    throw badValue(OPTION, piece, 'is none of the words and no range of ports', ACCEPTED);
  if (range.first < 1 || range.last > PORT_MAX || range.first > range.last)
    throw badValue(OPTION, piece, 'is no range of ports', `1 to ${PORT_MAX}, the lower one first`);
  return range;
}

function parseCount(piece: string, text: string, least: number, most: number): number {
  const count = decimal(text);
  if (count < least || count > most)
    throw badValue(OPTION, piece, 'is out of range', `a number from ${least} to ${most}`);
  return count;
}

function parseBind(piece: string, text: string): string {
  try {
    return parseIpAddress(text.replace(/^\[(.*)\]$/, '$1')).toString();
  } catch {
    throw badValue(OPTION, piece, 'has no IP address', 'for example bind=0.0.0.0 or bind=::1');
  }
}

/** Whether services on the guest's loopback become forwards. @throws UsageError */
export function parseLoopback(option: string, text: string, given: string = text): boolean {
  if (text !== 'splice' && text !== 'skip')
    throw badValue(option, given, "says nothing about services on the guest's loopback", 'splice or skip');
  return text === 'splice';
}

/** `text` is a comma list; empty: everything as it is by default. @throws UsageError */
export function parseAutoForward(text: string): AutoForward {
  const autoForward: AutoForwardSpec = {
    ...{ tcp: false, udp: false, only: [], except: [], loopback: true },
    intervalMs: INTERVAL_MS,
  };
  const bind: string[] = [];
  const publish = { ...defaultPublish };
  for (const piece of text === '' ? [] : text.split(',')) {
    const [, word, value = ''] = /^(\w+)=(.*)$/.exec(piece) ?? [];
    if (piece === 'tcp' || piece === 'udp') autoForward[piece] = true;
    else if (piece === 'exact') publish.exact = true;
    else if (piece === 'per-address') publish.perAddress = true;
    else if (word === 'loopback') autoForward.loopback = parseLoopback(OPTION, value, piece);
    else if (word === 'bind') bind.push(parseBind(piece, value));
    else if (word === 'max') publish.max = parseCount(piece, value, 1, MAX_MAX);
    else if (word === 'interval')
      autoForward.intervalMs = parseCount(piece, value, INTERVAL_MIN_MS, INTERVAL_MAX_MS);
    else if (piece.startsWith('!')) autoForward.except.push(parseRange(piece, piece.slice(1)));
    else autoForward.only.push(parseRange(piece, piece));
  }
  if (bind.length > 0) publish.bind = bind;
  if (!autoForward.tcp && !autoForward.udp) Object.assign(autoForward, { tcp: true, udp: true });
  return { autoForward, publish };
}
