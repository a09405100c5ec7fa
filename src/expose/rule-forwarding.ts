/** What rules of ports are as forwards. */
import type { ForwardSpec, LocalForwardSpec, PortRange, PortRule, Splice } from '../config.ts';

/** Of the host's ports: one forward, whatever number of ports it has. `hasIpv6`: the host has sockets of both families. */
export function hostForwards(
  { protocol, address, device, range, targetAddress, targetPort, bestEffort }: PortRule,
  ports: PortRange,
  { loopback, hasIpv6 }: { loopback: Splice | null; hasIpv6: boolean },
): ForwardSpec[] {
  const everywhere = hasIpv6 ? '::' : '0.0.0.0';
  const count = ports.last - ports.first + 1;
  const spec: LocalForwardSpec = {
    protocol,
    listen: { kind: 'ip', address: address || everywhere, port: ports.first },
    dualStack: address === '' && hasIpv6,
    target: { address: targetAddress, port: targetPort + ports.first - range.first },
    ...{ proxyHeader: false, rpc: false, source: 'client', isIdle: false },
  };
  if (device !== '') spec.device = device;
  if (count > 1) spec.span = { ports: count, leniently: bestEffort };
  // What is somewhere behind the guest has no loopback of its own there.
  if (loopback !== null && targetAddress === '') spec.splice = loopback;
  return [{ direction: 'local', ...spec }];
}

const LOOPBACK = [
  { everywhere: '0.0.0.0', target: '127.0.0.1' },
  { everywhere: '::', target: '::1' },
];

/** Of the guest's loopback: each port by itself, to the host's loopback address of its client's family. */
export function spliceForwards(
  { protocol, address, device, range, targetPort }: PortRule,
  ports: PortRange,
): ForwardSpec[] {
  const families = LOOPBACK.filter(({ everywhere }) => address === '' || address === everywhere);
  const specs: ForwardSpec[] = [];
  for (let port = ports.first; port <= ports.last; port++) {
    for (const { everywhere, target } of families)
      specs.push({
        ...{ direction: 'remote', protocol, bind: { address: everywhere, port } },
        target: { kind: 'ip', address: target, port: targetPort + port - range.first },
        ...{ proxyHeader: 0, rpc: false, inside: { device } },
      });
  }
  return specs;
}
