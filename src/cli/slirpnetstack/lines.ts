/**
 * The lines that slirpnetstack prints, byte for byte: what it listens on, and what becomes of flows. Pure text: who prints
 * them, and whether, is decided elsewhere.
 *
 * The summary of a flow, `l=⟨a⟩/⟨b⟩ r=⟨c⟩/⟨d⟩`, tells what ended reading and writing on each side. Sides that are kernel
 * sockets speak like Go's net package, the guest's side like gVisor's.
 */
import { endText } from '../../app/forward-log.ts';
import type { Endpoint, ForwardSpec, HostEnd } from '../../config.ts';
import type { FlowEvent } from '../../engine/messages.ts';
import { formatEndpoint } from '../../stack/wire/address.ts';
import { goErrorText } from './go-errors.ts';

const ECONNREFUSED = 111;
const ETIMEDOUT = 110;
const END_OF_FILE = -1;

/** Names and paths of the command line may hold anything; a line stays a line, and does nothing to a terminal. */
export function oneLine(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** Without brackets, as some lines have it. */
export function bareHostPort({ address, port }: Endpoint): string {
  return `${address}:${port}`;
}

/** Said when a forward is open; `listen` is what was really bound. */
export function announcement(spec: ForwardSpec, listen: HostEnd): string {
  if (spec.direction === 'remote') {
    return `[+] Accepting on remote side ${spec.protocol}://${bareHostPort(spec.bind)}`;
  }
  const kind = spec.proxyHeader ? 'Local PP listen' : 'Local listen';
  return `[+] local-fwd ${kind} ${spec.protocol}://${endText(listen)}`;
}

/** What a flow's forward was configured as; null for routed flows. */
export type FlowForward = ForwardSpec | null;

/** What flows of each kind are called, and what is said of a new one. */
const kinds: Record<FlowEvent['kind'], readonly [what: string, isNew: string]> = {
  routed: ['Routing conn', 'new'],
  remote: ['remote-fwd conn', 'new'],
  local: ['local-fwd', 'conn'],
};

/** The line of a flow event. */
export function flowLine(event: FlowEvent, forward: FlowForward): string {
  const { kind, protocol, left, leftLocal, right, rightLocal, reason } = event;
  const contacted = kind === 'routed' ? '' : `-${formatEndpoint(leftLocal)}`;
  const from = `${protocol}://${formatEndpoint(left)}${contacted}`;
  if (isLookupError(event)) {
    const target = forward?.direction === 'remote' ? forward.target : null;
    const label = target?.kind === 'name' ? target.label : bareHostPort(right);
    return `[!] ${from}/${label}-failed remote-fwd dns lookup error of ${protocol} addr: ${reason}`;
  }
  const [name, isNew] = kinds[kind];
  const what = forward?.direction === 'local' && forward.proxyHeader ? `${name} PP` : name;
  if (event.event === 'error') {
    const to = kind === 'remote' ? bareHostPort(right) : formatEndpoint(right);
    const why = kind === 'local' && reason !== '' ? reason : summary(event);
    return `[!] ${from}/${to} ${what} error: ${why}`;
  }
  const ends = `${from}/${formatEndpoint(rightLocal)}-${formatEndpoint(right)}`;
  return event.event === 'open'
    ? `[+] ${ends} ${what} ${isNew}`
    : `[-] ${ends} ${what} done: ${summary(event)}`;
}

/** Ours: the original prints every flow, whatever becomes of its reader. */
export function leftOutLine(flows: number): string {
  return `[!] ${flows} more conns, too many to be told of`;
}

/** The name of a remote forward's target could not be found; printed even when nothing else is. */
export function isLookupError(event: FlowEvent): boolean {
  return event.kind === 'remote' && event.event === 'error' && event.reason !== '';
}

/** `l=⟨a⟩/⟨b⟩ r=⟨c⟩/⟨d⟩`, the first that happened in brackets. */
function summary(event: FlowEvent): string {
  const { first } = event.status;
  const [a, b, c, d] = POSITIONS.map((position, index) => {
    const text = event.event === 'error' && index === 2 ? dialError(event) : ioError(event, position);
    return index === first && text !== '0' ? `[${text}]` : text;
  });
  return `l=${a}/${b} r=${c}/${d}`;
}

type Position = Exclude<keyof FlowEvent['status'], 'first'>;
const POSITIONS: readonly Position[] = ['leftRead', 'leftWrite', 'rightRead', 'rightWrite'];

/** The right side could not be opened. */
function dialError(event: FlowEvent): string {
  const error = event.status.rightRead;
  if (error === 0) return '0';
  if (event.kind === 'local') {
    // gVisor's words.
    if (error === ECONNREFUSED) return 'connection was refused';
    if (error === ETIMEDOUT) return 'operation timed out';
    return goErrorText(error);
  }
  return `dial ${event.protocol} ${formatEndpoint(event.right)}: connect: ${goErrorText(error)}`;
}

function ioError(event: FlowEvent, position: Position): string {
  const error = event.status[position];
  if (error === 0) return '0';
  if (error === END_OF_FILE) return 'EOF';
  const left = position.startsWith('left');
  const call = position.endsWith('Read') ? 'read' : 'write';
  const near = formatEndpoint(left ? event.leftLocal : event.rightLocal);
  const far = formatEndpoint(left ? event.left : event.right);
  // The guest is on the left of what it began, on the right of what was begun by the host.
  const onGuestSide = left === (event.kind !== 'local');
  if (onGuestSide) return `${call} ${event.protocol} ${near}: ${goErrorText(error)}`;
  const cause =
    event.protocol === 'udp' && error === ETIMEDOUT ? 'i/o timeout' : `${call}: ${goErrorText(error)}`;
  return `${call} ${event.protocol} ${near}->${far}: ${cause}`;
}
