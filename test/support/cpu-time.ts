/** CPU time of this process in milliseconds: what else the machine does is not in it. */
export function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** What `action` takes of it. */
export function cpuOf(action: () => void): number {
  const before = cpuMs();
  action();
  return cpuMs() - before;
}
