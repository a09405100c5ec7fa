/** Opening a tunnel, in either form. */
import { Fields } from './fields.ts';
import type { Tunnel } from './tunnel.ts';
import type { OpenOptions, TunnelConfig } from './types.ts';

/**
 * Start a stack on a link. Resolves when packets flow and the embedder has accepted the settings; rejects with a
 * `TslirpError`, and then nothing is left open.
 */
export async function openTunnel(config: TunnelConfig, options: OpenOptions = {}): Promise<Tunnel> {
  const fields = new Fields('options', options, [
    ...['mode', 'signal', 'applySettings', 'log', 'startTimeoutMs', 'unref', 'executable', 'integrity'],
  ]);
  const mode = fields.oneOf('mode', ['worker', 'process']) ?? 'process';
  fields.number('startTimeoutMs', 1, 2 ** 31 - 1);
  fields.flag('unref');
  const log = fields.object('log', ['level', 'sink']);
  log?.oneOf('level', ['debug', 'info', 'warn', 'error', 'fatal']);
  if (mode === 'worker') {
    const { WorkerTunnel } = await import('./worker-tunnel.ts');
    return WorkerTunnel.open(config, options);
  }
  const { ProcessTunnel } = await import('./process-tunnel.ts');
  return ProcessTunnel.open(config, options);
}
