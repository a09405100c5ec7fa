/** Opening slirpnetstack's forwards one by one, with that program's words for what goes wrong. */
import type { ForwardSpec, HostEnd, HostTarget } from '../../config.ts';
import { type EngineClient, ForwardRefused, type OpenForward } from '../../control/engine-client.ts';
import { LookupError, Resolver } from '../../control/names/resolver.ts';
import { formatEndpoint } from '../../stack/wire/address.ts';
import type { ForwardRule } from '../forward-rule.ts';
import { toForwardSpec } from '../forward-spec.ts';
import { goErrorText } from './go-errors.ts';
import { bareHostPort } from './lines.ts';
import { ExitStatus, StartError } from './start-error.ts';

const EMFILE = 24;
const EAFNOSUPPORT = 97;
const NOWHERE: HostEnd = { kind: 'ip', address: '', port: 0 };

type LocalForward = Extract<ForwardSpec, { direction: 'local' }>;

/** Rejects with a StartError where a name cannot be resolved. */
export async function resolveForward(rule: ForwardRule, resolver: Resolver): Promise<ForwardSpec> {
  try {
    return await toForwardSpec(rule, (label, port) => resolver.resolve(label, port), {
      dualStackWildcards: true,
      splicesLoopback: false,
      source: '',
    });
  } catch (error) {
    throw error instanceof LookupError ? nameError(rule, error) : error;
  }
}

export class ForwardOpener {
  readonly #client: EngineClient;
  readonly #resolver = new Resolver();

  constructor(client: EngineClient) {
    this.#client = client;
  }

  /** Rejects with a StartError. */
  async open(rule: ForwardRule): Promise<OpenForward> {
    const spec = await resolveForward(rule, this.#resolver);
    return spec.direction === 'local' ? this.#openLocal(rule, spec) : this.#openRemote(spec);
  }

  async #openLocal(rule: ForwardRule, spec: LocalForward): Promise<OpenForward> {
    const { bind, protocol } = rule;
    try {
      return await this.#client.addForward(spec);
    } catch (error) {
      if (!(error instanceof ForwardRefused)) throw error;
      if (error.errno === EAFNOSUPPORT && spec.dualStack) {
        // Without IPv6 the wildcard is that of IPv4.
        const port = spec.listen.kind === 'ip' ? spec.listen.port : 0;
        const listen: HostEnd = { kind: 'ip', address: '0.0.0.0', port };
        return this.#openLocal(rule, { ...spec, listen, dualStack: false });
      }
      const where = bind.kind === 'name' ? spec.listen : bind;
      const call = error.errno === EAFNOSUPPORT || error.errno === EMFILE ? 'socket' : 'bind';
      const address = where.kind === 'unix' ? `unix ${where.path}` : `${protocol} ${formatEndpoint(where)}`;
      throw listenError(protocol, where, `listen ${address}: ${call}: ${goErrorText(error.errno)}`);
    }
  }

  async #openRemote(spec: ForwardSpec): Promise<OpenForward> {
    try {
      return await this.#client.addForward(spec);
    } catch (error) {
      if (!(error instanceof ForwardRefused)) throw error;
      // The same address and port for a second time: the first one serves it, and nothing is wrong.
      return { id: 0, spec, listen: NOWHERE };
    }
  }
}

function listenError(protocol: string, where: HostTarget, reason: string): StartError {
  const shown =
    where.kind === 'unix' ? where.path : where.kind === 'ip' ? bareHostPort(where) : `${where.label}-failed`;
  return new StartError(ExitStatus.Listen, `[!] Failed to listen on ${protocol}://${shown}: ${reason}`);
}

function nameError({ direction, protocol, bind }: ForwardRule, error: LookupError): StartError {
  if (direction === 'local') return listenError(protocol, bind, 'DNS lookup failed');
  return new StartError(
    ExitStatus.ResolveBind,
    `[!] Failed to resolve bind address. dns lookup error of ${protocol} addr: ${error.message}`,
  );
}
