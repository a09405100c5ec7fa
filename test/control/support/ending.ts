/** A process with a data plane that is blocked in a foreign call; its argument says how it shall end. */
import { processLimits } from '../../../src/config.ts';
import { Supervisor } from '../../../src/control/supervisor.ts';

const way = process.argv[2];
const supervisor = new Supervisor({
  limits: processLimits,
  debug: false,
  broker: null,
  workerUrl: new URL('./stub-engine.js', import.meta.url),
});

function end(): void {
  switch (way) {
    case 'exit':
      process.exit(3);
      break;
    case 'throw':
      throw new Error('thrown by the main thread');
    case 'reject':
      void Promise.reject(new Error('rejected in the main thread'));
      break;
    case 'stop':
      void supervisor.stop().then(() => process.stdout.write('stopped'));
      break;
    case 'worker-throws':
      supervisor.send({ type: 'watchFd', fd: 0, name: 'throw', data: true });
      break;
    case 'worker-leaves':
      supervisor.send({ type: 'watchFd', fd: 0, name: 'leave', data: true });
      break;
    default:
      // Wait for a signal.
      process.stdout.write('waiting');
  }
}

if (way === 'sigterm-handled') process.on('SIGTERM', () => process.exit(4));
// A process that ends before it has heard that the thread is up, but (mostly) after the thread has blocked.
if (way === 'early') {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(process.argv[3]));
  process.exit(5);
}

let asked = false;
supervisor.listen({
  event: (event) => {
    if (event.type === 'started') supervisor.send({ type: 'watchFd', fd: 9, name: 'turn', data: true });
    if (event.type !== 'fdEvent' || asked) return;
    asked = true;
    // The thread has handled a command and is about to block again.
    setTimeout(end, 20);
  },
  ended: (error) => process.stdout.write(`ended ${error?.message ?? 'without error'}`),
});
