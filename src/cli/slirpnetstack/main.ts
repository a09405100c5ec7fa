/** The `slirpnetstack` program. Signals first; everything else is loaded once they are in hand. */
import { EndSignals } from './signals.ts';

const signals = new EndSignals();
const { run } = await import('./program.ts');
await run(signals);
