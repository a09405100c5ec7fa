/**
 * The flow log (`--flow-log`): one JSON object a line for every flow that opens, closes, fails or is refused. Names of
 * fields are those of the Elastic Common Schema; ours begin with `tslirp.`. A reader ignores names that it does not know;
 * `v` changes when a meaning does.
 *
 * A line is written whole or not at all: a reader that is too slow for its bound (line-output.ts) loses lines, and the next
 * one says how many, as it does where the guest opens more flows than are told of. `seq` counts what was written.
 */
import { isIP } from 'node:net';
import { getSystemErrorName } from 'node:util';
import type { Endpoint } from '../config.ts';
import type { RefusalText } from '../control/refusal-text.ts';
import type { FlowEvent, Refusal } from '../engine/messages.ts';
import type { LineOutput } from './line-output.ts';

type Fields = Record<string, unknown>;

const NANOSECONDS = 1_000_000;

export class FlowLog {
  readonly #output: Pick<LineOutput, 'line'>;
  readonly #text: RefusalText;
  readonly #guest: string;
  #seq = 0;
  #lost = 0;

  /** `guest` is its name. */
  constructor(output: Pick<LineOutput, 'line'>, text: RefusalText, guest: string) {
    this.#output = output;
    this.#text = text;
    this.#guest = guest;
  }

  flow(event: FlowEvent): void {
    if (event.event === 'error') {
      this.#write('flow.failed', { ...this.#flowFields(event), ...this.#why(event, refusalOf(event)) });
      return;
    }
    const fields = this.#flowFields(event);
    if (event.event === 'open') {
      this.#write('flow.open', { ...fields, 'event.outcome': 'success' });
      return;
    }
    const { kind, bytesIn, bytesOut, ageMs, failure } = event;
    const [sent, received] = kind === 'local' ? [bytesIn, bytesOut] : [bytesOut, bytesIn];
    this.#write('flow.close', {
      ...fields,
      'event.outcome': failure === '' ? 'success' : 'failure',
      'event.duration': Math.round(ageMs * NANOSECONDS),
      'source.bytes': sent,
      'destination.bytes': received,
      ...errorFields(errnoOf(event)),
      ...(failure === '' ? {} : { 'event.reason': failure }),
    });
  }

  refusal(refusal: Refusal): void {
    const action = refusal.reason === 'resolver' ? 'flow.failed' : 'flow.denied';
    this.#write(action, {
      'network.transport': refusal.protocol,
      ...side('source', refusal.source),
      ...side('destination', refusal.destination),
      ...this.#why({ reason: '' }, refusal),
    });
  }

  /** So many flows, or refusals, were not told. */
  leftOut(count: number): void {
    this.#write('dropped', { count, 'event.reason': 'rate' });
  }

  #flowFields({ flow, protocol, kind, left, leftLocal, right, rightLocal }: FlowEvent): Fields {
    const isSame = right.address === leftLocal.address && right.port === leftLocal.port;
    return {
      'flow.id': flow,
      'network.transport': protocol,
      'network.direction': kind === 'local' ? 'inbound' : 'outbound',
      ...(kind === 'routed' ? {} : { 'tslirp.forward': kind }),
      ...side('source', left),
      ...side('destination', leftLocal.address === '' ? right : leftLocal),
      ...side('source.nat', rightLocal),
      ...(isSame ? {} : side('destination.nat', right)),
    };
  }

  #why({ reason }: { reason: string }, refusal: Refusal): Fields {
    const { rule, open, reason: why } = this.#text.explain(refusal);
    return {
      'event.outcome': 'failure',
      'event.reason': why,
      ...(rule === '' ? {} : { 'rule.id': rule }),
      ...(open.length === 0 ? {} : { 'tslirp.open': open }),
      ...errorFields(refusal.error),
      ...(reason === '' ? {} : { 'error.message': reason }),
    };
  }

  #write(action: string, fields: Fields): void {
    if (this.#lost > 0) {
      const lost = this.#lost;
      if (!this.#line('dropped', { count: lost, 'event.reason': 'reader' })) {
        this.#lost++;
        return;
      }
      this.#lost = 0;
    }
    if (!this.#line(action, fields)) this.#lost++;
  }

  #line(action: string, fields: Fields): boolean {
    const head = { v: 1, seq: this.#seq + 1, '@timestamp': new Date().toISOString(), guest: this.#guest };
    const isWritten = this.#output.line(JSON.stringify({ ...head, 'event.action': action, ...fields }));
    if (isWritten) this.#seq++;
    return isWritten;
  }
}

/** A failed flow as what it was refused for. */
export function refusalOf(event: FlowEvent): Refusal {
  const { failure, protocol, kind, left, leftLocal, right, repeated } = event;
  // What was named is told: for a local forward that is the guest, for others where the guest wanted to go.
  const destination = kind === 'routed' && leftLocal.address !== '' ? leftLocal : right;
  const error = errnoOf(event);
  const reason = failure === '' ? 'left' : failure;
  return { type: 'refusal', reason, protocol, source: left, destination, error, repeated };
}

/** What ended the flow, if it was an error: the other side's before the one that began. */
function errnoOf({ status }: FlowEvent): number {
  const { leftRead, leftWrite, rightRead, rightWrite } = status;
  return [rightRead, rightWrite, leftRead, leftWrite].find((code) => code > 0) ?? 0;
}

function errorFields(errno: number): Fields {
  return errno > 0 ? { 'error.code': getSystemErrorName(-errno) } : {};
}

function side(name: string, { address, port }: Endpoint): Fields {
  if (address === '') return {};
  if (isIP(address.split('%', 1)[0] ?? '') === 0)
    return { [`${name}.address`]: address, ...(port === 0 ? {} : { [`${name}.port`]: port }) };
  return { [`${name}.ip`]: address, [`${name}.port`]: port };
}
