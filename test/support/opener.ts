/** A child of the broker that opens devices, for tests that are given what it opens; they wait for its answers. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import type { Exchange } from '../../src/sys/netns/exchange.ts';
import { MessageSocket } from '../../src/sys/pass-descriptor.ts';
import { takeDescriptor } from './pidfd.ts';
import { programPath } from './program-path.ts';

const MESSAGE_BYTES = 32768;

export interface Opener {
  tun: number;
  netlink: number;
  channel: MessageSocket;
}

/** Opens the driver in a network namespace; all descriptors are the caller's to close. */
export async function openIn(netPath: string): Promise<Opener> {
  const program = `$| = 1; require "${programPath('broker.pl')}"; find_processor(); my $end = opener(); print fileno($end), "\\n"; <STDIN>`;
  const broker = spawn('perl', ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = (await once(broker.stdout, 'data')) as [Buffer];
  const fd = takeDescriptor(broker.pid ?? 0, Number(line.toString()));
  broker.stdin.end();
  await once(broker, 'exit');
  writeSync(fd, [netPath, '', 0, ''].join('\0'));
  const channel = new MessageSocket(fd, MESSAGE_BYTES);
  const receive = (): number => {
    channel.receive(true);
    return channel.take();
  };
  return { tun: receive(), netlink: receive(), channel };
}

/** Does what is to be done at the other end of `channel`. */
export function carryOut<T>(steps: Exchange<T>, channel: MessageSocket): T {
  let step = steps.next();
  while (step.done !== true) {
    if (step.value !== null) channel.send(step.value);
    channel.receive(true);
    step = steps.next(channel.content);
  }
  return step.value;
}
