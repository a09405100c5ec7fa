/** The process of bin/opener.pl, for tests that are given what it opens. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { close } from '../../src/sys/io.ts';
import { Memory } from '../../src/sys/memory.ts';
import { PASS_SCRATCH_BYTES, receiveDescriptor } from '../../src/sys/pass-descriptor.ts';
import { launcherPath } from './launcher-path.ts';
import { takeDescriptor } from './pidfd.ts';

/** Opens the driver in a network namespace; both descriptors are the caller's to close. */
export async function openIn(netPath: string): Promise<{ tun: number; opener: number }> {
  const program = `$| = 1; require "${launcherPath}"; have_opener(); print "$ENV{TSLIRP_LAUNCHER}\\n"; <STDIN>`;
  const launcher = spawn('perl', ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = (await once(launcher.stdout, 'data')) as [Buffer];
  const opener = takeDescriptor(launcher.pid ?? 0, Number(/opener=(\d+)/.exec(line.toString())?.[1]));
  launcher.stdin.end();
  await once(launcher, 'exit');
  writeSync(opener, [netPath, '', 0, ''].join('\0'));
  const memory = new Memory(new ArrayBuffer(PASS_SCRATCH_BYTES));
  // The word `open` first.
  receiveDescriptor(memory, 0, opener);
  const tun = receiveDescriptor(memory, 0, opener);
  close(receiveDescriptor(memory, 0, opener));
  return { tun, opener };
}
