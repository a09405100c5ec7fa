/** The `slirpnetstack` program. Signals first; everything else is loaded once they are in hand. */
import { ownProcess } from '../../app/own-process.ts';
import { EndSignals } from './signals.ts';

ownProcess();
const signals = new EndSignals();
void import('./program.ts').then(({ run }) => run(signals));
