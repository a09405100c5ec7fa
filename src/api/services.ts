/**
 * Services of the guest that clients have published (`add_service`): with a port of the host that is chosen as for automatic
 * forwards, or the one that they name.
 *
 * Limits: as many as the publisher has places.
 */

import type { Published } from '../expose/event.ts';
import type { Service } from '../expose/service.ts';
import { ApiError, addressField, field, integerField, type JsonObject } from './fields.ts';

const PORT_MAX = 65535;

/** What a publisher does for requests. */
export interface ServicePublisher {
  appear(service: Service): void;
  vanish(service: Service, cause: 'closed'): void;
  settled(): Promise<void>;
  /** How it is published, or why it is not. */
  outcome(service: Service): { published: Published[]; failure: string };
}

export class ApiServices {
  private readonly publisher: () => Promise<ServicePublisher>;
  private readonly services = new Map<number, Service>();
  private lastId = 0;

  constructor(publisher: () => Promise<ServicePublisher>) {
    this.publisher = publisher;
  }

  /** The answer to `add_service`, once the port is bound. Rejects with `ApiError`, and nothing has changed. */
  async add(args: JsonObject): Promise<{ id: number; forwards: Published[] }> {
    const service = read(args);
    const publisher = await this.publisher();
    publisher.appear(service);
    await publisher.settled();
    const { published, failure } = publisher.outcome(service);
    // Somebody may have published it before, at another port.
    const isElsewhere = published.some(({ hostEnd }) => ![0, hostEnd.port].includes(service.hostPort));
    if (published.length === 0 || isElsewhere) {
      publisher.vanish(service, 'closed');
      throw new ApiError(`add_service: ${isElsewhere ? 'EEXIST' : failure || 'limit'}`);
    }
    const id = ++this.lastId;
    this.services.set(id, service);
    return { id, forwards: published };
  }

  /** The answer to `remove_service`, once the port is free. */
  async remove(args: JsonObject): Promise<object> {
    const id = integerField(args, 'id', 1, Number.MAX_SAFE_INTEGER);
    const service = id === undefined ? undefined : this.services.get(id);
    if (id === undefined || service === undefined) throw new ApiError('remove_service: bad arguments.id');
    this.services.delete(id);
    const publisher = await this.publisher();
    publisher.vanish(service, 'closed');
    await publisher.settled();
    return {};
  }
}

function read(args: JsonObject): Service {
  const bad = (name: string): ApiError => new ApiError(`add_service: bad arguments.${name}`);
  const proto = field(args, 'proto');
  if (proto !== 'tcp' && proto !== 'udp') throw bad('proto');
  const ip = addressField(args, 'guest_addr', [4, 6], '0.0.0.0');
  if (ip === undefined) throw bad('guest_addr');
  const port = integerField(args, 'guest_port', 1, PORT_MAX);
  if (port === undefined) throw bad('guest_port');
  const hostAddress =
    field(args, 'host_addr') === undefined ? '' : addressField(args, 'host_addr', [4, 6], '');
  if (hostAddress === undefined) throw bad('host_addr');
  const hostPort = field(args, 'host_port') === undefined ? 0 : integerField(args, 'host_port', 0, PORT_MAX);
  if (hostPort === undefined) throw bad('host_port');
  const source = field(args, 'source') ?? '';
  if (source !== '' && source !== 'gateway' && source !== 'client') throw bad('source');
  return {
    ...{ proto, guestEnd: { ip, port }, dualStack: false, process: null },
    ...{ hostPort, hostAddress, source },
  };
}
