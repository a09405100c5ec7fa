/** The part of a broker's child that makes sockets (bin/broker.pl), in the namespace of the test itself. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { EngineGuest } from './engine-guests.ts';
import { takeDescriptor } from './pidfd.ts';
import { programPath } from './program-path.ts';

/** Our own loopback is that of `guest` from now on. */
export async function enterOurselves(guest: EngineGuest): Promise<void> {
  const program = `$| = 1; require "${programPath('broker.pl')}"; find_processor();
    socketpair(my $ours, my $theirs, AF_UNIX(), SOCK_SEQPACKET(), 0) or die; print fileno($theirs), "\\n"; <STDIN>;
    close($theirs); make_sockets($ours)`;
  const child = spawn('perl', ['-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const channel = takeDescriptor(child.pid ?? 0, Number(line.toString()));
  child.stdin.end('\n');
  guest.session.enter(channel);
}
