/**
 * The requests of the API: what each answers. slirp4netns has the first three, and its texts are kept letter for letter;
 * the others are ours.
 */
import type { EngineClient } from '../control/engine-client.ts';
import type { EventHub, Present } from '../expose/event-hub.ts';
import type { RuleForwards } from '../expose/rule-forwards.ts';
import { ApiError, field, integerField, isObject, type JsonObject } from './fields.ts';
import { type ForwardDefaults, HostForwards } from './host-forwards.ts';
import { ApiServices, type ServicePublisher } from './services.ts';
import { type StreamAnswer, Subscriptions } from './subscriptions.ts';

/** What is known about this run, as plain data for `info`. */
export type RunInfo = Readonly<Record<string, unknown>>;

export type ApiEngine = Pick<
  EngineClient,
  'addForward' | 'removeForward' | 'listForwards' | 'listFlows' | 'closeFlow' | 'snapshot'
>;

/** What is to be sent: a Buffer as it is, anything else as JSON. */
type Answer = Buffer | object;
type Handler = (args: JsonObject) => Answer | StreamAnswer | Promise<Answer>;

/** What there is of what appears in the guest and on the host. */
export interface ApiExposure {
  hub: EventHub;
  /** Told of the forwards that clients open and close. */
  ruleForwards: Pick<RuleForwards, 'added' | 'removed' | 'has'>;
  /** Whoever publishes services; made when he is needed. */
  publisher: () => Promise<ServicePublisher>;
}

const NO_ARGUMENTS: JsonObject = {};

export class ApiCommands {
  private readonly handlers: ReadonlyMap<string, Handler>;

  constructor(
    engine: ApiEngine,
    defaults: ForwardDefaults,
    info: RunInfo,
    { hub, ruleForwards, publisher }: ApiExposure,
  ) {
    const forwards = new HostForwards(engine, defaults, ruleForwards);
    const services = new ApiServices(publisher);
    const subscriptions = new Subscriptions(hub);
    const present = (): Present[] => hub.present().map(([, guest]) => guest);
    this.handlers = new Map<string, Handler>([
      ['add_hostfwd', async (args) => ({ return: await forwards.add(args) })],
      ['remove_hostfwd', async (args) => ({ return: await forwards.remove(args) })],
      ['list_hostfwd', () => forwards.list()],
      ['info', () => ({ return: info })],
      ['list_forwards', () => ({ return: { forwards: forwards.all(present()) } })],
      ['add_service', async (args) => ({ return: await services.add(args) })],
      ['remove_service', async (args) => ({ return: await services.remove(args) })],
      ['list_listeners', () => ({ return: { listeners: present().flatMap(({ listeners }) => listeners) } })],
      ['subscribe', () => subscriptions.add()],
      ['stats', async () => ({ return: await engine.snapshot() })],
      ['list_flows', async () => ({ return: { flows: await engine.listFlows() } })],
      [
        'close_flow',
        async (args) => {
          const flow = integerField(args, 'id', 1, Number.MAX_SAFE_INTEGER);
          if (flow === undefined || !(await engine.closeFlow(flow)))
            throw new ApiError('close_flow: bad arguments.id');
          return { return: {} };
        },
      ],
    ]);
  }

  /**
   * Answers one request, anything JSON.parse may give: at once when the data plane need not be asked. Throws or rejects
   * with `ApiError`.
   */
  run(request: unknown): string | Buffer | StreamAnswer | Promise<string | Buffer> {
    if (!isObject(request)) throw new ApiError('json_object() failed');
    const name = field(request, 'execute');
    if (typeof name !== 'string') throw new ApiError('no execute found');
    const handler = this.handlers.get(name);
    if (handler === undefined) throw new ApiError('unknown execute');
    const args = field(request, 'arguments');
    const answer = handler(isObject(args) ? args : NO_ARGUMENTS);
    if (answer instanceof Promise) return answer.then(encode);
    return isStream(answer) ? answer : encode(answer);
  }
}

function isStream(answer: object): answer is StreamAnswer {
  return 'begin' in answer;
}

function encode(answer: Answer): string | Buffer {
  return Buffer.isBuffer(answer) ? answer : JSON.stringify(answer);
}
