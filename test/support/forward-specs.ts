/** Forwards as tests have them unless they say otherwise. */
import type { ForwardSpec } from '../../src/config.ts';

type Local = Extract<ForwardSpec, { direction: 'local' }>;
type Remote = Extract<ForwardSpec, { direction: 'remote' }>;

/** From the host's 127.0.0.1:8080 to port 80 of the guest. */
export function localForward(more: Partial<Local> = {}): Local {
  return {
    direction: 'local',
    protocol: 'tcp',
    listen: { kind: 'ip', address: '127.0.0.1', port: 8080 },
    dualStack: false,
    target: { address: '10.0.2.100', port: 80 },
    proxyHeader: false,
    rpc: false,
    source: '',
    isIdle: false,
    ...more,
  };
}

/** From port 80 of the gateway to the host's 127.0.0.1:80. */
export function remoteForward(more: Partial<Remote> = {}): Remote {
  return {
    direction: 'remote',
    protocol: 'tcp',
    bind: { address: '10.0.2.2', port: 80 },
    target: { kind: 'ip', address: '127.0.0.1', port: 80 },
    proxyHeader: 0,
    rpc: false,
    ...more,
  };
}
