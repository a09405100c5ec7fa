/**
 * Commands that ask a running tslirp over its API socket (docs/slirp4netns.md): one connection and one answer for each
 * request. People get a table, programs the answer as it is (`--json`).
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import type { ListedForward } from '../api/host-forwards.ts';
import { sayError, sayOut } from '../app/say.ts';
import { type AddressPlan, defaultAddresses, type Endpoint, type HostTarget } from '../config.ts';
import { errnoTextOf } from '../control/errno-text.ts';
import type { FlowInfo } from '../engine/messages.ts';
import type { End, Listener } from '../expose/event.ts';
import { formatEndpoint } from '../stack/wire/address.ts';
import { exchange, type Json, type Request } from './exchange.ts';
import { ForwardRuleError, parseForwardRule } from './forward-rule.ts';
import type { ClientOptions, ClientQuestion } from './program.ts';
import { UsageError } from './values.ts';

/** The request was refused. */
const EXIT_REFUSED = 1;
/** Nobody is there to be asked. */
const EXIT_NO_SERVER = 3;

interface Refusal {
  desc?: string;
}

const SUBSCRIBE: Request = { execute: 'subscribe' };

/** The tslirp that is asked knows its guest's addresses, we do not: a rule without one has these. */
const UNKNOWN: AddressPlan = { ...defaultAddresses, guest4: '0.0.0.0', guest6: '::' };

/** Answers with the exit status. @throws UsageError before anything is asked */
export async function ask(question: ClientQuestion, options: ClientOptions): Promise<number> {
  const { apiSocket = process.env['TSLIRP_API_SOCKET'] ?? '' } = options;
  if (apiSocket === '')
    throw new UsageError('no socket to ask at; accepted: --api-socket PATH, or $TSLIRP_API_SOCKET');
  if (question.kind === 'events') return follow(apiSocket);
  const show = options.json === true ? asJson : showers[question.kind];
  for (const request of requests(question)) {
    let answer: Json;
    try {
      answer = await exchange(apiSocket, request);
    } catch (error) {
      return nobodyAnswers(apiSocket, error);
    }
    const { error } = answer;
    if (error !== undefined) return refused(error as Refusal, request);
    sayOut(show((answer['return'] ?? {}) as Json));
  }
  return 0;
}

function nobodyAnswers(path: string, error: unknown): number {
  sayError(`tslirp: nobody answers at ${path}: ${errnoTextOf(error)}\n`);
  return EXIT_NO_SERVER;
}

/** In the API's words, but for a number that nothing has: that was the user's. */
function refused({ desc = 'refused' }: Refusal, { arguments: { id } = {} }: Request): number {
  const [, kind] = /^bad request: (remove_hostfwd|close_flow): bad arguments\.id$/.exec(desc) ?? [];
  const what = kind === 'close_flow' ? 'flow' : 'forward';
  const known = `there is no ${what} ${String(id)} (see tslirp ${what} ls)`;
  sayError(`tslirp: ${kind === undefined ? desc : known}\n`);
  return EXIT_REFUSED;
}

/** Every event as it comes, until the other end closes. */
async function follow(path: string): Promise<number> {
  const socket = connect(path);
  try {
    await once(socket, 'connect');
  } catch (error) {
    return nobodyAnswers(path, error);
  }
  // Whoever reads has had enough.
  process.stdout.on('error', () => socket.destroy());
  socket.setEncoding('latin1').write(JSON.stringify(SUBSCRIBE));
  try {
    for await (const part of socket as AsyncIterable<string>) {
      if (part.startsWith('{"error"')) {
        const { error } = JSON.parse(part) as { error: Refusal };
        return refused(error, SUBSCRIBE);
      }
      process.stdout.write(part);
    }
  } catch {
    // It was cut off; what has come is told.
  }
  return 0;
}

function requests(question: ClientQuestion): Request[] {
  switch (question.kind) {
    case 'events':
      return [SUBSCRIBE];
    case 'info':
    case 'stats':
      return [{ execute: question.kind }];
    case 'flows':
      return [{ execute: 'list_flows' }];
    case 'forwards':
      return [{ execute: 'list_forwards' }];
    case 'listeners':
      return [{ execute: 'list_listeners' }];
    case 'cutFlows':
      return question.ids.map((id) => ({ execute: 'close_flow', arguments: { id } }));
    case 'removeForwards':
      return question.ids.map((id) => ({ execute: 'remove_hostfwd', arguments: { id } }));
    case 'addForward':
      return addRequests(question.rule);
  }
}

