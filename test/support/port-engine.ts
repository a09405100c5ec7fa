/** Forwards of a host that has nothing but ports, some of them in use. */
import { constants } from 'node:os';
import type { ForwardSpec } from '../../src/config.ts';
import { ForwardRefused, type OpenForward } from '../../src/control/engine-client.ts';
import type { FlowInfo } from '../../src/engine/messages.ts';
import type { ForwardEngine } from '../../src/expose/host-listeners.ts';

export class PortEngine implements ForwardEngine {
  /** `tcp 127.0.0.1 80`, whoever has it. */
  readonly busy: Set<string> = new Set();
  readonly open: Map<number, OpenForward> = new Map();
  /** Ports below are refused with EACCES. */
  minPort = 1;
  flows: FlowInfo[] = [];
  /** Binds that were tried. */
  tries = 0;
  #last = 0;
  #random = 40000;

  addForward(spec: ForwardSpec): Promise<OpenForward> {
    this.tries++;
    if (spec.direction !== 'local' || spec.listen.kind !== 'ip') throw new Error('not published');
    const { address, port } = spec.listen;
    const listen = { kind: 'ip', address, port: port || this.#random++ } as const;
    const place = `${spec.protocol} ${address} ${listen.port}`;
    if (port !== 0 && port < this.minPort) return refuse('EACCES', place);
    if (this.busy.has(place)) return refuse('EADDRINUSE', place);
    this.busy.add(place);
    const open = { id: ++this.#last, spec, listen };
    this.open.set(open.id, open);
    return Promise.resolve(open);
  }

  aimForward({ id }: OpenForward, aim: Partial<ForwardSpec>): Promise<OpenForward> {
    const open = this.open.get(id) as OpenForward;
    const aimed = { ...open, spec: { ...open.spec, ...aim } as ForwardSpec };
    this.open.set(id, aimed);
    return Promise.resolve(aimed);
  }

  listFlows(): Promise<FlowInfo[]> {
    return Promise.resolve(this.flows);
  }

  removeForward(id: number): Promise<boolean> {
    const open = this.open.get(id);
    if (open?.listen.kind === 'ip')
      this.busy.delete(`${open.spec.protocol} ${open.listen.address} ${open.listen.port}`);
    return Promise.resolve(this.open.delete(id));
  }

  /** Where the host listens, and where that leads: `tcp 127.0.0.1:80 10.0.2.100:80`, `tcp 0.0.0.0:80 nowhere`. */
  listeners(): string[] {
    return [...this.open.values()].map(({ spec, listen }) => {
      if (spec.direction !== 'local' || listen.kind !== 'ip') return '';
      const { protocol, target, isIdle } = spec;
      const leads = isIdle ? 'nowhere' : `${target.address}:${target.port}`;
      return `${protocol} ${listen.address}:${listen.port} ${leads}`;
    });
  }
}

function refuse(name: 'EACCES' | 'EADDRINUSE', place: string): Promise<never> {
  return Promise.reject(new ForwardRefused(constants.errno[name], `cannot listen on ${place}: ${name}`));
}
