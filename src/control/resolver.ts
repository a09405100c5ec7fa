/**
 * The labels of forward rules, resolved on the main thread by the system's own means (hosts file first).
 *
 * Of several addresses the first IPv4 one is taken, else the first.
 */
import { lookup } from 'node:dns/promises';
import type { Endpoint } from '../config.ts';
import { isHostName } from '../firewall/rule-text.ts';

/** A label that does not resolve; the message is one line in the words of Go's resolver. */
export class LookupError extends Error {
  override readonly name = 'LookupError';
  readonly code = 'ERR_LOOKUP';
}

/** The address and port that `label` stands for. Rejects with a LookupError. */
export async function resolveLabel(label: string, port: number): Promise<Endpoint> {
  return { address: await resolveHost(label), port };
}

async function resolveHost(name: string): Promise<string> {
  const failure = (cause?: unknown): LookupError =>
    new LookupError(`lookup ${name}: no such host`, { cause });
  // No resolver gets to see text that cannot be a name.
  if (!isHostName(name)) throw failure();
  let addresses: { address: string; family: number }[];
  try {
    addresses = await lookup(name, { all: true, verbatim: true });
  } catch (error) {
    throw failure(error);
  }
  const chosen = addresses.find(({ family }) => family === 4) ?? addresses[0];
  if (chosen === undefined) throw failure();
  return chosen.address;
}