function addRequests(text: string): Request[] {
  const refuse = (fault: string): never => {
    throw new UsageError(
      `${JSON.stringify(text)} ${fault}; accepted: a rule of literal addresses, as with -L`,
    );
  };
  try {
    return parseForwardRule(text, 'local', { strict: true, addresses: UNKNOWN }).map((rule) => {
      if (rule.proxyIn || rule.rpc) refuse('has a scheme that can be had with -L only');
      const host = literal(rule.bind) ?? refuse('listens at no address');
      const guest = literal(rule.host) ?? refuse('leads to no address');
      const v6 = host.address.includes(':');
      const isNamed = guest.address !== (guest.address.includes(':') ? UNKNOWN.guest6 : UNKNOWN.guest4);
      return {
        execute: 'add_hostfwd',
        arguments: {
          proto: `${rule.protocol}${v6 ? '6' : ''}`,
          host_addr: host.address,
          host_port: host.port,
          ...(isNamed ? { guest_addr: guest.address } : {}),
          guest_port: guest.port,
        },
      };
    });
  } catch (error) {
    if (error instanceof ForwardRuleError) throw new UsageError(error.message);
    throw error;
  }
}

function literal(end: HostTarget): Endpoint | undefined {
  return end.kind === 'ip' ? end : undefined;
}

function asJson(answer: Json): string {
  return `${JSON.stringify(answer, null, 2)}\n`;
}

/** Columns as wide as they have to be, those of numbers to the right. */
function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => String(row[i]).length)));
  const line = (row: readonly (string | number)[]): string =>
    row
      .map((cell, i) =>
        typeof cell === 'number' ? String(cell).padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0),
      )
      .join('  ')
      .trimEnd();
  return [head, ...rows].map((row) => `${line(row)}\n`).join('');
}

function end(at: Endpoint): string {
  return at.address === '' ? '-' : formatEndpoint(at);
}

function eventEnd({ ip, port }: End): string {
  return formatEndpoint({ address: ip, port });
}

/** The guest's text: nothing that a terminal would act upon. */
function plain(name: string): string {
  return name.replace(/[^ -~]/g, '?');
}

const showers: Record<Exclude<ClientQuestion['kind'], 'events'>, (answer: Json) => string> = {
  info: asJson,
  stats: ({ counters = {}, gauges = {} }) =>
    table(
      ['NAME', 'VALUE'],
      [...Object.entries(counters as Json), ...Object.entries(gauges as Json)].map(([name, value]) => [
        name,
        Number(value),
      ]),
    ),
  flows: ({ flows = [] }) =>
    table(
      ['ID', 'PROTO', 'KIND', 'FROM', 'TO', 'STATE', 'SECONDS', 'OUT', 'IN'],
      (flows as FlowInfo[]).map((flow) => [
        flow.flow,
        flow.protocol,
        flow.kind,
        end(flow.left),
        end(flow.right),
        flow.state,
        Math.round(flow.ageMs / 1000),
        flow.bytesOut,
        flow.bytesIn,
      ]),
    ),
  forwards: ({ forwards = [] }) =>
    table(
      ['ID', 'PROTO', 'HOST', 'GUEST', 'REASON', 'PROCESS'],
      (forwards as ListedForward[]).map(({ id, proto, hostEnd, guestEnd, reason, process: name }) => [
        id ?? '-',
        proto,
        'path' in hostEnd ? `unix:${plain(hostEnd.path)}` : eventEnd(hostEnd),
        eventEnd(guestEnd),
        reason,
        plain(name ?? '-'),
      ]),
    ),
  listeners: ({ listeners = [] }) =>
    table(
      ['PROTO', 'ADDRESS', 'PROCESS', 'PID', 'UID'],
      (listeners as Listener[]).map(({ proto, ip, port, process: name, pid, uid }) => [
        proto,
        eventEnd({ ip, port }),
        plain(name ?? '-'),
        pid ?? '-',
        uid,
      ]),
    ),
  addForward: ({ id, host_port: port }) =>
    port === undefined ? `${String(id)}\n` : `${String(id)} ${String(port)}\n`,
  cutFlows: () => '',
  removeForwards: () => '',
};
