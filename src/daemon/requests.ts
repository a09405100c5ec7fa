/** What may be asked of a stack, and whether the fields of such a request are as docs/control.schema.json has them. */
import { Library } from '../app/library.ts';
import { TslirpError } from '../embed/errors.ts';
import type { ForwardConfig, NetworkSettings, PolicyConfig, TunnelConfig } from '../embed/types.ts';
import { UnknownType } from './channel.ts';
import type { JsonObject } from './strict-json.ts';

/** A descriptor may have come with the request, instead of being there. */
export type WireConfig = Omit<TunnelConfig, 'link'> & {
  link:
    | TunnelConfig['link']
    | (Omit<Extract<TunnelConfig['link'], { fd: number }>, 'fd'> & { passed: number });
};

/** The fields of each request. */
export interface Requests {
  start: { config: WireConfig; startTimeoutMs?: number };
  stop: { tunnel?: string; graceMs?: number };
  status: { tunnel: string };
  snapshot: { tunnel: string };
  flows: { tunnel: string; filter?: object; next?: number };
  'forward.add': { tunnel: string; forward: ForwardConfig };
  'forward.remove': { tunnel: string; forward: number };
  'policy.set': { tunnel: string; policy: PolicyConfig; revoke?: boolean };
  'settings.update': { tunnel: string; diff: NetworkSettings };
  wake: { tunnel?: string };
  subscribe: { tunnel?: string; types?: string[] };
  dial: { tunnel: string; host: string; port: number };
  ping: JsonObject;
}

export type RequestType = keyof Requests;

/** What a check leaves in `errors`. */
interface Fault {
  instancePath: string;
  message?: string;
  params: { missingProperty?: string };
}

type Check = ((fields: unknown) => boolean) & { errors?: Fault[] | null };

/** The definition in the schema of each; `ping` has no fields. */
const definitions: Record<RequestType, string | undefined> = {
  start: 'start',
  stop: 'stop',
  status: 'named',
  snapshot: 'named',
  flows: 'flows',
  'forward.add': 'forwardAdd',
  'forward.remove': 'forwardRemove',
  'policy.set': 'policySet',
  'settings.update': 'settingsUpdate',
  wake: 'wake',
  subscribe: 'subscribe',
  dial: 'dial',
  ping: undefined,
};

/** Made of the schema when this was built (scripts/request-checks.mjs). */
const checks = new Library<Record<string, Check>>('request-checks');

export function isRequestType(type: string): type is RequestType {
  return Object.hasOwn(definitions, type);
}

/** @throws UnknownType, or TslirpError BAD_CONFIG whose `detail.path` is where, seen from the configuration or the request */
export function checkRequest(type: string, fields: JsonObject): asserts type is RequestType {
  if (!isRequestType(type)) throw new UnknownType(`no request ${JSON.stringify(type.slice(0, 64))}`);
  const name = definitions[type];
  const check = name === undefined ? undefined : checks.load()[name];
  if (check === undefined || check(fields)) return;
  const path = pathOf(check.errors ?? []);
  const where = path === '' ? type : `${type}: ${path}`;
  const [{ message = 'not as it should be' } = {}] = check.errors ?? [];
  throw new TslirpError('BAD_CONFIG', `${where}: ${message}`, { detail: { path } });
}

/** Of the first fault, which is the innermost. */
function pathOf([fault]: readonly Fault[]): string {
  if (fault === undefined) return '';
  const { instancePath, params } = fault;
  const { missingProperty = '' } = params;
  const names = instancePath.split('/').slice(1);
  // The schema has no names that JSON pointers write in another way.
  if (missingProperty !== '') names.push(missingProperty);
  return (names[0] === 'config' && names.length > 1 ? names.slice(1) : names).join('.');
}
