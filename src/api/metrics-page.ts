/** The data plane's counters and gauges in the text format of Prometheus. Names: `tslirp_` and ours, dots as `_`. */
import { Counter, Gauge, Registry } from 'prom-client';
import type { Snapshot } from '../control/engine-client.ts';
import type { MetricsPage } from './metrics-server.ts';

function metricName(name: string): string {
  return `tslirp_${name.replaceAll(/[^A-Za-z0-9_]/g, '_')}`;
}

export async function metricsPage({ counters, gauges }: Snapshot): Promise<MetricsPage> {
  const registry = new Registry();
  const registers = [registry];
  for (const [name, value] of Object.entries(counters)) {
    new Counter({ name: `${metricName(name)}_total`, help: `Counter ${name}`, registers }).inc(value);
  }
  for (const [name, value] of Object.entries(gauges)) {
    new Gauge({ name: metricName(name), help: `Gauge ${name}`, registers }).set(value);
  }
  const memory = process.memoryUsage();
  new Gauge({ name: 'tslirp_process_resident_bytes', help: 'Resident memory', registers }).set(memory.rss);
  return { type: registry.contentType, text: await registry.metrics() };
}
