/** How the options and the environment say which services of the guest get ports of the host. */
import {
  type AddressPlan,
  type AutoForwardSpec,
  defaultPublish,
  type ForwardSource,
  type OutputSpec,
  type PortMap,
  type PublishSpec,
} from '../config.ts';
import type { AutoForward } from './auto-forward.ts';
import { parseForwardSource, parsePortMaps } from './port-map.ts';
import { parseOutputPath } from './values.ts';

/** Options of whoever serves a guest, as they were read. */
export interface PublishOptions {
  autoForward?: AutoForward;
  forwardEvents?: OutputSpec;
  portMap?: string[];
  portMapWait?: boolean;
  forwardLoopback?: boolean;
  forwardPerAddress?: boolean;
  forwardSource?: string;
  state?: string;
}

/** Where port maps may stand besides the option: ours, then Penguin's. */
const VARIABLES = ['TSLIRP_PORT_MAPS', 'IGLOO_VPN_PORT_MAPS'] as const;

/** The maps of the first place that has any, and its name. @throws UsageError */
function readMaps(options: PublishOptions, plan: AddressPlan): { maps: PortMap[]; mapsFrom: string } {
  const places = [
    ['--port-map', (options.portMap ?? []).filter((text) => text.trim() !== '').join(',')],
    ...VARIABLES.map((name) => [name, process.env[name] ?? '']),
  ] as [string, string][];
  const [mapsFrom, text] = places.find(([, given]) => given.trim() !== '') ?? ['', ''];
  return { maps: mapsFrom === '' ? [] : parsePortMaps(text, plan), mapsFrom };
}

/** @throws UsageError */
export function forwardSource({ forwardSource: text }: PublishOptions, plan: AddressPlan): ForwardSource {
  return text === undefined ? '' : parseForwardSource(text, plan);
}

/** Null: services are not looked for. */
export function autoForwardSpec({ autoForward, forwardLoopback }: PublishOptions): AutoForwardSpec | null {
  if (autoForward === undefined) return null;
  const { autoForward: spec } = autoForward;
  return { ...spec, loopback: forwardLoopback ?? spec.loopback };
}

/** Null: no service is to have a port. @throws UsageError */
export function publishSpec(options: PublishOptions, plan: AddressPlan): PublishSpec | null {
  const { maps, mapsFrom } = readMaps(options, plan);
  const { autoForward, forwardEvents } = options;
  if (maps.length === 0 && autoForward === undefined && forwardEvents === undefined) return null;
  return {
    ...(autoForward?.publish ?? defaultPublish),
    ...{ maps, mapsFrom, findsServices: autoForward !== undefined },
    waitsForMaps: options.portMapWait === true,
    source: forwardSource(options, plan),
    perAddress: options.forwardPerAddress === true || autoForward?.publish.perAddress === true,
    statePath:
      options.state === undefined
        ? ''
        : parseOutputPath('--state', options.state, 'a file that can be written'),
  };
}
