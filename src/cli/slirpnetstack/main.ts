/** The `slirpnetstack` program. Signals first; everything else is loaded once they are in hand. */
import { EndSignals } from './signals.ts';

const signals = new EndSignals();
void import('./program.ts').then(({ run }) => run(signals));
