import { processLimits } from '../config.ts';
import { Supervisor } from '../control/supervisor.ts';
import { brokerEnd } from '../sandbox/broker.ts';

/**
 * Before an end without a data plane, which else waits for the broker's: only that thread can collect it, and as a zombie it
 * would stay where the first process collects none.
 */
export async function dismissBroker(): Promise<void> {
  if (brokerEnd !== null)
    await new Supervisor({ limits: processLimits, debug: false, broker: brokerEnd }).stop();
}
