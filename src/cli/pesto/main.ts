/**
 * `pesto`: changes and shows the ports of a running `pasta` by its control socket. The command line is that of the original
 * program, what passes at the socket is our own: see src/api/rule-commands.ts. When it has ended well, the ports are bound.
 */
import { dismissBroker } from '../../app/dismiss-broker.ts';
import { ownProcess } from '../../app/own-process.ts';
import { sayError, sayOut } from '../../app/say.ts';
import type { PortRule, PortScope } from '../../config.ts';
import { errnoTextOf } from '../../control/errno-text.ts';
import { RuleRefused } from '../../expose/port-rule.ts';
import type { RuleChange } from '../../expose/rule-watch.ts';
import { packageVersion } from '../../package-root.ts';
import { exchange, type Json, type Request } from '../exchange.ts';
import { PortSpecError } from '../pasta/port-spec.ts';
import { rulesLines, versionLine } from '../pasta/texts.ts';
import { changesOf } from './changes.ts';
import { parseOptions, type Step } from './options.ts';

const EXIT_FAILURE = 1;
const RULES_VERSION = 1;

/** One or more lines. */
class PestoError extends Error {
  override readonly name = 'PestoError';
}

interface Rules {
  version: number;
  scope: PortScope;
  host: PortRule[];
  splice: PortRule[];
}

async function ask(path: string, request: Request): Promise<Json> {
  let answer: Json;
  try {
    answer = await exchange(path, request);
  } catch (error) {
    if (error instanceof SyntaxError) throw new PestoError(`${path} is no control socket of this pasta`);
    throw new PestoError(`Failed to connect to ${path}: ${errnoTextOf(error)}`);
  }
  const { return: result, error } = answer as { return?: Json; error?: { desc?: string } };
  if (result === undefined) throw new PestoError(error?.desc ?? `${path} gives no answer`);
  return result;
}

async function rulesAt(path: string): Promise<Rules> {
  const rules = (await ask(path, { execute: 'show_rules' })) as unknown as Rules;
  if (rules.version !== RULES_VERSION) throw new PestoError(`${path} is of a pasta of another version`);
  return rules;
}

async function serve(path: string, steps: readonly Step[], shows: boolean): Promise<void> {
  if (steps.length > 0) {
    const { scope } = await rulesAt(path);
    const changes: RuleChange[] = changesOf(steps, scope);
    await ask(path, { execute: 'change_rules', arguments: { changes } });
  }
  if (shows) for (const line of rulesLines(await rulesAt(path))) sayOut(`${line}\n`);
}

async function main(): Promise<void> {
  const version = versionLine(packageVersion()).replace(/^pasta/, 'pesto');
  const parsed = parseOptions(process.argv.slice(2), process.argv0, version);
  dismissBroker();
  if (parsed.kind === 'text') {
    sayOut(parsed.text);
    return;
  }
  try {
    if (parsed.kind === 'refused') throw new PestoError(parsed.text.trimEnd());
    await serve(parsed.path, parsed.steps, parsed.shows);
  } catch (error) {
    const isTold =
      error instanceof PestoError || error instanceof PortSpecError || error instanceof RuleRefused;
    if (!isTold) throw error;
    sayError(`${error.message}\n`);
    process.exitCode = EXIT_FAILURE;
  }
}

ownProcess();
void main();
