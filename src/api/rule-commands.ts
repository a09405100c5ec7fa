/**
 * The control socket of pasta: rules of ports are shown and changed there, by pesto. A request and an answer in JSON for each
 * connection, as at the API socket:
 *
 *     { "execute": "show_rules" }
 *         → { "return": { "version", "scope", "host": [rule], "splice": [rule] } }
 *     { "execute": "change_rules", "arguments": { "changes": [{ "kind", "table", "rules": [rule] }] } }
 *         → { "return": {} } when all of it is bound, { "error": { "desc" } } and nothing has changed
 *
 * Who does not speak that, the original's own client for one, is told so and sent away.
 */
import type { PortRange, PortRule, PortScope } from '../config.ts';
import { RULES_MAX, RuleRefused } from '../expose/port-rule.ts';
import type { RuleChange, RuleWatch } from '../expose/rule-watch.ts';
import { parseIpAddress } from '../stack/wire/address.ts';
import { ApiError, field, integerField, isObject, type JsonObject } from './fields.ts';
import { ApiServer } from './server.ts';

/** Of what is said here. */
const RULES_VERSION = 1;
const REQUEST_MAX = 4 * 1024 * 1024;
/** The original's client waits to be spoken to. */
const IDLE_MS = 2000;
const PORT_MAX = 65535;
const INTERFACE = /^[^\s/%]{0,15}$/;

/** Whose rules they are. */
export type RuleKeeper = Pick<RuleWatch, 'rules' | 'change'>;

/** Resolves when clients can connect; rejects with one line. */
export async function serveRules(
  path: string,
  rules: RuleKeeper,
  scope: PortScope,
  onError: (error: unknown) => void,
): Promise<void> {
  const server = new ApiServer({
    spec: { path, requestMax: REQUEST_MAX, echo: false },
    commands: new RuleCommands(rules, scope),
    idleMs: IDLE_MS,
    onError,
  });
  await server.listen();
}

export class RuleCommands {
  readonly #rules: RuleKeeper;
  readonly #scope: PortScope;

  constructor(rules: RuleKeeper, scope: PortScope) {
    this.#rules = rules;
    this.#scope = scope;
  }

  /** Throws or rejects with `ApiError`. */
  run(request: unknown): string | Promise<string> {
    const name = isObject(request) ? field(request, 'execute') : undefined;
    if (name === 'show_rules') {
      const { host, splice } = this.#rules.rules;
      return JSON.stringify({ return: { version: RULES_VERSION, scope: this.#scope, host, splice } });
    }
    if (name !== 'change_rules' || !isObject(request)) throw new ApiError('no request of pesto');
    const args = field(request, 'arguments');
    const changes = isObject(args) ? listOf(args, 'changes').map(changeOf) : [];
    return this.#change(changes);
  }

  async #change(changes: readonly RuleChange[]): Promise<string> {
    try {
      await this.#rules.change(changes);
      return JSON.stringify({ return: {} });
    } catch (error) {
      if (!(error instanceof RuleRefused)) throw error;
      return JSON.stringify({ error: { desc: error.message } });
    }
  }
}

function wrong(what: string): ApiError {
  return new ApiError(`change_rules: bad ${what}`);
}

function listOf(object: JsonObject, name: string): unknown[] {
  const value = field(object, name);
  if (!Array.isArray(value) || value.length > RULES_MAX) throw wrong(name);
  return value;
}

function changeOf(value: unknown): RuleChange {
  if (!isObject(value)) throw wrong('changes');
  const [kind, table] = [field(value, 'kind'), field(value, 'table')];
  if (table !== 'host' && table !== 'splice') throw wrong('table');
  if (kind === 'clear') return { kind, table };
  if (kind !== 'add' && kind !== 'delete') throw wrong('kind');
  return { kind, table, rules: listOf(value, 'rules').map(ruleOf) };
}

function ruleOf(value: unknown): PortRule {
  if (!isObject(value)) throw wrong('rules');
  const [protocol, device] = [field(value, 'protocol'), field(value, 'device')];
  if (protocol !== 'tcp' && protocol !== 'udp') throw wrong('protocol');
  if (typeof device !== 'string' || !INTERFACE.test(device)) throw wrong('device');
  const range = rangeOf(field(value, 'range'));
  const targetPort = integerField(value, 'targetPort', 0, PORT_MAX - (range.last - range.first));
  if (targetPort === undefined) throw wrong('targetPort');
  return {
    ...{ protocol, device, range, targetPort },
    address: addressOf(value, 'address'),
    targetAddress: addressOf(value, 'targetAddress'),
    bestEffort: flagOf(value, 'bestEffort'),
    auto: flagOf(value, 'auto'),
  };
}

function rangeOf(value: unknown): PortRange {
  const first = isObject(value) ? integerField(value, 'first', 0, PORT_MAX) : undefined;
  const last = isObject(value) ? integerField(value, 'last', first ?? 0, PORT_MAX) : undefined;
  if (first === undefined || last === undefined) throw wrong('range');
  return { first, last };
}

/** As `IpAddress` writes it. */
function addressOf(object: JsonObject, name: string): string {
  const value = field(object, name);
  if (value === '') return value;
  try {
    if (typeof value === 'string') return parseIpAddress(value).toString();
  } catch {
    // Said below.
  }
  throw wrong(name);
}

function flagOf(object: JsonObject, name: string): boolean {
  const value = field(object, name);
  if (typeof value !== 'boolean') throw wrong(name);
  return value;
}
