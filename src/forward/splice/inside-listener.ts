/**
 * A remote forward that listens inside the guest's namespace: its clients come to a service of the host past the stack, so that
 * those of the guest's loopback can, too.
 */
import type { HostEnd, RemoteForwardSpec } from '../../config.ts';
import { formatEndpoint, parseIpAddress } from '../../stack/wire/address.ts';
import { EOPNOTSUPP } from '../../sys/errno.ts';
import type { FlowContext } from '../flow/context.ts';
import { localEnd } from '../flow/record.ts';
import { ForwardError, listenError } from '../publish/forward-error.ts';
import type { Listener } from '../publish/forwards.ts';
import { splitZone } from '../target/remote-forwards.ts';
import { Acceptor } from '../tcp/acceptor.ts';
import { type InsidePlace, SocketKind } from './inside-sockets.ts';
import type { HostPlace } from './streams.ts';

/** Takes the clients. */
export interface InsideTaker {
  readonly context: FlowContext;
  /** Is there room for one more? */
  hasRoom(listener: InsideListener): boolean;
  /** The taker owns the descriptor. */
  toHost(listener: InsideListener, fd: number, place: HostPlace): void;
}

export class InsideListener extends Acceptor implements Listener {
  readonly kind = 'inside';
  readonly missing = 0;
  readonly id: number;
  /** Once it listens. */
  bound: HostEnd = { kind: 'ip', address: '', port: 0 };
  readonly #taker: InsideTaker;
  readonly #place: HostPlace;

  /** Throws `ForwardError`. */
  constructor(taker: InsideTaker, id: number, spec: RemoteForwardSpec) {
    super(taker.context);
    this.#taker = taker;
    this.id = id;
    this.#place = hostPlace(spec);
  }

  /** Take over `fd`, which listens; 0, or `-errno` and it is closed. */
  begin(fd: number): number {
    this.bound = { kind: 'ip', ...localEnd(this.context, fd) };
    return this.watch(fd);
  }

  /** Inside it stays where it is. */
  aim(): never {
    throw new ForwardError(EOPNOTSUPP, "what listens inside the guest's namespace is not led elsewhere");
  }

  protected hasRoom(): boolean {
    return this.#taker.hasRoom(this);
  }

  protected accepted(fd: number): void {
    this.#taker.toHost(this, fd, this.#place);
  }
}

/** `-errno` of listening where `spec` says. */
export function insideError({ protocol, bind, inside }: RemoteForwardSpec, result: number): ForwardError {
  const device = inside?.device ? `%${inside.device}` : '';
  return listenError(`${protocol}://${formatEndpoint(bind)}${device} in the guest's namespace`, result);
}

/** Where `spec` has a socket inside. Throws `ForwardError`, also where its clients cannot be led from there. */
export function insidePlace(context: FlowContext, spec: RemoteForwardSpec): InsidePlace {
  const { protocol, bind, inside, proxyHeader } = spec;
  if (proxyHeader !== 0)
    throw new ForwardError(
      EOPNOTSUPP,
      'a header that names the client is only for forwards through the stack',
    );
  const address = parseIpAddress(bind.address);
  const { scratch, slab } = context;
  scratch.putAddress(address, bind.port, 0);
  const sockaddr = slab.bytes.slice(scratch.sockaddr, scratch.sockaddr + scratch.sockaddrLength);
  const kinds = protocol === 'tcp' ? [SocketKind.Tcp4, SocketKind.Tcp6] : [SocketKind.Udp4, SocketKind.Udp6];
  const kind = kinds[address.isV4 ? 0 : 1] as SocketKind;
  return { kind, dualStack: false, device: inside?.device ?? '', sockaddr };
}

export function hostPlace({ target, protocol }: RemoteForwardSpec): HostPlace {
  if (target.kind === 'unix' && protocol === 'tcp') return target;
  if (target.kind !== 'ip')
    throw new ForwardError(
      EOPNOTSUPP,
      'what comes from inside the namespace leads to an address of the host',
    );
  const { address, scopeId } = splitZone(target.address);
  return { kind: 'ip', address: parseIpAddress(address), port: target.port, scopeId };
}
